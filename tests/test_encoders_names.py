from __future__ import annotations

import re
from pathlib import Path

import open_clip
import pytest

from i0tscore.encoders.open_clip_models import resolve_model_name
from i0tscore.errors import UsageError

PAIRS = open_clip.list_pretrained()


def test_every_listed_tag_resolves_to_its_activation() -> None:
    assert len(PAIRS) > 150
    for architecture, tag in PAIRS:
        name = resolve_model_name(f"{architecture}/{tag}")
        expected = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
        config = open_clip.get_model_config(name.architecture)
        built = bool(config.get("quick_gelu")) or name.quick_gelu
        # This one architecture has QuickGELU itself, under a name and a tag that do not say so.
        assert built == (expected or architecture == "roberta-ViT-B-32"), name
        assert name.name == f"{name.architecture}/{tag}"
        assert name.pretrained["hf_hub"]


def test_plain_tags_are_errors_for_the_quickgelu_architecture() -> None:
    rejected = 0
    for architecture, tag in PAIRS:
        quick = f"{architecture}-quickgelu"
        plain = not open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu")
        if plain and quick in open_clip.list_models():
            with pytest.raises(UsageError, match=f"plain GELU .* Try {architecture}/{tag}"):
                resolve_model_name(f"{quick}/{tag}")
            rejected += 1
    assert rejected > 20


@pytest.mark.parametrize("given", ["ViT-B-32/openai", "ViT-B-32-quickgelu/openai", "ViT-B-32/OpenAI"])
def test_openai_weights_imply_quickgelu(given: str) -> None:
    assert resolve_model_name(given).name == "ViT-B-32-quickgelu/openai"


def test_preprocessing_comes_from_the_tag() -> None:
    name = resolve_model_name("ViT-H-14-378-quickgelu/dfn5b")
    assert name.preprocess["resize_mode"] == "squash"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ViT-B32/openai", "Unknown model 'ViT-B32/openai'. Did you mean ViT-B-32"),
        ("lit", "Did you mean lite"),
        ("zzzzzzzzz/x", "doctor --models"),
        ("ViT-B-32/openia", "no tag 'openia'. Did you mean openai"),
        ("ViT-B-32/zzzz", "Tags: openai, laion400m_e31"),
        ("ViT-B-32", "does not say which weights to load. Name a tag, as in ViT-B-32/openai.*laion2b_s34b_b79k"),
        ("", "Unknown model ''"),
        ("ViT-B/32", "OpenAI's ViT-B/32 is ViT-B-32-quickgelu/openai here"),
        ("ViT-L/14@336px", "OpenAI's ViT-L/14@336px is ViT-L-14-336-quickgelu/openai here"),
        ("RN50", "as in RN50/openai"),
        ("openai/clip-vit-base-patch16", "OpenAI's ViT-B/16 is ViT-B-16-quickgelu/openai here"),
        ("hf-hub:openai/clip-vit-large-patch14-336", "is ViT-L-14-336-quickgelu/openai here"),
        ("sentence-transformers/clip-ViT-L-14", "is ViT-L-14-quickgelu/openai here"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "use hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
        ("ViT-B/33", "Did you mean ViT-B-32"),
    ],
)
def test_errors_for_wrong_names(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_model_name(given)


def test_a_folder_or_a_file_as_the_name(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    with pytest.raises(UsageError, match=f"use local-dir:{re.escape(str(tmp_path))}"):
        resolve_model_name(str(tmp_path))
    with pytest.raises(UsageError, match="--model ARCHITECTURE --weights FILE"):
        resolve_model_name(str(tmp_path / "w.pt"))


@pytest.mark.parametrize("name", ["RN50", "RN101", "RN50x4", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"])
def test_what_is_suggested_for_openai_models_exists(name: str) -> None:
    assert resolve_model_name(f"{name}-quickgelu/openai").pretrained["hf_hub"]


def test_weights_file_replaces_the_tag() -> None:
    assert resolve_model_name("ViT-B-32", Path("/x/my|weights.pt")).name == "ViT-B-32/my_weights.pt"
    assert resolve_model_name("ViT-B-32/openai", Path("w.pt")).name == "ViT-B-32-quickgelu/openai"
    assert resolve_model_name("hf-hub:a/b").name == "hf-hub:a/b"
