"""Hugging Face datasets on disk, their embedded images left there until they are asked for."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from i0tscore.errors import SampleFileError
from i0tscore.integrations.shard_io import read_entries
from i0tscore.samples import ImageSource, Sample, read_samples

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


def picture(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    """Keep the library's cache and progress bars out of the way."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def dataset() -> datasets.Dataset:
    columns = {
        "id": ["r", "g", "b"],
        "image": [Image.new("RGB", (4, 4), colour) for colour in COLOURS],
        "caption": ["Red.", "Green.", "Blue."],
        "references": [["red"], ["green", "lime"], ["blue"]],
        "other": [1.0, 2.0, 3.0],
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def stored(dataset: datasets.Dataset, path: Path) -> Path:
    if path.suffix == ".parquet":
        dataset.to_parquet(str(path))
    else:
        dataset.save_to_disk(str(path))
    return path


@pytest.mark.parametrize("name", ["folder", "file.parquet"])
def test_embedded_images_are_read_when_asked_for(dataset, tmp_path, name):
    found = read_samples(stored(dataset, tmp_path / name))
    assert [(s.id, s.caption, s.references) for s in found.samples] == [
        ("r", "Red.", ("red",)),
        ("g", "Green.", ("green", "lime")),
        ("b", "Blue.", ("blue",)),
    ]
    for sample, colour in zip(found.samples, COLOURS, strict=True):
        assert isinstance(sample.image, ImageSource)
        with Image.open(io.BytesIO(sample.image.read_bytes())) as image:
            assert image.getpixel((0, 0)) == colour


def test_a_selection_keeps_its_order_and_other_processes_can_read_it(dataset, tmp_path):
    found = read_samples(stored(dataset.select([2, 0]), tmp_path / "folder"))
    assert [sample.id for sample in found.samples] == ["b", "r"]
    copy = pickle.loads(pickle.dumps(found.samples[1].image))
    with Image.open(io.BytesIO(copy.read_bytes())) as image:
        assert image.getpixel((0, 0)) == COLOURS[0]


def test_rows_that_cannot_be_scored(dataset, tmp_path):
    captions = ["Red.", " ", None]
    broken = dataset.remove_columns("caption").add_column("caption", captions)
    path = stored(broken, tmp_path / "folder")
    with pytest.raises(SampleFileError) as error:
        read_samples(path)
    assert error.value.problems == (
        'row 2 (id "g"): Expected a caption, got an empty string. Add one or remove the row.',
        'row 3 (id "b"): Expected a caption, got nothing. Add one or remove the row.',
    )
    assert [skipped.id for skipped in read_samples(path, on_error="skip").skipped] == ["g", "b"]


def test_parquet_that_other_tools_wrote(tmp_path):
    red, green = map(picture, COLOURS[:2])
    (tmp_path / "blue.png").write_bytes(picture(COLOURS[2]))
    structs = [
        {"bytes": red, "path": "red.png"},
        {"bytes": green, "path": None},
        {"bytes": None, "path": "blue.png"},
    ]
    pq.write_table(pa.table({"image": structs, "caption": ["x", "y", "z"]}), tmp_path / "structs.parquet")
    samples = read_samples(tmp_path / "structs.parquet").samples
    assert [sample.id for sample in samples] == ["red", "row 2", "blue"]
    assert [sample.image.read_bytes() for sample in samples[:2]] == [red, green]
    assert samples[2].image == tmp_path / "blue.png"

    table = pa.table({"image_id": [1, 1, 2], "image": [red, red, green], "caption": [["a", "b"], ["c"], ["d"]]})
    pq.write_table(table, tmp_path / "binary.parquet")
    samples = read_samples(tmp_path / "binary.parquet").samples
    assert [(sample.id, sample.caption) for sample in samples] == [
        ("1", "a"),
        ("1", "b"),
        ("1", "c"),
        ("2", "d"),
    ]
    assert samples[3].image.read_bytes() == green

    pq.write_table(pa.table({"image": ["blue.png"], "caption": ["x"]}), tmp_path / "paths.parquet")
    assert read_samples(tmp_path / "paths.parquet").samples == [Sample("blue", tmp_path / "blue.png", "x")]


def test_a_cell_of_text_that_holds_a_list_is_a_list(tmp_path):
    """As after ``pandas.read_csv`` and ``to_parquet``."""
    (tmp_path / "blue.png").write_bytes(picture(COLOURS[2]))
    columns = {"image": ["blue.png"], "caption": ['["A b.", "A c."]'], "references": ["['x y', 'z']"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    samples = read_samples(tmp_path / "t.parquet").samples
    assert [(sample.caption, sample.references) for sample in samples] == [
        ("A b.", ("x y", "z")),
        ("A c.", ("x y", "z")),
    ]
    assert [entry.sample.caption for entry in read_entries(tmp_path / "t.parquet")] == ["A b.", "A c."]


def test_paths_inside_a_data_set_do_not_leave_the_folder(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(COLOURS[0]))
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "file.parquet"
    structs = [
        {"bytes": None, "path": "../secret.png"},
        {"bytes": None, "path": str(tmp_path / "secret.png")},
    ]
    pq.write_table(pa.table({"image": structs, "caption": ["x", "y"]}), path)
    with pytest.raises(SampleFileError) as error:
        read_samples(path)
    assert sum("outside" in line for line in error.value.problems) == 2


def test_data_sets_that_cannot_be_read(dataset, tmp_path, capfd):
    splits = datasets.DatasetDict({"train": dataset, "test": dataset})
    splits.save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(SampleFileError, match=r'the folder of one of them \("test", "train"\)'):
        read_samples(tmp_path / "splits")
    assert len(read_samples(tmp_path / "splits" / "test").samples) == 3
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SampleFileError, match="The datasets library cannot read it"):
        read_samples(tmp_path / "bad.parquet")
    with pytest.raises(SampleFileError, match='Expected a column such as "caption"'):
        read_samples(stored(dataset.remove_columns("caption"), tmp_path / "none"))
    assert capfd.readouterr().out == ""


def test_a_folder_of_parquet_files_is_one_corpus(tmp_path):
    for name, colors in (("b", COLOURS[2:]), ("a", COLOURS[:2])):
        images = [{"bytes": picture(color), "path": f"{color}.png"} for color in colors]
        pq.write_table(pa.table({"image": images, "caption": [str(c) for c in colors]}), tmp_path / f"{name}.parquet")
    found = read_samples(tmp_path)
    assert [sample.caption for sample in found.samples] == [str(color) for color in COLOURS]
    assert [sample.image.read_bytes() for sample in found.samples] == [picture(color) for color in COLOURS]
    assert 'Files are read in this order: "a.parquet", "b.parquet".' in found.notes
