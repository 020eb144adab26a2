"""Tables of the report on inversion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from human_judgments.report import UNDEFINED, percent, table
from i0tscore.results.intervals import Estimate
from studies.gap_blocks import direction
from studies.inversion_material import Crossed
from studies.inversion_published import AVERAGES
from studies.inversion_references import CONDITIONS, RULES, Agreed, References, Score
from studies.inversion_tasks import QUERIES, Line, Task

TASKS = {
    "text–text": "A caption is to find the other captions of its photograph: as they are, then by OVI.",
    "image–image": "A photograph with a class is to find the others of its class: as they are, then by OTI.",
    "zero-shot": "Zero-shot classification: a photograph is of the class whose name, averaged over "
    "templates, is most similar. As they are that compares images with texts, by OTI texts with texts.",
    "image–text": "Photographs are to find one of their captions: as they are between modalities, by OTI among texts.",
    "text–image": "Captions are to find their photograph: as they are between modalities, by OVI among images.",
}


def inversion_table(inverted: Sequence[Crossed]) -> str:
    """How each side was inverted and how near it came."""
    rows = [
        [
            one.method,
            f"{len(one.points[one.last]):,}",
            str(one.inputs),
            ", ".join(f".{round(1000 * one.cosine(step)):03d} ({step})" for step in one.cosines),
            f"{one.seconds:.2f}",
        ]
        for one in inverted
    ]
    header = [
        "",
        "items",
        "pseudo-inputs",
        "mean cosine with its target (updates)",
        "processor seconds an item",
    ]
    return table(header, rows)


def task_blocks(task: Task) -> list[str]:
    """What the task is, its figures, and the differences."""
    left_out = f" {task.left_out} more have nothing to find." if task.left_out else ""
    of = "" if task.photographs == task.queries else f" of {task.photographs:,} photographs"
    text = f"{TASKS[task.name]} n = {task.queries:,} queries{of}.{left_out}"
    if len(task.measures) <= 2:
        return [text, _joint_table(task)]
    changed = [line for line in task.lines if line.differences]
    return [
        text,
        table(
            ["", "updates", "cosine", *task.measures],
            [[*_way(line), *(percent(line.values[m]) for m in task.measures)] for line in task.lines],
        ),
        "Difference from the same queries as they are:",
        table(
            ["", "updates", "cosine", *task.measures],
            [[*_way(line), *(percent(line.differences[m], signed=True) for m in task.measures)] for line in changed],
        ),
    ]


def _joint_table(task: Task) -> str:
    header = ["", "updates", "cosine", *(cell for m in task.measures for cell in (m, "difference"))]
    rows = []
    for line in task.lines:
        row = list(_way(line))
        for measure in task.measures:
            row += [percent(line.values[measure]), percent(line.differences.get(measure), signed=True)]
        rows.append(row)
    return table(header, rows)


def _way(line: Line) -> tuple[str, str, str]:
    updates = UNDEFINED if line.updates is None else f"{line.updates:,}"
    return line.what, updates, UNDEFINED if line.cosine is None else f"{line.cosine:.3f}"


def reference_tables(found: References) -> list[str]:
    """τ-c of every rule: plain and crossed after all updates, then over the updates."""
    header = ["standardizer", "rule", "plain", "crossed", "difference", "from the best plain one"]
    rows = []
    for score, agreed in _crossed(found, found.last):
        plain = found.scores[score.plain]
        rows.append(
            [
                score.condition,
                score.rule,
                percent(plain.tau_c),
                percent(agreed.tau_c),
                percent(agreed.from_plain, signed=True),
                percent(agreed.from_best, signed=True),
            ]
        )
    steps = sorted({score.updates for score in found.scores if score.updates is not None})
    over = []
    for condition in CONDITIONS[:2]:
        for rule in RULES:
            of_rule = [found.scores[Score(condition, rule, step)].from_plain for step in steps]
            over.append([condition, rule, *(percent(change, signed=True) for change in of_rule)])
    return [
        table(header, rows, left=2),
        "Difference of the crossed from the plain rule by number of updates:",
        table(["standardizer", "rule", *(f"{step:,}" for step in steps)], over, left=2),
    ]


def _crossed(found: References, updates: int) -> Iterator[tuple[Score, Agreed]]:
    for score, agreed in found.scores.items():
        if score.updates == updates:
            yield score, agreed


def replications(tasks: Mapping[str, Task]) -> Iterator[tuple[str, list[float], Estimate, str]]:
    """Each published kind of change: task, theirs in points, ours at the last update, how they agree."""
    for name in dict.fromkeys(change.task for change in AVERAGES):
        points = [change.points for change in AVERAGES if change.task == name]
        ours = tasks[name].inverted(QUERIES)[-1].differences[tasks[name].measures[0]]
        if ours.interval is not None:
            yield name, points, ours, direction(sum(points), *ours.interval)


def replication_table(tasks: Mapping[str, Task]) -> str:
    """Their changes beside ours."""
    rows = [
        [
            name,
            tasks[name].measures[0],
            f"{min(points):+.1f} to {max(points):+.1f} ({len(points)} models)",
            percent(ours, signed=True),
            said,
        ]
        for name, points, ours, said in replications(tasks)
    ]
    return table(["task", "measure", "theirs, points", "ours, points", "reading"], rows, left=2)
