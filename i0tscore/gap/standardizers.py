"""Standardizers: transformations of image and caption embeddings that remove the modality gap.

=================  ==========================================  ============  ==================================
name               formula                                     similarity    source
=================  ==========================================  ============  ==================================
``none``           x, y                                        cosine        –
``post``           n(x − μx), n(y − μy)                        cosine        An et al. 2025, I0T_post
``async``          n(BN_x(x)), n(BN_y(y))                      cosine        An et al. 2025, I0T_async
``dn(λ)``          x − λμx, y − λμy                            dot product   Zhou et al. 2023
``shift(λ)``       n(x − λg), n(y + λg), g = n(μx − μy)        cosine        Liang et al. 2022, code
``shift_raw(λ)``   n(x − λΔ), n(y + λΔ), Δ = μx − μy           cosine        Liang et al. 2022, paper
``clip(t)``        n(min(max(x, −t), t)), y likewise           cosine        An et al. 2025, ablation
``nnn(α)``         [x, −α b(x), 1], [y, 1, −α b(y)]            dot product   Chowdhury et al. 2024
``covariance(λ)``  n(Σ^λ (x − μx)), n(Σ^λ (y − μy))            cosine        ours, see reports/standardizers
=================  ==========================================  ============  ==================================

x and y are unit embeddings, μx and μy their means over a reference corpus, n(v) = v / ‖v‖, and Σ the sum of both
modalities' covariances. ``covariance`` is the opposite of whitening: it gives more weight to directions in which
embeddings vary much and less to those that are mostly noise. b(x) is the mean similarity of an image with its k
nearest captions of a bank, b(y) that of a caption with its nearest images. ``nnn`` gives x·y − α b(x) − α b(y),
which ranks the candidates r of one modality for a query q of the other like s(q, r) − α b(r). It does not move
embeddings, so it is undefined within a modality.

To add a standardizer, write its formula and a row of ``STANDARDIZERS``. If it needs fitted state, write a subclass of
``FittedState`` and name it in the row's ``need``. Fitting, statistics files, names, messages and studies follow.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError, UsageError
from i0tscore.gap.fitted import FittedState, HubnessBank, NormalizationPair
from i0tscore.gap.vectors import ArrayT, like, namespace, normalize

Similarity = Literal["cos", "dot"]
Modality = Literal["image", "caption"]


class Need(NamedTuple):
    """What a standardizer needs from reference statistics.

    Attributes:
        name: ``means``, ``covariance``, or the key of the state in ``GapStatistics.fitted``.
        hint: End of the message "… needs", which says how to get it.
        state: Class of the fitted state; None for moments.
    """

    name: str
    hint: str
    state: type[FittedState] | None = None


MEANS = Need("means", "reference means. Fit them with `i0tscore fit`.")
COVARIANCE = Need("covariance", "statistics with a covariance. Fit new ones with `i0tscore fit`.")
NORMALIZATION = Need(
    "normalization",
    "statistics with a trained normalization. Train one with `i0tscore fit --method async`.",
    NormalizationPair,
)
BANK = Need("bank", "statistics with a bank. Fit new ones with `i0tscore fit --bank-size N`.", HubnessBank)


@dataclass(frozen=True, eq=False)
class GapStatistics:
    """The parts of reference statistics that standardizers use.

    Attributes:
        image_mean: Mean of unit image embeddings, shape (d,), or None.
        caption_mean: Mean of unit caption embeddings, shape (d,), or None.
        covariance: Sum of both modalities' covariances, shape (d, d), or None.
        fitted: Other fitted state by name, such as ``bank``.
    """

    image_mean: Any = None
    caption_mean: Any = None
    covariance: Any = None
    fitted: Mapping[str, FittedState] = field(default_factory=dict)

    @cached_property
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues (d,) and eigenvectors (d, d), in columns, of the covariance."""
        values, directions = np.linalg.eigh(np.asarray(self.covariance, dtype=np.float64))
        return values.clip(0), directions

    def has(self, need: Need | None) -> bool:
        """Return whether a standardizer's need is met."""
        available = {"means": self.image_mean, "covariance": self.covariance, **self.fitted}
        return need is None or available.get(need.name) is not None


