"""HTML pages: self-contained files that load nothing and run only the script that they come with.

Templates, the stylesheet, and the script are in ``templates/``. The script uses no framework: it sorts, filters, and
pages rows that are already complete in the page, so that the page can be read and printed without it.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from i0tscore.errors import MissingExtraError
from i0tscore.render.document import TEXT_WIDTH, Block, Document, format_number, one_line, shorten

_TEMPLATES = Path(__file__).with_name("templates")


def require_jinja2() -> None:
    """Raise MissingExtraError, which shows how to install Jinja2, if it is not installed."""
    if find_spec("jinja2") is None:
        raise MissingExtraError("jinja2", "report", "an HTML page")


def render_html(document: Document, *, width: int = TEXT_WIDTH, color: bool = False) -> str:
    """Render a document as an HTML page; ``width`` and ``color`` have no effect.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    plot = base64.b64encode(document.plot).decode()
    return render_page("document.html", blocks=document_blocks(document), plot=plot)


def document_blocks(document: Document) -> list[tuple[str, Block]]:
    """Return the blocks of a document with their kinds, as templates show them."""
    return [(type(block).__name__, block) for block in document.filled]


def render_page(template: str, **content: Any) -> str:
    """Render a template as a page, with a content security policy that allows its own stylesheet and script only.

    Args:
        template: Name of a file in ``templates/`` that extends ``base.html``. All text is escaped; the filter
            ``line`` also removes control characters, including those that change the direction of text.
        **content: What the template shows.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    require_jinja2()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"line": one_line, "number": format_number, "shorten": shorten}
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    css, js = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template(template).render(css=css, js=js, hash=_hash, **content)


def _hash(text: str) -> str:
    """Return the source expression of a content security policy for an inline stylesheet or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
