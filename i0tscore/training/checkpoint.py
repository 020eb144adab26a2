"""Checkpoints of a training run: one safetensors file, replaced whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from i0tscore.errors import InputError
from i0tscore.files import replace_file

SCHEMA = "i0tscore.checkpoint/1"


def write_checkpoint(
    path: Path, identity: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Write a run's state, so that a kill leaves either this checkpoint or the one before.

    Args:
        path: The file; its folder is made.
        identity: What the run depends on, as plain data.
        module: What trains.
        optimizer: Of its parameters.
        step: Steps done.

    Raises:
        InputError: It cannot be written.
    """
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in state.items()}
    header = json.dumps({"schema": SCHEMA, "step": step, **identity}, sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save(tensors, {"i0tscore": header}))
    except OSError as error:
        raise InputError(f"the checkpoint {path} cannot be written: {error}; choose another folder") from error


def read_checkpoint(path: Path, identity: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a run into the state that ``write_checkpoint`` kept, and return its step.

    Raises:
        InputError: The file is damaged, or of a run with another identity; the message says in what.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["i0tscore"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        step = int(header.pop("step"))
        expected = json.loads(json.dumps({"schema": SCHEMA, **identity}))
        other = sorted(key for key in header.keys() | expected.keys() if header.get(key) != expected.get(key))
        if other:
            raise InputError(
                f"{path} is of a run with other {', '.join(other)}: give another folder for the "
                "checkpoints, or delete it to begin anew"
            )
        module.load_state_dict(_under(tensors, "module/"))
        states: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in _under(tensors, "optimizer/").items():
            number, _, name = key.partition("/")
            states.setdefault(int(number), {})[name] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is not a checkpoint ({error}): delete it to begin anew") from error
    return step


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
