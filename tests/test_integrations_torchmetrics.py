"""torchmetrics metrics, with small open_clip models with random weights."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from torch import nn
from torchmetrics import MetricCollection

import i0tscore
from i0tscore.errors import InputError, MissingExtraError, StatisticsError, UsageError
from i0tscore.integrations.torchmetrics import CaptionScores, CLIPScore, I0TScore

COUNT = 40
CAPTIONS = [f"a photograph of {i} things" for i in range(COUNT)]
BATCHES = [slice(0, 16), slice(16, 23), slice(23, COUNT)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    tiny_models.register(tmp_path_factory.mktemp("configs"))
    return tiny_models.encoder("tiny")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (COUNT, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def statistics(encoder, images):
    return i0tscore.I0TScorer(encoder).fit(images, CAPTIONS, reference=False)


def feed(metric, images, captions=CAPTIONS):
    """Update in batches of several sizes."""
    for rows in BATCHES:
        metric.update(images[rows], captions[rows])
    return metric


@pytest.fixture
def calls(encoder, monkeypatch):
    """Count the images and captions that the towers encode."""
    counts = {"images": 0, "captions": 0}
    pixels, tokens = encoder.encode_pixels, encoder.encode_tokens

    def count_images(batch):
        counts["images"] += len(batch)
        return pixels(batch)

    def count_captions(batch):
        counts["captions"] += len(batch)
        return tokens(batch)

    monkeypatch.setattr(encoder, "encode_pixels", count_images)
    monkeypatch.setattr(encoder, "encode_tokens", count_captions)
    return counts


def test_scores_equal_i0t_score_and_clip_score(encoder, images, statistics) -> None:
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    i0t = i0tscore.i0t_score(pictures, CAPTIONS, model=encoder, statistics=statistics)["I0TScore"]
    clip = i0tscore.clip_score(pictures, CAPTIONS, model=encoder)["CLIPScore"]
    assert i0t.values.std() > 0.01
    metrics = MetricCollection([I0TScore(encoder, statistics=statistics), CLIPScore(encoder)])
    scores = feed(metrics, images).compute()
    assert scores["I0TScore"].item() == pytest.approx(i0t.mean, abs=1e-6)
    assert scores["CLIPScore"].item() == pytest.approx(clip.mean, abs=1e-6)
    every = feed(I0TScore(encoder, statistics=statistics, per_sample=True), images).compute()
    np.testing.assert_allclose(every, i0t.values, atol=1e-6)
    both = feed(CaptionScores(model=encoder, statistics=statistics), images).compute()
    assert {name: score.item() for name, score in both.items()} == pytest.approx(
        {"I0TScore": i0t.mean, "CLIPScore": clip.mean}, abs=1e-6
    )


def test_metrics_with_references_accept_them(encoder, images) -> None:
    references = [[caption, "something else"] for caption in CAPTIONS]
    expected = i0tscore.clip_score(images, CAPTIONS, references, model=encoder)["RefCLIPScore"].mean
    metric = CaptionScores("RefCLIPScore", encoder)
    for rows in BATCHES:
        metric.update(images[rows], CAPTIONS[rows], references=references[rows])
    assert metric.compute()["RefCLIPScore"].item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="RefCLIPScore needs references"):
        metric.update(images[:2], CAPTIONS[:2])
    with pytest.raises(UsageError, match="need fixed statistics"):
        CaptionScores("RefI0TScore", encoder, statistics="batch").update(images, CAPTIONS, references)


def test_all_image_types_give_the_same_score(encoder, images, tmp_path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    forms = [images[:4], list(images[:4]), images[:4].permute(0, 2, 3, 1), images[:4].numpy(), paths]
    scores = [CLIPScore(encoder)(form, CAPTIONS[:4]).item() for form in forms]
    assert scores == pytest.approx([scores[0]] * len(forms), abs=1e-6)


@pytest.mark.parametrize("mode", ["fixed", "batch"])
@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_forward_encodes_each_batch_once_and_accumulates(encoder, images, calls, statistics, mode) -> None:
    choice = statistics if mode == "fixed" else mode
    whole = feed(I0TScore(encoder, statistics=choice), images).compute()
    metric = I0TScore(encoder, statistics=choice)
    calls.update(images=0, captions=0)
    with torch.enable_grad():
        values = [metric(images[rows], CAPTIONS[rows]) for rows in BATCHES]
    assert calls == {"images": COUNT, "captions": COUNT}
    assert not any(value.requires_grad or value.is_inference() for value in values)
    total = metric.compute()
    assert total.dtype == torch.float32
    assert not total.requires_grad
    assert total.item() == pytest.approx(whole.item(), abs=1e-6)
    if mode == "fixed":
        sizes = torch.tensor([16, 7, 17])
        assert total.item() == pytest.approx(float((torch.stack(values) * sizes).sum() / COUNT), abs=1e-6)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_batch_statistics_cover_all_samples_since_reset(encoder, images) -> None:
    expected = i0tscore.i0t_score(images, CAPTIONS, model=encoder, statistics="batch")["I0TScore"]
    metric = feed(I0TScore(encoder, statistics="batch"), images)
    assert metric.compute().item() == pytest.approx(expected.mean, abs=1e-6)
    every = feed(I0TScore(encoder, statistics="batch", per_sample=True), images)
    np.testing.assert_allclose(every.compute(), expected.values, atol=1e-6)
    metric.reset()
    assert metric.metric_state["embeddings"] == []
    assert feed(metric, images).compute().item() == pytest.approx(expected.mean, abs=1e-6)


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_identical_captions_are_undefined_with_a_reason(encoder, images) -> None:
    metric = feed(I0TScore(encoder, statistics="batch"), images, ["the same"] * COUNT)
    with pytest.warns(UserWarning, match="I0TScore: 40 of 40 samples have no score: .*Identical captions"):
        assert metric.compute().isnan()


def test_state_dicts_contain_no_weights(encoder, images, statistics) -> None:
    module = nn.Module()
    module.score = I0TScore(encoder, statistics=statistics)
    module.clip = CLIPScore(encoder)
    module.score.update(images, CAPTIONS)
    assert module.state_dict() == {}
    assert list(module.parameters()) == list(module.buffers()) == []
    module.score.persistent(True)
    assert sum(state.numel() for state in module.state_dict().values()) == 4


def test_copies_share_the_encoder_but_not_the_scores(encoder, images, statistics) -> None:
    metric = feed(I0TScore(encoder, statistics=statistics), images)
    for twin in (copy.deepcopy(metric), metric.clone()):
        assert twin._ready()._encoder.encoder is encoder
        assert twin.compute() == metric.compute()
        twin.update(images[:5], CAPTIONS[5:10])
        assert twin.compute() != metric.compute()
    again = pickle.loads(pickle.dumps(metric))
    assert again.compute() == metric.compute()
    again.reset()
    assert feed(again, images).compute().item() == pytest.approx(metric.compute().item(), abs=1e-6)


def test_metrics_share_a_model_and_pickle_only_its_name() -> None:
    metrics = MetricCollection({"a": I0TScore("lite"), "b": CLIPScore("lite")})
    white = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    scores = metrics(white, ["a white page"])
    shared = {id(metric._ready()._encoder.encoder) for metric in metrics.values()}
    assert len(shared) == 1
    pickled = pickle.dumps(metrics)
    assert len(pickled) < 100_000
    again = pickle.loads(pickled)
    assert again.compute() == scores
    assert again["a"]._ready()._encoder.encoder is metrics["a"]._ready()._encoder.encoder


def test_the_encoder_moves_with_the_metric(statistics) -> None:
    encoder = tiny_models.encoder("tiny")
    metric = I0TScore(encoder, statistics=statistics).to("meta")
    metric._ready()
    assert encoder.device.type == "meta"
    assert {p.device.type for p in encoder.model.parameters()} == {"meta"}
    assert metric.sums.device.type == "meta"


def test_invalid_inputs_and_options_are_an_error(encoder, images, statistics) -> None:
    with pytest.raises(UsageError, match='Use "builtin", a file, or "batch"'):
        I0TScore(encoder, statistics="auto")
    with pytest.raises(StatisticsError, match="No statistics are shipped for tiny"):
        I0TScore(encoder).update(images, CAPTIONS)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `batchsize`"):
        I0TScore(encoder, batchsize=3)
    metric = I0TScore(encoder, statistics=statistics)
    with pytest.raises(InputError, match="got 3 images and 2 captions"):
        metric.update(images[:3], CAPTIONS[:2])
    with pytest.raises(InputError, match="scale values in"):
        metric.update(images[:2] / 255, CAPTIONS[:2])
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert I0TScore(encoder, statistics=statistics).compute().isnan()


def test_captions_over_the_context_length_differ(encoder, images) -> None:
    """The metric of torchmetrics cuts off the end token, so all of them get the same embedding."""
    words = [f"word{i}" for i in range(100)]
    captions = [" ".join(words), " ".join(["elephant", *words[1:]])]
    same_image = images[[0, 0]]
    with pytest.warns(UserWarning, match="2 of 2 captions"):
        scores = CLIPScore(encoder, per_sample=True)(same_image, captions)
    assert abs(scores[0] - scores[1]) > 1e-4


def test_negative_similarities_are_clipped_per_sample(encoder) -> None:
    """The metric of torchmetrics clips the mean, so good captions compensate for bad ones."""
    embeddings = np.random.default_rng(0).normal(size=(2, 50, 16)).astype(np.float32)
    raw = CaptionScores("CLIPScore(clip=no)", encoder, per_sample=True)
    (values,) = raw(*embeddings).values()
    assert values.min() < -0.5
    assert values.max() > 0.5
    assert CLIPScore(encoder)(*embeddings).item() == pytest.approx(values.clip(0).mean().item(), abs=1e-6)


def test_collections_do_not_merge_metrics_that_agree_on_the_first_batch(encoder, images) -> None:
    """MetricCollection compares states after one batch, and then updates only one of several equal metrics."""
    x = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)

    def metrics():
        return {"clipped": CLIPScore(encoder), "raw": CaptionScores("CLIPScore(clip=no)", encoder)}

    collection, alone = MetricCollection(metrics()), metrics()
    for captions in (x, -x):
        collection.update(x, captions)
        for metric in alone.values():
            metric.update(x, captions)
    scores = collection.compute()
    assert scores["clipped"] == alone["clipped"].compute() == pytest.approx(1.25)
    assert scores["CLIPScore(clip=no)"].item() == pytest.approx(0, abs=1e-6)
    long = MetricCollection({mode: CLIPScore(encoder, long_captions=mode) for mode in ("truncate", "split")})
    long.update(images[:2], CAPTIONS[:2])
    assert len(long.compute_groups) == 2


def test_collections_merge_equal_metrics(encoder, images, calls) -> None:
    collection = MetricCollection({"a": CLIPScore(encoder), "b": CLIPScore(encoder)})
    for rows in BATCHES:
        collection.update(images[rows], CAPTIONS[rows])
    assert calls["images"] == COUNT + BATCHES[0].stop  # both encode the first batch, and one of them the others
    scores = collection.compute()
    assert scores["a"] == scores["b"]


@pytest.mark.parametrize("mode", ["fixed", "batch"])
@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_samples_can_be_skipped(encoder, images, statistics, mode) -> None:
    choice = statistics if mode == "fixed" else mode
    whole = I0TScore(encoder, statistics=choice)
    whole.update(images[:8], CAPTIONS[:8])
    for options in ({}, {"per_sample": True}):
        metric = I0TScore(encoder, statistics=choice, on_error="skip", **options)
        with pytest.warns(UserWarning, match="Skipped 1 of 9 samples of a batch. First: 8: the caption is empty"):
            metric.update(images[:9], [*CAPTIONS[:8], " "])
        with pytest.warns(UserWarning, match="Skipped 2 of 2 samples of a batch"):
            metric.update(images[:2], ["", ""])
        assert metric.compute().mean().item() == pytest.approx(whole.compute().item(), abs=1e-6)
    silent = I0TScore(encoder, statistics=choice, on_error="skip")
    with pytest.warns(UserWarning, match="Skipped 2 of 2 samples"):
        assert silent(images[:2], ["", ""]).isnan()


def test_metrics_plot_within_their_bounds(encoder, images, statistics) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    figure, axes = I0TScore(encoder, statistics=statistics).plot([torch.tensor(0.1), torch.tensor(0.3)])
    low, high = axes.get_ylim()
    assert low <= -1 < 1 <= high
    mpl.pyplot.close(figure)


def test_without_torchmetrics_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torchmetrics'] = None\n"
        "from i0tscore.errors import MissingExtraError\n"
        "try:\n    import i0tscore.integrations.torchmetrics\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "i0tscore[torchmetrics]"' in done.stdout
    assert issubclass(MissingExtraError, ImportError)


RANK = """
import json, sys, warnings
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
import torch.distributed as dist
import tiny_models
from i0tscore.integrations.torchmetrics import CaptionScores, I0TScore
from i0tscore.gap import Statistics

