"""Excel workbooks are read as the tables that people see in them, and what has no value is said."""

from __future__ import annotations

import contextlib
import datetime
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i0tscore.errors import I0TScoreError, MissingExtraError, SampleFileError
from i0tscore.samples import Sample, read_samples, spreadsheets
from i0tscore.samples.labeled import read_labeled_table
from i0tscore.samples.ratings import read_rating_table, read_score_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("1.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def workbook(path: Path, *rows: list[object]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_ids_are_numbers_blank_rows_are_none_and_lists_are_captions(folder):
    rows = [[], ["Image", "Caption", "w"], [1, "A dog."], [], ["b", "['A cat, asleep.', 'A cat.']", 0.5], [None, "  "]]
    found = read_samples(workbook(folder / "captions.xlsx", *rows))
    assert found.samples == [
        Sample("1", folder / "1.jpg", "A dog."),
        Sample("b", folder / "b.jpg", "A cat, asleep."),
        Sample("b", folder / "b.jpg", "A cat."),
    ]
    assert found.notes == []


def test_the_first_sheet_is_read_with_a_note(folder):
    with pandas.ExcelWriter(folder / "captions.xlsx") as writer:
        for sheet, caption in (("Captions", "A dog."), ("Old", "A cat.")):
            pandas.DataFrame({"image": ["b"], "caption": [caption]}).to_excel(writer, sheet_name=sheet)
    found = read_samples(folder / "captions.xlsx")
    assert [sample.caption for sample in found.samples] == ["A dog."]
    assert 'Only the first sheet is read ("Captions"), not "Old".' in found.notes


def test_cells_without_a_usable_value_are_reported_by_row(folder):
    rows = [["image", "caption"], ["b", '="A "&"dog"'], ["c", datetime.date(2024, 5, 3)], ["b", "#N/A"], [True, "x"]]
    with pytest.raises(SampleFileError) as error:
        read_samples(workbook(folder / "captions.xlsx", *rows))
    expected = (
        ("row 2", "got a formula without one. Save the workbook with Excel or LibreOffice."),
        ("row 3", "Expected a caption, got the date or time 2024-05-03"),
        ("row 4", "got the error #N/A"),
        ("row 5", "Expected an image, got a Boolean"),
    )
    for line, (where, what) in zip(error.value.problems, expected, strict=True):
        assert line.startswith(f"{where}: ")
        assert what in line


def rewrite(path: Path, old: str, new: str) -> Path:
    """Change the sheet of a workbook as other programs write it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"].decode()
    assert old in sheet
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (parts | {"xl/worksheets/sheet1.xml": sheet.replace(old, new).encode()}).items():
            archive.writestr(name, content)
    return path


def test_formulas_count_by_their_stored_values_and_stated_sizes_do_not(folder):
    path = workbook(folder / "captions.xlsx", ["image", "caption", "references"], ["b", "=X1", "=Y1"])
    rewrite(path, "<f>X1</f><v />", "<f>X1</f><v>A dog.</v>")
    rewrite(path, '<c r="B2">', '<c r="B2" t="str">')
    rewrite(path, '<c r="C2">', '<c r="C2" t="str">')  # its value is empty text
    rewrite(path, 'ref="A1:C2"', 'ref="A1:A1"')
    assert read_samples(path).samples == [Sample("b", folder / "b.jpg", "A dog.")]


def test_ratings_scores_and_labels(folder):
    rows = [["Image Path", "caption", "rating", "mine", "label"], [1, "x", "3,5", 0.25, 7], ["b", "y", 4, "0,5", "z"]]
    path = workbook(folder / "r.xlsx", *rows)
    ratings = read_rating_table(path, images=folder)
    assert ratings.rating.tolist() == [3.5, 4]
    assert [sample.image for sample in ratings.samples] == [folder / "1.jpg", folder / "b.jpg"]
    assert read_score_table(path, ["mine"]).scores["mine"].tolist() == [0.25, 0.5]
    assert [item.label for item in read_labeled_table(path, "label").items] == ["7", "z"]
    path = workbook(path, ["image", "caption", "rating", "rater"], [1, "x", datetime.date(2024, 5, 3), "=A1"])
    with pytest.raises(SampleFileError, match="a formula without one") as error:
        read_rating_table(path)
    assert any("Expected a rating, got the date or time 2024-05-03" in line for line in error.value.problems)


def test_files_that_are_no_workbooks_or_too_large(folder, monkeypatch):
    old = folder / "captions.xls"
    old.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with zipfile.ZipFile(folder / "captions.ods", "w") as archive:
        archive.writestr("content.xml", "<x/>")
    for path in (old, folder / "captions.ods"):
        with pytest.raises(SampleFileError, match=r"Save it as \.xlsx or CSV"):
            read_samples(path)
    path = workbook(folder / "captions.xlsx", ["image", "caption"], ["b", "x" * 30_000])
    rewrite(path, "</sheetData>", "</sheet>")
    with pytest.raises(SampleFileError, match="openpyxl cannot read it"):
        read_samples(path)
    monkeypatch.setattr(spreadsheets, "MAX_UNPACKED", 10_000)
    with pytest.raises(SampleFileError, match="Expected at most 10,000 bytes unpacked"):
        read_samples(path)


def test_without_openpyxl_the_message_says_what_to_install(folder, monkeypatch):
    path = workbook(folder / "captions.xlsx", ["image", "caption"], ["b", "x"])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r'pip install "i0tscore\[excel\]"'):
        read_samples(path)


@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 3000), st.integers(0, 255), min_size=1, max_size=20))
def test_damaged_files_give_samples_or_an_error_of_ours(changes):
    with TemporaryDirectory() as folder:
        path = workbook(Path(folder, "x.xlsx"), ["image", "caption"], ["b", "x"])
        content = bytearray(path.read_bytes())
        for place, value in changes.items():
            content[-1 - place % len(content)] = value
        path.write_bytes(content)
        with contextlib.suppress(I0TScoreError):
            assert read_samples(path, on_error="skip").samples
