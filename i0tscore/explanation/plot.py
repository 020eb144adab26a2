"""Plot of an explanation: the map over the image, and the effects of the words (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from i0tscore.explanation.regions import RegionMap
from i0tscore.explanation.units import UnitEffect
from i0tscore.render.document import one_line, shorten

_SUPPORTS, _OPPOSES = "#1b6ca8", "#d1622b"
_LABEL = 40


def draw(
    figure: Any, metric: str, effects: Sequence[UnitEffect], regions: RegionMap | None, image: Image.Image | None
) -> list[Any]:
    """Draw on an empty Matplotlib figure and return its axes, the map first if there is one."""
    drawn = []
    columns = 1 if regions is None or image is None else 2
    if regions is not None and image is not None:
        axes = figure.add_subplot(1, 2, 1)
        axes.imshow(image.convert("L"), cmap="gray", vmin=-60, vmax=315, extent=(0, image.width, image.height, 0))
        left, top, right, bottom = regions.box
        extent = (left * image.width, right * image.width, bottom * image.height, top * image.height)
        shown = axes.imshow(regions.values, cmap="cividis", alpha=0.6, extent=extent, interpolation="bilinear")
        axes.set(xlim=(0, image.width), ylim=(image.height, 0), xticks=[], yticks=[])
        _title(axes, f"Support for “{one_line(regions.text)}”")
        axes.set_anchor("N")
        bar = figure.colorbar(shown, cax=axes.inset_axes((0, -0.1, 1, 0.05)), orientation="horizontal")
        bar.set_label("similarity" if regions.method == "local" else "drop in similarity when hidden")
        drawn.append(axes)
    axes = figure.add_subplot(1, columns, columns)
    values = [effect.effect or 0.0 for effect in effects]
    axes.barh(range(len(values)), values, color=[_SUPPORTS if value > 0 else _OPPOSES for value in values])
    axes.set_yticks(range(len(values)), [shorten(one_line(effect.text), _LABEL) for effect in effects])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"effect on {metric}")
    return [*drawn, axes]


def _title(axes: Any, text: str) -> None:
    axes.set_title(shorten(text, 2 * _LABEL), fontsize=9, wrap=True).set_parse_math(False)
