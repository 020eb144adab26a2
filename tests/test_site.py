"""The site of the documentation builds without warnings and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
from examples_on_disk import ROOT

import i0tscore
from i0tscore.cli.main import cli


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Assets(HTMLParser):
    """Collects what a page loads, in contrast to what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.found.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.found.append(values["href"])


def test_pages_load_only_files_of_the_site(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        assets = Assets()
        assets.feed(page.read_text("utf-8"))
        for address in assets.found:
            local = address.split("?")[0].split("#")[0]
            base = site if local.startswith("/") else page.parent
            assert local.startswith("data:") or (base / local.lstrip("/")).is_file(), f"{page.name}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]+", sheet.read_text("utf-8")), sheet.name


def test_every_option_is_in_the_reference(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text("utf-8")
    for name, command in cli.commands.items():
        section = page.partition(f'<h2 id="{name}">')[2].partition("<h2 ")[0]
        options = [one.opts[-1] for one in command.params if isinstance(one, click.Option) and not one.hidden]
        assert not [option for option in options if f"<code>{option}" not in section], name


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    pages = "".join(page.read_text("utf-8") for page in (site / "reference" / "api").glob("*.html"))
    homes = {f"i0tscore.{name}" for name in i0tscore.__all__} - {"i0tscore.functional"}
    assert not {name for name in homes if f'id="{name}"' not in pages}
