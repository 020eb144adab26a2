"""Checkpoints of a training run, and atomic writing of safetensors files."""

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


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; a crash leaves the previous file intact.

    Args:
        path: File to write; missing parent directories are created.
        tensors: Tensors by name, on any device.
        metadata: Header fields.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save({name: tensor.detach().cpu() for name, tensor in tensors.items()}, metadata))
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error}. Choose another folder.") from error


def write_checkpoint(
    path: Path, identity: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Write the state of a run.

    Args:
        path: File to write.
        identity: Everything the run depends on, as JSON data; a checkpoint only resumes an identical run.
        module: The module being trained.
        optimizer: The optimizer of its parameters.
        step: Number of finished steps.

    Raises:
        InputError: The file cannot be written.
    """
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in state.items()}
    write_tensors(path, tensors, {"i0tscore": json.dumps({"schema": SCHEMA, "step": step, **identity}, sort_keys=True)})


def read_checkpoint(path: Path, identity: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore module and optimizer from a checkpoint and return the number of finished steps.

    Raises:
        InputError: The file is damaged, or belongs to a run with another identity; the message names the
            fields that differ.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["i0tscore"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        step = int(header.pop("step"))
        expected = json.loads(json.dumps({"schema": SCHEMA, **identity}))
        different = sorted(key for key in header.keys() | expected.keys() if header.get(key) != expected.get(key))
        if different:
            raise InputError(
                f"{path} belongs to a run with different {', '.join(different)}. "
                "Choose another checkpoint folder, or delete the file to start over."
            )
        states: dict[int, dict[str, torch.Tensor]] = {}
        for key in [key for key in tensors if key.startswith("optimizer/")]:
            _, number, name = key.split("/", 2)
            states.setdefault(int(number), {})[name] = tensors.pop(key)
        module.load_state_dict({key.removeprefix("module/"): tensor for key, tensor in tensors.items()})
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is not a valid checkpoint: {error}. Delete it to start over.") from error
    return step
