"""Committed reports are rendered from their JSON.

After a change of wording,

    I0TSCORE_UPDATE_GOLDEN=1 python -m pytest tests/test_report_pages.py

renders the pages and figures in ``reports/`` again, without measuring anything.
"""

from __future__ import annotations

import json
from importlib import import_module

import golden_files
import pytest
from examples_on_disk import ROOT

from human_judgments.report import render_figure, render_page

REPORTS = {
    "blv_kreiss2022-lite": "human_judgments.blv_kreiss2022",
    "flickr8k_expert-lite": "human_judgments.agreement",
    "gap-clip500": "studies.gap",
    "gap-lite": "studies.gap",
    "inversion-lite": "studies.inversion",
    "misalignment-lite": "studies.misalignment_report",
    "standardizers-lite": "studies.standardizers",
}
"""Module whose ``render`` makes the page, by report."""


@pytest.mark.parametrize("name", REPORTS)
def test_pages_follow_from_their_data(name: str) -> None:
    folder = ROOT / "reports"
    data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    page = import_module(REPORTS[name]).render(data)
    text = render_page(page, f"{name}.svg")
    if golden_files.UPDATE:
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        if figure := render_figure(page.figure):
            (folder / f"{name}.svg").write_bytes(figure)
    assert (folder / f"{name}.md").read_text(encoding="utf-8") == text
    assert (folder / f"{name}.svg").is_file()


def test_every_report_is_tested() -> None:
    assert {path.stem for path in (ROOT / "reports").glob("*.json")} == set(REPORTS)
