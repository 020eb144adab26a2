"""Any open_clip model as an encoder."""

from __future__ import annotations

import hashlib
import timeit
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional

from i0tscore.encoders.attention import rewrite_attention
from i0tscore.encoders.base import Fingerprint, Tokens
from i0tscore.encoders.pseudo_inputs import PseudoInputs
from i0tscore.encoders.text import Padding, TextTower, Tokenizer
from i0tscore.errors import ModelError, UsageError, first_line

if TYPE_CHECKING:
    from PIL import Image

_WORTHWHILE = 1.2
"""Speedup above which ``auto`` accepts the rounding of bf16."""

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class OpenClipEncoder(PseudoInputs):
    """An open_clip model as an ``Encoder`` that supports inversion.

    The model is changed in place: it is put into evaluation mode, frozen, moved, and cast, and its attention is
    replaced by a faster one with the same output. Gradients still flow to the inputs of ``image_features`` and
    ``text_features``.

    Args:
        model: A ``CLIP``, ``CustomTextCLIP``, or ``CoCa`` with weights and with ``preprocess_cfg`` on its image tower.
        tokenizer: Tokenizer of the model, from ``open_clip.get_tokenizer``.
        preprocess: Transform of the model from an RGB image to float32 (3, H, W).
        name: Display name, e.g. ``ViT-B-32-quickgelu/openai``.
        precision: Floating-point format of the towers: ``fp32``, ``bf16``, ``fp16``, or ``auto``, which is bf16 where
            the device computes faster with it. The fingerprint has the format that is used.
        device: A torch device, or ``auto`` for the best one available.
        files: All files that ``model``, ``tokenizer``, and ``preprocess`` depend on, besides those of libraries; none
            if they are not known.

    Attributes:
        files: As given.
        fingerprint: Fingerprint of the encoder.
        dimension: Length of an embedding.
        context_length: Maximum number of tokens of a text, begin and end tokens included.
        preprocess: The transform, as given.
        tokenize: Function from texts to ``Tokens``, truncated to the context length before the end token.
        text_features: Function from padded ids (n, length) to text features (n, d), with gradients, not normalized.

    Raises:
        UsageError: The precision or device does not exist.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        preprocess: Callable[[Image.Image], torch.Tensor],
        *,
        name: str,
        precision: str = "fp32",
        device: str = "cpu",
        files: Sequence[Path] = (),
    ) -> None:
        if precision not in (*PRECISIONS, "auto"):
            raise UsageError(f"Expected precision to be one of {', '.join(PRECISIONS)}, auto, got {precision!r}.")
        settings = self._settings = model.visual.preprocess_cfg
        sides = [settings["size"]] if isinstance(settings["size"], int) else dict.fromkeys(settings["size"])
        size = "x".join(str(side) for side in sides)
        rest = [[float(value) for value in settings[key]] for key in ("mean", "std")]
        if settings["resize_mode"] == "longest":  # the only mode that pads
            rest.append([float(settings.get("fill_color", 0))])
        digest = hashlib.sha256(repr(rest).encode()).hexdigest()[:6]
        self.device = choose_device(device)
        precision = _choose_precision(precision, self.device)
        self.dtype = PRECISIONS[precision]
        self.fingerprint = Fingerprint(
            name=name,
            weights=weights_hash(model),
            activation="quickgelu" if uses_quick_gelu(model) else "gelu",
            preprocess=f"{size}-{settings['resize_mode']}-{settings['interpolation']}-{digest}",
            precision=precision,
        )
        self.files = tuple(files)
        self.model = model.eval().requires_grad_(False).to(device=self.device, dtype=self.dtype)
        rewrite_attention(self.model)
        self.preprocess = preprocess
        self.tokenize = Tokenizer(tokenizer)
        self.context_length = self.tokenize.context_length
        self.text_features = TextTower(self.model)
        self.dimension = self.encode_tokens(self.tokenize(["a"])).shape[1]

    def to(self, device: str | torch.device) -> Self:
        """Move the towers to a torch device, or with ``auto`` to the best one available.

        Raises:
            UsageError: The device does not exist.
        """
        chosen = choose_device(str(device))
        if chosen != self.device:
            self.device = chosen
            self.model.to(chosen)
        return self

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode preprocessed images (n, 3, H, W) to unit float32 embeddings (n, d)."""
        return self._unit(self.image_features(pixels))

    @torch.inference_mode()
    def encode_tokens(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Encode tokenized texts to unit float32 embeddings (n, d), with no more padding than needed."""
        return self._unit(self.text_features(self.pad(tokens)))

    def pad(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Join tokens into ids (n, length), int64, on the device, with the padding that the text tower needs."""
        longest = max((len(one.ids) for one in tokens), default=0)
        length = self.context_length if self.text_features.padding is Padding.FULL else longest
        return self.tokenize.pad(tokens, length).to(self.device)

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the output of the image tower (n, d) for preprocessed images, with gradients, not normalized."""
        features: torch.Tensor = self.model.encode_image(pixels.to(device=self.device, dtype=self.dtype))
        return features

    @cached_property
    def location_grid(self) -> tuple[int, int] | None:
        """Rows and columns of locations: of the last feature map, if the tower averages it; None otherwise."""
        pool = getattr(getattr(self.model.visual, "trunk", None), "global_pool", None)
        size = self._settings["size"]
        height, width = (size, size) if isinstance(size, int) else size
        mode = self._settings["resize_mode"]
        if getattr(pool, "pool_type", None) != "avg" or (mode != "squash" and (mode == "longest" or height != width)):
            return None
        shape = self._feature_map(torch.zeros(1, 3, height, width)).shape
        return shape[2], shape[3]

    def location_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return the part of an image (width, height) that the locations cover: left, top, right, bottom, in [0, 1]."""
        if self._settings["resize_mode"] == "squash":
            return 0.0, 0.0, 1.0, 1.0
        wide, high = (0.5 - min(size) / side / 2 for side in size)  # the centered square
        return wide, high, 1 - wide, 1 - high

    @torch.inference_mode()
    def encode_locations(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode preprocessed images (n, 3, H, W) to unit embeddings of their locations (n, locations, d).

        Each location of the last feature map is projected by the head, as if it were the whole image.
        """
        features = self._feature_map(pixels).flatten(2).transpose(1, 2)
        return self._unit(self.model.visual.head(features))

    def _feature_map(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.visual.trunk.forward_features(
            pixels.to(device=self.device, dtype=self.dtype)
        )
        return features

    def _unit(self, features: torch.Tensor) -> torch.Tensor:
        features = features.float()
        norms = features.norm(dim=-1)
        if not bool((torch.isfinite(norms) & (norms > 0)).all()):
            raise ModelError(
                f"{self.fingerprint.name} returned embeddings that are zero or not finite in "
                f"{self.fingerprint.precision}. Try precision fp32, or check the weights."
            )
        return functional.normalize(features, dim=-1)


def weights_hash(model: nn.Module) -> str:
    """Return the first 12 hex digits of the SHA-256 of a state dict: names, dtypes, shapes, and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def uses_quick_gelu(model: nn.Module) -> bool:
    """Return whether an open_clip model was built with QuickGELU."""
    from open_clip.transformer import QuickGELU

    return any(isinstance(part, QuickGELU) for part in model.modules())


def bf16_speedup(device: torch.device) -> float:
    """Measure how many times as fast as in fp32 a device multiplies matrices in bf16, as a layer of ViT-B/32 does."""

    def seconds(dtype: torch.dtype) -> float:
        tokens, weights = (torch.ones(shape, device=device, dtype=dtype) for shape in ((800, 768), (768, 3072)))
        # Reading a value waits for the device.
        return min(timeit.repeat(lambda: float((tokens @ weights)[0, 0]), number=2, repeat=5))

    return seconds(torch.float32) / seconds(torch.bfloat16)


def _choose_precision(precision: str, device: torch.device) -> str:
    """Resolve ``auto``, and warn if bf16 does not save time."""
    if precision not in ("auto", "bf16"):
        return precision
    speedup = bf16_speedup(device)
    if precision == "auto":
        return "bf16" if speedup > _WORTHWHILE else "fp32"
    if speedup < 1:
        warnings.warn(
            f"Precision bf16 is {1 / speedup:.1f} times slower than fp32 on this device ({device}), and changes scores "
            "slightly. Try fp32, or auto.",
            UserWarning,
            stacklevel=3,
        )
    return precision


def choose_device(device: str) -> torch.device:
    """Return a torch device by name; ``auto`` prefers CUDA, then Apple's GPU, then the CPU.

    Raises:
        UsageError: The device does not exist on this machine.
    """
    if device == "auto":
        gpu = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else gpu
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"Unknown device {device!r}. Try cpu or auto, or a GPU: cuda, cuda:1, mps.") from error
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).partition(". ")[0]  # lists of torch's backends may follow
        raise UsageError(f"Device {device!r} is not available here ({reason}). Try cpu or auto.") from error
