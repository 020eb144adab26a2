"""Scores of a run: columns of numbers with everything needed to interpret and reproduce them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from i0tscore.files import replace_file
from i0tscore.gap import Quartiles
from i0tscore.render.document import UNDEFINED, Table, format_number
from i0tscore.render.score_page import Images, score_page
from i0tscore.render.score_plot import plot_scores
from i0tscore.results.intervals import Estimate, format_estimate
from i0tscore.results.report import Part, Report, SampleColumns, Signature, dumps, plain, require_name
from i0tscore.results.selection import Scored, Selection, select
from i0tscore.results.statistics_fit import StatisticsFit
from i0tscore.samples.rules import PER_METRIC, SelectionRules
from i0tscore.samples.sample import Skipped

Column = NDArray[np.float64]

DETAILS = ("percentile_matched", "percentile_mismatched", "p_match")
"""Columns of a metric that require a reference distribution, as in ``MetricResult``."""

_BREAKDOWN = ("semantic", "image_bias", "caption_bias")
"""Parts of the breakdown that differ between samples, in the order shown."""

_LONGEST_ID = 24
_LOWEST = 5


class ReferenceQuartiles(NamedTuple):
    """Quartiles of a metric's scores of reference pairs, which show what scores to expect.

    Attributes:
        matched: Quartiles for images with their own captions.
        mismatched: Quartiles for images with captions of other images.
        source: What the pairs are.
    """

    matched: Quartiles
    mismatched: Quartiles
    source: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MetricSummary(Part):
    """One metric over a corpus.

    Attributes:
        mean: Mean of the defined scores; None if there is none.
        interval: Bootstrap interval of the mean over images; None with fewer than two images.
        confidence: Coverage of the interval, in (0, 1).
        zeros: Share of the defined scores that are exactly 0, usually by clipping.
        scale: Reference quartiles in the metric's own units, or None.
        signature: Every setting that the scores depend on.
    """

    mean: float | None
    interval: tuple[float, float] | None
    confidence: float
    zeros: float
    scale: ReferenceQuartiles | None = None
    signature: Signature

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mean, self.interval)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without what subclasses add."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(MetricSummary)}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class MetricResult(MetricSummary):
    """One metric over all samples of a run.

    Attributes:
        name: The metric's name, which ``Metric.parse`` accepts.
        values: Scores (n,), float64; NaN where undefined.
        percentile_matched: Percent of matched reference pairs that score lower (n,), or None.
        percentile_mismatched: Percent of mismatched reference pairs that score lower (n,), or None.
        p_match: Probability of a matched pair at even odds (n,), or None.
        rank: Rank of each caption among all distinct captions of the run for its image (n,), from 1;
            0 where undefined.
        rank_of: Number of distinct captions of the run.
        reference: Quantiles 0, 0.1, …, 100% (1001,) of the scores of matched and of mismatched reference pairs, behind
            ``scale``; not part of the JSON.
    """

    name: str
    values: Column
    percentile_matched: Column | None
    percentile_mismatched: Column | None
    p_match: Column | None
    rank: NDArray[np.int64]
    rank_of: int
    reference: tuple[Column, Column] | None = None

    def __repr__(self) -> str:
        return f"MetricResult({self.name}={format_estimate(self.estimate)}, n={len(self.values)})"


class SampleExplanation(Protocol):
    """What a result uses of an ``Explanation``."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/explanation.schema.json``."""

    def fragment(self) -> str:
        """Return HTML for the page of the result."""


