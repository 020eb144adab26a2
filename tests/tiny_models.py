"""Small, randomly initialized open_clip models with every kind of text tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

from i0tscore.encoders.open_clip_models import quiet
from i0tscore.encoders.openclip import OpenClipEncoder

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {"text_cfg": TEXT},
    "tiny-quickgelu": {"text_cfg": TEXT, "quick_gelu": True},
    "tiny-large-images": {"text_cfg": TEXT, "vision_cfg": {**VISION, "image_size": 64}},
    "tiny-custom-text": {"text_cfg": TEXT, "custom_text": True},
    "tiny-eos": {"text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 49407}},
    "tiny-two-way": {"text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last"}, "custom_text": True},
    "tiny-last": {"text_cfg": {**TEXT, "pool_type": "last"}},
    "tiny-coca": {
        "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        "custom_text": True,
    },
}
CAUSAL = ("tiny", "tiny-quickgelu", "tiny-custom-text", "tiny-eos")
FULL_LENGTH = ("tiny-two-way", "tiny-last", "tiny-coca")


def register(folder: Path) -> None:
    """Register the architectures with open_clip."""
    for name, config in CONFIGS.items():
        config_file = {"embed_dim": 16, "vision_cfg": VISION, **config}
        (folder / f"{name}.json").write_text(json.dumps(config_file))
    open_clip.add_model_config(folder)


def stock(name: str, seed: int = 0) -> Any:
    """Return open_clip's model, randomly initialized."""
    torch.manual_seed(seed)
    with quiet():
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    return model.eval().requires_grad_(False)


def encoder(name: str = "tiny", seed: int = 0, **settings: Any) -> OpenClipEncoder:
    """Return the same model as an encoder."""
    model = stock(name, seed)
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return OpenClipEncoder(model, open_clip.get_tokenizer(name), transform, name=name, **settings)
