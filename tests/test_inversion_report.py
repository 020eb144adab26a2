"""The report on inversion: from made-up embeddings, through a small encoder, and on real photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import tiny_models
import torch
from scipy.stats import kendalltau
from test_gap_report import flickr8k, run
from test_retrieval import normal, positive
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_r_precision

from i0tscore.cli.retrieve import InversionOptions, retrieve
from i0tscore.encoders import load_encoder
from i0tscore.encoders.loop import embed_captions
from i0tscore.gap import normalize
from i0tscore.metrics.functional import ref_clip_score, ref_i0t_score
from i0tscore.metrics.metric import PREFIX
from i0tscore.results import Resampling
from i0tscore.results.intervals import Estimate, bootstrap_mean
from i0tscore.samples.ratings import RatingSet
from i0tscore.samples.sample import Sample
from studies import embedder, inversion
from studies.flickr8k import read_split
from studies.gap import pair_statistics
from studies.inversion import AVERAGES, BACKBONES, DATA_SETS, command, replications, task_blocks
from studies.inversion_tasks import (
    BASELINE,
    CAPTIONS,
    GALLERY,
    HARMONIC,
    IMAGES,
    MEAN,
    MULTI,
    OWN_MEAN,
    QUERIES,
    RULES,
    SIDE,
    WEIGHT,
    Crossed,
    Material,
    Score,
    compare_references,
    cross,
    image_to_image,
    image_to_text,
    text_to_image,
    text_to_text,
    zero_shot,
)

__all__ = ["flickr8k"]

FEW = Resampling(resamples=60)
N = 24


def unit(*shape: int, seed: int) -> np.ndarray:
    return normalize(normal(*shape, seed=seed)).astype(np.float32)


def made_up() -> Material:
    """Photographs with five captions each around a common direction, each rated three times on a caption."""
    hidden, d = normal(N, 8), 8
    images = normalize(hidden + 0.7 * normal(N, d, seed=1) + 1).astype(np.float32)
    captions = normalize(np.repeat(hidden, 5, axis=0) + 0.9 * normal(5 * N, d, seed=2) - 1).astype(np.float32)
    samples = tuple(Sample(f"{i}", Path(f"{i % N}.jpg"), f"{i}") for i in range(40))
    item = np.repeat(np.arange(40), 3)
    rating = np.random.default_rng(3).integers(1, 5, 120).astype(float)
    ratings = RatingSet("made up", samples, item, rating, tuple(str(i % N) for i in item))
    labeled = np.array([i for i in range(N) if i % 4])
    return Material(
        tuple(f"{i}.jpg" for i in range(N)),
        images,
        captions,
        labeled,
        labeled % 3,
        unit(3, d, seed=4),
        unit(40, d, seed=5),
        np.arange(40) % N,
        ratings,
        pair_statistics(unit(30, d, seed=6) + 0.1, unit(30, d, seed=7) - 0.1, "others"),
    )


def crossed(vectors: np.ndarray, method: str, seed: int) -> Crossed:
    """What comes nearer to its targets with every update."""
    points = {
        step: normalize(vectors + noise * normal(*vectors.shape, seed=seed)).astype(np.float32)
        for step, noise in ((17, 1.0), (50, 0.4))
    }
    cosines = {step: (points[step] * vectors).sum(axis=1) for step in points}
    return Crossed(method, points, {0: np.zeros(len(vectors)), **cosines}, 1, None, "")


MATERIAL = made_up()
OTI, OVI = crossed(MATERIAL.images, "OTI", 8), crossed(MATERIAL.captions, "OVI", 9)


def by_torchmetrics(
    measure: Callable[..., torch.Tensor], queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """One number a query, its own row of the gallery left out; NaN where nothing is relevant."""
    found = []
    for row, query in enumerate(queries):
        others = np.arange(len(gallery)) != row
        relevant = torch.from_numpy(labels[others] == labels[row])
        similarity = positive(gallery[others].astype(np.float64) @ query.astype(np.float64))
        found.append(measure(similarity, relevant).item() if relevant.any() else np.nan)
    return np.array(found)


@pytest.mark.parametrize(
    ("measure", "name"), [(retrieval_average_precision, "mAP"), (retrieval_r_precision, "R-precision")]
)
def test_retrieval_within_a_modality_is_as_torchmetrics_has_it(measure, name) -> None:
    rows, own = MATERIAL.labeled, np.repeat(np.arange(N), 5)
    for task, native, inverted, labels, clusters in (
        (text_to_text(MATERIAL, OVI, FEW), MATERIAL.captions, OVI.points, own, own),
        (
            image_to_image(MATERIAL, OTI, FEW),
            MATERIAL.images[rows],
            {step: vectors[rows] for step, vectors in OTI.points.items()},
            MATERIAL.labels,
            rows,
        ),
    ):
        before = by_torchmetrics(measure, native, native, labels)
        assert task["lines"][0]["values"][name]["value"] == pytest.approx(before.mean(), abs=1e-6)
        assert task["lines"][0]["values"][name]["interval"] == pytest.approx(
            bootstrap_mean(before, clusters, FEW), abs=1e-6
        )
        assert [(line["what"], line["updates"]) for line in task["lines"][1:5]] == [
            (what, step) for what in (QUERIES, GALLERY) for step in (17, 50)
        ]
        for line in task["lines"][1:5]:
            sides = (native, inverted[line["updates"]])
            after = by_torchmetrics(measure, *(sides[::-1] if line["what"] == QUERIES else sides), labels)
            assert line["values"][name]["value"] == pytest.approx(after.mean(), abs=1e-6)
            assert line["differences"][name]["value"] == pytest.approx((after - before).mean(), abs=1e-6)
            expected = bootstrap_mean(after - before, clusters, FEW)
            assert line["differences"][name]["interval"] == pytest.approx(expected, abs=1e-6)
            cosine = (native * inverted[line["updates"]]).sum(axis=1).mean()
            assert line["cosine"] == pytest.approx(cosine, abs=1e-6)


def test_what_belongs_to_the_queries_in_the_other_modality_is_tried_too() -> None:
    line = text_to_text(MATERIAL, OVI, FEW)["lines"][-1]
    assert line["what"] == IMAGES
    own = np.repeat(np.arange(N), 5)
    found = by_torchmetrics(retrieval_average_precision, MATERIAL.images[own], MATERIAL.captions, own)
    assert line["values"]["mAP"]["value"] == pytest.approx(found.mean(), abs=1e-6)
    line = image_to_image(MATERIAL, OTI, FEW)["lines"][-1]
    assert line["what"] == CAPTIONS
    rows = MATERIAL.labeled
    means = np.stack([MATERIAL.captions[5 * row : 5 * row + 5].mean(axis=0) for row in rows])
    found = by_torchmetrics(retrieval_average_precision, means, MATERIAL.images[rows], MATERIAL.labels)
    assert line["values"]["mAP"]["value"] == pytest.approx(found.mean(), abs=1e-6)


def test_queries_without_anything_to_find_are_counted() -> None:
    lonely = replace(MATERIAL, labels=np.array([9, *MATERIAL.labels[1:]]))
    task = image_to_image(lonely, OTI, FEW)
    assert (task["queries"], task["left_out"], task["photographs"]) == (17, 1, 17)
    text = task_blocks("image–image", {"image–image": task})[0]
    assert "n = 17 queries. 1 more have nothing to find." in text
    texts = text_to_text(MATERIAL, OVI, FEW)
    assert (texts["queries"], texts["left_out"], texts["photographs"]) == (120, 0, 24)


def test_between_modalities_only_the_queries_are_inverted() -> None:
    x, y, own = MATERIAL.images, MATERIAL.captions, np.repeat(np.arange(N), 5)
    forth, back = image_to_text(MATERIAL, OTI, FEW), text_to_image(MATERIAL, OVI, FEW)
    for step, line in zip((None, 17, 50), forth["lines"], strict=True):
        queries = x if step is None else OTI.points[step]
        hits = own[(queries @ y.T).argmax(axis=1)] == np.arange(N)
        assert line["values"]["R@1"]["value"] == pytest.approx(hits.mean())
    for step, line in zip((None, 17, 50), back["lines"], strict=True):
        queries = y if step is None else OVI.points[step]
        hits = (queries @ x.T).argmax(axis=1) == own
        assert line["values"]["R@1"]["value"] == pytest.approx(hits.mean())
    assert (forth["queries"], back["queries"], back["photographs"]) == (24, 120, 24)
    baseline, first = (line["values"]["R@1"]["value"] for line in back["lines"][:2])
    assert back["lines"][1]["differences"]["R@1"]["value"] == pytest.approx(first - baseline)


def test_photographs_are_classified_as_they_are_and_inverted() -> None:
    labels, rows = MATERIAL.labels, MATERIAL.labeled
    task = zero_shot(MATERIAL, OTI, FEW)
    rights = [
        (vectors[rows] @ MATERIAL.classes.T).argmax(axis=1) == labels
        for vectors in (MATERIAL.images, *OTI.points.values())
    ]
    balanced = [np.mean([right[labels == c].mean() for c in range(3)]) for right in rights]
    for line, right, mean in zip(task["lines"], rights, balanced, strict=True):
        assert line["values"]["accuracy"]["value"] == pytest.approx(right.mean())
        assert line["values"]["balanced accuracy"]["value"] == pytest.approx(mean)
        if line["what"] != BASELINE:
            assert line["differences"]["accuracy"]["value"] == pytest.approx(right.mean() - rights[0].mean())
            change = line["differences"]["balanced accuracy"]
            assert change["value"] == pytest.approx(mean - balanced[0])
            assert change["interval"][0] <= change["value"] <= change["interval"][1]
    # What is inverted perfectly changes nothing, on no resample.
    same = zero_shot(MATERIAL, replace(OTI, points={17: MATERIAL.images}), FEW)["lines"][1]
    assert [list(change["interval"]) for change in same["differences"].values()] == [[0.0, 0.0]] * 2


def tau(values: np.ndarray) -> float:
    ratings = MATERIAL.ratings
    return kendalltau(values[ratings.item], ratings.rating, variant="c").statistic


def by_score(found: dict[str, Any]) -> dict[Score, dict[str, Any]]:
    return {Score(one["condition"], one["rule"], one["updates"]): one for one in found["scores"]}


def test_plain_rules_are_the_packages_own() -> None:
    found = compare_references(MATERIAL, OVI, FEW)
    scores, known = by_score(found), MATERIAL.statistics.gap_statistics
    x, y = MATERIAL.images[MATERIAL.rated_images], MATERIAL.rated
    z = MATERIAL.captions.reshape(N, 5, -1)[MATERIAL.rated_images]
    post = (x, y, z, known.image_mean, known.caption_mean)
    expected = {
        ("none", HARMONIC): ref_clip_score(x, y, z, weight=WEIGHT),
        ("none", SIDE): (z @ y[:, :, None]).max(axis=(1, 2)),
        ("none", MULTI): np.concatenate([x[:, None], z], axis=1).mean(axis=1) @ y.T,
        ("post", HARMONIC): ref_i0t_score(*post),
        ("post", MEAN): ref_i0t_score(*post, rule="mean"),
    }
    expected["none", MULTI] = expected["none", MULTI].diagonal()
    for (condition, rule), values in expected.items():
        agreed = scores[Score(condition, rule, None)]
        assert agreed["tau_c"]["value"] == pytest.approx(tau(values), abs=1e-9)
        assert agreed["from_plain"] is None
    assert (found["ratings"], found["items"], found["photographs"]) == (120, 40, 24)
    # Crossed, both sides are cosines of a caption with the images' region: neither has a weight.
    moved = OVI.points[17].reshape(N, 5, -1)[MATERIAL.rated_images]
    crossed = scores[Score("none", HARMONIC, 17)]["tau_c"]["value"]
    assert crossed == pytest.approx(tau(ref_clip_score(x, y, moved, weight=1.0)), abs=1e-9)
    assert crossed != pytest.approx(tau(ref_clip_score(x, y, moved, weight=WEIGHT)), abs=1e-9)


def test_inverted_references_are_compared_as_images() -> None:
    # Where captions become their photographs, the reference side is the image side, under post too.
    perfect = replace(OVI, points={17: OVI.points[17], 50: np.repeat(MATERIAL.images, 5, axis=0)})
    own = replace(MATERIAL.statistics.image, mean=MATERIAL.images.mean(axis=0, dtype=np.float64))
    material = replace(MATERIAL, statistics=replace(MATERIAL.statistics, image=own))
    found = compare_references(material, perfect, FEW)
    scores = by_score(found)
    for name in ("none", "post", OWN_MEAN):
        taus = [scores[Score(name, rule, 50)]["tau_c"]["value"] for rule in (SIDE, MEAN, MULTI)]
        x, y = MATERIAL.images[MATERIAL.rated_images], MATERIAL.rated
        if name != "none":
            x = normalize(x - own.mean)
            y = normalize(y - MATERIAL.statistics.caption.mean)
        assert taus == pytest.approx([tau((x * y).sum(axis=1))] * 3, abs=1e-6)
    assert found["distance_to_image_mean"]["inverted"] == pytest.approx(0, abs=1e-6)
    best = max(RULES, key=lambda rule: scores[Score("post", rule, None)]["tau_c"]["value"])
    assert found["best_plain"]["post"] == best
    for score, agreed in scores.items():
        if score.updates is not None:
            condition = score.plain.condition
            for other, change in (
                (score.plain, agreed["from_plain"]),
                (Score(condition, found["best_plain"][condition], None), agreed["from_best_plain"]),
            ):
                assert change["value"] == pytest.approx(agreed["tau_c"]["value"] - scores[other]["tau_c"]["value"])
    assert Score(OWN_MEAN, MEAN, 50).plain == Score("post", MEAN, None)
    assert Score(OWN_MEAN, MEAN, 17) not in scores


def test_inverted_captions_are_also_centred_on_their_own_mean() -> None:
    scores = by_score(compare_references(MATERIAL, OVI, FEW))
    moved, known = OVI.points[50], MATERIAL.statistics.gap_statistics
    y = normalize(MATERIAL.rated - known.caption_mean)
    for name, mean in (("post", known.image_mean), (OWN_MEAN, moved.mean(axis=0))):
        side = normalize(moved - mean).reshape(N, 5, -1)[MATERIAL.rated_images] @ y[:, :, None]
        agreed = scores[Score(name, SIDE, 50)]["tau_c"]["value"]
        assert agreed == pytest.approx(tau(side.max(axis=(1, 2))), abs=1e-4)
    values = [scores[Score(name, SIDE, 50)]["tau_c"]["value"] for name in ("post", OWN_MEAN)]
    assert abs(values[0] - values[1]) > 0.005


def around(value: float, half: float = 0.01) -> dict[str, Any]:
    return Estimate(value, (value - half, value + half)).to_dict()


def tasks(within: float, across: float = -0.1) -> dict[str, Any]:
    """Tasks whose figures change so much."""
    found = {}
    for name, measure, change in (
        ("text–text", "mAP", within),
        ("image–image", "mAP", within),
        ("zero-shot", "accuracy", across),
    ):
        lines = [{"what": BASELINE, "differences": {}}]
        for what in (QUERIES, GALLERY):
            for part in (0.5, 1.0):
                lines.append({"what": what, "differences": {measure: around(part * change)}})
        found[name] = {"lines": lines}
    return found


def test_what_replicates_follows_from_the_intervals() -> None:
    assert [row["reading"] for row in replications(tasks(0.1))] == ["the same way"] * 3
    found = list(replications(tasks(-0.1, across=0.001)))
    assert [row["reading"] for row in found] == ["the other way", "the other way", "cannot be told"]
    assert [row["ours"]["value"] for row in found] == [-0.1, -0.1, 0.001]


def test_published_figures_add_up_and_have_commands() -> None:
    means = np.mean(list(DATA_SETS.values()), axis=0)
    np.testing.assert_allclose(means, (41.6, 42.9, 49.0), atol=0.05)
    assert len(AVERAGES) == 7 + 5 + 5
    for change in AVERAGES:
        # The paper's claim: within a modality inversion helps, between modalities it hurts.
        assert (change.points < 0) == (change.task == "zero-shot")
    known = {f"{model}/{tag}" for model, tag in open_clip.list_pretrained()}
    assert set(BACKBONES.values()) <= known
    text = command("text–text", "coco/", BACKBONES["CLIP L/14"])
    assert text == (
        "i0tscore retrieve coco/captions.json coco/images/ --task text-text --protocol cross-the-gap --preset raw "
        "--invert ovi --model ViT-L-14-quickgelu/openai"
    )
    for change in AVERAGES:
        words = command(change.task, "folder/", BACKBONES.get(change.model, "lite")).split()[2:]
        options = retrieve.make_context("retrieve", words).params
        InversionOptions(**{f.name: options[f.name] for f in fields(InversionOptions)}).check(options["task"])


def inverts(target: np.ndarray, **settings: Any) -> Any:
    """Stands for an inversion that ends at its target."""
    curve = settings.get("eval_steps", (settings["steps"],))
    vectors = np.stack([normalize(target + 1 / (1 + step)) for step in curve], axis=1)
    losses = 1 - (vectors * target[:, None]).sum(axis=-1)
    made = SimpleNamespace(method="oti", inputs=2, signature="inv:oti")
    return SimpleNamespace(eval_losses=losses, eval_vectors=vectors, config=made)


def test_the_updates_looked_at_end_with_the_last() -> None:
    target = unit(6, 4, seed=1)
    done = cross(inverts, target, list("abcdef"), updates=60, folder=None)
    assert (list(done.points), list(done.cosines), done.last) == ([17, 50, 60], [0, 17, 50, 60], 60)
    assert done.to_dict()["cosine"]["60"] == pytest.approx((done.points[60] * target).sum(axis=1).mean())
    assert done.seconds > 0
    rows = np.array([4, 1])
    assert done.part(rows).cosine(17) == pytest.approx(done.cosines[17][rows].mean())


def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small encoder in the place of whatever model is asked for."""
    (folder / "configs").mkdir()
    tiny_models.register(folder / "configs")
    encoder = tiny_models.encoder()
    monkeypatch.setattr(embedder, "load_encoder", lambda *_, **__: encoder)


