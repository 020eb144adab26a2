"""Reads caption files of every accepted form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Literal

from i0tscore.errors import InputError, UsageError
from i0tscore.samples.assemble import Assembler, ReferenceFile
from i0tscore.samples.captions import read_captions, read_numbered
from i0tscore.samples.coco import read_coco
from i0tscore.samples.hub_datasets import METADATA, SAVED
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.json_files import read_mapping, read_references
from i0tscore.samples.records import SUFFIXES
from i0tscore.samples.rows import Diagnostics, preview
from i0tscore.samples.sample import SampleSet

INPUT_FORMATS: Final = ("clipscore", "json", "jsonl", "csv", "tsv", "coco", "flickr8k", "datasets")

_HEAD_BYTES: Final = 1 << 16
_NUMBERED: Final = re.compile(r"[^\t]+#\d+\t")


def read_samples(
    path: str | Path,
    *,
    images: str | Path | None = None,
    references: str | Path | None = None,
    annotations: str | Path | None = None,
    input_format: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> SampleSet:
    """Read captions with their images and references.

    The accepted forms are described in ``docs/caption-files.md``. Images are neither opened nor decoded.

    Args:
        path: The caption file, or the folder of a Hugging Face data set.
        images: The folder that all images are in; by default the one the caption file is in. No path in the
            caption file reaches out of it.
        references: A JSON file ``{"id": ["reference", …]}``; it goes before references beside the captions.
        annotations: The annotation file of COCO results.
        input_format: One of ``INPUT_FORMATS``; told by suffix and content where it is None.
        on_error: ``"raise"``: any problem raises; ``"skip"``: what is wrong with single entries is listed in
            ``SampleSet.skipped`` and the rest returned.

    Returns:
        The samples in the order of the file, what was skipped, and notes.

    Raises:
        UsageError: An unknown format or ``on_error``, or options that contradict each other.
        InputError: A file or folder that does not exist or cannot be read.
        SampleFileError: Whatever is wrong with the files, all of it found in one reading.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dog.jpg").write_bytes(b"not decoded here")
        >>> _ = (folder / "captions.json").write_text('{"dog": "A dog runs."}')
        >>> read_samples(folder / "captions.json").samples[0].caption
        'A dog runs.'
    """
    if on_error not in ("raise", "skip"):
        raise UsageError(f'on_error is {on_error!r}: give "raise" or "skip"')
    file = _metadata_of(Path(path))
    if not file.exists():
        raise InputError(f"{file}: no such file: check the path")
    form = _checked_format(file, annotations, input_format)
    folder = ImageFolder(Path(images) if images is not None else file if file.is_dir() else file.parent)
    diagnostics = Diagnostics()
    if annotations is not None:
        rows = read_coco(file, Path(annotations), diagnostics)
    elif form == "clipscore":
        rows = read_mapping(file, diagnostics)
    elif form == "flickr8k":
        rows = read_numbered(file, diagnostics)
    else:
        rows = read_captions(file, form, diagnostics)
    joined = None
    if references is not None:
        joined = ReferenceFile(Path(references).name, read_references(Path(references), diagnostics))
    skip = on_error == "skip"
    samples = Assembler(folder, joined, diagnostics, skip=skip).samples(rows)
    unused = folder.unused() if images is not None else []
    if unused:
        diagnostics.notes.append(f"images of {folder.root} without a caption: {len(unused)} ({preview(unused)})")
    return diagnostics.finish(file, samples, skip=skip)


def _metadata_of(path: Path) -> Path:
    """Return the metadata file of an image folder; any other path as it is."""
    if not path.is_dir():
        return path
    found = [name for name in METADATA if (path / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"{path}: has {' and '.join(found)}: give the path of the one to be read")
    return path / found[0] if found else path


def _checked_format(path: Path, annotations: str | Path | None, input_format: str | None) -> str:
    if input_format is not None and input_format not in INPUT_FORMATS:
        raise UsageError(f"no input format {input_format!r}: give one of {', '.join(INPUT_FORMATS)}")
    form = input_format or detect_format(path, coco=annotations is not None)
    if form == "coco" and annotations is None:
        raise UsageError("COCO results need their annotation file: give annotations, which has the images' names")
    if form != "coco" and annotations is not None:
        raise UsageError(f"annotations are read with COCO results, and {path} is read as {form}: leave them out")
    if path.is_dir() and form != "datasets":
        raise UsageError(f"{path} is a folder, and {form} is a file's format: give a file")
    return form


def detect_format(path: Path, *, coco: bool = False) -> str:
    """Tell a caption file's format by its suffix and content.

    Args:
        path: An existing file or folder.
        coco: Whether there is a COCO annotation file, so that a JSON list holds COCO results.

    Raises:
        UsageError: It cannot be told; the message names the choices.
    """
    if path.is_dir():
        if not any((path / name).is_file() for name in SAVED):
            raise UsageError(
                f"{path}: a folder without captions: give a caption file, a folder written by "
                f"Dataset.save_to_disk, or one with {' or '.join(METADATA)}"
            )
        return "datasets"
    with path.open("rb") as file:
        data = file.read(_HEAD_BYTES)
    suffix = path.suffix.lower()
    if data.startswith(b"PAR1"):
        return "datasets"
    head = data.decode("utf-8-sig", errors="replace").lstrip()
    # A file .json may be a list of captions, CLIPScore's mapping, or lines.
    form = None if suffix == ".json" else SUFFIXES.get(suffix)
    form = form or _told_by_content(head, suffix)
    if form == "csv" and "\t" in head.partition("\n")[0] and "," not in head.partition("\n")[0]:
        return "tsv"
    if form in ("json", "jsonl") and head.startswith("["):
        return "coco" if coco else "json"
    if form is None:
        raise UsageError(f"{path}: its format cannot be told: give input_format, one of {', '.join(INPUT_FORMATS)}")
    return form


def _told_by_content(head: str, suffix: str) -> str | None:
    first, _, rest = head.partition("\n")
    if head.startswith("{"):
        return "jsonl" if rest.strip() and _is_object(first) else "clipscore"
    if head.startswith("[") or suffix == ".json":
        return "json"
    if _NUMBERED.match(first):
        return "flickr8k"
    if "caption" in first:
        return "tsv" if "\t" in first else "csv" if "," in first else None
    return None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
