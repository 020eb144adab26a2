"""The module for Hugging Face evaluate, its folder, and the page of its Space."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import documents
import evaluate
import numpy as np
import pandas as pd
import pytest
import tiny_models
from examples_on_disk import write_examples
from PIL import Image

import i0tscore
from i0tscore.errors import ImageError, InputError
from i0tscore.integrations.evaluate import path
from i0tscore.integrations.huggingface import models_loaded

CAPTIONS = ["A tabby cat.", "A cup of espresso.", "Old coins in rows."]
REFERENCES = [["A cat.", "The face of a cat."], ["Coffee on a table."], ["Four rows of coins."]]
METRICS = ["I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("user")).parent


@pytest.fixture(scope="module")
def images(folder):
    return [str(folder / "examples" / "images" / f"{name}.png") for name in ("chelsea", "coffee", "coins")]


@pytest.fixture(scope="module")
def expected(images):
    return i0tscore.i0t_score(images, CAPTIONS, REFERENCES, model="lite", metrics=METRICS)


@pytest.fixture
def metric():
    return evaluate.load(path(), model="lite")


def as_pil(file):
    return Image.open(file)


def as_array(file):
    return np.asarray(Image.open(file).convert("RGB"))


def as_bytes(file):
    return Path(file).read_bytes()


@pytest.mark.parametrize("form", [str, Path, as_pil, as_array, as_bytes])
def test_scores_equal_i0t_score_for_every_image_type(metric, images, expected, form):
    scores = metric.compute(predictions=CAPTIONS, images=map(form, images), references=REFERENCES, per_sample=True)
    assert metric.name == "i0tscore"
    assert scores == json.loads(json.dumps(scores, allow_nan=False))
    assert scores["n"] == 3
    for name in METRICS:
        assert scores[name] == pytest.approx(expected[name].mean, abs=1e-6)
        assert scores[f"{name}_interval"] == pytest.approx(expected[name].interval, abs=1e-6)
        assert scores[f"{name}_signature"] == str(expected[name].signature)
        assert scores[f"{name}_values"] == pytest.approx(expected[name].values.tolist(), abs=1e-6)
    assert len(scores) == 1 + 4 * len(METRICS)


def test_references_are_optional(metric, images, expected):
    scores = metric.compute(predictions=CAPTIONS, images=images)
    assert [name for name in scores if name.endswith("Score")] == METRICS[:2]
    assert scores["I0TScore"] == pytest.approx(expected["I0TScore"].mean, abs=1e-6)
    assert not [name for name in scores if name.endswith("_values")]


@pytest.mark.parametrize("referenced", [False, True])
def test_samples_can_be_added_in_batches_and_one_by_one(metric, images, expected, referenced):
    given = {"references": REFERENCES[1:]} if referenced else {}
    metric.add(prediction=CAPTIONS[0], images=images[0], reference=REFERENCES[0] if referenced else None)
    metric.add_batch(predictions=CAPTIONS[1:], images=images[1:], **given)
    scores = metric.compute(metrics=METRICS if referenced else METRICS[:2], confidence=0.5)
    for name in METRICS if referenced else METRICS[:2]:
        assert scores[name] == pytest.approx(expected[name].mean, abs=1e-6)
    low, high = scores["I0TScore_interval"]
    assert expected["I0TScore"].interval[0] < low < high < expected["I0TScore"].interval[1]


def test_a_reference_may_be_a_string(metric, images):
    one = metric.compute(predictions=CAPTIONS, images=images, references=[r[0] for r in REFERENCES])
    same = metric.compute(predictions=CAPTIONS, images=images, references=[r[:1] for r in REFERENCES])
    assert one == same


def test_results_are_kept_in_memory_on_request(images, expected):
    metric = evaluate.load(path(), model="lite", keep_in_memory=True)
    scores = metric.compute(predictions=CAPTIONS, images=images)
    assert scores["CLIPScore"] == pytest.approx(expected["CLIPScore"].mean, abs=1e-6)


LENGTHS = '''
import datasets
import evaluate

class Lengths(evaluate.Metric):
    """Number of words per caption."""
    def _info(self):
        texts = datasets.Value("string")
        features = datasets.Features({"predictions": texts, "references": datasets.Sequence(texts)})
        return evaluate.MetricInfo(description="", citation="", features=features)
    def _compute(self, predictions, references):
        return {"words": sum(len(p.split()) for p in predictions) / len(predictions)}
'''


def test_combines_with_other_metrics(metric, images, expected, tmp_path):
    (tmp_path / "lengths").mkdir()
    (tmp_path / "lengths" / "lengths.py").write_text(LENGTHS)
    both = evaluate.combine([metric, evaluate.load(str(tmp_path / "lengths"))])
    both.add_batch(predictions=CAPTIONS, references=REFERENCES, images=images)
    scores = both.compute()
    assert scores["words"] == pytest.approx(11 / 3)
    assert scores["RefI0TScore"] == pytest.approx(expected["RefI0TScore"].mean, abs=1e-6)


def test_names_are_distinct_when_combined_with_itself(metric, images):
    raw = evaluate.load(path(), model="lite", preset="raw", resamples=0)
    both = evaluate.combine({"paper": metric, "raw": raw})
    scores = both.compute(predictions=CAPTIONS, images=images)
    assert scores["paper_n"] == scores["raw_n"] == 3
    assert 0 < scores["CLIPScore(clip=no,weight=1)"] < scores["CLIPScore"]
    assert scores["CLIPScore(clip=no,weight=1)_interval"] is None


class Captioning(evaluate.Evaluator):
    """An evaluator of captioners, like those of evaluate for other tasks."""

    def __init__(self):
        super().__init__("image-to-text")

    def prepare_data(self, data, input_column, label_column, *_, **__):
        self.check_required_columns(data, {"input_column": input_column, "label_column": label_column})
        return {"references": data[label_column], "images": data[input_column]}, list(data[input_column])

    def prepare_pipeline(self, model_or_pipeline, **_):
        return model_or_pipeline

    def predictions_processor(self, predictions, _):
        return {"predictions": predictions}


def test_works_with_an_evaluator(metric, images, expected):
    captions = dict(zip(images, CAPTIONS, strict=True))
    rows = datasets.Dataset.from_dict({"image": images, "references": REFERENCES})
    scores = Captioning().compute(
        lambda paths, **_: [captions[path] for path in paths],
        rows,
        metric=metric,
        input_column="image",
        label_column="references",
    )
    assert scores["RefI0TScore"] == pytest.approx(expected["RefI0TScore"].mean, abs=1e-6)
    assert scores["samples_per_second"] > 0


def test_invalid_inputs_are_an_error(metric, images):
    for given, words in [
        ({"predictions": CAPTIONS, "images": images[:2]}, "got 2 images and 3 captions"),
        ({"predictions": CAPTIONS, "images": images, "references": REFERENCES[:1]}, "1 references"),
        ({"predictions": CAPTIONS, "images": None}, "Expected predictions="),
        ({"predictions": ["A cat.", None, 3], "images": images}, "prediction 2: the caption is int, not a string"),
        (
            {"predictions": [["A", "cat", "."]], "images": images[:1]},
            "prediction 0: Expected a caption, got a list of tok",
        ),
        ({"predictions": [CAPTIONS[0], None, CAPTIONS[2]], "images": images}, "1: the caption is missing"),
        ({"predictions": CAPTIONS, "images": images, "references": [["A cat."], 3, {"b"}]}, "reference 1: .* are int"),
        (
            {"predictions": CAPTIONS, "images": images, "references": [["A", None], ["b"], ["c"]]},
            "0: reference 1 is mis",
        ),
        ({"predictions": CAPTIONS, "images": [None, *images[1:]]}, "0: the image is missing"),
        ({"predictions": "A cat.", "images": images[:1]}, "got one string"),
        ({"predictions": CAPTIONS, "images": images[0]}, "got one string"),
        ({"predictions": CAPTIONS, "images": [*images[:2], "no.png"]}, "2: no.png: there is no such file"),
        (
            {"predictions": CAPTIONS, "images": images, "references": [*REFERENCES[:2], []]},
            "2: no references",
        ),
    ]:
        with pytest.raises(InputError, match=words):
            metric.compute(**given)
    with pytest.raises(ImageError, match="float64"):
        metric.add_batch(predictions=["A cat."], images=[np.zeros((4, 4, 3))])
    with pytest.raises(TypeError, match="modle"):
        metric.compute(predictions=CAPTIONS, images=images, modle="lite")
    # Raised before the default model, which is not available here, is loaded.
    with pytest.raises(TypeError, match="modle"):
        evaluate.load(path(), modle="lite").compute(predictions=CAPTIONS, images=images)


def test_missing_captions_and_references_are_skipped_and_columns_are_taken_by_position(metric, images, expected):
    frame = pd.DataFrame(
        {
            "image": [*images, images[0], images[1]],
            "caption": [*CAPTIONS, None, CAPTIONS[1]],
            "references": [*REFERENCES, ["A cat."], float("nan")],
        },
        index=[4, 3, 2, 1, 0],
    )
    scores = metric.compute(
        predictions=frame.caption, images=frame.image, references=frame.references, on_error="skip", per_sample=True
    )
    assert scores["RefI0TScore_values"] == [
        *(pytest.approx(x, abs=1e-6) for x in expected["RefI0TScore"].values),
        None,
        None,
    ]
    assert scores["skipped"] == [
        {"id": "3", "reason": "the caption is missing"},
        {"id": "4", "reason": "no references; give at least one"},
    ]


def test_skipped_samples_keep_their_positions(metric, images, expected):
    scores = metric.compute(
        predictions=CAPTIONS, images=[images[0], "no.png", images[2]], on_error="skip", per_sample=True
    )
    first, _, third = expected["I0TScore"].values
    assert scores["n"] == 2
    assert scores["I0TScore_values"] == [pytest.approx(first, abs=1e-6), None, pytest.approx(third, abs=1e-6)]
    assert [(s["id"], "no such file" in s["reason"]) for s in scores["skipped"]] == [("1", True)]


@pytest.mark.filterwarnings("ignore:The statistics were computed from only 3 scored images")
def test_undefined_values_are_none(metric, images):
    alike = metric.compute(
        predictions=["A cat."] * 3, images=images, statistics="batch", metrics="I0TScore", per_sample=True
    )
    assert alike["I0TScore"] is None
    assert alike["I0TScore_values"] == [None] * 3


def test_a_model_is_loaded_once_unless_its_weights_file_changes(metric, images, tmp_path):
    from safetensors.torch import save_file

    metric.compute(predictions=CAPTIONS, images=images)
    before = models_loaded()
    evaluate.load(path(), model="lite").compute(predictions=CAPTIONS, images=images)
    assert models_loaded() == before

    tiny_models.register(tmp_path)
    weights = tmp_path / "weights.safetensors"
    scores = []
    for seed in (0, 0, 1):
        if not scores or seed:
            save_file(tiny_models.stock("tiny-eos", seed).state_dict(), weights)
        options = {"model": "tiny-eos", "weights": weights, "metrics": "CLIPScore(clip=no)"}
        scores.append(metric.compute(predictions=CAPTIONS, images=images, **options)["CLIPScore(clip=no)"])
    assert models_loaded() == before + 2
    assert scores[0] == scores[1] != scores[2]


GRADIO = """
import json, pandas

