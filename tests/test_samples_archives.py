"""WebDataset archives and folders of text files: every caption is a sample, or there is a reason."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from i0tscore.errors import I0TScoreError, SampleFileError, UsageError
from i0tscore.samples import Sample, SampleSet, read_samples

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


def picture(colour: tuple[int, int, int] = COLOURS[0]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def files(folder: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pairs(found: SampleSet) -> list[tuple[str, str, str]]:
    return [(sample.id, sample.image.name, sample.caption) for sample in found.samples]


def test_a_webdataset_archive_is_read_with_its_images_left_in_it(tmp_path):
    members = {
        "a/red.png": picture(COLOURS[0]),
        "a/red.txt": b"Red.\n",
        "green.json": json.dumps({"id": "g", "caption": "Green.", "image": "../secret.png"}).encode(),
        "green.png": picture(COLOURS[1]),
        "blue.txt": b"Blue.",
    }
    path = tmp_path / "captions.tar"
    archive(path, members)
    found = read_samples(path, on_error="skip")
    assert [(sample.id, sample.caption) for sample in found.samples] == [("a/red", "Red."), ("g", "Green.")]
    for sample, colour in zip(found.samples, COLOURS, strict=False):
        with Image.open(io.BytesIO(pickle.loads(pickle.dumps(sample.image)).read_bytes())) as image:
            assert image.getpixel((0, 0)) == colour
    assert [skipped.reason for skipped in found.skipped] == [
        'sample 3 (id "blue"): Expected an image, found no image of this name. Add one.'
    ]
    path.write_bytes(b"no archive")
    with pytest.raises(SampleFileError, match="Not a readable tar archive"):
        read_samples(path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["dog.jpg", "dog.txt", "white.v2.jpg", "white.v2.txt"], ["dog", "white.v2"]),
        (["boy 0.5x.jpg", "boy 0.5x.txt", "boy 0.7x.jpg", "boy 0.7x.txt"], ["boy 0.5x", "boy 0.7x"]),
        (["s0.input.jpg", "s0.outputs.txt", "s1.input.jpg", "s1.outputs.txt"], ["s0", "s1"]),
        (["0.JPG", "0.caption.txt"], ["0"]),
        (["0.jpg", "0.caption"], ["0"]),
        (["a/0.jpg", "b/0.jpg", "a/0.txt", "b/0.txt"], ["a/0", "b/0"]),
    ],
)
def test_names_with_dots(tmp_path, names, expected):
    members = {name: name.encode() for name in names}
    found = read_samples(archive(tmp_path / "x.tar", members))
    assert [sample.id for sample in found.samples] == expected
    assert all(sample.image.read_bytes().decode() == sample.image.name for sample in found.samples)
    assert all(name in names for _, *pair in pairs(found) for name in pair)
    assert pairs(read_samples(files(tmp_path / "folder", members))) == [
        (name, Path(image).name, caption) for name, image, caption in pairs(found)
    ]


def test_files_that_make_no_sample_have_a_reason(tmp_path):
    members = dict.fromkeys(["a.jpg", "b.txt", "c.jpg", "c.png", "c.txt", "d.v1.jpg", "d.v2.jpg", "d.txt"], b"x")
    path = archive(tmp_path / "x.tar", members | {"e.jpg": b"x", "e.txt": b"y", "e.seg.png": b"", "README.md": b""})
    found = read_samples(path, on_error="skip")
    assert pairs(found) == [("e", "e.jpg", "y")]
    reasons = {skipped.id: skipped.reason for skipped in found.skipped}
    assert sorted(reasons) == ["a", "b", "c", "d", "d.v1", "d.v2"]
    assert "Expected a caption, got nothing" in reasons["a"]
    assert "Expected an image, found no image of this name" in reasons["b"]
    assert 'Expected one image, found "c.jpg", "c.png"' in reasons["c"]
    assert found.notes == ['Additional files are ignored: 2 ("README.md", "e.seg.png").']
    with pytest.raises(SampleFileError):
        read_samples(path)


STEMS = st.text("ab.", min_size=1, max_size=5).filter(lambda stem: not stem.startswith("."))


@settings(max_examples=100, deadline=None)
@given(names=st.sets(st.tuples(STEMS, st.sampled_from(["jpg", "txt", "json", "cls"])), min_size=1, max_size=8))
def test_every_file_is_in_a_sample_or_reported(names):
    members = {f"{stem}.{suffix}": b'{"caption": "x"}' for stem, suffix in sorted(names)}
    with TemporaryDirectory() as folder:
        path = archive(Path(folder, "x.tar"), members)
        try:
            found = read_samples(path, on_error="skip")
        except SampleFileError as error:
            reported = " ".join(error.problems)
            assert all(any(f'"{p}"' in reported for p in prefixes(name)) for name in members if name[-3:] != "cls")
            return
    known = {sample.id for sample in found.samples} | {skipped.id for skipped in found.skipped}
    noted = " ".join(found.notes)
    count = sum(int(note.split(": ")[1].split()[0]) for note in found.notes if note.startswith("Additional files"))
    missing = [name for name in members if not known & set(prefixes(name))]
    assert len(missing) <= count, (missing, noted)


def prefixes(name: str) -> list[str]:
    """The names that a sample with this file may have."""
    parts = name.split(".")
    return [".".join(parts[:-1]), parts[0]]


def test_a_folder_of_shards_is_one_corpus(tmp_path):
    """As img2dataset writes them."""
    for number in (1, 0):
        key = f"{number:05}0000"
        fields = json.dumps({"caption": "old", "url": "https://example.org/x.jpg", "key": key, "status": "success"})
        members = {f"{key}.jpg": picture(), f"{key}.json": fields.encode(), f"{key}.txt": f"Dog {number}.".encode()}
        archive(tmp_path / f"{number:05}.tar", members)
        (tmp_path / f"{number:05}.parquet").write_bytes(b"metadata, not read")
        (tmp_path / f"{number:05}_stats.json").write_text("{}")
    found = read_samples(tmp_path)
    assert pairs(found) == [("000000000", "000000000.jpg", "Dog 0."), ("000010000", "000010000.jpg", "Dog 1.")]
    assert found.notes == []


def test_names_that_shards_share_get_the_name_of_the_shard(tmp_path):
    for name in ("a", "b"):
        archive(tmp_path / f"{name}.tar", {"0.jpg": b"x", "0.txt": name.encode()})
    found = read_samples(tmp_path)
    assert [(sample.id, sample.caption) for sample in found.samples] == [("a/0", "a"), ("b/0", "b")]
    assert 'Several archives share sample names, so ids begin with the archive: 1 ("0").' in found.notes
    archive(tmp_path / "b.tar", {"0.jpg": b"x"})
    with pytest.raises(SampleFileError) as error:
        read_samples(tmp_path)
    assert error.value.problems[0].startswith('b.tar, sample 1 (id "b/0"): Expected a caption')


def test_links_in_archives_are_noted(tmp_path):
    path = archive(tmp_path / "x.tar", {"a.jpg": b"x", "a.txt": b"y"})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("b.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert read_samples(path).notes == ['Additional files are ignored: 1 ("b.txt (link)").']


def test_compressed_files_are_refused_with_advice(tmp_path):
    tar = archive(tmp_path / "x.tar", {"a.jpg": b"x", "a.txt": b"y"}).read_bytes()
    for name in ("x.tar.gz", "x.tar", "captions.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(tar))
        with pytest.raises(UsageError, match=r"Expected an uncompressed file, got gzip\. Decompress it first"):
            read_samples(tmp_path / name)


def test_a_folder_with_text_files_beside_images(tmp_path):
    members = {
        "dog.v2.jpg": b"x",
        "dog.v2.txt": "\ufeffA dög.\r\n".encode(),
        "val/cat.PNG": b"x",
        "val/cat.caption": "A cat.".encode("utf-16"),
        "owl.jpg": b"x",
        "owl.txt": b"An owl.\nIt sleeps.\n",
        "bare.jpg": b"x",
        "README.txt": b"about",
        "00000_stats.json": b"{}",
        "owl.mask.png": b"x",
        ".hidden/a.txt": b"x",
        "._dog.v2.txt": b"x",
    }
    found = read_samples(files(tmp_path / "f", members))
    assert found.samples == [
        Sample("dog.v2", tmp_path / "f" / "dog.v2.jpg", "A dög."),
        Sample("owl", tmp_path / "f" / "owl.jpg", "An owl.\nIt sleeps."),
        Sample("val/cat", tmp_path / "f" / "val" / "cat.PNG", "A cat."),
    ]
    assert found.notes == [
        'Text files with several lines are read as one caption each: 1 ("owl.txt").',
        'Images without a text file are ignored: 1 ("bare.jpg").',
        'Text files without an image are ignored: 2 ("00000_stats.json", "README.txt").',
        'Additional files are ignored: 1 ("owl.mask.png").',
    ]


def test_captions_and_images_in_two_folders(tmp_path):
    members = {"captions/a/dog.txt": b"A dog.", "captions/owl.txt": b"An owl."}
    root = files(tmp_path, members | {"images/a/dog.jpg": b"x", "images/owl.png": b"x"})
    for found in (read_samples(root), read_samples(root / "captions", images=root / "images")):
        assert [(s.id, s.image, s.caption) for s in found.samples] == [
            ("owl", root / "images" / "owl.png", "An owl."),
            ("a/dog", root / "images" / "a" / "dog.jpg", "A dog."),
        ]
    (root / "captions" / "cat.txt").write_text("A cat.")
    with pytest.raises(SampleFileError, match=r'cat\.txt.*No image "cat"'):
        read_samples(root / "captions", images=root / "images")


def test_text_files_that_cannot_be_read(tmp_path):
    root = files(tmp_path, {"a.jpg": b"x", "a.txt": b"\xe9", "b.jpg": b"x", "b.txt": b"x" * 1_000_001, "c.jpg": b"x"})
    (root / "c.txt").symlink_to("missing.txt")
    with pytest.raises(SampleFileError) as error:
        read_samples(root)
    for line, reason in zip(error.value.problems, ("Expected UTF-8", "got 1,000,001", "Cannot be read"), strict=True):
        assert reason in line


@pytest.mark.parametrize("verb", ["score", "gap", "fit"])
def test_commands_read_archives_and_folders(tmp_path, verb):
    members = {}
    for number in range(8):
        members[f"{number}.png"] = picture((number * 30, 200 - number * 20, 90))
        members[f"{number}.txt"] = f"Color number {number}.".encode()
    options = ["--output", tmp_path / "s.safetensors"] if verb == "fit" else ["--resamples", "0"]
    shown = set()
    for source in (archive(tmp_path / "x.tar", members), files(tmp_path / "f", members)):
        done = run(verb, source, "--model", "lite", *options)
        assert done.code == 0, done.err
        shown.add(done.out)
    assert len(shown) == 1


@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(st.integers(0, 3000), st.integers(0, 255), min_size=1, max_size=20))
def test_damaged_files_give_samples_or_an_error_of_ours(changes):
    with TemporaryDirectory() as folder:
        path = archive(Path(folder, "x.tar"), {"b.jpg": b"x", "b.txt": b"A dog."})
        content = bytearray(path.read_bytes())
        for place, value in changes.items():
            content[place] = value
        path.write_bytes(content)
        with contextlib.suppress(I0TScoreError):
            assert read_samples(path, on_error="skip").samples
