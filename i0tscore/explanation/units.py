"""The units that a caption is explained by: its words, or its sentences."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from i0tscore.results.report import Part

LONG: Final = 60
"""Captions with more words are explained by sentences, and longer sentences are split."""

_CLOSING = "\"'”’)\\]»」』）"
_SENTENCE_END = re.compile(
    # Not after an initial, a title, or an abbreviation such as e.g.
    rf"(?<!\b[A-Z]\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\b\w\.\w\.)(?<=[.!?…])[{_CLOSING}]*\s+"
    rf"|(?<=[。！？])[{_CLOSING}]*\s*|\s*\n\s*"
)
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_PUNCTUATION = frozenset(".,;:!?…")
_BREAKS = frozenset("—…")


@dataclass(frozen=True, slots=True)
class Unit:
    """A word or sentence of a caption: ``caption[start:end]`` is its text.

    Attributes:
        text: The text, without surrounding punctuation if it is a word.
        start: Position of its first character.
        end: Position after its last character.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class UnitEffect(Part):
    """What a word or sentence contributes to the score.

    Attributes:
        text: The word or sentence.
        start: Position of its first character in the caption.
        end: Position after its last character.
        effect: The score of the caption minus that of the caption without the unit; None where undefined.
    """

    text: str
    start: int
    end: int
    effect: float | None


def split_words(caption: str) -> list[Unit]:
    """Return the words of a caption, without surrounding punctuation.

    Words are separated by white space and dashes. Chinese characters, Japanese kana, and emoji are words of their own.
    Hyphens, apostrophes, and the points of numbers and URLs are part of a word.

    Examples:
        >>> [word.text for word in split_words("A well-fed dog's toy, 一只 🐕!")]
        ['A', 'well-fed', "dog's", 'toy', '一', '只', '🐕']
    """
    return [unit for match in re.finditer(r"\S+", caption) for unit in _words_of(match[0], match.start())]


def _words_of(text: str, offset: int) -> Iterator[Unit]:
    """Yield the words of a text without white space."""
    from wcwidth import iter_graphemes

    start = end = position = 0
    for cluster in iter_graphemes(text):
        kinds, after = [unicodedata.category(character) for character in cluster], position + len(cluster)
        alone = kinds[0] == "So" or _IDEOGRAPH.match(cluster)
        if (alone or cluster in _BREAKS) and end > start:
            yield Unit(text[start:end], offset + start, offset + end)
            start = end
        if alone:
            yield Unit(cluster, offset + position, offset + after)
        elif kinds[0][0] == "M" or any(kind[0] in "LN" or kind == "Sc" for kind in kinds):
            start, end = (start if end > start else position), after
        position = after
    if end > start:
        yield Unit(text[start:end], offset + start, offset + end)


def split_sentences(caption: str) -> list[Unit]:
    """Return the sentences of a caption, with their punctuation; one of more than ``LONG`` words in several parts.

    Examples:
        >>> [sentence.text for sentence in split_sentences("A dog runs 3.5 m. It barks!")]
        ['A dog runs 3.5 m.', 'It barks!']
    """
    ends = [*(match.end() for match in _SENTENCE_END.finditer(caption)), len(caption)]
    units, words, start = [], split_words(caption), 0
    for end in ends:
        own = [word for word in words if start <= word.start < end]
        for first in range(0, len(own), LONG):
            after = own[first + LONG].start if first + LONG < len(own) else end
            begin = start if first == 0 else own[first].start
            text = caption[begin:after].strip()
            position = caption.index(text, begin)
            units.append(Unit(text, position, position + len(text)))
        start = end
    return units


def without(caption: str, units: Sequence[Unit]) -> str:
    """Return a caption without some of its units, with single spaces where they were.

    Examples:
        >>> words = split_words("A black dog, asleep.")
        >>> without("A black dog, asleep.", words[1:3])
        'A, asleep.'
    """
    rest, position = "", 0
    for unit in sorted(units, key=lambda unit: unit.start):
        rest += caption[position : unit.start]
        position = unit.end
        if not rest or rest[-1].isspace():
            following = caption[position:].lstrip()
            position = len(caption) - len(following)
            if following[:1] in _PUNCTUATION:
                rest = rest.rstrip()
        elif _joins(rest[-1], caption[position : position + 1]):
            rest += " "
    return (rest + caption[position:]).strip()


def _joins(before: str, after: str) -> bool:
    """Return whether two characters need a space between them, so that they do not become one word."""
    parted = not after or after.isspace() or unicodedata.category(after)[0] == "P"
    return not parted and not _IDEOGRAPH.match(before) and not _IDEOGRAPH.match(after)
