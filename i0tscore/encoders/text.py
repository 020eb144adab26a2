"""Tokenization, the policy for long captions, and the text tower with no more padding than needed."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.base import Tokens
from i0tscore.errors import CaptionTooLongError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from i0tscore.encoders.base import Encoder
    from i0tscore.encoders.options import LongCaptions

_LISTED = 20  # captions that an error message lists
_UNKNOWN = 1 / 3  # share of unknown tokens above which a caption is said to be unknown

# Where a text can be split, in order of preference: after sentences, between words, anywhere.
_BREAKS = (
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])"),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)(?=.)", re.DOTALL),
)


class Tokenizer:
    """A tokenizer of open_clip, which truncates silently, with a count of the truncated tokens.

    Token ids are those of open_clip, without padding, except that the tokenizer's own markup is read as plain text:
    an end token in a caption would hide the rest of it.

    Args:
        tokenizer: A ``SimpleTokenizer`` or ``HFTokenizer`` of open_clip.

    Attributes:
        context_length: Maximum number of tokens of a text.

    Raises:
        ModelError: The tokenizer is of another kind.
    """

    def __init__(self, tokenizer: Any) -> None:
        from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

        if not isinstance(tokenizer, HFTokenizer | SimpleTokenizer):
            raise ModelError(
                f"Expected a SimpleTokenizer or HFTokenizer, got {type(tokenizer).__name__}. "
                "Try open_clip.get_tokenizer."
            )
        self._is_simple = isinstance(tokenizer, SimpleTokenizer)
        self._ends_with_class = not self._is_simple and tokenizer.tokenizer_mode == "clips"
        self._unknown_id: int | None = None
        if self._is_simple:
            markup = "|".join(re.escape(tokenizer.decoder[i]) for i in tokenizer.all_special_ids)
            clean, tokenizer = tokenizer.clean_fn, copy.copy(tokenizer)
            tokenizer.clean_fn = partial(_clean_markup, clean, re.compile(markup))
        else:
            inner = tokenizer.tokenizer
            # Tokenizers that know every byte have no unknown token, or name the end token as one.
            known = {inner.bos_token_id, inner.eos_token_id, inner.sep_token_id, inner.cls_token_id, inner.pad_token_id}
            self._unknown_id = None if inner.unk_token_id in known else inner.unk_token_id
        self._tokenizer = tokenizer
        self.context_length = int(tokenizer.context_length)

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts, truncated to the context length before the end token."""
        # Unpaired surrogates (undecodable bytes of a caption file) cannot be encoded as UTF-8.
        texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        begin: tuple[int, ...]
        end: tuple[int, ...]
        if self._is_simple:
            bodies = [self._tokenizer.encode(text) for text in texts]
            begin, end = (self._tokenizer.sot_token_id,), (self._tokenizer.eot_token_id,)
        elif not texts:
            return []
        else:
            inner = self._tokenizer.tokenizer
            # verbose=False: transformers would log that a text is too long.
            encode = partial(
                inner, [self._tokenizer.clean_fn(t) for t in texts], split_special_tokens=True, verbose=False
            )
            if not self._ends_with_class:
                full = encode(truncation=False).input_ids
                kept = encode(truncation=True, max_length=self.context_length).input_ids
                separator = inner.sep_token_id if self._tokenizer.strip_sep_token else None
                return [
                    Tokens(
                        tuple(0 if i == separator else i for i in ids),
                        len(every) - len(ids),
                        ids.count(self._unknown_id),
                    )
                    for ids, every in zip(kept, full, strict=True)
                ]
            bodies = encode(add_special_tokens=False, truncation=False).input_ids
            begin, end = (inner.bos_token_id,), (inner.eos_token_id, inner.cls_token_id)
        most = self.context_length - len(begin) - len(end)
        return [
            Tokens((*begin, *body[:most], *end), max(0, len(body) - most), body[:most].count(self._unknown_id))
            for body in bodies
        ]

    def pad(self, tokens: Sequence[Tokens], length: int) -> torch.Tensor:
        """Join tokens into ids (n, length), int64, padded on the side that the tokenizer pads."""
        import torch  # slow to import, and cached embeddings need no model

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


def _clean_markup(clean: Callable[[str], str], markup: re.Pattern[str], text: str) -> str:
    """Clean a text, and separate the first character of each special token, so that it is tokenized like other text."""
    return markup.sub(lambda found: f"{found[0][0]} {found[0][1:]}", clean(text))


class Padding(Enum):
    """How far a batch of texts must be padded to get the same output as with the full context length."""

    LONGEST_CAUSAL = "causal attention and pooling at the end token: later tokens have no effect"
    LONGEST_MASKED = "padding is masked out of attention and pooling"
    FULL = "the tower attends to padding, so it needs as much as in training"


