"""Options that several commands share, and what they turn into: samples, a scorer, written output.

A command is a function whose arguments are dataclasses, and each ``option`` field of these is an option:

    @dataclass
    class GapOptions:
        plot: Path | None = option("Also plot embeddings and cosines.", path="FILE")

    @verb("Measure the modality gap.")
    def gap(options: GapOptions, output: OutputOptions) -> None: ...
"""

from __future__ import annotations

import functools
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import click
from click.core import ParameterSource

from i0tscore.cli.console import check_output, wants_color, write_output
from i0tscore.encoders.options import EncodeOptions
from i0tscore.errors import UsageError, did_you_mean
from i0tscore.options import option
from i0tscore.render import RENDERERS
from i0tscore.render.document import TEXT_WIDTH
from i0tscore.render.page import require_jinja2
from i0tscore.samples import INPUT_FORMATS
from i0tscore.samples.schema import ReadOptions

if TYPE_CHECKING:
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.metrics.scorer import I0TScorer
    from i0tscore.render.document import Document
    from i0tscore.results import Resampling
    from i0tscore.samples import Skipped
    from i0tscore.samples.embeddings import EmbeddedPairs

Decorator = Callable[[Any], Any]
OnError = Literal["raise", "skip"]

PATH = click.Path(path_type=Path)
_MIN_WIDTH = 80
PRESETS = ("paper", "torchmetrics", "raw")


class Choice(click.Choice):  # type: ignore[type-arg]
    """A choice whose error names the nearest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the choice as it is declared."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            choices = [str(choice) for choice in self.choices]
            near = did_you_mean(str(value), choices)
            self.fail(f"Expected one of {', '.join(choices)}, got {value!r}.{near}", param, ctx)


class Verb(click.Command):
    """A command whose errors suggest what to type instead of unknown options and extra arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command."""
        given = list(args)
        ctx.allow_extra_args = True  # to be refused here
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(self._unknown(error.option_name, given, ctx), ctx) from None
        if not ctx.args or ctx.resilient_parsing:
            return rest
        extra = ctx.args[0]
        before = given[given.index(extra) - 2 : given.index(extra)]
        for one in self.params:
            if isinstance(one, click.Option) and one.multiple and set(before[:1]) & set(one.opts):
                option_name, value = before
                hint = f"Repeat the option for each value: {option_name} {value} {option_name} {extra}."
                break
        else:
            hint = "Use options to specify other files, and quote paths that contain spaces."
        expected = " ".join(one.make_metavar(ctx) for one in self.params if isinstance(one, click.Argument))
        raise click.UsageError(f"Expected {expected or 'no arguments'}, also got {extra!r}. {hint}", ctx)

    def _unknown(self, name: str, given: list[str], ctx: click.Context) -> str:
        """Return a message on an unknown option."""
        count = 1
        if not name.startswith("--"):  # click splits -help into letters and reports one of them
            count = 3
            name = next(one for one in given if one[:1] == "-" != one[1:2] and name[1:] in one)
        if ctx.parent is not None and any(name in one.opts for one in ctx.parent.command.params):
            return f"No such option {name}. Use it without a command: {ctx.parent.info_name} {name}."
        commands = [self, *([ctx.parent.command] if ctx.parent else [])]
        known = [spelling for one in commands for param in one.get_params(ctx) for spelling in param.opts]
        return f"No such option {name}.{did_you_mean(name, [one for one in known if one.startswith('--')], count)}"


def argument(metavar: str, **settings: Any) -> Any:
    """Return a dataclass field that is a positional argument; settings are those of ``click.argument``."""
    return field(default=None, metadata={"argument": metavar, "type": PATH, "required": False} | settings)


def verb(short_help: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a command of a function whose arguments are dataclasses of options."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        command: Any = function
        for name, group in reversed(get_type_hints(function).items()):
            if name != "return":
                command = option_group(name, group)(command)
        return click.command(short_help=short_help, cls=Verb)(command)

    return decorate


def option_group(name: str, group: type) -> Decorator:
    """Return a decorator that adds the options of a dataclass to a command and passes them to it as one argument.

    Args:
        name: Name of the argument.
        group: A dataclass with ``option`` and ``argument`` fields. It raises ``UsageError`` for options that contradict
            each other, before any work is done.
    """
    declared = [one for one in fields(group) if not one.metadata.keys().isdisjoint(("help", "argument"))]

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def collect(**values: Any) -> Any:
            try:
                values[name] = group(**{one.name: values.pop(one.name) for one in declared})
            except UsageError as error:
                raise click.UsageError(str(error)) from error
            return command(**values)

        decorated: Any = collect
        for one in reversed(declared):
            decorated = _click_decorator(one)(decorated)
        return decorated

    return decorate


def _click_decorator(declared: Field[Any]) -> Decorator:
    settings = dict(declared.metadata)
    if "argument" in settings:
        return click.argument(declared.name, metavar=settings.pop("argument"), **settings)
    if "choices" in settings:
        settings["type"] = Choice([choice for choice in settings.pop("choices") if choice is not None])
    if "minimum" in settings:
        least = settings.pop("minimum")
        settings["type"] = (click.FloatRange if isinstance(least, float) else click.IntRange)(min=least)
        settings["type"].name = "number"  # instead of "integer range" in messages
        settings.setdefault("metavar", "N" if isinstance(least, int) else "X")
    if "path" in settings:
        settings |= {"type": PATH, "metavar": settings.pop("path")}
    if declared.default is False:
        settings["is_flag"] = True
    elif not settings.get("required"):
        settings["default"] = None if declared.default == () else declared.default
        if declared.default not in (None, (), ""):
            settings["show_default"] = True
    settings.setdefault("show_default", settings.pop("default_text", False))
    return click.option(settings.pop("names", f"--{declared.name.replace('_', '-')}"), declared.name, **settings)


def format_option(*formats: str) -> Any:
    """Return the option ``--format``, with the first format by default."""
    return option("Output format.", formats[0], choices=formats, names="--format", callback=_check_format)


def _check_format(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return the output format, after checking before any work that it can be written."""
    if value == "html":
        require_jinja2()
    return value


