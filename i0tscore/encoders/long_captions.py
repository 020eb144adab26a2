"""Captions that do not fit the context length: cut, split or refused, and always counted."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from i0tscore.encoders.options import LongCaptions
from i0tscore.errors import CaptionTooLongError, UsageError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder, Tokens

LISTED = 20
"""How many captions the refusal names."""

# Where a text may be split, from the best place to the worst: after a sentence, between words, anywhere.
BREAKS = (
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])"),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)(?=.)", re.DOTALL),
)


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """What is encoded for each of m captions.

    Attributes:
        pieces: The tokenized pieces of each caption, one where it fits or is cut.
        token_counts: All tokens of each caption, begin and end included, int64 (m,).
        tokens_cut: How many of them are in no piece, int64 (m,).
    """

    pieces: list[list[Tokens]]
    token_counts: npt.NDArray[np.int64]
    tokens_cut: npt.NDArray[np.int64]


def plan_captions(
    encoder: Encoder,
    captions: Sequence[str],
    index: npt.NDArray[np.int64],
    *,
    prefix: str = "",
    policy: LongCaptions = "truncate",
) -> CaptionPlan:
    """Tokenize distinct captions under a policy for those that do not fit.

    Args:
        encoder: Whose tokenizer and context length it is.
        captions: The m distinct captions.
        index: For each input its row in ``captions``: messages count inputs.
        prefix: Put before each caption and each piece.
        policy: ``truncate``, ``split`` or ``error``.

    Raises:
        UsageError: If the policy does not exist.
        CaptionTooLongError: Under ``error``, with the captions that do not fit.
    """
    if policy not in get_args(LongCaptions):
        raise UsageError(f"long_captions={policy!r} does not exist: use {', '.join(get_args(LongCaptions))}")
    tokens = encoder.tokenize([prefix + caption for caption in captions])
    counts = np.array([len(one.ids) + one.cut for one in tokens], dtype=np.int64)
    too_long = [row for row, one in enumerate(tokens) if one.cut]
    pieces = [[one] for one in tokens]
    if too_long and policy == "error":
        raise CaptionTooLongError(_refusal(encoder, captions, counts, too_long, index))
    if too_long and policy == "split":
        for row in too_long:
            pieces[row] = _split(encoder, captions[row], prefix)
    elif too_long:
        inputs = int(np.isin(index, too_long).sum())
        warnings.warn(
            f"{inputs} of {len(index)} captions have more than {encoder.context_length} tokens and were cut; "
            "what was cut does not count in their scores: long_captions='split' scores all of it",
            UserWarning,
            stacklevel=3,
        )
    cut = np.array([sum(piece.cut for piece in caption) for caption in pieces], dtype=np.int64)
    return CaptionPlan(pieces, counts, cut)


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Split a text into the fewest pieces of whole sentences that fit, from the front.

    A sentence that does not fit by itself is split between words, and a word between characters.

    Args:
        text: The text.
        fits: Whether a piece is short enough.

    Example:
        >>> split_text("One dog. Two cats sat. End.", lambda piece: len(piece) <= 13)
        ['One dog.', 'Two cats sat.', 'End.']
    """
    return _split_at(text.strip(), fits, BREAKS)


def _split_at(text: str, fits: Callable[[str], bool], breaks: Sequence[re.Pattern[str]]) -> list[str]:
    if fits(text) or not breaks:
        return [text]
    pieces: list[str] = []
    begin = reach = after = 0  # the open piece is text[begin:reach], the next unit starts at `after`
    for match in [*breaks[0].finditer(text), None]:
        end, following = match.span() if match else (len(text), len(text))
        if reach > begin and not fits(text[begin:end]):
            pieces.append(text[begin:reach])
            begin = after
        if end > begin and not fits(text[begin:end]):  # one unit by itself is too long
            *whole, last = _split_at(text[begin:end], fits, breaks[1:])
            pieces += whole
            begin = end - len(last)
        reach, after = end, following
    return [*pieces, text[begin:reach]] if reach > begin else pieces


def _split(encoder: Encoder, caption: str, prefix: str) -> list[Tokens]:
    def fits(piece: str) -> bool:
        return encoder.tokenize([prefix + piece])[0].cut == 0

    return encoder.tokenize([prefix + piece for piece in split_text(caption, fits)])


def _refusal(
    encoder: Encoder,
    captions: Sequence[str],
    counts: npt.NDArray[np.int64],
    too_long: Sequence[int],
    index: npt.NDArray[np.int64],
) -> str:
    lines = [
        f"  caption {np.flatnonzero(index == row)[0]}: {counts[row]} tokens: {captions[row][:60]}…"
        for row in too_long[:LISTED]
    ]
    if len(too_long) > LISTED:
        lines.append(f"  … and {len(too_long) - LISTED} more")
    head = (
        f"{len(too_long)} captions have more than the {encoder.context_length} tokens of "
        f"{encoder.fingerprint.name}; shorten them, or use long_captions='split' or 'truncate'"
    )
    return "\n".join([head, *lines])
