"""The pictures of the documentation, in ``docs/pictures``.

Run ``python -m studies.pictures`` for all, or add names. ``page`` requires Chromium, and ``cones`` CLIP's embeddings of
500 pairs.
"""

from __future__ import annotations

import io
import json
import runpy
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import i0tscore
from i0tscore import encoders
from i0tscore.gap import NONE, POST, Standardizer, Statistics, centroid_distance, normalize
from studies.gap import Vectors, pair_statistics
from studies.gap_pairs import HELD_OUT, SETS, halves, read_pairs

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

ALT_TEXTS = {
    "scores": "Raw cosines of matched and mismatched pairs both lie well above 0; after removing the gap, mismatched "
    "pairs score around 0 and matched pairs around 0.4",
    "page": "Three captions of a photograph of a cat on the report page, each with its scores next to those of matched "
    "and mismatched pairs",
    "explanation": "A photograph of a cup of espresso with a map of the regions that support the caption, and a bar "
    "for the effect of each word on I0TScore",
    "cones": "Images and texts are in two separate groups before the gap is removed, and in one group after",
}
"""Text for readers who do not see the picture, by picture; also stored in its file."""

_MATCHED, _MISMATCHED, _INK, _MUTED = "#0a5ca8", "#b34700", "#1c2128", "#57606a"
_SHOWN = "chelsea"
_WIDTH = 1180


def draw_scores() -> Image.Image:
    """Draw the built-in reference scores of ``lite`` before and after removing the gap, on one axis."""
    statistics = Statistics.load(Path(encoders.__file__).parent / "data" / "lite-statistics.safetensors")
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    rows = {"none": "Cosine, which CLIPScore multiplies by 2.5", "post": "I0TScore: the cosine after removing the gap"}
    for axes, (standardizer, title) in zip(figure.subplots(2, sharex=True), rows.items(), strict=True):
        found = statistics.reference[standardizer]
        for name, values, color, side in (
            ("mismatched", found.mismatched, _MISMATCHED, "right"),
            ("matched", found.matched, _MATCHED, "left"),
        ):
            heights, _, _ = axes.hist(values, np.linspace(-0.5, 0.9, 71), color=color, alpha=0.75)
            middle = float(np.median(values))
            label = f"{name}: median {middle:.2f}".replace("-", "−")
            axes.text(middle, 1.06 * heights.max(), label, color=color, ha=side, fontsize=11)
        axes.axvline(0, color=_INK, linewidth=1)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set(yticks=[], xlim=(-0.45, 0.85), ylim=(0, 1.25 * axes.dataLim.ymax))
    figure.supxlabel(f"model lite; {statistics.source}", fontsize="small", color=_MUTED)
    return _image(figure)


def draw_explanation() -> Image.Image:
    """Draw the words and regions behind the score of one caption."""
    explanation = i0tscore.explain(_photographs()["coffee"], _captions()["coffee right"], model="lite")
    figure = Figure(figsize=explanation.figure_size, layout="constrained")
    explanation.plot(figure)
    return _image(figure)


def draw_page() -> Image.Image:
    """Show the report page of ``examples/captions.jsonl`` in Chromium, with the captions of one photograph."""
    captions, photographs = _captions(), _photographs()
    images = [photographs[one.split()[0]] for one in captions]
    scorer = i0tscore.I0TScorer("lite", metrics=("I0TScore", "CLIPScore"))
    result = scorer.score(images, [*captions.values()], ids=[*captions])
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for switch in ("headless=new", "no-sandbox", "hide-scrollbars", f"window-size={_WIDTH},3000"):
        options.add_argument(f"--{switch}")
    options.add_argument("--force-device-scale-factor=2")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        result.to_html(file, images)
        browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            browser.get(file.as_uri())
            browser.find_element("name", "search").send_keys(_SHOWN)
            top, bottom = browser.execute_script(
                "return [samples.getBoundingClientRect().top, rows.getBoundingClientRect().bottom]"
            )
            shown = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
        finally:
            browser.quit()
    return shown.crop((0, round(2 * top) - 40, 2 * _WIDTH, round(2 * bottom) + 20))


