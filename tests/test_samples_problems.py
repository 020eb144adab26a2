"""Whatever is wrong with a caption file is said, all of it at once, and the rest can be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from i0tscore.errors import SampleFileError
from i0tscore.samples import SampleSet, Skipped, read_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def problems(path: Path, content: str | bytes, **options) -> tuple[str, ...]:
    """Write the file, read it, and return what is wrong with it."""
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    with pytest.raises(SampleFileError) as error:
        read_samples(path, **options)
    assert str(path) in str(error.value)
    return error.value.problems


def skipping(path: Path, content: str | bytes, **options) -> SampleSet:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_samples(path, on_error="skip", **options)


MAPPING = """{"a": "one", "a": "two", "b": " ", "b.jpg": 3, "c": NaN, "c.jpg": ["x", "", null],
              "d": "x", "../e": "x"}"""
MAPPING_PROBLEMS = (
    ('id "a"', 'more than once, with different texts ("one" and "two"). Keep one.'),
    ('id "b"', "Expected a caption, got an empty string"),
    ('id "b.jpg"', "Expected a caption, got the number 3"),
    ('id "c"', "Expected a caption, got NaN"),
    ('id "c.jpg", caption 2', "Expected a caption, got an empty string"),
    ('id "c.jpg", caption 3', "Expected a caption, got nothing"),
    ('id "d"', 'No image "d"'),
    ('id "../e"', "outside"),
)


def test_all_problems_of_a_mapping_are_listed_in_its_order(folder):
    found = problems(folder / "captions.json", MAPPING)
    assert len(found) == len(MAPPING_PROBLEMS)
    for line, (where, what) in zip(found, MAPPING_PROBLEMS, strict=True):
        assert line.startswith(f"{where}: ")
        assert what in line


def test_skipping_returns_what_is_good_with_reasons_for_the_rest(folder):
    found = skipping(folder / "captions.json", MAPPING)
    assert [(sample.id, sample.caption) for sample in found.samples] == [("c.jpg", "x")]
    assert [skipped.id for skipped in found.skipped] == [
        "a",
        "b",
        "b.jpg",
        "c",
        "c.jpg",
        "c.jpg",
        "d",
        "../e",
    ]
    for skipped, (where, what) in zip(found.skipped, MAPPING_PROBLEMS, strict=True):
        assert skipped.reason.startswith(where)
        assert what in skipped.reason


def test_several_problems_of_one_row_are_one_skipped_row(folder):
    content = '{"id": "x", "image": "x.jpg", "caption": "", "references": [1]}\n{"id": "a", "caption": "x"}'
    found = skipping(folder / "captions.jsonl", content)
    assert len(found.samples) == 1
    (skipped,) = found.skipped
    assert isinstance(skipped, Skipped)
    assert all(
        what in skipped.reason
        for what in ("No image", "Expected a caption, got an empty string", "reference 1, got the number 1")
    )


def test_equal_repetitions_of_a_key_are_a_note(folder):
    found = skipping(folder / "captions.json", '{"a": "one", "a": "one"}')
    assert len(found.samples) == 1
    assert found.skipped == []
    assert any('The id "a" occurs 2 times' in note for note in found.notes)


def test_twenty_problems_are_listed_and_the_rest_counted(folder):
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps({"id": n, "image": "a.jpg", "caption": ""}) + "\n" for n in range(57)))
    with pytest.raises(SampleFileError) as error:
        read_samples(path)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: 57 problems"
    assert len(lines) == 22
    assert lines[-1].strip() == "… and 37 more"


def test_trailing_commas_are_all_found_and_reading_goes_on_behind_them(folder):
    found = problems(folder / "captions.json", '{\n "a": "x",\n "b": ["y", ],\n "c": ""\n,}')
    assert [line.partition(":")[0] for line in found] == ["line 3, column 11", "line 5, column 1", 'id "c"']
    assert "Trailing comma before the closing bracket. Remove it." in found[0]


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("", "line 1, column 1", "got an empty file"),
        ("[", "line 1, column 2", "ends too early"),
        ('{"a": "x"', "line 1, column 10", "ends too early"),
        ("{'a': 'x'}", "line 1, column 2", "straight double quotation mark"),
        ('{"a": “x”}', "line 1, column 7", "straight double quotation mark"),
        ('{"a": "x"\n "b": "y"}', "line 2, column 2", "Invalid JSON"),
        ('{"a": "x"}\n{', "line 2, column 1", "one object per line (JSONL)"),
        ('{"a": "x\ny"}', "line 1, column 9", "Invalid JSON"),
        ('{"a": ' + "[" * 100_000, "", "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "", "thousands of digits"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_json_that_cannot_be_parsed(folder, content, where, what, on_error):
    path = folder / "captions.json"
    (found,) = problems(path, content, input_format="clipscore", on_error=on_error)
    assert found.startswith(where)
    assert what in found


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '"text"'])
def test_json_without_captions(folder, content):
    form = "json" if content == "[]" else "clipscore"
    (found,) = problems(folder / "captions.json", content, input_format=form)
    assert "no entries" in found or "Expected an object" in found


def test_json_of_another_form_than_given(folder):
    (found,) = problems(folder / "captions.json", '{"a": "x"}', input_format="json")
    assert "Expected a list of objects, got an object" in found
    (found,) = problems(folder / "captions.json", '{"images": [{"id": 1}], "annotations": []}')
    assert 'images item 1: Expected an object with "id" and "file_name"' in found


def test_bad_lines_of_jsonl_do_not_spoil_the_others(folder):
    content = (
        b'{"id": "a", "caption": "x", "by": "J\xc3\xbcrgen"}\n'
        b'{"id": "b", "caption": "x",}\n'
        b'{"id": "c", "caption": "caf\xe9"}\n'
        b"[1]\n"
        b"{broken\n"
        b'{"id": "c", "id": "b", "caption": "x"}\n'
        b'{"caption": "x"}\n'
        b'{"id": true, "caption": "x"}\n'
        b'{"id": "c"}\n'
        b'{"id": "c", "caption": "ok"}\n'
    )
    found = problems(folder / "captions.jsonl", content)
    expected = (
        ("line 2", "Trailing comma before"),
        ("line 3", "Expected UTF-8, got 0xE9 at byte 28 of the line"),
        ("line 4", "Expected an object {…}, got a list"),
        ("line 5", "Invalid JSON"),
        ('line 6 (id "b")', '"id" occurs more than once'),
        ("line 7", "Expected an id or an image, got neither"),
        ('line 8 (id "True")', "Expected an id, got a Boolean"),
        ('line 9 (id "c")', "Expected a caption, got nothing"),
    )
    assert len(found) == len(expected)
    for line, (where, what) in zip(found, expected, strict=True):
        assert line.startswith(f"{where}: ")
        assert what in line
    kept = skipping(folder / "captions.jsonl", content)
    assert [sample.caption for sample in kept.samples] == ["x", "ok"]
    assert len(kept.skipped) == 8


def test_encodings_other_than_utf8(folder):
    text = b'{"a": "caf\xe9",\n "b": "", "\xc3\xa9": ""}'
    found = problems(folder / "captions.json", text)
    assert found[0].startswith("line 1: Expected UTF-8, got 0xE9 at byte 11 of the line")
    assert "Save the file as UTF-8" in found[0]
    assert found[1].startswith('id "b": Expected a caption, got an empty string')
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        (line,) = problems(folder / "captions.json", '{"a": "x"}'.encode(encoding), input_format="clipscore")
        assert "without a mark. Save it as UTF-8" in line
    (line,) = problems(folder / "captions.json", '{"a": "x"}'.encode("utf-16")[:-1])
    assert "Expected UTF-16, got damaged text" in line


@pytest.mark.parametrize(
    "text",
    [
        "Собака бежит".encode("cp1251"),
        "Pies śpi na łące".encode("cp1250"),
        "Bir kedi oturuyor güneş ışığı".encode("cp1254"),
        "Ein großer Hund läuft über".encode("mac-roman"),
        "一只狗在跑".encode("gbk"),
        "犬が走る".encode("shift-jis"),
    ],
)
def test_encodings_that_cannot_be_told_are_refused_by_line(folder, text):
    (found,) = problems(folder / "captions.csv", b"id,caption\na,a dog\nb," + text)
    assert found.startswith("line 3: Expected UTF-8, got 0x")


def test_half_a_character_is_refused(folder):
    (found,) = problems(folder / "captions.json", '{"a": "dog \\ud83d"}')
    assert "unpaired surrogate" in found


def test_messages_cannot_control_a_terminal(folder):
    found = problems(folder / "captions.json", '{"\\u001b[2J\\n\\u009b": "x", "' + "y" * 5000 + '": "x"}')
    assert all(line.isprintable() for line in found)
    assert max(map(len, found)) < 500


def test_rows_of_a_table(folder):
    content = (
        b"id,caption,references\n"
        b"a,one,\xc3\xbc\n"
        b"b,two,three,four\n"
        b"b\n"
        b'c,"x" y,r\n'
        b'c,"spans\nlines",r,r\n'
        b"c,caf\xe9,r\n"
        b"c,,r\n"
        b'c,x,"[""r"""\n'
        b"c,x,\"['r']\"\n"
        b'c,x,"[""r"", 1]"\n'
        b'c,ok,"[""r""]"\n'
    )
    found = problems(folder / "captions.csv", content)
    expected = (
        ("line 3", "Expected 3 fields as in the header, got 4"),
        ("line 4", "Expected 3 fields as in the header, got 1"),
        ("line 5", "Expected a quoted field to end with a quotation mark"),
        ("lines 6 to 7", "Expected 3 fields as in the header, got 4"),
        ("line 8", "Expected UTF-8, got 0xE9 at byte 6"),
        ('line 9 (id "c")', "Expected a caption, got nothing"),
        ('line 10 (id "c")', 'Expected a list such as ["one", "two"]'),
        ('line 12 (id "c")', "reference 2, got the number 1"),
    )
    assert len(found) == len(expected)
    for line, (where, what) in zip(found, expected, strict=True):
        assert line.startswith(f"{where}: ")
        assert what in line
    kept = skipping(folder / "captions.csv", content)
    assert [sample.caption for sample in kept.samples] == ["one", "x", "ok"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("id,what\na,x\n", 'Expected a column such as "caption", found "id", "what". Name it with --caption-column'),
        ("caption\nx\n", 'Expected a column such as "id" or "image", found "caption"'),
        ("id,caption,caption\na,x,y\n", 'The column "caption" occurs more than once'),
        ('id,caption\na,"x\nb,y\n', "line 2: A quotation mark opened here is never closed"),
        ('id,"caption"x\na,x\n', "line 1: Expected a quoted field to end"),
        ("id,caption\ra,x\rb,y\r", "line 1: Expected a line feed after a carriage return"),
        ("id,caption,\udce9t\u00e9\na,x,1\n", "line 1: Expected UTF-8"),
        ("id,caption\n", "no entries"),
        ("", "no entries"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_tables_that_cannot_be_read(folder, content, what, on_error):
    (found,) = problems(folder / "captions.csv", content, on_error=on_error)
    assert what in found


def test_a_key_that_no_object_has_is_said_once(folder):
    content = json.dumps([{"id": "a", "what": "x"}, {"id": "b", "what": "y"}])
    (found,) = problems(folder / "captions.json", content)
    assert 'Expected a key such as "caption"' in found
    assert '"what"' in found


def test_an_id_of_two_objects_is_said(folder):
    content = (
        '{"a": {"image": "a.jpg", "caption": "x"}, "b": {"caption": "x"}, "a": {"image": "b.jpg", "caption": "y"}}'
    )
    (found,) = problems(folder / "captions.json", content, on_error="skip")
    assert found == 'The id "a" occurs more than once. Keep one.'


def test_one_id_for_two_images(folder):
    content = "id,image,caption\n1,a.jpg,x\n1,a.jpg,y\n1,b.jpg,z\n"
    (found,) = problems(folder / "captions.csv", content)
    assert found.startswith('line 4 (id "1"): The id "1" names the image "b.jpg" here and "a.jpg" at line 2')
    assert len(skipping(folder / "captions.csv", content).samples) == 2


def test_not_one_image_found_is_said_first(folder):
    found = problems(folder / "captions.json", '{"x": "x", "y": "y"}')
    assert len(found) == 3
    assert found[0].startswith("Found none of the images")
    assert '"a.jpg"' in found[0]
    found = problems(folder / "captions.json", '[{"image_id": 1, "caption": "x"}, {"image_id": 2, "caption": "x"}]')
    assert "If these are COCO results, use --annotations" in found[0]


def test_some_with_references_and_some_without(folder):
    content = '{"id": "a", "caption": "x", "references": ["r"]}\n{"id": "b", "caption": "x", "references": []}'
    (found,) = problems(folder / "captions.jsonl", content)
    assert found.startswith('line 2 (id "b"): Expected references, got none')
    assert [sample.id for sample in skipping(folder / "captions.jsonl", content).samples] == ["a"]


def test_rows_left_out_do_not_decide_whether_there_are_references(folder):
    content = '{"id": "a", "caption": "", "references": ["r"]}\n{"id": "b", "caption": "x"}'
    assert len(problems(folder / "captions.jsonl", content)) == 2
    found = skipping(folder / "captions.jsonl", content)
    assert [sample.id for sample in found.samples] == ["b"]
    assert [skipped.id for skipped in found.skipped] == ["a"]


def test_problems_of_the_references_file_are_listed_with_the_others(folder):
    references = folder / "references.json"
    references.write_text('{"a": ["r"], "b": ["r", " "], "d": 3, }')
    found = problems(folder / "captions.json", '{"a": "", "b": "x", "c": "x"}', references=references)
    assert len(found) == 4
    assert found[0].startswith("references.json: line 1, column 37: Trailing comma")
    assert found[1].startswith('id "a": Expected a caption, got an empty string')
    assert found[2].startswith('id "b": Expected text for reference 2, got an empty string')
    assert found[3].startswith('id "c": Expected references, found none in references.json')


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"x": ["r"]}', 'to have the ids of the captions ("a", "b"), found "x"'),
        ('{"a": "r", "b": "r", "a": "s"}', 'id "a": The id occurs more than once'),
        ('["r"]', "item 1: Expected an object {…}, got a string"),
        ("{", "ends too early"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_references_files_that_cannot_be_used(folder, content, what, on_error):
    references = folder / "references.json"
    references.write_text(content)
    found = problems(folder / "captions.json", '{"a": "x", "b": "y"}', references=references, on_error=on_error)
    assert found[0].startswith(("references.json", "Expected references.json"))
    assert what in found[0]


def test_coco_results_of_other_images(folder):
    annotations = folder / "annotations.json"
    annotations.write_text('{"images": [{"id": 1, "file_name": "a.jpg"}]}')
    content = '[{"image_id": 1, "caption": "x"}, {"image_id": 7, "caption": "y"}, {"image_id": 8, "caption": ""}]'
    found = problems(folder / "results.json", content, annotations=annotations)
    assert [line.partition(":")[0] for line in found] == ['item 2 (id "7")', 'item 3 (id "8")']
    assert "annotations.json has no image with image_id" in found[0]
    kept = skipping(folder / "results.json", content, annotations=annotations)
    assert [sample.id for sample in kept.samples] == ["1"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[]", 'Expected a list "images"'),
        ('{"images": {}}', 'Expected a list "images"'),
        ('{"images": [{"id": 1}]}', 'images item 1: Expected an object with "id" and "file_name"'),
        ('{"images": [], "annotations": [7]}', 'annotations item 1: Expected an object with "id" and "image_id"'),
        ('{"images": [], "annotations": 7}', 'Expected a list "annotations", got the number 7'),
        ('{"images": [}', "line 1, column 13"),
    ],
)
def test_coco_annotations_that_cannot_be_used(folder, content, what):
    annotations = folder / "annotations.json"
    annotations.write_text(content)
    found = problems(folder / "results.json", '[{"image_id": 1, "caption": "x"}]', annotations=annotations)
    assert any(line.startswith("annotations.json") and what in line for line in found)