# Options of several commands.
on_error_option = functools.partial(
    option,
    "How to handle samples that cannot be used: stop and list them, or skip and report them.",
    "raise",
    choices=("raise", "skip"),
)
images_option = functools.partial(option, "Image folder, instead of the argument IMAGES.", path="FOLDER")
references_option = functools.partial(
    option,
    'References: JSON {"id": ["...", ...]}, or any caption file. Adds RefI0TScore and RefCLIPScore.',
    path="FILE",
)
statistics_option = functools.partial(
    option,
    "Reference means: shipped with the model (builtin), computed from this run (batch), or written by fit (FILE). "
    "auto: builtin if available, else batch, which needs at least 32 images.",
    "auto",
    metavar="auto|builtin|batch|FILE",
)


def metric_option(more: str = "") -> Any:
    """Return the option ``--metric``; ``more`` names further metrics of the command."""
    return option(
        "Metric to compute: I0TScore, CLIPScore, RefI0TScore, RefCLIPScore, ContextI0TScore, DNScore, "
        "CovarianceI0TScore or AsyncI0TScore, also with settings, as in 'CLIPScore(clip=no,std=shift(0.5))'. "
        f"{more}{' ' if more else ''}Repeatable.",
        (),
        default_text="those of --preset",
        multiple=True,
        metavar="NAME",
    )


@dataclass
class InputOptions:
    """What a command reads: a caption file and its images, or embeddings.

    Raises:
        UsageError: The options contradict each other, or there is nothing to read.
    """

    captions: Path | None = argument("[CAPTIONS]")
    image_folder: Path | None = argument("[IMAGES]")
    images: Path | None = images_option()
    references: Path | None = None
    references_json: Path | None = None
    image_embeddings: Path | None = option(
        "Image embeddings with ids (.npy or .safetensors), instead of CAPTIONS and IMAGES.", path="FILE"
    )
    caption_embeddings: Path | None = option("Caption embeddings with the ids of their images.", path="FILE")
    on_error: OnError = on_error_option()

    read_embeddings: Callable[[], EmbeddedPairs] | None = field(init=False)  # None if captions and images are read

    def __post_init__(self) -> None:
        """Check that the options make sense together."""
        from i0tscore.samples.formats import FORMATS

        self.images = choose_folder(self.image_folder, self.images)
        if self.captions and self.images and self.captions.is_dir() and self.images.is_file():
            raise UsageError(
                f"Expected a caption file and then the image folder, got {self.captions} and then {self.images}. Try "
                f"{self.images} {self.captions}."
            )
        if self.references and self.references_json:
            raise UsageError("--references and --references_json are the same option. Give one.")
        self.references = self.references or self.references_json
        self.read_embeddings = None
        files = (self.image_embeddings, self.caption_embeddings)
        if self.captions is not None and FORMATS["clip-retrieval"].folder(self.captions):
            from i0tscore.samples.embeddings import read_clip_retrieval

            self.read_embeddings = functools.partial(read_clip_retrieval, self.captions)
        elif any(files):
            if self.image_embeddings is None or self.caption_embeddings is None:
                raise UsageError("--image-embeddings and --caption-embeddings go together. Give both.")
            from i0tscore.samples.embeddings import pair_embeddings

            self.read_embeddings = functools.partial(pair_embeddings, self.image_embeddings, self.caption_embeddings)
        elif self.captions is None:
            raise UsageError("Expected a caption file and its image folder, or two files of embeddings.")
        if self.read_embeddings is not None and (self.images or self.references or (any(files) and self.captions)):
            content = "Embedding files" if any(files) else f"{self.captions} holds embeddings, which"
            raise UsageError(f"{content} are read without caption files, images, and references. Remove them.")


