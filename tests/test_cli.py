"""The command line without a model: usage, exit codes, streams."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import numpy as np
import pytest
from examples_on_disk import ROOT

from i0tscore.cli import console
from i0tscore.cli.main import cli, main
from i0tscore.cli.options import PRESETS
from i0tscore.cli.score import Threshold
from i0tscore.encoders.known_means import contradictions
from i0tscore.encoders.open_clip_models import resolve_model_name
from i0tscore.encoders.options import DEFAULT_MODEL, DEFAULT_REPOSITORY
from i0tscore.errors import I0TScoreError, SampleFileError, UsageError
from i0tscore.gap import Statistics, normalize
from i0tscore.metrics import metric

doctor = importlib.import_module("i0tscore.cli.doctor")  # the command has the same name
VERBS = ("score", "compare", "correlate", "filter", "fit", "gap", "retrieve", "doctor", "explain")


def test_help_is_quick_to_import_and_names_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in VERBS)
    assert set(cli.commands) == set(VERBS)


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from i0tscore.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'open_clip', 'datasets', 'scipy', 'numpy', 'transformers'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_version_and_citations(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"i0tscore {version('i0tscore')}\n"
    assert main(["--cite"]) == 0
    cited = capsys.readouterr().out
    assert cited.count("@inproceedings{") == 4
    assert all(number in cited for number in ("2412.14384", "2104.08718", "2103.00020", "2502.04263"))
    assert cited.count("{") == cited.count("}")


def test_without_arguments_the_help_is_on_stderr(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: i0tscore" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "--no-such-option"], "No such option"),
        (["--no-such-option", "captions.json"], "No such option"),
        (["score"], "Expected a caption file"),
        (["captions.json", "images", "--images", "others"], "twice"),
        (["captions.json", "--references", "a", "--references_json", "b"], "Give one"),
        (["--image-embeddings", "x.npy"], "Give both"),
        (["c.json", "--image-embeddings", "x.npy", "--caption-embeddings", "y.npy"], "without caption files"),
        (["captions.json", "--format", "pdf"], "pdf"),
        (["captions.json", "--confidence", "1"], "--confidence"),
        (["captions.json", "--batch-size", "0"], "--batch-size"),
        (["captions.json", "--fail-below", "I0TScore"], "Expected a metric and a number"),
        (["captions.json", "--fail-below", "I0TScore=nan"], "Expected a metric and a number"),
        (["captions.json", "--output", "no-such-folder/x.json"], "does not exist"),
        (["captions.json", "--format", "csv", "--no-per-sample"], "lists the samples"),
        (["scoer"], "Did you mean score?"),
        (["fit", "captions.json"], "--output"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_a_missing_caption_file_exits_with_1_and_one_message(capsys, tmp_path):
    assert main([str(tmp_path / "none.json"), str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "none.json" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), 130),
        (UsageError("no"), 2),
        (I0TScoreError("no"), 1),
        (SampleFileError("f", ["a"]), 1),
    ],
)
def test_exit_codes(raised, code, monkeypatch, capsys):
    def fail(*_):
        raise raised

    monkeypatch.setattr("i0tscore.cli.score.read_inputs", fail)
    assert main(["captions.json"]) == code
    assert "error: " in capsys.readouterr().err


def test_an_unexpected_exception_keeps_its_traceback(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("i0tscore.cli.score.read_inputs", fail)
    with pytest.raises(ZeroDivisionError):
        main(["captions.json"])


def test_a_closed_pipe_is_silent():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "i0tscore", "--cite"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_warnings_are_one_line_each_and_only_once(capsys):
    with console.plain_warnings(quiet=False):
        for _ in range(2):
            warnings.warn_explicit("three captions were cut", UserWarning, "loop.py", 1, "i0tscore.encoders.loop")
        warnings.warn_explicit("noise", UserWarning, "image.py", 1, "PIL.Image")
    assert capsys.readouterr().err == "warning: three captions were cut\n"


def test_quiet_silences_warnings(capsys):
    with console.plain_warnings(quiet=True):
        warnings.warn_explicit("three captions were cut", UserWarning, "loop.py", 1, "i0tscore.encoders.loop")
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_color_is_honored(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert console.wants_color(Terminal())
    assert not console.wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not console.wants_color(Terminal())


def test_output_is_replaced_whole_or_left_alone(tmp_path):
    file = tmp_path / "result.json"
    file.write_text("old")

    def full():
        yield "new"
        raise OSError(28, "No space left on device")

    with pytest.raises(I0TScoreError, match="No space left"):
        console.write_output(full(), file)
    assert file.read_text() == "old"
    console.write_output("new \udc80", file)
    assert file.read_bytes() == b"new \\udc80"
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]


def test_a_threshold_is_split_at_the_last_equals_sign():
    threshold = Threshold()
    assert threshold.convert("I0TScore(clip=yes)=0.3", None, None) == ("I0TScore(clip=yes)", 0.3)
    assert threshold.convert("CLIPScore=-1e-1", None, None) == ("CLIPScore", -0.1)


def test_presets_are_those_of_the_metrics():
    assert set(PRESETS) == set(metric.PRESETS)


def test_doctor_says_what_is_here(capsys):
    assert main(["doctor", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["i0tscore"] == version("i0tscore")
    assert facts["models"]["lite"].startswith("ready")
    assert "--devices" in facts["devices"]
    assert main(["doctor", "--devices", "--format", "json"]) == 0
    assert re.search(r"bf16 is \d+\.\d times as fast", json.loads(capsys.readouterr().out)["devices"]["cpu"])


def test_doctor_loads_no_model_library():
    code = (
        "import sys; from i0tscore.cli.main import main; assert main(['doctor']) == 0; "
        "assert not {'torch', 'open_clip', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_doctor_knows_the_repository_of_the_default_model():
    assert resolve_model_name(DEFAULT_MODEL).pretrained["hf_hub"].rstrip("/") == DEFAULT_REPOSITORY


def test_doctor_knows_the_extras(capsys, monkeypatch):
    assert set(doctor.EXTRAS) | {"lite", "demo", "dev", "docs"} == set(metadata("i0tscore").get_all("Provides-Extra"))
    needs = "\n".join(requires("i0tscore") or ())
    assert all(package in needs for package in doctor.EXTRAS.values())

    def without_ray(package: str) -> str:
        if package == "ray":
            raise PackageNotFoundError
        return version(package)

    monkeypatch.setattr(doctor, "version", without_ray)
    assert main(["doctor", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["extras"]
    assert found["ray"] == 'missing: pip install "i0tscore[ray]"'
    assert found["evaluate"] == f"ready, evaluate {version('evaluate')}"


def test_doctor_says_how_to_get_what_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path / "embeddings"))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "ViT-B-32-quickgelu/openai  missing" in shown
    assert "--weights FILE" in shown
    assert f"{tmp_path / 'embeddings'}, 0 files" in shown


def test_doctor_lists_models(capsys):
    assert main(["doctor", "--models"]) == 0
    names = capsys.readouterr().out.split()
    assert names[0] == "lite"
    assert len(names) > 100
    assert main(["doctor", "--models", "b-32-QUICKGELU/openai"]) == 0
    assert capsys.readouterr().out == "ViT-B-32-quickgelu/openai\n"


def test_doctor_refuses_what_no_model_is_called(capsys):
    assert main(["doctor", "--models", "clap"]) == 2
    assert "No model name contains 'clap'" in capsys.readouterr().err
    assert main(["doctor", "--models", "vitb32"]) == 2
    assert "Did you mean ViT-B-32" in capsys.readouterr().err


def test_doctor_describes_statistics_and_compares_them_with_a_model(capsys):
    file = str(ROOT / "i0tscore" / "encoders" / "data" / "lite-statistics.safetensors")
    assert main(["doctor", "--statistics", file, "--model", "lite", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["statistics"]["images"] == 6000
    assert found["statistics"]["prefix"] == "A photo depicts "
    assert 0.7 < found["means"]["distance between them"] < 0.9
    assert found["reference distributions"]["post"].startswith("p(match) = sigmoid(")
    assert found["fitted state"] == {"covariance": "yes", "bank": "no", "normalization": "no"}
    assert found["match with lite"][0].startswith("No contradiction found")
    assert main(["doctor", "--statistics", file, "--model", "ViT-B-32/openai"]) == 0
    shown = capsys.readouterr().out
    assert "fitted with lite, not with ViT-B-32-quickgelu/openai" in shown
    assert "has 512 dimensions, but the embeddings have 256" in shown
    assert main(["doctor", "--model", "lite"]) == 2
    assert main(["doctor", "--statistics", "missing.safetensors"]) == 1


@pytest.mark.data
def test_the_peaks_of_clip_models_are_found_in_their_embeddings_and_in_no_others(data_dir):
    folder = data_dir / "clip_vitb32_model_captions"
    own = {"ViT-B-32/openai": [np.load(folder / f"{kind}_embeddings.npy") for kind in ("image", "caption")]}
    own["ViT-B-16/openai"] = list(np.load(data_dir / "clip_vitb16_pairs" / "image_text_500.npy"))
    for encoder, pairs in own.items():
        means = [normalize(side).mean(axis=0) for side in pairs]
        for model in own:
            assert bool(contradictions(model, *means)) == (model != encoder)
        assert contradictions(encoder, *reversed(means)), "images and captions swapped"


def test_embeddings_that_cannot_be_from_the_named_model_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        np.save(f"{name}.npy", np.random.default_rng(0).normal(size=(40, 512)))
        Path(f"{name}.ids.txt").write_text("\n".join(map(str, range(40))))
    given = ["--image-embeddings", "x.npy", "--caption-embeddings", "y.npy"]
    assert main(["fit", *given, "--output", "s.safetensors", "--model", "ViT-B-32/openai"]) == 0
    warning = capsys.readouterr().err
    assert "cannot be from --model ViT-B-32/openai: Expected about -0.60 in coordinate 92 of the mean image" in warning
    assert main([*given, "--model", "lite", "--format", "json"]) == 0
    assert "lite has 256 dimensions, but the embeddings have 512" in json.loads(capsys.readouterr().out)["notes"][0]
    assert main(["fit", *given, "--output", "s.safetensors"]) == 0
    assert "cannot be from" not in capsys.readouterr().err


def test_statistics_of_another_model_are_reported_before_images_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("captions.json").write_text('{"broken": "a dog"}')
    Path("broken.png").write_bytes(b"no image")
    shipped = Statistics.load(ROOT / "i0tscore" / "encoders" / "data" / "lite-statistics.safetensors")
    replace(shipped, space="another").save("s.safetensors")
    for command in ("score", "gap"):
        given = [command, "captions.json", ".", "--model", "lite", "--statistics", "s.safetensors"]
        assert main(given) == 1
        assert "belong to lite [another]" in capsys.readouterr().err


def test_help_shows_its_examples_a_line_each(capsys):
    assert main(["--help"]) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("i0tscore captions.json images/ --model lite") for line in shown)
    assert not any("\\b" in line for line in shown)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
def test_a_full_disk_is_one_message():
    command = [sys.executable, "-m", "i0tscore", "doctor", "--models", "openai"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Writing to stdout failed")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["fit", "captions.json", "images", "--output", "captions.json"], "ending in .safetensors"),
        (["score", "captions.json", "images", "--workers", "0"], "--workers"),
        (
            ["--image-embeddings", "x.npy", "--caption-embeddings", "y.npy", "--precision", "bf16"],
            "have no effect on embeddings",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said, capsys):
    assert main(options) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["fit", "gap", "retrieve"])
def test_verbs_that_use_no_references_do_not_offer_them(verb, capsys):
    assert main([verb, "captions.json", "images", "--references", "references.json"]) == 2
    assert "No such option" in capsys.readouterr().err
    assert main([verb, "--help"]) == 0
    assert "--references" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "captions.json"],
        ["compare", "a.json", "b.json"],
        ["correlate", "ratings.csv"],
        ["gap", "captions.json"],
        ["retrieve", "captions.json"],
    ],
)
def test_too_few_resamples_for_an_interval_are_refused_before_anything_is_read(arguments, capsys):
    assert main([*arguments, "--resamples", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "40" in err, "it says how many are needed"
    assert "0 for no intervals" in err
    assert ".json" not in err


def test_the_seed_of_retrieve_also_samples_queries(capsys):
    assert main(["retrieve", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Seed of the bootstrap, and of the sample of --queries." in shown
