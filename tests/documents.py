"""Runs the fenced examples of a Markdown file.

``python`` blocks run in one namespace a file, as doctests where they begin with ``>>>``. Of ``console``
blocks the lines after ``$`` are run as commands and what follows is their output; numbers may differ by
0.005 and ``...`` stands for anything. Blocks after ``<!-- not run: reason -->`` are left out.
"""

from __future__ import annotations

import contextlib
import doctest
import fnmatch
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from examples_on_disk import ROOT

from i0tscore.cli.main import main

_FENCE = re.compile(
    r"^(?P<mark><!-- not run: [^\n]+ -->\n\s*)?```(?P<language>python|console)\n(?P<body>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SHELL = set("|<>;&$`*")
TOLERANCE = 0.005


class Block(NamedTuple):
    """A fenced example and where it stands."""

    line: int
    language: str
    body: str


def blocks(text: str) -> Iterator[Block]:
    """The examples of a Markdown text that are to be run."""
    for match in _FENCE.finditer(text):
        if not match["mark"]:
            yield Block(text.count("\n", 0, match.start("body")), match["language"], match["body"])


def run(block: Block, namespace: dict[str, Any]) -> None:
    """Run one example in the current folder; raises AssertionError if the output differs."""
    if block.language == "console":
        for command, expected in _commands(block.body):
            compare(expected, _output(command), command)
    elif block.body.lstrip().startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(block.body, namespace, "example", None, block.line)
        report = io.StringIO()
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        failed = doctest.DocTestRunner(optionflags=flags).run(test, out=report.write, clear_globs=False).failed
        namespace.update(test.globs)
        assert not failed, report.getvalue()
    else:
        exec(compile(block.body, "example", "exec"), namespace)


def compare(expected: str, actual: str, what: str = "") -> None:
    """Whether the output is the one shown: word by word, numbers within the tolerance."""
    if not expected.strip():
        return
    pieces = _pieces(expected.split())
    words = actual.split()
    position = 0
    for number, piece in enumerate(pieces):
        starts = range(position, len(words) - len(piece) + 1) if number else [0]
        found = [s for s in starts if _same(piece, words[s : s + len(piece)])]
        assert found, f"{what}: expected\n{' '.join(piece)}\nin\n{actual}"
        position = found[0] + len(piece)
    assert position == len(words) or not pieces[-1], f"{what}: more output than shown\n{actual}"


def _pieces(words: list[str]) -> list[list[str]]:
    """The runs of words between those that are nothing but an ellipsis."""
    pieces: list[list[str]] = [[]]
    for word in words:
        if word == "...":
            pieces.append([])
        else:
            pieces[-1].append(word)
    return pieces


def _same(expected: list[str], actual: list[str]) -> bool:
    return len(expected) == len(actual) and all(map(_same_word, expected, actual))


def _same_word(expected: str, actual: str) -> bool:
    if expected == actual or set(expected) == set(actual) == {"-"}:
        return True
    if "..." in expected:
        return fnmatch.fnmatchcase(actual, re.sub(r"([\[?*])", r"[\1]", expected).replace("...", "*"))
    if _NUMBER.sub("", expected) != _NUMBER.sub("", actual):
        return False
    pairs = zip(_NUMBER.findall(expected), _NUMBER.findall(actual), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE for a, b in pairs)


def _commands(body: str) -> Iterator[tuple[str, str]]:
    for chunk in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command = chunk.replace("\\\n", " ")
        first, _, rest = command.partition("\n")
        yield first, rest


def _output(command: str) -> str:
    """What a command writes; ``i0tscore`` without shell syntax runs in this process."""
    if command.startswith("i0tscore ") and not _SHELL & set(command):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main(shlex.split(command)[1:])
        output = out.getvalue()
    else:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},  # for `python -m studies.…`
        )
        code, output = done.returncode, done.stdout
    assert code == 0 or "exit" in command, f"{command}: exit code {code}\n{output}"
    return output
