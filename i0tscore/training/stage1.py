"""Stage 1 of I0T (An et al. 2025): fine-tune a CLIP on long captions, on one or several processes.

The result is a folder that loads as ``local-dir:FOLDER``, like any other open_clip model. Run it with
``python -m i0tscore.training.stage1`` or ``torchrun -m i0tscore.training.stage1``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from i0tscore.encoders import load_encoder
from i0tscore.encoders.attention import attention_dropout
from i0tscore.encoders.base import Encoder, Tokens
from i0tscore.encoders.images import ImageInput, decode
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.encoders.text import TextTower
from i0tscore.errors import I0TScoreError, InputError, UsageError
from i0tscore.samples import Sample, read_samples
from i0tscore.training.losses import i0t_loss
from i0tscore.training.positions import CONFIG_FILE, KEPT_POSITIONS, LONG_CONTEXT, write_stretched, write_weights
from i0tscore.training.trainer import IntArray, Recipe, Trainer, step_seed, write_tensors

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
NORMS = "output-norms.safetensors"
MAX_LOGIT_SCALE = 100.0
"""Upper limit of CLIP's logit scale."""
RELEASED_SMOOTHING = 0.1
"""Label smoothing of the authors' code without cyclic losses (LCO)."""


@dataclass(frozen=True, slots=True)
class Stage1Recipe(Recipe):
    """Hyperparameters of stage 1.

    The rows of An et al. 2025, Table 1: LCO is ``cyclic_weight=0, mcsie=False``; LCCO is ``mcsie=False``;
    LCCOM is the default; "+ LN" is ``layer_norm=True``. Optimizer and dropout are those the paper states
    for its second stage. The logit scale is learned, up to 100.

    With ``as_released``, as in the authors' code, the kept positions are frozen; the logit scale starts at 100 and has
    no limit; LCO has a label smoothing of 0.1; and with cyclic losses, each process computes the loss of its own batch.

    Attributes:
        context_length: Context length of the text tower.
        kept_positions: Number of leading positions to keep unchanged.
        layer_norm: Whether to train with a LayerNorm after each encoder, which is written to a file of its
            own and is not part of the encoder.
    """

    context_length: int = LONG_CONTEXT
    kept_positions: int = KEPT_POSITIONS
    layer_norm: bool = False


class PairTowers(nn.Module):
    """Both towers of an encoder behind a single ``forward``, as ``DistributedDataParallel`` requires.

    Args:
        encoder: The encoder, whose parameters become trainable.
        recipe: Sets dropout and LayerNorms.
    """

    def __init__(self, encoder: OpenClipEncoder, recipe: Stage1Recipe) -> None:
        super().__init__()
        self.encoder = encoder
        self._passes = 2 if recipe.mcsie else 1
        self._dropout = recipe.dropout if recipe.mcsie else 0.0
        self._as_released = recipe.as_released
        self.model = encoder.model.requires_grad_(True)
        if recipe.as_released:
            self.model.logit_scale.data.fill_(math.log(MAX_LOGIT_SCALE))
        if getattr(self.model, "logit_bias", None) is not None:
            self.model.logit_bias.requires_grad_(False)  # SigLIP's; this loss does not use it
        norms = (nn.LayerNorm(encoder.dimension) for _ in range(2)) if recipe.layer_norm else ()
        self.norms = nn.ModuleList(norms).to(encoder.device)

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode n images and n texts, twice under MCSIE.

        Returns:
            Unit embeddings of the images and of the captions (passes · n, d), and the logit scale.
        """
        pixels, ids = pixels.repeat(self._passes, 1, 1, 1), ids.repeat(self._passes, 1)
        dropout = attention_dropout(self.model, self._dropout, mlp=self._as_released)
        with dropout if self._dropout else nullcontext():
            features = [self.encoder.image_features(pixels), self.encoder.text_features(ids)]
        x, y = (functional.normalize(rows.float(), dim=-1) for rows in features)
        if len(self.norms):
            x, y = (functional.normalize(norm(rows), dim=-1) for norm, rows in zip(self.norms, (x, y), strict=True))
        scale = self.model.logit_scale.float().exp()
        return x, y, scale if self._as_released else scale.clamp(max=MAX_LOGIT_SCALE)


def stage1_loss(
    images: torch.Tensor, captions: torch.Tensor, scale: torch.Tensor, recipe: Stage1Recipe
) -> torch.Tensor:
    """Compute the loss of an output of ``PairTowers`` over the batches of all processes, the same in each of them.

    Averaged by ``DistributedDataParallel``, its gradients are those of a single process with the whole batch. See
    ``Stage1Recipe`` for the loss of the authors' code.
    """
    passes = 2 if recipe.mcsie else 1
    x, y = (list(rows.chunk(passes)) for rows in (images, captions))
    if not (recipe.as_released and recipe.cyclic_weight):
        x, y = ([gather(part) for part in side] for side in (x, y))
    smoothing = RELEASED_SMOOTHING if recipe.as_released and not recipe.cyclic_weight else 0.0
    return i0t_loss(x, y, scale, recipe.cyclic_weight, smoothing=smoothing)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes (processes · n, d), with gradients for those of this process.

    The gradients are multiplied by the number of processes, because averaging will divide by it.
    """
    if not distributed.is_initialized():
        return rows
    world = distributed.get_world_size()
    gathered = [torch.empty_like(rows) for _ in range(world)]
    distributed.all_gather(gathered, rows.detach().contiguous())
    own = rows.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * world)  # type: ignore[no-untyped-call]
    gathered[distributed.get_rank()] = own
    return torch.cat(gathered)


