"""MkDocs hook: pages of the site whose files are elsewhere in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "reports/*.md", "reports/*.svg", "reports/*.json", "examples/*.ipynb")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages, reports, and notebooks that are outside the folder ``docs``."""
    for path in (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Turn links between ``docs`` and its parent folder, which GitHub follows, into links of the site."""
    markdown = re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    return re.sub(r"\]\(\.\./((?:\.\./)*(?:CHANGELOG\.md|CONTRIBUTING\.md|reports/|examples/))", r"](\1", markdown)
