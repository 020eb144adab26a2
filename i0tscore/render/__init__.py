"""Views of a result: text for a terminal, Markdown, flat rows for spreadsheets."""

from i0tscore.render.flat import render_csv
from i0tscore.render.markdown import render_markdown
from i0tscore.render.text import render_text

__all__ = ["render_csv", "render_markdown", "render_text"]