def test_photographs_give_a_report(flickr8k: Path, tmp_path: Path, monkeypatch) -> None:
    tiny(tmp_path, monkeypatch)
    folder = tmp_path / "features"
    options = "--steps 3 --caption-steps 2 --queries 12 --resamples 40 --model tiny --quiet --output"
    places = (tmp_path, "--data", flickr8k, "--cache-dir", tmp_path, "--inverted", folder)
    run(inversion.main, *options.split(), *places)
    text = (tmp_path / "inversion-tiny-12.md").read_text()
    data = json.loads((tmp_path / "inversion-tiny-12.json").read_text())
    asked = "--resamples 40 --queries 12 --steps 3 --caption-steps 2 --model tiny"
    typed = f"python -m studies.inversion {asked}"
    assert data["command"] == typed
    assert f"$ {typed}\n" in text
    assert str(tmp_path) not in text
    assert data["schema"] == "i0tscore.inversion/1"
    assert data["inverted"]["OVI"]["n"] == 60
    assert data["inverted"]["OTI"]["processor_seconds_an_item"] > 0
    assert data["tasks"]["text–text"]["queries"] == 60
    assert data["tasks"]["image–image"]["queries"] == 8  # every third thing is a cat, which is no class
    assert data["references"]["photographs"] == 12
    assert (tmp_path / "inversion-tiny-12.svg").read_bytes().startswith(b"<?xml")
    # Finished batches are taken up, and everything else is the same.
    run(inversion.main, *options.split(), *places)
    again = json.loads((tmp_path / "inversion-tiny-12.json").read_text())
    for found in (again, data):
        assert all(one.pop("processor_seconds_an_item") > 0 for one in found["inverted"].values())
    assert again == data
    said = run(inversion.main, *options.replace("--steps 3", "--steps 4").split(), *places, code=2)
    assert "belongs to a run with other settings" in said


