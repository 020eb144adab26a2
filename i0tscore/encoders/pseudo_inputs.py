"""Vectors in place of the token or patch embeddings of a tower, as inversion needs them.

The first layers of the tower are replaced in a shallow copy of the model, which shares everything else with it. The
model itself does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from i0tscore.encoders.attention import SelfAttention
from i0tscore.encoders.base import Tokens
from i0tscore.encoders.text import Padding, TextTower
from i0tscore.errors import ModelError

EFFICIENTNET_STAGE = 6
"""Stage of an EfficientNet whose input the pseudo-patches replace; see ``docs/research/inversion.md``."""


class PseudoInputs:
    """Mixin of ``OpenClipEncoder`` that implements ``PseudoTokenEncoder`` and ``PseudoPatchEncoder``."""

    model: Any
    device: torch.device
    pad: Callable[[Sequence[Tokens]], torch.Tensor]

    @property
    def token_width(self) -> int:
        """Length of a token embedding, the input of the text tower."""
        return int(self._token_embedding[1].embedding_dim)

    def prompt_tower(self, prompt: Tokens, placeholder: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the text tower as a function from pseudo-tokens (n, r, token_width) to features (n, d)."""
        path, embedding = self._token_embedding
        ids = self.pad([prompt])
        places = ids[0] == placeholder
        model, known = self.model, int(places.int().argmax())
        text = TextTower(model)
        parts = cache_prompt(text, ids[:, :known])
        for name, part in parts.items():
            model = with_part(model, name if text.module is self.model else f"text.{name}", part)
        after = known if parts else 0
        template, places = embedding(ids[:, after:]), places[after:]

        def tower(vectors: torch.Tensor) -> torch.Tensor:
            n = len(vectors)
            embedded = template.expand(n, -1, -1).clone()
            embedded[:, places] = vectors.to(device=self.device, dtype=embedded.dtype)
            twin = with_part(model, path, _Given(embedded))
            return TextTower(twin)(ids.expand(n, -1), after=after)

        return tower

    @property
    def patch_width(self) -> int:
        """Length of a patch embedding, the input of the image tower after ``patch_stage``."""
        return self._patches.width

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self._patches.grid

    @property
    def patch_stage(self) -> str:
        """Module of the image tower whose output the patches replace."""
        return self._patches.stage

    def patch_tower(self, count: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the image tower as a function from pseudo-patches (n, count, patch_width) to features (n, d)."""
        known = self._patches
        (rows, columns), twin = known.grid, known.twin
        if count == 1 and known.uniform is not None:
            (rows, columns), twin = known.uniform
        nearest = torch.arange(rows * columns) * count // (rows * columns)
        dtype = next(twin.visual.parameters()).dtype

        def tower(vectors: torch.Tensor) -> torch.Tensor:
            spread = vectors.to(device=self.device, dtype=dtype)[:, nearest].transpose(1, 2)
            features: torch.Tensor = twin.encode_image(spread.reshape(len(vectors), -1, rows, columns))
            return features

        return tower

    @cached_property
    def _token_embedding(self) -> tuple[str, nn.Embedding]:
        """Path and module of the text tower's token embedding."""
        tower: Any = TextTower(self.model).module
        own = getattr(tower, "token_embedding", None)
        embedding = own if own is not None else tower.transformer.get_input_embeddings()
        return next((path, part) for path, part in self.model.named_modules() if part is embedding)

    @cached_property
    def _patches(self) -> _Patches:
        return _patches(self.model)


def with_part(model: nn.Module, path: str, part: nn.Module) -> Any:
    """Return a shallow copy of a model with another module at ``path``; everything else is shared."""
    name, _, rest = path.partition(".")
    twin = copy.copy(model)
    inner = with_part(model.get_submodule(name), rest, part) if rest else part
    twin._modules = {**model._modules, name: inner}
    return twin


class _CachedPromptAttention(nn.Module):
    """Self-attention of the positions after a prompt whose keys and values are cached.

    Args:
        attention: The attention of the block; its parameters are shared.
        prompt: Inputs of the attention at the positions of the prompt, (1, p, width).
    """

    def __init__(self, attention: SelfAttention, prompt: torch.Tensor) -> None:
        super().__init__()
        self.attention = attention
        _, self.key, self.value = self._project(prompt)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend from ``query`` (n, length, width) to the prompt and to itself; see ``SelfAttention``."""
        n, length, width = query.shape
        own_query, own_key, own_value = self._project(query)
        keys = torch.cat([self.key.expand(n, -1, -1, -1), own_key], dim=2)
        values = torch.cat([self.value.expand(n, -1, -1, -1), own_value], dim=2)
        attended = functional.scaled_dot_product_attention(own_query, keys, values, attn_mask=attn_mask)
        return self.attention.out_proj(attended.transpose(1, 2).reshape(n, length, width)), None

    def _project(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return queries, keys, and values, each (n, heads, length, width of a head)."""
        joint = functional.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias)
        n, length, _ = joint.shape
        return tuple(joint.view(n, length, 3, self.attention.heads, -1).permute(2, 0, 3, 1, 4))


