"""Ratings of Flickr8k by experts and crowd workers, as published and in the JSON format of CLIPScore."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from i0tscore.errors import InputError
from i0tscore.samples.diagnostics import Diagnostics, Location, Record, describe, quote
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.ratings import RatingScale, RatingSet, rating_set
from i0tscore.samples.source import Source, read_columns
from i0tscore.samples.text import BROKEN

IMAGE_FOLDERS = ("images_224", "Flicker8k_Dataset", "Flickr8k_Dataset", "images", "Images")
CAPTIONS_FILE = "Flickr8k.token.txt"
EXPERT_FILES = ("ExpertAnnotations.txt", "flickr8k.json")
CROWD_FILES = ("CrowdFlowerAnnotations.txt", "crowdflower_flickr8k.json")
ORIGIN = "text files of Flickr8k, or JSON files of CLIPScore"


def locate(data: Path, names: tuple[str, ...], origin: str) -> Path:
    """Return the first of several files: the path itself, or in the folder, or in a folder directly inside it.

    Args:
        data: A file or a folder.
        names: File names in order of preference; may be patterns such as ``*.json``.
        origin: Where the files come from, for the message.

    Raises:
        InputError: There is none.
    """
    if data.is_file():
        return data
    for name in names:
        for pattern in (name, f"*/{name}"):
            if found := sorted(data.glob(pattern)):
                return found[0]
    raise InputError(f"{data}: No {' or '.join(names)} found. Try another folder, or get the files ({origin}).")


def image_folder(given: Path | None, file: Path, usual: tuple[str, ...], *, look_up: bool) -> ImageFolder | None:
    """Return the folder of the images of a rating set: the one given, or a usual one next to its file.

    Args:
        given: The folder, or None.
        file: A file of the set.
        usual: Names of folders that usually have the images.
        look_up: Whether images are needed; if not, the result is None unless a folder is given.

    Raises:
        InputError: Images are needed, and there is no such folder.
    """
    if given is not None:
        return ImageFolder(given)
    if not look_up:
        return None
    folder = next((file.parent / name for name in usual if (file.parent / name).is_dir()), None)
    if folder is None:
        raise InputError(f"{file.parent}: No folder {' or '.join(usual)} found. Give the folder of the images.")
    return ImageFolder(folder)


def read_flickr8k_expert(
    data: Path, images: Path | None = None, *, look_up: bool = True, skip: bool = False
) -> RatingSet:
    """Read Flickr8k-Expert: three ratings of 1 to 4 per pair, one per row.

    Pairs of an image and one of its own reference captions are dropped.

    Args:
        data: ``ExpertAnnotations.txt`` with ``Flickr8k.token.txt`` next to it, CLIPScore's ``flickr8k.json``,
            or a folder that contains either.
        images: The folder of the images; found next to the file if None.
        look_up: Whether to look up the images.
        skip: Whether to leave out rows with problems, and list them in a note.
    """
    file = locate(data, EXPERT_FILES, ORIGIN)
    diagnostics = Diagnostics()
    if file.suffix == ".json":
        rows = list(clipscore_records(file, diagnostics))
    else:
        names = ("image", "caption id", "rating 1", "rating 2", "rating 3")
        rows = [
            (location, {**pair, "rating": rating})
            for location, pair, ratings in rated_pairs(file, diagnostics, names)
            for rating in ratings
        ]
    kept = [(location, row) for location, row in rows if row["caption"] not in row["references"]]
    pairs, kept_pairs = ({(row["cluster"], row["caption"]) for _, row in part} for part in (rows, kept))
    dropped = len(pairs) - len(kept_pairs)
    counts = {"pairs dropped": dropped, "pairs": len(pairs)} if file.suffix != ".json" else {}
    if dropped:
        diagnostics.notes.append(f"Pairs whose caption is a reference of the same image are excluded: {dropped}.")
    folder = image_folder(images, file, IMAGE_FOLDERS, look_up=look_up)
    scale = RatingScale(1, 4, whole=True)
    return rating_set(file, "flickr8k_expert", kept, diagnostics, folder=folder, scale=scale, counts=counts, skip=skip)


def read_flickr8k_crowd(data: Path, images: Path | None = None, *, look_up: bool = True) -> RatingSet:
    """Read Flickr8k-CF: the share of crowd workers who say that a caption describes an image.

    No pair is dropped. The references of an image are its captions in the file; ``rating_sets.drop_rated`` drops the
    rated ones.

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
        rows = _crowd_rows(file, diagnostics, counts)
    folder = image_folder(images, file, IMAGE_FOLDERS, look_up=look_up)
    scale = RatingScale(0, 1)
    return rating_set(file, "flickr8k_cf", rows, diagnostics, folder=folder, scale=scale, counts=counts)


