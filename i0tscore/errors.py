"""The exceptions of i0tscore: one tree, so that one ``except`` catches them all.

    I0TScoreError
    ├── UsageError             options that contradict each other, an unknown name      (exit 2)
    ├── InputError             what was given cannot be scored                          (exit 1)
    │   ├── NothingToScoreError  every sample was skipped
    │   ├── SampleFileError    problems of a caption or rating file, all of them listed
    │   ├── ImageError         one image cannot be decoded, with the reason
    │   └── CaptionTooLongError  captions over the context length under ``long_captions="error"``
    ├── ModelError             a model cannot be used                                   (exit 1)
    │   ├── WeightsUnavailableError  neither cached nor reachable nor given as a file
    │   └── WeightsRefusedError      unsafe, damaged, or for another architecture or activation
    ├── StatisticsError        reference statistics missing, too small, or of another encoder (exit 1)
    └── MissingExtraError      an optional dependency is not installed; says what to install (exit 1)

Every message says what is wrong, where (id, file, line) and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class I0TScoreError(Exception):
    """Root of every exception that i0tscore raises on purpose."""

    exit_code = 1


class UsageError(I0TScoreError, ValueError):
    """Options that contradict each other, or a name that does not exist."""

    exit_code = 2


class InputError(I0TScoreError, ValueError):
    """What was given cannot be scored."""


class NothingToScoreError(InputError):
    """Every sample was skipped."""


class SampleFileError(InputError):
    """A file of captions or ratings has problems; all of them are listed, up to a limit.

    Attributes:
        path: The file.
        problems: One line a problem: where, what is wrong, what to do.
    """

    LISTED = 20

    def __init__(self, path: object, problems: Sequence[str]) -> None:
        """Compose the message from the file and its problems."""
        self.path = str(path)
        self.problems = tuple(problems)
        shown = [f"  {line}" for line in self.problems[: self.LISTED]]
        if len(self.problems) > self.LISTED:
            shown.append(f"  … and {len(self.problems) - self.LISTED} more")
        count = len(self.problems)
        head = f"{self.path}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *shown]))


class ImageError(InputError):
    """One image cannot be read or decoded."""


class CaptionTooLongError(InputError):
    """A caption does not fit the encoder's context length."""


class ModelError(I0TScoreError):
    """A model cannot be used."""


class WeightsUnavailableError(ModelError):
    """The weights are neither cached, nor reachable, nor given as a file."""


class WeightsRefusedError(ModelError):
    """The weights are unsafe to load, damaged, or made for another model."""


class StatisticsError(I0TScoreError):
    """Reference statistics are missing, too small, or of another encoder."""


class MissingExtraError(I0TScoreError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Say what is missing, for what, and how to install it."""
        super().__init__(f'{purpose} needs {package}: pip install "i0tscore[{extra}]"')