warnings.simplefilter("ignore")
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
tiny_models.register(folder / "configs")
encoder = tiny_models.encoder("tiny")
images = torch.load(folder / "images.pt", weights_only=True)
captions = json.loads((folder / "captions.json").read_text())
statistics = Statistics.load(folder / "statistics.safetensors")
metrics = [
    CaptionScores(model=encoder, statistics=statistics),
    I0TScore(encoder, statistics=statistics, per_sample=True),
    I0TScore(encoder, statistics="batch"),
    I0TScore(encoder, statistics="batch", per_sample=True),
]
dist.init_process_group("gloo", init_method=f"file://{{folder}}/meeting", rank=rank, world_size=2)
results = []
for first in (27, len(images)):  # uneven shards, then a process without samples
    rows = [slice(0, first), slice(first, None)][rank]
    for metric in metrics:
        metric.reset()
        if len(images[rows]):
            metric.update(images[rows], captions[rows])
        value = metric.compute()
        value = list(value.values()) if isinstance(value, dict) else value
        results.append(torch.as_tensor(value).tolist())
dist.destroy_process_group()
print(json.dumps(results))
"""


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_two_processes_equal_one(encoder, images, statistics, tmp_path) -> None:
    (tmp_path / "configs").mkdir()
    torch.save(images, tmp_path / "images.pt")
    (tmp_path / "captions.json").write_text(json.dumps(CAPTIONS))
    statistics.save(tmp_path / "statistics.safetensors")
    script = tmp_path / "rank.py"
    script.write_text(RANK.format(tests=str(Path(__file__).parent)))
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), rank],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        for rank in "01"
    ]
    fixed = i0tscore.I0TScorer(encoder, statistics=statistics).score(images, CAPTIONS)
    batch = i0tscore.i0t_score(images, CAPTIONS, model=encoder, statistics="batch")["I0TScore"]
    means = [fixed["I0TScore"].mean, fixed["CLIPScore"].mean]
    expected = [means, fixed["I0TScore"].values, batch.mean, batch.values] * 2
    outputs = [process.communicate(timeout=600) for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    for out, _ in outputs:
        for value, right in zip(json.loads(out.splitlines()[-1]), expected, strict=True):
            np.testing.assert_allclose(value, right, atol=1e-6)
