"""Self-attention with one projection and PyTorch's fused kernel.

``nn.MultiheadAttention`` spends most of its time on a processor in batched products and copies. The
same weights through one contiguous projection and ``scaled_dot_product_attention`` give the same
numbers (cosine equal to 1e-6) in about half the time on texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from i0tscore.errors import ModelError, UsageError


class SelfAttention(nn.Module):
    """A stand-in for the ``nn.MultiheadAttention`` of one residual block, sharing its parameters.

    The parameters keep their names, so a state dict fits before and after the exchange.

    Args:
        original: Self-attention over one width, batch first, without bias rows or dropout.

    Attributes:
        dropout: Share of the attention weights dropped in training mode; 0 unless ``attention_dropout``
            sets it.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = original.num_heads
        self.dropout = 0.0
        self.in_proj_weight = original.in_proj_weight
        self.in_proj_bias = original.in_proj_bias
        self.out_proj = original.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend from each position of ``query`` (n, length, width) to the others.

        Args:
            query: What attends and is attended to; ``key`` and ``value`` are the same tensor.
            key: Ignored: this is self-attention.
            value: Ignored, as ``key``.
            need_weights: Always false in open_clip's blocks.
            attn_mask: Additive mask, (length, length) or (n · heads, length, length).

        Returns:
            The attended values (n, length, width) and no weights, as ``nn.MultiheadAttention`` returns.
        """
        n, length, width = query.shape
        joint = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
        joint = joint.view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).contiguous()
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.view(n, self.heads, length, length)
        dropped = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(
            joint[0], joint[1], joint[2], attn_mask=attn_mask, dropout_p=dropped
        )
        return self.out_proj(attended.transpose(1, 2).reshape(n, length, width)), None


def rewrite_attention(tower: nn.Module) -> int:
    """Exchange the self-attention of every residual block of open_clip inside ``tower``, in place.

    Blocks of other kinds (cross-attention, open_clip's custom block, timm, transformers) are left alone.

    Returns:
        The number of blocks changed.
    """
    from open_clip.transformer import ResidualAttentionBlock

    changed = 0
    for block in tower.modules():
        if isinstance(block, ResidualAttentionBlock) and _is_plain(block):
            block.attn = SelfAttention(block.attn)
            changed += 1
    return changed


def _is_plain(block: nn.Module) -> bool:
    """Whether a residual block is plain self-attention that ``SelfAttention`` reproduces."""
    attention = block.attn
    return (
        isinstance(attention, nn.MultiheadAttention)
        and not hasattr(block, "ln_1_kv")
        and attention.batch_first
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and attention.dropout == 0.0
    )


@contextmanager
def attention_dropout(tower: nn.Module, probability: float = 0.1) -> Iterator[int]:
    """Drop attention weights at random in every attention layer of ``tower``, and nothing else of it.

    Two passes of one batch then differ a little: the views that MCSIE compares (An et al. 2025; after
    Gao et al. 2021, SimCSE). Attention of open_clip, PyTorch, timm and transformers is known. Layers are
    put into training mode alone, so normalisations and other dropouts stay as they were; on leaving,
    everything is as before. What is dropped follows torch's global generator.

    Args:
        tower: A model or part of one, e.g. ``OpenClipEncoder.model``.
        probability: Share of the attention weights to drop, in [0, 1).

    Yields:
        The number of layers.

    Raises:
        UsageError: The probability is not in [0, 1).
        ModelError: There is no attention to drop from.

    Example:
        >>> layer = nn.MultiheadAttention(4, 2).eval()
        >>> with attention_dropout(layer, 0.1) as count:
        ...     count, layer.dropout, layer.training
        (1, 0.1, True)
        >>> layer.dropout, layer.training
        (0.0, False)
    """
    if not 0 <= probability < 1:
        raise UsageError(f"attention dropout must lie in [0, 1), got {probability}")
    layers = attention_layers(tower)
    if not layers:
        raise ModelError("the model has no attention layer that is known: dropout would change nothing")
    before = [(layer, name, getattr(layer, name), layer.training) for layer, name in layers]
    try:
        for layer, name, old, _ in before:
            # A dropout layer is exchanged, not changed: another attention layer might share it.
            setattr(layer, name, nn.Dropout(probability) if isinstance(old, nn.Module) else probability)
            layer.training = True
        yield len(layers)
    finally:
        for layer, name, old, training in before:
            setattr(layer, name, old)
            layer.training = training


def attention_layers(tower: nn.Module) -> list[tuple[nn.Module, str]]:
    """The attention layers in ``tower``, each with the attribute that holds the dropout of its weights."""
    # timm and open_clip's own say attn_drop; PyTorch, transformers and SelfAttention say dropout.
    return [
        (module, name)
        for module in tower.modules()
        if type(module).__name__.endswith("Attention")
        for name in ("attn_drop", "dropout")
        if hasattr(module, name)
    ]
