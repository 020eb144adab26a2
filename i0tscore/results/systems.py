"""Systems compared on the same samples: means, paired differences, wins and losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.results.comparison import Difference, compare_means
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean
from i0tscore.results.pairing import common_signatures, require_same_ids
from i0tscore.results.saved import RunScores
from i0tscore.results.signature import Signature
from i0tscore.samples import Skipped

COMPARISON_SCHEMA = "i0tscore.comparison/1"


class Outcomes(NamedTuple):
    """On how many samples a system scores higher than, the same as, and lower than the baseline."""

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """Systems under one metric.

    Attributes:
        n: Ids with a score in every system.
        groups: Images that were resampled.
        means: By system, over those ids.
        differences: From the baseline, by system.
        outcomes: Against the baseline, by system.
        signature: How the scores were made; None where that is not known.
    """

    n: int
    groups: int
    means: dict[str, Estimate]
    differences: dict[str, Difference]
    outcomes: dict[str, Outcomes]
    signature: Signature | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        systems = {}
        for name, mean in self.means.items():
            difference, outcomes = self.differences.get(name), self.outcomes.get(name)
            systems[name] = {
                "mean": mean.to_dict(),
                "difference": None if difference is None else difference.to_dict(),
                **(dict.fromkeys(Outcomes._fields) if outcomes is None else outcomes._asdict()),
            }
        signature = None if self.signature is None else str(self.signature)
        return {"n": self.n, "groups": self.groups, "systems": systems, "signature": signature}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two or more systems under one or more metrics.

    Attributes:
        systems: Their names, in the order given.
        baseline: The one the others are compared with.
        metrics: By name.
        resampling: Of the intervals.
        skipped: Samples left out.
        notes: What a reader should know.
    """

    systems: tuple[str, ...]
    baseline: str
    metrics: dict[str, MetricComparison]
    resampling: Resampling
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema ``i0tscore.comparison/1``; what is undefined is None."""
        return {
            "schema": COMPARISON_SCHEMA,
            "systems": list(self.systems),
            "baseline": self.baseline,
            "resampling": {"over": "images", **asdict(self.resampling)},
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "skipped": [skipped._asdict() for skipped in self.skipped],
            "notes": list(self.notes),
        }


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
        systems: By name, at least two; several scores of one id are averaged.
        baseline: The one the others are compared with.
        images: Image by id; each id is taken for an image of its own if None.
        resampling: Of the intervals; the default is 1,000 resamples at 95 %.
        skipped: Samples left out, for the result.
        notes: For the result, before its own.

    Raises:
        InputError: The ids differ, no metric is common to all, or signatures differ.

    Example:
        >>> import numpy as np
        >>> ids = tuple("abcdefgh")
        >>> one = RunScores(ids, {"CLIPScore": np.arange(8.0)}, {})
        >>> two = RunScores(ids[::-1], {"CLIPScore": np.arange(8.0)[::-1] + 1}, {})
        >>> comparison = compare_systems({"one": one, "two": two}, "one")
        >>> comparison.metrics["CLIPScore"].outcomes["two"]
        Outcomes(wins=8, ties=0, losses=0)
    """
    settings = resampling or Resampling()
    require_same_ids({name: run.ids for name, run in systems.items()})
    names = [m for m in systems[baseline].values if all(m in run.values for run in systems.values())]
    if not names:
        listed = "; ".join(f"{name}: {', '.join(run.values)}" for name, run in systems.items())
        raise InputError(f"no metric is in all systems ({listed}): score them by the same metrics")
    signatures = common_signatures(systems, names)
    ids = sorted(set(systems[baseline].ids))
    clusters = np.array([image if images is None else images[image] for image in ids])
    metrics, undefined = {}, []
    for name in names:
        values = {system: _by_id(run.ids, run.values[name]) for system, run in systems.items()}
        metrics[name] = _compare(values, clusters, baseline, signatures.get(name), settings)
        if missing := len(ids) - metrics[name].n:
            undefined.append(f"{name} is undefined for {missing} ids in some system; they are left out of all")
    said = [*notes, *_averaged(systems), *undefined, *_left_out(systems, names)]
    return Comparison(tuple(systems), baseline, metrics, settings, tuple(skipped), tuple(said))


def _compare(
    values: Mapping[str, NDArray[np.float64]],
    clusters: NDArray[Any],
    baseline: str,
    signature: Signature | None,
    resampling: Resampling,
) -> MetricComparison:
    keep = ~np.isnan(np.stack(list(values.values()))).any(axis=0)
    values, clusters = {name: column[keep] for name, column in values.items()}, clusters[keep]
    means = {
        name: Estimate(float(column.mean()) if len(column) else None, bootstrap_mean(column, clusters, resampling))
        for name, column in values.items()
    }
    differences = compare_means(values, clusters, baseline, resampling=resampling)
    signs = {name: np.sign(column - values[baseline]) for name, column in values.items() if name != baseline}
    return MetricComparison(
        len(clusters),
        len(set(clusters.tolist())),
        means,
        {difference.first: difference for difference in differences},
        {name: Outcomes(*(int((sign == s).sum()) for s in (1, 0, -1))) for name, sign in signs.items()},
        signature,
    )


def _by_id(ids: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the defined scores of each id, in the order of the sorted ids; NaN where none is."""
    labels = np.unique(np.array(ids, dtype=object), return_inverse=True)[1]
    defined = ~np.isnan(values)
    counts = np.bincount(labels[defined], minlength=labels.max() + 1)
    sums = np.bincount(labels[defined], values[defined], minlength=labels.max() + 1)
    means: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _averaged(systems: Mapping[str, RunScores]) -> Iterable[str]:
    for system, run in systems.items():
        most = max(Counter(run.ids).values())
        if most > 1:
            yield (
                f"{system} has {len(run.ids)} captions for {len(set(run.ids))} ids: the scores of each id "
                "are averaged before the systems are paired"
            )


def _left_out(systems: Mapping[str, RunScores], names: Sequence[str]) -> Iterable[str]:
    others = dict.fromkeys(m for run in systems.values() for m in run.values if m not in names)
    if others:
        yield f"not in every system and left out: {', '.join(others)}"
