"""Labeled folders and tables are read as what they say, and their problems listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from i0tscore.errors import InputError, SampleFileError
from i0tscore.inversion import Inverted
from i0tscore.inversion.inverted import InversionConfig
from i0tscore.inversion.retrieval import Collection, Items, Search, report_retrieval
from i0tscore.samples.labeled import (
    LabeledItem,
    is_label_folder,
    read_label_folder,
    read_labeled_table,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "cat/b.JPG",
        "cat/a.png",
        "cat/notes.txt",
        "cat/._a.png",
        "dog/a.png",
        "empty/read.me",
        "c.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not decoded here")
    return tmp_path


def test_sub_folders_are_labels(folder):
    found = read_label_folder(folder)
    assert [(item.id, item.label) for item in found.items] == [
        ("cat/a.png", "cat"),
        ("cat/b.JPG", "cat"),
        ("dog/a.png", "dog"),
    ]
    assert found.items[0].image == folder / "cat" / "a.png"
    assert found.notes == ['Images outside subfolders are ignored: 1 ("c.png").']
    assert is_label_folder(folder)
    (folder / "metadata.csv").write_text("file_name,caption\n")
    assert not is_label_folder(folder), "it describes its images itself"
    for other in ("cat", "empty"):
        with pytest.raises(InputError, match="found neither"):
            read_label_folder(folder / other)


def test_hidden_folders_are_no_labels_and_deeper_ones_are_told(folder):
    for name in (".checkpoints/a.png", "cat/tabby/a.png", "cat/.thumbnails/a.png"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"not decoded here")
    found = read_label_folder(folder)
    assert [item.id for item in found.items] == ["cat/a.png", "cat/b.JPG", "dog/a.png"]
    assert 'Folders in subfolders are ignored: 1 ("cat/tabby").' in found.notes


def test_tables_have_images_captions_or_both(folder):
    table = folder / "t.csv"
    table.write_text("id,image,caption,kind\n1,cat/a.png,A cat.,cat\n2,dog/a.png,A dog.,7\n")
    (first, second), skipped = read_labeled_table(table, "kind").items, []
    assert first == LabeledItem("1", folder / "cat" / "a.png", "A cat.", "cat")
    assert second.label == "7"
    table.write_text("image,kind\ncat/a.png, cat \n")
    assert read_labeled_table(table, "kind").items == [LabeledItem("a.png", folder / "cat" / "a.png", None, "cat")]
    lines = folder / "t.jsonl"
    lines.write_text('{"caption": "A cat.", "kind": 3}\n{"caption": "A dog.", "kind": "dog"}\n')
    items = read_labeled_table(lines, "kind").items
    assert [(item.image, item.caption, item.label) for item in items] == [
        (None, "A cat.", "3"),
        (None, "A dog.", "dog"),
    ]
    assert not skipped


def test_all_problems_of_a_table_are_listed(folder):
    table = folder / "t.csv"
    table.write_text("image,caption,kind\n../x.png,A cat.,cat\ncat/a.png,,cat\ndog/a.png,A dog.,\n,A.,b\n")
    with pytest.raises(SampleFileError) as refused:
        read_labeled_table(table, "kind")
    problems = "\n".join(refused.value.problems)
    for said in (
        "is outside",
        "Expected a caption, got nothing",
        "Expected a label, got nothing",
        "Expected an image, got",
    ):
        assert said in problems
    with table.open("a") as file:
        file.write("cat/b.JPG,A grey cat.,cat\n")
    found = read_labeled_table(table, "kind", on_error="skip")
    assert [item.caption for item in found.items] == ["A grey cat."]
    assert len(found.skipped) == 4


def test_tables_without_anything_to_retrieve_are_refused(folder):
    (folder / "t.csv").write_text("name,kind\na,b\n")
    with pytest.raises(SampleFileError, match="Expected a column such as"):
        read_labeled_table(folder / "t.csv", "kind")
    (folder / "t.csv").write_text("caption,kind\n")
    with pytest.raises(SampleFileError, match="no entries"):
        read_labeled_table(folder / "t.csv", "kind")


def test_one_image_under_several_ids_is_one_item():
    images = [Path("a.jpg"), Path("b.jpg"), Path("a.jpg")]
    pairs = Collection.of_pairs(images, ["one", "two", "three"], ["1", "2", "3"])
    assert pairs.images is not None
    assert pairs.texts is not None
    assert pairs.images.contents == images[:2]
    assert pairs.texts.labels.tolist() == [0, 1, 0]
    assert pairs.texts.ids == ("1#0", "2#0", "1#1")


def test_embeddings_of_one_id_that_differ_are_different_images():
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    pairs = Collection.of_pairs(vectors, vectors, ["1", "1", "1"])
    assert pairs.images is not None
    assert pairs.texts is not None
    assert pairs.images.ids == ("1 (row 1)", "1 (row 2)")
    assert pairs.texts.labels.tolist() == [0, 0, 1]
    assert len(set(pairs.texts.ids)) == 3


def test_an_image_with_several_captions_is_one_item_of_a_labelled_table():
    rows = [("a.jpg", "x"), ("a.jpg", "x"), ("b.jpg", "x"), ("a.jpg", "y")]
    items = [LabeledItem(image, Path(image), f"text {row}", label) for row, (image, label) in enumerate(rows)]
    found = Collection.of_labeled(items, "{}")
    assert found.images is not None
    assert found.texts is not None
    assert found.images.contents == [Path("a.jpg"), Path("b.jpg"), Path("a.jpg")]
    assert found.images.labels.tolist() == ["x", "x", "y"]
    assert (found.images.over, found.texts.over) == ("images", "images")
    assert found.images.clusters.tolist() == [0, 1, 0], "intervals resample images"
    assert found.texts.clusters.tolist() == [0, 0, 1, 0]
    assert len(set(found.images.ids)) == 3


def test_labels_without_captions_become_prompts():
    items = [LabeledItem(str(i), Path(f"{i}.jpg"), None, label) for i, label in enumerate(["b_c", "a", "b_c"])]
    found = Collection.of_labeled(items, "see {}!")
    assert found.texts is not None
    assert found.prompts
    assert (found.texts.contents, found.texts.ids) == (["see a!", "see b c!"], ("a", "b_c"))


def test_inverted_features_of_other_items_are_refused():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    items = Items(tuple("abcd"), vectors, np.array([0, 0, 1, 1]), np.arange(4))
    settings = InversionConfig("oti", "m", "s", "fp32", 1, "{}", 1, 0.1, 0.0, 1)
    zeros, none = np.zeros(4, dtype=np.float32), np.zeros((4, 0), dtype=np.float32)
    inverted = Inverted(tuple("abdc"), vectors, zeros, np.ones(4, dtype=np.int64), none, none, settings)
    with pytest.raises(InputError, match="one per query item"):
        report_retrieval(Search.of("image-image", items, items), inverted)
