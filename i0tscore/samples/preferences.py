"""Pairs of captions of which people prefer one: Pascal-50S, FOIL, or your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.samples.diagnostics import Diagnostics, Location, UnusableError, check_references, check_text, quote
from i0tscore.samples.flickr8k import image_folder
from i0tscore.samples.images import ImageFolder, without_suffix
from i0tscore.samples.ratings import Labels, find_image
from i0tscore.samples.sample import Sample
from i0tscore.samples.source import Source, read_json_lines, read_json_list
from i0tscore.samples.text import BROKEN

PASCAL_CATEGORIES = {1: "HC", 2: "HI", 3: "HM", 4: "MM"}
_IMAGE_FOLDERS = ("images", ".")


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceSet:
    """Pairs of captions of one image, of which people prefer one.

    Attributes:
        first: First caption of each pair.
        second: Second caption of each pair, of the same image.
        label: Preferred caption, 0 for the first and 1 for the second, int64 (n,).
        clusters: Image of each pair (n,).
        categories: Category of each pair (n,), or None.
        counts: Counts of what was read, by name.
        notes: Notes for the reader.
        scores: Scores by metric of the first captions of all pairs and then of the second, float64 (2n,).
        signatures: Signatures of the scores by metric, where known.
    """

    first: tuple[Sample, ...]
    second: tuple[Sample, ...]
    label: NDArray[np.int64]
    clusters: Labels
    categories: Labels | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.label)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All captions: the first of every pair, then the second of every pair (2n)."""
        return self.first + self.second

    def with_scores(
        self, values: Mapping[str, NDArray[np.float64]], signatures: Mapping[str, str], notes: Sequence[str] = ()
    ) -> PreferenceSet:
        """Return the set with scores: one per sample and metric, signatures by metric, and further notes."""
        return replace(self, scores=values, signatures=signatures, notes=(*self.notes, *notes))

    def limited(self, pairs: int) -> PreferenceSet:
        """Return the first pairs, with a note that this is only part of the set."""
        return replace(
            self,
            first=self.first[:pairs],
            second=self.second[:pairs],
            label=self.label[:pairs],
            clusters=self.clusters[:pairs],
            categories=None if self.categories is None else self.categories[:pairs],
            notes=(*self.notes, f"Only the first {min(pairs, self.n):,} of {self.n:,} pairs are used: not a result."),
        )


class _Pair(NamedTuple):
    location: Location
    image: object
    captions: object
    label: object
    references: object = None
    category: object = None


def read_preferences(
    path: Path, images: Path | None = None, *, look_up: bool = False, references: int | None = None
) -> PreferenceSet:
    """Read pairs in the JSON format in which FLEUR and EXPERT distribute Pascal-50S.

    Args:
        path: A JSON list, or JSON lines, of ``{"image", "captions": [a, b], "label": 0 or 1, "references",
            "category"}``, or an object of such lists by category. The label is the index of the better caption.
            Categories may be the numbers 1 to 4, for HC, HI, HM and MM.
        images: Folder of the images; found next to the file if None.
        look_up: Whether to look up the images.
        references: Largest number of references per pair; None for all.

    Raises:
        SampleFileError: The file has errors; the message lists all of them.
    """
    diagnostics = Diagnostics()
    folder = image_folder(images, path, _IMAGE_FOLDERS, look_up=look_up)
    return _assemble(path, list(_json_pairs(path, diagnostics)), diagnostics, folder, references)


def read_foil(
    path: Path,
    images: Path | None = None,
    *,
    look_up: bool = False,
    captions: Path | None = None,
    every_pair: bool = False,
) -> PreferenceSet:
    """Read FOIL: pairs of a caption and the same caption with one wrong word.

    Args:
        path: ``foilv1.0_test_2017.json``: COCO's format, with ``foil`` true or false in each annotation.
        images: Folder of the images; found next to the file if None.
        look_up: Whether to look up the images.
        captions: COCO's ``captions_val2014.json``, for references, from which the true caption is removed.
        every_pair: Whether to use every foil instead of the first of each image, as the published figures do.

    Raises:
        SampleFileError: The file has errors; the message lists all of them.
    """
    diagnostics = Diagnostics()
    pairs = list(_foils(path, captions, diagnostics))
    if not every_pair:
        pairs = list({str(pair.image): pair for pair in reversed(pairs)}.values())[::-1]
        diagnostics.notes.append("Only the first pair of each image in the file is used.")
    folder = image_folder(images, path, _IMAGE_FOLDERS, look_up=look_up)
    return _assemble(path, pairs, diagnostics, folder, None)


