from __future__ import annotations

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
        ("ViT-B32/openai", "Unknown model 'ViT-B32'. Did you mean ViT-B-32"),
        ("lit", "Did you mean lite"),
        ("zzzzzzzzz/x", "doctor --models"),
        ("ViT-B-32/openia", "no tag 'openia'. Did you mean openai"),
        ("ViT-B-32/zzzz", "Tags: openai, laion400m_e31"),
        ("ViT-B-32", "does not say which weights to load. Name a tag, as in ViT-B-32/openai.*laion2b_s34b_b79k"),
        ("", "Unknown model ''"),
    ],
)
def test_errors_for_wrong_names(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_model_name(given)


def test_weights_file_replaces_the_tag() -> None:
    assert resolve_model_name("ViT-B-32", Path("/x/my|weights.pt")).name == "ViT-B-32/my_weights.pt"
    assert resolve_model_name("ViT-B-32/openai", Path("w.pt")).name == "ViT-B-32-quickgelu/openai"
    assert resolve_model_name("hf-hub:a/b").name == "hf-hub:a/b"
