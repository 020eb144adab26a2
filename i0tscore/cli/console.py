"""The console: results go to stdout or a file, everything else goes to stderr."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from i0tscore.errors import I0TScoreError, UsageError
from i0tscore.files import replace_file

_COLORS = {"error": "red", "warning": "yellow"}


def wants_color(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that shows color and ``NO_COLOR`` is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(kind: str, message: str) -> None:
    """Print a message on stderr, as ``error: …`` or ``warning: …``."""
    label = f"{kind}:"
    if wants_color(sys.stderr):
        label = click.style(label, fg=_COLORS[kind], bold=True)
    click.echo(f"{label} {message}", err=True, color=True)


def check_output(path: Path | None) -> None:
    """Check, before any work, that a file can be written later.

    Raises:
        UsageError: The path is a folder, or its folder does not exist.
    """
    if path is not None and path.is_dir():
        raise UsageError(f"{path}: Expected a file, got a folder. Give the name of a file in it.")
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{path}: The folder {path.parent} does not exist. Create it first.")


def write_output(text: str | Iterable[str], path: Path | None = None) -> None:
    """Write text, which may be in parts, to stdout, or to a file that is replaced as a whole or left unchanged.

    Files and pipes get UTF-8, because programs read them; a terminal gets its own encoding.

    Raises:
        I0TScoreError: Writing failed.
    """
    parts = [text] if isinstance(text, str) else text
    if path is not None:
        write_file((part.encode("utf-8", "backslashreplace") for part in parts), path)
        return
    if hasattr(sys.stdout, "reconfigure"):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        sys.stdout.writelines(parts)
        sys.stdout.flush()
    except OSError as error:
        # The interpreter must not flush stdout again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # A reader may stop early, as head does.
            raise I0TScoreError(f"Writing to stdout failed: {error.strerror}.") from error


def write_file(data: bytes | Iterable[bytes], path: Path) -> None:
    """Write a file as a whole, or leave it unchanged.

    Raises:
        I0TScoreError: Writing failed.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise I0TScoreError(f"{path}: Writing failed: {error.strerror}. Try another file.") from error


@contextmanager
def plain_warnings(quiet: bool) -> Iterator[None]:
    """Print warnings of i0tscore on one line, once each, and hide those of other packages."""
    printed: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = str(message)
        if text not in printed and not quiet:
            printed.add(text)
            say("warning", text)

    with warnings.catch_warnings():
        if not sys.warnoptions:  # python -W takes precedence
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", category=UserWarning, module=r"i0tscore(\.|$)")
        warnings.showwarning = show
        yield