class inputs:
    Dataframe = dict

class outputs:
    Textbox = dict

class Interface:
    def __init__(self, fn, inputs, outputs, article, **texts):
        row = {"predictions": '"A tabby cat."', "images": json.dumps(IMAGE), "references": '["A cat."]'}
        assert list(inputs["headers"]) == list(row)
        print(json.dumps([article, fn(pandas.DataFrame([row]))]))
    def launch(self):
        print("launched")
"""


def test_the_page_of_the_space_computes_offline_with_empty_caches(images, tmp_path):
    """app.py is next to a script with the package's name; a stub replaces gradio, which is not installed."""
    (tmp_path / "gradio.py").write_text(GRADIO.replace("IMAGE", repr(images[0])))
    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    caches = {name: str(tmp_path / name) for name in ("HF_METRICS_CACHE", "HF_MODULES_CACHE")}
    offline = {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "PYTHONPATH": search}
    command = [sys.executable, str(Path(path(), "app.py"))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **caches, **offline})
    assert done.returncode == 0, done.stderr
    *_, computed, last = done.stdout.splitlines()
    article, scores = json.loads(computed)
    assert last == "launched"
    assert article.strip().startswith("# Metric card: I0TScore")
    expected = i0tscore.i0t_score(images[:1], ["A tabby cat."], [["A cat."]], model="lite")
    assert scores["RefI0TScore"] == pytest.approx(expected["RefI0TScore"].mean, abs=1e-6)


def test_the_examples_of_the_metric_card_run(folder, monkeypatch):
    monkeypatch.chdir(folder / "examples")
    namespace = {}
    (block,) = documents.blocks(Path(path(), "README.md").read_text())
    documents.run(block, namespace)
    assert namespace["scores"]["n"] == 2
