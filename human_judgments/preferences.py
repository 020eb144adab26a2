"""Pairs of captions of which people prefer one: Pascal-50S, FOIL, and any pairs in the same form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.samples.diagnostics import Diagnostics, Location, UnusableError, check_references, check_text, quote
from i0tscore.samples.images import ImageFolder, without_suffix
from i0tscore.samples.ratings import Labels, find_image, without
from i0tscore.samples.sample import Sample
from i0tscore.samples.text import BROKEN, read_json, read_json_lines, read_json_list

PASCAL_CATEGORIES = {1: "HC", 2: "HI", 3: "HM", 4: "MM"}


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceSet:
    """Pairs of captions of one image, of which people prefer one.

    Attributes:
        name: Of the set, e.g. ``pascal50s``.
        first: The first caption of each pair.
        second: The second, of the same image.
        label: Which is preferred, 0 the first, 1 the second, int64 (n,).
        clusters: Identity of the image of each pair (n,).
        categories: Part of the set each pair belongs to (n,), or None.
        counts: How much was read, by name.
        notes: What a reader should know.
    """

    name: str
    first: tuple[Sample, ...]
    second: tuple[Sample, ...]
    label: NDArray[np.int64]
    clusters: Labels
    categories: Labels | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.label)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All captions, the first of every pair and then the second of every pair (2n)."""
        return self.first + self.second

    def limited(self, pairs: int) -> PreferenceSet:
        """The first ``pairs`` pairs, with a note that says so."""
        return replace(
            self,
            first=self.first[:pairs],
            second=self.second[:pairs],
            label=self.label[:pairs],
            clusters=self.clusters[:pairs],
            categories=None if self.categories is None else self.categories[:pairs],
            notes=(*self.notes, f"only the first {min(pairs, self.n):,} of {self.n:,} pairs: not a result"),
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    place: Location
    image: object
    captions: object
    label: object
    references: object = None
    category: object = None


def read_preferences(
    path: Path, *, name: str | None = None, images: Path | None = None, references: int | None = None
) -> PreferenceSet:
    """Read pairs in CLIPScore's JSON form of Pascal-50S.

    Args:
        path: A JSON list (or one object a line) of ``{"image", "captions": [a, b], "label": 0 or 1,
            "references", "category"}``; or an object of such lists by category. The label is the index of
            the better caption. Categories may be the numbers 1 to 4, for HC, HI, HM, MM.
        name: Of the set; the file's if left out.
        images: The images' folder; None takes their names without looking for the files.
        references: Take only the first so many references of each pair.

    Raises:
        SampleFileError: Whatever is wrong with the file, all of it found in one reading.
    """
    diagnostics = Diagnostics()
    return _assemble(path, name or path.stem, list(_of_json(path, diagnostics)), diagnostics, images, references)


def read_foil(
    path: Path, *, captions: Path | None = None, images: Path | None = None, every_pair: bool = False
) -> PreferenceSet:
    """Read FOIL: a caption against the same caption with one wrong word.

    Args:
        path: ``foilv1.0_test_2017.json``: COCO's form, each annotation with ``foil`` true or false.
        captions: COCO's ``captions_val2014.json``, for references; the true caption is left out of them.
        images: The images' folder; None takes their names without looking for the files.
        every_pair: Take every foil; otherwise the first of each image, as the published figures do with
            one pair an image.
    """
    diagnostics = Diagnostics()
    pairs = list(_foils(path, captions, diagnostics))
    if not every_pair:
        pairs = list({str(pair.image): pair for pair in reversed(pairs)}.values())[::-1]
        diagnostics.notes.append("one pair an image, the first of the file")
    return _assemble(path, "foil", pairs, diagnostics, images, None)


def _assemble(
    path: Path, name: str, pairs: list[_Pair], diagnostics: Diagnostics, images: Path | None, most: int | None
) -> PreferenceSet:
    folder = None if images is None else ImageFolder(images)
    made = [samples for pair in pairs if (samples := _samples(pair, folder, most, diagnostics)) is not None]
    diagnostics.finish(path, len(made))
    categories = tuple(category for _, _, category in made)
    clusters = tuple(str(two[0].image) for two, _, _ in made)
    counts = {
        "pairs": len(made),
        **{f"pairs {c}": categories.count(c) for c in sorted(set(categories)) if c},
    }
    return PreferenceSet(
        name,
        tuple(two[0] for two, _, _ in made),
        tuple(two[1] for two, _, _ in made),
        np.array([label for _, label, _ in made], dtype=np.int64),
        clusters,
        categories if any(categories) else None,
        counts,
        tuple(diagnostics.notes),
    )


def _samples(
    pair: _Pair, folder: ImageFolder | None, most: int | None, diagnostics: Diagnostics
) -> tuple[tuple[Sample, Sample], int, str] | None:
    try:
        image = find_image(pair.image, folder)
        if not isinstance(pair.captions, list) or len(pair.captions) != 2:
            raise UnusableError('"captions" is no list of two: write ["a", "b"]')
        first, second = (check_text(text, "a caption") for text in pair.captions)
        if isinstance(pair.label, bool) or pair.label not in (0, 1):
            raise UnusableError(f"the label {quote(pair.label)} is neither 0 nor 1: correct it")
        references = check_references(pair.references)[:most]
    except UnusableError as problem:
        diagnostics.row_error(pair.place, str(problem))
        return None
    written = pair.category
    category = PASCAL_CATEGORIES.get(written, str(written)) if isinstance(written, int) else str(written or "")
    stem = without_suffix(image.name)
    samples = Sample(stem, image, first, references), Sample(stem, image, second, references)
    return samples, int(pair.label), category


def _of_json(path: Path, diagnostics: Diagnostics) -> Iterator[_Pair]:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from (_pair(record, place, None) for place, record in read_json_lines(path, diagnostics))
        return
    value = read_json(path, diagnostics)
    if isinstance(value, dict):
        position = 0
        for category, entries in value.items():
            for number, record in enumerate(entries if isinstance(entries, list) else [None], start=1):
                position += 1
                place = Location(position, f"{category}, item {number}")
                if isinstance(record, dict):
                    yield _pair(record, place, category)
                else:
                    diagnostics.row_error(place, 'not an object with "image", "captions" and "label": correct it')
    elif value is not BROKEN:
        yield from (_pair(record, place, None) for place, record in read_json_list(path, diagnostics))


def _pair(record: Mapping[str, Any], place: Location, category: str | None) -> _Pair:
    return _Pair(
        place,
        record.get("image", record.get("image_path")),
        record.get("captions"),
        record.get("label"),
        record.get("references"),
        category if category is not None else record.get("category"),
    )


def _foils(path: Path, captions: Path | None, diagnostics: Diagnostics) -> Iterator[_Pair]:
    content = read_json(path, diagnostics)
    if content is BROKEN:
        return
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        annotations = [(a["id"], a["image_id"], a["caption"], bool(a["foil"])) for a in content["annotations"]]
    except (KeyError, TypeError):
        diagnostics.file_error('not FOIL\'s form: "images" with file names and "annotations" with "foil" are needed')
        return
    references = {} if captions is None else _coco_captions(captions, diagnostics)
    true = {identifier: caption for identifier, _, caption, foil in annotations if not foil}
    for position, (identifier, image, caption, foil) in enumerate(annotations, start=1):
        place = Location(position, f"annotation {quote(identifier)}")
        if image not in files:
            diagnostics.row_error(place, f"no image {quote(image)} among the images: correct it")
        elif foil and identifier not in true:
            diagnostics.row_error(place, "a foil without its true caption: add it or remove the foil")
        elif foil:
            others = without(references.get(image, []), true[identifier])
            yield _Pair(place, files[image], [caption, true[identifier]], 1, list(others))


def _coco_captions(path: Path, diagnostics: Diagnostics) -> dict[Any, list[str]]:
    content = read_json(path, diagnostics, f"{path.name}, ")
    found: dict[Any, list[str]] = {}
    try:
        for annotation in content["annotations"] if content is not BROKEN else []:
            found.setdefault(annotation["image_id"], []).append(annotation["caption"])
    except (KeyError, TypeError):
        diagnostics.file_error(f'{path.name}: not COCO\'s form: "annotations" with captions are needed')
    return found
