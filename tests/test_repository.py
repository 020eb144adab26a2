"""Repository-wide rules: package order, import cycles, public names, function length, and examples."""

from __future__ import annotations

import ast
import copy
import doctest
import functools
import graphlib
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

import documents
import golden_files
import nbformat
import pytest
from examples_on_disk import ROOT, write_examples
from nbclient import NotebookClient

import i0tscore
from i0tscore import encoders

PACKAGE = ROOT / "i0tscore"
MODULES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Bottom to top: a package imports from itself and from the packages before it.
PACKAGES = (
    "errors",
    "files",
    "options",
    "samples",
    "gap",
    "encoders",
    "render",
    "results",
    "metrics",
    "explanation",
    "training",
    "inversion",
    "integrations",
    "views",
    "cli",
)
TOP_LEVEL = ("__init__", "__main__")


def name_of(module: Path) -> str:
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and package of every i0tscore import of a module, inside functions too."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "i0tscore":
                    yield node.lineno, package_of(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            if node.module == "i0tscore":
                for alias in node.names:
                    yield node.lineno, alias.name if alias.name in PACKAGES else "__init__"
            elif node.module and node.module.startswith("i0tscore."):
                yield node.lineno, package_of(node.module)


def calls_of(module: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_packages_import_only_downward(module):
    package = package_of(name_of(module))
    if package in TOP_LEVEL:
        return
    assert package in PACKAGES, f"{module}: add the package to PACKAGES"
    above = [
        f"line {line}: {target}"
        for line, target in imports_of(module)
        if target in TOP_LEVEL or PACKAGES.index(target) > PACKAGES.index(package)
    ]
    assert not above


def module_imports(module: Path, modules: set[str]) -> set[str]:
    """Return the i0tscore modules that a module imports, inside functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= submodules & modules or {node.module}
    return (found & modules) - {name_of(module)}


def test_modules_import_each_other_in_no_cycle():
    names = {name_of(module) for module in MODULES}
    sorter = graphlib.TopologicalSorter({name_of(module): module_imports(module, names) for module in MODULES})
    sorter.prepare()  # raises CycleError, which names the modules of a cycle


@pytest.mark.parametrize(
    "module", [m for m in MODULES if package_of(name_of(m)) not in ("cli", "__main__")], ids=name_of
)
def test_only_the_command_line_prints_exits_and_reads_arguments(module):
    loud = {"print", "exit", "quit", "input", "sys.exit", "sys.argv", "sys.stdout"}
    assert not [f"line {line}: {call}" for line, call in calls_of(module) if call in loud]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_functions_fit_on_screens(module):
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            assert length <= 50, f"{node.name} has {length} lines without its docstring"


def test_public_names_are_sorted_documented_and_at_most_30():
    names = i0tscore.__all__
    assert names == sorted(names)
    assert len(names) <= 30
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(i0tscore, name).__doc__, name
    assert set(names) <= set(dir(i0tscore))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = i0tscore.no_such_name


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import i0tscore, sys; "
        "sys.exit(str({'torch', 'open_clip', 'numpy', 'scipy', 'datasets', 'PIL'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_version_is_written_once():
    metadata = ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    number = metadata["metadata"]["version"]
    assert version("i0tscore") == i0tscore.__version__ == number
    assert "project" not in tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert not [m for m in MODULES if re.search(rf"[\"']{re.escape(number)}[\"']", m.read_text())]


def test_changelog_and_citation_have_the_version():
    number = version("i0tscore")
    assert f"\n## [{number}] - " in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {number}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.filterwarnings("ignore")
def test_docstring_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [m.name for m in pkgutil.walk_packages(i0tscore.__path__, "i0tscore.") if m.name != "i0tscore.__main__"]
    results = {name: doctest.testmod(importlib.import_module(name)) for name in names}
    assert not {name: result for name, result in results.items() if result.failed}
    assert sum(result.attempted for result in results.values()) > 20


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """Create the folder that the documents assume: examples/, captions.json, references.json, images/."""
    examples = write_examples(tmp_path)
    for name in ("captions.json", "captions.jsonl", "references.json"):
        shutil.copy(examples / name, tmp_path)
    shutil.copytree(examples / "images", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_examples_run(document, user_folder, request):
    if document.name == "tutorial.md":  # on real data
        (user_folder / "flickr8k").symlink_to(request.getfixturevalue("data_dir") / "flickr8k")
    namespace: dict[str, object] = {"__name__": "example"}
    for block in documents.blocks(document.read_text()):
        try:
            documents.run(block, namespace)
        except Exception as error:
            error.add_note(f"{document.name}, line {block.line}")
            raise


@pytest.mark.enable_socket  # the kernel is reached on the local host
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_and_shows_its_outputs(tmp_path):
    examples, notebook = write_examples(tmp_path), nbformat.read(NOTEBOOK, as_version=4)
    shutil.copy(ROOT / "examples" / "photographs.py", examples)
    executed = copy.deepcopy(notebook)
    NotebookClient(executed, timeout=120, resources={"metadata": {"path": examples}}, record_timing=False).execute()
    for cell in executed.cells:  # progress bars and their warnings
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    if golden_files.UPDATE:
        nbformat.write(executed, NOTEBOOK)
        notebook = executed
    for shown, found in zip(notebook.cells, executed.cells, strict=True):
        for one, other in zip(shown.get("outputs", []), found.get("outputs", []), strict=True):
            assert one.get("data", {}).keys() == other.get("data", {}).keys()
            documents.compare(text_of(one), text_of(other), shown.source)
    assert NOTEBOOK.stat().st_size < 500_000


def text_of(output):
    return output["text"] if output.output_type == "stream" else output["data"]["text/plain"]


def test_documented_output_is_compared_with_actual_output():
    documents.compare("score 0.301 of 7\n---", "score 0.302 of 7\n-----")
    documents.compare("first ... last", "first and much else last")
    documents.compare("first ...", "first and much else")
    documents.compare("name-...: 7 [a]", "name-1f: 7 [a]")
    for expected, actual in [
        ("score 0.301", "score 0.401"),
        ("score", "score and more"),
        ("a ... z", "a b c"),
        ("one", "two"),
        ("a-...-b", "a-x-c"),
    ]:
        with pytest.raises(AssertionError):
            documents.compare(expected, actual)
    text = "<!-- not run: needs the network -->\n```console\n$ false\n```\n\n```python\nx = 1\n```\n"
    assert [block.body for block in documents.blocks(text)] == ["x = 1\n"]


def test_links_between_documents_resolve():
    for document in [*DOCUMENTS, NOTEBOOK, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
