from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny_models
import torch
from safetensors.torch import save_file

from i0tscore.encoders import load_encoder, openclip
from i0tscore.encoders.openclip import weights_hash
from i0tscore.errors import UsageError, WeightsRefusedError, WeightsUnavailableError


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


def _state(name: str = "tiny", seed: int = 3) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in tiny_models.stock(name, seed).state_dict().items()}


def _save(state: dict[str, Any], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.filterwarnings("ignore:.*does not say which activation")
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_weights_from_a_file(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    encoder = load_encoder("tiny", weights=_save(_state(), tmp_path / name), offline=True)
    stock = tiny_models.stock("tiny", 3)
    assert encoder.fingerprint.weights == weights_hash(stock)
    assert encoder.fingerprint.name == f"tiny/{name}"
    assert not caplog.records, "open_clip's log must not reach the user"
    pixels = torch.randn(2, 3, 32, 32)
    theirs = stock.encode_image(pixels, normalize=True)
    torch.testing.assert_close(encoder.encode_pixels(pixels), theirs, atol=1e-5, rtol=0)


class _Lightning(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model


def _compiled_tower(model: Any) -> Any:
    model.visual = torch.compile(model.visual)
    return model


@pytest.mark.filterwarnings("ignore:.*does not say which activation")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model).state_dict(),
        lambda model: torch.nn.DataParallel(model).state_dict(),
        lambda model: torch.compile(torch.nn.DataParallel(model)).state_dict(),
        lambda model: torch.nn.DataParallel(torch.compile(model)).state_dict(),
        lambda model: _compiled_tower(model).state_dict(),
        lambda model: {"epoch": 3, "state_dict": _Lightning(torch.compile(model)).state_dict()},
        lambda model: {"epoch": 3, "state_dict": torch.nn.DataParallel(model).state_dict()},
        lambda model: {"step": 1, "model": torch.nn.DataParallel(model).state_dict()},
        lambda model: {"step": 1, "model_state_dict": model.state_dict()},
    ],
)
def test_wrapped_state_dicts(wrap: Any, tmp_path: Path) -> None:
    path = _save(wrap(tiny_models.stock("tiny", 3)), tmp_path / "checkpoint.pt")
    encoder = load_encoder("tiny", weights=path)
    assert encoder.fingerprint.weights == weights_hash(tiny_models.stock("tiny", 3))


def test_a_checkpoint_of_two_models_is_not_mixed(tmp_path: Path) -> None:
    both = {f"{name}.{key}": value for name in ("model", "module") for key, value in _state().items()}
    with pytest.raises(WeightsRefusedError, match=r"several models \(model\.\S+, module\.\S+\)"):
        load_encoder("tiny", weights=_save(both, tmp_path / "checkpoint.pt"))


def test_weights_file_without_activation_warns(tmp_path: Path) -> None:
    path = _save(_state(), tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="If they were trained with tiny-quickgelu, the scores are wrong"):
        plain = load_encoder("tiny", weights=path)
    with pytest.warns(UserWarning, match=r"If they were trained with tiny, the scores are wrong"):
        quick = load_encoder("tiny-quickgelu", weights=path)
    assert (plain.fingerprint.activation, quick.fingerprint.activation) == ("gelu", "quickgelu")
    assert plain.fingerprint.space != quick.fingerprint.space


