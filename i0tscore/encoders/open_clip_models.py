"""Loading open_clip models by name: resolve, find the weights, build, load, wrap."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Any

from i0tscore.encoders.hub import from_hub
from i0tscore.encoders.model_names import ModelName, resolve_model_name, sibling
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.weights import load_weights, read_state_dict
from i0tscore.errors import UsageError, WeightsUnavailableError

CHECKPOINTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
"""What a folder's weights file is called, the best first."""


def load_open_clip(
    model: str,
    *,
    weights: str | PathLike[str] | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    offline: bool = False,
) -> OpenClipEncoder:
    """Load an open_clip model as an encoder.

    Args:
        model: As ``load_encoder`` takes it, without ``lite``.
        weights: A file to take the weights from.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: A torch device or ``auto``.
        offline: Never reach for the network.

    Raises:
        UsageError: If the name, the precision or the device does not exist.
        WeightsUnavailableError: If the weights cannot be had.
        WeightsRefusedError: If they are unsafe, damaged, or made for another model.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    file = None if weights is None else Path(weights)
    name = resolve_model_name(model, file)
    path = _find_weights(name, offline=offline) if file is None else file
    state = read_state_dict(path)
    built = from_hub(lambda: _build(name), name.shown, offline=offline)
    tokenizer = from_hub(
        lambda: open_clip.get_tokenizer(name.architecture), f"the tokenizer of {name.shown}", offline=offline
    )
    if file is not None and name.tag is None:
        _warn_of_sibling(name.architecture, file)
    load_weights(built, state, path, resize=file is None)
    transform = image_transform_v2(PreprocessCfg(**built.visual.preprocess_cfg), is_train=False)
    return OpenClipEncoder(built, tokenizer, transform, name=name.shown, precision=precision, device=device)


def _find_weights(name: ModelName, *, offline: bool) -> Path:
    """The weights file that a name stands for, fetched if need be."""
    from open_clip.pretrained import download_pretrained, download_pretrained_from_hf

    scheme, _, rest = name.architecture.partition(":")
    if scheme == "local-dir":
        return _checkpoint_in(Path(rest))
    if scheme == "hf-hub":
        return Path(from_hub(lambda: download_pretrained_from_hf(rest), name.shown, offline=offline))
    if not name.pretrained.get("hf_hub"):
        # Weights at a bare address have no cache that could be asked first.
        raise WeightsUnavailableError(
            f"{name.shown}: its weights are at {name.pretrained.get('url')}, not on the hub: fetch them and "
            "give the file with --weights"
        )
    return Path(from_hub(lambda: download_pretrained(name.pretrained), name.shown, offline=offline))


def _checkpoint_in(folder: Path) -> Path:
    if not (folder / "open_clip_config.json").is_file():
        raise UsageError(f"{folder}: no open_clip_config.json there; local-dir: needs a folder that has one")
    files = [folder / name for name in CHECKPOINTS if (folder / name).is_file()] or [
        *sorted(folder.glob("*.safetensors")),
        *sorted(folder.glob("*.bin")),
        *sorted(folder.glob("*.pt")),
    ]
    if not files:
        raise WeightsUnavailableError(f"{folder}: no weights there; put {CHECKPOINTS[0]} beside the configuration")
    return files[0]


def _build(name: ModelName) -> Any:
    """Build a model without weights, on the processor in float32, with its preprocessing set."""
    import open_clip

    return open_clip.create_model(
        name.architecture,
        load_weights=False,
        pretrained_text=False,
        force_quick_gelu=name.quick_gelu,
        force_preprocess_cfg=name.preprocess,
    )


def _warn_of_sibling(architecture: str, file: Path) -> None:
    other = sibling(architecture)
    if other:
        warnings.warn(
            f"{file} does not say which activation its weights were trained with: taken for {architecture}; "
            f"if they are for {other}, the scores are wrong. A tag settles it: --model {architecture}/TAG",
            UserWarning,
            stacklevel=4,
        )
