"""I0T_async (An et al. 2025): a trained BatchNorm1d after each frozen encoder.

Only 4 · d parameters are trained. The running means and variances, which follow the batches, do most of
the work; ``docs/research/i0t-async.md`` has the ablation.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from i0tscore.encoders import load_encoder
from i0tscore.encoders.attention import attention_dropout, attention_layers
from i0tscore.encoders.encode import as_embeddings, ordered
from i0tscore.encoders.images import ImageInput, decode
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import InputError, UsageError
from i0tscore.gap import Normalization, NormalizationPair
from i0tscore.metrics.metric import PRESETS
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.metrics.statistics_choice import run_statistics
from i0tscore.training.losses import i0t_loss
from i0tscore.training.trainer import IntArray, Recipe, Trainer, step_seed

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics

CHECKPOINT = "async.safetensors"

_UNSETTLED = 0.01
"""Share of the initial running statistics above which a warning is issued."""


@dataclass(frozen=True, slots=True)
class AsyncRecipe(Recipe):
    """Hyperparameters of I0T_async; the defaults are those of An et al. 2025.

    Attributes:
        logit_scale: Fixed scale of the cosines.
        momentum: Weight of a batch in the running statistics; None weights all batches equally.
        eps: Added to the variance.

    Raises:
        UsageError: A value is out of range, or ``as_released`` has no effect.
    """

    logit_scale: float = 100.0
    momentum: float | None = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Check the values."""
        Recipe.__post_init__(self)
        if self.as_released and not self.mcsie:
            raise UsageError("as_released changes the dropout of MCSIE, which is off. Train with MCSIE, or without it.")

    @property
    def mcsie_text(self) -> str:
        """Description of MCSIE for the source of statistics."""
        if not self.mcsie:
            return "no MCSIE"
        return f"MCSIE dropout {self.dropout:g}{', also behind MLPs' * self.as_released}"


Passes: TypeAlias = tuple[list[torch.Tensor], list[torch.Tensor]]
"""Unit embeddings (n, d) of the images and of the captions of one batch, one tensor per pass."""


class Pairs(Protocol):
    """Source of training batches.

    Attributes:
        image_index: Index of each pair's image (n,).
        dimension: Length of an embedding.
        identity: Hash of the data, which a checkpoint must match.
    """

    image_index: IntArray
    dimension: int
    identity: str

    def passes(self, rows: IntArray, seed: int) -> Passes:
        """Return the embeddings of some pairs; the same rows and seed give the same result."""


class CachedPairs:
    """Pairs that have been embedded: one pass per modality.

    Args:
        images: Unit embeddings (n, d), float32.
        captions: Unit embeddings (n, d), float32; row i matches image i.
        image_index: Index of each pair's image (n,).
    """

    def __init__(self, images: NDArray[np.float32], captions: NDArray[np.float32], image_index: IntArray) -> None:
        self.images, self.captions, self.image_index = images, captions, image_index
        self.dimension = images.shape[1]
        arrays = (images, captions, image_index)
        self.identity = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

    def passes(self, rows: IntArray, seed: int) -> Passes:
        """Return the embeddings of some pairs; the seed has no effect."""
        return [torch.from_numpy(self.images[rows])], [torch.from_numpy(self.captions[rows])]


