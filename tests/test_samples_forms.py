"""Every accepted form of a caption file is read as what it says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from i0tscore.errors import InputError, UsageError
from i0tscore.samples import INPUT_FORMATS, ImageSource, Sample, read_samples
from i0tscore.samples.diagnostics import Diagnostics
from i0tscore.samples.formats import detect_format
from i0tscore.samples.source import Source

RECORDS = [
    {"id": "1", "image": "dog.jpg", "caption": "A dog.", "references": ["Dog", "A brown dog"]},
    {
        "id": "1",
        "image": "dog.jpg",
        "caption": 'A "big", brown\tdog.\nIt runs.',
        "references": ["Dog", "A brown dog"],
    },
    {"id": "2", "image": "sub/cat.PNG", "caption": "Eine Kätzin 🐈", "references": ["Cat", "[a] cat"]},
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("dog.jpg", "owl.JPEG", "sub/cat.PNG"):
        (folder / name).write_bytes(b"not decoded here")
    return folder


def expected(images: Path) -> list[Sample]:
    return [Sample(r["id"], images / r["image"], r["caption"], tuple(r["references"])) for r in RECORDS]


def write_table(path: Path, delimiter: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "image", "caption", "references"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**record, "references": json.dumps(record["references"])} for record in RECORDS)


def write(path: Path) -> Path:
    if path.suffix == ".xlsx":
        rows = [{**record, "references": json.dumps(record["references"])} for record in RECORDS]
        pandas.DataFrame(rows).to_excel(path)
    elif path.suffix == ".csv":
        write_table(path, ",")
    elif path.suffix == ".tsv":
        write_table(path, "\t")
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(record) for record in RECORDS), encoding="utf-8")
    else:
        path.write_text(json.dumps(RECORDS, indent=1), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "xlsx"])
def test_the_same_samples_in_every_form(tmp_path, images, suffix):
    found = read_samples(write(tmp_path / f"captions.{suffix}"), images=images)
    assert found.samples == expected(images)
    assert found.skipped == []


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path, images, suffix):
    path = write(tmp_path / f"captions.{suffix}")
    if suffix.startswith("json"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_samples(path, images=images).samples == expected(images)


def test_clipscore_mapping(tmp_path, images):
    path = tmp_path / "captions.json"
    path.write_text('{"dog": "A dog.", "owl.JPEG": ["An owl.", "A bird."], "sub/cat": "A cat."}')
    assert read_samples(path, images=images).samples == [
        Sample("dog", images / "dog.jpg", "A dog."),
        Sample("owl.JPEG", images / "owl.JPEG", "An owl."),
        Sample("owl.JPEG", images / "owl.JPEG", "A bird."),
        Sample("sub/cat", images / "sub/cat.PNG", "A cat."),
    ]


def test_images_are_beside_the_file_unless_a_folder_is_given(images):
    path = images / "captions.json"
    path.write_text('{"dog": "A dog."}')
    assert read_samples(path).samples == [Sample("dog", images / "dog.jpg", "A dog.")]


def test_the_images_path_stays_as_it_was_given(tmp_path, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("captions.json").write_text('{"dog": "A dog."}')
    assert read_samples("captions.json", images="images").samples[0].image == Path("images/dog.jpg")
    monkeypatch.chdir(images)
    assert read_samples("../captions.json", images=".").samples[0].image == Path("dog.jpg")


@pytest.mark.parametrize(
    ("record", "identifier", "file"),
    [
        ({"id": 7, "image": "dog.jpg"}, "7", "dog.jpg"),
        ({"image_id": 7, "image_path": "dog.jpg"}, "7", "dog.jpg"),
        ({"file_name": "sub/cat.PNG"}, "sub/cat", "sub/cat.PNG"),
        ({"image_id": "dog"}, "dog", "dog.jpg"),
        ({"id": "r9", "image_id": "dog"}, "r9", "dog.jpg"),
        ({"id": None, "image": "dog"}, "dog", "dog.jpg"),
        ({"id": "dog", "image": None, "score": float("nan")}, "dog", "dog.jpg"),
    ],
)
def test_names_of_fields_and_missing_ids(tmp_path, images, record, identifier, file):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({**record, "caption": "x"}))
    assert read_samples(path, images=images).samples == [Sample(identifier, images / file, "x")]


def test_an_empty_cell_is_no_value_and_spaces_around_column_names_do_not_count(tmp_path, images):
    path = tmp_path / "captions.csv"
    path.write_text("id , image,caption,references\n,dog.jpg,x,\n\n2,owl.JPEG,y, \n")
    assert read_samples(path, images=images).samples == [
        Sample("dog", images / "dog.jpg", "x"),
        Sample("2", images / "owl.JPEG", "y"),
    ]


def test_western_text_of_windows_is_read_with_a_note(tmp_path, images):
    caption = "Le chien “fidèle” – 5°"
    for name, content in (("captions.csv", f"id;caption\ndog;{caption}\n"), ("c.json", f'{{"dog": "{caption}"}}')):
        (tmp_path / name).write_bytes(content.encode("cp1252"))
        found = read_samples(tmp_path / name, images=images)
        assert found.samples == [Sample("dog", images / "dog.jpg", caption)]
        assert any("read as Windows-1252" in note for note in found.notes)


def test_large_cells_are_read_and_the_limit_of_the_process_stays(tmp_path, images):
    limit = csv.field_size_limit()
    (tmp_path / "captions.csv").write_text(f"image,caption,image_base64\ndog.jpg,A dog.,{'x' * 140_000}\n")
    assert read_samples(tmp_path / "captions.csv", images=images).samples == [
        Sample("dog", images / "dog.jpg", "A dog.")
    ]
    assert csv.field_size_limit() == limit


def test_a_cell_is_one_reference_or_a_json_list_and_is_never_run(tmp_path, images):
    path = tmp_path / "captions.csv"
    path.write_text('id,caption,references\ndog,x,"__import__(\'os\').abort()"\nowl,y,"[""a"", ""b""]"\n')
    found = read_samples(path, images=images)
    assert [sample.references for sample in found.samples] == [("__import__('os').abort()",), ("a", "b")]
    assert "Captions have 1 to 2 references each." in found.notes


def test_references_file_is_joined_by_id(tmp_path, images):
    captions, references = tmp_path / "captions.json", tmp_path / "references.json"
    captions.write_text('{"owl": "x", "dog.jpg": "y"}')
    references.write_text('{"dog": ["one", "two"], "owl.JPEG": "three", "fox": ["four"]}')
    found = read_samples(captions, images=images, references=references)
    assert [sample.references for sample in found.samples] == [("three",), ("one", "two")]
    assert 'Ids in references.json have no caption: 1 ("fox").' in found.notes


def test_references_file_goes_before_references_beside_the_captions(tmp_path, images):
    captions, references = tmp_path / "captions.json", tmp_path / "references.json"
    captions.write_text('[{"id": "dog", "caption": "x", "references": ["old"]}]')
    references.write_text('{"dog": "new"}')
    found = read_samples(captions, images=images, references=references)
    assert found.samples[0].references == ("new",)
    assert any("are ignored" in note for note in found.notes)


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.json"
    content = {
        "info": {},
        "images": [{"id": 42, "file_name": "dog.jpg"}, {"id": 43, "file_name": "owl.JPEG"}],
        "annotations": [
            {"id": 1, "image_id": 42, "caption": "one"},
            {"id": 2, "image_id": 43, "caption": "two"},
            {"id": 3, "image_id": 42, "caption": "three"},
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_coco_results(tmp_path, images, annotations, capfd):
    path = tmp_path / "results.json"
    path.write_text('[{"image_id": 43, "caption": "An owl."}, {"image_id": 42, "caption": "A dog."}]')
    found = read_samples(path, images=images, annotations=annotations)
    assert found.samples == [
        Sample("43", images / "owl.JPEG", "An owl.", ("two",)),
        Sample("42", images / "dog.jpg", "A dog.", ("one", "three")),
    ]
    assert capfd.readouterr() == ("", "")


def test_coco_results_without_reference_captions(tmp_path, images):
    annotations, path = tmp_path / "instances.json", tmp_path / "results.json"
    boxes = [{"id": 1, "image_id": 42, "bbox": [0, 0, 1, 1], "category_id": 3}]
    annotations.write_text(json.dumps({"images": [{"id": 42, "file_name": "dog.jpg"}], "annotations": boxes}))
    path.write_text('[{"image_id": "42", "caption": "A dog."}]')
    assert read_samples(path, images=images, annotations=annotations).samples == [
        Sample("42", images / "dog.jpg", "A dog.")
    ]


def test_an_image_folder_with_metadata(images):
    (images / "metadata.csv").write_text("file_name,caption\ndog.jpg,A dog.\nsub/cat.PNG,A cat.\n")
    assert read_samples(images).samples == [
        Sample("dog", images / "dog.jpg", "A dog."),
        Sample("sub/cat", images / "sub/cat.PNG", "A cat."),
    ]
    (images / "metadata.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"metadata\.csv and metadata\.jsonl"):
        read_samples(images)


def test_repeated_captions_are_kept_and_noted(tmp_path, images):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"id": "dog", "caption": "x"}\n' * 3)
    found = read_samples(path, images=images)
    assert len(found.samples) == 3
    assert any("more than once" in note and '"dog"' in note for note in found.notes)


def test_images_without_caption_are_counted_not_listed(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(1000):
        (images / f"{number:04}.jpg").touch()
    (images / "readme.txt").touch()
    path = tmp_path / "captions.json"
    path.write_text('{"0000": "x"}')
    assert read_samples(path, images=images).notes == [
        f'Images in {images} have no caption: 999 ("0001.jpg", "0002.jpg", "0003.jpg", …).'
    ]


def test_a_large_mapping(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(500):
        (images / f"{number}.jpg").touch()
    content = {str(number): [f"caption {number} {again}" for again in range(60)] for number in range(500)}
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    found = read_samples(path, images=images)
    assert len(found.samples) == 30_000
    assert found.samples[-1] == Sample("499", images / "499.jpg", "caption 499 59")
    assert found.notes == []


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.json", '{"dog": "x"}', "clipscore"),
        ("a.json", '{\n "dog": "x"\n}', "clipscore"),
        ("a.json", '{"dog": "x",\n "owl": "y"}', "clipscore"),
        ("a.json", ' \n[{"id": 1}]', "json"),
        ("a.json", '{"id": 1, "caption": "x"}\n{"id": 2, "caption": "y"}\n', "jsonl"),
        ("a.jsonl", '{"id": 1, "caption": "x"}', "jsonl"),
        ("a.JSONL", "[]", "json"),
        ("a.ndjson", "", "jsonl"),
        ("a.csv", "id,caption\n", "csv"),
        ("a.csv", "id\tcaption\n", "csv"),
        ("a.tsv", "id\tcaption\n", "csv"),
        ("a.txt", "id;caption\n", "csv"),
        ("a.txt", "id,caption\n", "csv"),
        ("a", '\ufeff{"dog": "x"}', "clipscore"),
        ("a.bin", "PAR1", "datasets"),
        ("a.csv", "PK\x03\x04", "xlsx"),
        ("a.parquet", "", "datasets"),
    ],
)
def test_the_format_is_told_by_suffix_and_content(tmp_path, name, content, form):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert detect_format(Source(path, Diagnostics())).name == form


def test_numbered_captions_are_read_with_their_images(tmp_path, images):
    path = tmp_path / "Flickr8k.token.txt"
    lines = ["dog.jpg#0\tA dog.", "dog.jpg#1\tA brown dog .", "", "sub/cat.PNG#0\t# cat, tab"]
    path.write_text("\r\n".join(lines), encoding="utf-8")
    found = read_samples(path, images=images).samples
    assert [(sample.id, sample.image, sample.caption) for sample in found] == [
        ("dog", images / "dog.jpg", "A dog."),
        ("dog", images / "dog.jpg", "A brown dog ."),
        ("sub/cat", images / "sub" / "cat.PNG", "# cat, tab"),
    ]
    path.write_text("dog.jpg#0\tA dog.\nowl.JPEG#0\nrat.jpg#0\tA rat.\n")
    with pytest.raises(InputError) as refused:
        read_samples(path, images=images)
    for said in ("line 2: Expected 2 fields (image#number, caption), got 1", 'line 3: No image "rat.jpg"'):
        assert said in str(refused.value)


def test_the_format_can_be_given(tmp_path, images):
    path = tmp_path / "captions.json"
    path.write_text("id,caption\ndog,x\n")
    assert read_samples(path, images=images, input_format="csv").samples[0].caption == "x"
    path.write_text("anything")
    path = path.rename(tmp_path / "captions.txt")
    for wrong in (None, "xml"):
        with pytest.raises(UsageError) as error:
            read_samples(path, images=images, input_format=wrong)
        assert all(name in str(error.value) for name in INPUT_FORMATS)


def test_options_that_contradict_each_other(tmp_path, images, annotations):
    path = tmp_path / "captions.json"
    path.write_text('{"dog": "x"}')
    with pytest.raises(UsageError, match="Expected COCO results with annotations"):
        read_samples(path, images=images, annotations=annotations)
    with pytest.raises(UsageError, match="need an annotation file"):
        read_samples(path, images=images, input_format="coco")
    with pytest.raises(UsageError, match="is a folder"):
        read_samples(images, input_format="coco", annotations=annotations)
    with pytest.raises(UsageError, match="on_error"):
        read_samples(path, images=images, on_error="ignore")
    with pytest.raises(UsageError, match="The folder has no captions"):
        read_samples(images)


def test_files_and_folders_that_are_not_there(tmp_path, images):
    path = tmp_path / "captions.json"
    path.write_text('{"dog": "x"}')
    with pytest.raises(InputError, match=r"missing\.json: No such file"):
        read_samples(tmp_path / "missing.json", images=images)
    with pytest.raises(InputError, match="No such folder"):
        read_samples(path, images=tmp_path / "missing")
    with pytest.raises(InputError, match="Not a folder"):
        read_samples(path, images=path)
    with pytest.raises(InputError, match="No such file"):
        read_samples(path, images=images, references=tmp_path / "missing.json")


def test_a_path_is_an_image_source(images):
    assert isinstance(images / "dog.jpg", ImageSource)


def test_reading_needs_no_heavy_library(tmp_path, images):
    path = tmp_path / "captions.json"
    path.write_text('{"dog": "x"}')
    code = (
        "import sys\nfrom i0tscore.samples import read_samples\n"
        f"read_samples({str(path)!r}, images={str(images)!r})\n"
        "print({'torch', 'datasets', 'pycocotools', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "xlsx", "parquet"])
def test_contexts_are_read_from_a_column_and_may_be_missing(tmp_path, images, suffix):
    rows = [
        {"image": "dog.jpg", "caption": "A dog.", "Article Text": '["Dogs", "are"] pets.\nOld ones.'},
        {"image": "owl.JPEG", "caption": "An owl.", "Article Text": None},
        {"image": "owl.JPEG", "caption": "A bird.", "Article Text": "  "},
    ]
    path = tmp_path / f"captions.{suffix}"
    frame = pandas.DataFrame(rows)
    if suffix.startswith("json"):
        path.write_text("\n".join(map(json.dumps, rows)) if suffix == "jsonl" else json.dumps(rows))
    elif suffix in ("xlsx", "parquet"):
        getattr(frame, "to_excel" if suffix == "xlsx" else "to_parquet")(path, index=False)
    else:
        frame.to_csv(path, sep="," if suffix == "csv" else "\t", index=False)
    found = [sample.context for sample in read_samples(path, images=images).samples]
    assert found == [rows[0]["Article Text"], None, None]


def test_a_context_is_one_text_of_one_column(tmp_path, images):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"image": "dog.jpg", "caption": "x", "context": "Dogs", "article": "Dogs are pets."}))
    with pytest.raises(
        InputError, match=r"Expected one key for the context, found .* Choose one with --context-column"
    ):
        read_samples(path, images=images)
    assert read_samples(path, images=images, context_column="article").samples[0].context == "Dogs are pets."
    rows = [{"image": "dog.jpg", "caption": "x", "context": ["Dogs", "Cats"]}, {"image": "owl.JPEG", "caption": "y"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="Expected a text as context, got a list"):
        read_samples(path, images=images)
    found = read_samples(path, images=images, on_error="skip")
    assert ([one.caption for one in found.samples], len(found.skipped)) == (["y"], 1)