class Stage1Trainer(Trainer):
    """A resumable training run of stage 1.

    Args:
        encoder: A model in fp32 with stretched positions; its parameters are trained in place.
        images: Image of each pair, as for ``I0TScorer.score``.
        captions: Caption of each pair, with prefix.
        image_index: Index of each pair's image (n,).
        recipe: Hyperparameters.
        seed: Seed of the order of the pairs and of dropout.
        folder: Folder of the model, where log, checkpoint and weights are written.
        model: Description of the initial model; a checkpoint of a run from another one is rejected.
        workers: Number of processes that load images; 0 loads them in this process.
        autocast: Whether the towers compute in bf16 where that is safe; weights stay in fp32.

    Raises:
        InputError: There are fewer pairs than a step of all processes needs.
    """

    def __init__(
        self,
        encoder: OpenClipEncoder,
        images: Sequence[ImageInput],
        captions: Sequence[str],
        image_index: IntArray,
        recipe: Stage1Recipe,
        *,
        seed: int,
        folder: Path,
        model: str = "",
        workers: int = 0,
        autocast: bool = False,
    ) -> None:
        self._encoder, self._recipe, self._folder = encoder, recipe, folder
        self._images, self._tokens = images, encoder.tokenize(captions)
        self._workers, self._autocast = workers, autocast
        self._rank, self._world = _rank(), distributed.get_world_size() if distributed.is_initialized() else 1
        batch_size = recipe.batch_size * self._world
        if len(images) < batch_size:
            raise InputError(
                f"Expected at least {batch_size} pairs for a step, got {len(images)}. "
                "Use smaller batches or more pairs."
            )
        content = "\n".join(captions).encode() + np.ascontiguousarray(image_index).tobytes()
        identity = {"model": model, "pairs": hashlib.sha256(content).hexdigest()[:16], "world": self._world}
        torch.manual_seed(seed)
        self.towers = PairTowers(encoder, recipe)
        self._wrapped: nn.Module = DistributedDataParallel(self.towers) if distributed.is_initialized() else self.towers
        super().__init__(self.towers, recipe, image_index, batch_size=batch_size, seed=seed, identity=identity)
        if recipe.as_released:
            self._freeze_kept_positions()

    def _freeze_kept_positions(self) -> None:
        # Gradients of zero are not enough, because AdamW's weight decay would still change these rows.
        tower: Any = TextTower(self._encoder.model).module
        rows = tower.positional_embedding.data[: self._recipe.kept_positions]
        kept = rows.clone()

        def restore(*_: object) -> None:
            rows.copy_(kept)

        self.optimizer.register_step_post_hook(restore)

    def run(self, *, every: int = 500, progress: bool = False, stop_after: int | None = None) -> None:
        """Train to the end, resuming from the checkpoint in the folder if there is one, and write the weights.

        Args:
            every: Steps between two checkpoints.
            progress: Whether to show a progress bar on stderr.
            stop_after: Number of steps after which to stop with a checkpoint.

        Raises:
            InputError: The checkpoint is damaged or belongs to another run, or the loss is not finite.
        """
        checkpoint = self._folder / CHECKPOINT
        if checkpoint.exists():
            self.resume(checkpoint)
        end = self.total if stop_after is None else min(self.total, self.step + stop_after)
        with self._open_log() as self._log:
            self.train(checkpoint if self._rank == 0 else None, end=end, every=every, progress=progress)
        if self._rank == 0 and self.step == self.total:
            write_weights(self.towers.model.state_dict(), self._folder)
            if len(self.towers.norms):
                write_tensors(self._folder / NORMS, self.towers.norms.state_dict())

    def _open_log(self) -> TextIO:
        """Open the log without the lines of steps that will be repeated; only the first process has one."""
        file = self._folder / LOG if self._rank == 0 else Path(os.devnull)
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        file.write_text("".join(lines[: self.step]), encoding="utf-8")
        return file.open("a", buffering=1, encoding="utf-8")

    def load(self, batches: list[IntArray]) -> Iterable[tuple[torch.Tensor, list[Tokens]]]:
        """Load this process's share of every batch: preprocessed images and tokens, on the CPU."""
        # The row numbers go to the worker processes, which load the images and cannot use CUDA.
        return DataLoader(
            range(len(self._images)),  # type: ignore[arg-type]
            batch_sampler=[rows[self._rank :: self._world].tolist() for rows in batches],
            num_workers=self._workers,
            collate_fn=self._load_rows,
        )

    def _load_rows(self, rows: list[int]) -> tuple[torch.Tensor, list[Tokens]]:
        pixels = torch.stack([self._encoder.preprocess(decode(self._images[row])) for row in rows])
        return pixels, [self._tokens[row] for row in rows]

    def loss(self, batch: tuple[torch.Tensor, list[Tokens]], rate: float) -> torch.Tensor:
        """Compute and log the loss of a batch.

        Raises:
            InputError: The loss is not finite.
        """
        pixels, tokens = batch
        # Dropout follows from seed, step and rank alone, so a resumed run repeats it.
        torch.manual_seed(step_seed(self._seed, self.step, self._rank))
        device = self._encoder.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._autocast):
            images, captions, scale = self._wrapped(pixels.to(device), self._encoder.pad(tokens))
        loss = stage1_loss(images, captions, scale, self._recipe)
        number = self.step + 1
        if not torch.isfinite(loss):
            raise InputError(f"The loss is not finite at step {number}. Try a lower learning rate, or fp32.")
        self._log.write(json.dumps({"step": number, "loss": loss.item(), "rate": rate, "scale": scale.item()}) + "\n")
        return loss


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
    """Stretch the positions of a model and fine-tune it on captions.

    Args:
        model: Model name, as for ``load_encoder``.
        samples: Images with captions, as from ``read_samples``.
        output: Output folder; an interrupted run resumes from the last checkpoint in it.
        recipe: Hyperparameters.
        weights: File with initial weights, instead of the model's own.
        from_scratch: Whether to start from random weights.
        join: Whether to join all captions of an image into a long one.
        seed: Seed of the initial weights, the order of the pairs and dropout.
        device: A torch device.
        every: Steps between two checkpoints.
        progress: Whether to show a progress bar on stderr.
        **options: ``workers`` and ``autocast`` of ``Stage1Trainer``.

    Returns:
        The name that loads the result, ``local-dir:OUTPUT``.

    Raises:
        I0TScoreError: The model, the captions or the folder cannot be used.
    """
    name = f"local-dir:{output}"
    if _rank() == 0 and not (output / CHECKPOINT).is_file():
        if (output / CONFIG_FILE).is_file() and not (output / LOG).is_file():
            raise UsageError(f"{output} contains a model that is not from this command. Choose another folder.")
        start = _random_model(model, seed) if from_scratch else _trainable(load_encoder(model, weights=weights), model)
        write_stretched(start, model, output, length=recipe.context_length, keep=recipe.kept_positions)
        (output / LOG).touch()
    if distributed.is_initialized():
        distributed.barrier()
    encoder = _trainable(load_encoder(name, device=device, offline=True), name)
    images, captions, image_index = long_captions(samples, join=join)
    initial = f"{model} from scratch" if from_scratch else model
    trainer = Stage1Trainer(
        encoder, images, captions, image_index, recipe, seed=seed, folder=output, model=initial, **options
    )
    trainer.run(every=every, progress=progress and _rank() == 0)
    return name


