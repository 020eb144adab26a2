"""Standardizers: what is done to image and caption embeddings before they are compared.

=============  ===========================================  ============  ============================
name           formula                                      compared by   source
=============  ===========================================  ============  ============================
``none``       x, y                                         cosine        –
``post``       n(x − μx), n(y − μy)                         cosine        An et al. 2025, I0T_post
``dn(λ)``      x − λμx, y − λμy                             dot product   Zhou et al. 2023
``shift(λ)``   n(x − λg), n(y + λg), g = n(μx − μy)         cosine        Liang et al. 2022
``color(λ)``   n(Σ^λ (x − μx)), n(Σ^λ (y − μy))             cosine        ours, see reports/standardizers
=============  ===========================================  ============  ============================

x and y are unit embeddings, μx and μy the means of such embeddings, n(v) = v / ‖v‖, Σ the sum of both
modalities' covariances. ``color`` is whitening turned round: directions in which photographs and captions
vary much count more, those that hold mostly noise count less.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from i0tscore.errors import StatisticsError, UsageError
from i0tscore.gap.vectors import ArrayT, like, normalize

Similarity = Literal["cos", "dot"]


def shortest(number: float) -> str:
    """A number in as few digits as give it back exactly.

    Example:
        >>> shortest(2.0), shortest(0.12345678)
        ('2', '0.12345678')
    """
    brief = f"{number:g}"
    return brief if float(brief) == number else repr(number)


class Reference(NamedTuple):
    """What standardizers know of a reference corpus.

    Attributes:
        image_mean: Shape (d,).
        caption_mean: Shape (d,).
        covariance: Sum of both modalities' covariances (d, d), or None.
    """

    image_mean: Any
    caption_mean: Any
    covariance: Any = None


def _post(vectors: Any, own: Any, other: Any, covariance: Any, strength: float) -> Any:
    return normalize(vectors - own)


def _dn(vectors: Any, own: Any, other: Any, covariance: Any, strength: float) -> Any:
    return vectors - strength * own


def _shift(vectors: Any, own: Any, other: Any, covariance: Any, strength: float) -> Any:
    return normalize(vectors - strength * normalize(own - other))


def _color(vectors: Any, own: Any, other: Any, covariance: Any, strength: float) -> Any:
    if covariance is None:
        raise StatisticsError("color needs statistics with a covariance; fit new ones with `i0tscore fit`")
    values, directions = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    weights = (values.clip(0) / values.mean()) ** strength
    return normalize((vectors - own) @ like(vectors, (directions * weights) @ directions.T))


_Formula = Callable[[Any, Any, Any, Any, float], Any]
_FORMULAS: dict[str, tuple[_Formula, float | None]] = {
    "post": (_post, None),
    "dn": (_dn, 0.25),
    "shift": (_shift, 0.5),
    "color": (_color, 0.2),
}


@dataclass(frozen=True, slots=True)
class Standardizer:
    """A named way to move both modalities before comparing them.

    Attributes:
        name: ``none``, ``post``, ``dn``, ``shift`` or ``color``.
        strength: λ, for those that have one.

    Example:
        >>> Standardizer.parse("dn(0.25)")
        Standardizer(name='dn', strength=0.25)
        >>> str(Standardizer.parse("dn")), Standardizer.parse("dn").similarity
        ('dn(0.25)', 'dot')
    """

    name: str
    strength: float | None = None

    @classmethod
    def parse(cls, text: str) -> Standardizer:
        """Read ``none``, ``post``, ``dn``, ``dn(0.25)``, ``shift(0.5)``, ``color(0.2)``."""
        match = re.fullmatch(r"(\w+)(?:\(([-+.\deE]+)\))?", text.strip())
        name, given = match.groups() if match else ("", None)
        default = _FORMULAS[name][1] if name in _FORMULAS else None
        if (name != "none" and name not in _FORMULAS) or (given is not None and default is None):
            raise UsageError(f"no standardizer {text!r}; there are none, post, dn(λ), shift(λ), color(λ)")
        try:
            return cls(name, float(given) if given is not None else default)
        except ValueError:
            raise UsageError(f"standardizer {text!r}: {given!r} is not a number") from None

    def __str__(self) -> str:
        return self.name if self.strength is None else f"{self.name}({shortest(self.strength)})"

    @property
    def similarity(self) -> Similarity:
        """How the standardized vectors are compared."""
        return "dot" if self.name == "dn" else "cos"

    @property
    def needs_means(self) -> bool:
        """Whether reference means are needed."""
        return self.name != "none"

    def images(self, vectors: ArrayT, reference: Reference) -> ArrayT:
        """Standardize unit image embeddings (…, d)."""
        return self._apply(vectors, reference.image_mean, reference.caption_mean, reference.covariance)

    def captions(self, vectors: ArrayT, reference: Reference) -> ArrayT:
        """Standardize unit caption embeddings (…, d)."""
        return self._apply(vectors, reference.caption_mean, reference.image_mean, reference.covariance)

    def _apply(self, vectors: ArrayT, own: Any, other: Any, covariance: Any) -> ArrayT:
        if self.name == "none":
            return vectors
        formula = _FORMULAS[self.name][0]
        strength = self.strength or 0.0
        result: ArrayT = formula(vectors, like(vectors, own), like(vectors, other), covariance, strength)
        return result


NONE = Standardizer("none")
POST = Standardizer("post")
