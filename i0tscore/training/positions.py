"""Position embeddings stretched for longer texts, as in Long-CLIP (Zhang et al. 2024)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from i0tscore.encoders.open_clip_models import resolve_model_name
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.text import Padding, TextTower
from i0tscore.errors import ModelError, UsageError
from i0tscore.training.trainer import write_tensors

LONG_CONTEXT = 248
"""Context length of Long-CLIP: CLIP's first 20 positions, and its other 57 stretched by 4."""
KEPT_POSITIONS = 20
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def stretch_positions(positions: torch.Tensor, length: int = LONG_CONTEXT, keep: int = KEPT_POSITIONS) -> torch.Tensor:
    """Stretch position embeddings, except the first ones, which short captions have trained well.

    Row keep + j of the result is the old table at keep + j · (old − keep) / (length − keep), interpolated
    linearly, and extrapolated from the last two rows beyond the end.

    Args:
        positions: Position embeddings, shape (old, d), with old ≥ keep + 2.
        length: Number of rows of the result, at least old.
        keep: Number of leading rows to keep unchanged.

    Returns:
        Shape (length, d), with the dtype and device of ``positions``.

    Raises:
        UsageError: There are too few rows to stretch, or ``length`` is smaller than old.

    Examples:
        >>> stretched = stretch_positions(torch.arange(4.0)[:, None], length=8, keep=2)
        >>> [round(value, 3) for value in stretched.flatten().tolist()]
        [0.0, 1.0, 2.0, 2.333, 2.667, 3.0, 3.333, 3.667]
    """
    old = len(positions)
    if length < old or not 0 <= keep <= old - 2:
        raise UsageError(
            f"Cannot stretch {old} positions to {length} and keep the first {keep}. "
            f"Choose a length of at least {old} and keep between 0 and {old - 2}."
        )
    rest = positions[keep:]
    source = torch.arange(length - keep, dtype=torch.float64) * (len(rest) / (length - keep))
    lower = source.long().clamp(max=len(rest) - 2)
    weight = (source - lower).to(positions)[:, None]
    stretched = rest[lower] + weight * (rest[lower + 1] - rest[lower])
    return torch.cat([positions[:keep], stretched])


def write_stretched(encoder: OpenClipEncoder, model: str, folder: Path, *, length: int, keep: int) -> str:
    """Write a model with stretched positions to a folder.

    Args:
        encoder: The model, in fp32.
        model: Name the model was loaded by.
        folder: Output folder, created if needed.
        length: New context length; the old one keeps the positions unchanged.
        keep: Number of leading positions to keep unchanged.

    Returns:
        The name that loads the result, ``local-dir:FOLDER``.

    Raises:
        ModelError: The text tower has no causal attention with learned positions.
        UsageError: ``length`` or ``keep`` is out of range, or the configuration of the model is not available.
    """
    state = encoder.model.state_dict()
    keys = [key for key in ("positional_embedding", "text.positional_embedding") if key in state]
    if not keys or TextTower(encoder.model).padding is not Padding.LONGEST_CAUSAL:
        raise ModelError(
            f"Cannot stretch the positions of {encoder.fingerprint.name}: its text tower has no causal attention "
            "with learned positions. Choose another open_clip model."
        )
    config = _read_config(encoder, model)
    state[keys[0]] = stretch_positions(state[keys[0]], length, keep)
    config["model_cfg"]["text_cfg"]["context_length"] = length
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_weights(state, folder)
    return f"local-dir:{folder}"


def write_weights(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the weights of a model to its folder in fp32, atomically."""
    # Cloned, because safetensors rejects tensors that share memory.
    tensors = {key: tensor.detach().cpu().float().contiguous().clone() for key, tensor in state.items()}
    write_tensors(folder / WEIGHTS_FILE, tensors)


def _read_config(encoder: OpenClipEncoder, model: str) -> dict[str, Any]:
    """Return the content of ``open_clip_config.json`` for a model."""
    import open_clip

    scheme, _, rest = model.partition(":")
    if scheme == "local-dir":
        config: dict[str, Any] = json.loads((Path(rest) / CONFIG_FILE).read_text(encoding="utf-8"))
        return config
    if scheme == "hf-hub":
        raise UsageError(f"Cannot fine-tune {model} directly. Download it to a folder and use local-dir:FOLDER.")
    name = resolve_model_name(model, Path("given"))
    settings = open_clip.get_model_config(name.architecture)
    if name.quick_gelu:
        settings["quick_gelu"] = True
    preprocess = {key: value for key, value in encoder.model.visual.preprocess_cfg.items() if key != "mode"}
    return {"model_cfg": settings, "preprocess_cfg": preprocess}
