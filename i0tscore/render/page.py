"""HTML pages: self-contained files that load nothing and run only their own script.

Templates, the stylesheet, and the script are in ``templates/``. The script uses no framework: it sorts, filters, and
pages rows that are already in the page, so that the page can be read and printed without it.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.errors import MissingExtraError
from i0tscore.render.document import TEXT_WIDTH, Block, Document, Heatmap, format_number, one_line, shorten

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image

_TEMPLATES = Path(__file__).with_name("templates")
_MAP_SIDE, _OPACITY = 480, 0.6
_RAMP = ((0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120), (165, 156, 116),
         (195, 179, 105), (225, 204, 85), (254, 232, 56))  # fmt: skip
"""Colors of maps from small to large numbers, matplotlib's cividis; ``page.css`` has them for the scale."""


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
    return render_page("document.html", title=document.title, blocks=named_blocks(document.filled), plot=plot)


def render_blocks(blocks: Sequence[Block]) -> str:
    """Render blocks as HTML for a page that ``render_page`` renders.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    return str(_environment().get_template("fragment.html").render(blocks=named_blocks(blocks)))


def named_blocks(blocks: Sequence[Block]) -> list[tuple[str, Block]]:
    """Return blocks with their kinds, as templates show them."""
    return [(type(block).__name__, block) for block in blocks]


def render_page(template: str, **content: Any) -> str:
    """Render a template as a page, with a content security policy that allows its own stylesheet and script only.

    Args:
        template: Name of a file in ``templates/`` that extends ``base.html``. All text is escaped; the filter
            ``line`` also removes control characters, including those that change the direction of text.
        **content: What the template shows.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    css, js = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return str(_environment().get_template(template).render(css=css, js=js, hash=_hash, **content))


def _environment() -> Environment:
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
    environment.filters |= {"overlay": overlay, "line": one_line, "number": format_number, "shorten": shorten}
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    return environment


def overlay(block: Heatmap) -> str:
    """Return the data URL of a map over its image in gray."""
    import numpy as np
    from PIL import Image

    image = block.image or Image.new("RGB", (round(_MAP_SIDE * min(block.aspect, 1)), _MAP_SIDE), "white")
    shown = image.convert("L").convert("RGB")
    shown.thumbnail((_MAP_SIDE, _MAP_SIDE))
    left, right = (round(shown.width * end) for end in block.box[::2])
    top, bottom = (round(shown.height * end) for end in block.box[1::2])
    cells = Image.fromarray(np.array(block.levels, dtype=np.float32))
    levels = np.asarray(cells.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    positions = np.linspace(0, 1, len(_RAMP))
    colors = [np.interp(levels, positions, channel) for channel in np.array(_RAMP).T]
    map_image = Image.fromarray(np.stack(colors, axis=2).astype(np.uint8))
    part = shown.crop((left, top, right, bottom))
    shown.paste(Image.blend(part, map_image, _OPACITY), (left, top))
    return jpeg_url(shown, quality=80)


def jpeg_url(image: Image, *, quality: int) -> str:
    """Return an image as the data URL of a JPEG file."""
    image.info.clear()  # such as comments, which Pillow would copy
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _hash(text: str) -> str:
    """Return the source expression of a content security policy for an inline stylesheet or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
