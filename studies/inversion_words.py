"""The words of the report on inversion, which follow from its figures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from human_judgments.report import percent
from i0tscore.gap.measures import severity
from i0tscore.results.intervals import Estimate
from studies.flickr8k_labels import CLASSES
from studies.gap_blocks import OPEN, OTHER, SAME
from studies.inversion_blocks import replications
from studies.inversion_references import MEAN, OWN_MEAN, References, Score
from studies.inversion_tasks import CAPTIONS, GALLERY, NATIVE, PHOTOGRAPHS, QUERIES, Task

TOWERS = (
    "the likely reason is what `lite` is made of. Its towers were trained within their own modality before "
    "they met, all-MiniLM-L6-v2 on pairs of sentences that belong together, EfficientNet-Lite2 on ImageNet's "
    "classes, and only the heads between modalities; so it need not be misaligned within modalities the way "
    "CLIP is. The paper's own case of that kind is SLIP, whose image tower had a loss among images: OTI "
    "changes it by +0.2 and +0.4 points (theirs)."
)
PARTNER = {"text–text": PHOTOGRAPHS, "image–image": CAPTIONS}
WHAT = {"text–text": "captions", "image–image": "photographs"}


def sign(change: Estimate | None) -> int | None:
    """1 where the interval lies above 0, −1 where below, 0 where it holds 0; None without an interval."""
    if change is None or change.interval is None:
        return None
    low, high = change.interval
    return 1 if low > 0 else -1 if high < 0 else 0


def replication_words(tasks: Mapping[str, Task], model: str) -> list[str]:
    """What replicates, how it goes over the updates, and why it is absent where it is."""
    found = list(replications(tasks))
    count = {said: sum(row[-1] == said for row in found) for said in (SAME, OTHER, OPEN)}
    paragraphs = [
        f"Of {len(found)} kinds of change that Mistretta et al. publish, {count[SAME]} go the same way under "
        f"{model} and {count[OTHER]} the other way, beyond our interval; {count[OPEN]} cannot be told, since "
        f"our interval holds 0. {' '.join(_within_words(tasks[name]) for name in PARTNER)} "
        f"{' '.join(_across_words(tasks[name]) for name in ('zero-shot', 'image–text', 'text–image'))}"
    ]
    absent = [name for name in PARTNER if sign(_change(tasks[name])) in (0, -1)]
    if absent:
        towers = [TOWERS] if model == "lite" and len(absent) == len(PARTNER) else []
        why = " ".join([*towers, *(_partner_words(tasks[name]) for name in absent)])
        paragraphs.append(f"Why there is no gain in {' and '.join(absent)}: {why}")
    if sign(_change(tasks["zero-shot"])) == 0 and sign(_change(tasks["image–text"])) == -1:
        paragraphs.append(
            f"Why no fall is seen in zero-shot classification: {len(CLASSES)} classes as unlike as these are "
            "a coarse task; the finer one with the same inverted photographs, finding their captions, does "
            "fall."
        )
    return paragraphs


def _change(task: Task, what: str = QUERIES) -> Estimate:
    return task.inverted(what)[-1].differences[task.measures[0]]


def _moves(change: Estimate) -> str:
    """How a figure changes, in words."""
    direction = sign(change)
    if direction == -1 and change.value is not None and change.interval is not None:
        low, high = change.interval
        return f"falls by {percent(Estimate(-change.value, (-high, -low)))} points"
    if direction == 1:
        return f"rises by {percent(change)} points"
    word = "changes" if direction is None else "cannot be told to change"
    return f"{word}, {percent(change, signed=True)} points"


def _within_words(task: Task) -> str:
    measure, last = task.measures[0], task.inverted(QUERIES)[-1]
    back = f"with the gallery inverted instead it {_moves(_change(task, GALLERY))}"
    return (
        f"{_capital(task)} {measure} of {WHAT[task.name]} inverted with {last.updates:,} updates "
        f"{_moves(last.differences[measure])}{_over_updates(task)}; {back}."
    )


def _over_updates(task: Task) -> str:
    """Where on the way the inverted queries find most."""
    measure, lines = task.measures[0], task.inverted(QUERIES)
    values = [line.values[measure].value or 0.0 for line in lines]
    if len(lines) < 2:
        return ""
    if all(after > before for before, after in pairwise(values)):
        return ", and is higher after every further update that was looked at"
    best = lines[values.index(max(values))]
    change = percent(best.differences[measure], signed=True)
    return f", and is highest after {best.updates:,} updates ({change})"


def _across_words(task: Task) -> str:
    expected = {-1: "as expected", 0: "where a fall was expected", 1: "where a fall was expected", None: ""}
    change = _change(task)
    comma = f", {expected[sign(change)]}" if expected[sign(change)] else ""
    return f"{_capital(task)} {task.measures[0]} {_moves(change)}{comma}."


def _partner_words(task: Task) -> str:
    """What the real item of the other modality finds in the place of the inverted one."""
    measure = task.measures[0]
    partner = next(line for line in task.lines if line.what == PARTNER[task.name])
    change = partner.differences[measure]
    own, theirs = (percent(line.values[measure]) for line in (task.native, partner))
    aside = " (the classes are read off these captions, which favours them)" * (task.name == "image–image")
    text = f"{_capital(task)} {measure} is {own} {NATIVE} and {theirs} with {PARTNER[task.name]}{aside}: "
    if sign(change) == -1:
        return (
            f"{text}not even what really belongs to them in the other modality is as good a query. Within "
            "their own they are better aligned than across, the reverse of what crossing is to mend."
        )
    reached = f"cosine of {task.inverted(QUERIES)[-1].cosine or 0.0:.2f} with its target"
    if sign(_change(task)) == -1:
        return (
            f"{text}a query from the other modality need not be worse, so that what is lost is lost by "
            f"inversion, whose result has a {reached}."
        )
    return (
        f"{text}a query from the other modality need not be worse, but an inverted one, with a {reached}, is "
        "not better."
    )


def reference_verdict(found: References) -> list[str]:
    """Whether references that cross are worth keeping."""
    last = {score: one for score, one in found.scores.items() if score.updates == found.last}
    better = [score for score, one in last.items() if sign(one.from_plain) == 1]
    worse = [score for score, one in last.items() if sign(one.from_plain) == -1]
    kept = [score for score, one in last.items() if sign(one.from_best) == 1]
    top = max(last, key=lambda score: last[score].tau_c.value or 0.0)
    best = found.best[top.plain.condition]
    named = "; ".join(f"{_named(score)} {percent(last[score].from_plain, signed=True)}" for score in better)
    text = (
        f"After {found.last:,} updates {len(better)} of {len(last)} crossed scores agree better with people "
        f"than the plain rule in whose place they stand{': ' * bool(better)}{named}; {len(worse)} agree "
        f"less, and {len(last) - len(better) - len(worse)} cannot be told from it. The crossed one that "
        f"agrees best is {_named(top)}, {percent(last[top].tau_c)}; the best plain one under its "
        f"standardizer is {_named(best)}, {percent(found.scores[best].tau_c)}; the difference is "
        f"{percent(last[top].from_best, signed=True)}."
    )
    return [f"{text} {_decision(found, kept)}", _mean_words(found)]


def _decision(found: References, kept: list[Score]) -> str:
    if kept:
        return (
            f"Verdict: keep. {' and '.join(map(_named, kept))} agree better than the best plain rule, beyond "
            "the interval, which is not corrected for the number of comparisons."
        )
    ever = [score for score, one in found.scores.items() if score.updates and sign(one.from_best) == 1]
    if ever:
        steps = ", ".join(f"{_named(score)} after {score.updates:,}" for score in ever)
        return (
            "Verdict: not kept as published; with other numbers of updates some agree better than the best "
            f"plain rule ({steps}), but that number would have been chosen on these ratings."
        )
    return (
        "Verdict: not kept. No crossed rule agrees better than the best plain rule beyond the interval, "
        "whichever of these numbers of updates it gets, and each reference costs an inversion."
    )


def _mean_words(found: References) -> str:
    inverted, images, captions = (found.distances[name] for name in ("inverted", "images", "captions"))
    own, standing = (found.scores[Score(name, MEAN, found.last)] for name in (OWN_MEAN, "post"))
    return (
        f"Where inverted captions stand: their mean is {inverted:.2f} away from the image mean of the "
        f"statistics ({severity(inverted)} by the bands of An et al.), that of the photographs here "
        f"{images:.2f}, that of the captions {captions:.2f}. With their own mean taken away instead of the "
        f"images' (in-sample), the rule `{MEAN}` gives {percent(own.tau_c)} after "
        f"{percent(standing.tau_c)}."
    )


def _capital(task: Task) -> str:
    return f"{task.name[0].upper()}{task.name[1:]}"


def _named(score: Score) -> str:
    return f"{score.rule} ({score.condition})"
