"""The command ``i0tscore``: its subcommands, exit codes and error messages.

Exit codes: 0 success, 1 the data or the run failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.compare import compare
from i0tscore.cli.console import plain_warnings, say, write_output
from i0tscore.cli.correlate import correlate
from i0tscore.cli.doctor import doctor
from i0tscore.cli.explain import explain
from i0tscore.cli.filter import filter as filter_
from i0tscore.cli.fit import fit
from i0tscore.cli.gap import gap
from i0tscore.cli.retrieve import retrieve
from i0tscore.cli.score import score
from i0tscore.errors import I0TScoreError, UsageError, did_you_mean

INTERRUPTED = 130
_GROUP_OPTIONS = frozenset({"--help", "-h", "--version", "--cite"})


class VerbGroup(click.Group):
    """A group of commands in which ``score`` may be left out, as in ``i0tscore captions.json images/``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert ``score`` unless the first argument is a command or an option of the group."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(UsageError.exit_code)
        if args[0] not in self.commands and args[0] not in _GROUP_OPTIONS:
            near = did_you_mean(args[0], self.commands)
            is_word = re.fullmatch(r"\w+", args[0])
            if (near or is_word) and args[0][:1] != "-" and not Path(args[0]).exists():
                near = near or f" The commands are {', '.join(self.commands)}."
                raise click.UsageError(f"No command or file {args[0]!r}.{near} See {ctx.info_name} --help.")
            args = ["score", *args]
        return super().parse_args(ctx, args)


def _print_and_exit(ctx: click.Context, option: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
        papers = files("i0tscore.cli") / "papers.bib"
        write_output(papers.read_text("utf-8") if option.name == "cite" else f"i0tscore {version('i0tscore')}\n")
        ctx.exit()


_PRINTED: Any = {"is_flag": True, "callback": _print_and_exit, "expose_value": False, "is_eager": True}


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", help="Show the version and exit.", **_PRINTED)
@click.option("--cite", help="Show the papers to cite as BibTeX and exit.", **_PRINTED)
def cli() -> None:
    """Score how well captions fit their images.

    \b
    i0tscore captions.json images/               same as: i0tscore score ...
    i0tscore captions.json images/ --model lite  use the embedded model (no download)
    i0tscore score --help                        show the options of a command
    """  # noqa: D301


for verb in (score, explain, filter_, compare, correlate, fit, gap, retrieve, doctor):
    cli.add_command(verb)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: Command-line arguments; those of the process if None.

    Returns:
        The exit code. Exceptions that i0tscore does not raise on purpose are propagated.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    with plain_warnings(quiet="--quiet" in arguments):
        try:
            code: Any = cli.main(arguments, prog_name="i0tscore", standalone_mode=False)
        except click.ClickException as error:
            if isinstance(error, click.UsageError) and error.ctx is not None:
                click.echo(f"{error.ctx.get_usage()}\nSee {error.ctx.command_path} --help.\n", err=True)
            say("error", error.format_message())
            return error.exit_code
        except I0TScoreError as error:
            say("error", str(error))
            return error.exit_code
        except (click.Abort, KeyboardInterrupt) as interrupt:
            # Click raises Abort in place of the interrupt, whose notes say what is kept.
            kept = getattr(interrupt.__context__ or interrupt, "__notes__", [])
            say("error", "; ".join(["interrupted", *kept]))
            return INTERRUPTED
    return code if isinstance(code, int) else 0
