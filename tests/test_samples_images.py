"""Images are found by name, whatever the suffix and the Unicode form, and inside one folder only."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from i0tscore.errors import SampleFileError
from i0tscore.samples import read_samples
from i0tscore.samples.diagnostics import UnusableError
from i0tscore.samples.images import ImageFolder, without_suffix

SUFFIXES = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "JPG", "Jpeg", "PNG", "TIFF"]


def filled(folder: Path, *names: str) -> ImageFolder:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return ImageFolder(folder)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_in_any_letter_case(tmp_path, suffix):
    folder = filled(tmp_path, f"dog.{suffix}")
    for name in ("dog", f"dog.{suffix}", f"dog.{suffix.upper()}", f"dog.{suffix.lower()}"):
        assert folder.find(name) == tmp_path / f"dog.{suffix}"


def test_dots_in_names(tmp_path):
    folder = filled(tmp_path, "d.v2.jpg", "d.jpg", "d.jpg.png", ".hidden.png", "1.5.jpeg")
    assert folder.find("d.v2").name == "d.v2.jpg"
    assert folder.find("d").name == "d.jpg"
    assert folder.find("d.jpg").name == "d.jpg"
    assert folder.find("d.jpg.png").name == "d.jpg.png"
    assert folder.find(".hidden").name == ".hidden.png"
    assert folder.find("1.5").name == "1.5.jpeg"


@pytest.mark.parametrize("form_on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("form_asked", ["NFC", "NFD"])
def test_composed_and_decomposed_characters_are_alike(tmp_path, form_on_disk, form_asked):
    file = unicodedata.normalize(form_on_disk, "Atelier_à_l'été_(3), 12 & ½.JPG")
    asked = unicodedata.normalize(form_asked, "Atelier_à_l'été_(3), 12 & ½")
    folder = filled(tmp_path, file)
    assert folder.find(asked) == tmp_path / file
    assert folder.find(f"{asked}.JPG") == folder.find(f"{asked}.jpg") == tmp_path / file


def test_references_are_joined_across_unicode_forms(tmp_path):
    filled(tmp_path, "café.jpg")
    captions, references = tmp_path / "captions.json", tmp_path / "references.json"
    captions.write_text(json.dumps({unicodedata.normalize("NFD", "café"): "x"}))
    references.write_text(json.dumps({unicodedata.normalize("NFC", "café"): "r"}))
    assert read_samples(captions, references=references).samples[0].references == ("r",)


def test_two_files_of_one_stem_are_named(tmp_path):
    folder = filled(tmp_path, "dog.jpg", "dog.png", "cat.jpg", "cat/cat.png")
    with pytest.raises(UnusableError, match=r'"dog" matches "dog\.jpg" and "dog\.png"'):
        folder.find("dog")
    assert folder.find("dog.png").name == "dog.png"
    assert folder.find("cat") == tmp_path / "cat.jpg"
    assert folder.find("cat/cat") == tmp_path / "cat/cat.png"


def test_a_file_without_suffix_is_found_by_its_exact_name(tmp_path):
    folder = filled(tmp_path, "000123", "dog", "dog.jpg")
    assert folder.find("000123") == tmp_path / "000123"
    assert folder.find("dog") == tmp_path / "dog.jpg"
    assert folder.unused() == []


def test_letter_case_of_stems_counts_and_is_hinted_at(tmp_path):
    folder = filled(tmp_path, "Dog.jpg")
    with pytest.raises(UnusableError, match=r'There is "Dog\.jpg", but case matters'):
        folder.find("dog")


def test_what_is_no_file_is_not_found(tmp_path):
    folder = filled(tmp_path, "sub/dog.jpg", "._cat.jpg", "text.txt")
    (tmp_path / "folder.jpg").mkdir()
    for name in (
        "sub",
        "folder",
        "folder.jpg",
        "dog",
        "text",
        "cat",
        "sub/dog.jpg/x",
        "x\0y",
        "sub\0/dog",
        "a" * 5000,
    ):
        with pytest.raises(UnusableError, match="No image"):
            folder.find(name)


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "..", ".", "sub/../../secret", "/etc/passwd", "//host/x.jpg", "sub/.."]
)
def test_no_path_leads_out_of_the_folder(tmp_path, name):
    images = tmp_path / "images"
    folder = filled(images, "sub/dog.jpg")
    filled(tmp_path, "secret.jpg")
    with pytest.raises(UnusableError, match="outside"):
        folder.find(name)


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path):
    folder = filled(tmp_path / "images", "dog.jpg")
    filled(tmp_path / "images2", "dog.jpg")
    with pytest.raises(UnusableError, match="outside"):
        folder.find(str(tmp_path / "images2" / "dog.jpg"))


def test_paths_inside_the_folder_may_be_written_in_any_way(tmp_path):
    folder = filled(tmp_path, "sub/dog.jpg", "cat.jpg")
    for name in (
        "sub/dog.jpg",
        "./sub/dog.jpg",
        "sub/../sub/dog.jpg",
        "sub//dog",
        str(tmp_path / "sub" / "dog.jpg"),
    ):
        assert folder.find(name) == tmp_path / "sub" / "dog.jpg"
    assert folder.find("sub/../cat") == tmp_path / "cat.jpg"


def test_web_addresses_are_not_fetched(tmp_path):
    with pytest.raises(UnusableError, match="got the URL"):
        filled(tmp_path).find("https://example.org/dog.jpg")


@pytest.mark.parametrize("give_images", [True, False])
def test_a_caption_file_reaches_its_images_only(tmp_path, give_images):
    images = tmp_path / "images"
    filled(images, "dog.jpg")
    filled(tmp_path, "secret.jpg")
    path = images / "captions.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"image": image, "caption": "x"})
            for image in ("dog.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"))
        )
    )
    options = {"images": images} if give_images else {}
    with pytest.raises(SampleFileError) as error:
        read_samples(path, **options)
    assert [line.partition(":")[0] for line in error.value.problems] == ["line 2", "line 3"]
    kept = read_samples(path, on_error="skip", **options)
    assert [sample.image for sample in kept.samples] == [images / "dog.jpg"]


def test_links_of_the_folder_are_followed(tmp_path):
    images = tmp_path / "images"
    filled(tmp_path, "elsewhere/dog.jpg")
    images.mkdir()
    (images / "link.jpg").symlink_to(tmp_path / "elsewhere" / "dog.jpg")
    (images / "folder").symlink_to(tmp_path / "elsewhere")
    folder = ImageFolder(images)
    assert folder.find("link") == images / "link.jpg"
    assert folder.find("folder/dog") == images / "folder" / "dog.jpg"


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.jpg", "a"), ("a.b.PNG", "a.b"), ("a.b", "a.b"), (".jpg", ".jpg"), ("a.", "a."), ("a", "a")],
)
def test_only_suffixes_of_images_are_cut_off(name, stem):
    assert without_suffix(name) == stem


@pytest.mark.data
def test_real_names(data_dir, tmp_path):
    images = data_dir / "blv_kreiss2022" / "images"
    stems = [without_suffix(file.name) for file in images.iterdir()]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({unicodedata.normalize("NFD", stem): "x" for stem in stems}))
    found = read_samples(path, images=images)
    assert sorted(sample.image.name for sample in found.samples) == sorted(file.name for file in images.iterdir())
    assert found.notes == []
