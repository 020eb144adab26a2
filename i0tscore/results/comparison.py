"""Comparison of systems on the same samples: saved scores, pairing, means, paired differences, wins and losses."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError, SampleFileError, UsageError
from i0tscore.render.document import UNDEFINED, Table
from i0tscore.render.score_plot import plot_differences
from i0tscore.results.intervals import (
    Difference,
    Estimate,
    Resampling,
    bootstrap_mean,
    cluster_labels,
    cluster_weights,
    difference_row,
    format_estimate,
    paired_differences,
)
from i0tscore.results.report import NOT_IN_JSON, Part, Report, SampleColumns, Signature, require_name
from i0tscore.results.result import Result, cells
from i0tscore.samples import Skipped
from i0tscore.samples.diagnostics import Diagnostics, Location, Record, describe, preview
from i0tscore.samples.ratings import ROUNDING
from i0tscore.samples.source import Source, read_json_lines
from i0tscore.samples.text import BROKEN

RUN_FIELDS = ("n", "skipped", "bs", "seed")
"""Signature fields in which compared runs may differ: the number of samples and the runs' own bootstrap."""

_HEAD_BYTES = 1 << 16
_LISTED_IDS = 10
_WRITTEN_BY = "`i0tscore score --format json` or `--format jsonl`"


@dataclass(frozen=True, slots=True)
class SystemComparison(Part):
    """One system under one metric; all but the mean are None for the baseline itself.

    Attributes:
        mean: Mean over the ids of the comparison.
        difference: Difference from the baseline.
        wins: Number of ids on which the system scores higher than the baseline.
        ties: Number of ids on which both score the same, up to ``ROUNDING``.
        losses: Number of ids on which the system scores lower.
    """

    mean: Estimate
    difference: Difference | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None


@dataclass(frozen=True, slots=True)
class MetricComparison(Part):
    """Comparison of systems under one metric.

    Attributes:
        n: Number of ids with a score in every system.
        groups: Number of images that were resampled.
        systems: Mean and comparison with the baseline by system.
        signature: Signature of the scores; None if it is not known.
    """

    n: int
    groups: int
    systems: dict[str, SystemComparison]
    signature: Signature | None


