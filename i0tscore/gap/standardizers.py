"""Standardizers: transformations of image and caption embeddings that remove the modality gap, and their fitted state.

=================  ==========================================  ============  ==================================
name               formula                                     similarity    source
=================  ==========================================  ============  ==================================
``none``           x, y                                        cosine        –
``post(λ)``        n(x − λμx), n(y − λμy); λ = 1 is ``post``   cosine        An et al. 2025, I0T_post
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError, UsageError, did_you_mean
from i0tscore.gap.vectors import CELLS, ArrayT, Rows, chunks, like, namespace, normalize

Similarity = Literal["cos", "dot"]
Modality = Literal["image", "caption"]

NEAREST = 256
"""Default number of neighbors k, as in the code of NNN."""

_ARRAYS = ("mean", "variance", "weight", "bias")


class FittedState:
    """State of a standardizer that ``Statistics`` fits, stores, merges and digests through these methods.

    Attributes:
        header_key: Key of the JSON field in a statistics file that shows that the file has this state.
    """

    header_key: ClassVar[str]

    @classmethod
    def fit(cls, images: Rows, captions: Rows) -> Self | None:
        """Fit to unit embeddings of pairs, (n, d) each; None if the state needs training or options."""
        return None

    def to_file(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return the value of the JSON field and the arrays (…, d) to store in a statistics file, by key."""
        raise NotImplementedError

    @classmethod
    def from_file(cls, header: Any, tensors: dict[str, NDArray[Any]]) -> Self:
        """Read the state from the JSON field and the arrays of a statistics file."""
        raise NotImplementedError

    def digest_arrays(self) -> Sequence[Any]:
        """Return every value that scores depend on, as arrays or numpy scalars."""
        header, arrays = self.to_file()
        return [*arrays.values(), np.asarray(header)]

    def merge(self, other: Self) -> Self | None:
        """Return the state of both corpora together; None if states cannot be merged."""
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """BatchNorm1d in evaluation mode followed by scaling to unit length (I0T_async, An et al. 2025).

    Attributes:
        mean: Running mean, shape (d,), float64.
        variance: Running variance, shape (d,), float64, ≥ 0.
        weight: Learned scale, shape (d,), float64.
        bias: Learned shift, shape (d,), float64.
        eps: Added to the variance, > 0.

    Raises:
        ValueError: The arrays are not finite or not of one shape (d,), or a variance is negative.

    Examples:
        >>> identity = Normalization(np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
        >>> identity(np.array([[3.0, 4.0]])).round(6)
        array([[0.6, 0.8]])
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        arrays = self.arrays()
        if self.mean.ndim != 1 or len({array.shape for array in arrays}) > 1:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(_ARRAYS, arrays, strict=True))
            raise ValueError(f"Expected four arrays of one shape (d,), got {shapes}.")
        if not all(np.isfinite(array).all() for array in arrays) or (self.variance < 0).any() or not self.eps > 0:
            raise ValueError("A normalization must be finite, with variances ≥ 0 and eps > 0.")

    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        """Return mean, variance, weight and bias, each of shape (d,)."""
        return self.mean, self.variance, self.weight, self.bias

    def __call__(self, vectors: ArrayT) -> ArrayT:
        """Return n((v − mean) / √(variance + eps) · weight + bias) of unit embeddings (…, d), numpy or torch."""
        scale = like(vectors, self.weight / np.sqrt(self.variance + self.eps))
        return normalize((vectors - like(vectors, self.mean)) * scale + like(vectors, self.bias))


@dataclass(frozen=True, slots=True, eq=False)
class NormalizationPair(FittedState):
    """The trained normalizations of both modalities, for ``async``."""

    image: Normalization
    caption: Normalization

    header_key = "normalization_eps"

    def to_file(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Store the arrays as ``normalization/image/mean`` etc."""
        sides = (("image", self.image), ("caption", self.caption))
        arrays = {f"normalization/{k}/{a}": getattr(side, a) for k, side in sides for a in _ARRAYS}
        return [self.image.eps, self.caption.eps], arrays

    @classmethod
    def from_file(cls, header: Any, tensors: dict[str, NDArray[Any]]) -> Self:
        """Read what ``to_file`` stored."""
        arrays = ({a: tensors[f"normalization/{kind}/{a}"] for a in _ARRAYS} for kind in ("image", "caption"))
        return cls(*(Normalization(**side, eps=float(eps)) for side, eps in zip(arrays, header, strict=True)))

    def digest_arrays(self) -> Sequence[Any]:
        """Return the arrays and ``eps`` of each normalization."""
        return [a for n in (self.image, self.caption) for a in (*n.arrays(), np.float64(n.eps))]


