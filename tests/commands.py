"""The command line, run in this process."""

from __future__ import annotations

import contextlib
import io
from typing import NamedTuple

from i0tscore.cli.main import main


class Run(NamedTuple):
    code: int
    out: str
    err: str


def run(*arguments: object) -> Run:
    """What ``i0tscore`` does with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, arguments)])
    return Run(code, out.getvalue(), err.getvalue())
