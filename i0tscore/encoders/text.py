"""Texts to token ids and through the text tower, padded no further than the tower needs."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from torch import nn

from i0tscore.encoders.base import Tokens
from i0tscore.errors import ModelError


class Tokenizer:
    """open_clip's tokenizers, which cut silently, with the cut counted.

    The ids are those of open_clip's own tokenizer, without padding.

    Args:
        tokenizer: A ``SimpleTokenizer`` or ``HFTokenizer`` of open_clip.

    Raises:
        ModelError: If it is another tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        if not isinstance(tokenizer, HFTokenizer | SimpleTokenizer):
            raise ModelError(
                f"tokenizer {type(tokenizer).__name__} is not supported: use an open_clip model with a "
                "SimpleTokenizer or HFTokenizer (get_tokenizer gives one)"
            )
        self._tokenizer = tokenizer
        self._is_simple = isinstance(tokenizer, SimpleTokenizer)
        self._ends_with_class = not self._is_simple and tokenizer.tokenizer_mode == "clips"
        self.context_length = int(tokenizer.context_length)
        """Most tokens a text may have."""

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, cut to the context length with the end token kept."""
        # Lone surrogates (undecodable bytes of a caption file) cannot be encoded as UTF-8.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        if not clean:
            return []
        if self._is_simple:
            return [self._simple(text) for text in clean]
        clean = [self._tokenizer.clean_fn(text) for text in clean]
        return self._with_class(clean) if self._ends_with_class else self._pretrained(clean)

    def pad(self, tokens: Sequence[Tokens], length: int) -> torch.Tensor:
        """Join tokens to int64 ids (n, length), padded where the tokenizer pads."""
        pad = 0 if self._is_simple else self._tokenizer.tokenizer.pad_token_id
        left = not self._is_simple and self._tokenizer.tokenizer.padding_side == "left"
        rows = torch.full((len(tokens), length), pad, dtype=torch.long)
        for row, one in zip(rows, tokens, strict=True):
            ids = torch.tensor(one.ids, dtype=torch.long)
            if self._ends_with_class:
                row[: len(ids) - 1], row[-1] = ids[:-1], ids[-1]
            elif left:
                row[length - len(ids) :] = ids
            else:
                row[: len(ids)] = ids
        return rows

    def _simple(self, text: str) -> Tokens:
        body, room = self._tokenizer.encode(text), self.context_length - 2
        ids = (self._tokenizer.sot_token_id, *body[:room], self._tokenizer.eot_token_id)
        return Tokens(ids, max(0, len(body) - room))

    def _pretrained(self, texts: list[str]) -> list[Tokens]:
        # verbose=False: transformers would log that a text is too long, which is counted here.
        whole = self._tokenizer.tokenizer(texts, truncation=False, verbose=False).input_ids
        kept = self._tokenizer.tokenizer(texts, truncation=True, max_length=self.context_length).input_ids
        separator = self._tokenizer.tokenizer.sep_token_id if self._tokenizer.strip_sep_token else None
        return [
            Tokens(tuple(0 if i == separator else i for i in ids), len(every) - len(ids))
            for ids, every in zip(kept, whole, strict=True)
        ]

    def _with_class(self, texts: list[str]) -> list[Tokens]:
        inner, room = self._tokenizer.tokenizer, self.context_length - 3
        bodies = inner(texts, add_special_tokens=False, truncation=False, verbose=False).input_ids
        return [
            Tokens(
                (inner.bos_token_id, *body[:room], inner.eos_token_id, inner.cls_token_id),
                max(0, len(body) - room),
            )
            for body in bodies
        ]


class Padding(Enum):
    """How far a batch of texts must be padded for the tower to give what it gives for the full length."""

    LONGEST_CAUSAL = "causal attention and pooling at the end token: what follows it cannot matter"
    LONGEST_MASKED = "padding is masked out of attention and pooling"
    FULL = "the tower sees its padding, so there must be as much as in training"


class TextTower:
    """The text tower of an open_clip model, on ids no longer than the batch needs.

    Args:
        model: A ``CLIP``, ``CustomTextCLIP`` or ``CoCa`` of open_clip.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        # CLIP carries the parts of its text tower itself; the others hold a tower.
        self.module: nn.Module = getattr(model, "text", model)
        self.padding = _padding(self.module)

    def __call__(self, ids: torch.Tensor, *, after: int = 0) -> torch.Tensor:
        """Encode token ids (n, length) to text features (n, d), not yet of unit length.

        ``after`` is how many positions at the beginning the attention has seen (``attention_after``).
        """
        if self.padding is Padding.LONGEST_CAUSAL:
            return self._causal(ids, after)
        features: torch.Tensor = self._model.encode_text(ids)
        return features

    def _causal(self, ids: torch.Tensor, after: int) -> torch.Tensor:
        # open_clip's CLIP.encode_text takes the full context length only, hence this shorter way.
        from open_clip.transformer import text_global_pool

        tower: Any = self.module
        length = ids.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        ids = ids[:, after:]
        x = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[after:length].to(dtype)
        x = tower.transformer(x, attn_mask=tower.attn_mask[after:length, :length])
        x = tower.ln_final(x)
        pool_type, eos_id = _pooling(tower)
        features: torch.Tensor = text_global_pool(x, ids, pool_type, eos_token_id=eos_id)
        if isinstance(tower.text_projection, nn.Linear):
            features = tower.text_projection(features)
        elif tower.text_projection is not None:
            features = features @ tower.text_projection
        return features


def _padding(tower: nn.Module) -> Padding:
    from open_clip.hf_model import HFTextEncoder
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    if isinstance(tower, HFTextEncoder):
        return Padding.LONGEST_MASKED
    if not isinstance(tower, CLIP | TextTransformer):
        return Padding.FULL
    causal = tower.attn_mask is not None and getattr(tower, "cls_emb", None) is None
    return Padding.LONGEST_CAUSAL if causal and _pooling(tower)[0] in {"argmax", "eos"} else Padding.FULL


def _pooling(tower: Any) -> tuple[str, int | None]:
    """The pooling of a text tower and its end token, under CLIP's names or TextTransformer's."""
    if hasattr(tower, "text_pool_type"):
        return tower.text_pool_type, getattr(tower, "text_eos_id", None)
    return tower.pool_type, getattr(tower, "eos_id", None)
