"""What scoring returns: columns of numbers with everything needed to read and reproduce them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import Quartiles
from i0tscore.results.signature import Signature
from i0tscore.samples.sample import Skipped

Column = NDArray[np.float64]


class ReferenceQuartiles(NamedTuple):
    """What a metric usually is: quartiles of its scores of reference pairs.

    Attributes:
        matched: Of images with their own captions.
        mismatched: Of images with other images' captions.
        source: What the pairs are.
    """

    matched: Quartiles
    mismatched: Quartiles
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class MetricResult:
    """One metric over all samples.

    Attributes:
        name: The metric's name, as it can be parsed.
        values: Scores (n,), float64; NaN where undefined.
        mean: Mean of the defined scores; None if there is none.
        interval: Bootstrap interval of the mean over images; None with fewer than two images.
        confidence: Coverage of the interval.
        signature: How the number was made.
        percentile_matched: Percent of matched reference pairs that score lower (n,), or None.
        percentile_mismatched: Percent of mismatched reference pairs that score lower (n,), or None.
        p_match: Probability of a matched pair at even odds (n,), or None.
        rank: Place of each caption among all distinct captions of the run for its image (n,), from 1;
            0 where undefined.
        rank_of: Number of distinct captions of the run.
        zeros: Share of scores that are exactly 0, as clipping makes them.
        scale: Usual scores, in the metric's own units, or None.
    """

    name: str
    values: Column
    mean: float | None
    interval: tuple[float, float] | None
    confidence: float
    signature: Signature
    percentile_matched: Column | None
    percentile_mismatched: Column | None
    p_match: Column | None
    rank: NDArray[np.int64]
    rank_of: int
    zeros: float
    scale: ReferenceQuartiles | None = None


class SampleScore(NamedTuple):
    """One metric of one sample; None where undefined."""

    value: float | None
    percentile_matched: float | None
    percentile_mismatched: float | None
    p_match: float | None
    rank: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SampleResult:
    """Everything about one sample.

    Attributes:
        id: The sample's id.
        caption: The caption as given, without prefix.
        tokens: Tokens of the prefixed caption, begin and end included; None for embeddings.
        tokens_cut: Tokens that did not fit; None for embeddings.
        breakdown: The parts of the CLIP cosine by name; None without statistics.
        scores: By metric name.
        notes: Reasons for what is undefined.
    """

    id: str
    caption: str | None
    tokens: int | None
    tokens_cut: int | None
    breakdown: dict[str, float | None] | None
    scores: dict[str, SampleScore]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Result(Mapping[str, MetricResult]):
    """Scores of a run: ``result["I0TScore"].mean``, ``result.samples[0].breakdown``.

    Attributes:
        ids: Sample ids (n).
        captions: Captions as given; empty for embeddings.
        metrics: Results by metric name.
        skipped: Samples left out, with reasons.
        gap: Centroid distance of the run by standardizer name; None where undefined.
        breakdown: Columns (n,) by part name, or None without statistics.
        tokens: Token counts (n,) or None.
        tokens_cut: Tokens that did not fit (n,) or None.
        notes: What a reader should know of the whole run.
        sample_notes: Notes by sample position.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    metrics: dict[str, MetricResult]
    skipped: tuple[Skipped, ...] = ()
    gap: dict[str, float | None] = field(default_factory=dict)
    breakdown: dict[str, Column] | None = None
    tokens: NDArray[np.int64] | None = None
    tokens_cut: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    sample_notes: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> MetricResult:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    @property
    def n(self) -> int:
        """Number of scored samples."""
        return len(self.ids)

    @property
    def samples(self) -> SampleSequence:
        """The samples one by one, made when asked for."""
        return SampleSequence(self)

    def with_skipped(self, skipped: Sequence[Skipped], notes: Sequence[str] = ()) -> Result:
        """The same scores with samples that were left out before scoring; signatures count them too.

        Args:
            skipped: Samples, listed before those that scoring left out.
            notes: Further notes, listed before those of scoring.
        """
        everything = (*skipped, *self.skipped)
        metrics = {
            name: replace(metric, signature=metric.signature.with_field("skipped", str(len(everything))))
            for name, metric in self.metrics.items()
        }
        return replace(self, metrics=metrics, skipped=everything, notes=(*notes, *self.notes))

    def to_dict(self, *, per_sample: bool = True) -> dict[str, Any]:
        """The result as plain data, schema ``i0tscore.result/1``; what is undefined is None."""
        from i0tscore.results.serialise import result_to_dict

        return result_to_dict(self, per_sample=per_sample)

    def to_json(self, *, per_sample: bool = True, indent: int | None = 2) -> str:
        """The result as JSON; never NaN."""
        from i0tscore.results.serialise import dumps

        return dumps(self.to_dict(per_sample=per_sample), indent=indent)

    def to_jsonl(self) -> str:
        """One sample a line."""
        from i0tscore.results.serialise import dumps, sample_to_dict

        return "".join(dumps(sample_to_dict(sample)) + "\n" for sample in self.samples)


class SampleSequence(Sequence[SampleResult]):
    """The samples of a result, made one at a time so that large runs stay small."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def __len__(self) -> int:
        return self._result.n

    @overload
    def __getitem__(self, position: int) -> SampleResult: ...
    @overload
    def __getitem__(self, position: slice) -> list[SampleResult]: ...
    def __getitem__(self, position: int | slice) -> SampleResult | list[SampleResult]:
        if isinstance(position, slice):
            return [self._sample(i) for i in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"sample {position} of {len(self)}")
        return self._sample(position % len(self))

    def _sample(self, i: int) -> SampleResult:
        r = self._result
        parts = r.breakdown
        return SampleResult(
            id=r.ids[i],
            caption=r.captions[i] if r.captions else None,
            tokens=None if r.tokens is None else int(r.tokens[i]),
            tokens_cut=None if r.tokens_cut is None else int(r.tokens_cut[i]),
            breakdown=None if parts is None else {name: at(column, i) for name, column in parts.items()},
            scores={name: _score(metric, i) for name, metric in r.metrics.items()},
            notes=r.sample_notes.get(i, ()),
        )


def _score(metric: MetricResult, i: int) -> SampleScore:
    return SampleScore(
        at(metric.values, i),
        at(metric.percentile_matched, i),
        at(metric.percentile_mismatched, i),
        at(metric.p_match, i),
        (int(metric.rank[i]), metric.rank_of) if metric.rank[i] else None,
    )


def at(column: Column | None, i: int) -> float | None:
    """The i-th number of a column, None where there is no column or the number is NaN."""
    if column is None or np.isnan(column[i]):
        return None
    return float(column[i])