def long_captions(samples: Sequence[Sample], *, join: bool) -> tuple[list[Any], list[str], IntArray]:
    """Return the images, captions and image indices (n,) of training pairs.

    Args:
        samples: Images with captions.
        join: Whether to join all captions of an image into one, in order, each ending with a period.

    Raises:
        InputError: There are fewer than two images.
    """
    by_image: dict[str, list[Sample]] = {}
    for sample in samples:
        by_image.setdefault(sample.image.name, []).append(sample)
    if len(by_image) < 2:
        raise InputError(f"Contrastive training needs captions of at least two images, got {len(by_image)}.")
    if join:
        samples = [group[0] for group in by_image.values()]
        sentences = ([f"{sample.caption.strip().rstrip(' .')}." for sample in group] for group in by_image.values())
        captions = [" ".join(group) for group in sentences]
    else:
        captions = [sample.caption for sample in samples]
    numbers = {name: number for number, name in enumerate(by_image)}
    image_index = np.array([numbers[sample.image.name] for sample in samples], dtype=np.int64)
    return [sample.image for sample in samples], captions, image_index


def _trainable(encoder: Encoder, model: str) -> OpenClipEncoder:
    if not isinstance(encoder, OpenClipEncoder) or encoder.fingerprint.name == "lite":
        raise UsageError(f"{model} has no trainable text tower. Choose an open_clip model.")
    return encoder


