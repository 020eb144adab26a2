"""Encoders that are known from an earlier run: when the model is loaded, and that the scores are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from examples_on_disk import write_examples
from PIL import Image
from safetensors.torch import save_file

from i0tscore.encoders import load_encoder, remembered
from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.options import EncodeOptions

CAPTIONS = ["a red square", "a blue square", "a very " + "long " * 80 + "caption"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tiny open_clip model, and images beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"embed_dim": 16, "vision_cfg": tiny_models.VISION, "text_cfg": tiny_models.TEXT}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    _write_weights(folder, seed=3)
    for row in range(3):
        Image.new("RGB", (40, 30), (70 * row, 10, 90)).save(tmp_path / f"{row}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


def _write_weights(folder: Path, seed: int) -> None:
    save_file(tiny_models.stock("tiny", seed).state_dict(), folder / "open_clip_model.safetensors")


def _encode(model: Path, **options) -> tuple[RunEncoder, np.ndarray]:
    encoder = RunEncoder(
        EncodeOptions(f"local-dir:{model}", cache_dir=model.parent / "cache", **options), "A photo of "
    )
    images = [str(model.parent / f"{row}.png") for row in range(3)]
    (run,) = encoder.runs(images, CAPTIONS, None, None)
    return encoder, np.stack([*run.pairs])


def _is_loaded(encoder: RunEncoder) -> bool:
    return encoder._encoder is not None


pytestmark = pytest.mark.filterwarnings("ignore:.*tokens and were truncated")


def test_the_second_run_loads_nothing_and_finds_the_same(model: Path) -> None:
    first, before = _encode(model)
    second, after = _encode(model)
    assert _is_loaded(first)
    assert not _is_loaded(second)
    np.testing.assert_array_equal(before, after)
    assert second.fingerprint == first.fingerprint
    assert second.signature_fields == first.signature_fields


def test_truncation_is_reported_from_the_cache(model: Path) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 3 captions have more than 77 tokens"):
            encoder, _ = _encode(model)
    assert not _is_loaded(encoder)


def test_new_captions_load_the_model(model: Path) -> None:
    _encode(model)
    encoder, _ = _encode(model)
    encoder.embed(["a caption that was never seen"], "text")
    assert _is_loaded(encoder)


@pytest.mark.parametrize("policy", ["split", "error"])
def test_policies_for_long_captions_work_from_the_cache(model: Path, policy: str) -> None:
    short = CAPTIONS[:2] if policy == "error" else CAPTIONS

    def embed() -> tuple[RunEncoder, np.ndarray]:
        options = EncodeOptions(f"local-dir:{model}", cache_dir=model.parent / "cache", long_captions=policy)
        encoder = RunEncoder(options, "")
        return encoder, encoder.vectors(short, "text")

    (_, before), (encoder, after) = embed(), embed()
    assert not _is_loaded(encoder)
    np.testing.assert_array_equal(before, after)


def test_touched_weights_are_hashed_again(model: Path) -> None:
    first, _ = _encode(model)
    os.utime(model / "open_clip_model.safetensors", ns=(1, 1))
    second, _ = _encode(model)
    assert _is_loaded(second)
    assert second.fingerprint == first.fingerprint
    assert not _is_loaded(_encode(model)[0])


def test_other_weights_under_the_same_name_give_other_embeddings(model: Path) -> None:
    first, before = _encode(model)
    _write_weights(model, seed=4)
    second, after = _encode(model)
    assert second.fingerprint.weights != first.fingerprint.weights
    assert np.abs(before - after).max() > 0.01


def test_changed_settings_beside_the_weights_are_noticed(model: Path) -> None:
    first, _ = _encode(model)
    config = model / "open_clip_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "preprocess_cfg": {"resize_mode": "squash"}}))
    second, _ = _encode(model)
    assert second.fingerprint.preprocess != first.fingerprint.preprocess


def test_a_removed_model_is_an_error(model: Path) -> None:
    _encode(model)
    (model / "open_clip_model.safetensors").unlink()
    with pytest.raises(Exception, match="Found no weights"):
        _encode(model)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"dimension": 16}', b'{"fingerprint": 1, "files": 2}'])
def test_damaged_records_are_replaced(model: Path, content: bytes) -> None:
    first, _ = _encode(model)
    (record,) = (model.parent / "cache" / "models").iterdir()
    intact = record.read_bytes()
    record.write_bytes(content)
    second, _ = _encode(model)
    assert _is_loaded(second)
    assert second.fingerprint == first.fingerprint
    assert record.read_bytes() == intact


def test_another_version_of_a_library_loads_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _encode(model)
    monkeypatch.setattr(remembered, "_version", lambda package: "9.9")
    assert _is_loaded(_encode(model)[0])


def test_precisions_do_not_share_a_record(model: Path) -> None:
    _encode(model)
    encoder, _ = _encode(model, precision="fp16")
    assert encoder.fingerprint.precision == "fp16"


def test_a_relative_name_means_the_model_in_this_folder(model: Path, tmp_path: Path, monkeypatch) -> None:
    other = tmp_path / "elsewhere" / "model"
    other.mkdir(parents=True)
    (other / "open_clip_config.json").write_bytes((model / "open_clip_config.json").read_bytes())
    _write_weights(other, seed=5)
    found = []
    for folder in (tmp_path, other.parent):
        monkeypatch.chdir(folder)
        options = EncodeOptions("local-dir:model", cache_dir=tmp_path / "cache")
        found.append(RunEncoder(options, "").fingerprint.weights)
    assert found[0] != found[1]


def test_an_unknown_activation_is_reported_in_each_run(model: Path) -> None:
    for _ in range(2):
        options = EncodeOptions("tiny", weights=model / "open_clip_model.safetensors", cache_dir=model.parent / "cache")
        encoder = RunEncoder(options, "")
        with pytest.warns(UserWarning, match="does not say which activation"):
            encoder.vectors(CAPTIONS, "text")
    assert not list((model.parent / "cache").glob("models/*"))


def test_encoders_without_a_name_leave_no_record(model: Path, tmp_path: Path) -> None:
    encoder = RunEncoder(EncodeOptions(load_encoder(f"local-dir:{model}"), cache_dir=tmp_path / "cache"), "")
    encoder.vectors(CAPTIONS[:2], "text")
    assert encoder.embed(CAPTIONS[:2], "text").token_counts is not None
    assert not (tmp_path / "cache" / "models").exists()


def test_the_command_repeats_its_output_without_model_libraries(tmp_path: Path) -> None:
    code = """
import json, sys
from i0tscore.cli.main import main
status = main(sys.argv[1:])
libraries = {"torch", "torchvision", "open_clip", "timm", "transformers", "datasets"}
print(json.dumps([status, sorted(libraries & {name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""
    examples = write_examples(tmp_path)
    arguments = ["captions.jsonl", "images", "--model", "lite", "--cache-dir", "cache", "--format", "json"]
    runs = [
        subprocess.run([sys.executable, "-c", code, *arguments], cwd=examples, capture_output=True, text=True)
        for _ in range(2)
    ]
    (first, loaded), (second, again) = (json.loads(run.stderr.splitlines()[-1]) for run in runs)
    assert first == second == 0, runs[0].stderr
    assert "torch" in loaded
    assert again == []
    assert runs[0].stdout == runs[1].stdout
    assert "I0TScore" in runs[0].stdout
