"""The scorer on image files, with a small open_clip model of random weights."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from i0tscore import I0TScorer, clip_score
from i0tscore.encoders.encode import EncodedRun
from i0tscore.encoders.loop import embed_captions
from i0tscore.errors import CaptionTooLongError, InputError, NothingToScoreError, StatisticsError
from i0tscore.gap import Standardizer, Statistics, dot

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
        (["one", None], "reference 1 is missing"),
        ([3], "reference 0 is int, not a string"),
        (["one", " "], "reference 1 is empty"),
        (float("nan"), "no references; give at least one"),
        (pd.NA, "no references; give at least one"),
        (["one", float("nan")], "reference 1 is missing"),
        (3, "the references are int, not a list of strings"),
        ({"one"}, "the references are set, not a list of strings"),
        (["a", "dog", "runs"], "Expected references, got a list of tokens. Join them with spaces."),
    ],
)
def test_references_that_are_no_texts_are_named_or_skipped(encoder, photographs, own, reason) -> None:
    given = photographs[:2], CAPTIONS[:2], [["one"], own]
    with pytest.raises(InputError, match=f"été 1: {reason}"):
        _scorer(encoder, metrics="RefCLIPScore").score(*given)
    result = _scorer(encoder, metrics="RefCLIPScore", on_error="skip").score(*given)
    assert result.n == 1
    assert tuple(result.skipped) == (("été 1", reason),)


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": lambda items: np.array(items, dtype=object),
    "text array": np.array,
    "generator": iter,
    "values": lambda items: dict(enumerate(items)).values(),
    "series": lambda items: pd.Series(items, index=range(len(items))[::-1]),
    "labeled series": lambda items: pd.Series(items, index=[f"row {i % 2}" for i in range(len(items))]),
    "arrow-backed series": lambda items: pd.Series(items, index=range(5, 5 + len(items)), dtype="string[pyarrow]"),
    "index": pd.Index,
    "arrow": pa.array,
    "chunked arrow": lambda items: pa.chunked_array([items[:1], items[1:]]),
    "column": lambda items: datasets.Dataset.from_dict({"x": items})["x"],
}
KINDS = st.sampled_from(sorted(CONTAINERS))


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(5)), KINDS, KINDS, KINDS, KINDS)
def test_every_ordered_container_is_taken_by_position(
    encoder, photographs, order, image_kind, caption_kind, reference_kind, id_kind
) -> None:
    images, captions = [str(photographs[i]) for i in order], [CAPTIONS[i] for i in order]
    expected = clip_score(images, captions, captions, model=encoder, ids=images, resamples=0)
    found = clip_score(
        CONTAINERS[image_kind](images),
        CONTAINERS[caption_kind](captions),
        CONTAINERS[reference_kind](captions),
        ids=CONTAINERS[id_kind](images),
        model=encoder,
        resamples=0,
    )
    assert found.ids == expected.ids
    for name in ("CLIPScore", "RefCLIPScore"):
        np.testing.assert_allclose(found[name].values, expected[name].values, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_columns_of_a_sorted_frame_keep_their_pairs(encoder, photographs) -> None:
    frame = pd.DataFrame({"image": photographs, "caption": CAPTIONS}).sort_values("caption", ascending=False)
    images, captions = list(frame.image), list(frame.caption)
    scorer = _scorer(encoder)
    expected = scorer.score(images, captions)
    columns = scorer.score(frame.image, frame.caption)
    np.testing.assert_array_equal(columns["I0TScore"].values, expected["I0TScore"].values)
    assert expected.ids[0] == images[0].stem
    for rows in (frame[:15], frame[15:]):
        scorer.update(rows.image, rows.caption, rows.caption.map(lambda text: [text]))
    np.testing.assert_allclose(scorer.compute()["I0TScore"].values, expected["I0TScore"].values, atol=1e-6)
    fitted = scorer.fit(frame.image, frame.caption)
    np.testing.assert_array_equal(fitted.image.mean, scorer.fit(images, captions).image.mean)
    similarities = scorer.similarity(frame.image[:3], frame.caption[:3], metric="CLIPScore")
    np.testing.assert_array_equal(similarities, scorer.similarity(images[:3], captions[:3], metric="CLIPScore"))


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        ({"a": "x.png"}, ["A dog."], "Expected images in a list, got a dict, which has no positions"),
        ({"x.png"}, ["A dog."], "Expected images in a list, got a set, which has no positions"),
        (["x.png"], {"x": "A dog."}, "Expected captions in a list, got a dict"),
        (pd.DataFrame({"image": ["x.png"]}), ["A dog."], "Expected images in a list, got a DataFrame. Pass one of its"),
        (pa.table({"image": ["x.png"]}), ["A dog."], "Expected images in a list, got a Table. Pass one of its"),
        (datasets.Dataset.from_dict({"x": ["y"]}), ["A dog."], "Expected images in a list, got a Dataset. Pass one of"),
        (Image.new("RGB", (8, 8)), ["A dog."], "Expected a list of images, got one Image. Put it in a list."),
        (Path("x.png"), ["A dog."], "Expected a list of images, got one PosixPath. Put it in a list."),
        (io.BytesIO(b"x"), ["A dog."], "Expected a list of images, got one BytesIO. Put it in a list."),
        (b"x", ["A dog."], "Expected a list of images, got one bytes. Put it in a list."),
        (["x.png"], "A dog.", "Expected a list of captions, got one string. Put it in a list."),
        (np.zeros((8, 8, 3), np.uint8), ["A dog."], "got 8 images and 1 captions. Put a single image in a list."),
        (iter(()), ["A dog."], "got 0 images and 1 captions. A generator can be read only once."),
        (["x.png"], iter(()), "there are no captions. A generator can be read only once."),
    ],
)
def test_what_has_no_order_or_is_a_single_item_is_refused(encoder, images, captions, message) -> None:
    for use in (_scorer(encoder).score, _scorer(encoder).update, _scorer(encoder).fit):
        with pytest.raises(InputError, match=message):
            use(images, captions)


def test_images_of_a_column_are_decoded_a_few_at_a_time(encoder, photographs) -> None:
    class Column:
        """A lazy sequence like a column of a dataset; it counts the images that exist at once."""

        def __init__(self) -> None:
            self.opened: list[weakref.ref[Image.Image]] = []
            self.most = 0

        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, position: int) -> Image.Image:
            image = Image.open(photographs[position]).convert("RGB")
            self.opened.append(weakref.ref(image))
            self.most = max(self.most, sum(one() is not None for one in self.opened))
            return image

    column = Column()
    scorer = _scorer(encoder, metrics="CLIPScore", batch_size=2, workers=1)
    result = scorer.score(column, CAPTIONS)
    expected = scorer.score(photographs, CAPTIONS)
    np.testing.assert_allclose(result["CLIPScore"].values, expected["CLIPScore"].values, atol=1e-6)
    scorer.similarity(column, CAPTIONS, metric="CLIPScore")
    skipping = _scorer(encoder, metrics="CLIPScore", batch_size=2, workers=1, on_error="skip")
    found = skipping.score(column, [None, *CAPTIONS[1:]])
    np.testing.assert_allclose(found["CLIPScore"].values, expected["CLIPScore"].values[1:], atol=1e-6)
    assert column.most < COUNT / 2


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        *((missing, "the caption is missing") for missing in (None, float("nan"), np.float32("nan"), pd.NA, pd.NaT)),
        (3, "the caption is int, not a string"),
        (["a dog", "a cat on a mat"], "Expected a caption, got a list. Pass each caption as a separate item"),
        (["a", "dog", "runs", "."], "Expected a caption, got a list of tokens. Join them with spaces."),
    ],
)
def test_captions_that_are_no_texts_are_named_or_skipped(encoder, photographs, caption, reason) -> None:
    given = photographs[:2], [CAPTIONS[0], caption]
    with pytest.raises(InputError, match=f"été 1: {reason}"):
        _scorer(encoder, metrics="CLIPScore").score(*given)
    result = _scorer(encoder, metrics="CLIPScore", on_error="skip").score(*given)
    assert result.n == 1
    assert result.skipped[0].id == "été 1"
    assert result.skipped[0].reason.startswith(reason)


def test_missing_images_are_named_or_skipped(encoder, photographs) -> None:
    images = pd.Series([photographs[0], None, float("nan")])
    with pytest.raises(InputError, match="1, 2: the image is missing"):
        _scorer(encoder, metrics="CLIPScore").score(images, CAPTIONS[:3])
    assert _scorer(encoder, metrics="CLIPScore", on_error="skip").score(images, CAPTIONS[:3]).n == 1


def test_only_tensors_and_arrays_are_embeddings() -> None:
    class Detachable:
        """Not a tensor, though it has the method of one."""

        def detach(self) -> object:
            raise AssertionError

    x = np.eye(2, 4)
    for y in (torch.eye(2, 4), torch.eye(2, 4, dtype=torch.bfloat16), torch.eye(2, 4, requires_grad=True)):
        assert clip_score(x, y)["CLIPScore"].mean == 2.5
    with pytest.raises(InputError, match="Expected a list of captions, got one Detachable"):
        clip_score(x, Detachable())


def test_references_are_texts_or_embeddings_but_not_both(encoder, photographs) -> None:
    rows = [np.eye(2, 16, dtype=np.float32), torch.eye(2, 16)]
    scorer = _scorer(encoder, metrics="RefCLIPScore")
    several = scorer.score(photographs[:2], CAPTIONS[:2], [row[:1] for row in rows])
    one = scorer.score(photographs[:2], CAPTIONS[:2], torch.stack([torch.eye(2, 16)[0]] * 2))
    np.testing.assert_array_equal(several["RefCLIPScore"].values, one["RefCLIPScore"].values)
    for wrong in ([np.eye(1, 9), np.eye(1, 16)], np.ones((2, 9))):
        with pytest.raises(InputError, match="Expected references with 16 dimensions like the images, got"):
            scorer.score(photographs[:2], CAPTIONS[:2], wrong)
    with pytest.raises(InputError, match="all texts or all embeddings, got both"):
        scorer.score(photographs[:2], CAPTIONS[:2], [["a dog"], rows[0]])


def test_markup_in_captions_is_noted(encoder, photographs) -> None:
    marked = ["a dog</s>", "a dog<|endoftext|>", "[CLS] a dog [SEP]", "<start_of_text>a dog", "<s> a dog", "<pad>a dog"]
    captions = [*marked, "a dog <b>", "[a dog]", "<a> dog, s>"]
    scorer = _scorer(encoder, metrics="CLIPScore")
    for text in captions:
        scorer.update(photographs[:1], [text], ids=[text])  # one note, however many runs
    notes = [note for note in scorer.compute().notes if "markup" in note]
    assert notes == [
        "Tokenizer markup in captions, such as </s>, is scored as plain text: 6 "
        '("a dog</s>", "a dog<|endoftext|>", "[CLS] a dog [SEP]", …).'
    ]


def test_notes_on_images_and_unknown_captions_are_the_same_from_the_cache(photographs, tmp_path) -> None:
    animation = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "green")]
    frames[0].save(animation, save_all=True, append_images=frames[1:])
    scorer = I0TScorer("lite", metrics="CLIPScore", cache_dir=tmp_path / "cache", resamples=0)
    captions = ["一只黑色的狗在草地上跑", "a dog 🐶", "🐶"]
    results = [scorer.score([animation, *photographs[:2]], captions, ids=["chinese", "english", "emoji"]) for _ in "12"]
    for result in results:
        assert result.notes[:2] == (
            'Only the first frame of images with several frames is scored: 1 ("moving.gif").',
            "The model does not know over a third of the tokens in some captions, whose scores mean little: 2 "
            '("chinese", "emoji").',
        )


def test_a_problem_of_many_samples_is_one_line(encoder, photographs) -> None:
    with pytest.raises(InputError) as error:
        _scorer(encoder, metrics="CLIPScore").score(torch.rand(30, 3, 8, 8), CAPTIONS[:30])
    first, second = str(error.value).splitlines()
    assert first.startswith("0, 1, 2, and 27 more: image array: an image array must be uint8")
    assert second.startswith("To score the rest")


def test_swapped_arguments_and_lists_of_embeddings_get_a_hint(encoder, photographs) -> None:
    score = _scorer(encoder, metrics="CLIPScore").score
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    for images in (photographs[:2], [Image.fromarray(one) for one in pixels], pixels, list(torch.tensor(pixels))):
        with pytest.raises(InputError, match="not a string; images are the first argument, captions the second"):
            score(CAPTIONS[:2], images)
    vectors = list(np.eye(2, 16))
    for pairs in ((vectors, CAPTIONS[:2]), (photographs[:2], vectors)):
        with pytest.raises(InputError, match=r"stack embeddings into one array \(n, d\)"):
            score(*pairs)


def test_undecoded_columns_of_images_are_read(encoder, photographs) -> None:
    content = [path.read_bytes() for path in photographs[:2]]
    cells = [{"bytes": None, "path": str(photographs[0])}, {"bytes": content[1], "path": "no.png"}]
    rows = datasets.Dataset.from_dict(
        {"image": cells}, features=datasets.Features({"image": datasets.Image(decode=False)})
    )
    scorer = _scorer(encoder, metrics="CLIPScore")
    expected = scorer.score(photographs[:2], CAPTIONS[:2])["CLIPScore"].values
    for images in (cells, rows["image"], rows.data.column("image"), rows.to_pandas()["image"]):
        np.testing.assert_allclose(scorer.score(images, CAPTIONS[:2])["CLIPScore"].values, expected, atol=1e-6)
    with pytest.raises(InputError, match=r"0: gone\.png: there is no such file"):
        scorer.score([{"bytes": None, "path": "gone.png"}], CAPTIONS[:1])
    with pytest.raises(InputError, match="0: image array: dict is not an image"):
        scorer.score([{"a": 1}], CAPTIONS[:1])


def test_fitting_warns_of_captions_that_the_model_cannot_read(photographs) -> None:
    captions = [f"一只黑色的狗在草地上跑 {i}" for i in range(COUNT)]
    with pytest.warns(UserWarning, match="does not know over a third of the tokens.*: 40 "):
        I0TScorer("lite").fit(photographs, captions)


def test_references_collated_by_a_data_loader_get_a_hint(encoder, photographs) -> None:
    rows = [{"image": str(photographs[i]), "caption": CAPTIONS[i], "references": ["one", "a two"]} for i in range(3)]
    (batch,) = torch.utils.data.DataLoader(rows, batch_size=3)
    scorer = _scorer(encoder, metrics="RefCLIPScore")
    with pytest.raises(InputError, match=r"each of 3 captions, got 2 lists of 3\. .* pass list\(zip\(\*references\)\)"):
        scorer.score(batch["image"], batch["caption"], batch["references"])
    assert scorer.score(batch["image"], batch["caption"], list(zip(*batch["references"], strict=True))).n == 3


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_contexts_are_encoded_without_prefix_cut_like_captions_and_counted(encoder, photographs) -> None:
    scorer = _scorer(encoder, metrics=["ContextI0TScore"])
    long = " ".join(["a city of many bridges"] * 20)
    contexts = [long, None, float("nan"), "  ", *[f"article {i}" for i in range(4, COUNT)]]
    with pytest.warns(UserWarning, match=r"1 of 37 contexts have more than \d+ tokens and were truncated"):
        result = scorer.score(photographs, CAPTIONS, contexts=contexts)
    assert [i for i in range(COUNT) if np.isnan(result["ContextI0TScore"].values[i])] == [1, 2, 3]
    assert result.samples[0].context == long
    assert "context" not in result.samples[1].to_dict()
    assert 'Contexts truncated to the context length of the model: 1 ("été 0").' in result.notes
    runs = [scorer.encode(photographs[i:], CAPTIONS[i:], contexts=contexts[i:]) for i in (1, 2)]
    joined = EncodedRun.concat([scorer.encode(photographs[1:2], CAPTIONS[1:2]), *runs]).contexts
    assert joined.index.tolist() == [-1, -1, -1, -1, *range(36), -1, -1, *range(36)]
    vectors = embed_captions(encoder, contexts[4:]).vectors
    given = scorer.score(photographs[4:], CAPTIONS[4:], contexts=vectors)
    again = scorer.score(photographs[4:], CAPTIONS[4:], contexts=contexts[4:])
    np.testing.assert_allclose(given["ContextI0TScore"].values, again["ContextI0TScore"].values, atol=1e-6)
    with pytest.raises(CaptionTooLongError, match="1 contexts exceed the context length"):
        _scorer(encoder, long_captions="error").score(photographs, CAPTIONS, contexts=contexts)
    split = _scorer(encoder, metrics=["ContextI0TScore"], long_captions="split")
    assert not [note for note in split.score(photographs, CAPTIONS, contexts=contexts).notes if "over the" in note]


def test_ranks_in_blocks_are_those_of_a_whole_matrix_and_are_left_out_above_the_limit(monkeypatch) -> None:
    x, y = np.random.default_rng(3).normal(size=(2, 150, 6))
    y[40:60] = y[:20]  # equal captions count once
    whole = I0TScorer(statistics="batch", resamples=0).score(x, y)["CLIPScore"].rank
    unit_x, unit_y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    cosines = unit_x @ np.delete(unit_y, range(40, 60), axis=0).T
    own = (unit_x * unit_y).sum(1)
    np.testing.assert_array_equal(whole, 1 + (cosines > own[:, None] + 1e-6).sum(1))
    monkeypatch.setattr("i0tscore.metrics.evaluate._RANKED_CAPTIONS", 7)
    monkeypatch.setattr("i0tscore.metrics.evaluate.CELLS", 30)
    monkeypatch.setattr("i0tscore.metrics.evaluate.RANKED_PAIRS", 100)
    asked = I0TScorer(statistics="batch", resamples=0, ranks=True).score(x, y)
    np.testing.assert_array_equal(asked["CLIPScore"].rank, whole)
    default = I0TScorer(statistics="batch", resamples=0).score(x, y)
    assert not default["CLIPScore"].rank.any()
    assert any("use --ranks" in note for note in default.notes)
    assert not any("use --ranks" in note for note in asked.notes)


def test_the_covariance_of_a_run_is_computed_if_needed_and_does_not_change_other_metrics(tmp_path: Path) -> None:
    x, y = np.random.default_rng(5).normal(size=(2, 9000, 8))
    alone, together = (
        I0TScorer(statistics="batch", metrics=metrics, resamples=0, ranks=False).score(x, y)
        for metrics in (["I0TScore"], ["I0TScore", "CovarianceI0TScore"])
    )
    np.testing.assert_array_equal(alone["I0TScore"].values, together["I0TScore"].values)
    assert alone["I0TScore"].signature == together["I0TScore"].signature
    unit_x, unit_y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    whole = Statistics.fit(unit_x, unit_y, name="whole")
    covariance = Standardizer("covariance", 0.2)
    expected = dot(*whole.standardize(covariance, unit_x, unit_y))
    np.testing.assert_allclose(together["CovarianceI0TScore"].values, expected, atol=1e-5)
    without = Statistics.fit(unit_x, unit_y, name="means", covariance=False)
    np.testing.assert_array_equal(without.image.mean, whole.image.mean)
    with pytest.raises(StatisticsError, match=r"covariance\(0.2\) needs statistics with a covariance"):
        without.standardize(covariance, unit_x, unit_y)
    with pytest.raises(StatisticsError, match="got only means"):
        without.merge(whole).save(tmp_path / "statistics.safetensors")
