"""The table of standardizers: what is done to image and caption embeddings before they are compared.

================  ==========================================  ============  ==================================
name              formula                                     compared by   source
================  ==========================================  ============  ==================================
``none``          x, y                                        cosine        –
``post``          n(x − μx), n(y − μy)                        cosine        An et al. 2025, I0T_post
``async``         n(BN_x(x)), n(BN_y(y))                      cosine        An et al. 2025, I0T_async
``dn(λ)``         x − λμx, y − λμy                            dot product   Zhou et al. 2023
``shift(λ)``      n(x − λg), n(y + λg), g = n(μx − μy)        cosine        Liang et al. 2022, its code
``shift_raw(λ)``  n(x − λΔ), n(y + λΔ), Δ = μx − μy           cosine        the same, as papers write it
``clip(t)``       n(min(max(x, −t), t)), the same of y        cosine        An et al. 2025, an ablation
``nnn(α)``        [x, −α b(x), 1], [y, 1, −α b(y)]            dot product   Chowdhury et al. 2024
``color(λ)``      n(Σ^λ (x − μx)), n(Σ^λ (y − μy))            cosine        ours, see reports/standardizers
================  ==========================================  ============  ==================================

x and y are unit embeddings, μx and μy the means of such embeddings, n(v) = v / ‖v‖, Σ the sum of both
modalities' covariances. ``color`` is whitening turned round: directions in which photographs and captions
vary much count more, those that hold mostly noise count less. b(x) is the mean similarity of an image with
the k captions of a bank that are nearest to it, b(y) that of a caption with the bank's images: ``nnn`` gives
x·y − α b(x) − α b(y), which ranks candidates of one modality for a query of the other as s(q, r) − α b(r)
does. It moves nothing, so within a modality it means nothing.

A new standardizer is a formula and its line in ``KINDS``; names, errors and studies follow from that table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap.bank import HubnessBank
from i0tscore.gap.normalization import Normalization
from i0tscore.gap.vectors import like, namespace, normalize

Similarity = Literal["cos", "dot"]
Need = Literal["means", "covariance", "normalization", "bank"]

HOW_TO_HAVE = {
    "means": "reference means; fit some with `i0tscore fit`",
    "covariance": "statistics with a covariance; fit new ones with `i0tscore fit`",
    "bank": "statistics with a bank; fit new ones with `i0tscore fit --bank N`",
    "normalization": "statistics with a trained normalization; train one with `i0tscore fit --method async`",
}


@dataclass(frozen=True, eq=False)
class GapStatistics:
    """What standardizers know of a reference corpus; None where it has no such thing.

    Attributes:
        image_mean: Shape (d,).
        caption_mean: Shape (d,).
        covariance: Sum of both modalities' covariances (d, d).
        normalization: Trained normalization of images and of captions.
        bank: Some embeddings of both.
    """

    image_mean: Any = None
    caption_mean: Any = None
    covariance: Any = None
    normalization: tuple[Normalization, Normalization] | None = None
    bank: HubnessBank | None = None

    @cached_property
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Variances (d,) and directions (d, d), in columns, of the covariance."""
        values, directions = np.linalg.eigh(np.asarray(self.covariance, dtype=np.float64))
        return values.clip(0), directions

    def has(self, need: Need | None) -> bool:
        """Whether a standardizer with this need can be used."""
        return need is None or getattr(self, "image_mean" if need == "means" else need) is not None


class Side(NamedTuple):
    """One modality, as a formula sees it.

    Attributes:
        reference: What is known of both.
        place: 0 for images, 1 for captions.
    """

    reference: GapStatistics
    place: Literal[0, 1]

    @property
    def mean(self) -> Any:
        """Mean of this modality (d,)."""
        return (self.reference.image_mean, self.reference.caption_mean)[self.place]

    @property
    def difference(self) -> Any:
        """Mean of this modality less that of the other (d,)."""
        difference = self.reference.image_mean - self.reference.caption_mean
        return difference if self.place == 0 else -difference


def _none(vectors: Any, side: Side) -> Any:
    return vectors


def _post(vectors: Any, side: Side) -> Any:
    return normalize(vectors - like(vectors, side.mean))


def _async(vectors: Any, side: Side) -> Any:
    normalization: Any = side.reference.normalization
    return normalization[side.place](vectors)


def _dn(vectors: Any, side: Side, strength: float) -> Any:
    return vectors - strength * like(vectors, side.mean)


def _shift(vectors: Any, side: Side, strength: float) -> Any:
    return normalize(vectors - strength * normalize(like(vectors, side.difference)))


def _shift_raw(vectors: Any, side: Side, strength: float) -> Any:
    return normalize(vectors - strength * like(vectors, side.difference))


def _clip(vectors: Any, side: Side, bound: float) -> Any:
    return normalize(vectors.clip(-bound, bound))


def _nnn(vectors: Any, side: Side, strength: float) -> Any:
    bank: Any = side.reference.bank
    hubness = bank.hubness(vectors, bank.captions if side.place == 0 else bank.images)[..., None]
    more = [-strength * hubness, namespace(vectors).ones_like(hubness)]
    return namespace(vectors).concatenate([vectors, *(more if side.place == 0 else more[::-1])], -1)


def _color(vectors: Any, side: Side, strength: float) -> Any:
    values, directions = side.reference.spectrum
    weights = (values / values.mean()) ** strength
    return normalize((vectors - like(vectors, side.mean)) @ like(vectors, (directions * weights) @ directions.T))


class Kind(NamedTuple):
    """A line of the table.

    Attributes:
        formula: Takes vectors (…, d), their ``Side`` and the parameter if there is one.
        need: What of the reference it uses.
        symbol: How its parameter is written; empty for none.
        default: Of the parameter.
        tried: Values of the parameter worth trying.
        similarity: How what comes out is compared.
        across_only: Whether images can be compared with captions only.
    """

    formula: Callable[..., Any]
    need: Need | None = None
    symbol: str = ""
    default: float | None = None
    tried: tuple[float, ...] = ()
    similarity: Similarity = "cos"
    cross_modal_only: bool = False


KINDS: dict[str, Kind] = {
    "none": Kind(_none),
    "post": Kind(_post, "means"),
    "async": Kind(_async, "normalization"),
    "dn": Kind(_dn, "means", "λ", 0.25, (0.25, 0.5, 1.0), similarity="dot"),
    "shift": Kind(_shift, "means", "λ", 0.5, (0.2, 0.375, 0.5)),
    "shift_raw": Kind(_shift_raw, "means", "λ", 0.5, (0.25, 0.5)),
    "clip": Kind(_clip, None, "t", 0.1, (0.1,)),
    "nnn": Kind(_nnn, "bank", "α", 0.5, (0.25, 0.5, 0.75), similarity="dot", cross_modal_only=True),
    "color": Kind(_color, "covariance", "λ", 0.2, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)),
}
