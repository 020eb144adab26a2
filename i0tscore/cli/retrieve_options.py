"""The options of ``i0tscore retrieve``: what is searched, and what is inverted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from i0tscore.cli.measures import statistics_option
from i0tscore.cli.options import OptionGroup, add_options
from i0tscore.errors import UsageError

KINDS = {"oti": "image", "ovi": "text"}
"""What each inversion inverts."""
TEMPLATE = "a photo of {}"
"""The text of a label, where none is given."""
STEPS = {"oti": 150, "ovi": 1000}
"""Updates of each, where none are asked for: those of ``invert_images`` and ``invert_captions``."""

_FILE = click.Path(path_type=Path)


@dataclass(frozen=True)
class SearchOptions(OptionGroup):
    """What is searched by what."""

    task: str
    gallery: Path | None
    label: str | None
    template: str
    queries: int | None
    standardizer: tuple[str, ...]
    statistics: str

    def __post_init__(self) -> None:
        """Refuse what could not be used, before any work."""
        if self.statistics == "batch":
            raise UsageError("--statistics batch: retrieval takes fixed statistics: fit them with i0tscore fit")
        if self.statistics != "auto" and not self.standardizer:
            raise UsageError("--statistics are what standardizers need: give --standardizer as well")
        if "{}" not in self.template:
            raise UsageError(
                f"--template {self.template!r} says every label alike: write {{}} where the label is to stand"
            )


@dataclass(frozen=True)
class InvertOptions(OptionGroup):
    """What is inverted and how."""

    invert: str | None
    inverted_side: Literal["query", "gallery"]
    pseudo_inputs: int | None
    steps: int | None
    curve: tuple[int, ...]
    patience: int | None
    inversion_seed: int
    save: Path | None
    resume: Path | None

    def __post_init__(self) -> None:
        """Refuse what would do nothing."""
        own: dict[str, object] = {
            "--pseudo-inputs": self.pseudo_inputs,
            "--steps": self.steps,
            "--curve": self.curve or None,
        }
        own |= {"--patience": self.patience, "--save": self.save, "--resume": self.resume}
        unused = [name for name, value in own.items() if value is not None]
        if self.invert is None and unused:
            raise UsageError(f"{', '.join(unused)}: nothing is inverted; give --invert oti or --invert ovi")

    def check(self, task: str) -> None:
        """Refuse an inversion of what the side is not, and what could not be kept.

        Raises:
            UsageError: Naming what would do; also of a curve that goes on after the last update, and of a
                name that could not be read again.
        """
        if self.invert is None:
            return
        if self.save is not None and self.save.suffix != ".safetensors":
            raise UsageError(
                f"--save {self.save}: inverted features are safetensors: give a name ending in .safetensors"
            )
        steps = self.steps or STEPS[self.invert]
        beyond = [step for step in self.curve if step > steps]
        if beyond:
            raise UsageError(
                f"--curve {max(beyond)}: there are only {steps} updates: give --steps {max(beyond)}, or less to --curve"
            )
        query, gallery = task.split("-")
        kind = query if self.inverted_side == "query" else gallery
        if KINDS[self.invert] != kind:
            raise UsageError(
                f"--invert {self.invert} inverts {KINDS[self.invert]}s, and the {self.inverted_side} of "
                f"{task} is {kind}s: use --invert {'oti' if kind == 'image' else 'ovi'}, or another task"
            )


search_options = add_options(
    click.option(
        "--task",
        type=click.Choice(["image-text", "text-image", "image-image", "text-text"]),
        default="image-text",
        show_default=True,
        help="Kind of the queries, and of what they are to find.",
    ),
    click.option(
        "--gallery",
        type=_FILE,
        metavar="PATH",
        help="Another folder or table with labels, to be searched instead of CAPTIONS itself.",
    ),
    click.option(
        "--label",
        metavar="COLUMN",
        help="CAPTIONS is a table with this column of labels, and image, caption or both: what has the same "
        "label is relevant.",
    ),
    click.option(
        "--template",
        default=TEMPLATE,
        show_default=True,
        help="Text of a label, where there are labels and no captions.",
    ),
    click.option(
        "--standardizer",
        multiple=True,
        metavar="NAME",
        help="Repeatable: search under it as well: post, dn(0.25), shift(0.5), …",
    ),
    statistics_option,
    click.option("--queries", type=click.IntRange(min=1), metavar="N", help="Only N queries, at random."),
)
"""The options of ``SearchOptions``."""

invert_options = add_options(
    click.option(
        "--invert",
        type=click.Choice(list(KINDS)),
        help="Put images through the text tower (oti) or texts through the image tower (ovi) first.",
    ),
    click.option(
        "--inverted-side",
        type=click.Choice(["query", "gallery"]),
        default="query",
        show_default=True,
        help="Which side is inverted.",
    ),
    click.option(
        "--pseudo-inputs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Pseudo-tokens or pseudo-patches of an item; the paper's number for the model if left out.",
    ),
    click.option("--steps", type=click.IntRange(min=1), help="Updates; 150 for oti and 1000 for ovi."),
    click.option(
        "--curve",
        type=click.IntRange(min=0),
        multiple=True,
        metavar="N",
        help="Repeatable: measure after so many updates as well.",
    ),
    click.option("--patience", type=click.IntRange(min=1), help="Stop an item after N updates of no progress."),
    click.option("--inversion-seed", type=int, default=42, show_default=True, help="Of the pseudo-inputs."),
    click.option("--save", type=_FILE, metavar="FILE", help="Write the inverted features (safetensors)."),
    click.option("--resume", type=_FILE, metavar="FOLDER", help="Keep finished batches there, and go on from them."),
)
"""The options of ``InvertOptions``."""
