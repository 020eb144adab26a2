"""Flickr8k's human ratings: Expert and CrowdFlower, as published and in CLIPScore's JSON form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from i0tscore.samples.images import ImageFolder
from i0tscore.samples.rating_files import columns, image_folder, locate
from i0tscore.samples.rating_rows import Rated, RatingAssembler, RatingScale
from i0tscore.samples.ratings import RatingSet, without
from i0tscore.samples.rows import Diagnostics, Location, described, quote
from i0tscore.samples.text import BROKEN, read_json

IMAGE_FOLDERS = ("images_224", "Flicker8k_Dataset", "Flickr8k_Dataset", "images", "Images")
CAPTIONS_FILE = "Flickr8k.token.txt"
EXPERT_FILES = ("ExpertAnnotations.txt", "flickr8k.json")
CROWD_FILES = ("CrowdFlowerAnnotations.txt", "crowdflower_flickr8k.json")

_EXPERT_SCALE = RatingScale(1, 4, whole=True)
_CROWD_SCALE = RatingScale(0, 1)
_ADVICE = "Flickr8k's text files and CLIPScore's JSON forms of them hold these ratings"


def read_flickr8k_expert(data: Path, images: Path | None = None, *, look_up: bool = True) -> RatingSet:
    """Read Flickr8k-Expert: three ratings 1–4 of each pair, one a row; an image's own captions are dropped.

    Args:
        data: ``ExpertAnnotations.txt`` with ``Flickr8k.token.txt`` beside it, CLIPScore's
            ``flickr8k.json``, or a folder of either.
        images: The photographs' folder; found beside the file if left out.
        look_up: Whether to look for the photographs.
    """
    file = locate(data, EXPERT_FILES, _ADVICE)
    diagnostics = Diagnostics()
    rows = list(_of_json(file, diagnostics) if file.suffix == ".json" else _of_expert_table(file, diagnostics))
    kept = [row for row in rows if row.caption not in _references(row)]
    pairs = {(row.cluster, row.caption) for row in rows}
    dropped = len(pairs) - len({(row.cluster, row.caption) for row in kept})
    counts = {"pairs dropped": dropped, "pairs": len(pairs)} if file.suffix != ".json" else {}
    if dropped:
        diagnostics.notes.append(f"pairs dropped because the caption is one of its image's own references: {dropped}")
    folder = image_folder(images, file, IMAGE_FOLDERS, look_up=look_up)
    return RatingAssembler(folder, diagnostics, _EXPERT_SCALE).assemble(file, "flickr8k_expert", kept, counts)


def read_flickr8k_crowd(data: Path, images: Path | None = None, *, look_up: bool = True) -> RatingSet:
    """Read Flickr8k-CF: the share of workers who say that a caption describes an image.

    Nothing is dropped; the rated caption is left out of its image's references.

    Args:
        data: ``CrowdFlowerAnnotations.txt`` with ``Flickr8k.token.txt`` beside it, CLIPScore's
            ``crowdflower_flickr8k.json``, or a folder of either.
        images: The photographs' folder; found beside the file if left out.
        look_up: Whether to look for the photographs.
    """
    file = locate(data, CROWD_FILES, _ADVICE)
    diagnostics = Diagnostics()
    judgements: dict[str, int] = {}
    if file.suffix == ".json":
        rows = list(_of_json(file, diagnostics))
    else:
        rows = list(_of_crowd_table(file, diagnostics, judgements))
    others = [replace(row, references=list(without(_references(row), str(row.caption)))) for row in rows]
    folder = image_folder(images, file, IMAGE_FOLDERS, look_up=look_up)
    return RatingAssembler(folder, diagnostics, _CROWD_SCALE).assemble(file, "flickr8k_cf", others, judgements)


def read_clipscore_json(path: Path, images: Path | None = None) -> RatingSet:
    """Read any ratings in CLIPScore's JSON form, as they are.

    Args:
        path: ``{id: {"image_path", "ground_truth": […], "human_judgement": [{"caption", "rating"}]}}``.
        images: The images' folder; None takes their names without looking for the files.
    """
    diagnostics = Diagnostics()
    rows = list(_of_json(path, diagnostics))
    folder = None if images is None else ImageFolder(images)
    return RatingAssembler(folder, diagnostics, RatingScale()).assemble(path, path.stem, rows)


def _of_expert_table(file: Path, diagnostics: Diagnostics) -> Iterator[Rated]:
    names = ("image", "caption id", "rating 1", "rating 2", "rating 3")
    for place, image, caption, references, ratings in _pairs(file, diagnostics, names):
        for rating in ratings:
            yield Rated(place, image, caption, rating, references, image)


def _of_crowd_table(file: Path, diagnostics: Diagnostics, judgements: dict[str, int]) -> Iterator[Rated]:
    names = ("image", "caption id", "share of yes", "yes", "no")
    for place, image, caption, references, (share, yes, no) in _pairs(file, diagnostics, names):
        if not (yes.isdecimal() and no.isdecimal() and int(yes) + int(no)):
            diagnostics.row_error(place, f"{quote(yes)} yes and {quote(no)} no are no counts: correct them")
            continue
        judgements["judgements"] = judgements.get("judgements", 0) + int(yes) + int(no)
        row = Rated(place, image, caption, share, references, image)
        if _is_far(share, int(yes) / (int(yes) + int(no))):
            diagnostics.row_error(place, f"the share {quote(share)} is not {yes} of {int(yes) + int(no)}: correct it")
        else:
            yield row


def _is_far(share: str, expected: float) -> bool:
    """Whether a number is another share than expected; what is no number is told elsewhere."""
    try:
        return abs(float(share) - expected) > 0.01
    except ValueError:
        return False


def _pairs(
    file: Path, diagnostics: Diagnostics, names: tuple[str, ...]
) -> Iterator[tuple[Location, str, str, list[str], list[str]]]:
    """Go through image–caption pairs: place, image, caption, the image's captions, the other columns."""
    captions = _captions(locate(file.parent, (CAPTIONS_FILE,), _ADVICE), diagnostics)
    of_image: dict[str, list[str]] = {}
    for identifier, caption in captions.items():
        of_image.setdefault(identifier.rpartition("#")[0], []).append(caption)
    seen: dict[tuple[str, str], Location] = {}
    for place, (image, identifier, *rest) in columns(file, diagnostics, names):
        before = seen.setdefault((image, identifier), place)
        if before is not place:
            diagnostics.row_error(place, f"this image and caption stand at {before.label} already: remove one")
        elif identifier not in captions:
            diagnostics.row_error(place, f"no caption {quote(identifier)} in {CAPTIONS_FILE}: correct the id")
        elif image not in of_image:
            diagnostics.row_error(place, f"no captions of the image {quote(image)} in {CAPTIONS_FILE}: correct it")
        else:
            yield place, image, captions[identifier], of_image[image], rest


