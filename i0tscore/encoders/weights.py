"""Weights from a file, loaded without running what is in it and never into the wrong model."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from i0tscore.errors import WeightsRefusedError, WeightsUnavailableError

LISTED = 3
"""How many parameters a message names."""

OPENAI_KEYS = {"input_resolution", "context_length", "vocab_size"}
"""What OpenAI's own checkpoints hold besides parameters."""


def weights_hash(model: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 over a model's state dict: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def uses_quick_gelu(model: nn.Module) -> bool:
    """Whether a model of open_clip was built with QuickGELU."""
    from open_clip.transformer import QuickGELU

    return any(isinstance(part, QuickGELU) for part in model.modules())


def load_weights(model: nn.Module, state: dict[str, torch.Tensor], path: Path, *, resize: bool = False) -> None:
    """Load weights into a model of open_clip, in place.

    Args:
        model: The model, on the processor, in float32.
        state: What ``read_state_dict`` read.
        path: Where it read it, for the messages.
        resize: Whether position embeddings of another size are interpolated, as open_clip does; else
            they are refused.

    Raises:
        WeightsRefusedError: If they do not fit the model, or need another activation.
    """
    if state.keys() >= OPENAI_KEYS and not uses_quick_gelu(model):
        raise WeightsRefusedError(
            f"{path}: OpenAI's weights need QuickGELU and would give wrong scores without: "
            "use the architecture whose name ends in -quickgelu"
        )
    state = _in_open_clip_form(model, {key: state[key] for key in state.keys() - OPENAI_KEYS})
    if resize:
        from open_clip.model import resize_pos_embed, resize_text_pos_embed

        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    problems = _problems(model.state_dict(), state)
    if problems:
        raise WeightsRefusedError(
            f"{path}: made for another model: {'; '.join(problems)}. Check --model against the file"
        )
    model.load_state_dict(state)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a weights file, refusing everything that is not one.

    Raises:
        WeightsUnavailableError: If there is no such file.
        WeightsRefusedError: If it could run code, is damaged, or holds something else.
    """
    if not path.is_file():
        raise WeightsUnavailableError(f"{path}: there is no such weights file; check --weights")
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not content:
        raise WeightsRefusedError(f"{path}: holds no state dict (names and tensors); save model.state_dict()")
    tensors = {str(key).removeprefix("module."): value for key, value in content.items()}
    wrong = [key for key, value in tensors.items() if not isinstance(value, torch.Tensor | int)]
    if wrong:
        raise WeightsRefusedError(f"{path}: {wrong[0]!r} is not a tensor; save model.state_dict() alone")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or start[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsRefusedError(f"{path}: damaged, or no safetensors file ({error}); fetch it anew") from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # A newer pickle protocol than torch writes; that it holds tensors alone is checked all the same.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = "is a TorchScript archive, which is code" if "TorchScript" in str(error) else "is not tensors alone"
        raise WeightsRefusedError(
            f"{path}: {reason}, or is damaged. Opening such a file can run code, so it was refused. Convert "
            "it to safetensors where you trust it: safetensors.torch.save_file(model.state_dict(), FILE)"
        ) from error


def _in_open_clip_form(model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename what other versions and publishers name otherwise. Nothing is resized."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = dict(convert_state_dict(model, state))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):
        if name in own and name in state and state[name].numel() == own[name].numel():
            state[name] = state[name].reshape(own[name].shape)
    if "logit_bias" in own and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(own["logit_bias"])
    # A buffer that older versions of transformers stored.
    if "text.transformer.embeddings.position_ids" not in own:
        state.pop("text.transformer.embeddings.position_ids", None)
    return state


def _problems(own: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> list[str]:
    """What keeps a state dict from fitting: a phrase for each kind of problem."""
    wrong = [
        f"{key} is {tuple(given[key].shape)}, the model's {tuple(own[key].shape)}"
        for key in own
        if key in given and own[key].shape != given[key].shape
    ]
    kinds = {
        "of another shape": wrong,
        "missing": [key for key in own if key not in given],
        "unknown to the model": [key for key in given if key not in own],
    }
    return [
        f"{len(keys)} parameters {kind} ({', '.join(keys[:LISTED])}{', …' if len(keys) > LISTED else ''})"
        for kind, keys in kinds.items()
        if keys
    ]
