"""Excel workbooks, read as tables (extra ``excel``)."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, Final

from i0tscore.errors import MissingExtraError, SampleFileError, first_line
from i0tscore.samples.diagnostics import Location, Malformed, Record, preview
from i0tscore.samples.source import Source, read_decimal_commas

MAX_UNPACKED: Final = 500_000_000
"""Workbooks whose parts have more bytes than this are refused before they are unpacked."""

_NO_VALUE = Malformed("Expected a value, got a formula without one. Save the workbook with Excel or LibreOffice.")


def read_workbook(source: Source) -> list[Record]:
    """Read the first sheet of an Excel workbook, whose first row that is not empty is the header.

    Formulas count by the values that are stored with them. Empty cells are None, as are those under a column without
    a name.

    Raises:
        MissingExtraError: openpyxl is not installed.
        SampleFileError: It is no such workbook, or is too large.
    """
    _check_parts(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that are not supported
            return _read_sheet(source)
    except ImportError as error:
        raise MissingExtraError("openpyxl", "excel", f"{source.path}: An Excel workbook") from error
    except Exception as error:  # the library raises exceptions of many kinds for damaged files
        message = f"openpyxl cannot read it ({first_line(error)}). Save it again, or save it as CSV."
        raise SampleFileError(source.path, [message]) from error


def _check_parts(source: Source) -> None:
    """Raise ``SampleFileError`` if a file is no workbook or would become too large."""
    file = io.BytesIO(source.data)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = {part.filename: part.file_size for part in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):  # raised for damaged directories
        parts = {}
    if "[Content_Types].xml" not in parts:
        message = "Expected an Excel workbook (.xlsx), got an older, encrypted, or other file. Save it as .xlsx or CSV."
        raise SampleFileError(source.path, [message])
    if sum(parts.values()) > MAX_UNPACKED:
        message = f"Expected at most {MAX_UNPACKED:,} bytes unpacked, got {sum(parts.values()):,}. Save it as CSV."
        raise SampleFileError(source.path, [message])


def _read_sheet(source: Source) -> list[Record]:
    sheet = _open_sheet(source, formulas=False)
    number, header = next(
        (
            (number, ["" if cell.value is None else str(cell.value).strip() for cell in row])
            for number, row in enumerate(sheet.iter_rows(), start=1)
            if any(cell.value is not None for cell in row)
        ),
        (1, []),
    )
    if not header or not source.schema.check(list(filter(None, header)), source.diagnostics):
        return []
    rows = [[_value(cell) for cell in row] for row in _rows_below(sheet, number, len(header))]
    if any(value is None for row in rows for value in row):
        below = _rows_below(_open_sheet(source, formulas=True), number, len(header))
        for row, cells in zip(rows, below, strict=True):
            row[:] = [_NO_VALUE if v is None and c.data_type == "f" else v for v, c in zip(row, cells, strict=False)]
    records = [
        (Location(position, f"row {position}"), {name: cell for name, cell in zip(header, row, strict=False) if name})
        for position, row in enumerate(([_unless_blank(value) for value in row] for row in rows), start=number + 1)
        if any(cell is not None for cell in row)
    ]
    read_decimal_commas(records, source)
    return records


def _open_sheet(source: Source, *, formulas: bool) -> Any:
    """Return the first sheet with its formulas, or else with their values."""
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    sheets = load_workbook(io.BytesIO(source.data), read_only=True, data_only=not formulas).worksheets
    if len(sheets) > 1 and not formulas:
        others = preview(sheet.title for sheet in sheets[1:])
        source.diagnostics.notes.append(f"Only the first sheet is read ({preview([sheets[0].title])}), not {others}.")
    sheets[0].reset_dimensions()  # the size that a file states may be wrong
    return sheets[0]


def _rows_below(sheet: Any, number: int, columns: int) -> Iterator[Any]:
    yield from sheet.iter_rows(min_row=number + 1, max_col=columns)


def _value(cell: Any) -> Any:
    """Return the value of a cell; None if it has none, and an integer if it has no fraction."""
    value = cell.value
    if cell.data_type == "e":
        return Malformed(f"Expected a value, got the error {value}. Correct the cell.")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if cell.data_type == "str" and value is None:  # a formula whose value is empty text
        return ""
    return value


def _unless_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value