def _random_model(model: str, seed: int) -> OpenClipEncoder:
    """Build a model with random weights."""
    import open_clip

    torch.manual_seed(seed)
    try:
        built, _, transform = open_clip.create_model_and_transforms(model, load_weights=False, pretrained_text=False)
    except (RuntimeError, OSError, ValueError) as error:
        raise UsageError(
            f"Cannot build {model} with random weights. Use an architecture that open_clip lists, "
            "without a tag, or local-dir: with a folder that contains open_clip_config.json."
        ) from error
    return OpenClipEncoder(built, open_clip.get_tokenizer(model), transform, name=model)


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("captions", type=_PATH)
@click.argument("images", type=_PATH)
@click.option("--model", required=True, help="open_clip model to start from, as for i0tscore.")
@click.option("--weights", type=_PATH, help="File with initial weights, instead of the model's own.")
@click.option("--from-scratch", is_flag=True, help="Start from random weights.")
@click.option("--output", type=_PATH, required=True, help="Folder for the model, its log and its checkpoint.")
@click.option("--join", is_flag=True, help="Join all captions of an image into a long one.")
@click.option("--epochs", type=int, default=3, show_default=True, help="Passes over the pairs.")
@click.option("--batch-size", type=int, default=64, show_default=True, help="Pairs per step and process.")
@click.option("--learning-rate", type=float, default=1e-6, show_default=True, help="Peak learning rate of AdamW.")
@click.option("--warmup", type=int, default=200, show_default=True, help="Warmup steps.")
@click.option("--context-length", type=int, default=248, show_default=True, help="Tokens the text tower can read.")
@click.option("--cyclic-weight", type=float, default=0.25, show_default=True, help="0 for the paper's LCO.")
@click.option("--mcsie/--no-mcsie", default=True, show_default=True, help="Encode each batch twice under dropout.")
@click.option("--as-released", is_flag=True, help="Follow the authors' code where it differs from the paper.")
@click.option("--layer-norm", is_flag=True, help="LayerNorm after each encoder: the paper's LN rows.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of weights, order and dropout.")
@click.option("--device", default="cpu", show_default=True, help="Under torchrun, cuda means each process's own GPU.")
@click.option("--autocast", is_flag=True, help="Mixed precision in bf16.")
@click.option("--workers", type=int, default=0, show_default=True, help="Processes that load images.")
@click.option("--checkpoint-every", "every", type=int, default=500, show_default=True, help="Steps.")
def main(captions: Path, images: Path, **options: Any) -> None:
    """Fine-tune an open_clip model on CAPTIONS of the images in IMAGES (stage 1 of I0T)."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("i0tscore").setLevel(logging.INFO)
    fields = {key: options.pop(key) for key in list(options) if key in Stage1Recipe.__dataclass_fields__}
    if options["device"] == "cuda" and "LOCAL_RANK" in os.environ:
        options["device"] = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        samples = read_samples(captions, images=images).samples
        name = fine_tune(options.pop("model"), samples, recipe=Stage1Recipe(**fields), progress=True, **options)
        if _rank() == 0:
            click.echo(name)
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


if __name__ == "__main__":
    main()
