"""The columns that ratings are read from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from i0tscore.samples.rows import Findings, few
from i0tscore.samples.tables import each_once


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table may be called; the first name that is there counts.

    Attributes:
        image: The image's name, path or content.
        caption: The rated caption.
        rating: The rating.
        references: Human captions, as a list.
        rater: Who rated.
        category: Part of the set.
        system: What wrote the caption.
    """

    image: tuple[str, ...] = ("image", "image_path", "file_name", "image_id", "id")
    caption: tuple[str, ...] = ("caption",)
    rating: tuple[str, ...] = ("rating",)
    references: tuple[str, ...] = ("references",)
    rater: tuple[str, ...] = ("rater",)
    category: tuple[str, ...] = ("category",)
    system: tuple[str, ...] = ("system",)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of every column."""
        return tuple(name for field in fields(self) for name in getattr(self, field.name))

    def chosen(self, present: Iterable[str]) -> dict[str, str]:
        """The column that each field is read from, by field."""
        there = set(present)
        found = {f.name: next((n for n in getattr(self, f.name) if n in there), None) for f in fields(self)}
        return {field: name for field, name in found.items() if name is not None}

    def suffice(self, present: list[str], findings: Findings) -> bool:
        """Whether image, caption and rating are there; if not, the file is refused."""
        chosen = self.chosen(present)
        missing = [field for field in ("image", "caption", "rating") if field not in chosen]
        for field in missing:
            names = " or ".join(f'"{name}"' for name in getattr(self, field))
            findings.refuse(f"no column {names} for the {field}: name it so (found: {few(present, 12)})")
        return not missing and each_once(self.names, present, findings)


HUB_COLUMNS = Columns(
    image=("img", "image", "imgid", "file_name", "id"),
    caption=("cand", "mt", "caption"),
    rating=("human_score", "score", "rating", "correctness"),
    references=("refs", "references"),
    category=("category", "source", "dataset"),
)
"""Names used by Composite, Polaris and Nebula, on the hub and in their CSV files."""
