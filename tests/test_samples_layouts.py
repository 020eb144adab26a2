"""Layouts of caption files that people have: column names, lists, splits, annotations, and conversations."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import Table, parquet

from i0tscore.errors import SampleFileError, UsageError
from i0tscore.samples import read_samples
from i0tscore.samples.text import is_tokens, parse_list

CAPTIONS = {"dog": "A black dog jumps.", "cat": "A white cat rests.", "boy": "A boy on a beach."}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in CAPTIONS:
        (folder / f"{name}.jpg").write_bytes(b"not decoded here")
    return folder


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def scored(path, images, **options):
    """Return what is scored: id, image name, and caption."""
    found = read_samples(path, images=images, **options).samples
    return [(sample.id, sample.image.name, sample.caption) for sample in found]


def rows(**columns):
    """Return one object per caption, with given names of the columns."""
    names = {"caption": "caption", "image": "image"} | columns
    return [{names["image"]: f"{name}.jpg", names["caption"]: text} for name, text in CAPTIONS.items()]


EXPECTED = [(name, f"{name}.jpg", text) for name, text in CAPTIONS.items()]
NUMBERED = [(str(number), image, text) for number, (_, image, text) in enumerate(EXPECTED)]


def lines(objects):
    return "\n".join(map(json.dumps, objects))


def table(objects, delimiter=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, objects[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(objects)
    return file.getvalue()


@pytest.mark.parametrize("name", ["text", "answer", "response", "prediction", "generated_text", "output", "Caption"])
def test_usual_names_of_the_caption_are_known(write, images, name):
    objects = rows(caption=name, image="Image Path")
    assert scored(write("a.jsonl", lines(objects)), images) == EXPECTED
    assert scored(write("a.json", objects), images) == EXPECTED
    assert scored(write("a.csv", table(objects)), images) == EXPECTED
    parquet.write_table(Table.from_pylist(objects), images.parent / "a.parquet")
    assert scored(images.parent / "a.parquet", images) == EXPECTED


def test_answers_of_vision_language_models(write, images):
    objects = [
        {"question_id": number, "image": row["image"], "prompt": "Describe.", "text": row["text"], "metadata": {}}
        for number, row in enumerate(rows(caption="text"))
    ]
    assert scored(write("answers.jsonl", lines(objects)), images) == NUMBERED


def test_columns_can_be_named(write, images):
    objects = [{"nr": n, **row, "caption": "wrong"} for n, row in enumerate(rows(caption="said", image="picture"))]
    options = {"caption_column": "said", "image_column": "picture", "id_column": "nr"}
    for path in (write("a.jsonl", lines(objects)), write("a.json", objects), write("a.csv", table(objects))):
        assert scored(path, images, **options) == NUMBERED
    with pytest.raises(SampleFileError, match=r'Expected a key "sayd", found .*"said".* Correct the name'):
        scored(write("a.json", objects), images, **options | {"caption_column": "sayd"})
    with pytest.raises(TypeError, match="Did you mean caption_column"):
        read_samples("a.json", caption_colum="said")


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet"])
def test_two_usual_names_are_a_question(write, images, form):
    objects = [{**row, "prediction": "A bus."} for row in rows()]
    if form == "parquet":
        path = images.parent / "a.parquet"
        parquet.write_table(Table.from_pylist(objects), path)
    else:
        path = write(f"a.{form}", {"csv": table, "json": json.dumps, "jsonl": lines}[form](objects))
    with pytest.raises(SampleFileError, match=r'for the caption, found "caption", "prediction".*--caption-column'):
        read_samples(path, images=images)
    assert {caption for *_, caption in scored(path, images, caption_column="prediction")} == {"A bus."}


def test_columns_that_look_like_a_usual_name_are_noted(write, images):
    objects = [{**row, "caption_0": "A.", "refrences": "B.", "width": 7} for row in rows()]
    (note,) = read_samples(write("a.csv", table(objects)), images=images).notes
    assert (
        note
        == 'These columns are ignored: "caption_0" (did you mean "caption"?), "refrences" (did you mean "references"?).'
    )


def test_a_single_reference_column_is_read(write, images):
    objects = [{**row, "reference": "A dog."} for row in rows()]
    found = read_samples(write("a.csv", table(objects)), images=images).samples
    assert [sample.references for sample in found] == [("A dog.",)] * 3


@pytest.mark.parametrize(
    "cell",
    [
        '["A dog.", "A cat, asleep."]',
        "['A dog.', 'A cat, asleep.']",
        "['A dog.' 'A cat, asleep.']",
        "['A dog.'\n 'A cat, asleep.']",
        """["A dog.", 'A cat, asleep.']""",
    ],
)
def test_a_list_in_a_cell_is_several_captions(write, images, cell):
    path = write("a.csv", table([{"image": "dog.jpg", "raw": cell}]))
    assert scored(path, images) == [("dog", "dog.jpg", "A dog."), ("dog", "dog.jpg", "A cat, asleep.")]


@pytest.mark.parametrize("cell", ["['A dog.'", "['A dog.', 'x'] y", "[f'{1}', 'a b']", "[__import__('os'), 'a b']"])
def test_a_cell_that_begins_like_a_list_and_is_none(write, images, cell):
    path = write("a.csv", table([{"image": "dog.jpg", "caption": cell}, {"image": "cat.jpg", "caption": "A cat."}]))
    if not cell.startswith("['"):
        assert scored(path, images)[0][2] == cell
        return
    with pytest.raises(SampleFileError, match=r"line 2.*Expected a list such as"):
        read_samples(path, images=images)


def test_brackets_alone_are_text(write, images):
    path = write("a.csv", table([{"image": "dog.jpg", "caption": "[barking] A dog."}]))
    assert scored(path, images) == [("dog", "dog.jpg", "[barking] A dog.")]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1))
def test_lists_written_by_json_and_python_are_read(texts):
    assert parse_list(json.dumps(texts)) == texts
    assert parse_list(repr(texts)) == texts


def test_a_list_of_words_is_not_several_captions(write, images):
    path = write("a.json", [{"image": "dog.jpg", "caption": ["a", "dog", "runs", "."]}])
    with pytest.raises(SampleFileError, match=r'list of single words \("a", "dog", "runs", …\)\. Join the words'):
        read_samples(path, images=images)
    assert not is_tokens(["一只狗在跑", "一只棕色的狗", "狗"])
    assert not is_tokens(["A dog runs.", "Dog", "Animal"])


def karpathy(**extra):
    entries = []
    for number, (name, text) in enumerate(CAPTIONS.items()):
        sentences = [{"raw": text, "tokens": text.split()}, {"raw": f"{text} Again.", "tokens": []}]
        split = "test" if number else "train"
        entries.append({"imgid": number, "filename": f"{name}.jpg", "split": split, "sentences": sentences, **extra})
    return {"images": entries, "dataset": "flickr8k"}


def test_karpathy_splits(write, images):
    path = write("dataset.json", karpathy())
    found = read_samples(path, images=images)
    assert len(found.samples) == 6
    assert 'All splits are read: "train", "test". To read one, use --split (split=).' in found.notes
    assert [item[2] for item in scored(path, images, split="test")][::2] == list(CAPTIONS.values())[1:]
    with pytest.raises(SampleFileError, match='Expected the split "val", found "train", "test"'):
        read_samples(path, images=images, split="val")


def test_karpathy_splits_as_references_and_annotations(write, images):
    path = write("dataset.json", karpathy())
    captions = write("captions.json", CAPTIONS)
    found = read_samples(captions, images=images, references=path).samples
    assert [sample.references for sample in found] == [(text, f"{text} Again.") for text in CAPTIONS.values()]
    results = write("results.json", [{"image_id": n, "caption": "A bus."} for n in range(3)])
    found = read_samples(results, images=images, annotations=path).samples
    assert [(sample.id, sample.image.name) for sample in found] == [item[:2] for item in NUMBERED]
    assert found[0].references == ("A black dog jumps.", "A black dog jumps. Again.")


def coco():
    listed = [{"id": 7 + number, "file_name": f"{name}.jpg"} for number, name in enumerate(CAPTIONS)]
    annotations = [
        {"id": number, "image_id": 7 + number, "caption": text} for number, text in enumerate(CAPTIONS.values())
    ]
    return {"info": {}, "images": [*listed, {"id": 99, "file_name": "owl.jpg"}], "annotations": annotations}


def test_coco_annotations_are_captions(write, images):
    found = read_samples(write("captions_val.json", coco()), images=images)
    assert [(sample.id, sample.caption) for sample in found.samples] == [
        (str(7 + number), text) for number, text in enumerate(CAPTIONS.values())
    ]
    assert 'Images without captions in the file are ignored: 1 ("owl.jpg").' in found.notes


def test_coco_annotations_are_references_of_image_names(write, images):
    references = write("captions_val.json", coco())
    found = read_samples(write("captions.json", CAPTIONS), images=images, references=references)
    assert [sample.references for sample in found.samples] == [(text,) for text in CAPTIONS.values()]
    # The ids of rows are not those of COCO: image names decide.
    numbered = [{"id": 9 - number, **row} for number, row in enumerate(rows())]
    found = read_samples(write("a.csv", table(numbered)), images=images, references=references)
    assert [sample.references for sample in found.samples] == [(text,) for text in CAPTIONS.values()]


def test_ids_do_not_match_references_of_other_images(write, images):
    references = write("refs.json", [{"id": 1, "image": "owl.jpg", "caption": "An owl."}])
    path = write("a.json", [{"id": 1, "image": "dog.jpg", "caption": "A dog."}])
    with pytest.raises(SampleFileError, match=r"Expected refs\.json to have the ids of the captions"):
        read_samples(path, images=images, references=references)


def test_a_table_of_references(write, images):
    objects = [{"image": f"{name}.jpg", "reference": f"{text} {n}"} for n in (1, 2) for name, text in CAPTIONS.items()]
    found = read_samples(
        write("captions.json", CAPTIONS), images=images, references=write("refs.csv", table(objects))
    ).samples
    assert [sample.references for sample in found] == [(f"{text} 1", f"{text} 2") for text in CAPTIONS.values()]


def conversation(caption, style):
    if style == "sharegpt":
        turns = [("human", "<image>\nDescribe."), ("gpt", caption), ("human", "Sure?"), ("gpt", "Yes, it is.")]
        return {"conversations": [{"from": who, "value": text} for who, text in turns]}
    parts = [{"type": "text", "text": caption}]
    question = [{"type": "image"}, {"type": "text", "text": "Describe."}]
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": parts}]}


@pytest.mark.parametrize("style", ["sharegpt", "chat"])
@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_conversations(write, images, style, form):
    objects = [{"image": f"{name}.jpg", **conversation(text, style)} for name, text in CAPTIONS.items()]
    path = images.parent / f"a.{form}"
    if form == "parquet":
        parquet.write_table(Table.from_pylist(objects), path)
    else:
        path = write(path.name, lines(objects) if form == "jsonl" else objects)
    assert scored(path, images, turn=1) == EXPECTED
    last = {"sharegpt": ["Yes, it is."] * 3, "chat": list(CAPTIONS.values())}[style]
    assert [caption for *_, caption in scored(path, images)] == last
    with pytest.raises(SampleFileError, match=r"Expected turn 3 of the assistant, got [12] such turns"):
        read_samples(path, images=images, turn=3)


def test_a_list_of_one_image(write, images):
    assert scored(write("a.json", [{"images": ["dog.jpg"], "output": "A dog."}]), images)[0][0] == "dog"
    with pytest.raises(SampleFileError, match="Expected one image, got 2"):
        read_samples(write("a.json", [{"images": ["dog.jpg", "cat.jpg"], "output": "A dog."}]), images=images)


def test_objects_around_the_rows(write, images):
    assert scored(write("a.json", rows()[0]), images) == EXPECTED[:1]
    assert scored(write("a.json", rows()[0] | {"id": 3, "split": None}), images)[0][0] == "3"
    found = read_samples(write("a.json", {"model": "m", "results": rows()}), images=images)
    assert found.notes == ['Captions are read from the list under the key "results".']
    assert len(found.samples) == 3
    found = read_samples(write("a.json", {"images": [{"id": 1}], "results": rows()}), images=images)
    assert len(found.samples) == 3
    by_id = {name: {"caption": text, "score": 1} for name, text in CAPTIONS.items()}
    assert scored(write("a.json", by_id), images) == EXPECTED
    assert scored(write("a.json", CAPTIONS), images) == EXPECTED
    assert scored(write("a.json", {"image": "A dog.", "dog": "A cat."} | {"image": "x"}), images, on_error="skip") == [
        ("dog", "dog.jpg", "A cat.")
    ]


def test_json_that_pandas_writes(write, images):
    frame = pandas.DataFrame(rows())
    for orient in ("columns", "records", "index"):
        assert [item[1:] for item in scored(write("a.json", frame.to_json(orient=orient)), images)] == [
            item[1:] for item in EXPECTED
        ]
    assert scored(write("a.json", frame.to_dict("list")), images) == EXPECTED
    assert scored(write("a.json", {"image": "dog.jpg", "captions": ["A dog.", "A cat."]}), images) == [
        ("dog", "dog.jpg", "A dog."),
        ("dog", "dog.jpg", "A cat."),
    ]


def test_splits_of_a_table(write, images):
    objects = [{**row, "split": "train" if number else "test"} for number, row in enumerate(rows())]
    assert scored(write("a.csv", table(objects)), images, split="test") == EXPECTED[:1]
    with pytest.raises(SampleFileError, match="found no splits"):
        read_samples(write("a.json", CAPTIONS), images=images, split="test")


def test_pipes_and_standard_input_are_read_once(write, images):
    path = write("captions.json", CAPTIONS)
    code = f"from i0tscore.samples import read_samples as r; print(len(r('{{}}', images={str(images)!r}).samples))"
    for source, shell in (("-", f"cat {path} | "), ("/dev/stdin", f"cat {path} | ")):
        run = f"{shell}{sys.executable} -c {json.dumps(code.format(source))}"
        assert subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True).stdout == "3\n"


def test_caption_files_in_a_folder_are_suggested(write, images):
    path = write("images/captions.csv", table(rows()))
    with pytest.raises(UsageError, match=f"The folder has no captions. Give {path}, or a folder with"):
        read_samples(images)


def test_reading_options_have_no_effect_on_embeddings(tmp_path):
    with pytest.raises(UsageError, match="Expected input_format to be one of"):
        read_samples(tmp_path / "a.json", input_format="yaml")
