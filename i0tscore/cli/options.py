"""Options that several verbs share, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import UsageError
from i0tscore.samples import INPUT_FORMATS

if TYPE_CHECKING:
    from i0tscore.encoders.options import LongCaptions

Decorator = Callable[[Any], Any]

PRESETS = ("paper", "torchmetrics", "raw")
LONG_CAPTIONS = ("truncate", "split", "error")

_FILE = click.Path(path_type=Path)


class OptionGroup:
    """A group of options; ``take`` moves its own out of what click collected."""

    @classmethod
    def take(cls, options: dict[str, Any]) -> Self:
        """Remove this group's values from ``options`` and return them."""
        return cls(**{f.name: options.pop(f.name) for f in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class ImageOptions(OptionGroup):
    """Where images are: a second argument, or an option."""

    image_folder: Path | None
    images: Path | None

    def __post_init__(self) -> None:
        """Refuse two folders."""
        if self.image_folder and self.images:
            raise UsageError(f"the images' folder is given twice: {self.image_folder} and {self.images}")

    @property
    def folder(self) -> Path | None:
        """The folder of the images, wherever it was given."""
        return self.image_folder or self.images


@dataclass(frozen=True)
class InputOptions(ImageOptions):
    """What is to be scored."""

    captions: Path | None
    references: Path | None
    references_json: Path | None
    annotations: Path | None
    input_format: str | None
    image_embeddings: Path | None
    caption_embeddings: Path | None
    on_error: str

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        embeddings = (self.image_embeddings, self.caption_embeddings)
        if any(embeddings) and not all(embeddings):
            raise UsageError("--image-embeddings and --caption-embeddings go together: give both")
        if all(embeddings) and any((self.captions, self.images, self.references_file, self.annotations)):
            raise UsageError("embeddings are scored without caption files, images and references")
        if not any(embeddings) and self.captions is None:
            raise UsageError("give a caption file and the folder of its images, or two files of embeddings")
        ImageOptions.__post_init__(self)
        if self.references and self.references_json:
            raise UsageError("--references and --references_json are the same: give one")

    @property
    def references_file(self) -> Path | None:
        """The file of references, whichever way it is spelled."""
        return self.references or self.references_json


@dataclass(frozen=True)
class ModelOptions(OptionGroup):
    """How images and captions are encoded."""

    model: str
    weights: Path | None
    preset: str
    precision: str
    device: str
    batch_size: int
    workers: int
    long_captions: LongCaptions
    cache_dir: Path | None
    no_cache: bool
    offline: bool
    quiet: bool


def add_options(*options: Decorator) -> Decorator:
    """One decorator out of several options, shown in the order given."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


on_error_option = click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Stop at samples that cannot be scored, or list them and score the rest.",
)

image_options = add_options(
    click.argument("image_folder", metavar="[IMAGES]", required=False, type=_FILE),
    click.option("--images", type=_FILE, help="Folder of the images, as the second argument."),
)
"""The options of ``ImageOptions``."""

caption_file_options = add_options(
    click.option("--references", type=_FILE, metavar="FILE", help='References as JSON: {"id": ["…"]}.'),
    click.option("--annotations", type=_FILE, metavar="FILE", help="Annotation file of COCO results."),
    click.option(
        "--input-format",
        type=click.Choice(INPUT_FORMATS),
        help="Form of the captions; told by their content if left out.",
    ),
)
"""Options ``references``, ``annotations`` and ``input_format``."""

input_options = add_options(
    click.argument("captions", required=False, type=_FILE),
    image_options,
    caption_file_options,
    click.option("--references_json", type=_FILE, hidden=True),
    click.option("--image-embeddings", type=_FILE, metavar="FILE", help="Embeddings with ids (.npy or .safetensors)."),
    click.option("--caption-embeddings", type=_FILE, metavar="FILE", help="Embeddings with the same ids."),
    on_error_option,
)
"""The options of ``InputOptions``."""

model_options = add_options(
    click.option(
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        help="lite, or arch/tag of open_clip (see doctor).",
    ),
    click.option("--weights", type=_FILE, metavar="FILE", help="Weights to use instead of the hub's."),
    click.option(
        "--preset",
        type=click.Choice(PRESETS),
        default="paper",
        show_default=True,
        help="Caption prefix, and the metrics unless --metric says otherwise.",
    ),
    click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
    click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=2,
        show_default=True,
        help="Threads that decode images.",
    ),
    click.option(
        "--long-captions",
        type=click.Choice(LONG_CAPTIONS),
        default="truncate",
        show_default=True,
        help="Captions over the context length: cut, average their sentences, or refuse.",
    ),
    click.option("--cache-dir", type=_FILE, metavar="FOLDER", help="Embedding cache; see doctor."),
    click.option("--no-cache", is_flag=True, help="Neither read nor write the embedding cache."),
    click.option("--offline", is_flag=True, help="Use no network."),
    click.option("--quiet", is_flag=True, help="No progress and no warnings."),
)
"""The options of ``ModelOptions``."""

output_option = click.option("--output", type=_FILE, metavar="FILE", help="File instead of stdout.")


def format_option(*formats: str) -> Decorator:
    """Option ``--format`` with the formats of a verb, the first one by default."""
    return click.option("--format", "form", type=click.Choice(formats), default=formats[0], show_default=True)


class Threshold(click.ParamType):  # type: ignore[type-arg]
    """``METRIC=VALUE`` as a pair of name and number; the name may hold ``=`` itself."""

    name = "METRIC=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Split at the last ``=``."""
        if isinstance(value, tuple):
            return value
        metric, _, bound = value.rpartition("=")
        try:
            number = float(bound)
        except ValueError:
            number = float("nan")
        if not metric or number != number:
            self.fail(f"{value!r}: give a metric and a number, as in I0TScore=0.3", param, ctx)
        return metric.strip(), number
