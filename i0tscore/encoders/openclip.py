"""Any open_clip model as an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional

from i0tscore.encoders.attention import rewrite_attention
from i0tscore.encoders.base import Fingerprint, Tokens
from i0tscore.encoders.pseudo_inputs import PseudoInputs
from i0tscore.encoders.text import Padding, TextTower, Tokenizer
from i0tscore.errors import ModelError, UsageError

if TYPE_CHECKING:
    from PIL import Image

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class OpenClipEncoder(PseudoInputs):
    """An open_clip model behind the ``Encoder`` protocol, open to inversion.

    The model is taken over: put into evaluation mode, its parameters frozen, moved and cast, and its
    attention rewritten (the same numbers, faster). Gradients still flow to the inputs through
    ``image_features`` and ``text_features``.

    Args:
        model: A ``CLIP``, ``CustomTextCLIP`` or ``CoCa`` with its weights loaded and open_clip's
            ``preprocess_cfg`` set on its image tower.
        tokenizer: The model's tokenizer, as ``open_clip.get_tokenizer`` gives it.
        preprocess: The model's transform from an RGB image to a float32 tensor (3, H, W).
        name: The model as shown, e.g. ``ViT-B-32-quickgelu/openai``.
        precision: ``fp32``, ``bf16`` or ``fp16``: the type the towers compute in.
        device: A torch device, or ``auto`` for the best there is.
        activation: ``quickgelu`` or another name; found in the model when not given.

    Raises:
        UsageError: If the precision or the device does not exist.
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
        activation: str | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r} does not exist: use {', '.join(PRECISIONS)}")
        self.device = choose_device(device)
        self.dtype = PRECISIONS[precision]
        self.fingerprint = Fingerprint(
            name=name,
            weights=weights_hash(model),
            activation=activation or ("quickgelu" if uses_quick_gelu(model) else "gelu"),
            preprocess=_describe_preprocess(model.visual.preprocess_cfg),
            precision=precision,
        )
        self.model = model.eval().requires_grad_(False).to(device=self.device, dtype=self.dtype)
        rewrite_attention(self.model)
        self._transform = preprocess
        self._tokenizer = Tokenizer(tokenizer)
        self._text = TextTower(self.model)
        self._dimension = self.encode_tokens(self.tokenize(["a"])).shape[1]

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._dimension

    @property
    def context_length(self) -> int:
        """Most tokens a text may have, begin and end tokens included."""
        return self._tokenizer.context_length

    def to(self, device: str | torch.device) -> Self:
        """Move the towers to a torch device, or ``auto`` for the best there is.

        Raises:
            UsageError: If there is no such device.
        """
        chosen = choose_device(str(device))
        if chosen != self.device:
            self.device = chosen
            self.model.to(chosen)
        return self

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Turn an RGB image into the float32 tensor (3, H, W) the image tower takes."""
        return self._transform(image)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, each cut to the context length with its end token kept."""
        return self._tokenizer(texts)

    @torch.inference_mode()
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode preprocessed images (n, 3, H, W) to unit float32 embeddings (n, d)."""
        return self._unit(self.image_features(pixels))

    @torch.inference_mode()
    def encode_tokens(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Encode tokenized texts to unit float32 embeddings (n, d), padded no further than needed."""
        return self._unit(self.text_features(self.pad(tokens)))

    def pad(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Join tokens to int64 ids (n, length) on the device, as long as the text tower needs."""
        longest = max((len(one.ids) for one in tokens), default=0)
        length = self.context_length if self._text.padding is Padding.FULL else longest
        return self._tokenizer.pad(tokens, length).to(self.device)

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The image tower's output (n, d) for preprocessed images, with gradients, not of unit length."""
        features: torch.Tensor = self.model.encode_image(pixels.to(device=self.device, dtype=self.dtype))
        return features

    def text_features(self, ids: torch.Tensor) -> torch.Tensor:
        """The text tower's output (n, d) for padded ids, with gradients, not of unit length."""
        return self._text(ids)

    def _unit(self, features: torch.Tensor) -> torch.Tensor:
        features = features.float()
        norms = features.norm(dim=-1)
        if not bool((torch.isfinite(norms) & (norms > 0)).all()):
            raise ModelError(
                f"{self.fingerprint.name} gave embeddings that are not finite or zero "
                f"({self.fingerprint.precision}): use precision fp32, or check the weights"
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


def choose_device(device: str) -> torch.device:
    """The torch device of a name; ``auto`` takes CUDA, then Apple's GPU, then the processor.

    Raises:
        UsageError: If there is no such device here.
    """
    if device == "auto":
        gpu = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else gpu
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used here ({reason}): use cpu or auto") from error


def _describe_preprocess(settings: dict[str, Any]) -> str:
    """Image size, resize mode and interpolation, with a hash of the rest, in one short word."""
    size = settings["size"]
    width = size if isinstance(size, int) else "x".join(str(side) for side in dict.fromkeys(size))
    rest = [[float(value) for value in settings[key]] for key in ("mean", "std")]
    if settings["resize_mode"] == "longest":  # the only mode that pads
        rest.append([float(settings.get("fill_color", 0))])
    digest = hashlib.sha256(repr(rest).encode()).hexdigest()[:6]
    return f"{width}-{settings['resize_mode']}-{settings['interpolation']}-{digest}"
