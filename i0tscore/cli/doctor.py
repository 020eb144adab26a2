"""``i0tscore doctor``: what can be used here, what is missing, and how to get it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from i0tscore.cli.console import write_output
from i0tscore.cli.options import format_option
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import I0TScoreError

PACKAGES = (
    "i0tscore",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "huggingface_hub",
    "numpy",
    "scipy",
    "pillow",
    "safetensors",
    "datasets",
    "pycocotools",
)
EXTRAS = {
    "plot": "matplotlib",
    "classic": "pycocoevalcap",
    "torchmetrics": "torchmetrics",
    "lightning": "lightning",
    "transformers": "accelerate",
    "evaluate": "evaluate",
    "ray": "ray",
}
"""Extras besides ``lite``, each with a package that it brings."""
ENVIRONMENT = ("I0TSCORE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT")


@click.command(short_help="Say what can be used here, and how to get the rest.")
@click.option(
    "--models",
    "model_filter",
    is_flag=False,
    flag_value="",
    metavar="[TEXT]",
    help="List the models instead, or those with TEXT in their name.",
)
@format_option("text", "json")
def doctor(model_filter: str | None, form: str) -> None:
    """Show versions, devices, models, the embedding cache and the environment, without any network."""
    if model_filter is not None:
        names = [name for name in model_names() if model_filter.lower() in name.lower()]
        write_output(_json(names) if form == "json" else "".join(f"{name}\n" for name in names))
        return
    facts = {
        "versions": dict(_versions()),
        "extras": dict(_extras()),
        "devices": _devices(),
        "models": {"lite": _lite(), DEFAULT_MODEL: _default_model()},
        "embedding cache": _cache(),
        "environment": {name: os.environ.get(name, "not set") for name in ENVIRONMENT},
    }
    write_output(_json(facts) if form == "json" else _text(facts))


def model_names() -> Iterator[str]:
    """Every name that ``--model`` takes and that can be listed."""
    import open_clip

    yield "lite"
    for architecture, tag in open_clip.list_pretrained():
        yield f"{architecture}/{tag}"


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _extras() -> Iterator[tuple[str, str]]:
    for extra, package in EXTRAS.items():
        try:
            yield extra, f"ready, {package} {version(package)}"
        except PackageNotFoundError:
            yield extra, f'missing: pip install "i0tscore[{extra}]"'


def _devices() -> dict[str, str]:
    import torch

    instructions = torch.backends.cpu.get_cpu_capability()
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # asks the processor; private in torch
    bf16 = "in hardware" if native else "not in hardware"
    devices = {"cpu": f"{torch.get_num_threads()} threads, {instructions}, bf16 {bf16}"}
    for index in range(torch.cuda.device_count()):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        bf16 = "in hardware" if native else "not in hardware"
        devices[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, bf16 {bf16}"
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    return devices


def _lite() -> str:
    from i0tscore.encoders.lite import tower_files
    from i0tscore.encoders.lite_heads import LiteHeads

    try:
        tower_files()
        LiteHeads.shipped()
    except (I0TScoreError, OSError) as error:
        return f"missing: {error}"
    return "ready, needs no network"


def _default_model() -> str:
    from huggingface_hub import constants, try_to_load_from_cache

    from i0tscore.encoders.open_clip_models import CHECKPOINTS, resolve_model_name

    repository = str(resolve_model_name(DEFAULT_MODEL).pretrained["hf_hub"]).rstrip("/")
    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in CHECKPOINTS):
        return f"ready, cached in {constants.HF_HUB_CACHE}"
    return (
        f"missing: not in {constants.HF_HUB_CACHE}; run once with network access, or "
        f"`hf download {repository} {CHECKPOINTS[0]}`, or give --weights FILE"
    )


def _cache() -> str:
    from i0tscore.encoders.cache import default_cache_dir

    folder = default_cache_dir()
    files = list(folder.glob("*")) if folder.is_dir() else []
    size = sum(file.stat().st_size for file in files if file.is_file())
    return f"{folder}, {len(files)} files, {size / 1e6:.1f} MB"


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def _text(facts: dict[str, Any]) -> str:
    """Facts as headed lists of name and value."""
    lines = []
    for heading, content in facts.items():
        lines.append(heading)
        rows = content.items() if isinstance(content, dict) else [("", content)]
        width = max(len(name) for name, _ in rows)
        lines += [f"  {name:<{width}}  {value}" if name else f"  {value}" for name, value in rows]
        lines.append("")
    return "\n".join([*lines, "models with their names: i0tscore doctor --models [TEXT]", ""])