def _crowd_rows(file: Path, diagnostics: Diagnostics, counts: dict[str, int]) -> list[Record]:
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


def read_clipscore_json(path: Path, images: Path | None = None, *, skip: bool = False) -> RatingSet:
    """Read ratings in the JSON format of CLIPScore, unchanged.

    Args:
        path: ``{id: {"image_path", "ground_truth": […], "human_judgement": [{"caption", "rating"}]}}``.
        images: The folder of the images; None to use their names without looking up the files.
        skip: Whether to leave out rows with problems, and list them in a note.
    """
    diagnostics = Diagnostics()
    records = list(clipscore_records(path, diagnostics))
    folder = None if images is None else ImageFolder(images)
    return rating_set(path, path.stem, records, diagnostics, folder=folder, skip=skip)


def rated_pairs(
    file: Path, diagnostics: Diagnostics, names: tuple[str, ...]
) -> Iterator[tuple[Location, dict[str, Any], list[str]]]:
    """Yield the rated pairs of a text file of Flickr8k: location, image with captions, and the other columns.

    ``Flickr8k.token.txt`` is next to the file; ``names`` says what the columns hold: image, caption id, and others.
    """
    captions = _read_captions(locate(file.parent, (CAPTIONS_FILE,), ORIGIN), diagnostics)
    of_image: dict[str, list[str]] = {}
    for identifier, caption in captions.items():
        of_image.setdefault(identifier.rpartition("#")[0], []).append(caption)
    seen: dict[tuple[str, str], Location] = {}
    for location, (image, identifier, *others) in read_columns(Source(file, diagnostics), names):
        before = seen.setdefault((image, identifier), location)
        if before is not location:
            diagnostics.row_error(location, f"This image and caption already occur at {before.label}. Remove one.")
        elif identifier not in captions:
            diagnostics.row_error(location, f"{CAPTIONS_FILE} has no caption {quote(identifier)}. Correct the id.")
        elif image not in of_image:
            diagnostics.row_error(location, f"{CAPTIONS_FILE} has no captions of the image {quote(image)}. Correct it.")
        else:
            pair = {"image": image, "caption": captions[identifier], "references": of_image[image], "cluster": image}
            yield location, pair, others


def _read_captions(file: Path, diagnostics: Diagnostics) -> dict[str, str]:
    """Read ``image#number`` and caption, with single spaces, as in the published protocol."""
    found: dict[str, str] = {}
    for location, (identifier, caption) in read_columns(Source(file, diagnostics), ("caption id", "caption")):
        if identifier in found:
            diagnostics.row_error(location, f"The caption id {quote(identifier)} occurs more than once. Remove one.")
        elif not caption.strip():
            diagnostics.row_error(location, "Expected a caption, got an empty string. Add it.")
        else:
            found[identifier] = " ".join(caption.split())
    return found


def clipscore_records(file: Path, diagnostics: Diagnostics) -> Iterator[Record]:
    """Yield the ratings of a file in the JSON format of CLIPScore; NaN stands for no rating and is dropped."""
    value = Source(file, diagnostics).document
    if value is BROKEN:
        return
    if not isinstance(value, dict):
        diagnostics.file_error(f"Expected an object of images by id, got {describe(value)}.")
        return
    unrated = 0
    for position, (identifier, entry) in enumerate(value.items(), start=1):
        judgements = entry.get("human_judgement") if isinstance(entry, dict) else None
        if not isinstance(judgements, list) or not isinstance(entry.get("ground_truth", []), list):
            diagnostics.row_error(
                Location(position, f"id {quote(identifier)}"),
                'Expected an object with the lists "human_judgement" and "ground_truth".',
            )
            continue
        references = [_single_spaced(text) for text in entry.get("ground_truth", [])]
        for number, judged in enumerate(judgements, start=1):
            location = Location(position, f"id {quote(identifier)}, judgment {number}")
            if not isinstance(judged, dict):
                diagnostics.row_error(location, f"Expected an object, got {describe(judged)}.")
            elif isinstance(rating := judged.get("rating"), float) and math.isnan(rating):
                unrated += 1
            else:
                yield (
                    location,
                    {
                        "image": judged.get("image_path") or entry.get("image_path") or identifier,
                        "caption": _single_spaced(judged.get("caption")),
                        "rating": rating,
                        "references": references,
                        "cluster": identifier,
                    },
                )
    if unrated:
        diagnostics.notes.append(f"Judgments without a rating (NaN) are excluded: {unrated}.")


def _single_spaced(text: object) -> object:
    return " ".join(text.split()) if isinstance(text, str) else text
