"""Committed reports that are measured again within half a minute give the same figures.

The golden copies are the files in ``reports/`` themselves; the others take from minutes to an hour and are
made by ``make reports``.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import golden_files
import pytest
from click.testing import CliRunner
from examples_on_disk import ROOT

REPORTS = (
    ("gap-clip500", "studies.gap_pairs", ""),
    ("gap-clip-vitb32", "studies.gap_pairs", "--set clip-vitb32"),
    ("blv_kreiss2022-lite", "human_judgments.blv_kreiss2022", "--model lite"),
)


@pytest.mark.data
@pytest.mark.parametrize(("report", "module", "options"), REPORTS)
def test_reports_say_what_is_measured(
    report: str, module: str, options: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I0TSCORE_DATA", str(data_dir))
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path / "cache"))
    main = importlib.import_module(module).main
    argv = [*options.split(), "--output", str(tmp_path), "--no-plot"]
    done = CliRunner().invoke(main, argv, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    kept, found = (
        json.loads(golden_files.masked((folder / f"{report}.json").read_text()))
        for folder in (ROOT / "reports", tmp_path)
    )
    said = golden_files.difference(figures(kept), figures(found))
    assert not said, f"{report}.json: {said}"


def figures(data: Any, name: str = "") -> Any:
    """The report without its words, without what was typed, and without what is rounding.

    Covariance makes peaks of directions in which 250 pairs of 512 dimensions vary by rounding alone.
    """
    if isinstance(data, list):
        return [figures(part, name) for part in data]
    if not isinstance(data, dict):
        return data
    without = {"notes", "command"} | ({"peaks"} if name.startswith("covariance") else set())
    inherited = name if name.startswith("covariance") else ""
    return {key: figures(part, inherited or key) for key, part in data.items() if key not in without}
