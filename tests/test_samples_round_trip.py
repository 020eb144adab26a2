"""What is written in a form is read back equal, whatever the texts are."""

from __future__ import annotations

import contextlib
import csv
import json
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i0tscore.errors import I0TScoreError
from i0tscore.samples import INPUT_FORMATS, Sample, read_samples

NAMES = ["dog", "d.v2", "Großé", "42", "sub/cat"]
TEXT = st.text(st.characters(codec="utf-8"), max_size=40).filter(str.strip)
REFERENCES = st.lists(TEXT, min_size=1, max_size=3).map(tuple)


@st.composite
def sample_lists(draw: st.DrawFn) -> list[tuple[str, str, tuple[str, ...]]]:
    references = REFERENCES if draw(st.booleans()) else st.just(())
    return draw(st.lists(st.tuples(st.sampled_from(NAMES), TEXT, references), min_size=1, max_size=6))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    for name in NAMES:
        (folder / f"{name}.jpg").touch()
    return folder


def write(path: Path, form: str, records: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if form == "json":
            json.dump(records, file, ensure_ascii=False)
        elif form == "jsonl":
            file.writelines(json.dumps(record) + "\n" for record in records)
        else:
            writer = csv.DictWriter(file, list(records[0]), delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            for record in records:
                writer.writerow({**record, "references": json.dumps(record["references"])})


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "tsv"])
@settings(max_examples=60, deadline=None)
@given(items=sample_lists())
def test_records(images, form, items):
    records = [{"id": name, "image": f"{name}.jpg", "caption": text, "references": refs} for name, text, refs in items]
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"captions.{form}"
        write(path, form, records)
        found = read_samples(path, images=images)
    assert found.samples == [Sample(name, images / f"{name}.jpg", text, refs) for name, text, refs in items]


@settings(max_examples=80, deadline=None)
@given(
    items=sample_lists(),
    suffix=st.sampled_from(["csv", "tsv"]),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    told=st.booleans(),
)
def test_dialects_of_tables(images, items, suffix, delimiter, encoding, quoting, told):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"captions.{suffix}"
        with path.open("w", encoding=encoding, newline="") as file:
            if told:
                file.write(f"sep={delimiter}\r\n")
            writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
            writer.writerow(["ID", "Image Path", "Caption", "References (en; de, fr|it)", "references"])
            writer.writerows([name, f"{name}.jpg", text, "", json.dumps(refs)] for name, text, refs in items)
        found = read_samples(path, images=images)
    assert found.samples == [Sample(name, images / f"{name}.jpg", text, refs) for name, text, refs in items]
    usual = delimiter == ("," if suffix == "csv" else "\t")
    assert any("Columns are separated by" in note for note in found.notes) != usual
    assert (f"Text is read as {encoding.upper()}." in found.notes) == (encoding in ("utf-16", "utf-32"))


@settings(max_examples=60, deadline=None)
@given(
    captions=st.dictionaries(st.sampled_from(NAMES), st.lists(TEXT, min_size=1, max_size=2), min_size=1),
    references=st.fixed_dictionaries(dict.fromkeys(NAMES, REFERENCES)),
)
def test_mapping_with_references(images, captions, references):
    with TemporaryDirectory() as folder:
        path, other = Path(folder) / "captions.json", Path(folder) / "references.json"
        path.write_text(json.dumps(captions), encoding="utf-8")
        other.write_text(json.dumps(references, ensure_ascii=False), encoding="utf-8")
        found = read_samples(path, images=images, references=other)
    assert found.samples == [
        Sample(name, images / f"{name}.jpg", text, references[name])
        for name, texts in captions.items()
        for text in texts
    ]


FILE_NAMES = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30)
    .filter(lambda name: not set(name) & set('/\\:*?"<>|') and name.strip().strip(".") == name)
    .map(lambda name: unicodedata.normalize("NFC", name))
)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(FILE_NAMES, min_size=1, max_size=4, unique_by=str.casefold),
    suffix=st.sampled_from([".jpg", ".PNG"]),
)
def test_any_file_name(names, suffix):
    with TemporaryDirectory() as place:
        folder = Path(place)
        for name in names:
            (folder / (name + suffix)).touch()
        (folder / "captions").write_text(
            json.dumps({unicodedata.normalize("NFD", name): "x" for name in names}), encoding="utf-8"
        )
        found = read_samples(folder / "captions", input_format="clipscore")
        assert [sample.image for sample in found.samples] == [folder / (name + suffix) for name in names]


@pytest.mark.parametrize("form", [form for form in INPUT_FORMATS if form not in ("coco", "datasets")])
@settings(max_examples=80, deadline=None)
@given(content=st.one_of(st.binary(max_size=80), st.text('{}[]":,\n\t idcaptoN1', max_size=60).map(str.encode)))
def test_any_content_gives_samples_or_an_error_of_ours(images, form, content):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "captions"
        path.write_bytes(b"id,caption\n" + content if form == "csv" else content)
        for on_error in ("raise", "skip"):
            with contextlib.suppress(I0TScoreError):
                assert read_samples(path, images=images, input_format=form, on_error=on_error).samples