@dataclass(frozen=True)
class ReadingOptions(ReadOptions):
    """How a caption file is read; each field of ``ReadOptions`` with a help text is an option."""

    input_format: str | None = option(
        f"Format of the captions: {', '.join(INPUT_FORMATS)}.",
        default_text="detected from the content",
        choices=(None, *INPUT_FORMATS),
        metavar="NAME",
    )


@dataclass(frozen=True)
class ReferencedReadingOptions(ReadingOptions):
    """The same with the column of the references."""

    references_column: str | None = option("Column or key of the references.", metavar="NAME")


@dataclass
class ReferencedInputOptions(InputOptions):
    """The same with reference captions, which CLIPScore spells ``--references_json``."""

    references: Path | None = references_option()
    references_json: Path | None = option("", type=PATH, hidden=True, names="--references_json")


def choose_folder(positional: Path | None, option_value: Path | None) -> Path | None:
    """Return the image folder, which may be the second argument or ``--images``.

    Raises:
        UsageError: It is given as both.
    """
    if positional and option_value:
        raise UsageError(f"The image folder is given twice: {positional} and --images {option_value}. Give it once.")
    return positional or option_value


@dataclass(frozen=True)
class ModelOptions(EncodeOptions):
    """How images and captions are encoded; each field of ``EncodeOptions`` with a help text is an option."""

    preset: str = option("Caption prefix and default metrics.", "paper", choices=PRESETS)
    no_cache: bool = option("Do not use the embedding cache.", False)
    quiet: bool = option("Hide progress and warnings.", False)

    def encoding(self, on_error: str) -> dict[str, Any]:
        """Return the fields of ``EncodeOptions`` for a run of the command."""
        from i0tscore.files import default_cache_dir

        return {
            **{one.name: getattr(self, one.name) for one in fields(EncodeOptions)},
            "cache_dir": None if self.no_cache else self.cache_dir or default_cache_dir(),
            "on_error": on_error,
            "progress": sys.stderr.isatty() and not self.quiet,
        }


@dataclass
class OutputOptions:
    """Where a command writes its result, and in which format.

    Raises:
        UsageError: The file cannot be written.
    """

    format: str = format_option(*RENDERERS, "json", "csv")
    path: Path | None = option("Write to FILE instead of stdout.", path="FILE", names="--output")

    def __post_init__(self) -> None:
        """Check the file before any work is done."""
        check_output(self.path)


@dataclass
class IntervalOptions:
    """How confidence intervals are computed.

    Raises:
        UsageError: There are too few resamples for the confidence.
    """

    confidence: float = option(
        "Coverage of the confidence intervals.", 0.95, type=click.FloatRange(0, 1, min_open=True, max_open=True)
    )
    resamples: int = option("Bootstrap resamples; 0 for no intervals.", 1000, minimum=0)
    seed: int = option("Bootstrap seed.", 12345)
    resampling: Resampling = field(init=False)

    def __post_init__(self) -> None:
        """Convert the options to the settings that they stand for."""
        from i0tscore.results import Resampling

        self.resampling = Resampling(self.confidence, self.resamples, self.seed)