def cache_prompt(text: TextTower, ids: torch.Tensor) -> dict[str, nn.Module]:
    """Compute the leading part of a prompt once, for all prompts that begin with it.

    With causal attention, no position depends on later ones, so the keys and values of the leading part can be cached.

    Args:
        text: The text tower.
        ids: Token ids of the leading part, (1, p).

    Returns:
        A replacement for each attention module of the tower, by its path. Empty if the tower is not causal or its
        attention was not rewritten; then the full prompt must be computed.
    """
    tower: Any = text.module
    if text.padding is not Padding.LONGEST_CAUSAL:
        return {}
    blocks = tower.transformer.resblocks
    if not all(isinstance(getattr(block, "attn", None), SelfAttention) for block in blocks):
        return {}
    length = ids.shape[1]
    parts: dict[str, nn.Module] = {}
    with torch.no_grad():
        x = tower.token_embedding(ids) + tower.positional_embedding[:length]
        for i, block in enumerate(blocks):
            parts[f"transformer.resblocks.{i}.attn"] = _CachedPromptAttention(block.attn, block.ln_1(x))
            x = block(x, attn_mask=tower.attn_mask[:length, :length])
    return parts


class _Given(nn.Module):
    """A layer with a fixed output."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.output


class _WeightedPool(nn.Module):
    """Weighted mean over the locations of (n, c, rows, columns), with weights (rows, columns)."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features * self.weights.to(features)).sum(dim=(2, 3))


class _Rows(nn.Module):
    """Converts patches (n, width, rows, columns) to the layout of a timm vision transformer."""

    def __init__(self, grid_size: tuple[int, int], *, as_grid: bool) -> None:
        super().__init__()
        self.grid_size = grid_size  # read where position embeddings are resampled
        self.as_grid = as_grid

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return patches.permute(0, 2, 3, 1) if self.as_grid else patches.flatten(2).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class _Patches:
    """An image tower without the layers that compute its patch embeddings.

    Attributes:
        twin: Copy of the model whose first image layers do nothing.
        width: Length of a patch embedding.
        grid: Rows and columns of patches.
        stage: Module of the tower whose output the patches replace.
        uniform: For patches that are all equal, a smaller grid and a copy of the model that computes the same features
            from it, or None.
    """

    twin: Any
    width: int
    grid: tuple[int, int]
    stage: str
    uniform: tuple[tuple[int, int], Any] | None = None


def _patches(model: Any) -> _Patches:
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer
    from timm.models import EfficientNet
    from timm.models import VisionTransformer as TimmTransformer

    visual = model.visual
    trunk = visual.trunk if isinstance(visual, TimmModel) else visual
    if isinstance(trunk, VisionTransformer):
        twin = with_part(model, "visual.conv1", nn.Identity())
        return _Patches(twin, trunk.conv1.out_channels, tuple(trunk.grid_size), "conv1")
    if isinstance(trunk, TimmTransformer):
        grid = tuple(trunk.patch_embed.grid_size)
        rows = _Rows(grid, as_grid=trunk.dynamic_img_size)
        twin = with_part(model, "visual.trunk.patch_embed", rows)
        return _Patches(twin, trunk.embed_dim, grid, "patch_embed")
    if isinstance(trunk, EfficientNet):
        return _efficientnet_patches(model, visual.image_size)
    raise ModelError(
        f"The image tower {type(trunk).__name__} has no patch embeddings to replace. Captions can only be inverted "
        "with vision transformers of open_clip or timm, and with EfficientNets."
    )


def _efficientnet_patches(model: Any, image_size: tuple[int, int]) -> _Patches:
    trunk = model.visual.trunk
    stem, stages = (trunk.conv_stem, trunk.bn1), trunk.blocks[:EFFICIENTNET_STAGE]
    weight = trunk.conv_stem.weight
    with torch.inference_mode():
        blank = torch.zeros(1, weight.shape[1], *image_size, device=weight.device, dtype=weight.dtype)
        _, width, rows, columns = nn.Sequential(*stem, *stages)(blank).shape
    twin = model
    for path in ("conv_stem", "bn1", *(f"blocks.{stage}" for stage in range(len(stages)))):
        twin = with_part(twin, f"visual.trunk.{path}", nn.Identity())
    uniform = _efficientnet_uniform(twin, (rows, columns))
    return _Patches(twin, width, (rows, columns), f"blocks.{len(stages) - 1}", uniform)


def _efficientnet_uniform(twin: Any, grid: tuple[int, int]) -> tuple[tuple[int, int], Any] | None:
    """Return the smallest grid on which equal patches have the same features as on the full grid, and its model.

    Convolutions with a total reach of r locations distinguish equal patches only within r of the border, by the zero
    padding. So 2r + 1 rows and columns contain every distinct location, and the mean over the full grid weights the
    middle one by its count. This is exact, and uses 9 times fewer locations in ``lite``. It does not apply if a stage
    sees the full grid (squeeze-and-excitation) or skips locations (strides); then None is returned.
    """
    from timm.layers import SqueezeExcite

    trunk = twin.visual.trunk
    parts = [m for stage in (trunk.blocks[EFFICIENTNET_STAGE:], trunk.conv_head) for m in stage.modules()]
    convolutions = [part for part in parts if isinstance(part, nn.Conv2d)]
    if any(isinstance(part, SqueezeExcite) for part in parts) or any(part.stride != (1, 1) for part in convolutions):
        return None
    side = 1 + sum(part.kernel_size[0] - 1 for part in convolutions)
    if side >= min(grid):
        return None
    counts = [torch.ones(side) for _ in grid]
    for ones, length in zip(counts, grid, strict=True):
        ones[side // 2] = length - side + 1
    pool = _WeightedPool(torch.outer(*counts) / (grid[0] * grid[1]))
    return (side, side), with_part(twin, "visual.trunk.global_pool", pool)
