"""The built wheel, in an environment of its own, scores photographs."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from examples_on_disk import ROOT, write_examples


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the tree so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\n")
    for name in filter(None, tracked):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", cwd=source)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel; its dependencies are those installed here, the package is not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    installed = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])").strip())
    # Plain paths come after the environment's own, and lines of code in .pth files there are not run, so
    # that an editable installation of the package is not seen.
    dependencies = "\n".join(site.getsitepackages())
    (installed / "dependencies.pth").write_text(dependencies + "\n")
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"i0tscore", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert "i0tscore/py.typed" in names
    assert any(name.startswith("i0tscore/encoders/data/") for name in names)
    shipped = {str(path.relative_to(ROOT)) for path in (ROOT / "i0tscore").rglob("*.py")}
    shipped |= {str(path.relative_to(ROOT)) for path in (ROOT / "i0tscore" / "render" / "templates").iterdir()}
    space = "i0tscore/integrations/evaluate/i0tscore"
    assert shipped | {f"{space}/README.md", f"{space}/requirements.txt"} <= set(names)
    assert wheel.stat().st_size < 10e6


def test_the_installed_command_scores_photographs(environment, tmp_path):
    write_examples(tmp_path)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    place = run(environment / "bin" / "python", "-c", "import i0tscore; print(i0tscore.__file__)", cwd=tmp_path)
    assert place.startswith(str(environment))
    shown = run(
        environment / "bin" / "i0tscore", "examples/captions.jsonl", "examples/images",
        "--model", "lite", "--format", "json", "--no-cache",
        cwd=tmp_path, env=clean,
    )  # fmt: skip
    scores = {s["id"]: s["scores"]["I0TScore"]["value"] for s in json.loads(shown)["samples"]}
    assert scores["chelsea right"] > scores["chelsea wrong"]
