"""The console: results to stdout or a file, everything else to stderr."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from i0tscore.errors import I0TScoreError, UsageError
from i0tscore.files import replace_file

_COLORS = {"error": "red", "warning": "yellow"}


def wants_color(stream: TextIO) -> bool:
    """Whether to use colour on a stream: on a terminal, unless ``NO_COLOR`` is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width(default: int) -> int:
    """Columns of the terminal that stdout is, at least 80; the default where it is none."""
    return max(shutil.get_terminal_size().columns, 80) if sys.stdout.isatty() else default


def say(kind: str, message: str) -> None:
    """One message on stderr, ``error: …`` or ``warning: …``."""
    label = f"{kind}:"
    if wants_color(sys.stderr):
        label = click.style(label, fg=_COLORS.get(kind), bold=True)
    click.echo(f"{label} {message}", err=True, color=True)


def check_output(path: Path | None) -> None:
    """Refuse, before any work, a file that could not be written afterwards.

    Raises:
        UsageError: Its folder does not exist, or it is a folder itself.
    """
    if path is not None and path.is_dir():
        raise UsageError(f"{path} is a folder: give the name of a file in it")
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist: create it first")


def write_output(text: str, path: Path | None = None) -> None:
    """Write a result to stdout, or to a file that is either written whole or left as it was.

    Raises:
        I0TScoreError: The file cannot be written.
    """
    if path is None:
        _write_stdout(text)
    else:
        write_file(text.encode("utf-8", "backslashreplace"), path)


def write_file(data: bytes, path: Path) -> None:
    """Write a file whole, or leave it as it was.

    Raises:
        I0TScoreError: The file cannot be written.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise I0TScoreError(f"{path} cannot be written ({error.strerror}): choose another place") from error


@contextmanager
def plain_warnings(quiet: bool) -> Iterator[None]:
    """Show i0tscore's own warnings as one line each, once each; other packages' not at all."""
    seen: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = str(message)
        if text not in seen and not quiet:
            seen.add(text)
            say("warning", text)

    with warnings.catch_warnings():
        if not sys.warnoptions:  # python -W wins
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=UserWarning, module=r"i0tscore(\.|$)")
        warnings.showwarning = show
        yield


def _write_stdout(text: str) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; the interpreter must not flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise I0TScoreError(f"stdout cannot be written to ({error.strerror})") from error