class Side(NamedTuple):
    """A modality, as a formula sees it: its mean and the other modality's (d,), and the statistics of both."""

    modality: Modality
    mean: Any
    other_mean: Any
    statistics: GapStatistics


def _post(vectors: Any, side: Side) -> Any:
    return normalize(vectors - like(vectors, side.mean))


def _async(vectors: Any, side: Side) -> Any:
    return getattr(side.statistics.fitted["normalization"], side.modality)(vectors)


def _dn(vectors: Any, side: Side, strength: float) -> Any:
    return vectors - strength * like(vectors, side.mean)


def _shift(vectors: Any, side: Side, strength: float) -> Any:
    return normalize(vectors - strength * normalize(like(vectors, side.mean - side.other_mean)))


def _shift_raw(vectors: Any, side: Side, strength: float) -> Any:
    return normalize(vectors - strength * like(vectors, side.mean - side.other_mean))


def _clip(vectors: Any, side: Side, bound: float) -> Any:
    return normalize(vectors.clip(-bound, bound))


def _nnn(vectors: Any, side: Side, strength: float) -> Any:
    bank: Any = side.statistics.fitted["bank"]
    is_image = side.modality == "image"
    hubness = bank.hubness(vectors, bank.captions if is_image else bank.images)[..., None]
    columns = [-strength * hubness, namespace(vectors).ones_like(hubness)]
    return namespace(vectors).concatenate([vectors, *(columns if is_image else columns[::-1])], -1)


def _covariance(vectors: Any, side: Side, strength: float) -> Any:
    values, directions = side.statistics.spectrum
    weights = (values / values.mean()) ** strength
    return normalize((vectors - like(vectors, side.mean)) @ like(vectors, (directions * weights) @ directions.T))


class StandardizerSpec(NamedTuple):
    """A row of the table of standardizers.

    Attributes:
        formula: Maps vectors (…, d), their ``Side`` and the parameter, if any, to vectors; None changes nothing.
        need: What it needs from reference statistics.
        symbol: Symbol of its parameter; empty if it has none.
        default: Default of the parameter.
        grid: Values of the parameter that studies compare.
        similarity: How the results are compared.
        cross_modal_only: Whether it only defines similarities between images and captions.
        reference: Whether statistics include its reference distribution, with the default parameter.
    """

    formula: Callable[..., Any] | None
    need: Need | None = None
    symbol: str = ""
    default: float | None = None
    grid: tuple[float, ...] = ()
    similarity: Similarity = "cos"
    cross_modal_only: bool = False
    reference: bool = False


STANDARDIZERS: dict[str, StandardizerSpec] = {
    "none": StandardizerSpec(None, reference=True),
    "post": StandardizerSpec(_post, MEANS, reference=True),
    "async": StandardizerSpec(_async, NORMALIZATION, reference=True),
    "dn": StandardizerSpec(_dn, MEANS, "λ", 0.25, (0.25, 0.5, 1.0), "dot", reference=True),
    "shift": StandardizerSpec(_shift, MEANS, "λ", 0.5, (0.2, 0.375, 0.5)),
    "shift_raw": StandardizerSpec(_shift_raw, MEANS, "λ", 0.5, (0.25, 0.5)),
    "clip": StandardizerSpec(_clip, None, "t", 0.1, (0.1,)),
    "nnn": StandardizerSpec(_nnn, BANK, "α", 0.5, (0.25, 0.5, 0.75), "dot", cross_modal_only=True, reference=True),
    "covariance": StandardizerSpec(
        _covariance, COVARIANCE, "λ", 0.2, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4), reference=True
    ),
}

RENAMED = {"color": "covariance"}
"""Former names, which still parse with a warning and occur in statistics files."""