@dataclass(frozen=True)
class Inputs:
    """Arguments of ``I0TScorer.score``, and what reading them reported.

    Attributes:
        images: Images, or embeddings (n, d).
        captions: Captions, or embeddings (n, d).
        references: References of each sample, or None.
        ids: Sample ids.
        contexts: Context of each sample, or None.
        texts: The captions if ``captions`` are embeddings; empty if they are not known.
        skipped: Samples that could not be read.
        notes: Remarks for the reader of the result.
    """

    images: Any
    captions: Any
    references: list[tuple[str, ...]] | None
    ids: list[str]
    contexts: list[str | None] | None = None
    texts: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def read_inputs(inputs: InputOptions, reading: ReadOptions, model: ModelOptions | None = None) -> Inputs:
    """Read a caption file, a folder of embeddings, or two files of embeddings.

    Args:
        inputs: What to read.
        reading: How to read a caption file.
        model: Options of an encoder that embeddings would leave without effect; None to allow them.

    Raises:
        InputError: The files have problems; all of them are listed.
        UsageError: Embeddings are given together with options that have no effect on them.
    """
    if inputs.read_embeddings is not None:
        check_embedding_options(reading, model)
        pairs = inputs.read_embeddings()
        notes = [] if model is None else _check_model(model, pairs)
        return Inputs(pairs.images, pairs.captions, None, list(pairs.ids), texts=pairs.texts, notes=tuple(notes))
    check_download(reading, model)
    from i0tscore.samples import read_samples

    found = read_samples(
        inputs.captions or "",
        images=inputs.images,
        references=inputs.references,
        on_error=inputs.on_error,
        **vars(reading),
    )
    references = [sample.references for sample in found.samples]
    contexts = [sample.context for sample in found.samples]
    return Inputs(
        images=[sample.image for sample in found.samples],
        captions=[sample.caption for sample in found.samples],
        references=references if any(references) else None,
        ids=[sample.id for sample in found.samples],
        contexts=contexts if any(contexts) else None,
        skipped=tuple(found.skipped),
        notes=tuple(found.notes),
    )


def check_embedding_options(reading: ReadOptions, model: ModelOptions | None) -> None:
    """Raise ``UsageError`` if options are given that have no effect on embeddings."""
    if reading.changed:
        raise UsageError(f"{', '.join(reading.changed)}: No effect on embeddings. Remove it.")
    if model is not None and (model.weights or model.precision != "fp32"):
        raise UsageError("--weights and --precision have no effect on embeddings. Remove them.")


def check_download(reading: ReadOptions, model: ModelOptions | None) -> None:
    """Raise ``UsageError`` if images are to be downloaded without using the network."""
    if (reading.download or reading.download_private) and model is not None and model.offline:
        raise UsageError("--download requires the network, which --offline does not allow. Remove one of them.")


def _check_model(model: ModelOptions, pairs: EmbeddedPairs) -> list[str]:
    """Warn if embeddings cannot be from the model named by ``--model``, if any, and return the warning as a note."""
    if click.get_current_context().get_parameter_source("model") is ParameterSource.DEFAULT:
        return []
    from i0tscore.encoders.known_means import contradictions
    from i0tscore.gap.measures import VectorSum

    sums = VectorSum.of(pairs.images), VectorSum.of(pairs.captions)
    found = contradictions(str(model.model), *(one.total / one.count for one in sums))
    if not found:
        return []
    note = f"The embeddings cannot be from --model {model.model}: {' '.join(found)} Check which model encoded them."
    warnings.warn(note, UserWarning, stacklevel=3)
    return [note]


def make_scorer(model: ModelOptions, on_error: str, **settings: Any) -> I0TScorer:
    """Return a scorer, which loads its model at first use; settings are those of ``I0TScorer``."""
    from i0tscore.metrics.scorer import I0TScorer

    return I0TScorer(preset=model.preset, **model.encoding(on_error), **settings)


def make_encoder(model: ModelOptions, on_error: str, prefix: str | None = None) -> RunEncoder:
    """Return an encoder for commands that compute no scores, with the prefix of the preset if None is given."""
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.metrics.metric import PRESETS

    options = EncodeOptions(**model.encoding(on_error))
    return RunEncoder(options, PRESETS[model.preset].prefix if prefix is None else prefix)


def write_report(
    report: Any, output: OutputOptions, document: Callable[[Any], Document], csv: Callable[[Any], str]
) -> None:
    """Write a report to stdout or a file.

    Args:
        report: What was measured, with a method ``to_dict``.
        output: The format, and the file.
        document: Lays the report out for readers.
        csv: Returns the report as CSV.
    """
    if output.format == "json":
        from i0tscore.results.report import dumps

        text = dumps(report.to_dict(), indent=2) + "\n"
    elif output.format == "csv":
        text = csv(report)
    else:
        text = render(document(report), output.format, output.path)
    write_output(text, output.path)


def render(document: Document, output_format: str, path: Path | None = None) -> str:
    """Return a document in a format for readers, fitted to the screen if ``path`` is None."""
    width, color = TEXT_WIDTH, path is None and wants_color(sys.stdout)
    if path is None and sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, _MIN_WIDTH)
    return RENDERERS[output_format](document, width=width, color=color)
