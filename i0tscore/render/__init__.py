"""One document model and its renderers, HTML pages from plain data, and plots."""

from __future__ import annotations

from collections.abc import Callable

from i0tscore.render.document import render_latex, render_markdown, render_text
from i0tscore.render.page import render_html

RENDERERS: dict[str, Callable[..., str]] = {
    "text": render_text,
    "md": render_markdown,
    "latex": render_latex,
    "html": render_html,
}
"""Renderers by output format, each called as ``renderer(document, width=…, color=…)``."""
