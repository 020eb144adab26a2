"""Reference statistics: moments of both modalities, fitted state, score distributions, and their file format."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from i0tscore.errors import StatisticsError
from i0tscore.files import replace_file
from i0tscore.gap.standardizers import (
    COVARIANCE,
    POST,
    RENAMED,
    STANDARDIZERS,
    FittedState,
    GapStatistics,
    Standardizer,
)
from i0tscore.gap.vectors import Rows, Vectors, chunks, dot

SCHEMA = "i0tscore.statistics/1"
MISMATCHES_PER_PAIR = 20
QUANTILES = 1001

_CHUNK = 8192
_LEVELS = np.linspace(0.0, 1.0, QUANTILES)
_TEXTS = ("name", "encoder", "space", "prefix", "source")

Quartiles = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean and covariance of one modality's unit embeddings; shards can be fitted separately and merged.

    Attributes:
        count: Number of rows.
        mean: Shape (d,), float64.
        covariance: Population covariance (divided by ``count``), shape (d, d), float64; NaN if not computed.

    Examples:
        >>> rows = np.eye(4, dtype=np.float32)
        >>> whole = Moments.of(rows)
        >>> parts = Moments.of(rows[:1]).merge(Moments.of(rows[1:]))
        >>> bool(np.allclose(whole.mean, parts.mean)), parts.count
        (True, 4)
    """

    count: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Rows, *, covariance: bool = True) -> Moments:
        """Compute the moments of vectors, in one pass over blocks of rows.

        Args:
            vectors: Unit embeddings (n, d) with n ≥ 1.
            covariance: Whether to compute the covariance, which takes most of the time. The mean does not depend on it.
        """
        if len(vectors.shape) != 2 or not len(vectors):
            raise ValueError(f"Expected an array of shape (n, d) with n ≥ 1, got shape {vectors.shape}.")
        blocks = (vectors[part] for part in chunks(len(vectors), _CHUNK))
        return functools.reduce(cls.merge, (cls._of_block(block, covariance) for block in blocks))

    @classmethod
    def _of_block(cls, block: NDArray[Any], covariance: bool) -> Moments:
        mean = block.mean(axis=0, dtype=np.float64)
        if not covariance:
            return cls(len(block), mean, np.full(2 * mean.shape, np.nan))
        residuals = block - mean
        return cls(len(block), mean, residuals.T @ residuals / len(block))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"Moments of {len(self.mean)} and of {len(other.mean)} dimensions cannot be merged.")
        count = self.count + other.count
        share = other.count / count
        difference = other.mean - self.mean
        within = (1 - share) * self.covariance + share * other.covariance
        between = share * (1 - share) * np.outer(difference, difference)
        return Moments(count, self.mean + share * difference, within + between)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceDistribution:
    """Scores of matched and mismatched reference pairs, as quantiles, with a calibration to even odds.

    Attributes:
        matched: Quantiles 0, 0.1, …, 100% of the matched pairs' scores, shape (1001,), float64.
        mismatched: The same quantiles for pairs of an image with another image's caption.
        slope: a in p(match) = sigmoid(a · score + b).
        intercept: b.
    """

    matched: NDArray[np.float64]
    mismatched: NDArray[np.float64]
    slope: float
    intercept: float

    @classmethod
    def fit(cls, matched: NDArray[Any], mismatched: NDArray[Any]) -> ReferenceDistribution:
        """Fit to scores of matched and mismatched pairs, with equal total weights. NaN is ignored.

        Args:
            matched: Scores of matched pairs (n,).
            mismatched: Scores of mismatched pairs (m,).

        The calibration is a logistic regression with a small ridge penalty, so that it stays finite for scores that
        separate the pairs.

        Raises:
            StatisticsError: All scores of a kind are NaN.

        Examples:
            >>> r = ReferenceDistribution.fit(np.linspace(0.2, 0.6, 50), np.linspace(-0.2, 0.3, 80))
            >>> bool(r.p_match(np.array([0.5]))[0] > 0.9)
            True
        """
        matched = matched[~np.isnan(matched)].astype(np.float64)
        mismatched = mismatched[~np.isnan(mismatched)].astype(np.float64)
        if not len(matched) or not len(mismatched):
            raise StatisticsError(
                "All images or all captions are identical, so subtracting their mean leaves zero vectors. "
                "Fit on distinct images with their own captions."
            )
        scores = np.concatenate([matched, mismatched])
        center, scale = float(scores.mean()), float(scores.std()) or 1.0
        z_matched, z_mismatched = (matched - center) / scale, (mismatched - center) / scale

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            a, b = parameters
            up, down = a * z_matched + b, a * z_mismatched + b
            value = np.logaddexp(0, -up).mean() + np.logaddexp(0, down).mean() + 1e-4 * a * a
            d_up, d_down = expit(up) - 1.0, expit(down)
            slope = (d_up * z_matched).mean() + (d_down * z_mismatched).mean() + 2e-4 * a
            return float(value), np.array([slope, d_up.mean() + d_down.mean()])

        from scipy.optimize import minimize  # slow to import, and only fitting uses it

        a, b = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
        slope, intercept = float(a / scale), float(b - a * center / scale)
        return cls(np.quantile(matched, _LEVELS), np.quantile(mismatched, _LEVELS), slope, intercept)

    def percentiles(self, scores: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the percentages of matched and of mismatched reference pairs that score lower; NaN stays NaN."""
        levels = np.linspace(0.0, 100.0, QUANTILES)
        return np.interp(scores, self.matched, levels), np.interp(scores, self.mismatched, levels)

    def p_match(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability that pairs with these scores are matched, if both kinds are equally likely."""
        probability: NDArray[np.float64] = expit(self.slope * scores + self.intercept)
        return probability

    def quartiles(self) -> tuple[Quartiles, Quartiles]:
        """Return the 25th, 50th and 75th percentiles of the matched and of the mismatched scores."""
        rows = [QUANTILES // 4, QUANTILES // 2, 3 * QUANTILES // 4]
        return tuple(self.matched[rows].tolist()), tuple(self.mismatched[rows].tolist())


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a reference corpus in one embedding space.

    Attributes:
        name: Short name, shown in signatures.
        encoder: Display name of the encoder.
        space: Identity of the embedding space (``Fingerprint.space``); empty if unknown.
        prefix: Text before every caption.
        image: Moments of the image embeddings.
        caption: Moments of the caption embeddings.
        reference: Score distributions by standardizer, such as ``{"post": …}``; may be empty.
        source: Description of the corpus.
        fitted: Other state of standardizers, by the name of their need, such as ``bank``.
        per_run: Whether the corpus is the scored samples themselves.
    """

    name: str
    encoder: str
    space: str
    prefix: str
    image: Moments
    caption: Moments
    reference: Mapping[str, ReferenceDistribution] = field(default_factory=dict)
    source: str = ""
    fitted: Mapping[str, FittedState] = field(default_factory=dict)
    per_run: bool = False

    @classmethod
    def fit(cls, images: Rows, captions: Rows, *, covariance: bool = True, **texts: str) -> Statistics:
        """Fit moments, and all fitted state that needs neither options nor training, to pairs of unit embeddings.

        Args:
            images: Unit embeddings (n, d).
            captions: Unit embeddings of the matched captions (n, d).
            covariance: Whether to compute the covariances. Statistics without them cannot be saved.
            **texts: ``name`` and, by default empty, ``encoder``, ``space``, ``prefix`` and ``source``.

        Examples:
            >>> Statistics.fit(np.eye(3), np.eye(3), name="toy").image.count
            3
        """
        states = {key: state.fit(images, captions) for key, state in _state_classes().items()}
        fitted = {key: state for key, state in states.items() if state is not None}
        image, caption = (Moments.of(side, covariance=covariance) for side in (images, captions))
        texts = dict.fromkeys(_TEXTS, "") | texts
        return cls(image=image, caption=caption, reference={}, fitted=fitted, per_run=False, **texts)

    @cached_property
    def gap_statistics(self) -> GapStatistics:
        """The parts that standardizers use."""
        covariance = self.image.covariance + self.caption.covariance
        known = None if np.isnan(covariance).any() else covariance
        return GapStatistics(self.image.mean, self.caption.mean, known, self.fitted)

    @property
    def digest(self) -> str:
        """First 8 hex digits of the SHA-256 of both means and, unless ``per_run``, of both covariances."""
        return self.digest_of(POST)

    def digest_of(self, standardizer: Standardizer) -> str:
        """Return a digest of what a standardizer uses: its fitted state, or else the moments (``digest``)."""
        need = standardizer.spec.need
        if need is not None and need.name in self.fitted:
            arrays = self.fitted[need.name].digest_arrays()
        elif self.per_run:  # whether covariances are computed depends on the metrics
            arrays = [self.image.mean, self.caption.mean]
        else:
            arrays = [a for m in (self.image, self.caption) for a in (m.mean, m.covariance.astype(np.float32))]
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:8]

    def standardize(self, standardizer: Standardizer, images: Vectors, captions: Vectors) -> tuple[Vectors, Vectors]:
        """Standardize embeddings of both modalities.

        Args:
            standardizer: Transformation to apply.
            images: Unit embeddings (n, d).
            captions: Unit embeddings (m, d).

        Returns:
            The standardized images and captions.

        Raises:
            StatisticsError: The statistics lack what the standardizer needs.
        """
        known = self.gap_statistics
        return standardizer.apply(images, known, "image"), standardizer.apply(captions, known, "caption")

    def merge(self, other: Statistics) -> Statistics:
        """Return the statistics of both corpora together.

        Args:
            other: Statistics of the same encoder and prefix.

        Moments merge exactly. Fitted state is kept if both have it and it can be merged: banks are joined, trained
        normalizations dropped. Reference distributions are dropped, since scores depend on the merged means; call
        ``with_reference`` on held-out pairs to add new ones.

        Raises:
            StatisticsError: The encoders or prefixes differ.
        """
        encoders = f"{self.encoder} [{self.space}]", f"{other.encoder} [{other.space}]"
        for kind, mine, theirs in (("encoder", *encoders), ("prefix", self.prefix, other.prefix)):
            if mine != theirs:
                raise StatisticsError(f"Statistics of {kind} {mine!r} and of {kind} {theirs!r} cannot be merged.")
        states = {key: state.merge(other.fitted[key]) for key, state in self.fitted.items() if key in other.fitted}
        return replace(
            self,
            name=self.name if self.name == other.name else f"{self.name}+{other.name}",
            image=self.image.merge(other.image),
            caption=self.caption.merge(other.caption),
            reference={},
            fitted={key: state for key, state in states.items() if state is not None},
        )

    def with_fitted(self, **states: FittedState) -> Statistics:
        """Add fitted state by the name of its need, e.g. ``bank=HubnessBank.sample(…)``.

        Call ``with_reference`` next for percentiles under the standardizers that use it.
        """
        return replace(self, fitted={**self.fitted, **states})

    def with_reference(
        self,
        images: Vectors,
        captions: Vectors,
        groups: Sequence[Any] | NDArray[Any] | None = None,
        *,
        contexts: tuple[Vectors, NDArray[Any]] | None = None,
        seed: int = 12345,
    ) -> Statistics:
        """Add reference distributions, with mismatched pairs sampled from images and other images' captions.

        With contexts, also add those of captions with their own contexts, and with contexts of other images and texts:
        ``<standardizer>+context-alone``, and ``<standardizer>+context-mean`` of the mean with the image's score.

        Args:
            images: Unit image embeddings, shape (n, d); row i matches caption i.
            captions: Unit caption embeddings, shape (n, d).
            groups: Image identity of each row, shape (n,); pairs within a group are not mismatched.
            contexts: Unit embeddings of the contexts, shape (m, d), and the row of each caption's context, shape (n,);
                -1 for none.
            seed: Seed of the sample of mismatched pairs, at most 20 per row.

        Raises:
            StatisticsError: There are no two different images, or all images or all captions are alike.
        """
        _, labels = np.unique(np.arange(len(images)) if groups is None else np.asarray(groups), return_inverse=True)
        if len(labels) < 2 or labels.max() == 0:
            raise StatisticsError("A reference distribution needs at least two different images.")
        rows = np.repeat(np.arange(len(labels)), MISMATCHES_PER_PAIR)
        others = np.random.default_rng(seed).integers(0, len(labels), len(rows))
        differ = labels[rows] != labels[others]
        rows, others = rows[differ], others[differ]
        reference = {}
        states = _state_classes()
        moments_first = sorted(STANDARDIZERS.items(), key=lambda row: getattr(row[1].need, "name", "") in states)
        for name, spec in moments_first:
            if not spec.reference or not self.gap_statistics.has(spec.need):
                continue
            standardizer = Standardizer(name, spec.default)
            x, y = self.standardize(standardizer, images, captions)
            reference[str(standardizer)] = _distribution(x, y, rows, others)
            if contexts is not None and not spec.cross_modal_only:
                vectors, own = contexts
                places = standardizer.apply(vectors, self.gap_statistics, "caption")[own]
                places[own < 0] = np.nan  # NaN is ignored
                apart = own[rows] != own[others]
                for rule, targets in (("alone", places), ("mean", (places + x) / 2)):
                    reference[f"{standardizer}+context-{rule}"] = _distribution(targets, y, rows[apart], others[apart])
        return replace(self, reference=reference)

    def require(self, encoder: str, space: str, prefix: str) -> Statistics:
        """Return self if it belongs to this encoder and prefix.

        Args:
            encoder: Name of the encoder, for the message.
            space: Its embedding space; an empty one matches every encoder.
            prefix: Prefix of captions.

        Raises:
            StatisticsError: It belongs to another encoder or prefix; the message names both.
        """
        if self.space and space and self.space != space:
            raise StatisticsError(
                f"Statistics {self.name!r} belong to {self.encoder} [{self.space}], not to {encoder} [{space}]. "
                "Fit new ones with `i0tscore fit`."
            )
        if self.prefix != prefix:
            raise StatisticsError(
                f"Statistics {self.name!r} were fitted with the prefix {self.prefix!r}, not {prefix!r}. "
                "Score with that prefix or fit new ones with `i0tscore fit`."
            )
        return self

    def save(self, path: str | Path) -> None:
        """Write a safetensors file.

        Args:
            path: The file, which is replaced if it exists.

        It holds ``image_mean``, ``caption_mean`` (d,), ``image_covariance``, ``caption_covariance`` (d, d),
        ``<standardizer>/matched`` and ``<standardizer>/mismatched`` (1001,), the tensors of fitted state, and the
        other attributes as JSON in its metadata.

        Raises:
            StatisticsError: The covariances were not computed, or the file cannot be written.
        """
        from safetensors.numpy import save

        if not self.gap_statistics.has(COVARIANCE):
            raise StatisticsError("Expected statistics with covariances, got only means. Try covariance=True.")
        tensors: dict[str, NDArray[Any]] = {}
        for kind, moments in (("image", self.image), ("caption", self.caption)):
            tensors |= {f"{kind}_mean": moments.mean, f"{kind}_covariance": moments.covariance.astype(np.float32)}
        header = {
            "schema": SCHEMA,
            **{key: getattr(self, key) for key in _TEXTS},
            "counts": [self.image.count, self.caption.count],
            "calibration": {key: [r.slope, r.intercept] for key, r in self.reference.items()},
        }
        for key, reference in self.reference.items():
            tensors |= {f"{key}/matched": reference.matched, f"{key}/mismatched": reference.mismatched}
        for state in self.fitted.values():
            header[state.header_key], arrays = state.to_file()
            tensors |= arrays
        try:
            replace_file(Path(path), save(tensors, {"i0tscore": json.dumps(header, ensure_ascii=False)}))
        except OSError as error:
            raise StatisticsError(f"Statistics cannot be written to {path}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read a file that ``save`` wrote.

        Args:
            path: The file.

        Raises:
            StatisticsError: The file is missing, damaged, or not a statistics file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                header = json.loads((file.metadata() or {})["i0tscore"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if header["schema"] != SCHEMA:
                raise StatisticsError(f"{path} has schema {header['schema']!r}; this version reads {SCHEMA!r}.")
            return cls._from_file(header, tensors)
        except FileNotFoundError:
            raise StatisticsError(f"No statistics file {path}. Create one with `i0tscore fit`.") from None
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise StatisticsError(
                f"{path} is not a statistics file of i0tscore ({type(error).__name__}: {error}). "
                "Create one with `i0tscore fit`."
            ) from error

    @classmethod
    def _from_file(cls, header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Self:
        moments = []
        for kind, count in zip(("image", "caption"), header["counts"], strict=True):
            mean, covariance = (tensors[f"{kind}_{name}"].astype(np.float64) for name in ("mean", "covariance"))
            if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
                raise ValueError(f"a mean of shape {mean.shape} with a covariance of shape {covariance.shape}")
            if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
                raise ValueError("means and covariances must be finite")
            moments.append(Moments(int(count), mean, covariance))
        image, caption = moments
        if image.mean.shape != caption.mean.shape:
            raise ValueError("the two means have different dimensions")
        fitted = {
            name: state.from_file(header[state.header_key], tensors)
            for name, state in _state_classes().items()
            if state.header_key in header
        }
        for name, state in fitted.items():
            if any(array.shape[-1:] != image.mean.shape for array in state.to_file()[1].values()):
                raise ValueError(f"the {name} has another dimension than the means")
        reference = {}
        for key, calibration in header["calibration"].items():
            name, bracket, parameter = key.partition("(")
            reference[RENAMED.get(name, name) + bracket + parameter] = ReferenceDistribution(
                tensors[f"{key}/matched"], tensors[f"{key}/mismatched"], *calibration
            )
        name, encoder, space, prefix, source = (str(header[key]) for key in _TEXTS)
        return cls(name, encoder, space, prefix, image, caption, reference, source, fitted)


def _distribution(x: Vectors, y: Vectors, rows: NDArray[np.int64], others: NDArray[np.int64]) -> ReferenceDistribution:
    """Fit the distribution of the matching rows of x and y, and of the mismatched ``x[rows]`` and ``y[others]``."""
    mismatched = [dot(x[rows[c]], y[others[c]]) for c in chunks(len(rows), 2 * _CHUNK)]
    return ReferenceDistribution.fit(dot(x, y), np.concatenate(mismatched))


def _state_classes() -> dict[str, type[FittedState]]:
    """Return the classes of fitted state that standardizers need, by the name of the need."""
    needs = (spec.need for spec in STANDARDIZERS.values())
    return {need.name: need.state for need in needs if need is not None and need.state is not None}
