"""How images and captions are encoded: every option once, with its allowed values and its help text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

DEFAULT_MODEL = "ViT-B-32-quickgelu/openai"
"""The model of the CLIPScore paper."""

LongCaptions: TypeAlias = Literal["truncate", "split", "error"]


def _option(default: Any, help_text: str, **settings: Any) -> Any:
    """Return a field with its help text and, in ``settings``, its ``choices``, ``minimum``, or kind of value."""
    return field(default=default, metadata={"help": help_text, **settings})


@dataclass(frozen=True)
class EncodeOptions:
    """How images and captions are encoded.

    A field with a help text is also an option of the command line.

    Attributes:
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        weights: File to load the weights from, instead of the hub; None for the hub.
        precision: ``fp32``, ``bf16``, or ``fp16``.
        device: A torch device, or ``auto`` for the best one available.
        batch_size: Number of images or captions per encoder batch, at least 1.
        workers: Number of threads that decode images, at least 1.
        long_captions: Policy for captions over the context length: ``truncate``, ``split`` into sentences and average,
            or ``error``.
        cache_dir: Folder of the embedding cache; None for no cache.
        offline: Whether to use only local files, never the network.
        on_error: ``raise``, or ``skip`` to leave out samples that cannot be encoded.
        progress: Whether to show progress bars on stderr.

    Raises:
        UsageError: A value is not allowed.

    Example:
        >>> EncodeOptions("lite", batch_size=64).precision
        'fp32'
    """

    model: str | Encoder = _option(
        DEFAULT_MODEL,
        "Encoder: lite, or an open_clip model as architecture/tag. Run i0tscore doctor --models to list them.",
    )
    weights: str | PathLike[str] | None = _option(None, "Load the weights from FILE, not from the hub.", path="FILE")
    precision: str = _option("fp32", "Floating-point format of the encoder.", choices=("fp32", "bf16", "fp16"))
    device: str = _option("auto", "Device: auto, cpu, cuda, cuda:1, mps.")
    batch_size: int = _option(32, "Images or captions per encoder batch.", minimum=1)
    workers: int = _option(2, "Threads that decode images.", minimum=1)
    long_captions: LongCaptions = _option(
        "truncate",
        "Captions over the context length: truncate, split into sentences and average, or stop.",
        choices=("truncate", "split", "error"),
    )
    cache_dir: str | PathLike[str] | None = _option(
        None, "Folder of the embedding cache. Run i0tscore doctor to see the default.", path="FOLDER"
    )
    offline: bool = _option(False, "Do not use the network.")
    on_error: str = field(default="raise", metadata={"choices": ("raise", "skip")})
    progress: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        for declared in fields(EncodeOptions):
            value, allowed = getattr(self, declared.name), declared.metadata
            if "choices" in allowed and value not in allowed["choices"]:
                raise UsageError(
                    f"Expected {declared.name} to be one of {', '.join(allowed['choices'])}, got {value!r}."
                )
            if "minimum" in allowed and value < allowed["minimum"]:
                raise UsageError(f"Expected {declared.name} to be at least {allowed['minimum']}, got {value}.")

    @classmethod
    def of(cls, model: str | Encoder, keywords: dict[str, Any]) -> Self:
        """Return the options that a caller gave as keywords.

        Raises:
            TypeError: A keyword is unknown; the error names a similar one.
        """
        names = [declared.name for declared in fields(cls)]
        for name in keywords:
            if name not in names:
                close = get_close_matches(name, names, n=1)
                raise TypeError(f"Unknown option {name!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return cls(model, **keywords)


DEFAULT_OPTIONS = EncodeOptions()
