"""The exceptions of i0tscore, all derived from ``I0TScoreError``.

    I0TScoreError
    ├── UsageError                   options that contradict each other, or an unknown name     (exit code 2)
    ├── InputError                   input that cannot be scored                                (exit code 1)
    │   ├── NothingToScoreError      every sample was skipped
    │   ├── SampleFileError          problems in a file of captions or ratings
    │   ├── ImageError               an image that cannot be decoded
    │   └── CaptionTooLongError      captions over the context length, with ``long_captions="error"``
    ├── ModelError                   a model that cannot be used                                (exit code 1)
    │   ├── WeightsUnavailableError  weights that are not cached, reachable, or given as a file
    │   └── WeightsRefusedError      weights that are unsafe, damaged, or for another model
    ├── StatisticsError              statistics that are missing, too small, or for another encoder (exit code 1)
    └── MissingExtraError            an optional dependency that is not installed               (exit code 1)

Each message says what is wrong, where (id, file, line), and what to do.
"""

from __future__ import annotations

import copyreg
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any


class I0TScoreError(Exception):
    """Root of every exception that i0tscore raises on purpose.

    Attributes:
        exit_code: Exit code of the command line.
    """

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Let other processes restore the error, whose ``__init__`` may compose the message from other values."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(I0TScoreError, ValueError):
    """Options contradict each other, or a name is unknown."""

    exit_code = 2


class InputError(I0TScoreError, ValueError):
    """The input cannot be scored."""


class NothingToScoreError(InputError):
    """Every sample was skipped."""


class SampleFileError(InputError):
    """A file of captions or ratings has problems; the message lists up to ``LISTED`` of them.

    Attributes:
        path: The file.
        problems: One line per problem: where, what is wrong, what to do.
    """

    LISTED = 20

    def __init__(self, path: object, problems: Sequence[str]) -> None:
        self.path = str(path)
        self.problems = tuple(problems)
        shown = [f"  {line}" for line in self.problems[: self.LISTED]]
        if len(self.problems) > self.LISTED:
            shown.append(f"  … and {len(self.problems) - self.LISTED} more")
        count = len(self.problems)
        head = f"{self.path}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *shown]))


class ImageError(InputError):
    """An image cannot be read or decoded."""


class CaptionTooLongError(InputError):
    """A caption exceeds the encoder's context length under ``long_captions="error"``."""


class ModelError(I0TScoreError):
    """A model cannot be used."""


class WeightsUnavailableError(ModelError):
    """The weights are not cached, reachable, or given as a file."""


class WeightsRefusedError(ModelError):
    """The weights are unsafe to load, damaged, or for another architecture or activation."""


class StatisticsError(I0TScoreError):
    """Reference statistics are missing, too small, or for another encoder."""


def did_you_mean(word: str, choices: Iterable[str], n: int = 1) -> str:
    """Return a question to append to a message, `` Did you mean …?``, or nothing if no choice is like the word.

    Case and punctuation do not count, and the beginning of a choice is like it.

    Args:
        word: What was given.
        choices: What is accepted.
        n: Maximum number of choices to name.

    Examples:
        >>> did_you_mean("clip_score", ["I0TScore", "CLIPScore"])
        ' Did you mean CLIPScore?'
    """
    bare = {re.sub(r"[\W_]", "", choice).lower(): choice for choice in choices}
    word = re.sub(r"[\W_]", "", word).lower()
    near = get_close_matches(word, bare, n) or [choice for choice in bare if word and choice.startswith(word)][:n]
    return f" Did you mean {' or '.join(bare[choice] for choice in near)}?" if near else ""


class MissingExtraError(I0TScoreError, ImportError):
    """An optional dependency is not installed; the message says what to install for what."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs {package}: pip install "i0tscore[{extra}]"')


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
