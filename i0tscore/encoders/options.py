"""How images and captions are encoded: every option once, with its allowed values and its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Literal, TypeAlias

from i0tscore.options import Options, option

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

DEFAULT_MODEL = "ViT-B-32-quickgelu/openai"
"""The model of the CLIPScore paper."""
DEFAULT_REPOSITORY = "timm/vit_base_patch32_clip_224.openai"
"""Repository of the default model on the hub, as open_clip lists it."""
CHECKPOINTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
"""Usual names of a weights file, in order of preference."""

LongCaptions: TypeAlias = Literal["truncate", "split", "error"]


@dataclass(frozen=True)
class EncodeOptions(Options):
    """How images and captions are encoded.

    A field with a help text is also an option of the command line.

    Attributes:
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        weights: File to load the weights from, instead of the hub; None for the hub.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto`` for bf16 where the device computes faster with it.
        device: A torch device, or ``auto`` for the best one available.
        batch_size: Number of images or captions per encoder batch, at least 1; None for 8 on CPUs
            and 32 on other devices.
        workers: Number of threads that decode images, at least 1.
        long_captions: Policy for captions over the context length: ``truncate``, ``split`` into sentences and average,
            or ``error``.
        cache_dir: Folder of the embedding cache; None for no cache.
        offline: Whether to use only local files, never the network.
        on_error: ``raise``, or ``skip`` to leave out samples that cannot be encoded.
        progress: Whether to show progress bars on stderr.

    Raises:
        UsageError: A value is not allowed.

    Examples:
        >>> EncodeOptions("lite", batch_size=64).precision
        'fp32'
    """

    model: str | Encoder = option(
        "Encoder: lite, or an open_clip model as architecture/tag. Run i0tscore doctor --models to list them.",
        DEFAULT_MODEL,
    )
    weights: str | PathLike[str] | None = option("Load the weights from FILE, not from the hub.", path="FILE")
    precision: str = option("Floating-point format of the encoder.", "fp32", choices=("fp32", "bf16", "fp16", "auto"))
    device: str = option("Device: auto, cpu, cuda, cuda:1, mps.", "auto")
    batch_size: int | None = option(
        "Images or captions per encoder batch.", minimum=1, default_text="8 on CPUs, otherwise 32"
    )
    workers: int = option("Threads that decode images.", 2, minimum=1)
    long_captions: LongCaptions = option(
        "Captions over the context length: truncate, split into sentences and average, or stop.",
        "truncate",
        choices=("truncate", "split", "error"),
    )
    cache_dir: str | PathLike[str] | None = option(
        "Folder of the embedding cache. Run i0tscore doctor to see the default.", path="FOLDER"
    )
    offline: bool = option("Do not use the network.", False)
    on_error: str = field(default="raise", metadata={"choices": ("raise", "skip")})
    progress: bool = False


DEFAULT_OPTIONS = EncodeOptions()