def draw_cones(data: Path) -> Image.Image:
    """Project the embeddings of ``cones``, before and after, to the plane that shows most of them."""
    figure = Figure(figsize=(9, 5.3), layout="constrained")
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    titles = {NONE: "Before", POST: "After removing the gap"}
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (standardizer, (images, captions)) in zip(panels, cones(data).items(), strict=True):
        axes.plot(circle.real, circle.imag, color="#afb8c1", linewidth=1)
        axes.plot(0, 0, "+", color=_INK)
        *projected, share = _project(images, captions)
        for name, points, color in zip(("images", "texts"), projected, (_MATCHED, _MISMATCHED), strict=True):
            axes.scatter(*points.T, s=9, color=color, alpha=0.8, label=name, linewidths=0)
        distance = centroid_distance(images, captions)
        axes.set_title(f"{titles[standardizer]}: centroids {distance:.2f} apart", fontweight="bold")
        axes.text(0, -1.12, f"the plane has {share:.0%} of the squared length", ha="center", color=_MUTED, fontsize=9)
        axes.set(aspect="equal", xlim=(-1.1, 1.1), ylim=(-1.2, 1.1))
        axes.set_axis_off()
    panels[0].legend(loc="upper right", frameon=False, markerscale=2)
    figure.supxlabel(
        "CLIP ViT-B/16, 250 image–text pairs of COCO. Each panel: the plane of largest mean square, orthogonal "
        "projection; circle: length 1; +: origin",
        fontsize="small",
        color=_MUTED,
    )
    return _image(figure)


def cones(data: Path) -> dict[Standardizer, tuple[Vectors, Vectors]]:
    """Return unit embeddings of images (n, d) and texts (n, d) before and after removing the gap.

    The pairs are those of the report ``gap-clip500``: CLIP ViT-B/16, with the means of the other half of the pairs.
    """
    images, captions = read_pairs([data / file for file in SETS["clip-vitb16"].files])
    fit, held = halves(len(images))
    statistics = pair_statistics(images[fit], captions[fit], HELD_OUT)
    standardized = {s: statistics.standardize(s, images[held], captions[held]) for s in (NONE, POST)}
    return {s: (normalize(x), normalize(y)) for s, (x, y) in standardized.items()}


def _project(images: Vectors, captions: Vectors) -> tuple[Vectors, Vectors, float]:
    """Project to the two directions of largest mean square; also return their share of the squared length."""
    both = np.concatenate([images, captions]).astype(np.float64)
    directions = np.linalg.svd(both, full_matrices=False)[2][:2].T
    directions *= np.where((images @ directions).mean(axis=0) < 0, -1, 1)  # their signs are arbitrary
    projected = both @ directions
    return projected[: len(images)], projected[len(images) :], float((projected**2).sum() / (both**2).sum())


def _captions() -> dict[str, str]:
    """Return the captions of the examples by id, which begins with the name of the photograph."""
    lines = (EXAMPLES / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["caption"] for row in map(json.loads, lines)}


def _photographs() -> Mapping[str, Image.Image]:
    """Return the photographs by name without suffix."""
    with tempfile.TemporaryDirectory() as folder:
        runpy.run_path(str(EXAMPLES / "photographs.py"))["write_photographs"](Path(folder))
        return {file.stem: Image.open(file).copy() for file in Path(folder).iterdir()}


def _image(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, dpi=180)
    return Image.open(file)


def write_picture(name: str, picture: Image.Image, folder: Path = PICTURES) -> None:
    """Write a picture with 256 colors and its alternative text."""
    information = PngInfo()
    information.add_itxt("Description", ALT_TEXTS[name])
    colors = picture.convert("RGB")
    reduced = colors.quantize(palette=colors.quantize(256))  # dithered, unlike the palette's own image
    reduced.putpalette([255 if level >= 250 else level for level in reduced.getpalette() or []])  # keep white
    reduced.save(folder / f"{name}.png", optimize=True, pnginfo=information)


DRAWN = {"scores": draw_scores, "page": draw_page, "explanation": draw_explanation}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(ALT_TEXTS)))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="I0TSCORE_DATA",
    default="../shared/data",
    show_default=True,
    help="Folder with the embeddings of the pairs.",
)
def main(names: tuple[str, ...], data: Path) -> None:
    """Draw the pictures of the documentation."""
    for name in names or ALT_TEXTS:
        picture = draw_cones(data) if name == "cones" else DRAWN[name]()
        write_picture(name, picture)


if __name__ == "__main__":
    main()
