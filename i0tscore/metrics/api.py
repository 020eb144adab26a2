"""One-call functions, in the manner of CLIPScore: images and captions in, a result out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.encoders import DEFAULT_MODEL
from i0tscore.metrics.scorer import I0TScorer

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics
    from i0tscore.results import Result


def i0t_score(
    images: Iterable[Any],
    captions: Iterable[Any],
    references: Iterable[Sequence[str] | str] | None = None,
    *,
    model: str | Encoder = DEFAULT_MODEL,
    statistics: str | Path | Statistics = "auto",
    ids: Iterable[str] | None = None,
    **options: Any,
) -> Result:
    """Score captions by I0TScore, and by RefI0TScore where references are given.

    Args:
        images: As for ``I0TScorer.score``; embeddings (n, d) need no model.
        captions: The same.
        references: For each caption a string or a list of strings.
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``.
        statistics: ``auto``, ``builtin``, ``batch``, a file, or ``Statistics``.
        ids: Names of the samples.
        **options: Anything else that ``I0TScorer`` takes.

    Returns:
        ``result["I0TScore"].mean``, ``.interval``, ``.values``, ``.signature``; ``result.samples``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(300, 16))
        >>> y = x + rng.normal(size=(300, 16))
        >>> result = i0t_score(x, y, statistics="batch")
        >>> round(result["I0TScore"].mean, 1)
        0.7
    """
    scorer = _scorer("I0TScore", references is not None, model, statistics, options)
    return scorer.score(images, captions, references, ids)


def clip_score(
    images: Iterable[Any],
    captions: Iterable[Any],
    references: Iterable[Sequence[str] | str] | None = None,
    *,
    model: str | Encoder = DEFAULT_MODEL,
    statistics: str | Path | Statistics = "auto",
    ids: Iterable[str] | None = None,
    **options: Any,
) -> Result:
    """Score captions by CLIPScore (Hessel et al. 2021), and by RefCLIPScore where references are given.

    Args:
        images: As for ``I0TScorer.score``; embeddings (n, d) need no model.
        captions: The same.
        references: For each caption a string or a list of strings.
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``.
        statistics: Only for the breakdown and the percentiles.
        ids: Names of the samples.
        **options: Anything else that ``I0TScorer`` takes.

    Returns:
        ``result["CLIPScore"].mean`` and the rest as for ``i0t_score``.

    Example:
        >>> import numpy as np
        >>> result = clip_score(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]]))
        >>> round(result["CLIPScore"].mean, 3)
        1.5
    """
    scorer = _scorer("CLIPScore", references is not None, model, statistics, options)
    return scorer.score(images, captions, references, ids)


def fit(
    images: Iterable[Any],
    captions: Iterable[Any],
    *,
    model: str | Encoder = DEFAULT_MODEL,
    name: str = "fitted",
    source: str = "",
    **options: Any,
) -> Statistics:
    """Fit reference statistics on images with right captions; ``.save("stats.safetensors")`` keeps them.

    Args:
        images: As for ``I0TScorer.score``.
        captions: One right caption a sample.
        model: The encoder the statistics are for.
        name: Short name, shown in signatures.
        source: What the data are, in words.
        **options: Anything else that ``I0TScorer`` takes.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> fit(rng.normal(size=(50, 8)), rng.normal(size=(50, 8))).image.count
        50
    """
    return I0TScorer(model, **options).fit(images, captions, name=name, source=source)


def _scorer(
    metric: str,
    referenced: bool,
    model: str | Encoder,
    statistics: str | Path | Statistics,
    options: dict[str, Any],
) -> I0TScorer:
    """A scorer of a metric, and of its Ref- form with references, unless the options name others."""
    names = (metric, f"Ref{metric}") if referenced else (metric,)
    return I0TScorer(model, statistics=statistics, **{"metrics": names, **options})