class DropoutPairs:
    """Pairs encoded twice per batch under attention dropout (MCSIE).

    Image towers without attention (``lite``, ResNets) have nothing to drop. Their images come from
    ``cached`` in one pass, which gives the same mean loss as two identical passes.

    Args:
        encoder: An ``OpenClipEncoder``; its weights do not change.
        images: Image of each pair (n).
        captions: Caption of each pair (n), with prefix; truncated to the context length.
        cached: Embeddings of the same pairs without dropout.
        dropout: Share of the attention weights to drop.
        mlp: Whether to apply dropout to the output of every MLP too.

    Raises:
        UsageError: The encoder does not expose a model.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: Sequence[ImageInput],
        captions: Sequence[str],
        cached: CachedPairs,
        dropout: float = 0.1,
        *,
        mlp: bool = False,
    ) -> None:
        model = getattr(encoder, "model", None)
        if not isinstance(model, nn.Module):
            raise UsageError("MCSIE needs an encoder with a PyTorch model. Train without it (--no-mcsie).")
        self._encoder, self._cached = encoder, cached
        self._dropout = partial(attention_dropout, model, dropout, mlp=mlp)
        self._images = images if attention_layers(getattr(model, "visual", model)) else None
        self._tokens = encoder.tokenize(captions)
        self.image_index, self.dimension, self.identity = cached.image_index, cached.dimension, cached.identity

    def passes(self, rows: IntArray, seed: int) -> Passes:
        """Encode some pairs twice; the seed determines the dropout, and torch's generator is restored."""
        device: Any = getattr(self._encoder, "device", torch.device("cpu"))
        tokens = [self._tokens[row] for row in rows]
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            self._dropout(),
        ):
            torch.manual_seed(seed)
            # The encoder returns inference tensors: cloned, they can take part in a backward pass.
            images, _ = self._cached.passes(rows, seed)
            if self._images is not None:
                pixels = torch.stack([self._encoder.preprocess(decode(self._images[row])) for row in rows])
                images = [self._encoder.encode_pixels(pixels).cpu().clone() for _ in range(2)]
            captions = [self._encoder.encode_tokens(tokens).cpu().clone() for _ in range(2)]
        return images, captions


class AsyncTrainer(Trainer):
    """A resumable training run of I0T_async.

    A resumed run gives the same bytes as an uninterrupted one (on one machine with the same number of
    threads).

    Args:
        pairs: Training pairs.
        recipe: Hyperparameters.
        seed: Seed of the order of the pairs and of dropout.

    Raises:
        InputError: There are fewer than two pairs.
    """

    def __init__(self, pairs: Pairs, recipe: AsyncRecipe, seed: int) -> None:
        count = len(pairs.image_index)
        if count < 2:
            raise InputError(f"Expected at least 2 pairs for batch statistics, got {count}. Add more pairs.")
        self._pairs, self._recipe = pairs, recipe
        batch_size = min(recipe.batch_size, count)
        self._norms = nn.ModuleList(
            nn.BatchNorm1d(pairs.dimension, eps=recipe.eps, momentum=recipe.momentum) for _ in range(2)
        )
        identity = {"pairs": pairs.identity}
        super().__init__(self._norms, recipe, pairs.image_index, batch_size=batch_size, seed=seed, identity=identity)

    def run(
        self, checkpoint: Path | None = None, *, every: int = 100, progress: bool = False
    ) -> tuple[Normalization, Normalization]:
        """Train to the end and return the normalizations of images and of captions.

        Args:
            checkpoint: File to resume from if it exists, and to write checkpoints to.
            every: Steps between two checkpoints; another one is written at the end.
            progress: Whether to show a progress bar on stderr.

        Raises:
            InputError: The checkpoint is damaged or belongs to other data, another recipe or another seed.
        """
        if checkpoint is not None and checkpoint.exists():
            self.resume(checkpoint)
        self.train(checkpoint, end=self.total, every=every, progress=progress)
        initial = 0.0 if self._recipe.momentum is None else (1 - self._recipe.momentum) ** self.total
        if initial > _UNSETTLED:
            warnings.warn(
                f"After {self.total} steps, the running statistics still contain {100 * initial:.0f}% of their "
                "initial values. Train on more pairs, with smaller batches, or for more epochs.",
                UserWarning,
                stacklevel=2,
            )
        names = {"mean": "running_mean", "variance": "running_var", "weight": "weight", "bias": "bias"}
        states = [norm.state_dict() for norm in self._norms]
        image, caption = (
            Normalization(
                **{field: state[name].double().numpy() for field, name in names.items()}, eps=self._recipe.eps
            )
            for state in states
        )
        return image, caption

    def loss(self, batch: IntArray, rate: float) -> torch.Tensor:
        """Compute I0T's loss of some pairs, normalized with their batch statistics."""
        passes = self._pairs.passes(batch, step_seed(self._seed, self.step))
        images, captions = (
            [functional.normalize(norm(vectors), dim=-1) for vectors in modality]
            for norm, modality in zip(self._norms, passes, strict=True)
        )
        return i0t_loss(images, captions, self._recipe.logit_scale, self._recipe.cyclic_weight)


