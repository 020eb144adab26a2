"""How far explanations can be trusted: replaced words, removed regions, and photographs side by side.

Run ``python -m studies.explanations``.

A *foil* is a caption of Flickr8k's test split with one word replaced, so that the wrong word is known. The words of
``WORDS`` can be replaced: by another word of the same group (near nouns, verbs, numbers, colors), or by a noun of
another group (distant nouns). The replacement occurs in none of the image's five captions. Each image has at most one
foil, and the kinds take turns. Words are ranked among the content words of the caption, which are all but
``FUNCTION_WORDS``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from human_judgments.report import (
    Data,
    Page,
    bullets,
    command_block,
    dot_plot,
    intervals_note,
    percent,
)
from human_judgments.script import Arguments, script
from i0tscore.cli.options import make_scorer
from i0tscore.encoders.images import decode
from i0tscore.explanation.explain import explain_pair, map_regions
from i0tscore.explanation.regions import Hidden, RegionMap, largest
from i0tscore.explanation.units import split_words
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.render.document import Table
from i0tscore.results import Resampling
from studies.embedder import encoder_note
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit, read_split
from studies.misalignment_report import mean_of

SCHEMA = "i0tscore.explanations/1"
LITE = "lite was trained on Flickr8k's training images, so these figures are for images of a familiar kind."
FOILS, REMOVALS, PAIRS = 500, 40, 100
METRICS = ("I0TScore", "CLIPScore")
STEPS = np.linspace(0.1, 0.9, 5)

WORDS: dict[str, tuple[str, ...]] = {
    "noun: people": ("man", "woman", "boy", "girl", "baby", "child"),
    "noun: people, plural": ("men", "women", "boys", "girls", "children"),
    "noun: animals": ("dog", "horse", "cat", "bird", "cow", "sheep"),
    "noun: vehicles": ("bike", "bicycle", "motorcycle", "car", "boat", "truck", "bus", "train"),
    "noun: places": ("beach", "street", "pool", "field", "mountain", "lake", "park", "forest", "desert", "kitchen"),
    "noun: clothes": ("shirt", "jacket", "hat", "dress", "shorts", "coat", "sweater", "helmet", "scarf"),
    "noun: toys": ("ball", "frisbee", "skateboard", "swing", "surfboard", "guitar", "book", "kite"),
    "verb: -ing": (
        "running",
        "sitting",
        "jumping",
        "swimming",
        "climbing",
        "standing",
        "eating",
        "sleeping",
        "dancing",
    ),
    "verb: -s": ("runs", "sits", "jumps", "swims", "climbs", "stands", "eats", "sleeps", "dances"),
    "number": ("one", "two", "three", "four", "five", "six"),
    "color": ("black", "white", "red", "blue", "green", "yellow", "brown", "orange", "pink", "purple"),
}
"""Words that are replaced, and by which others, by group."""

KINDS = ("distant noun", "near noun", "verb", "number", "color")
_FUNCTION = (
    "a an the this that these those some another other each his her hers its their them him he she it they who which "
    "is are was were be been being has have had do does doing and or but while as if than then so not no there "
    "of in on at by for from with without to into onto up down out off over under through across along around near "
    "behind beside between against toward towards during after before next front top back side"
)
FUNCTION_WORDS = frozenset(_FUNCTION.split())


class Foil(NamedTuple):
    """A caption with one word replaced.

    Attributes:
        row: Row of the image in the split.
        kind: One of ``KINDS``.
        caption: The caption with the wrong word.
        start: Position of the wrong word.
    """

    row: int
    kind: str
    caption: str
    start: int


def make_foils(split: Flickr8kSplit, count: int) -> list[Foil]:
    """Return up to ``count`` foils, of different images, by the rule above."""
    generator, foils = np.random.default_rng(0), list[Foil]()
    for row in generator.permutation(len(split.images)).tolist():
        captions = split.captions[CAPTIONS_PER_IMAGE * row : CAPTIONS_PER_IMAGE * (row + 1)]
        present = {word.text.lower() for caption in captions for word in split_words(caption)}
        wanted = sorted(KINDS, key=lambda kind: sum(foil.kind == kind for foil in foils))
        found = (
            Foil(row, kind, caption[: word.start] + new + caption[word.end :], word.start)
            for kind in wanted
            for caption in captions
            for word in split_words(caption)
            if (choices := sorted(set(replacements(word.text, kind)) - present))
            for new in [choices[generator.integers(len(choices))]]
        )
        foils += [foil] if (foil := next(found, None)) else []
        if len(foils) == count:
            break
    return foils


def replacements(word: str, kind: str) -> tuple[str, ...]:
    """Return what replaces a word in foils of a kind; empty if nothing does.

    Example:
        >>> replacements("two", "number"), replacements("two", "color")
        (('one', 'three', 'four', 'five', 'six'), ())
    """
    group = next((group for group, words in WORDS.items() if word in words), "")
    if not group.startswith(kind.split()[-1]):
        return ()
    if kind == "distant noun":
        others = [name for name in WORDS if name.startswith("noun") and not name.startswith(group.partition(",")[0])]
        return () if "plural" in group else tuple(other for name in others for other in WORDS[name])
    return tuple(other for other in WORDS[group] if other != word)


def rank_foils(scorers: dict[str, I0TScorer], split: Flickr8kSplit, foils: Sequence[Foil]) -> Iterator[dict[str, Any]]:
    """Yield for each foil its kind, its number of content words, and the rank of the wrong word by metric, from 1."""
    for foil in foils:
        row: dict[str, Any] = {"kind": foil.kind}
        for metric, scorer in scorers.items():
            found = explain_pair(scorer, split.images[foil.row], foil.caption, regions=False, faithfulness=False)
            effects = {e.start: e.effect or 0.0 for e in found.effects if e.text.lower() not in FUNCTION_WORDS}
            row["words"] = len(effects)
            row[metric] = 1 + sum(effect < effects[foil.start] for effect in effects.values())
        yield row


def summarize_foils(rows: Sequence[dict[str, Any]], resampling: Resampling) -> list[dict[str, Any]]:
    """Return the share of foils whose wrong word is first, and among the first two, of all foils and by kind."""
    summary = []
    for kind in ("all", *KINDS):
        if not (own := [row for row in rows if kind in ("all", row["kind"])]):
            continue
        ranks = {metric: np.array([row[metric] for row in own]) for metric in METRICS}
        words = np.array([row["words"] for row in own])
        entry: dict[str, Any] = {"kind": kind, "n": len(own)}
        for name, top in (("first", 1), ("first_two", 2)):
            hits = {metric: (ranks[metric] <= top).astype(float) for metric in METRICS}
            entry[name] = {metric: mean_of(hits[metric], resampling) for metric in METRICS}
            entry[name]["chance"] = float(np.minimum(top / words, 1).mean())
            entry[name]["difference"] = mean_of(hits[METRICS[0]] - hits[METRICS[1]], resampling)
        summary.append(entry)
    return summary


def make_maps(scorer: I0TScorer, image: Image.Image, caption: str, row: int) -> dict[str, tuple[RegionMap, float]]:
    """Return maps of one image with the seconds that each took: of the product, and two that ignore the caption."""
    maps = {}
    for name, local in (("local", True), ("occlusion", False)):
        start = time.perf_counter()
        maps[name] = map_regions(scorer, image, caption, local=local), time.perf_counter() - start
    shape = maps["local"][0].values.shape
    down, across = (np.linspace(-1, 1, length) for length in shape)
    maps["center"] = RegionMap(caption, -np.hypot(down[:, None], across)), 0.0
    maps["random"] = RegionMap(caption, np.random.default_rng(row).random(shape)), 0.0
    return maps


def removal_areas(scorer: I0TScorer, image: Image.Image, found: RegionMap) -> tuple[float, float]:
    """Return the mean similarity while the best cells are revealed (insertion) and while they are hidden (deletion)."""
    counts = np.round(STEPS * found.values.size).astype(int)
    best = [largest(found.values, count) for count in counts]
    images = Hidden(image, [*(~mask for mask in best), *best], found.box)
    inserted, deleted = scorer.similarity(images, [found.text]).reshape(2, -1).mean(axis=1)
    return float(inserted), float(deleted)


def measure_removal(scorer: I0TScorer, split: Flickr8kSplit, count: int, resampling: Resampling) -> dict[str, Any]:
    """Return insertion and deletion areas of each kind of map, and the seconds that a map takes."""
    rows = np.random.default_rng(1).permutation(len(split.images))[:count].tolist()
    areas, seconds = dict[str, list[tuple[float, float]]](), dict[str, list[float]]()
    for row in rows:
        image = decode(split.images[row])
        for name, (found, took) in make_maps(scorer, image, split.captions[CAPTIONS_PER_IMAGE * row], row).items():
            areas.setdefault(name, []).append(removal_areas(scorer, image, found))
            seconds.setdefault(name, []).append(took)
    insertion, deletion = ({name: np.array(own)[:, side] for name, own in areas.items()} for side in (0, 1))
    gain = {name: insertion[name] - deletion[name] for name in areas}
    return {
        "n": len(rows),
        "methods": {
            name: {
                "insertion": mean_of(insertion[name], resampling),
                "deletion": mean_of(deletion[name], resampling),
                "difference": mean_of(gain[name], resampling),
                "seconds": float(np.median(seconds[name])) if name in ("local", "occlusion") else None,
            }
            for name in areas
        },
        "local_minus": {name: mean_of(gain["local"] - gain[name], resampling) for name in areas if name != "local"},
    }


def measure_pointing(scorer: I0TScorer, split: Flickr8kSplit, count: int, resampling: Resampling) -> dict[str, Any]:
    """Return how often, and how much, a map of two photographs side by side points at the one that is described."""
    rows = np.random.default_rng(2).permutation(len(split.images))[: 2 * count].reshape(-1, 2).tolist()
    found: dict[str, list[tuple[float, float]]] = {}
    for position, (described, other) in enumerate(rows):
        side = position % 2
        image, caption = Image.new("RGB", (448, 224)), split.captions[CAPTIONS_PER_IMAGE * described]
        for row, left in ((described, 224 * side), (other, 224 * (1 - side))):
            image.paste(decode(split.images[row]).resize((224, 224)), (left, 0))
        for name, local in (("local", True), ("occlusion", False)):
            values = map_regions(scorer, image, caption, local=local).values
            columns = values.shape[1]
            weights = np.clip(np.arange(1, columns + 1) - columns / 2, 0, 1)  # share of each column in the right half
            weights = weights if side else 1 - weights
            above = values - values.min()
            peak = weights[np.unravel_index(values.argmax(), values.shape)[1]]
            found.setdefault(name, []).append((float(peak), float((above * weights).sum() / above.sum())))
    return {
        "n": len(rows),
        "methods": {
            name: {key: mean_of(np.array(own)[:, column], resampling) for column, key in enumerate(("peak", "mass"))}
            for name, own in found.items()
        },
    }


def render(data: Data) -> Page:
    """Render the report."""
    foils, removal, pointing = data["foils"], data["removal"], data["pointing"]
    tables = {
        key: Table(
            ["kind", "n", *METRICS, "difference", "chance"],
            [
                [
                    row["kind"],
                    str(row["n"]),
                    *(percent(row[key][metric]) for metric in METRICS),
                    percent(row[key]["difference"], signed=True),
                    f"{100 * row[key]['chance']:.1f}",
                ]
                for row in foils["rows"]
            ],
        )
        for key in ("first", "first_two")
    }
    blocks: list[str | Table] = [
        f"This report measures how well `i0tscore explain` identifies wrong words and described regions, with the "
        f"model {data['model']['name']} on Flickr8k's test split. {command_block(data)}",
        f"{intervals_note(data, 'images')}",
        f"## Words\n\nIn each of {foils['rows'][0]['n']} captions, one word is replaced, as in *{data['examples'][0]}* "
        "(for the rule, see `studies/explanations.py`). The table shows the percentage of captions in which the wrong "
        "word has the lowest effect of all content words. The effect of a word is the score minus the score without "
        f"the word. Explaining the words of one caption took {foils['seconds']:.2f} seconds.",
        tables["first"],
        "Among the two lowest effects:",
        tables["first_two"],
        f"## Regions\n\nFor {removal['n']} images, each with one of its captions, the table shows the mean similarity "
        "(× 100) while 10 to 90 percent of the cells, highest values first, are revealed (insertion) or hidden "
        "(deletion). Hidden cells are filled with the mean color. A larger difference means a better map. `center` and "
        "`random` do not depend on the caption. `seconds` is the median time per map.",
        Table(
            ["map", "insertion", "deletion", "insertion − deletion", "local − this map", "seconds"],
            [
                [
                    name,
                    *(percent(row[key]) for key in ("insertion", "deletion", "difference")),
                    percent(removal["local_minus"].get(name), signed=True),
                    "–" if row["seconds"] is None else f"{row['seconds']:.2f}",
                ]
                for name, row in removal["methods"].items()
            ],
        ),
        f"## Two photographs side by side\n\nEach of {pointing['n']} images consists of two photographs, and the "
        "caption describes one of them. `peak` is the percentage of maps whose highest value is in the described half "
        "(50 by chance). `mass` is the percentage of the map's values, above its minimum, in that half.",
        Table(
            ["map", "peak", "mass"],
            [[name, percent(row["peak"]), percent(row["mass"])] for name, row in pointing["methods"].items()],
        ),
        f"## Conditions\n\n{bullets(data['notes'])}",
    ]
    shares = {f"{row['kind']}, {metric}": row["first"][metric] for row in foils["rows"] for metric in METRICS}
    figure = dot_plot("Replaced word has the lowest effect", "% of captions", shares)
    return Page(f"Explanations, model {data['model']['name']}", blocks, figure)


@script("studies.explanations", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Rank of replaced words, insertion and deletion of regions, and pointing at one of two photographs."""
    model, resampling = arguments.required_model(), arguments.resampling
    split = read_split(arguments.folder(), "test")
    limit = arguments.limit or FOILS
    scorers = {name: make_scorer(model, "raise", metrics=name, resamples=0, ranks=False) for name in METRICS}
    start = time.perf_counter()
    foils = make_foils(split, min(FOILS, limit))
    ranks = list(rank_foils(scorers, split, foils))
    seconds = (time.perf_counter() - start) / len(METRICS) / len(foils)
    scorer = scorers[METRICS[0]]
    fingerprint = scorer.encoder.fingerprint
    return arguments.stem("explanations"), {
        "schema": SCHEMA,
        "command": arguments.command,
        "model": asdict(fingerprint),
        "resampling": asdict(resampling),
        "foils": {"seconds": seconds, "rows": summarize_foils(ranks, resampling)},
        "removal": measure_removal(scorer, split, min(REMOVALS, limit), resampling),
        "pointing": measure_pointing(scorer, split, min(PAIRS, limit), resampling),
        "examples": [foil.caption for foil in foils[:5]],
        "notes": [
            encoder_note(fingerprint),
            *[LITE] * (arguments.label == "lite"),
        ],
    }


if __name__ == "__main__":
    main()
