"""From options to a scorer and what it scores."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from i0tscore.cli.options import InputOptions, ModelOptions
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.metrics.scorer import I0TScorer
    from i0tscore.samples import Skipped


@dataclass(frozen=True)
class Inputs:
    """Arguments of ``I0TScorer.score``, and what reading had to say.

    Attributes:
        images: Images, or embeddings (n, d).
        captions: Captions, or embeddings (n, d).
        references: Of every sample, or None.
        ids: Sample ids.
        texts: The captions where ``captions`` are embeddings; empty if they are not known.
        skipped: What could not be read.
        notes: What else a reader should know.
    """

    images: Any
    captions: Any
    references: list[tuple[str, ...]] | None
    ids: list[str]
    texts: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def read_inputs(options: InputOptions) -> Inputs:
    """Read a caption file, two files of embeddings, or a folder of them.

    Raises:
        InputError: What is wrong with the files, all of it.
        UsageError: A folder of embeddings is given with images or references.
    """
    if options.captions is None:
        from i0tscore.samples.embeddings import pair_embeddings

        pairs = pair_embeddings(options.image_embeddings or "", options.caption_embeddings or "")
        return Inputs(pairs.images, pairs.captions, None, list(pairs.ids))
    from i0tscore.samples import read_samples
    from i0tscore.samples.formats import find_pair_reader

    if read_pairs := find_pair_reader(options.captions):
        if any((options.folder, options.references_file, options.annotations, options.input_format)):
            raise UsageError(
                f"{options.captions} holds embeddings, which are scored without images, references, annotations "
                "and input format"
            )
        pairs = read_pairs(options.captions)
        return Inputs(pairs.images, pairs.captions, None, list(pairs.ids), pairs.texts)
    found = read_samples(
        options.captions,
        images=options.folder,
        references=options.references_file,
        annotations=options.annotations,
        input_format=options.input_format,
        on_error="skip" if options.on_error == "skip" else "raise",
    )
    references = [sample.references for sample in found.samples]
    return Inputs(
        images=[sample.image for sample in found.samples],
        captions=[sample.caption for sample in found.samples],
        references=references if any(references) else None,
        ids=[sample.id for sample in found.samples],
        skipped=tuple(found.skipped),
        notes=tuple(found.notes),
    )


def refuse_unused(inputs: InputOptions, model: ModelOptions) -> None:
    """Refuse options of an encoder where embeddings are given.

    Raises:
        UsageError: Naming them.
    """
    from i0tscore.samples.formats import find_pair_reader

    encoded = inputs.captions is None or find_pair_reader(inputs.captions)
    if encoded and (model.weights or model.precision != "fp32"):
        raise UsageError("embeddings are encoded already: --weights and --precision would do nothing")


def make_scorer(options: ModelOptions, *, on_error: str, **settings: Any) -> I0TScorer:
    """Make the scorer that the options describe; its weights are loaded when it is used.

    Args:
        options: How to encode.
        on_error: ``raise`` or ``skip``.
        settings: Arguments of ``I0TScorer`` that only some verbs have.
    """
    from i0tscore.metrics.scorer import I0TScorer

    return I0TScorer(**encoding_settings(options, on_error=on_error), **settings)


def make_encoder(options: ModelOptions, *, on_error: str, prefix: str | None = None) -> RunEncoder:
    """Make what encodes, for verbs that score nothing.

    Args:
        options: How to encode.
        on_error: ``raise`` or ``skip``.
        prefix: Before each text; that of the preset if None.
    """
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.encoders.options import EncodeOptions
    from i0tscore.metrics.metric import PRESETS

    settings = encoding_settings(options, on_error=on_error)
    preset = PRESETS[settings.pop("preset")]
    return RunEncoder(EncodeOptions(**settings), preset.prefix if prefix is None else prefix)


def encoding_settings(options: ModelOptions, *, on_error: str) -> dict[str, Any]:
    """The arguments of ``I0TScorer`` that say how to encode."""
    from i0tscore.encoders.cache import default_cache_dir

    return {
        "model": options.model,
        "weights": options.weights,
        "preset": options.preset,
        "precision": options.precision,
        "device": options.device,
        "batch_size": options.batch_size,
        "workers": options.workers,
        "long_captions": options.long_captions,
        "on_error": on_error,
        "cache_dir": None if options.no_cache else options.cache_dir or default_cache_dir(),
        "offline": options.offline,
        "progress": sys.stderr.isatty() and not options.quiet,
    }
