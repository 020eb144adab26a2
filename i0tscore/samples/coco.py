"""COCO caption results with their annotation file."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from i0tscore.samples.captions import read_captions
from i0tscore.samples.rows import Diagnostics, Row, described, quote
from i0tscore.samples.text import BROKEN, read_json


def read_coco(path: Path, annotations: Path, diagnostics: Diagnostics) -> list[Row]:
    """Read ``[{"image_id": 42, "caption": "…"}]``; file names and references come from the annotations.

    Args:
        path: The results file.
        annotations: The annotation file: ``images`` and, for references, ``annotations`` with captions.
        diagnostics: Takes the problems of both files.
    """
    rows = read_captions(path, "json", diagnostics)
    index = _index(annotations, diagnostics)
    if index is None:
        return []
    # COCO.loadRes stops at the first foreign id with a bare assertion that does not name it.
    images = {str(identifier): image for identifier, image in index.imgs.items()}
    captions = {str(identifier): found for identifier, found in index.imgToAnns.items()}
    found = []
    for row in rows:
        identifier = str(row.id)
        if identifier not in images:
            diagnostics.row_error(
                row.place,
                f"image_id {quote(identifier)} is not among the images of {annotations.name}: remove it",
            )
            continue
        references = [item["caption"] for item in captions.get(identifier, []) if "caption" in item]
        found.append(replace(row, image=images[identifier]["file_name"], references=references or row.references))
    return found


def _index(annotations: Path, diagnostics: Diagnostics) -> Any:
    """Index the annotation file, or refuse it and return None."""
    content = read_json(annotations, diagnostics, f"{annotations.name}, ")
    if content is BROKEN:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        diagnostics.file_error(f'{annotations.name}: no list "images" in it: give COCO\'s annotation file')
        return None
    parts = {"images": content["images"], "annotations": content.get("annotations") or []}
    sound = _has_fields(parts["images"], "images", ("id", "file_name"), annotations, diagnostics)
    sound &= _has_fields(parts["annotations"], "annotations", ("id", "image_id"), annotations, diagnostics)
    if not sound:
        return None
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = parts
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        index.createIndex()
    return index


def _has_fields(items: object, part: str, fields: tuple[str, str], annotations: Path, diagnostics: Diagnostics) -> bool:
    if not isinstance(items, list):
        diagnostics.file_error(f'{annotations.name}: "{part}" is {described(items)}, not a list: correct it')
        return False
    bad = [
        number
        for number, item in enumerate(items, start=1)
        if not (isinstance(item, dict) and all(isinstance(item.get(field), str | int) for field in fields))
    ]
    for number in bad:
        needed = " and ".join(f'"{field}"' for field in fields)
        diagnostics.file_error(f"{annotations.name}, {part} item {number}: not an object with {needed}: correct it")
    return not bad