@dataclass(frozen=True, slots=True, eq=False)
class PairedSamples:
    """The samples behind a comparison.

    Attributes:
        ids: Ids (n).
        images: Image of each id (n).
        captions: Captions (n) by system, one per line if an id has several; systems with unknown captions are left out.
        values: Scores (n,) by metric and system, float64; NaN where undefined.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    captions: dict[str, tuple[str, ...]]
    values: dict[str, dict[str, NDArray[np.float64]]]

    def common(self, metric: str) -> NDArray[np.int64]:
        """Return the positions of the ids with a score in every system."""
        return np.flatnonzero(~np.isnan(np.stack(list(self.values[metric].values()))).any(axis=0))


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(SampleColumns, Report):
    """Comparison of two or more systems under one or more metrics.

    Notebooks show the means and the differences.

    Attributes:
        systems: Names of the systems in the order given.
        baseline: System that the others are compared with.
        metrics: Comparison by metric.
        samples: The samples behind the comparison; not part of the JSON.
    """

    SCHEMA = "i0tscore.comparison/1"

    systems: tuple[str, ...]
    baseline: str
    resampling: Resampling
    metrics: dict[str, MetricComparison]
    samples: PairedSamples = field(repr=False, compare=False, metadata=NOT_IN_JSON)
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, str]:
        """Return the number of ids, and the differences of each metric."""
        found = {
            f"{name}({system} − {self.baseline})": format_estimate(compared.difference.estimate, signed=True)
            for name, metric in self.metrics.items()
            for system, compared in metric.systems.items()
            if compared.difference is not None
        }
        skipped = {"skipped": str(len(self.skipped))} if self.skipped else {}
        return {"ids": str(len(self.samples.ids)), **found, **skipped}

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return columns of text and numbers by name, with one value per id; None where undefined.

        The columns are ``id``, ``image``, ``caption.<system>`` where known, and ``<metric>.<system>``. Several scores
        of one id are averaged.

        Examples:
            >>> import numpy as np
            >>> one = RunScores(("x", "y"), {"CLIPScore": np.array([1.0, 0.0])}, {})
            >>> two = RunScores(("y", "x"), {"CLIPScore": np.array([1.0, 1.0])}, {})
            >>> compare_systems({"a": one, "b": two}, "a").to_pandas()
              id image  CLIPScore.a  CLIPScore.b
            0  x     x          1.0          1.0
            1  y     y          0.0          1.0
        """
        captions = {f"caption.{system}": texts for system, texts in self.samples.captions.items()}
        scores = {
            f"{name}.{system}": cells(column, len(column))
            for name, systems in self.samples.values.items()
            for system, column in systems.items()
        }
        return {"id": self.samples.ids, "image": self.samples.images, **captions, **scores}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield ``columns`` as one dictionary per id."""
        columns = self.columns()
        return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))

    def tables(self) -> list[Table]:
        """Return one table per metric: means, differences from the baseline, wins and losses."""
        header = ["system", "mean", "difference", "p", "Holm's p", "higher", "equal", "lower"]
        tables = []
        for name, metric in self.metrics.items():
            rows = []
            for system, compared in metric.systems.items():
                row = ["baseline", *[UNDEFINED] * 5]
                if compared.difference is not None:
                    outcomes = (compared.wins, compared.ties, compared.losses)
                    row = [*difference_row(compared.difference), *map(str, outcomes)]
                rows.append([system, format_estimate(compared.mean), *row])
            tables.append(Table(header, rows, f"{name}, {metric.n} ids, {metric.groups} images"))
        return tables

    def plot(self, metric: str | None = None, system: str | None = None, ax: Any = None) -> Any:
        """Plot the distribution of a system's differences from the baseline, over the ids that all systems score.

        Args:
            metric: Name of the metric; the first one if None.
            system: Name of the system; the first one other than the baseline if None.
            ax: Matplotlib axes to draw on; new axes if None.

        Returns:
            The axes.

        Raises:
            MissingExtraError: matplotlib is not installed.
            UsageError: There is no such metric or system.
        """
        others = [name for name in self.systems if name != self.baseline]
        metric, system = metric or next(iter(self.metrics)), system or others[0]
        require_name("metric", metric, self.metrics)
        require_name("system", system, others)
        values, rows = self.samples.values[metric], self.samples.common(metric)
        difference = self.metrics[metric].systems[system].difference
        gains = score_gains(values[system], values[self.baseline])[rows]
        interval = None if difference is None else difference.estimate.interval
        return plot_differences(metric, (system, self.baseline), gains, interval, ax)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/comparison.schema.json``; undefined values are None."""
        return {**Report.to_dict(self), "resampling": {"over": "images", **self.resampling.to_dict()}}


@dataclass(frozen=True, slots=True, eq=False)
class RunScores:
    """Scores of one run, or of one system's captions in a run.

    Attributes:
        ids: Sample ids (n).
        values: Scores (n,) by metric, float64; NaN where undefined.
        signatures: Signatures by metric; empty if they are not known, as for JSON lines.
        captions: Captions (n); empty if unknown.
    """

    ids: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    signatures: dict[str, Signature]
    captions: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: Result) -> Self:
        """Return the scores of a result."""
        metrics = result.metrics.items()
        values = {name: metric.values for name, metric in metrics}
        return cls(result.ids, values, {name: metric.signature for name, metric in metrics}, result.captions)


