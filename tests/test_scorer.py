"""The scorer on image files, with a small open_clip model of random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image

from i0tscore import I0TScorer
from i0tscore.errors import CaptionTooLongError, InputError, NothingToScoreError, StatisticsError
from i0tscore.gap import Statistics

COUNT = 40


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    tiny_models.register(tmp_path_factory.mktemp("configs"))
    return tiny_models.encoder("tiny")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    paths = [folder / f"été {i}.png" for i in range(COUNT)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return paths


CAPTIONS = [f"a photograph of {i} things" for i in range(COUNT)]


def _scorer(encoder, **options) -> I0TScorer:
    return I0TScorer(encoder, **{"statistics": "batch", "resamples": 50, **options})


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_paths_pictures_arrays_and_generators_score_the_same(encoder, photographs) -> None:
    def stream() -> Iterator[Image.Image]:
        for path in photographs:
            with Image.open(path) as image:
                yield image.copy()

    scorer = _scorer(encoder)
    expected = scorer.score(photographs, CAPTIONS)
    assert expected.ids[1] == "été 1"
    for images in (
        [str(p) for p in photographs],
        [Image.open(p) for p in photographs],
        [np.asarray(Image.open(p)) for p in photographs],
        stream(),
    ):
        result = scorer.score(images, CAPTIONS)
        for name in expected:
            np.testing.assert_allclose(result[name].values, expected[name].values, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_a_score_is_the_same_alone_in_any_order_batch_and_number_of_workers(encoder, photographs, tmp_path) -> None:
    path = tmp_path / "s.safetensors"
    _scorer(encoder).fit(photographs, CAPTIONS).save(path)
    whole = _scorer(encoder, statistics=path).score(photographs, CAPTIONS)["I0TScore"].values
    order = np.random.default_rng(1).permutation(COUNT)
    shuffled = _scorer(encoder, statistics=path, batch_size=7, workers=5)
    values = shuffled.score([photographs[i] for i in order], [CAPTIONS[i] for i in order])["I0TScore"].values
    np.testing.assert_allclose(values, whole[order], atol=1e-5)
    alone = _scorer(encoder, statistics=path).score(photographs[3:4], CAPTIONS[3:4])
    assert alone["I0TScore"].values[0] == pytest.approx(whole[3], abs=1e-5)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_bad_images_and_captions_are_listed_together_or_skipped(encoder, photographs, tmp_path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    images = [
        *photographs,
        tmp_path / "empty.jpg",
        tmp_path / "text.jpg",
        tmp_path / "gone.jpg",
        photographs[0],
    ]
    captions: list[object] = [*CAPTIONS, "a", "b", "c", "  "]
    with pytest.raises(InputError, match="the caption is empty"):
        _scorer(encoder).score(images, captions)
    with pytest.raises(InputError) as error:
        _scorer(encoder).score(images[:-1], captions[:-1])
    assert all(name in str(error.value) for name in ("empty.jpg", "text.jpg", "gone.jpg", "--on-error skip"))
    result = _scorer(encoder, on_error="skip").score(images, captions)
    assert result.n == COUNT
    assert [s.id for s in result.skipped] == ["empty", "text", "gone", "été 0"]
    assert result["I0TScore"].signature["skipped"] == "4"
    expected = _scorer(encoder).score(photographs, CAPTIONS)
    np.testing.assert_allclose(result["I0TScore"].values, expected["I0TScore"].values, atol=1e-5)


def test_a_run_whose_samples_are_all_skipped_has_its_own_error(encoder) -> None:
    with pytest.raises(NothingToScoreError, match="every sample was skipped"):
        _scorer(encoder, on_error="skip").score(["missing.png"], ["A dog."])
    with pytest.raises(NothingToScoreError, match="every sample was skipped"):
        _scorer(encoder, on_error="skip").score(["missing.png"], ["A dog."], [["A cat."]])


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_streaming_keeps_repeated_images_and_captions_once(encoder, photographs) -> None:
    scorer = _scorer(encoder)
    for _ in range(2):
        scorer.update(photographs, CAPTIONS, references=[[c, "something else"] for c in CAPTIONS])
    result = scorer.compute()
    assert result.n == 2 * COUNT
    assert result["CLIPScore"].rank_of == COUNT
    assert list(result) == ["I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore"]
    np.testing.assert_allclose(result["RefCLIPScore"].values[:COUNT], result["RefCLIPScore"].values[COUNT:], atol=1e-5)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_a_long_caption_depends_on_its_beginning_and_says_what_was_cut(encoder, photographs) -> None:
    words = [f"word{i}" for i in range(200)]
    changed = [*words[:4], "elephant", *words[5:]]
    captions = [*CAPTIONS[:38], " ".join(words), " ".join(changed)]
    images = [*photographs[:38], photographs[0], photographs[0]]
    with pytest.warns(UserWarning, match="2 of 40 captions"):
        result = _scorer(encoder).score(images, captions)
    values = result["I0TScore"].values
    assert abs(values[38] - values[39]) > 1e-4
    assert result.samples[38].tokens_cut > 0
    assert result.samples[0].tokens_cut == 0
    split = _scorer(encoder, long_captions="split").score(images, captions)
    assert split.samples[38].tokens_cut == 0
    assert split["I0TScore"].signature["long"] == "split"
    with pytest.raises(CaptionTooLongError):
        _scorer(encoder, long_captions="error").score(images, captions)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_embeddings_are_cached_and_come_back_the_same(encoder, photographs, tmp_path) -> None:
    first = _scorer(encoder, cache_dir=tmp_path).score(photographs, CAPTIONS)
    again = _scorer(encoder, cache_dir=tmp_path).score(photographs, CAPTIONS)
    np.testing.assert_array_equal(first["I0TScore"].values, again["I0TScore"].values)
    assert list(tmp_path.iterdir())


def test_statistics_of_another_encoder_are_refused_naming_both(encoder, photographs, tmp_path) -> None:
    other = tiny_models.encoder("tiny", seed=1)
    _scorer(other).fit(photographs, CAPTIONS, name="theirs").save(tmp_path / "s")
    with pytest.raises(StatisticsError, match=rf"{other.fingerprint.weights}.*{encoder.fingerprint.weights}"):
        _scorer(encoder, statistics=tmp_path / "s").score(photographs, CAPTIONS)


def test_fitted_shards_merge_to_one_pass(encoder, photographs) -> None:
    scorer = _scorer(encoder)
    whole = scorer.fit(photographs, CAPTIONS)
    parts: list[Statistics] = [scorer.fit(photographs[s], CAPTIONS[s]) for s in (slice(15), slice(15, None))]
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.image.mean, whole.image.mean, atol=1e-6)
    np.testing.assert_allclose(merged.caption.mean, whole.caption.mean, atol=1e-6)


MEMORY = """
import json, resource, sys, tempfile
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np
from PIL import Image
import tiny_models
from i0tscore import I0TScorer