def shortest(number: float) -> str:
    """Return the shortest representation that round-trips.

    Example:
        >>> shortest(2.0), shortest(0.12345678)
        ('2', '0.12345678')
    """
    brief = f"{number:g}"
    return brief if float(brief) == number else repr(number)


@dataclass(frozen=True, slots=True)
class Standardizer:
    """A transformation of both modalities before they are compared.

    Attributes:
        name: Name in the table of this module, such as ``post``.
        strength: Value of the parameter (λ, t or α); None for standardizers without one.
        spec: Row of the table.

    Raises:
        UsageError: The name is unknown, or the parameter is missing, unexpected or out of range.

    Example:
        >>> Standardizer.parse("dn(0.25)")
        Standardizer(name='dn', strength=0.25)
        >>> str(Standardizer.parse("dn")), Standardizer.parse("dn").spec.similarity
        ('dn(0.25)', 'dot')
    """

    name: str
    strength: float | None = None
    spec: StandardizerSpec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spec = STANDARDIZERS.get(self.name)
        if spec is None or (self.strength is None) != (not spec.symbol):
            names = ", ".join(f"{name}({s.symbol})" if s.symbol else name for name, s in STANDARDIZERS.items())
            raise UsageError(f"Unknown standardizer {str(self)!r}. Choose one of {names}.")
        if self.strength is not None and not math.isfinite(self.strength):
            raise UsageError(f"Invalid standardizer {str(self)!r}. {spec.symbol} must be finite.")
        if spec.symbol == "t" and not (self.strength or 0.0) > 0:
            raise UsageError(f"Invalid standardizer {str(self)!r}. t must be above 0.")
        object.__setattr__(self, "spec", spec)

    @classmethod
    def parse(cls, text: str) -> Standardizer:
        """Parse a name such as ``post``, ``dn(0.25)``, or ``dn`` for the default parameter.

        Raises:
            UsageError: There is no such standardizer, or its parameter is not a number.
        """
        match = re.fullmatch(r"(\w+)(?:\(([^()]+)\))?", text.strip())
        name, parameter = match.groups() if match else (text, None)
        if name in RENAMED:
            name = RENAMED[name]
            note = f"The standardizer {text!r} is now called {name!r}. The old name works until the next release."
            warnings.warn(note, UserWarning, stacklevel=2)
        default = STANDARDIZERS[name].default if name in STANDARDIZERS else None
        try:
            strength = default if parameter is None else float(parameter)
        except ValueError:
            raise UsageError(f"Invalid standardizer {text!r}. Expected a number, got {parameter!r}.") from None
        return cls(name, strength)

    def __str__(self) -> str:
        return self.name if self.strength is None else f"{self.name}({shortest(self.strength)})"

    def apply(self, vectors: ArrayT, statistics: GapStatistics, modality: Modality) -> ArrayT:
        """Standardize unit embeddings of one modality.

        Args:
            vectors: Shape (…, d), numpy or torch.
            statistics: Statistics of the reference corpus.
            modality: ``image`` or ``caption``.

        Returns:
            The standardized vectors, shape (…, d) or, for ``nnn``, (…, d + 2).

        Raises:
            StatisticsError: The statistics lack what the standardizer needs.
        """
        need = self.spec.need
        if need is not None and not statistics.has(need):
            raise StatisticsError(f"{self} needs {need.hint}")
        if self.spec.formula is None:
            return vectors
        means = statistics.image_mean, statistics.caption_mean
        side = Side(modality, *(means if modality == "image" else means[::-1]), statistics)
        result: ArrayT = self.spec.formula(vectors, side, *(() if self.strength is None else (self.strength,)))
        return result


def all_standardizers(*, grid: bool = True) -> list[Standardizer]:
    """List the table, with every value of ``grid`` for standardizers with a parameter, or with the default only."""
    return [Standardizer(n, value) for n, s in STANDARDIZERS.items() for value in (grid and s.grid) or (s.default,)]


NONE = Standardizer("none")
POST = Standardizer("post")