@dataclass(frozen=True, slots=True, eq=False)
class HubnessBank(FittedState):
    """Reference bank for hubness correction, for ``nnn`` (Chowdhury et al., EMNLP 2024).

    Attributes:
        images: Unit image embeddings, shape (n, d), float16.
        captions: Unit caption embeddings, shape (m, d), float16.
        nearest: Number of nearest neighbors k whose mean similarity measures hubness, at most n and m.

    Raises:
        ValueError: The arrays are not two finite matrices of one width, or k is out of range.
    """

    images: NDArray[np.float16]
    captions: NDArray[np.float16]
    nearest: int = NEAREST

    header_key = "bank_nearest"

    def __post_init__(self) -> None:
        for name in ("images", "captions"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float16))
        shapes = self.images.shape, self.captions.shape
        if len(shapes[0]) != 2 or shapes[0][1:] != shapes[1][1:]:
            raise ValueError(f"Expected bank arrays of shapes (n, d) and (m, d), got {shapes[0]} and {shapes[1]}.")
        if not (np.isfinite(self.images).all() and np.isfinite(self.captions).all()):
            raise ValueError("A bank must be finite.")
        if not 1 <= self.nearest <= min(len(self.images), len(self.captions)):
            raise ValueError(
                f"Expected k between 1 and the bank's size, got k = {self.nearest} for {len(self.images)} images "
                f"and {len(self.captions)} captions."
            )

    @classmethod
    def sample(
        cls, images: Rows, captions: Rows, size: int, *, nearest: int = NEAREST, seed: int = 12345
    ) -> HubnessBank:
        """Sample ``size`` of the distinct images (n, d) and of the distinct captions (m, d), unit embeddings.

        ``nearest`` is k, reduced to ``size`` if larger; ``seed`` is that of the sample.

        Raises:
            StatisticsError: There are fewer than ``size`` images or captions.
        """
        available = min(len(images), len(captions))
        if not 1 <= size <= available:
            raise StatisticsError(
                f"A bank of {size} needs as many distinct images and captions, but there are {available}. "
                "Use a smaller bank or more samples."
            )
        generator = np.random.default_rng(seed)
        rows = [np.sort(generator.choice(len(side), size, replace=False)) for side in (images, captions)]
        return cls(images[rows[0]], captions[rows[1]], min(nearest, size))

    def hubness(self, vectors: ArrayT, bank: NDArray[np.float16]) -> ArrayT:
        """Return the mean similarity (n,) of unit vectors (n, d) with their k nearest rows of ``bank``, one side."""
        rows = like(vectors, bank).T
        means: list[Any] = []
        for part in chunks(len(vectors), max(1, CELLS // len(bank))):
            similarities: Any = vectors[part] @ rows
            if isinstance(similarities, np.ndarray):
                nearest = np.partition(similarities, -self.nearest, axis=-1)[:, -self.nearest :]
            else:
                nearest = similarities.topk(self.nearest, dim=-1).values
            means.append(nearest.mean(-1))
        result: ArrayT = namespace(vectors).concatenate(means) if means else vectors.sum(-1)
        return result

    def to_file(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Store the embeddings as ``bank/image`` and ``bank/caption``."""
        return self.nearest, {"bank/image": self.images, "bank/caption": self.captions}

    @classmethod
    def from_file(cls, header: Any, tensors: dict[str, NDArray[Any]]) -> Self:
        """Read what ``to_file`` stored."""
        return cls(tensors["bank/image"], tensors["bank/caption"], int(header))

    def merge(self, other: Self) -> Self:
        """Join the rows of both banks and keep the larger k."""
        sides = (self.images, other.images), (self.captions, other.captions)
        images, captions = map(np.concatenate, sides)
        return type(self)(images, captions, max(self.nearest, other.nearest))


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


def _post(vectors: Any, side: Side, strength: float) -> Any:
    return normalize(_dn(vectors, side, strength))


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
        short: Whether names leave out the default, as in ``post`` for ``post(1)``.
    """

    formula: Callable[..., Any] | None
    need: Need | None = None
    symbol: str = ""
    default: float | None = None
    grid: tuple[float, ...] = ()
    similarity: Similarity = "cos"
    cross_modal_only: bool = False
    reference: bool = False
    short: bool = False


STANDARDIZERS: dict[str, StandardizerSpec] = {
    "none": StandardizerSpec(None, reference=True),
    "post": StandardizerSpec(_post, MEANS, "λ", 1.0, (0.25, 0.5, 0.75, 1.0), reference=True, short=True),
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

    Examples:
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
        strength: Value of the parameter (λ, t or α); None for standardizers without one. ``post`` alone is ``post(1)``.
        spec: Row of the table.

    Raises:
        UsageError: The name is unknown, or the parameter is missing, unexpected or out of range.

    Examples:
        >>> Standardizer.parse("dn(0.25)")
        Standardizer(name='dn', strength=0.25)
        >>> str(Standardizer.parse("dn")), Standardizer.parse("dn").spec.similarity
        ('dn(0.25)', 'dot')
    """

    name: str
    strength: float | None = None
    spec: StandardizerSpec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = self.name in STANDARDIZERS
        spec = STANDARDIZERS[self.name] if known else StandardizerSpec(None)
        object.__setattr__(self, "spec", spec)
        if self.strength is None and spec.short:
            object.__setattr__(self, "strength", spec.default)
        if not known or (self.strength is None) != (not spec.symbol):
            names = ", ".join(f"{name}({s.symbol})" if s.symbol else name for name, s in STANDARDIZERS.items())
            near = "" if known else did_you_mean(self.name, STANDARDIZERS)
            raise UsageError(f"Unknown standardizer {str(self)!r}.{near} Choose one of {names}.")
        if self.strength is not None and not math.isfinite(self.strength):
            raise UsageError(f"Invalid standardizer {str(self)!r}. {spec.symbol} must be finite.")
        if spec.symbol == "t" and not (self.strength or 0.0) > 0:
            raise UsageError(f"Invalid standardizer {str(self)!r}. t must be above 0.")

    @classmethod
    def parse(cls, text: str) -> Standardizer:
        """Parse a name.

        Args:
            text: A name such as ``post``, ``dn(0.25)``, or ``dn`` for the default parameter.

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
        if self.strength is None or (self.spec.short and self.strength == self.spec.default):
            return self.name
        return f"{self.name}({shortest(self.strength)})"

    def apply(self, vectors: ArrayT, statistics: GapStatistics, modality: Modality) -> ArrayT:
        """Standardize embeddings of one modality.

        Args:
            vectors: Unit embeddings (…, d), a NumPy array or a tensor.
            statistics: Reference statistics.
            modality: Modality of the vectors.

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
    """List every standardizer.

    Args:
        grid: Whether standardizers with a parameter are listed with each of its usual values, not only the default.
    """
    return [Standardizer(n, value) for n, s in STANDARDIZERS.items() for value in (grid and s.grid) or (s.default,)]


NONE = Standardizer("none")
POST = Standardizer("post")
