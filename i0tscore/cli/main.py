"""The command ``i0tscore``: verbs, exit codes, and how errors are shown.

Exit codes: 0 done, 1 the data or the run failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.cite import BIBTEX
from i0tscore.cli.compare import compare
from i0tscore.cli.console import plain_warnings, say, write_output
from i0tscore.cli.correlate import correlate
from i0tscore.cli.doctor import doctor
from i0tscore.cli.fit import fit
from i0tscore.cli.gap import gap
from i0tscore.cli.retrieve import retrieve
from i0tscore.cli.score import score
from i0tscore.errors import I0TScoreError, UsageError

INTERRUPTED = 130
_OWN_OPTIONS = frozenset({"--help", "-h", "--version", "--cite"})


class VerbGroup(click.Group):
    """Verbs by name; anything else is what ``score`` takes: ``i0tscore captions.json images/``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``score`` before arguments that begin with neither a verb nor an option of the group."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(UsageError.exit_code)
        if args[0] not in self.commands and args[0] not in _OWN_OPTIONS:
            self._refuse_misspelling(args)
            args = ["score", *args]
        return super().parse_args(ctx, args)

    def _refuse_misspelling(self, args: Sequence[str]) -> None:
        close = get_close_matches(args[0], self.commands, n=1)
        if close and not Path(args[0]).exists():
            raise click.UsageError(f"no command or file {args[0]!r}; did you mean {close[0]!r}?")


def _cite(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        write_output(BIBTEX)
        ctx.exit()


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        write_output(f"i0tscore {version('i0tscore')}\n")
        ctx.exit()


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show it.")
@click.option(
    "--cite",
    is_flag=True,
    callback=_cite,
    expose_value=False,
    is_eager=True,
    help="Show what to cite, as BibTeX.",
)
def cli() -> None:
    """How well do captions fit their images?

    \b
    i0tscore captions.json images/                 the same as: i0tscore score captions.json images/
    i0tscore captions.json images/ --model lite    with the embedded model, which needs no download
    """  # noqa: D301


for verb in (score, compare, correlate, fit, gap, retrieve, doctor):
    cli.add_command(verb)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: Command-line arguments; those of the process if left out.

    Returns:
        The exit code. Exceptions that i0tscore does not raise on purpose are passed on.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    with plain_warnings(quiet="--quiet" in arguments):
        try:
            code: Any = cli.main(arguments, prog_name="i0tscore", standalone_mode=False)
        except click.ClickException as error:
            return _refused(error)
        except I0TScoreError as error:
            say("error", str(error))
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            say("error", "interrupted")
            return INTERRUPTED
    return code if isinstance(code, int) else 0


def _refused(error: click.ClickException) -> int:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"{error.ctx.get_usage()}\nSee {error.ctx.command_path} --help.\n", err=True)
    say("error", error.format_message())
    return error.exit_code
