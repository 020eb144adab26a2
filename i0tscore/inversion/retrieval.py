"""Retrieval between and within modalities, as embeddings are and with one side inverted."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap import Standardizer, Statistics
from i0tscore.inversion.inverted import Inverted
from i0tscore.inversion.search import Search
from i0tscore.results import Resampling, Signature
from i0tscore.results.intervals import Estimate
from i0tscore.results.retrieval import BASELINE, LABEL_MEASURES, LabelRetrieval, Method, RetrievalReport, Side
from i0tscore.samples import Skipped


def report_retrieval(
    search: Search,
    inverted: Inverted | None = None,
    side: Side = "query",
    *,
    standardizers: Sequence[Standardizer] = (),
    statistics: Statistics | None = None,
    encoding: Sequence[tuple[str, str]] = (),
    resampling: Resampling | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> RetrievalReport:
    """Measure a search as embeddings are, under standardizers, and with one side inverted.

    Args:
        search: Queries and gallery.
        inverted: Inverted features of that side's items, in their order; None for none.
        side: Which side was inverted.
        standardizers: Under which to search as well, the native embeddings of both sides.
        statistics: What they need, or None.
        encoding: Fields of the signature that say how the items were encoded.
        resampling: Of the intervals.
        skipped: What was left out before.
        notes: What to tell the reader besides.

    Raises:
        InputError: ``inverted`` is of other items, or has them in another order.
        StatisticsError: The statistics lack what a standardizer needs.

    Source:
        Mistretta et al., "Cross the Gap", ICLR 2025: within a modality the query is inverted and the gallery
        stays native.

    Example:
        >>> from i0tscore.inversion.collection import Items
        >>> vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
        >>> items = Items(tuple("abcd"), vectors, np.array([0, 0, 1, 1]), np.arange(4))
        >>> report = report_retrieval(Search.of("image-image", items, items))
        >>> report.ways["native"].measures["R@1"].value
        1.0
    """
    _check_items(search, inverted, side)
    settings = resampling or Resampling()
    native = search.found()
    ways = {BASELINE: _way(native, None, search, settings)}
    for standardizer in standardizers:
        found = search.standardized(standardizer, statistics)
        ways[str(standardizer)] = _way(found, native, search, settings)
    if inverted is not None:
        for name, vectors in _stages(inverted):
            ways[name] = _way(search.found(vectors, side), native, search, settings)
    fields = [
        *encoding,
        ("task", search.task),
        *_statistics_fields(standardizers, statistics),
        *([] if inverted is None else [("inverted", side), *_inversion_fields(inverted)]),
        ("queries", str(len(search.queries))),
        ("gallery", str(len(search.gallery))),
        ("skipped", str(len(skipped))),
        *([] if search.seed is None else [("drawn", str(search.seed))]),
        *([("bs", str(settings.resamples)), ("seed", str(settings.seed))] if settings.resamples else []),
        ("v", version("i0tscore")),
    ]
    return RetrievalReport(
        search.task,
        len(search.queries),
        len(search.gallery),
        native.left_out,
        ways,
        None if inverted is None else side,
        None if inverted is None else float(1 - inverted.losses.mean()),
        Signature("retrieval", tuple(fields)),
        search.queries.over,
        settings,
        tuple(skipped),
        tuple(notes),
    )


def _check_items(search: Search, inverted: Inverted | None, side: Side) -> None:
    if inverted is not None and inverted.ids != search.side(side).ids:
        raise InputError(
            f"the inverted features are not of this search's items: give one for each {side} item, with its "
            "id and in its order"
        )


def _stages(inverted: Inverted) -> list[tuple[str, NDArray[Any]]]:
    """Inverted features after each number of updates of the curve, and at the end."""
    method, curve = inverted.settings.method, inverted.settings.curve
    stages = [(f"{method}@{step}", inverted.curve_vectors[:, k]) for k, step in enumerate(curve)]
    return [*stages, (method, inverted.vectors)]


def _statistics_fields(standardizers: Sequence[Standardizer], statistics: Statistics | None) -> list[tuple[str, str]]:
    """Which statistics were used: a digest of what each standardizer takes of them."""
    needy = [standardizer for standardizer in standardizers if standardizer.spec.need is not None]
    if statistics is None or not needy:
        return []
    digests = dict.fromkeys(statistics.digest_of(standardizer)[:4] for standardizer in needy)
    return [("stats", f"{statistics.name}-{'-'.join(digests)}")]


def _inversion_fields(inverted: Inverted) -> list[tuple[str, str]]:
    return [(key, value) for key, value in inverted.settings.fields if key not in ("m", "prec")]


def _way(found: LabelRetrieval, native: LabelRetrieval | None, search: Search, resampling: Resampling) -> Method:
    def estimates(values: dict[str, NDArray[np.float64]]) -> dict[str, Estimate]:
        return LabelRetrieval(values).estimates(search.queries.clusters, resampling)

    if native is None:
        return Method(estimates(found.values), {})
    changed = {name: found.values[name] - native.values[name] for name in LABEL_MEASURES}
    return Method(estimates(found.values), estimates(changed))
