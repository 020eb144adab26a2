"""What a causal text tower makes of the beginning of a prompt, kept for all that may follow it.

Under causal attention no position sees what comes after it. So in prompts that begin alike the
beginning need be computed once; the positions that follow attend to its kept keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from i0tscore.encoders.attention import SelfAttention
from i0tscore.encoders.text import Padding, TextTower


class AttentionAfter(nn.Module):
    """Self-attention of the positions after a known prefix.

    Args:
        attention: The block's own attention, whose parameters are used.
        prefix: What it would be given at the prefix's positions, (1, p, width).
    """

    def __init__(self, attention: SelfAttention, prefix: torch.Tensor) -> None:
        super().__init__()
        self.attention = attention
        _, self.key, self.value = self._project(prefix)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend from ``query`` (n, length, width) to the prefix and to each other; see ``SelfAttention``."""
        n, length, width = query.shape
        own_query, own_key, own_value = self._project(query)
        keys = torch.cat([self.key.expand(n, -1, -1, -1), own_key], dim=2)
        values = torch.cat([self.value.expand(n, -1, -1, -1), own_value], dim=2)
        attended = functional.scaled_dot_product_attention(own_query, keys, values, attn_mask=attn_mask)
        return self.attention.out_proj(attended.transpose(1, 2).reshape(n, length, width)), None

    def _project(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values, each (n, heads, length, width of a head)."""
        joint = functional.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias)
        n, length, _ = joint.shape
        return tuple(joint.view(n, length, 3, self.attention.heads, -1).permute(2, 0, 3, 1, 4))


def attention_after(text: TextTower, ids: torch.Tensor) -> dict[str, nn.Module]:
    """Read the beginning of a prompt into the attention of a causal text tower.

    Args:
        text: The text tower.
        ids: Token ids (1, p) of the beginning.

    Returns:
        For each attention of the tower, by its path, the one that has seen the beginning; none where the
        tower is not causal or its attention not rewritten, and the whole prompt must be computed.
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
            parts[f"transformer.resblocks.{i}.attn"] = AttentionAfter(block.attn, block.ln_1(x))
            x = block(x, attn_mask=tower.attn_mask[:length, :length])
    return parts