rows = int(sys.argv[1])
folder = Path(tempfile.mkdtemp())
tiny_models.register(folder)
rng = np.random.default_rng(0)
images = [folder / f"{{i}}.jpg" for i in range(200)]
for path in images:
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)
scorer = I0TScorer(tiny_models.encoder("tiny"), statistics="batch", resamples=1000)
captions = [f"a photograph of {{i}} things" for i in range(rows)]
result = scorer.score([images[i % 200] for i in range(rows)], captions)
print(json.dumps([result.n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    script = MEMORY.format(tests=str(Path(__file__).parent))
    peaks = {}
    for rows in (200, 20_000):
        done = subprocess.run([sys.executable, "-c", script, str(rows)], capture_output=True, text=True, check=True)
        n, peaks[rows] = json.loads(done.stdout.splitlines()[-1])
        assert n == rows
    assert peaks[20_000] - peaks[200] < 400


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "no references; give at least one"),
        ([], "no references; give at least one"),
        (["one", None], "a reference is NoneType, not a string"),
        ([3], "a reference is int, not a string"),
        (["one", " "], "a reference is empty"),
    ],
)
def test_references_that_are_no_texts_are_named_or_skipped(encoder, photographs, own, reason) -> None:
    given = photographs[:2], CAPTIONS[:2], [["one"], own]
    with pytest.raises(InputError, match=f"été 1: {reason}"):
        _scorer(encoder, metrics="RefCLIPScore").score(*given)
    result = _scorer(encoder, metrics="RefCLIPScore", on_error="skip").score(*given)
    assert result.n == 1
    assert tuple(result.skipped) == (("été 1", reason),)
