"""The photographs and caption files of examples/, for tests that score for real."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def write_examples(folder: Path) -> Path:
    """Make ``folder`` hold examples/ with the photographs in examples/images; return that examples folder."""
    target = folder / "examples"
    target.mkdir(parents=True)
    for file in EXAMPLES.glob("*.json*"):
        shutil.copy(file, target)
    runpy.run_path(str(EXAMPLES / "photographs.py"))["write_photographs"](target / "images")
    return target
