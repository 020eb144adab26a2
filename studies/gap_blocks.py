"""Tables of gap reports, and the words that follow from their figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from human_judgments.report import UNDEFINED, p_value, percent, table
from i0tscore.gap import NONE
from i0tscore.gap.measures import severity
from i0tscore.render.cells import format_estimate
from i0tscore.render.gap_view import HEADINGS
from i0tscore.results import Resampling
from i0tscore.results.intervals import Difference
from i0tscore.results.retrieval import DEPTHS
from studies.gap_published import CHANGES, CONDITIONS, ROWS, SAMPLE_SIZES, Change
from studies.gap_study import FORMS, Measured, Size, expert_estimate

Differences = Mapping[str, Mapping[str, Difference]]

TASKS = {
    "to_caption": "R@1 to captions",
    "to_image": "R@1 to images",
    "accuracy": "class accuracy",
    "expert": "Expert τ-c",
}
GAP = (
    "centroid_distance",
    "linear_separability",
    "modality_accuracy",
    "minimum_cosine_distance",
    "relative_gap",
)
SAME, OTHER, OPEN = "the same way", "the other way", "cannot be told"


def gap_table(found: Mapping[str, Measured]) -> str:
    """Measures of the gap by condition."""
    header = ["standardizer", "band", *(HEADINGS[measure] for measure in GAP)]
    rows = []
    for name, one in found.items():
        if one.gap is None:
            rows.append([name, *[UNDEFINED] * (1 + len(GAP))])
        else:
            rows.append([name, one.gap.severity, *(format_estimate(one.gap[measure]) for measure in GAP)])
    return table(header, rows, left=2)


def task_table(found: Mapping[str, Measured], resampling: Resampling) -> str:
    """The tasks by condition."""
    first = next(iter(found.values()))
    header = ["standardizer", TASKS["to_caption"], TASKS["to_image"]]
    header += ["class accuracy"] * (first.classification is not None)
    header += ["class accuracy, features averaged"] * (first.by_features is not None)
    header += ["Expert τ-c", "Expert τ-c, clipped"] * bool(first.agreement)
    rows = []
    for name, one in found.items():
        recall = one.ranks[1].recall(1, resampling)
        row = [name, *map(percent, recall)]
        classified = (each for each in (one.classification, one.by_features) if each is not None)
        row += [percent(each.balanced_accuracy(resampling)) for each in classified]
        row += [percent(expert_estimate(one, form, resampling)) for form in FORMS if one.agreement]
        rows.append(row)
    return table(header, rows)


def recall_table(found: Mapping[str, Measured], each: int, resampling: Resampling) -> str:
    """R@1, R@5 and R@10 in both directions with ``each`` captions an image."""
    header = ["standardizer", *(f"R@{k} to {side}" for side in ("captions", "images") for k in DEPTHS)]
    rows = []
    for name, one in found.items():
        both = [one.ranks[each].recall(depth, resampling) for depth in DEPTHS]
        rows.append([name, *(percent(side[i]) for i in (0, 1) for side in both)])
    return table(header, rows)


def difference_table(compared: Differences, resamples: int) -> str:
    """Difference of each condition from none, task by task."""
    names = next(iter(compared.values()))
    rows = [
        [
            name,
            *(
                f"{percent(d.estimate, signed=True)}, p {p_value(d.p_holm, resamples)}"
                for d in (by_name[name] for by_name in compared.values())
            ),
        ]
        for name in names
    ]
    return table(["standardizer", *(TASKS[task] for task in compared)], rows)


def size_table(sizes: Sequence[Size]) -> str:
    """Means and ranges over draws by number of pairs, theirs beside them."""
    rows = []
    for size in sizes:
        theirs = SAMPLE_SIZES.get(size.count)
        row = [f"{size.count:,}", str(len(size.gaps)), _range(size.gaps, 1, 3), f"{size.expected:.3f}"]
        row += [_range(values, 100, 1) for values in (size.to_caption, size.to_image)]
        row += [UNDEFINED] * 3 if theirs is None else [f"{theirs[0]:.3f}", *(f"{v:.1f}" for v in theirs[1:])]
        rows.append(row)
    header = ["pairs", "draws", "CD", "CD expected", "R@1 to captions", "R@1 to images"]
    return table([*header, "their CD", "their R@1 to captions", "their R@1 to images"], rows)


def published_table() -> str:
    """Their rows."""
    rows = []
    for row in ROWS:
        tasks = [row.to_caption, row.to_image, row.accuracy, row.expert]
        cells = [f"{row.centroid_distance:.4f}", f"{row.linear_separability:.4f}"]
        rows.append([row.name, row.table, row.model, *cells, *map(_two, tasks)])
    header = ["row", "table", "model", "CD", "LS", TASKS["to_caption"], TASKS["to_image"]]
    header += ["CIFAR-100", "Expert τ"]
    return f"{CONDITIONS}\n\n" + table(header, rows, left=3)


def verdicts(
    compared: Differences, condition_of: Mapping[str, str]
) -> Iterator[tuple[Change, str, float, Difference, str]]:
    """Each published change that was tried here: change, task, points, our difference, and how they agree.

    Args:
        compared: As ``differences`` gives them.
        condition_of: By standardizer the condition that is set against theirs.
    """
    for change in CHANGES:
        for task, points in change.points():
            ours = compared.get(task, {}).get(condition_of.get(change.standardizer, ""))
            if ours is not None and ours.estimate.interval is not None:
                yield change, task, points, ours, direction(points, *ours.estimate.interval)


def replication_blocks(compared: Differences, condition_of: Mapping[str, str]) -> list[str]:
    """Their changes beside ours, and a paragraph that counts them."""
    found = list(verdicts(compared, condition_of))
    rows = [
        [
            change.said,
            change.after.model,
            condition_of[change.standardizer],
            TASKS[task],
            f"{points:+.2f}",
            percent(ours.estimate, signed=True),
            said,
        ]
        for change, task, points, ours, said in found
    ]
    header = ["their change", "their model", "ours", "task", "theirs, points", "ours, points", "reading"]
    count = {said: sum(row[-1] == said for row in rows) for said in (SAME, OTHER, OPEN)}
    opposite = [f"{row[0]} on {row[3]}, {row[4]} there, {row[5]} here" for row in rows if row[-1] == OTHER]
    text = (
        f"Of {len(rows)} changes that An et al. report and that could be tried here, {count[SAME]} go the "
        f"same way and {count[OTHER]} the other way, beyond our interval; the other {count[OPEN]} cannot be "
        f"told, since our interval holds 0. The other way: {'; '.join(opposite) or 'none'}."
    )
    return [text, table(header, rows, left=4)]


def band_blocks(found: Mapping[str, Measured], condition_of: Mapping[str, str]) -> list[str]:
    """Their centroid distances and LS beside ours, and how many fall into the same band."""
    rows: list[list[str]] = []
    for change in CHANGES:
        name = condition_of.get(change.standardizer, "")
        for standardizer, theirs in ((str(NONE), change.before), (name, change.after)):
            gap = found[standardizer].gap if standardizer in found else None
            if gap is None or any(row[0] == theirs.name for row in rows):
                continue
            band = severity(theirs.centroid_distance)
            cells = [f"{theirs.centroid_distance:.3f} {band}", f"{theirs.linear_separability:.3f}"]
            ours = [format_estimate(gap[measure]) for measure in GAP[:2]]
            same = "the same" if gap.severity == band else "another"
            rows.append([theirs.name, *cells, str(standardizer), f"{ours[0]} {gap.severity}", ours[1], same])
    count = sum(row[-1] == "the same" for row in rows)
    others = [f"{row[0]} ({row[1]} there, {row[4]} here)" for row in rows if row[-1] != "the same"]
    text = f"{count} of their {len(rows)} centroid distances fall into the same band here; into another: "
    header = ["theirs", "CD", "LS", "ours", "our CD", "our LS", "band"]
    return [f"{text}{'; '.join(others) or 'none'}.", table(header, rows)]


def size_reading(sizes: Sequence[Size]) -> str:
    """What the curve of sample sizes says."""
    gaps = [sum(size.gaps) / len(size.gaps) for size in sizes]
    falling = all(after < before for before, after in pairwise(gaps))
    low = next((size.count for size, gap in zip(sizes, gaps, strict=True) if severity(gap) == "low"), None)
    first, last = sizes[0], sizes[-1]
    changes = [
        f"{100 * (sum(b) / len(b) - sum(a) / len(a)):+.1f} points of {name}"
        for name, a, b in (
            (TASKS["to_caption"], first.to_caption, last.to_caption),
            (TASKS["to_image"], first.to_image, last.to_image),
        )
    ]
    # The 1,000 of theirs are the test set itself.
    few, *_, many, _ = SAMPLE_SIZES
    theirs = [f"{SAMPLE_SIZES[many][i] - SAMPLE_SIZES[few][i]:+.1f}" for i in (1, 2)]
    return (
        f"From {first.count:,} to {last.count:,} pairs behind the means the centroid distance "
        f"{'falls at every step' if falling else 'does not fall at every step'}, from {gaps[0]:.3f} to "
        f"{gaps[-1]:.3f}; An et al. would call it low "
        f"{f'from {low:,} pairs on' if low else 'nowhere'}. More pairs bring {' and '.join(changes)}; "
        f"{' and '.join(theirs)} theirs from {few} to {many}."
    )


def direction(points: float, low: float, high: float) -> str:
    """How a published change in points and the interval of ours agree: ``SAME``, ``OTHER`` or ``OPEN``."""
    if low <= 0 <= high or points == 0:
        return OPEN
    return SAME if (low > 0) == (points > 0) else OTHER


def _two(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _range(values: Sequence[float], scale: float, digits: int) -> str:
    """Mean over draws, and their range where there are several."""
    mean, low, high = (scale * v for v in (sum(values) / len(values), min(values), max(values)))
    text = f"{mean:.{digits}f}"
    return text if len(values) == 1 else f"{text} ({low:.{digits}f} to {high:.{digits}f})"
