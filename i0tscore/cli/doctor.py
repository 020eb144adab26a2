"""``i0tscore doctor``: checks of the installation, and how to fix what is missing."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from i0tscore.cli.console import write_output
from i0tscore.cli.options import format_option, verb
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import I0TScoreError
from i0tscore.options import option

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
    "report": "jinja2",
    "classic": "pycocoevalcap",
    "excel": "openpyxl",
    "heic": "pillow-heif",
    "torchmetrics": "torchmetrics",
    "lightning": "lightning",
    "transformers": "accelerate",
    "evaluate": "evaluate",
    "ray": "ray",
}
"""Extras besides ``lite``, each with a package that it installs."""
ENVIRONMENT = ("I0TSCORE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT")


@dataclass
class DoctorOptions:
    """What is shown."""

    models: str | None = option(
        "List the names of models instead, or those that contain TEXT.", is_flag=False, flag_value="", metavar="[TEXT]"
    )
    format: str = format_option("text", "json")


@verb("Check the installation and show how to fix what is missing.")
def doctor(options: DoctorOptions) -> None:
    """Show versions, extras, devices, models, the embedding cache, and the environment, without using the network.

    Show how to install what is missing.
    """
    if options.models is not None:
        import open_clip

        names = ["lite", *(f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained())]
        names = [name for name in names if options.models.lower() in name.lower()]
        write_output(_json(names) if options.format == "json" else "".join(f"{name}\n" for name in names))
        return
    facts = {
        "versions": {"python": platform.python_version()}
        | {name: _installed(name) or "not installed" for name in PACKAGES},
        "extras": {
            extra: f"ready, {package} {found}"
            if (found := _installed(package))
            else f'missing: pip install "i0tscore[{extra}]"'
            for extra, package in EXTRAS.items()
        },
        "devices": _devices(),
        "models": {"lite": _lite(), DEFAULT_MODEL: _default_model()},
        "embedding cache": _cache(),
        "environment": {name: os.environ.get(name, "not set") for name in ENVIRONMENT},
    }
    write_output(_json(facts) if options.format == "json" else _text(facts))


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    import torch

    instructions = torch.backends.cpu.get_cpu_capability()
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # private in torch
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
    from i0tscore.encoders.lite import LiteHeads, tower_files

    try:
        tower_files()
        LiteHeads.load()
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
    from i0tscore.files import default_cache_dir

    folder = default_cache_dir()
    files = list(folder.glob("*")) if folder.is_dir() else []
    size = sum(file.stat().st_size for file in files if file.is_file())
    return f"{folder}, {len(files)} files, {size / 1e6:.1f} MB"


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def _text(facts: dict[str, Any]) -> str:
    """Return the facts as titled lists of names and values."""
    lines = []
    for heading, content in facts.items():
        lines.append(heading)
        rows = content.items() if isinstance(content, dict) else [("", content)]
        width = max(len(name) for name, _ in rows)
        lines += [f"  {name:<{width}}  {value}" if name else f"  {value}" for name, value in rows]
        lines.append("")
    return "\n".join([*lines, "List the models: i0tscore doctor --models [TEXT]", ""])
