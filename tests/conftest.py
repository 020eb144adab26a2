from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Workers side by side share the processor: without this each would take all of it, and all would be slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read when evaluate and datasets are imported: what they copy and cache goes where it is deleted at the end.
_CACHE = tempfile.TemporaryDirectory(prefix="huggingface-")
for name in ("HF_DATASETS_CACHE", "HF_METRICS_CACHE", "HF_MODULES_CACHE"):
    os.environ[name] = str(Path(_CACHE.name, name))

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; tests that need it are skipped, saying so, where it is missing."""
    folder = Path(os.environ.get("I0TSCORE_DATA", _DEFAULT))
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder}; set I0TSCORE_DATA")
    return folder