class SampleScore(NamedTuple):
    """One metric of one sample; None where undefined."""

    value: float | None
    percentile_matched: float | None
    percentile_mismatched: float | None
    p_match: float | None
    rank: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SampleResult:
    """All results of one sample.

    Attributes:
        id: The sample's id.
        caption: The caption as given, without prefix.
        context: The context as given, or None.
        tokens: Number of tokens of the prefixed caption, including begin and end; None for embeddings.
        tokens_cut: Number of tokens beyond the context length; None for embeddings.
        breakdown: Parts of the CLIP cosine by name; None without statistics.
        scores: Scores by metric name.
        notes: Reasons for undefined values.
        explanation: Why the sample has its score, or None.
    """

    id: str
    caption: str | None
    tokens: int | None
    tokens_cut: int | None
    breakdown: dict[str, float | None] | None
    scores: dict[str, SampleScore]
    notes: tuple[str, ...]
    context: str | None = None
    explanation: SampleExplanation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        scores = {
            name: {**score._asdict(), "rank": None if score.rank is None else list(score.rank)}
            for name, score in self.scores.items()
        }
        data = {name: getattr(self, name) for name in self.__slots__}
        data |= {"scores": scores, "notes": list(self.notes), "explanation": plain(self.explanation)}
        return {name: value for name, value in data.items() if value or name not in ("notes", "context", "explanation")}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result(Mapping[str, MetricResult], SampleColumns, Report):
    """Scores of a run: ``result["I0TScore"].mean``, ``result.samples[0].breakdown``.

    Notebooks show the means and the samples with the lowest scores.

    Attributes:
        ids: Sample ids (n).
        captions: Captions as given; empty for embeddings.
        contexts: Contexts as given, None for samples without one; empty if no contexts were given.
        metrics: Results by metric name.
        skipped: Samples left out, with reasons.
        gap: Centroid distance of the run by standardizer name; None where undefined.
        statistics_fit: How well fixed statistics fit the run; None without fixed statistics. If they do not fit,
            percentiles and p_match are not valid.
        breakdown: Columns (n,) by part name, or None without statistics.
        tokens: Token counts (n,) or None.
        tokens_cut: Number of tokens beyond the context length (n,) or None.
        notes: Notes on the whole run.
        sample_notes: Notes by sample position.
        explanations: Explanations of some samples by position, from ``i0tscore.explanation.explain_worst``.
    """

    SCHEMA = "i0tscore.result/1"

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    metrics: dict[str, MetricResult]
    skipped: tuple[Skipped, ...] = ()
    gap: dict[str, float | None] = field(default_factory=dict)
    statistics_fit: StatisticsFit | None = None
    breakdown: dict[str, Column] | None = None
    tokens: NDArray[np.int64] | None = None
    tokens_cut: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    sample_notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    explanations: Mapping[int, SampleExplanation] = field(default_factory=dict)
    contexts: tuple[str | None, ...] = ()

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
    def leading(self) -> MetricResult:
        """The first metric with reference pairs, or else the first one; metrics with a mean come first."""
        return min(self.values(), key=lambda metric: (metric.mean is None, metric.p_match is None))

    @property
    def samples(self) -> SampleSequence:
        """The samples one by one, computed on access."""
        return SampleSequence(self)

    def with_skipped(self, skipped: Sequence[Skipped], notes: Sequence[str] = ()) -> Result:
        """Return the same scores with samples that were left out before scoring, counted in the signatures.

        Args:
            skipped: Samples, listed before those that scoring left out.
            notes: Further notes, listed before those of scoring.
        """
        skipped = (*skipped, *self.skipped)
        metrics = {
            name: replace(metric, signature=metric.signature.with_field("skipped", str(len(skipped))))
            for name, metric in self.metrics.items()
        }
        return replace(self, metrics=metrics, skipped=skipped, notes=(*notes, *self.notes))

    @classmethod
    def concat(cls, parts: Sequence[Result]) -> Result:
        """Join results of parts of a run, scored with the same metrics and fixed statistics.

        There are no intervals or ranks. The statistics fit the run if they fit parts with most of its samples, since
        a few of many parts deviate from them by chance.
        """
        if len(parts) == 1:
            return parts[0]
        n, misfit = sum(part.n for part in parts), sum(part.n for part in parts if part.misfit)
        starts = np.cumsum([0, *(part.n for part in parts)]).tolist()
        fits = [part.statistics_fit for part in parts if part.misfit == (misfit > n / 2)]
        columns = {name: [(part.breakdown or {}).get(name) for part in parts] for name in parts[0].breakdown or {}}
        notes = dict.fromkeys(
            note for part in parts for note in part.notes if note not in getattr(part.statistics_fit, "notes", ())
        )
        judged = [part.statistics_fit for part in parts if part.statistics_fit is not None]
        if judged:
            fitting = sum(fit.fits for fit in judged)
            notes[f"The statistics {judged[0].statistics!r} fit {fitting} of {len(judged)} parts of the input."] = None
        return cls(
            ids=tuple(name for part in parts for name in part.ids),
            captions=tuple(text for part in parts for text in part.captions),
            metrics={name: _concat_metric([part[name] for part in parts], n) for name in parts[0]},
            skipped=tuple(one for part in parts for one in part.skipped),
            statistics_fit=fits[0],
            breakdown={name: _concat(own) for name, own in columns.items()} or None,
            tokens=_concat([part.tokens for part in parts]),
            tokens_cut=_concat([part.tokens_cut for part in parts]),
            notes=tuple(notes),
            sample_notes={
                start + i: own
                for start, part in zip(starts, parts, strict=False)
                for i, own in part.sample_notes.items()
            },
        )

    def select(
        self, keep: str | SelectionRules, *, images: Sequence[Hashable] | None = None, **rules: Any
    ) -> Selection:
        """Decide which samples to keep; ``selection.kept`` is an array of Booleans (n,).

        Args:
            keep: Criteria such as ``p_match >= 0.5 and tokens between 5 and 70``; see ``docs/how-to/filtering.md``.
            images: Identity of each sample's image (n), for ``best_per_image`` and ``max_caption_repeats``; by default
                the ids.
            **rules: Other fields of ``SelectionRules``, such as ``keep_fraction`` and ``by``.

        Raises:
            UsageError: The rules are wrong, or name an unknown field; the message lists the fields.
            StatisticsError: A rule needs reference distributions that the statistics do not have.

        Examples:
            >>> from i0tscore import clip_score
            >>> result = clip_score(np.eye(2), np.array([[1.0, 0.0], [1.0, 1.0]]), ids=["dog", "cat"])
            >>> result.select("CLIPScore >= 2").kept.tolist()
            [True, False]
        """
        leading, metrics = self.leading, list(self.values())
        fields: dict[str, Column | None] = {metric.name: metric.values for metric in (leading, *metrics)}
        for name in PER_METRIC:
            fields[name] = getattr(leading, name)
            fields |= {f"{name}({metric.name})": getattr(metric, name) for metric in metrics}
        fields |= dict.fromkeys(_BREAKDOWN, None) | (self.breakdown or {})
        for name in ("tokens", "tokens_cut"):
            counts = getattr(self, name)
            fields[name] = None if counts is None else counts.astype(np.float64)
        misfit = (
            "The statistics do not fit this run, so p_match, percentiles, and the expected precision are not valid. "
            "Fit statistics to similar pairs that match (i0tscore fit). Without such pairs, fit statistics to this "
            "input, and choose the threshold with --keep-precision and --precision-from input."
        )
        repeated = self.statistics_fit.notes[1:] if self.statistics_fit is not None else []
        return select(
            Scored(
                fields,
                {metric.name: metric.reference for metric in metrics if metric.reference is not None},
                self.ids,
                self.captions,
                self.ids if images is None else images,
                self.sample_notes,
            ),
            keep if isinstance(keep, SelectionRules) else SelectionRules(keep=keep, **rules),
            self.skipped,
            notes=(*([misfit] if self.misfit else []), *(note for note in self.notes if note not in repeated)),
            signatures={metric.name: metric.signature for metric in metrics},
        )

    def figures(self) -> dict[str, str]:
        """Return the number of samples, and the mean of each metric."""
        skipped = {"skipped": str(len(self.skipped))} if self.skipped else {}
        return {"n": str(self.n), **{name: format_estimate(m.estimate) for name, m in self.items()}, **skipped}

    def columns(self, rows: slice = slice(None)) -> dict[str, Sequence[Any]]:
        """Return columns of text and numbers by name, with one value per sample; None where undefined.

        ``rows`` are the samples to return, all by default.

        The columns are ``id``, ``caption``, ``context`` if contexts were given, ``tokens``, ``tokens_cut``; for each
        metric its name and ``<metric>.percentile_matched``, ``.percentile_mismatched``, ``.p_match``, ``.rank``,
        ``.rank_of``; the parts of the breakdown; and ``notes``.

        Examples:
            >>> from i0tscore import clip_score
            >>> result = clip_score(np.eye(2), np.eye(2), ids=["dog", "cat"])
            >>> result.to_pandas()[["id", "CLIPScore", "CLIPScore.rank"]]
                id  CLIPScore  CLIPScore.rank
            0  dog        2.5               1
            1  cat        2.5               1
        """
        table: dict[str, Sequence[Any]] = {
            "id": self.ids[rows],
            "caption": self.captions[rows] or [None] * len(self.ids[rows]),
            **({"context": self.contexts[rows]} if self.contexts else {}),
        }
        numbers: dict[str, NDArray[Any] | None] = {"tokens": self.tokens, "tokens_cut": self.tokens_cut}
        for name, metric in self.items():
            numbers[name] = metric.values
            for field_name in DETAILS:
                numbers[f"{name}.{field_name}"] = getattr(metric, field_name)
            numbers |= {f"{name}.rank": metric.rank, f"{name}.rank_of": metric.rank}
        numbers |= self.breakdown or {}
        table |= {
            name: cells(column if column is None else column[rows], len(table["id"]))
            for name, column in numbers.items()
        }
        for name, metric in self.items():  # a rank of 0 is undefined
            table[f"{name}.rank"] = [rank or None for rank in table[f"{name}.rank"]]
            table[f"{name}.rank_of"] = [rank and metric.rank_of for rank in table[f"{name}.rank"]]
        return {**table, "notes": ["; ".join(self.sample_notes.get(i, ())) for i in range(self.n)[rows]]}

    def tables(self) -> list[Table]:
        """Return the summary, and the samples with the lowest scores."""
        lowest = np.argsort(self.leading.values, kind="stable")[:_LOWEST].tolist()  # undefined ones come last
        samples = self.sample_table(lowest)._replace(title=f"Lowest {self.leading.name}")
        return [self.summary_table(), *([samples] if self.n else [])]

    def summary_table(self) -> Table:
        """Return one row per metric: mean, interval, number of scores, and reference quartiles if known."""
        clipped, scaled = any(m.zeros for m in self.values()), any(m.scale is not None for m in self.values())
        header = ["metric", "mean", f"{100 * self.leading.confidence:g}% interval", "n"]
        header += ["clipped to 0"] * clipped + self._marked("matched pairs", "mismatched pairs") * scaled
        rows = []
        for name, metric in self.items():
            count = np.count_nonzero(~np.isnan(metric.values))
            quartiles = (None, None) if metric.scale is None else metric.scale[:2]
            interval = " to ".join(map(format_number, metric.interval or ())) or UNDEFINED
            row = [name, format_number(metric.mean), interval, str(count)]
            row += [f"{metric.zeros:.0%}"] * clipped
            if scaled:
                row += [UNDEFINED if qs is None else " ".join(format_number(q, 2) for q in qs) for qs in quartiles]
            rows.append(row)
        return Table(header, rows, wrap=False)

    def sample_table(self, positions: Sequence[int] | None = None) -> Table:
        """Return one row per sample: id, caption, every metric, and for the leading one p(match) and rank.

        Columns that would be empty are left out. The headings name the leading metric if it is not the first one.

        Args:
            positions: Positions of the samples to list; None for all.
        """
        metrics, leading = list(self.values()), self.leading
        parts = {} if self.breakdown is None else {part: self.breakdown[part] for part in _BREAKDOWN}
        captioned = bool(self.captions)
        header = ["id", *["caption"] * captioned, *self]
        of = "" if leading is metrics[0] else f" of {leading.name}"
        header += self._marked(f"p(match){of}") * (leading.p_match is not None) + [
            f"rank{of}",
            *(part.replace("_", " ") for part in parts),
        ]
        rows = []
        for i in range(self.n) if positions is None else positions:
            row = [self.ids[i], *self.captions[i : i + 1], *(format_number(metric.values[i]) for metric in metrics)]
            if leading.p_match is not None:
                row.append(format_number(leading.p_match[i], 2))
            row.append(f"{leading.rank[i]}/{leading.rank_of}" if leading.rank[i] else UNDEFINED)
            rows.append([*row, *(format_number(column[i]) for column in parts.values())])
        widths = {"id": _LONGEST_ID, **({"caption": None} if captioned else {})}
        return Table(header, rows, left=1 + captioned, details=True, shorten=widths, spare=len(parts))

    @property
    def misfit(self) -> bool:
        """Whether fixed statistics do not fit the run, so that percentiles and p_match are not valid."""
        return self.statistics_fit is not None and not self.statistics_fit.fits

    def _marked(self, *headings: str) -> list[str]:
        """Return headings of what depends on reference pairs, with an asterisk if the statistics do not fit."""
        return [f"{heading}*" if self.misfit else heading for heading in headings]

    def plot(self, metric: str | None = None, ax: Any = None) -> Any:
        """Plot the distribution of a metric's scores, over those of matched and mismatched reference pairs.

        Args:
            metric: Name of the metric; if None, the first metric with reference pairs, or else the first metric.
            ax: Matplotlib axes to draw on; new axes if None.

        Returns:
            The axes.

        Raises:
            MissingExtraError: matplotlib is not installed.
            UsageError: There is no such metric.

        Examples:
            >>> from i0tscore import clip_score
            >>> ax = clip_score(np.eye(2), np.eye(2)).plot()
            >>> ax.get_xlabel()
            'CLIPScore'
        """
        if metric is not None:
            require_name("metric", metric, self.metrics)
        found = self.leading if metric is None else self[metric]
        return plot_scores(found.name, found.values, found.mean, found.reference, ax)

    def to_dict(self, *, per_sample: bool = True) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/result.schema.json``; undefined values are None."""
        data = {
            "schema": self.SCHEMA,
            "n": self.n,
            "skipped": plain(self.skipped),
            "scores": plain(self.metrics),
            "gap": {"measure": "centroid_distance", **self.gap} if self.gap else None,
            "statistics_fit": plain(self.statistics_fit),
            "notes": list(self.notes),
        }
        return {**data, "samples": [sample.to_dict() for sample in self.samples]} if per_sample else data

    def to_json(self, *, per_sample: bool = True, indent: int | None = 2) -> str:
        """Return the result as JSON, without NaN."""
        return dumps(self.to_dict(per_sample=per_sample), indent)

    def to_jsonl(self) -> str:
        """Return one line of JSON per sample."""
        return "".join(self.json_lines())

    def json_lines(self) -> Iterator[str]:
        """Yield the lines of ``to_jsonl``, so that a large run can be written piece by piece."""
        return (dumps(sample.to_dict()) + "\n" for sample in self.samples)

    def to_html(
        self, path: str | Path | None = None, images: Images | None = None, *, thumbnails: int | None = None
    ) -> str:
        """Return the result as a page that explains the scores and lists the samples, worst first.

        The page is a single file that loads nothing from the network.

        Args:
            path: File to write the page to; None to only return it.
            images: One image per sample, as for ``I0TScorer.score``, or a dict of images by sample id if samples were
                skipped; None for a page without images.
            thumbnails: Maximum number of samples with a thumbnail; 500 if None.

        Raises:
            InputError: The number of images differs from the number of samples.
            MissingExtraError: Jinja2 is not installed.

        Examples:
            >>> from i0tscore import clip_score
            >>> page = clip_score(np.eye(2), np.eye(2)).to_html()
            >>> "The mean CLIPScore of 2 captions is 2.500" in page
            True
        """
        reference = {name: metric.reference for name, metric in self.items() if metric.reference is not None}
        explanations = {i: explanation.fragment() for i, explanation in self.explanations.items()}
        page = score_page(
            self.to_dict(), reference=reference, images=images, thumbnails=thumbnails, explanations=explanations
        )
        if path is not None:
            replace_file(Path(path), page.encode("utf-8", "backslashreplace"))
        return page


class SampleSequence(Sequence[SampleResult]):
    """The samples of a result, computed one at a time so that large runs stay small."""

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
            return [self[i] for i in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"Expected a position from {-len(self)} to {len(self) - 1}, got {position}.")
        r, i = self._result, position % len(self)
        scores = {
            name: SampleScore(
                at(metric.values, i),
                at(metric.percentile_matched, i),
                at(metric.percentile_mismatched, i),
                at(metric.p_match, i),
                (int(metric.rank[i]), metric.rank_of) if metric.rank[i] else None,
            )
            for name, metric in r.metrics.items()
        }
        return SampleResult(
            id=r.ids[i],
            caption=r.captions[i] if r.captions else None,
            tokens=None if r.tokens is None else int(r.tokens[i]),
            tokens_cut=None if r.tokens_cut is None else int(r.tokens_cut[i]),
            breakdown=None if r.breakdown is None else {name: at(column, i) for name, column in r.breakdown.items()},
            scores=scores,
            notes=r.sample_notes.get(i, ()),
            context=r.contexts[i] if r.contexts else None,
            explanation=r.explanations.get(i),
        )


def _concat(columns: Sequence[NDArray[Any] | None]) -> Any:
    """Join a column of several parts; None if a part lacks it."""
    found = [column for column in columns if column is not None]
    return np.concatenate(found) if len(found) == len(columns) else None


def _concat_metric(parts: Sequence[MetricResult], n: int) -> MetricResult:
    values = _concat([part.values for part in parts])
    defined = values[~np.isnan(values)]
    return replace(
        parts[0],
        mean=float(defined.mean()) if len(defined) else None,
        interval=None,
        signature=parts[0].signature.with_field("n", str(n)),
        zeros=float((defined == 0).mean()) if len(defined) else 0.0,
        values=values,
        **{name: _concat([getattr(part, name) for part in parts]) for name in DETAILS},
        rank=np.zeros(n, dtype=np.int64),
        rank_of=0,
    )


def cells(column: NDArray[Any] | None, n: int) -> list[Any]:
    """Return the numbers of a column (n,), with None for NaN, or for all of them without a column."""
    return [None] * n if column is None else [None if value != value else value for value in column.tolist()]


def at(column: Column | None, i: int) -> float | None:
    """Return the i-th number of a column; None if there is no column or the number is NaN."""
    if column is None or np.isnan(column[i]):
        return None
    return float(column[i])