@pytest.mark.filterwarnings("ignore:.*does not say which activation")
def test_openai_checkpoint_without_quickgelu_is_an_error(tmp_path: Path) -> None:
    state = _state() | {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
    path = _save(state | {"vocab_size": torch.tensor(49408)}, tmp_path / "openai.safetensors")
    with pytest.raises(WeightsRefusedError, match="need QuickGELU"):
        load_encoder("tiny", weights=path)
    assert load_encoder("tiny-quickgelu", weights=path).fingerprint.activation == "quickgelu"


class _Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("how", ["pickle", "torch", "renamed"])
def test_pickle_is_rejected_and_not_run(tmp_path: Path, how: str) -> None:
    marker, path = tmp_path / "run", tmp_path / ("w.safetensors" if how == "renamed" else "w.pt")
    trap = {"visual.proj": _Trap(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        torch.save(trap, path)
    with pytest.raises(WeightsRefusedError, match="safetensors"):
        load_encoder("tiny", weights=path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(trap))
    assert marker.exists(), "the trap works when it is run"


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_rejected(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(WeightsRefusedError, match="TorchScript archive, which is code"):
        load_encoder("tiny", weights=tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds more than tensors, or is damaged"),
        (b"not weights", "holds more than tensors, or is damaged"),
        (b"\x08\0\0\0\0\0\0\0{}      broken", "is damaged or not a safetensors file"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.bin").write_bytes(content)
    with pytest.raises(WeightsRefusedError, match=message):
        load_encoder("tiny", weights=tmp_path / "w.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"visual.proj": torch.ones(3, 3)}, r"visual.proj is \(3, 3\), expected \(32, 16\)"),
        (lambda s: {k: v for k, v in s.items() if "ln_final" not in k}, r"2 parameters missing \(ln_final"),
        (lambda s: s | {"extra": torch.ones(1)}, r"1 parameters unknown to the model \(extra\)"),
        (lambda s: s | {"visual.proj": "text"}, "'visual.proj' in .* is not a tensor"),
        (lambda s: {"visual.proj": [1]}, "is not a tensor"),
        (lambda s: [1], "holds no state dict"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*does not say which activation")
def test_weights_of_another_model(tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(_state()), tmp_path / "w.pt")
    with pytest.raises(WeightsRefusedError, match=message):
        load_encoder("tiny", weights=tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:.*does not say which activation")
def test_position_embeddings_of_another_size_are_not_resized(tmp_path: Path) -> None:
    path = _save(_state("tiny-large-images"), tmp_path / "w.safetensors")
    with pytest.raises(WeightsRefusedError, match=r"visual\.positional_embedding is"):
        load_encoder("tiny", weights=path)


def test_missing_file() -> None:
    with pytest.raises(WeightsUnavailableError, match="does not exist"):
        load_encoder("tiny", weights="/nowhere/w.safetensors")


def test_lite_rejects_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be combined"):
        load_encoder("lite", weights=tmp_path / "w.safetensors")


def test_local_dir(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected open_clip_config\.json"):
        load_encoder(f"local-dir:{tmp_path}")
    config = {"embed_dim": 16, "vision_cfg": tiny_models.VISION, "text_cfg": tiny_models.TEXT}
    config_file = {"model_cfg": config, "preprocess_cfg": {"resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config_file))
    with pytest.raises(WeightsUnavailableError, match="Found no weights"):
        load_encoder(f"local-dir:{tmp_path}")
    _save(_state(), tmp_path / "open_clip_model.safetensors")
    encoder = load_encoder(f"local-dir:{tmp_path}", offline=True)
    assert encoder.fingerprint.weights == weights_hash(tiny_models.stock("tiny", 3))
    assert encoder.fingerprint.preprocess.startswith("32-squash-bicubic-")


class TestHub:
    @pytest.fixture(autouse=True)
    def _empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_CACHE", str(tmp_path))

    @pytest.mark.parametrize("offline", [True, False])
    @pytest.mark.parametrize("model", ["ViT-B-32/openai", "hf-hub:nobody/nothing", "ViT-B-16-SigLIP/webli"])
    def test_unavailable_weights(
        self, model: str, offline: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        handlers = list(logging.getLogger().handlers)
        with pytest.raises(WeightsUnavailableError) as caught:
            load_encoder(model, offline=offline)
        message = str(caught.value)
        for workaround in ("--weights FILE", "HF_HOME", "--model lite"):
            assert workaround in message
        assert ("the network is off (offline)" if offline else "cannot be reached") in message
        assert not caplog.records
        assert capfd.readouterr() == ("", "")
        assert logging.getLogger().handlers == handlers
        assert not logging.getLogger().disabled
        assert not huggingface_hub.constants.HF_HUB_OFFLINE

    def test_cached_weights_need_no_network(self, tmp_path: Path) -> None:
        snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (tmp_path / "models--someone--tiny" / "refs").mkdir()
        (tmp_path / "models--someone--tiny" / "refs" / "main").write_text("a" * 40)
        config = {"embed_dim": 16, "vision_cfg": tiny_models.VISION, "text_cfg": tiny_models.TEXT}
        (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        _save(_state(), snapshot / "open_clip_model.safetensors")
        encoder = load_encoder("hf-hub:someone/tiny")
        assert encoder.fingerprint.weights == weights_hash(tiny_models.stock("tiny", 3))
        assert encoder.fingerprint.name == "hf-hub:someone/tiny"


def test_fingerprint_of_weights() -> None:
    model = tiny_models.stock("tiny")
    before = weights_hash(model)
    assert before == weights_hash(tiny_models.stock("tiny")) == tiny_models.encoder("tiny").fingerprint.weights
    assert before == tiny_models.encoder("tiny", precision="bf16").fingerprint.weights
    model.logit_scale.add_(1e-3)
    assert weights_hash(model) != before


@pytest.mark.parametrize(("setting", "message"), [("precision", "fp32, bf16, fp16"), ("device", "Try cpu or auto")])
def test_unknown_settings(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_models.encoder("tiny", **{setting: "nonsense"})


@pytest.mark.parametrize(("speedup", "chosen"), [(0.9, "fp32"), (1.1, "fp32"), (3.0, "bf16")])
def test_auto_precision_is_bf16_where_it_saves_time(
    speedup: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openclip, "bf16_speedup", lambda _: speedup)
    assert tiny_models.encoder("tiny", precision="auto").fingerprint.precision == chosen
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert tiny_models.encoder("tiny", precision="bf16").fingerprint.precision == "bf16"
    assert [("1.1 times slower" in str(one.message)) for one in caught] == [True] * (speedup < 1)


def test_the_speedup_of_bf16_is_measured() -> None:
    assert 0.01 < openclip.bf16_speedup(torch.device("cpu")) < 100


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 2e-2), ("fp16", 3e-3)])
def test_lower_precision_is_close_and_returns_float32(precision: str, tolerance: float) -> None:
    exact, lower = tiny_models.encoder("tiny"), tiny_models.encoder("tiny", precision=precision)
    pixels = torch.randn(4, 3, 32, 32)
    tokens = exact.tokenize(["a dog", "two cats in the snow"])
    for a, b in (
        (exact.encode_pixels(pixels), lower.encode_pixels(pixels)),
        (exact.encode_tokens(tokens), lower.encode_tokens(tokens)),
    ):
        assert b.dtype == torch.float32
        assert 0 < (a - b).abs().max() < tolerance
        torch.testing.assert_close(b.norm(dim=-1), torch.ones(len(b)), atol=1e-5, rtol=0)


def test_package_imports_no_torch() -> None:
    import subprocess

    code = "import sys, i0tscore.encoders; sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