def _captions(file: Path, diagnostics: Diagnostics) -> dict[str, str]:
    """Read ``image#number`` and caption; white space is made single, as the published protocol does."""
    found: dict[str, str] = {}
    for place, (identifier, caption) in columns(file, diagnostics, ("caption id", "caption")):
        if identifier in found:
            diagnostics.row_error(place, f"the caption id {quote(identifier)} comes more than once: remove one")
        elif not caption.strip():
            diagnostics.row_error(place, "the caption is empty: write it")
        else:
            found[identifier] = " ".join(caption.split())
    return found


def _of_json(file: Path, diagnostics: Diagnostics) -> Iterator[Rated]:
    value = read_json(file, diagnostics)
    if value is BROKEN:
        return
    if not isinstance(value, dict):
        diagnostics.file_error(f"the file holds {described(value)}, not an object of images by id")
        return
    unrated = position = 0
    for identifier, entry in value.items():
        position += 1
        judgements = entry.get("human_judgement") if isinstance(entry, dict) else None
        if not isinstance(judgements, list) or not isinstance(entry.get("ground_truth", []), list):
            diagnostics.row_error(
                Location(position, f"id {quote(identifier)}"),
                'not an object with the lists "human_judgement" and "ground_truth": correct it',
            )
            continue
        references = [_spaced(text) for text in entry.get("ground_truth", [])]
        for number, judged in enumerate(judgements, start=1):
            place = Location(position, f"id {quote(identifier)}, judgement {number}")
            if not isinstance(judged, dict):
                diagnostics.row_error(place, f"{described(judged)}, not an object: correct it")
            elif isinstance(rating := judged.get("rating"), float) and math.isnan(rating):
                unrated += 1
            else:
                yield _judged(place, identifier, entry, judged, references)
    if unrated:
        diagnostics.notes.append(f"judgements without a rating (NaN), left out: {unrated}")


def _judged(
    place: Location,
    identifier: str,
    entry: Mapping[str, Any],
    judged: Mapping[str, Any],
    references: list[Any],
) -> Rated:
    image = judged.get("image_path") or entry.get("image_path") or identifier
    return Rated(place, image, _spaced(judged.get("caption")), judged.get("rating"), references, cluster=identifier)


def _spaced(text: object) -> object:
    return " ".join(text.split()) if isinstance(text, str) else text


def _references(row: Rated) -> list[str]:
    return row.references if isinstance(row.references, list) else []
