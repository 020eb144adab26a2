"""MkDocs hook: pages of the site that are elsewhere in the repository, and the reference of the command line."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from i0tscore.cli.main import cli

ROOT = Path(__file__).parent.parent
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "reports/*.md", "reports/*.svg", "reports/*.json", "examples/*.ipynb")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages, reports, and notebooks that are outside the folder ``docs``."""
    for path in (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Turn Markdown for GitHub into Markdown for the site: links out of ``docs``, and bars in the code of tables."""
    markdown = markdown.replace(r"\|", "|").replace("<!-- commands -->", "\n".join(commands()))
    markdown = re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    return re.sub(r"\]\(\.\./((?:\.\./)*(?:CHANGELOG\.md|CONTRIBUTING\.md|reports/|examples/))", r"](\1", markdown)


def commands() -> Iterator[str]:
    """Yield the lines of a section for each command: its usage, description, and options."""
    parent = click.Context(cli, info_name="i0tscore")
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name, parent=parent)
        yield f"## {name}\n\n```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
        yield inspect.cleandoc(command.help or "") + "\n"
        yield "| option | meaning |\n|---|---|"
        for option in command.get_params(context):
            if isinstance(option, click.Option) and (record := option.get_help_record(context)):
                names, meaning = (html.escape(text).replace("|", "&#124;<wbr>") for text in record)
                yield f"| <code>{names}</code> | {meaning} |"
        yield ""