def test_other_references_than_the_photographs_captions_are_refused(
    flickr8k: Path, tmp_path: Path, monkeypatch
) -> None:
    tiny(tmp_path, monkeypatch)
    folder = flickr8k / "flickr8k"
    (folder / "ExpertAnnotations.txt").unlink()
    judged = [{"caption": "A cat.", "rating": rating} for rating in (1, 2, 4)]
    told = [f"The dog number 3 seen {k} times ." for k in (1, 2, 3, 4, 4)]
    one = {"image_path": "test3.jpg", "ground_truth": told, "human_judgement": judged}
    (folder / "flickr8k.json").write_text(json.dumps({"3": one}))
    places = ("--data", flickr8k, "--output", tmp_path, "--no-cache", "--quiet")
    said = run(inversion.main, "--model", "tiny", "--steps", 1, *places, code=1)
    assert "the references of test3.jpg are not its captions." in said


@pytest.mark.data
def test_native_figures_of_lite_are_those_of_its_embeddings(data_dir: Path, tmp_path: Path) -> None:
    options = "--steps 2 --caption-steps 2 --queries 40 --resamples 40 --model lite --quiet --no-plot"
    run(inversion.main, *options.split(), "--data", data_dir, "--output", tmp_path, "--cache-dir", tmp_path)
    data = json.loads((tmp_path / "inversion-lite-40.json").read_text())
    texts = read_split(data_dir, "test").captions[:200]
    found = embed_captions(load_encoder("lite"), texts, prefix=PREFIX)
    own = np.repeat(np.arange(40), 5)
    vectors = found.vectors[found.index]
    expected = by_torchmetrics(retrieval_average_precision, vectors, vectors, own).mean()
    native = data["tasks"]["text–text"]["lines"][0]
    assert native["values"]["mAP"]["value"] == pytest.approx(expected, abs=1e-5)
    assert data["references"]["ratings"] == 642
    start, *_, end = data["inverted"]["OTI"]["cosine"].values()
    assert start < end
