"""What a model's name stands for: architecture, tag and activation, checked before anything is loaded."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from i0tscore.errors import UsageError

QUICKGELU = "-quickgelu"
SCHEMAS = ("hf-hub:", "local-dir:")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A name that open_clip can build a model for.

    Attributes:
        shown: The model as shown, e.g. ``ViT-B-32-quickgelu/openai``.
        architecture: open_clip's name of the architecture, or a name with ``hf-hub:`` or ``local-dir:``.
        tag: The pretrained tag, if there is one.
        pretrained: open_clip's record of the tag: where its weights are and how images are prepared.
        quick_gelu: Whether QuickGELU must be asked for, beyond what the architecture says.
    """

    shown: str
    architecture: str
    tag: str | None = None
    pretrained: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False

    @property
    def preprocess(self) -> dict[str, Any]:
        """How the tag's images are prepared, where it differs from the architecture's way."""
        settings = ("mean", "std", "interpolation", "resize_mode", "fill_color")
        return {key: self.pretrained[key] for key in settings if self.pretrained.get(key) is not None}


def resolve_model_name(model: str, weights: Path | None = None) -> ModelName:
    """Resolve a model's name, with the activation its weights were trained with.

    open_clip builds ``ViT-B-32`` with plain GELU whatever the weights, which makes OpenAI's wrong. Here
    ``ViT-B-32/openai`` becomes ``ViT-B-32-quickgelu/openai``, and an architecture that contradicts its
    tag is refused.

    Args:
        model: ``architecture/tag``; ``architecture`` alone with a weights file; ``hf-hub:…``;
            ``local-dir:…``.
        weights: A weights file, which makes the tag optional.

    Raises:
        UsageError: If there is no such architecture or tag, or they contradict each other.

    Example:
        >>> resolve_model_name("ViT-B-32/openai").shown
        'ViT-B-32-quickgelu/openai'
    """
    if model.startswith(SCHEMAS):
        return ModelName(_with_file(model, weights), model)
    import open_clip

    architecture, _, tag = model.partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        raise UsageError(f"there is no model {architecture!r}{_close(architecture, [*known, 'lite'])}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tag:
        return _without_tag(architecture, tags, weights)
    tag = tag.lower().replace("-", "_")
    if tag not in tags:
        raise UsageError(_no_such_tag(architecture, tag, tags))
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    needs_quick = bool(pretrained.get("quick_gelu")) and not _is_quick(architecture)
    if needs_quick and architecture + QUICKGELU in known:
        architecture, needs_quick = architecture + QUICKGELU, False
    return ModelName(f"{architecture}/{tag}", architecture, tag, pretrained, needs_quick)


def sibling(architecture: str) -> str | None:
    """The same architecture with the other activation, if open_clip has it under a name."""
    import open_clip

    quick = architecture.endswith(QUICKGELU)
    other = architecture.removesuffix(QUICKGELU) if quick else architecture + QUICKGELU
    return other if other in open_clip.list_models() else None


def _is_quick(architecture: str) -> bool:
    import open_clip

    return bool(open_clip.get_model_config(architecture).get("quick_gelu"))


def _without_tag(architecture: str, tags: list[str], weights: Path | None) -> ModelName:
    if weights is not None:
        return ModelName(_with_file(architecture, weights), architecture)
    example = f"name a tag, as in {architecture}/{tags[0]}, or " if tags else ""
    raise UsageError(
        f"{architecture} does not say which weights: {example}give a file with --weights. "
        f"Its tags: {', '.join(tags) or 'none'}"
    )


def _with_file(name: str, weights: Path | None) -> str:
    """A model's name with the weights file's, as far as the characters do for a signature."""
    if weights is None:
        return name
    file = re.sub(r"[^\w.+-]", "_", weights.name)
    return f"{name}/{file}"


def _no_such_tag(architecture: str, tag: str, tags: list[str]) -> str:
    import open_clip

    plain = architecture.removesuffix(QUICKGELU)
    if architecture != plain and tag in open_clip.list_pretrained_tags_by_model(plain):
        return (
            f"{architecture}/{tag}: these weights were trained with plain GELU and would give wrong scores "
            f"with QuickGELU; use {plain}/{tag}"
        )
    listed = ", ".join(tags) or "none: give a file with --weights"
    return f"{architecture} has no tag {tag!r}{_close(tag, tags)} Its tags: {listed}"


def _close(word: str, choices: list[str]) -> str:
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=3, cutoff=0.5)
    if not found:
        return "; `i0tscore doctor --models` lists the models."
    return f": did you mean {' or '.join(by_lower[name] for name in found)}?"
