"""Stage 1 of I0T from a caption file: ``python -m i0tscore.training.stage1_run``, or ``torchrun -m``."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import distributed

from i0tscore.encoders import load_encoder
from i0tscore.encoders.base import Encoder
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.errors import I0TScoreError, InputError, UsageError
from i0tscore.samples import Sample, read_samples
from i0tscore.training.positions import CONFIG_FILE, write_stretched
from i0tscore.training.schedule import Rows
from i0tscore.training.stage1 import CHECKPOINT, LOG, Stage1Trainer, process_group, rank
from i0tscore.training.stage1_model import Stage1Recipe

_PATH = click.Path(path_type=Path)


def fine_tune(
    model: str,
    samples: Sequence[Sample],
    output: Path,
    recipe: Stage1Recipe,
    *,
    weights: Path | None = None,
    from_scratch: bool = False,
    join: bool = False,
    seed: int = 7,
    device: str = "cpu",
    every: int = 500,
    progress: bool = False,
    **options: Any,
) -> str:
    """Fine-tune a model on captions, stretching its positions first.

    Args:
        model: As ``load_encoder`` takes it.
        samples: Images with captions, as ``read_samples`` gives them.
        output: Folder of the result; a run broken off there goes on from its last checkpoint.
        recipe: How.
        weights: A file to begin from instead of the model's own.
        from_scratch: Begin from random weights.
        join: Make one long caption of all captions of an image.
        seed: Of initial weights, order and dropout.
        device: A torch device.
        every: Steps between two checkpoints.
        progress: Whether to show a bar on stderr.
        **options: ``workers`` and ``autocast`` of ``Stage1Trainer``.

    Returns:
        The name to load the result by.

    Raises:
        I0TScoreError: The model, the captions or the folder cannot be used; the message says what.
    """
    name = f"local-dir:{output}"
    if rank() == 0 and not (output / CHECKPOINT).is_file():
        if (output / CONFIG_FILE).is_file() and not (output / LOG).is_file():
            raise UsageError(f"{output} holds a model that was not made here: give another folder")
        start = _random(model, seed) if from_scratch else _trainable(load_encoder(model, weights=weights), model)
        length, keep = recipe.context_length, recipe.kept_positions
        write_stretched(start, model, output, length=length, keep=keep)
        (output / LOG).touch()
    if distributed.is_initialized():
        distributed.barrier()
    encoder = _trainable(load_encoder(name, device=device, offline=True), name)
    images, captions, groups = long_captions(samples, join=join)
    begun_from = f"{model} from scratch" if from_scratch else model
    trainer = Stage1Trainer(
        encoder, images, captions, groups, recipe, seed=seed, folder=output, model=begun_from, **options
    )
    trainer.run(every=every, progress=progress and rank() == 0)
    return name


def long_captions(samples: Sequence[Sample], *, join: bool) -> tuple[list[Any], list[str], Rows]:
    """Images, captions and image numbers of the pairs.

    Args:
        samples: With ``join`` all captions of an image become one, in their order, each with a full stop.
        join: Whether to.

    Raises:
        InputError: There are no two images.
    """
    rows: dict[str, list[Sample]] = {}
    for sample in samples:
        rows.setdefault(sample.image.name, []).append(sample)
    if len(rows) < 2:
        raise InputError("contrastive training needs captions of at least two images")
    if join:
        samples = [group[0] for group in rows.values()]
        captions = [" ".join(_sentence(sample.caption) for sample in group) for group in rows.values()]
    else:
        captions = [sample.caption for sample in samples]
    numbers = {name: number for number, name in enumerate(rows)}
    groups = np.array([numbers[sample.image.name] for sample in samples], dtype=np.int64)
    return [sample.image for sample in samples], captions, groups


def _sentence(text: str) -> str:
    return f"{text.strip().rstrip(' .')}."


def _trainable(encoder: Encoder, model: str) -> OpenClipEncoder:
    if not isinstance(encoder, OpenClipEncoder) or encoder.fingerprint.name == "lite":
        raise UsageError(f"{model} has no text tower to be trained: take an open_clip model")
    return encoder


def _random(model: str, seed: int) -> OpenClipEncoder:
    """A model of this architecture with random weights."""
    import open_clip

    torch.manual_seed(seed)
    try:
        built, _, transform = open_clip.create_model_and_transforms(model, load_weights=False, pretrained_text=False)
    except (RuntimeError, OSError, ValueError) as error:
        raise UsageError(
            f"{model} cannot be built with random weights: take an architecture that open_clip lists, "
            "without a tag, or local-dir: with a folder that has an open_clip_config.json"
        ) from error
    return OpenClipEncoder(built, open_clip.get_tokenizer(model), transform, name=model)


@click.command()
@click.argument("captions", type=_PATH)
@click.argument("images", type=_PATH)
@click.option("--model", required=True, help="open_clip model to begin from, as for i0tscore.")
@click.option("--weights", type=_PATH, help="Weights to begin from instead of the hub's.")
@click.option("--from-scratch", is_flag=True, help="Begin from random weights.")
@click.option("--output", type=_PATH, required=True, help="Folder of the model, its log and checkpoint.")
@click.option("--join", is_flag=True, help="Join all captions of an image into a long one.")
@click.option("--epochs", type=int, default=3, show_default=True)
@click.option("--batch-size", type=int, default=64, show_default=True, help="Pairs a step and process.")
@click.option("--learning-rate", type=float, default=1e-6, show_default=True)
@click.option("--warmup", type=int, default=200, show_default=True)
@click.option("--context-length", type=int, default=248, show_default=True)
@click.option("--cyclic-weight", type=float, default=0.25, show_default=True, help="0 for the paper's LCO.")
@click.option("--mcsie/--no-mcsie", default=True, show_default=True)
@click.option("--layer-norm", is_flag=True, help="A LayerNorm behind each encoder: the paper's LN rows.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cuda takes each process's own under torchrun.")
@click.option("--autocast", is_flag=True, help="Mixed precision, bf16.")
@click.option("--workers", type=int, default=0, show_default=True, help="Processes that prepare images.")
@click.option("--checkpoint-every", "every", type=int, default=500, show_default=True)
def main(captions: Path, images: Path, **options: Any) -> None:
    """Fine-tune an open_clip model on CAPTIONS of the photographs in IMAGES (stage 1 of I0T)."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("i0tscore").setLevel(logging.INFO)
    fields = {key: options.pop(key) for key in list(options) if key in Stage1Recipe.__dataclass_fields__}
    if options["device"] == "cuda" and "LOCAL_RANK" in os.environ:
        options["device"] = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        with process_group():
            samples = read_samples(captions, images=images).samples
            name = fine_tune(options.pop("model"), samples, recipe=Stage1Recipe(**fields), progress=True, **options)
            if rank() == 0:
                click.echo(name)
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
