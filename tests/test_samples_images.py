"""Images are found by name, whatever the suffix and the Unicode form, and inside one folder only."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from i0tscore.errors import SampleFileError
from i0tscore.samples import images, read_samples
from i0tscore.samples.diagnostics import UnusableError
from i0tscore.samples.images import IMAGE_FORMATS, ImageFolder, without_suffix

SUFFIXES = ["jpg", "jpeg", "jfif", "png", "webp", "tif", "gif", "jp2", "avif", "heic", "ppm", "JPG", "Jpeg", "TIFF"]


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
    with pytest.raises(UnusableError, match=r'There is "Dog\.jpg", but case must match'):
        folder.find("dog")
    with pytest.raises(UnusableError, match=r'There is "Dog\.jpg", but suffixes must match'):
        folder.find("Dog.png")


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


def test_every_suffix_of_a_format_is_one_of_pillows():
    Image.init()
    for kind, suffixes in IMAGE_FORMATS.items():
        known = {suffix[1:] for suffix, name in Image.EXTENSION.items() if name == kind}
        assert kind in ("HEIF", "DIB") or known - {"pfm"} == set(suffixes)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("https://example.org/dog.jpg", "Download the image, or use --download"),
        ("s3://dogs/dog.jpg", r"Download the image\."),
    ],
)
def test_web_addresses_are_not_fetched_unless_asked(tmp_path, url, advice):
    with pytest.raises(UnusableError, match=f"got the URL .* {advice}"):
        filled(tmp_path, "dog.jpg").find(url)


def test_paths_of_other_systems(tmp_path):
    folder = filled(tmp_path, "im/a photo.jpg", "im/b.jpg")
    assert folder.find("im\\a photo.jpg") == folder.find("im\\a photo") == tmp_path / "im" / "a photo.jpg"
    assert folder.find((tmp_path / "im" / "a photo.jpg").as_uri()) == tmp_path / "im" / "a photo.jpg"
    assert folder.find("file://im/b.jpg") == tmp_path / "im" / "b.jpg"
    assert folder.notes == []
    (tmp_path / "im\\b.jpg").touch()
    assert filled(tmp_path).find("im\\b.jpg") == tmp_path / "im\\b.jpg"


def test_paths_whose_folder_is_not_there_are_matched_by_file_name(tmp_path):
    folder = filled(tmp_path, "a.jpg", "val/b.png", "train/c.jpg", ".hidden/d.jpg")
    paths = {
        "/home/someone/images/a.jpg": "a.jpg",
        "C:\\images\\val\\b.png": "val/b.png",
        "file:///data/b": "val/b.png",
        "../images/c.JPG": "train/c.jpg",
    }
    assert [folder.find(path) for path in ("a", "val/b")] == [tmp_path / "a.jpg", tmp_path / "val/b.png"]
    assert folder.notes == []
    for path, file in list(paths.items())[:2] + list(paths.items())[3:]:
        assert folder.find(path) == tmp_path / file
    assert len(folder.notes) == 1
    assert "matched by file name" in folder.notes[0]
    assert ': 3 ("/home/someone/images/a.jpg", "C:/images/val/b.png", ' in folder.notes[0]
    assert filled(tmp_path).find("file:///data/b") == tmp_path / "val/b.png"
    for path in ("images/d.jpg", "images/e.jpg"):
        with pytest.raises(UnusableError, match="No image"):
            folder.find(path)


def test_the_folders_of_a_path_choose_between_equal_file_names(tmp_path):
    folder = filled(tmp_path, "coco/val/1.jpg", "coco/train/1.jpg", "flickr/val/1.jpg")
    assert folder.find("/data/coco/val/1.jpg") == tmp_path / "coco/val/1.jpg"
    assert folder.find("/data/train/1.jpg") == tmp_path / "coco/train/1.jpg"
    with pytest.raises(UnusableError, match=r'"coco/val/1.jpg", "flickr/val/1.jpg"'):
        folder.find("/data/val/1.jpg")
    with pytest.raises(UnusableError, match="its file name matches"):
        folder.find("/data/1.jpg")


def test_an_image_that_its_folder_lacks_is_not_taken_from_another(tmp_path):
    folder = filled(tmp_path, "cats/1.jpg", "dogs/1.jpg", "dogs/2.jpg")
    for path in ("cats/2.jpg", "/elsewhere/cats/2.jpg"):
        with pytest.raises(UnusableError):
            folder.find(path)
    assert folder.notes == []


def test_two_paths_do_not_match_one_image(tmp_path):
    folder = filled(tmp_path, "1.jpg")
    assert folder.find("cats/1.jpg") == folder.find("cats/1.jpg") == tmp_path / "1.jpg"
    with pytest.raises(UnusableError, match=r'"dogs/1.jpg" and "cats/1.jpg" do not exist, and both have the file name'):
        folder.find("dogs/1.jpg")


def test_a_path_that_exists_elsewhere_is_not_matched(tmp_path):
    folder = filled(tmp_path / "images", "dog.jpg")
    filled(tmp_path, "originals/dog.jpg")
    for path in ("../originals/dog.jpg", str(tmp_path / "originals" / "dog.jpg")):
        with pytest.raises(UnusableError, match="outside"):
            folder.find(path)


def test_very_large_folders_are_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_MAX_LISTED", 2)
    folder = filled(tmp_path, "a.jpg", "b.jpg", "sub/c.jpg")
    with pytest.raises(UnusableError, match="No image"):
        folder.find("elsewhere/c.jpg")
    assert folder.find("sub/c.jpg") == tmp_path / "sub/c.jpg"


@pytest.mark.parametrize("file", ["000000000042.jpg", "COCO_val2014_000000000042.jpg"])
def test_padded_numbers_are_hinted_at(tmp_path, file):
    folder = filled(tmp_path, file, "000000000142.jpg", "dog.jpg")
    for name in (42, "42", "0042", "42.jpg"):
        with pytest.raises(UnusableError, match=f'There is "{file}": write the name in full'):
            folder.find(name)
    with pytest.raises(UnusableError, match="Add it or remove the row"):
        folder.find("2")


def test_matched_paths_are_noted_once(tmp_path):
    filled(tmp_path / "images", "dog.jpg", "cat.jpg")
    path = tmp_path / "captions.csv"
    path.write_text("image,caption\nC:\\x\\dog.jpg,A dog.\nC:\\x\\cat.jpg,A cat.\nC:\\x\\dog.jpg,A brown dog.\n")
    found = read_samples(path, images=tmp_path / "images")
    assert [sample.id for sample in found.samples] == ["dog", "cat", "dog"]
    assert len(found.notes) == 1
    assert "matched by file name in" in found.notes[0]
    assert found.notes[0].endswith('images: 2 ("C:/x/dog.jpg", "C:/x/cat.jpg").')


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
