"""Plot of the modality gap: embeddings on a sphere and histograms of cosines (extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from i0tscore.errors import MissingExtraError
from i0tscore.gap.measures import Panel

FORMATS = ("svg", "png")

_IMAGES, _TEXTS = "#1b6ca8", "#d1622b"
_COLORS = {"matched": "#2a7f3f", "mismatched": "#777777", "image_image": _IMAGES, "caption_caption": _TEXTS}
_NAMES = {"image_image": "image–image", "caption_caption": "text–text"}


def require_matplotlib(purpose: str = "a plot of the modality gap") -> None:
    """Raise MissingExtraError, which shows how to install matplotlib, if it is not installed."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", purpose)


@contextmanager
def plot_file(file_format: str, size: tuple[float, float]) -> Iterator[tuple[Any, io.BytesIO]]:
    """Yield an empty figure, and a file that it is written to after the block; the same drawing gives the same SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "i0tscore", "svg.fonttype": "none", "font.size": 9}):
        figure, file = Figure(figsize=size, layout="constrained"), io.BytesIO()
        yield figure, file
        metadata = {"Date": None} if file_format == "svg" else None
        figure.savefig(file, format=file_format, metadata=metadata, dpi=110)


def plot_gap(panels: Mapping[str, Panel], file_format: str) -> bytes:
    """Plot one row per standardizer: the sphere and the histograms of cosines.

    Args:
        panels: By standardizer.
        file_format: ``svg`` or ``png``; the same panels give the same SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_matplotlib()
    with plot_file(file_format, (9.5, 4.2 * len(panels))) as (figure, file):
        low = min(float(c.min()) for panel in panels.values() for c in panel.cosines.values())
        for row, (name, panel) in enumerate(panels.items()):
            _sphere(figure.add_subplot(len(panels), 2, 2 * row + 1, projection="3d"), name, panel)
            _histograms(figure.add_subplot(len(panels), 2, 2 * row + 2), name, panel, low)
        figure.supxlabel(
            "spheres: the three directions of largest mean square, scaled to length 1; one caption per image",
            fontsize=8,
        )
    return file.getvalue()


def _sphere(axes: Any, name: str, panel: Panel) -> None:
    around, up = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
    axes.plot_wireframe(
        np.cos(around) * np.sin(up), np.sin(around) * np.sin(up), np.cos(up), color="#dddddd", linewidth=0.4
    )
    for points, color, label in ((panel.images, _IMAGES, "images"), (panel.captions, _TEXTS, "texts")):
        axes.scatter(*points.T, s=5, color=color, label=label)
    axes.set_box_aspect((1, 1, 1), zoom=1.3)
    axes.view_init(elev=10, azim=0)  # the direction of largest mean square faces the viewer
    axes.set_axis_off()
    axes.set_title(f"{name}: {panel.share:.0%} of the squared length shown")
    axes.legend(loc="lower left", frameon=False)


def _histograms(axes: Any, name: str, panel: Panel, low: float) -> None:
    bins = np.linspace(-1, 1, 101)
    for kind, cosines in panel.cosines.items():
        label = _NAMES.get(kind, kind)
        axes.hist(cosines, bins, density=True, histtype="step", color=_COLORS[kind], label=label)
    axes.set_xlim(min(low, 0.0) - 0.05, 1.0)
    axes.set_yticks([])
    axes.set_xlabel("cosine")
    axes.set_title(f"{name}: cosines")
    axes.legend(frameon=False)