class TextTower:
    """The text tower of an open_clip model, for ids with no more padding than needed.

    Args:
        model: A ``CLIP``, ``CustomTextCLIP``, or ``CoCa`` of open_clip.

    Attributes:
        module: The tower, or the model itself where it holds the layers of its text tower.
        padding: The padding that the tower needs.
    """

    def __init__(self, model: Any) -> None:
        from open_clip.hf_model import HFTextEncoder
        from open_clip.model import CLIP
        from open_clip.transformer import TextTransformer

        self._model = model
        self.module: nn.Module = getattr(model, "text", model)
        self.padding = Padding.FULL
        if isinstance(self.module, HFTextEncoder):
            self.padding = Padding.LONGEST_MASKED
        elif isinstance(self.module, CLIP | TextTransformer):
            causal = self.module.attn_mask is not None and getattr(self.module, "cls_emb", None) is None
            if causal and _pooling(self.module)[0] in {"argmax", "eos"}:
                self.padding = Padding.LONGEST_CAUSAL

    def __call__(self, ids: torch.Tensor, *, after: int = 0) -> torch.Tensor:
        """Encode token ids (n, length) to text features (n, d), not normalized.

        ``after`` is the number of leading positions that the attention has cached (see ``cache_prompt``).
        """
        if self.padding is not Padding.LONGEST_CAUSAL:
            features: torch.Tensor = self._model.encode_text(ids)
            return features
        # CLIP.encode_text of open_clip only accepts the full context length.
        from open_clip.transformer import text_global_pool
        from torch import nn

        tower: Any = self.module
        length = ids.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        ids = ids[:, after:]
        x = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[after:length].to(dtype)
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[after:length, :length]))
        pool_type, eos_id = _pooling(tower)
        features = text_global_pool(x, ids, pool_type, eos_token_id=eos_id)
        if isinstance(tower.text_projection, nn.Linear):
            features = tower.text_projection(features)
        elif tower.text_projection is not None:
            features = features @ tower.text_projection
        return features


def _pooling(tower: Any) -> tuple[str, int | None]:
    """Return the pooling and end token of a text tower; CLIP and TextTransformer name them differently."""
    if hasattr(tower, "text_pool_type"):
        return tower.text_pool_type, getattr(tower, "text_eos_id", None)
    return tower.pool_type, getattr(tower, "eos_id", None)


def tokenize_captions(
    encoder: Encoder,
    captions: Sequence[str],
    index: NDArray[np.int64],
    *,
    prefix: str,
    policy: LongCaptions,
    noun: str = "caption",
) -> tuple[list[list[Tokens]], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Tokenize distinct captions, with a policy for those over the context length.

    Args:
        encoder: The encoder.
        captions: The m distinct captions.
        index: Row of ``captions`` for each input, because messages count inputs.
        prefix: Text before each caption and each piece of a split caption.
        policy: ``truncate`` (with one warning), ``split``, or ``error``.
        noun: What the captions are, for messages.

    Returns:
        The pieces of each caption, usually one; the number of tokens of each caption, begin and end tokens included,
        int64 (m,); how many of them are in no piece, int64 (m,); and whether more than a third of the caption's own
        tokens are unknown, (m,).

    Raises:
        CaptionTooLongError: Captions do not fit and ``policy`` is ``error``.
    """
    tokens = encoder.tokenize([prefix + caption for caption in captions])
    counts = np.array([len(one.ids) + one.cut for one in tokens], dtype=np.int64)
    too_long = [row for row, one in enumerate(tokens) if one.cut]
    pieces = [[one] for one in tokens]
    if too_long and policy == "error":
        lines = [
            f"  {noun} {np.flatnonzero(index == row)[0]}: {counts[row]} tokens: {captions[row][:60]}…"
            for row in too_long[:_LISTED]
        ]
        if len(too_long) > _LISTED:
            lines.append(f"  … and {len(too_long) - _LISTED} more")
        head = (
            f"{len(too_long)} {noun}s exceed the context length of {encoder.fingerprint.name}, "
            f"{encoder.context_length} tokens. Shorten them, or use long_captions='split' or 'truncate'."
        )
        raise CaptionTooLongError("\n".join([head, *lines]))
    if too_long and policy == "split":
        for row in too_long:
            split = split_text(captions[row], lambda piece: encoder.tokenize([prefix + piece])[0].cut == 0)
            pieces[row] = encoder.tokenize([prefix + piece for piece in split])
    elif too_long:
        warnings.warn(
            f"{int(np.isin(index, too_long).sum())} of {len(index)} {noun}s have more than {encoder.context_length} "
            f"tokens and were truncated. The truncated text is not scored. To score full {noun}s, use "
            "long_captions='split'.",
            UserWarning,
            stacklevel=3,
        )
    cut = np.array([sum(piece.cut for piece in own) for own in pieces], dtype=np.int64)
    common = len(encoder.tokenize([prefix])[0].ids)
    unknown = np.array([one.unknown > _UNKNOWN * (len(one.ids) - common) for one in tokens], dtype=np.bool_)
    return pieces, counts, cut, unknown


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Split a text greedily into the fewest pieces of whole sentences that fit.

    A sentence that does not fit is split between words, and a word between characters.

    Args:
        text: The text.
        fits: Whether a piece is short enough.

    Examples:
        >>> split_text("One dog. Two cats sat. End.", lambda piece: len(piece) <= 13)
        ['One dog.', 'Two cats sat.', 'End.']
    """
    return _split(text.strip(), fits, _BREAKS)


def _split(text: str, fits: Callable[[str], bool], breaks: Sequence[re.Pattern[str]]) -> list[str]:
    if fits(text) or not breaks:
        return [text]
    pieces: list[str] = []
    begin = reach = after = 0  # the open piece is text[begin:reach]; the next unit starts at `after`
    for match in [*breaks[0].finditer(text), None]:
        end, following = match.span() if match else (len(text), len(text))
        if reach > begin and not fits(text[begin:end]):
            pieces.append(text[begin:reach])
            begin = after
        if end > begin and not fits(text[begin:end]):  # a single unit is too long
            *full, last = _split(text[begin:end], fits, breaks[1:])
            pieces += full
            begin = end - len(last)
        reach, after = end, following
    return [*pieces, text[begin:reach]] if reach > begin else pieces
