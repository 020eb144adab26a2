"""Committed reports are rendered from their JSON, and documents quote their figures.

After a change of wording,

    I0TSCORE_UPDATE_GOLDEN=1 python -m pytest tests/test_report_pages.py

renders the pages and figures in ``reports/`` again, without measuring anything.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import Any

import golden_files
import numpy as np
import pytest
from examples_on_disk import ROOT
from PIL import Image

from human_judgments.report import percent, render_figure, render_page
from i0tscore.gap import centroid_distance
from studies.pictures import ALT_TEXTS, PICTURES, cones, draw_scores

REPORTS = {
    "blv_kreiss2022-lite": "human_judgments.blv_kreiss2022",
    "candidates-lite": "studies.candidates",
    "concepts-lite": "studies.concepts",
    "explanations-lite": "studies.explanations",
    "filtering-lite": "studies.filtering",
    "flickr8k_expert-lite": "human_judgments.agreement",
    "gap-clip-vitb32": "studies.gap",
    "gap-clip500": "studies.gap",
    "gap-lite": "studies.gap",
    "inversion-lite": "studies.inversion",
    "misalignment-lite": "studies.misalignment_report",
    "pascal50s-classic": "human_judgments.agreement",
    "polaris_val-classic": "human_judgments.agreement",
    "standardizers-lite": "studies.standardizers",
    "thumb-classic": "human_judgments.thumb",
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


PAGES = [
    str(page.relative_to(ROOT))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "<!-- figures\n" in page.read_text("utf-8")
]
INTERVAL = r"[-+]?\d+\.\d+ \([-+]?\d+\.\d+ to [-+]?\d+\.\d+\)"
FIGURE = re.compile(rf"{INTERVAL}|(?<![\w.])[-+]?\d*\.\d+(?!\.?\d)")


def report(name: str) -> Any:
    return json.loads((ROOT / "reports" / f"{name}.json").read_text(encoding="utf-8"))


def interpretation(page: str) -> tuple[str, dict[str, str]]:
    """The section of a page that interprets reports, or all of the page, and where its figures come from."""
    section = re.split("^## (?:What the numbers mean|Evidence)$", (ROOT / page).read_text("utf-8"), flags=re.M)[-1]
    text, _, comment = section.partition("<!-- figures\n")
    lines = [line.partition(" = ") for line in comment.partition("-->")[0].splitlines()]
    return " ".join(text.replace("−", "-").split()), {figure: source for figure, _, source in lines}


def look_up(data: Any, path: str) -> Any:
    """The value at a path of keys, with ``[key=value]`` to choose among the entries of a list."""
    for segment in path.split("/"):
        key, *filters = re.split(r"(?=\[)", segment)
        data = data[int(key)] if isinstance(data, list) else data[key]
        for name, value in (one[1:-1].split("=", 1) for one in filters):
            data = [entry for entry in data if str(entry[name]) == value]
        if filters and len(data) == 1:
            data = data[0]
    return data


def spellings(value: Any) -> set[str]:
    """How a page may write a value of a report."""
    if isinstance(value, dict):
        return {percent(value, signed=signed, digits=digits) for signed in (False, True) for digits in (1, 2)}
    if isinstance(value, list) and isinstance(value[0], dict):
        return {str(len(value))}
    number = sum(value) / len(value) if isinstance(value, list) else value
    texts = {
        f"{scale * number:{sign}.{digits}f}"
        for scale in (1, -1, 100, -100)
        for digits in (1, 2, 3)
        for sign in ("", "+")
    }
    return texts | {re.sub(r"^([-+]?)0\.", r"\1.", text) for text in texts}


@pytest.mark.parametrize("page", PAGES)
def test_figures_of_interpretations_are_those_of_the_reports(page: str) -> None:
    text, sources = interpretation(page)
    assert set(FIGURE.findall(text)) == {figure for figure in sources if "." in figure}
    for figure, source in sources.items():
        assert figure in text
        if source != "published":
            name, _, path = source.partition(": ")
            assert figure in spellings(look_up(report(name), path)), figure


def sign(difference: dict[str, Any]) -> int:
    low, high = difference["interval"]
    return 1 if low > 0 else -1 if high < 0 else 0


def test_claims_without_figures_hold() -> None:
    inversion, heads = report("inversion-lite"), report("misalignment-lite")["heads"]["rows"]
    for name in ("text–text", "image–image"):
        values = [
            line["values"]["mAP"]["value"]
            for line in inversion["tasks"][name]["lines"]
            if line["what"] == "queries inverted"
        ]
        assert values == sorted(values)
    assert all(sign(s["from_plain"]) == -1 for s in inversion["references"]["scores"] if s["updates"])
    assert all(sign(row["ovi"]["difference"]) == -1 for row in heads if "ovi" in row)
    assert not any(sign(row["oti"]["difference"]) == 1 for row in heads if row["intra"] == "none")
    clip = [report(name)["matching"] for name in ("gap-clip-vitb32", "gap-clip500")]
    for size in (size for found in clip for size in found["sizes"]):
        shrunk = {name: row["from_own"] for name, row in size["conditions"].items() if "from_own" in row}
        assert shrunk["dn(0.25), shrunk"]["value"] < 0
        assert shrunk["post, shrunk"]["interval"][0] < 0
        if size["count"] >= 16:
            assert -0.0001 < size["conditions"]["post"]["from_none"]["value"] < 0.0011
        if size["count"] >= 64:
            assert size["conditions"]["post"]["gap"] < 0.19
    holm = [found["from_none"]["auc"]["dn(0.25), the other half"]["p_holm"] for found in clip]
    assert holm[0] > 0.05 > holm[1]
    gap = report("gap-lite")
    assert all(sign(found) == -1 for found in gap["matching"]["from_none"]["auc"].values())
    means = [sum(size["gaps"]) / len(size["gaps"]) for size in gap["sample_sizes"]]
    assert means == sorted(means, reverse=True)
    assert means[0] < 0.19
    same = [row["theirs"] for row in gap["replication"] if row["reading"] == "the same way"]
    assert all(name.startswith("MG") for name in same)
    opposite = [(row["theirs"].split(" ")[0], row["task"]) for row in gap["replication"] if "other" in row["reading"]]
    assert opposite == [("I0T_post", "expert"), ("I0T_async", "expert")]
    removal = report("explanations-lite")["removal"]["methods"]
    assert 15 < removal["occlusion"]["seconds"] / removal["local"]["seconds"] < 25
    dynamics = report("misalignment-lite")["dynamics"]
    best = [
        max((row for row in dynamics if row["tokens"] == count), key=lambda row: row["mAP"]["value"])["step"]
        for count in (1, 2, 4)
    ]
    assert best == [100, 150, 150]


@pytest.mark.parametrize("name", ALT_TEXTS)
def test_pictures_are_sharp_small_and_described(name: str) -> None:
    file = PICTURES / f"{name}.png"
    with Image.open(file) as picture:
        assert picture.width >= 1400  # twice the width of a README
        assert picture.info["Description"] == ALT_TEXTS[name]
    assert file.stat().st_size <= 250_000


def test_every_picture_is_drawn_by_the_command() -> None:
    assert {path.name for path in PICTURES.iterdir()} == {f"{name}.png" for name in ALT_TEXTS}


def test_the_picture_of_scores_shows_the_built_in_reference_scores() -> None:
    drawn = draw_scores().convert("L")
    with Image.open(PICTURES / "scores.png") as committed:
        assert committed.size == drawn.size
        assert np.abs(np.asarray(committed.convert("L"), float) - np.asarray(drawn, float)).mean() < 2


def test_the_picture_of_cones_shows_the_gap_of_the_report(data_dir) -> None:
    measured = [centroid_distance(*pair) for pair in cones(data_dir).values()]
    conditions = report("gap-clip500")["matching"]["conditions"]
    assert measured == pytest.approx([conditions[key]["gap"] for key in ("none", "post, the other half")], abs=1e-5)
