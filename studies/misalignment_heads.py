"""The tables of heads that were trained with other temperatures and with intra-modal terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from human_judgments.report import percent, table
from i0tscore.results.intervals import Estimate
from studies.misalignment import TERMS

PUBLISHED = (
    "Theirs, CLIP ViT-B/32 fine-tuned on COCO, image–image mAP averaged over five data sets: at τ = 1, "
    "where there is no gap, 27.0 as it is and 24.2 by OTI; at τ = .01, where there is one, 39.3 and 40.2. "
    "SLIP, which has an intra-modal term: B/16 35.1 and 35.3, L/16 36.7 and 37.1."
)


def heads_blocks(found: Mapping[str, Any]) -> list[str]:
    """Text and tables of what ``python -m studies.misalignment`` wrote."""
    settings, rows = found["settings"], sorted(found["rows"], key=_order)
    recipe = settings["recipe"]
    crossed = [row for row in rows if "oti" in row]
    blocks = [
        f"Heads of `lite` trained on {settings['photographs']:,} photographs of Flickr8k's "
        f"{settings['split']} split (views: {', '.join(settings['views'])}), {recipe['epochs']} epochs in "
        f"batches of {recipe['batch_size']}, with a fixed logit scale 1/τ. With an intra-modal term two "
        "captions of a photograph, or two views of it, are pulled together, each under dropout of its own "
        f"(logit scale {recipe['intra_scale']:g}, weight 1). Measured on the test split: the gap is the "
        "centroid distance; × 100 are R@1 between the modalities on 1,000 photographs, mAP within images by "
        "label, and mAP within the captions of the labelled photographs by photograph.",
        _native_table(rows),
    ]
    for key, name, what in (("oti", "OTI", "image–image"), ("ovi", "OVI", "text–text")):
        inverted = [row for row in crossed if key in row]
        if inverted:
            first = inverted[0][key]
            blocks += [
                f"The same heads, {what} mAP × 100 of {first['queries']} queries as they are and inverted "
                f"({name}, {first['steps']} updates); the gallery is never inverted:",
                _crossed_table(inverted, key),
            ]
    return [*blocks, PUBLISHED]


def estimate(stored: Mapping[str, Any]) -> Estimate:
    """A figure from plain data."""
    interval = stored["interval"]
    return Estimate(stored["value"], None if interval is None else (interval[0], interval[1]))


def _order(row: Mapping[str, Any]) -> tuple[int, float, int]:
    return list(TERMS).index(row["intra"]), row["logit_scale"], row["seed"]


def _name(row: Mapping[str, Any]) -> list[str]:
    return [row["intra"], f"{1 / row['logit_scale']:g}", str(row["seed"]), f"{row['gap']:.2f}"]


def _native_table(rows: Sequence[Mapping[str, Any]]) -> str:
    figures = ("image_to_text", "text_to_image", "images", "captions")
    return table(
        ["intra-modal term", "τ", "seed", "gap", "i→t R@1", "t→i R@1", "image–image mAP", "text–text mAP"],
        [[*_name(row), *(percent(estimate(row[key])) for key in figures)] for row in rows],
    )


def _crossed_table(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    return table(
        ["intra-modal term", "τ", "seed", "gap", "as they are", "inverted", "difference", "cosine reached"],
        [
            [
                *_name(row),
                percent(estimate(row[key]["native"])),
                percent(estimate(row[key]["crossed"])),
                percent(estimate(row[key]["difference"]), signed=True),
                f"{row[key]['cosine']:.2f}",
            ]
            for row in rows
        ],
    )
