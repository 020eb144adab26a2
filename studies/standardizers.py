"""Does removing the gap make scores agree better with people? Every standardizer on Flickr8k-Expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from human_judgments.arguments import Arguments, script
from human_judgments.plot import Chart
from human_judgments.rating_sets import KNOWN_SETS
from human_judgments.report import UNDEFINED, Report, bullets, p_value, percent, resampling_note, table
from i0tscore.errors import InputError
from i0tscore.results.intervals import Difference, Estimate
from i0tscore.samples.flickr8k import EXPERT_FILES, read_flickr8k_expert
from studies.embedder import open_embedder
from studies.standardizer_study import (
    BUILTIN,
    FORMS,
    Condition,
    all_conditions,
    choose_on_half,
    encode_ratings,
    estimates,
    recall_at_1,
    residual_gap,
    score_forms,
)

Found = dict[str, tuple[Estimate, Difference | None]]
Recalls = dict[str, tuple[float, float]]

LEGEND = (
    "`free`: without references; `clipped`: negative scores made 0, as the authors' scorer does; `Ref`: "
    "harmonic mean with the nearest of the image's five captions, which clips; `Ref, mean`: arithmetic mean, "
    "which does not. `gap`: centroid distance of the rated images and captions. `R@1`: image to caption and "
    "caption to image, of the rated images with their own five captions."
)
ALIKE = (
    "`lite` is trained on photographs and captions of the same kind as the rated ones: its figures are not "
    "zero-shot, and what helps it need not help CLIP."
)


@script("studies.standardizers")
def main(arguments: Arguments) -> Report:
    """Agreement with Flickr8k-Expert under every standardizer, clipped or not, with references or not."""
    known = KNOWN_SETS["flickr8k_expert"]
    file = arguments.local_file(EXPERT_FILES, known.origin)
    if file is None or arguments.model is None:
        raise InputError("this study needs the files of Flickr8k and a model")
    ratings = read_flickr8k_expert(file, arguments.images)
    ratings = ratings if arguments.limit is None else ratings.limited(arguments.limit)
    with open_embedder(arguments.model) as embedder:
        rated = encode_ratings(embedder, ratings)
        conditions = list(all_conditions(embedder, rated, arguments.folder()))
    fingerprint = embedder.fingerprint
    scores = {
        f"{condition.name}; {form}": values
        for condition in conditions
        for form, values in score_forms(condition, rated).items()
    }
    found = estimates(scores, ratings, arguments.resampling)
    chosen, differences = choose_on_half(scores, ratings, arguments.resampling)
    gaps = {c.name: residual_gap(c, rated) for c in conditions}
    recalls = {c.name: recall_at_1(c, rated) for c in conditions}
    blocks = [
        f"Flickr8k-Expert, {len(ratings.rating):,} ratings of {len(ratings.samples):,} pairs, model "
        f"{arguments.label}. Made by\n\n```console\n$ {arguments.command}\n```",
        f"τ-c × 100. {resampling_note(arguments.resampling, 'images')} {LEGEND}",
        _agreement_table(conditions, found, gaps, recalls),
        "## Difference from none\n\nThe same form of score without any standardizer, on the same resamples; "
        "p two-sided, Holm-corrected within a form.",
        _difference_table(conditions, found, arguments.resampling.resamples),
        "## A strength chosen on one half of the images, tested on the other",
        _half_table(chosen, differences, arguments.resampling.resamples),
        "## What it says",
        bullets([*_reading(found, chosen, differences, recalls), ALIKE]),
        f"## Conditions\n\nEncoder {fingerprint.name}, weights {fingerprint.weights}, "
        f"{fingerprint.preprocess}, {fingerprint.precision}.",
    ]
    data = {
        "command": arguments.command,
        "encoder": asdict(fingerprint),
        "resampling": asdict(arguments.resampling),
        "tau_c": {name: estimate.to_dict() for name, (estimate, _) in found.items()},
        "difference": {name: d.to_dict() for name, (_, d) in found.items() if d is not None},
        "gap": gaps,
        "recall_at_1": recalls,
        "chosen_on_half": {"chosen": chosen, "tested": {d.first: d.to_dict() for d in differences}},
    }
    plotted = {c.name: found[f"{c.name}; free"][0] for c in conditions}
    title = f"Standardizers and agreement with people, model {arguments.label}"
    chart = Chart("Flickr8k-Expert by standardizer, without references", "τ-c × 100", plotted, {})
    return Report(f"standardizers-{arguments.label.replace('/', '--')}", title, blocks, data, chart)


def _agreement_table(
    conditions: Sequence[Condition],
    found: Found,
    gaps: dict[str, float],
    recalls: Recalls,
) -> str:
    rows = []
    for name in (c.name for c in conditions):
        figures = [percent(found[f"{name}; {form}"][0]) for form in FORMS]
        there, back = recalls[name]
        rows.append([name, f"{gaps[name]:.3f}", *figures, f"{there:.1f} / {back:.1f}"])
    return table(["standardizer", "gap", *FORMS, "R@1"], rows)


def _difference_table(conditions: Sequence[Condition], found: Found, resamples: int) -> str:
    rows = []
    for name in (c.name for c in conditions[1:]):
        cells = []
        for form in FORMS:
            difference = found[f"{name}; {form}"][1]
            cells.append(UNDEFINED if difference is None else _difference(difference, resamples))
        rows.append([name, *cells])
    return table(["standardizer", *FORMS], rows)


def _half_table(chosen: str, differences: Sequence[Difference], resamples: int) -> str:
    rows = [[d.first, d.second, _difference(d, resamples)] for d in differences]
    text = f"Chosen on the images at even places of the sorted list: {chosen}. On the others:"
    return f"{text}\n\n" + table(["scores", "against", "difference in τ-c"], rows, left=2)


def _difference(difference: Difference, resamples: int) -> str:
    return f"{percent(difference.estimate, signed=True)}, p {p_value(difference.p_holm, resamples)}"


def _reading(found: Found, chosen: str, differences: Sequence[Difference], recalls: Recalls) -> list[str]:
    """What the figures say, in words that follow them."""
    post = found[f"post, {BUILTIN}; free"][1]
    tested = next(d for d in differences if d.first == chosen)
    name = chosen.removesuffix("; free")
    change = recalls[name][0] - recalls[f"post, {BUILTIN}"][0]
    return [
        f"post against none, without references: {_verdict(post)}.",
        f"clipping at 0 takes post from {percent(found[f'post, {BUILTIN}; free'][0])} to "
        f"{percent(found[f'post, {BUILTIN}; free, clipped'][0])}; with references the harmonic mean, which "
        f"clips, gives {percent(found[f'post, {BUILTIN}; Ref'][0])} and the unclipped mean "
        f"{percent(found[f'post, {BUILTIN}; Ref, mean'][0])}.",
        f"{name} against post, on images that did not choose its strength: {_verdict(tested)}; "
        f"R@1 from image to caption changes by {change:+.1f} points, so agreement is not had for nothing.",
    ]


def _verdict(difference: Difference | None) -> str:
    if difference is None or difference.estimate.interval is None:
        return "no comparison"
    low, high = difference.estimate.interval
    words = "agrees better" if low > 0 else "agrees less" if high < 0 else "no difference that the data can tell"
    return f"{words}, {percent(difference.estimate, signed=True)} points of τ-c"


if __name__ == "__main__":
    main()
