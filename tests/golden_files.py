"""What was printed once, in files, and whether something else says the same.

Numbers of JSON and CSV may differ by 0.00002, absolute or relative (percentiles, which are in percent, by
0.002), numbers of text by 0.0015; all else must be alike: keys and their order, words, lines, rows. What
belongs to a machine and not to the program is masked before anything is compared or written.

With ``I0TSCORE_UPDATE_GOLDEN=1`` files that differ are rewritten; those that agree are not touched.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"
UPDATE = os.environ.get("I0TSCORE_UPDATE_GOLDEN") == "1"

IN_DATA, IN_PERCENT, IN_TEXT = 2e-5, 2e-3, 1.5e-3
_NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?")
_INTEGER = re.compile(r"-?\d+")
_MASKS = (
    (re.compile(r"\|v:[^|\s\"]+"), "|v:VERSION"),
    (re.compile(r"\|lib:[^|\s\"]+"), "|lib:VERSION"),
    (re.compile(r"<style>.*?</style>", re.DOTALL), "<style></style>"),
    (re.compile(r"'sha256-[^']+'"), "'sha256-HASH'"),
    (re.compile(r"base64,[^\"]+"), "base64,DATA"),
)
_DIGESTS = (
    (r"\b({names})(?:-[0-9a-f]{{4,8}})+(?=[|:]|$)", r"\1-HASH"),
    (r'("name": "(?:{names})",\s*"digest": )"[0-9a-f]+"', r'\1"HASH"'),
)


def masked(text: str, *folders: Path, exact: bool = False) -> str:
    """The text without versions, folders and digests that are of this machine.

    Statistics of what an encoder computes differ from machine to machine in their last bits, and so do their
    digests: those of a run itself are called ``batch``, and those in files here ``near-…``.

    Args:
        text: What was printed.
        folders: Paths to mask.
        exact: Whether the run's own statistics are the same everywhere.
    """
    for folder in folders:
        text = text.replace(str(folder), "FOLDER")
    for pattern, shown in _MASKS:
        text = pattern.sub(shown, text)
    names = r"near-[a-z]+" if exact else r"near-[a-z]+|batch"
    for form, shown in _DIGESTS:
        text = re.sub(form.format(names=names), shown, text, flags=re.MULTILINE)
    return text


def check(name: str, form: str, text: str) -> None:
    """Compare what was printed with the file of that name.

    Args:
        name: Of the file, without suffix.
        form: ``text``, ``md``, ``html``, ``json``, ``jsonl`` or ``csv``; says how it is compared.
        text: What was printed, masked.
    """
    if form in ("json", "jsonl"):
        data = [json.loads(line) for line in text.splitlines()] if form == "jsonl" else json.loads(text)
        check_data(f"{name}.jsonl" if form == "jsonl" else name, data)
        return
    file = FOLDER / f"{name}.{'txt' if form == 'text' else form}"
    kept = file.read_text(encoding="utf-8") if file.exists() else None
    differing = _csv_difference if form == "csv" else _text_difference
    said = "there is no such file" if kept is None else differing(kept, text)
    if said and UPDATE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    else:
        assert not said, f"{file.name}: {said}"


def check_data(name: str, data: Any) -> None:
    """Compare plain data with the JSON file of that name."""
    file = FOLDER / f"{name}.json"
    data = json.loads(json.dumps(data))
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    said = "there is no such file" if kept is None else difference(kept, data)
    if said and UPDATE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(_rounded(data), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        assert not said, f"{file.name}: {said}"


def difference(kept: Any, found: Any, where: str = "", tolerance: float = IN_DATA) -> str:
    """Where plain data first differ; empty if they are alike."""
    if type(kept) is not type(found):
        return f"{where or 'top'}: {kept!r} was {type(kept).__name__}, now {found!r}"
    if isinstance(kept, dict):
        if list(kept) != list(found):
            return f"{where or 'top'}: keys were {list(kept)}, now {list(found)}"
        parts = [(f"{where}.{key}", kept[key], found[key], _tolerance(key, tolerance)) for key in kept]
    elif isinstance(kept, list):
        if len(kept) != len(found):
            return f"{where or 'top'}: {len(kept)} entries, now {len(found)}"
        parts = [(f"{where}[{i}]", *pair, tolerance) for i, pair in enumerate(zip(kept, found, strict=True))]
    else:
        return "" if _alike(kept, found, tolerance) else f"{where or 'top'}: was {kept!r}, now {found!r}"
    return next((said for w, a, b, t in parts if (said := difference(a, b, w, t))), "")


def _tolerance(key: str, outer: float) -> float:
    return IN_PERCENT if "percentile" in key else outer


def _alike(kept: Any, found: Any, tolerance: float) -> bool:
    if isinstance(kept, float):
        return math.isclose(kept, found, rel_tol=IN_DATA, abs_tol=tolerance) or kept == found
    if isinstance(kept, str) and "|" not in kept:  # a note may say a number; a signature is exact
        return not _text_difference(kept, found)
    return bool(kept == found)


def _text_difference(kept: str, found: str) -> str:
    before, now = kept.splitlines(), found.splitlines()
    for number, (a, b) in enumerate(zip(before, now, strict=False), 1):
        if not _same_words(a.split(), b.split()):
            return f"line {number} was\n{a}\nnow\n{b}"
    return "" if len(before) == len(now) else f"{len(before)} lines, now {len(now)}"


def _same_words(kept: list[str], found: list[str]) -> bool:
    return len(kept) == len(found) and all(map(_same_word, kept, found))


def _same_word(kept: str, found: str) -> bool:
    if kept == found or (kept and set(kept) == set(found) == {"-"}):
        return True
    if _NUMBER.sub("", kept) != _NUMBER.sub("", found):
        return False
    pairs = zip(_NUMBER.findall(kept), _NUMBER.findall(found), strict=True)
    return all(abs(_value(a) - _value(b)) <= IN_TEXT for a, b in pairs)


def _value(number: str) -> float:
    return float(number.replace("−", "-"))


def _csv_difference(kept: str, found: str) -> str:
    before, now = (list(csv.reader(io.StringIO(text))) for text in (kept, found))
    if [len(row) for row in before] != [len(row) for row in now]:
        return "other rows or columns"
    if before[:1] != now[:1]:
        return f"columns were {before[0]}, now {now[0]}"
    for number, (a, b) in enumerate(zip(before[1:], now[1:], strict=True), 2):
        for column, old, new in zip(before[0], a, b, strict=True):
            if not _same_cell(old, new, _tolerance(column, IN_DATA)):
                return f"row {number}, {column}: was {old!r}, now {new!r}"
    return ""


def _same_cell(kept: str, found: str, tolerance: float) -> bool:
    if kept == found:
        return True
    try:
        numbers = float(kept), float(found)
    except ValueError:
        return False
    whole = _INTEGER.fullmatch(kept) or _INTEGER.fullmatch(found)
    return not whole and math.isclose(*numbers, rel_tol=IN_DATA, abs_tol=tolerance)


def _rounded(data: Any) -> Any:
    """The same with floats of eight digits, which is more than is compared."""
    if isinstance(data, float):
        return float(f"{data:.8g}")
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, list) else data