def _assemble(
    path: Path,
    pairs: list[_Pair],
    diagnostics: Diagnostics,
    folder: ImageFolder | None,
    max_references: int | None,
) -> PreferenceSet:
    read = [samples for pair in pairs if (samples := _samples(pair, folder, max_references, diagnostics)) is not None]
    diagnostics.notes += [] if folder is None else folder.notes
    diagnostics.finish(path, len(read))
    categories = tuple(category for _, _, category in read)
    return PreferenceSet(
        tuple(both[0] for both, _, _ in read),
        tuple(both[1] for both, _, _ in read),
        np.array([label for _, label, _ in read], dtype=np.int64),
        tuple(str(both[0].image) for both, _, _ in read),
        categories if any(categories) else None,
        {"pairs": len(read), **{f"pairs {c}": categories.count(c) for c in sorted(set(categories)) if c}},
        tuple(diagnostics.notes),
    )


def _samples(
    pair: _Pair, folder: ImageFolder | None, max_references: int | None, diagnostics: Diagnostics
) -> tuple[tuple[Sample, Sample], int, str] | None:
    try:
        image = find_image(pair.image, folder)
        if not isinstance(pair.captions, list) or len(pair.captions) != 2:
            raise UnusableError('Expected "captions" with two captions, as in ["a", "b"].')
        first, second = (check_text(text, "a caption") for text in pair.captions)
        if isinstance(pair.label, bool) or pair.label not in (0, 1):
            raise UnusableError(f"Expected the label 0 or 1, got {quote(pair.label)}.")
        references = check_references(pair.references)[:max_references]
    except UnusableError as problem:
        diagnostics.row_error(pair.location, str(problem))
        return None
    category = pair.category
    if isinstance(category, int):
        category = PASCAL_CATEGORIES.get(category, str(category))
    stem = without_suffix(image.name)
    samples = Sample(stem, image, first, references), Sample(stem, image, second, references)
    return samples, int(pair.label), str(category or "")


def _json_pairs(path: Path, diagnostics: Diagnostics) -> Iterator[_Pair]:
    source = Source(path, diagnostics)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from (_pair(record, location, None) for location, record in read_json_lines(source))
        return
    value = source.document
    if isinstance(value, dict):
        position = 0
        for category, entries in value.items():
            for number, record in enumerate(entries if isinstance(entries, list) else [None], start=1):
                position += 1
                location = Location(position, f"{category}, item {number}")
                if isinstance(record, dict):
                    yield _pair(record, location, category)
                else:
                    diagnostics.row_error(location, 'Expected an object with "image", "captions" and "label".')
    elif value is not BROKEN:
        yield from (_pair(record, location, None) for location, record in read_json_list(source))


def _pair(record: Mapping[str, Any], location: Location, category: str | None) -> _Pair:
    return _Pair(
        location,
        record.get("image", record.get("image_path")),
        record.get("captions"),
        record.get("label"),
        record.get("references"),
        record.get("category") if category is None else category,
    )


def _foils(path: Path, captions: Path | None, diagnostics: Diagnostics) -> Iterator[_Pair]:
    content = Source(path, diagnostics).document
    if content is BROKEN:
        return
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        annotations = [(a["id"], a["image_id"], a["caption"], bool(a["foil"])) for a in content["annotations"]]
    except (KeyError, TypeError):
        diagnostics.file_error(
            'Expected FOIL\'s format, with "images" that have file names and "annotations" that have "foil".'
        )
        return
    references = {} if captions is None else _coco_captions(captions, diagnostics)
    true = {identifier: caption for identifier, _, caption, foil in annotations if not foil}
    for position, (identifier, image, caption, foil) in enumerate(annotations, start=1):
        location = Location(position, f"annotation {quote(identifier)}")
        if image not in files:
            diagnostics.row_error(location, f"Expected an image of the list, got {quote(image)}.")
        elif foil and identifier not in true:
            diagnostics.row_error(location, "Expected a true caption for this foil. Add it or remove the foil.")
        elif foil:
            others = [text for text in references.get(image, []) if text != true[identifier]]
            yield _Pair(location, files[image], [caption, true[identifier]], 1, list(others))


def _coco_captions(path: Path, diagnostics: Diagnostics) -> dict[Any, list[str]]:
    source, found = Source(path, Diagnostics()), dict[Any, list[str]]()
    content = source.document
    diagnostics.adopt(source.diagnostics, path)
    try:
        for annotation in content["annotations"] if content is not BROKEN else []:
            found.setdefault(annotation["image_id"], []).append(annotation["caption"])
    except (KeyError, TypeError):
        diagnostics.file_error(f'{path.name}: expected COCO\'s format, with "annotations" that have captions.')
    return found
