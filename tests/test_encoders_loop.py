from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from i0tscore.encoders.base import Encoder
from i0tscore.encoders.cache import EmbeddingCache
from i0tscore.encoders.images import SEVERAL_FRAMES
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.encoders.options import EncodeOptions
from i0tscore.encoders.text import split_text
from i0tscore.errors import CaptionTooLongError, UsageError

CAPTIONS = [f"a {color} dog {'runs far ' * n}home" for n in range(6) for color in ("red", "brown")]
LONG = "A brown dog runs. " * 40


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


class Counting:
    """An encoder that records its calls."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.image_batches: list[int] = []
        self.text_lengths: list[list[int]] = []
        self.fail_after: int | None = None
        self.preprocessed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        self.preprocessed += 1
        return self.inner.preprocess(image)

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        self.image_batches.append(len(pixels))
        if self.fail_after is not None and len(self.image_batches) > self.fail_after:
            raise RuntimeError("the power is out")
        return self.inner.encode_pixels(pixels)

    def encode_tokens(self, tokens: Any) -> torch.Tensor:
        self.text_lengths.append([len(one.ids) for one in tokens])
        return self.inner.encode_tokens(tokens)


@pytest.fixture
def encoder() -> Counting:
    return Counting(tiny_models.encoder("tiny"))


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(11)]


@pytest.fixture(scope="module")
def paths(arrays: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(len(arrays))]


def test_implements_the_protocol() -> None:
    assert isinstance(tiny_models.encoder("tiny"), Encoder)


def test_embeddings_do_not_depend_on_batches_order_or_workers(encoder: Counting, paths: list[str]) -> None:
    alone = np.concatenate([embed_images(encoder, [path], EncodeOptions(workers=1)).vectors for path in paths])
    for batch_size, workers in ((1, 1), (4, 3), (32, 2)):
        order = np.random.default_rng(batch_size).permutation(len(paths))
        embedded = embed_images(
            encoder, [paths[i] for i in order], EncodeOptions(batch_size=batch_size, workers=workers)
        )
        np.testing.assert_allclose(embedded.vectors[embedded.index], alone[order], atol=1e-5)
    alone = np.concatenate([embed_captions(encoder, [caption]).vectors for caption in CAPTIONS])
    for batch_size in (1, 5, 64):
        order = np.random.default_rng(batch_size).permutation(len(CAPTIONS))
        embedded = embed_captions(encoder, [CAPTIONS[i] for i in order], EncodeOptions(batch_size=batch_size))
        np.testing.assert_allclose(embedded.vectors[embedded.index], alone[order], atol=1e-5)
    assert embedded.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-6)


def test_each_distinct_image_is_encoded_once(
    encoder: Counting, paths: list[str], arrays: list[np.ndarray], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[0]).read_bytes())
    pil = Image.fromarray(arrays[3])
    images = [
        paths[0],
        paths[1],
        paths[0],
        copy,
        arrays[3],
        arrays[3].copy(),
        pil,
        torch.from_numpy(arrays[3]),
    ]
    embedded = embed_images(encoder, images)
    assert sum(encoder.image_batches) == encoder.preprocessed == 3
    assert embedded.index.tolist() == [0, 1, 0, 0, 2, 2, 2, 2]
    assert embedded.vectors.shape == (3, 16)


def test_batches_are_small_on_cpus_by_default(encoder: Counting, arrays: list[np.ndarray]) -> None:
    embed_images(encoder, arrays)
    assert encoder.image_batches == [8, 3]
    embed_images(encoder, arrays, EncodeOptions(batch_size=6))
    assert encoder.image_batches[2:] == [6, 5]


def test_each_distinct_caption_is_encoded_once_sorted_by_length(encoder: Counting) -> None:
    embedded = embed_captions(encoder, CAPTIONS * 3, EncodeOptions(batch_size=4))
    assert sum(len(batch) for batch in encoder.text_lengths) == len(CAPTIONS)
    lengths = [length for batch in encoder.text_lengths for length in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert embedded.index.tolist() == list(range(12)) * 3
    assert embedded.token_counts is not None
    assert embedded.token_counts.tolist() == [len(t.ids) for t in encoder.tokenize(CAPTIONS)]


def test_failures_have_positions_and_reasons(encoder: Counting, paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "page again.jpg").write_text("<html>404</html>")
    (tmp_path / "empty.jpg").touch()
    whole = Path(paths[2]).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    bad = [str(tmp_path / name) for name in ("page.jpg", "page again.jpg", "empty.jpg", "cut.png", "none.jpg")]
    images: list[Any] = [
        bad[0],
        paths[0],
        bad[1],
        bad[2],
        paths[1],
        bad[3],
        bad[4],
        bad[0],
        None,
        np.zeros(3),
    ]
    embedded = embed_images(encoder, images, EncodeOptions(batch_size=2))
    assert embedded.index.tolist() == [-1, 0, -1, -1, 1, -1, -1, -1, -1, -1]
    assert sorted(embedded.failures) == [0, 2, 3, 5, 6, 7, 8, 9]
    for position in (0, 2, 3, 5, 6, 7):
        assert embedded.failures[position].startswith(f"{images[position]}: ")
    assert "web page" in embedded.failures[2]
    assert "no such file" in embedded.failures[6]
    alone = embed_images(encoder, paths[:2])
    np.testing.assert_allclose(embedded.vectors, alone.vectors, atol=1e-5)


def test_empty_input(encoder: Counting, tmp_path: Path) -> None:
    assert embed_images(encoder, []).vectors.shape == (0, 16)
    empty = embed_captions(encoder, [])
    assert empty.vectors.shape == (0, 16)
    assert empty.index.shape == (0,)
    failed = embed_images(encoder, [str(tmp_path / "none.jpg")])
    assert failed.vectors.shape == (0, 16)
    assert list(failed.failures) == [0]


def test_captions_that_are_not_strings(encoder: Counting) -> None:
    embedded = embed_captions(encoder, ["a dog", None, 3, "a cat"])  # type: ignore[list-item]
    assert embedded.index.tolist() == [0, -1, -1, 1]
    assert sorted(embedded.failures) == [1, 2]
    assert "NoneType, not a string" in embedded.failures[1]


def test_second_run_uses_the_cache(encoder: Counting, paths: list[str], tmp_path: Path) -> None:
    with EmbeddingCache(encoder, tmp_path) as cache:
        images = embed_images(encoder, paths, cache=cache)
        captions = embed_captions(encoder, CAPTIONS, cache=cache)
    again = Counting(encoder.inner)
    with EmbeddingCache(again, tmp_path) as cache:
        np.testing.assert_array_equal(embed_images(again, paths, cache=cache).vectors, images.vectors)
        np.testing.assert_array_equal(embed_captions(again, CAPTIONS, cache=cache).vectors, captions.vectors)
        assert not again.image_batches
        assert not again.text_lengths
        part = embed_images(again, [*reversed(paths), str(tmp_path / "none.jpg")], cache=cache)
    np.testing.assert_array_equal(part.vectors, images.vectors[::-1])


@pytest.mark.parametrize("cached", [False, True])
def test_notes_count_distinct_images_with_a_cold_and_a_warm_cache(
    encoder: Counting, arrays: list[np.ndarray], tmp_path: Path, cached: bool
) -> None:
    frames = [Image.fromarray(array) for array in arrays]
    files = [tmp_path / f"{name}.gif" for name in "abcde"]
    for file, image in zip(files, frames, strict=False):
        image.save(file, save_all=True, append_images=frames[-2:])
    (tmp_path / "copy.gif").write_bytes(files[0].read_bytes())
    frames[0].save(tmp_path / "one.gif")
    (tmp_path / "cut.gif").write_bytes(files[0].read_bytes()[:300])
    inputs = [files[0], files[0], tmp_path / "copy.gif", *files[1:4], tmp_path / "one.gif", tmp_path / "cut.gif"]
    cache = EmbeddingCache(encoder, tmp_path / "cache") if cached else None
    for _ in range(2):
        embedded = embed_images(encoder, inputs, cache=cache)
        assert list(embedded.failures) == [7]
        assert embedded.notes == (f'{SEVERAL_FRAMES}: 4 ("a.gif", "b.gif", "c.gif", …).',)
    assert embed_images(encoder, arrays).notes == ()


def test_embeddings_are_cached_before_a_crash(encoder: Counting, paths: list[str], tmp_path: Path) -> None:
    encoder.fail_after = 2
    broken_off = EmbeddingCache(encoder, tmp_path)
    with pytest.raises(RuntimeError, match="power"):
        embed_images(encoder, paths, EncodeOptions(batch_size=3), cache=broken_off)
    again = Counting(encoder.inner)
    with EmbeddingCache(again, tmp_path) as cache:
        embed_images(again, paths, EncodeOptions(batch_size=3), cache=cache)
    assert sum(again.image_batches) == len(paths) - 6
    broken_off.close()


def test_prefetching_is_bounded(encoder: Counting, arrays: list[np.ndarray]) -> None:
    """While encoding is slow, only a bounded number of images is decoded."""
    images = [np.full((8, 8, 3), i % 256, dtype=np.uint8) + np.uint8(i // 256) for i in range(200)]
    seen: list[int] = []
    original = encoder.encode_pixels
    lock = threading.Lock()

    def slow(pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        with lock:
            seen.append(encoder.preprocessed - sum(encoder.image_batches) - len(pixels))
        return original(pixels)

    encoder.encode_pixels = slow  # type: ignore[method-assign]
    embed_images(encoder, images, EncodeOptions(batch_size=4, workers=2))
    assert max(seen) <= 4 + 2 + 1


def test_long_captions_are_truncated_with_one_warning(encoder: Counting) -> None:
    with pytest.warns(UserWarning, match="3 of 4 captions have more than 77 tokens and were truncated") as caught:
        embedded = embed_captions(encoder, [LONG, "a dog", LONG, LONG + " The end."])
    assert len(caught) == 1
    assert embedded.token_counts is not None
    assert embedded.tokens_cut is not None
    assert embedded.token_counts.tolist() == [202, 4, 205]
    assert embedded.tokens_cut.tolist() == [125, 0, 128]


def test_long_captions_as_errors(encoder: Counting) -> None:
    with pytest.raises(CaptionTooLongError, match="1 captions exceed the context length of tiny, 77 tokens") as caught:
        embed_captions(encoder, ["a dog", LONG], EncodeOptions(long_captions="error"))
    assert "caption 1: 202 tokens: A brown dog runs." in str(caught.value)
    many = [f"{LONG} {i}" for i in range(25)]
    with pytest.raises(CaptionTooLongError, match="and 5 more"):
        embed_captions(encoder, many, EncodeOptions(long_captions="error"))
    with pytest.raises(UsageError, match="truncate, split, error"):
        embed_captions(encoder, ["a"], EncodeOptions(long_captions="drop"))  # type: ignore[arg-type]


def test_long_captions_are_split_into_sentences_and_averaged(encoder: Counting) -> None:
    first = ("The brown dog runs over the wide green field. " * 7).strip()
    second = ("A small cat sleeps on the red sofa in the sun. " * 6).strip()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedded = embed_captions(
            encoder, [f"{first} {second}", "short"], EncodeOptions(long_captions="split"), prefix="Photo: "
        )
    parts = embed_captions(encoder, [first, second], prefix="Photo: ").vectors
    mean = parts.mean(axis=0) / np.linalg.norm(parts.mean(axis=0))
    np.testing.assert_allclose(embedded.vectors[0], mean, atol=1e-5)
    assert embedded.tokens_cut is not None
    assert embedded.tokens_cut.tolist() == [0, 0]


@settings(deadline=None, max_examples=100)
@given(text=st.text(st.sampled_from("ab .!。"), max_size=80), room=st.integers(1, 12))
def test_splitting_keeps_all_text_and_fits(text: str, room: int) -> None:
    pieces = split_text(text, lambda piece: len(piece) <= room)
    assert all(len(piece) <= room for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two. Three four.", ["One. Two.", "Three", "four."]),
        ("abcdefghijklmn op", ["abcdefghij", "klmn op"]),
        ("一二三。四五六。七八九十十", ["一二三。四五六。", "七八九十十"]),
        ("short", ["short"]),
        ("", [""]),
    ],
)
def test_where_texts_are_split(text: str, pieces: list[str]) -> None:
    assert split_text(text, lambda piece: len(piece) <= 10) == pieces


def test_numbers_below_one_are_errors(encoder: Counting) -> None:
    with pytest.raises(UsageError, match="batch_size to be at least 1, got 0"):
        embed_captions(encoder, [], EncodeOptions(batch_size=0))
    with pytest.raises(UsageError, match="workers to be at least 1, got None"):
        EncodeOptions(workers=None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="workers"):
        embed_images(encoder, [], EncodeOptions(workers=0))


def test_progress_goes_to_stderr_only_if_requested(
    encoder: Counting, paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    embed_images(encoder, paths)
    assert capsys.readouterr() == ("", "")
    embed_images(encoder, [*paths, paths[0], "/nowhere.jpg"], EncodeOptions(progress=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert "12/12" in err


@pytest.mark.data
def test_repeated_images_on_real_files(encoder: Counting, data_dir: Path) -> None:
    originals = sorted((data_dir / "flickr8k" / "images_original").glob("*.jpg"))[:8]
    embedded = embed_images(encoder, [*originals, *map(str, originals)])
    assert embedded.failures == {}
    assert embedded.index.tolist() == [*range(8), *range(8)]


class Lazy(Sequence[Image.Image]):
    """Creates each image on access, like a column of a dataset."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, place: Any) -> Any:
        return Image.fromarray(self.arrays[place])


def test_lazy_sequences(encoder: Counting, arrays: list[np.ndarray]) -> None:
    lazy = embed_images(encoder, Lazy([*arrays, arrays[0]]))
    assert lazy.index.tolist() == [*range(len(arrays)), 0]
    np.testing.assert_allclose(lazy.vectors, embed_images(encoder, arrays).vectors, atol=1e-5)