def fit_async(
    images: Iterable[Any],
    captions: Iterable[Any],
    *,
    model: str | Encoder = DEFAULT_MODEL,
    recipe: AsyncRecipe | None = None,
    seed: int = 12345,
    name: str = "async",
    source: str = "",
    checkpoints: str | Path | None = None,
    preset: str = "paper",
    **options: Any,
) -> Statistics:
    """Train I0T_async (An et al. 2025) on matched pairs, for the metric ``AsyncI0TScore``.

    The encoder does not change. Everything is encoded once. MCSIE, part of the paper's recipe, encodes
    everything twice more in each epoch; without it, or on embeddings, training takes seconds. Use several
    thousand pairs, because the running statistics follow the last batches.

    Args:
        images: Images or embeddings, as for ``I0TScorer.score``. MCSIE holds all images, so pass paths.
        captions: One matched caption per image.
        model: Encoder the statistics are for.
        recipe: Hyperparameters; those of the paper by default, without MCSIE for embeddings.
        seed: Seed of the order of the pairs and of dropout.
        name: Short name, shown in signatures.
        source: Description of the data; a description of the training is appended.
        checkpoints: Folder for the checkpoint; an interrupted run resumes from it.
        preset: Preset of ``I0TScorer``, which sets the caption prefix.
        **options: Other options of ``I0TScorer``.

    Returns:
        Statistics with the trained normalization, and with moments and reference distributions of the
        training pairs (in-sample).

    Raises:
        InputError: As for ``I0TScorer.score``; or there are fewer than two pairs, or the checkpoint belongs to
            another run.
        UsageError: MCSIE was requested for embeddings or for captions that are split.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 8)) + 1
        >>> statistics = fit_async(x, x + rng.normal(size=(2000, 8)) - 2)
        >>> normalization = statistics.fitted["normalization"]
        >>> [round(float(n.weight.mean()), 2) for n in (normalization.image, normalization.caption)]
        [1.0, 1.0]
    """
    embedded = as_embeddings(images) is not None
    recipe = recipe or AsyncRecipe(mcsie=not embedded)
    if recipe.mcsie and embedded:
        raise UsageError("MCSIE encodes under dropout and needs images and captions, got embeddings. Train without it.")
    if recipe.mcsie and options.get("long_captions") == "split":
        raise UsageError("MCSIE truncates long captions. Train without it, or do not split captions.")
    encoder, ids = None, None
    loading = {key: options.pop(key) for key in ("weights", "precision", "device", "offline") if key in options}
    if not embedded:
        encoder = load_encoder(model, **{"device": "auto", **loading}) if isinstance(model, str) else model
        images, captions = ordered(images, "images"), list(ordered(captions, "captions"))
        images = images if hasattr(images, "__getitem__") else list(images)
        ids = map(str, range(len(captions)))
    run = I0TScorer(encoder or model, preset=preset, **options).encode(images, captions, ids=ids)
    if run.skipped:
        warnings.warn(f"Skipped {len(run.skipped)} samples.", UserWarning, stacklevel=2)
    for note in run.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    prefix = PRESETS[preset].prefix
    cached = CachedPairs(*run.pairs, run.image_index)
    pairs: Pairs = cached
    if recipe.mcsie and encoder is not None:
        used: list[Any] = [images[int(position)] for position in run.ids]  # type: ignore[index]
        texts = [prefix + text for text in run.captions]
        pairs = DropoutPairs(encoder, used, texts, cached, recipe.dropout, mlp=recipe.as_released)
    trainer = AsyncTrainer(pairs, recipe, seed)
    checkpoint = None if checkpoints is None else Path(checkpoints) / CHECKPOINT
    normalization = NormalizationPair(*trainer.run(checkpoint, progress=bool(options.get("progress"))))
    training = (
        f"I0T_async: {trainer.total} steps in {recipe.epochs} epochs, rate {recipe.learning_rate:g}, "
        f"cyclic {recipe.cyclic_weight:g}, {recipe.mcsie_text}, seed {seed}; measured in-sample"
    )
    source = f"{source}; {training}" if source else training
    fingerprint = None if encoder is None else encoder.fingerprint
    statistics = run_statistics(run, fingerprint, prefix, name=name, source=source)
    return statistics.with_fitted(normalization=normalization).with_reference(*run.pairs, run.image_index)