def compare_systems(
    systems: Mapping[str, RunScores],
    baseline: str,
    *,
    images: Mapping[str, str] | None = None,
    resampling: Resampling | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare systems that scored the same ids under the same settings.

    Args:
        systems: Scores by system, at least two; several scores of one id are averaged.
        baseline: System to compare the others with.
        images: Image by id; if None, each id counts as an image of its own.
        resampling: Settings of the intervals; 1,000 resamples at 95% if None.
        skipped: Samples left out, for the report.
        notes: Notes for the report, listed before its own.

    Raises:
        InputError: The ids or the signatures differ, or no metric is common to all systems.
        UsageError: There are fewer than two systems, or the baseline is none of them.

    Examples:
        >>> import numpy as np
        >>> ids = tuple("abcdefgh")
        >>> one = RunScores(ids, {"CLIPScore": np.arange(8.0)}, {})
        >>> two = RunScores(ids[::-1], {"CLIPScore": np.arange(8.0)[::-1] + 1}, {})
        >>> comparison = compare_systems({"one": one, "two": two}, "one")
        >>> comparison.metrics["CLIPScore"].systems["two"].wins
        8
    """
    settings = resampling or Resampling()
    if len(systems) < 2:
        raise UsageError(f"Expected at least two systems, got {len(systems)}. Add the results of another system.")
    require_name("system", baseline, systems)
    require_same_ids({name: run.ids for name, run in systems.items()})
    names = [m for m in systems[baseline].values if all(m in run.values for run in systems.values())]
    if not names:
        listed = "; ".join(f"{name}: {', '.join(run.values)}" for name, run in systems.items())
        raise InputError(f"Expected a metric that all systems have, got {listed}. Score them with the same metrics.")
    signatures = _common_signatures(systems, names)
    ids = sorted(set(systems[baseline].ids))
    shown = [name if images is None else images[name] for name in ids]
    clusters = np.array(shown)
    notes = [*notes]
    for system, run in systems.items():
        if len(run.ids) > len(ids):
            notes.append(
                f"{system} has {len(run.ids)} captions for {len(ids)} ids. The scores of each id are averaged before "
                "the systems are paired."
            )
    metrics, paired = {}, {}
    for name in names:
        paired[name] = values = {system: _means_by_id(run.ids, run.values[name]) for system, run in systems.items()}
        metrics[name] = metric = _compare_metric(values, clusters, baseline, signatures.get(name), settings)
        if metric.n < len(ids):
            count = len(ids) - metric.n
            notes.append(f"{name} is undefined for {count} ids in some system. They are left out of all systems.")
    if others := dict.fromkeys(m for run in systems.values() for m in run.values if m not in names):
        notes.append(f"Left out because not every system has them: {', '.join(others)}.")
    captions = {system: _captions_by_id(run, ids) for system, run in systems.items() if run.captions}
    samples = PairedSamples(tuple(ids), tuple(shown), captions, paired)
    return Comparison(tuple(systems), baseline, settings, metrics, samples, tuple(skipped), tuple(notes))


def compare_results(
    results: Mapping[str, Result | str | Path],
    baseline: str,
    *,
    metrics: Sequence[str] = (),
    resampling: Resampling | None = None,
) -> Comparison:
    """Compare results, in memory or saved by ``i0tscore score`` as JSON or JSON lines.

    Args:
        results: Results or files by system, at least two.
        baseline: System to compare the others with.
        metrics: Names of metrics as in the results; empty for all that every result has.
        resampling: Settings of the intervals. Default: 1,000 resamples at 95%.

    Raises:
        InputError: A file cannot be read, or the ids or signatures differ.
        UsageError: A metric is missing in a result, there are fewer than two results, or the baseline is none of them.

    Examples:
        >>> from i0tscore import i0t_score
        >>> images = np.eye(2, 256)  # embeddings
        >>> first = i0t_score(images, ["a dog", "a cat"], model="lite")
        >>> second = i0t_score(images, ["a dog", "a car"], model="lite")
        >>> comparison = compare_results({"first": first, "second": second}, "first")
        >>> comparison.metrics["I0TScore"].systems["second"].ties
        1
    """
    runs = {
        name: RunScores.of(result) if isinstance(result, Result) else read_scores(Path(result))
        for name, result in results.items()
    }
    for name, run in runs.items():
        if missing := [metric for metric in metrics if metric not in run.values]:
            raise UsageError(f"{missing[0]} is not in {name}, which has {', '.join(run.values)}.")
    if metrics:
        runs = {n: replace(r, values={m: r.values[m] for m in metrics}) for n, r in runs.items()}
    notes = ["Results do not name images, so each id counts as an image of its own."]
    unsigned = [name for name, run in runs.items() if not run.signatures]
    if unsigned:
        notes.append(
            f"{', '.join(unsigned)}: JSON lines have no signatures, so it cannot be checked whether the systems were "
            "scored with the same settings. Save results as JSON to include them."
        )
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    return compare_systems(runs, baseline, resampling=resampling, notes=notes)


def compare_means(
    values: Mapping[str, NDArray[Any]],
    clusters: Sequence[Any] | NDArray[Any] | None,
    baseline: str,
    *,
    resampling: Resampling | None = None,
) -> list[Difference]:
    """Compare the means of systems with a baseline's on the same samples, by paired bootstrap over clusters.

    Args:
        values: Scores (n,) by system, in the same order of samples; samples where any is NaN are left out.
        clusters: Image of each sample (n,); None resamples samples.
        baseline: System to compare the others with.
        resampling: Settings of the intervals; 1,000 resamples at 95% if None.

    Examples:
        >>> import numpy as np
        >>> scores = np.random.default_rng(0).normal(size=40)
        >>> better, = compare_means({"a": scores, "b": scores + 0.1}, None, "a")
        >>> round(better.estimate.value, 3), better.p_value < 0.05
        (0.1, True)
    """
    settings = resampling or Resampling()
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    keep = np.array(~np.isnan(np.stack(list(columns.values()))).any(axis=0), dtype=np.bool_)
    labels, groups = cluster_labels(clusters, keep)
    others = [name for name in columns if name != baseline]
    gains = np.stack([(columns[name] - columns[baseline])[keep] for name in others], axis=1)
    draws = np.full((settings.resamples, len(others)), np.nan)
    for i, weights in enumerate(cluster_weights(labels, groups, settings)):
        draws[i] = weights @ gains / weights.sum()
    observed = [float(mean) for mean in gains.mean(axis=0)] if len(gains) else [None] * len(others)
    differences = {name: (observed[k], draws[:, k]) for k, name in enumerate(others)}
    return paired_differences(differences, baseline, settings.confidence, groups)


def score_gains(scores: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores minus baseline scores (n,); differences up to ``ROUNDING`` count as 0.

    Examples:
        >>> score_gains(np.array([0.3, 0.3000001]), np.array([0.2, 0.3])).round(3).tolist()
        [0.1, 0.0]
    """
    equal = np.isclose(scores, baseline, rtol=ROUNDING, atol=ROUNDING)
    gains: NDArray[np.float64] = np.where(equal, 0.0, scores - baseline)
    return gains


def require_same_ids(systems: Mapping[str, Iterable[str]]) -> None:
    """Raise InputError, which lists the ids that some systems lack, unless all systems have the same ids."""
    owners: dict[str, list[str]] = {}
    for system, ids in systems.items():
        for name in dict.fromkeys(ids):
            owners.setdefault(name, []).append(system)
    partial: dict[str, list[str]] = {}
    for name, having in owners.items():
        if len(having) < len(systems):
            partial.setdefault(" and ".join(having), []).append(name)
    if partial:
        lines = [f"  only in {having}: {len(ids)} ({preview(ids, _LISTED_IDS)})" for having, ids in partial.items()]
        head = "Expected the same ids in all systems, so that they can be paired. Add or remove captions:"
        raise InputError("\n".join([head, *lines]))


def is_result_file(path: Path) -> bool:
    """Return whether a file looks like a result, by its schema or by the scores in its first line.

    A pipe is none, because it can be read only once.
    """
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace").lstrip()
    except OSError:
        return False  # whatever reads the file reports the error
    if f'"{Result.SCHEMA.partition("/")[0]}/' in head[:200]:
        return True
    try:
        record = json.loads(head.partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "id" in record and isinstance(record.get("scores"), dict)


def read_scores(path: Path) -> RunScores:
    """Read the scores of a result saved as JSON or JSON lines.

    Raises:
        InputError: The file cannot be read.
        SampleFileError: The file has errors; the message lists all of them.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.jsonl")
        >>> _ = file.write_text('{"id": "dog", "scores": {"CLIPScore": {"value": 0.7}}}')
        >>> read_scores(file).values
        {'CLIPScore': array([0.7])}
    """
    diagnostics = Diagnostics()
    in_lines = path.suffix.lower() in (".jsonl", ".ndjson")
    records, signatures = (
        (read_json_lines(Source(path, diagnostics)), {}) if in_lines else _read_json_result(path, diagnostics)
    )
    if not records and not diagnostics.any:
        diagnostics.file_error("Expected samples, found none.")
    names = list(dict.fromkeys(name for _, record in records for name in _scores(record)))
    columns: dict[str, list[float]] = {name: [] for name in names}
    for location, record in records:
        if not isinstance(record.get("id"), str) or not _scores(record):
            diagnostics.row_error(location, f'Expected "id" and "scores", as written by {_WRITTEN_BY}.')
            continue
        for name in names:
            columns[name].append(_score_value(_scores(record).get(name), location, name, diagnostics))
    diagnostics.finish(path, len(records))
    values = {name: np.array(column) for name, column in columns.items()}
    captions = tuple(text for _, record in records if isinstance(text := record.get("caption"), str))
    known = len(captions) == len(records)  # not for embeddings
    return RunScores(tuple(record["id"] for _, record in records), values, signatures, captions if known else ())


def _common_signatures(systems: Mapping[str, RunScores], names: Iterable[str]) -> dict[str, Signature]:
    """Return one signature per metric, without ``RUN_FIELDS``; empty if some system has none.

    Raises:
        InputError: Signatures differ; the message lists every differing field.
    """
    if not all(run.signatures for run in systems.values()):
        return {}
    common, lines = {}, []
    for name in names:
        signatures = {system: run.signatures[name] for system, run in systems.items() if name in run.signatures}
        fields = {system: dict(signature.fields) for system, signature in signatures.items()}
        for key in dict.fromkeys(key for own in fields.values() for key in own if key not in RUN_FIELDS):
            values = {system: own.get(key, "nothing") for system, own in fields.items()}
            if len(set(values.values())) > 1:
                listed = ", ".join(f"{value} in {system}" for system, value in values.items())
                lines.append(f"  {name}, {key}: {listed}")
        first = next(iter(signatures.values()))
        common[name] = replace(first, fields=tuple(f for f in first.fields if f[0] not in RUN_FIELDS))
    if lines:
        head = (
            "Expected systems scored with the same settings. Score them again with the same ones, or give their "
            "captions instead of results:"
        )
        raise InputError("\n".join([head, *lines]))
    return common


def _compare_metric(
    values: Mapping[str, NDArray[np.float64]],
    clusters: NDArray[Any],
    baseline: str,
    signature: Signature | None,
    resampling: Resampling,
) -> MetricComparison:
    keep = ~np.isnan(np.stack(list(values.values()))).any(axis=0)
    values, clusters = {name: column[keep] for name, column in values.items()}, clusters[keep]
    differences = {d.first: d for d in compare_means(values, clusters, baseline, resampling=resampling)}
    systems = {}
    for name, column in values.items():
        mean = Estimate(float(column.mean()) if len(column) else None, bootstrap_mean(column, clusters, resampling))
        signs = np.sign(score_gains(column, values[baseline]))
        outcomes = () if name == baseline else [int((signs == sign).sum()) for sign in (1, 0, -1)]
        systems[name] = SystemComparison(mean, differences.get(name), *outcomes)
    return MetricComparison(len(clusters), len(set(clusters.tolist())), systems, signature)


def _means_by_id(ids: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the defined scores of each id, in the order of the sorted ids; NaN if there are none."""
    labels = np.unique(np.array(ids, dtype=object), return_inverse=True)[1]
    defined = ~np.isnan(values)
    counts = np.bincount(labels[defined], minlength=labels.max() + 1)
    sums = np.bincount(labels[defined], values[defined], minlength=labels.max() + 1)
    means: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _captions_by_id(run: RunScores, ids: Sequence[str]) -> tuple[str, ...]:
    captions: dict[str, list[str]] = {}
    for name, caption in zip(run.ids, run.captions, strict=True):
        captions.setdefault(name, []).append(caption)
    return tuple("\n".join(captions[name]) for name in ids)


def _read_json_result(path: Path, diagnostics: Diagnostics) -> tuple[list[Record], dict[str, Signature]]:
    data = Source(path, diagnostics).document
    if data is BROKEN:
        return [], {}
    if not isinstance(data, dict) or data.get("schema") != Result.SCHEMA:
        diagnostics.file_error(f'Expected a result with the schema "{Result.SCHEMA}", as written by {_WRITTEN_BY}.')
        return [], {}
    samples = data.get("samples")
    if not isinstance(samples, list):
        raise SampleFileError(path, ["Expected samples, found none. Score again without --no-per-sample."])
    invalid = [str(i) for i, sample in enumerate(samples, start=1) if not isinstance(sample, dict)]
    if invalid:
        diagnostics.file_error(f"Expected samples that are objects, got others: {preview(invalid)}.")
        return [], {}
    records = [(Location(i, f"sample {i}"), sample) for i, sample in enumerate(samples, start=1)]
    signatures = {
        name: Signature.parse(str(metric["signature"]))
        for name, metric in _scores(data).items()
        if isinstance(metric, dict) and "signature" in metric
    }
    return records, signatures


def _scores(record: Mapping[str, Any]) -> Mapping[str, Any]:
    scores = record.get("scores")
    return scores if isinstance(scores, dict) else {}


def _score_value(score: object, location: Location, name: str, diagnostics: Diagnostics) -> float:
    value = score.get("value") if isinstance(score, dict) else score
    if isinstance(score, dict) and "value" in score and value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        diagnostics.row_error(location, f"Expected a score of {name} with a number as value, got {describe(value)}.")
        return math.nan
    return float(value)
