"""Flickr8k-CF: the share of crowd workers who say that a caption describes an image."""

from __future__ import annotations

from pathlib import Path

from i0tscore.samples.diagnostics import Diagnostics, Record, quote
from i0tscore.samples.flickr8k import IMAGE_FOLDERS, ORIGIN, clipscore_records, image_folder, locate, rated_pairs
from i0tscore.samples.ratings import RatingScale, RatingSet, rating_set

CROWD_FILES = ("CrowdFlowerAnnotations.txt", "crowdflower_flickr8k.json")


def read_flickr8k_crowd(data: Path, images: Path | None = None, *, look_up: bool = True) -> RatingSet:
    """Read Flickr8k-CF. No pair is dropped; the rated caption is removed from its image's references.

    Args:
        data: ``CrowdFlowerAnnotations.txt`` with ``Flickr8k.token.txt`` next to it, CLIPScore's
            ``crowdflower_flickr8k.json``, or a folder that contains either.
        images: The folder of the images; found next to the file if None.
        look_up: Whether to look up the images.
    """
    file = locate(data, CROWD_FILES, ORIGIN)
    diagnostics = Diagnostics()
    counts: dict[str, int] = {}
    if file.suffix == ".json":
        rows = list(clipscore_records(file, diagnostics))
    else:
        rows = _read_table(file, diagnostics, counts)
    for _, row in rows:
        row["references"] = [text for text in row["references"] if text != row["caption"]]
    folder = image_folder(images, file, IMAGE_FOLDERS, look_up=look_up)
    scale = RatingScale(0, 1)
    return rating_set(file, "flickr8k_cf", rows, diagnostics, folder=folder, scale=scale, counts=counts)


def _read_table(file: Path, diagnostics: Diagnostics, counts: dict[str, int]) -> list[Record]:
    rows: list[Record] = []
    names = ("image", "caption id", "share of yes", "yes", "no")
    for location, pair, (share, yes, no) in rated_pairs(file, diagnostics, names):
        if not (yes.isdecimal() and no.isdecimal() and int(yes) + int(no)):
            message = f"Expected numbers of answers, got {quote(yes)} yes and {quote(no)} no. Correct them."
            diagnostics.row_error(location, message)
            continue
        total = int(yes) + int(no)
        counts["judgements"] = counts.get("judgements", 0) + total
        if _differs(share, int(yes) / total):
            diagnostics.row_error(location, f"Expected the share {yes} of {total}, got {quote(share)}. Correct it.")
        else:
            rows.append((location, {**pair, "rating": share}))
    return rows


def _differs(share: str, expected: float) -> bool:
    """Return whether a number differs from a share; what is not a number is reported elsewhere."""
    try:
        return abs(float(share) - expected) > 0.01
    except ValueError:
        return False
