"""Inversion of images (OTI) and captions (OVI), after Mistretta et al., "Cross the Gap" (ICLR 2025)."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional
from tqdm import tqdm

from i0tscore.encoders.base import Encoder, PseudoPatchEncoder, PseudoTokenEncoder, Tokens
from i0tscore.encoders.encode import ordered
from i0tscore.encoders.loop import batches, check_positive
from i0tscore.errors import InputError, ModelError, UsageError
from i0tscore.inversion.inverted import InversionConfig, Inverted, read_batches, save_batch

TEMPLATE = "a photo of {}"
PAPER_INPUTS = {
    "ViT-B-32-quickgelu/openai": (1, 1),
    "ViT-L-14-quickgelu/openai": (1, 4),
    "ViT-B-32/datacomp_xl_s13b_b90k": (1, 1),
    "ViT-L-14/datacomp_xl_s13b_b90k": (1, 2),
    "ViT-B-16-SigLIP/webli": (1, 4),
}
"""The paper's numbers of pseudo-tokens (R) and pseudo-patches (P); both are 1 for other models."""

_PLACEHOLDERS = ("£", "*", "x")
"""Words to put in place of pseudo-tokens; the first that is a single token is used."""
_PREVIEW = 5
"""Number of ids or rows in a message."""
_DEVIATION = 0.02
"""Standard deviation of the initial pseudo-inputs, whose mean is 0."""
_PROGRESS = 1e-4
"""Decrease of the loss that counts as progress for ``patience``."""


class InvertOptions(TypedDict, total=False):
    """Options of both inversions.

    Attributes:
        ids: Distinct ids of the items; their positions by default. The initial pseudo-inputs of an item depend on
            ``seed`` and its id, so its result does not depend on the other items.
        lr: Learning rate of AdamW, 0.02 by default.
        weight_decay: Weight decay of AdamW, 0.01 by default.
        batch_size: Number of items to invert at a time, 64 by default.
        seed: Seed of the initial pseudo-inputs, 42 by default.
        eval_steps: Increasing numbers of updates after which to record losses and vectors; 0 is the start.
        patience: Stop an item when its loss has not decreased by 1e-4 within this many updates, and return its
            best vector. By default, every item gets all updates and its last vector, as in the paper.
        progress: Whether to show a progress bar on stderr.
        resume: Folder of finished batches, from which an interrupted run resumes.
    """

    ids: Sequence[str] | None
    lr: float
    weight_decay: float
    batch_size: int
    seed: int
    eval_steps: Collection[int]
    patience: int | None
    progress: bool
    resume: str | Path | None


def invert_images(
    encoder: Encoder,
    image_vectors: ArrayLike,
    *,
    tokens: int | None = None,
    template: str = TEMPLATE,
    steps: int = 150,
    **options: Unpack[InvertOptions],
) -> Inverted:
    """Find a prompt for each image whose text features match the image embedding (OTI).

    Pseudo-tokens, vectors in place of word embeddings, are inserted into the template and go through the
    whole text tower. AdamW minimizes 1 − cos(features of the prompt, image embedding).

    Args:
        encoder: The encoder that computed the embeddings; a ``PseudoTokenEncoder``.
        image_vectors: Image embeddings (n, d), not necessarily normalized.
        tokens: Number of pseudo-tokens (R); by default the paper's for the model, else 1.
        template: The prompt, with ``{}`` in place of the pseudo-tokens.
        steps: Number of updates.
        **options: See ``InvertOptions``.

    Returns:
        The inverted features, which lie in the region of the captions.

    Raises:
        ModelError: The encoder does not support pseudo-tokens, or its features become infinite or NaN.
        UsageError: An option is out of range, or ``resume`` belongs to another run.
        InputError: The embeddings or ids cannot be used.

    Source:
        Mistretta et al., "Cross the Gap", ICLR 2025 (optimization-based textual inversion).

    Examples:
        >>> import numpy as np
        >>> from i0tscore.encoders import load_encoder
        >>> encoder = load_encoder("lite")
        >>> inverted = invert_images(encoder, np.ones((1, encoder.dimension)), steps=5)
        >>> inverted.vectors.shape, inverted.losses[0] < 1
        ((1, 256), np.True_)
    """
    if not isinstance(encoder, PseudoTokenEncoder):
        raise _unsupported(encoder, "pseudo-tokens", PseudoTokenEncoder)
    count = PAPER_INPUTS.get(encoder.fingerprint.name, (1, 1))[0] if tokens is None else tokens
    check_positive(tokens=count)
    tower = encoder.prompt_tower(*insert_pseudo_tokens(encoder, template, count))
    config = ("oti", count, template, steps)
    return _invert(encoder, tower, encoder.token_width, image_vectors, config, **options)


def invert_captions(
    encoder: Encoder,
    caption_vectors: ArrayLike,
    *,
    patches: int | None = None,
    steps: int = 1000,
    **options: Unpack[InvertOptions],
) -> Inverted:
    """Find a pseudo-image for each caption whose features match the caption embedding (OVI).

    A few pseudo-patches are spread over the image tower's grid by nearest neighbor in reading order, and go
    through the rest of the tower with positions and class token. AdamW minimizes 1 − cos(features of the
    pseudo-image, caption embedding). Errors and source are those of ``invert_images``.

    Args:
        encoder: The encoder that computed the embeddings; a ``PseudoPatchEncoder``.
        caption_vectors: Caption embeddings (n, d), not necessarily normalized.
        patches: Number of pseudo-patches (P); by default the paper's for the model, else 1.
        steps: Number of updates.
        **options: See ``InvertOptions``.

    Returns:
        The inverted features, which lie in the region of the images.

    Examples:
        >>> import numpy as np
        >>> from i0tscore.encoders import load_encoder
        >>> encoder = load_encoder("lite")
        >>> inverted = invert_captions(encoder, np.ones((1, encoder.dimension)), steps=5)
        >>> inverted.vectors.shape
        (1, 256)
    """
    if not isinstance(encoder, PseudoPatchEncoder):
        raise _unsupported(encoder, "pseudo-patches", PseudoPatchEncoder)
    count = PAPER_INPUTS.get(encoder.fingerprint.name, (1, 1))[1] if patches is None else patches
    check_positive(patches=count)
    rows, columns = encoder.patch_grid
    if count > rows * columns:
        raise UsageError(f"Expected at most {rows * columns} patches, the size of the grid, got {count}.")
    config = ("ovi", count, encoder.patch_stage, steps)
    return _invert(encoder, encoder.patch_tower(count), encoder.patch_width, caption_vectors, config, **options)


def insert_pseudo_tokens(encoder: Encoder, template: str, count: int) -> tuple[Tokens, int]:
    """Tokenize a template with placeholders for pseudo-tokens.

    Returns:
        The tokens, and the id of the placeholder, which occurs ``count`` times.

    Raises:
        UsageError: The template does not contain ``{}`` exactly once, or exceeds the context length.
        ModelError: No placeholder is a single token.

    Examples:
        >>> from i0tscore.encoders import load_encoder
        >>> tokens, placeholder = insert_pseudo_tokens(load_encoder("lite"), "a photo of {}", 2)
        >>> [number == placeholder for number in tokens.ids]
        [False, False, False, False, True, True, False]
    """
    if template.count("{}") != 1:
        raise UsageError(f"Expected a template with {{}} once, in place of the pseudo-tokens, got {template!r}.")
    for word in _PLACEHOLDERS:
        texts = [template.replace("{}", " ".join([word] * times)) for times in (0, 1, count)]
        empty, single, full = encoder.tokenize(texts)
        added = list((Counter(single.ids) - Counter(empty.ids)).elements())
        if len(added) != 1 or added[0] in empty.ids:
            continue
        if full.cut:
            raise UsageError(
                f"The template with {count} pseudo-tokens exceeds the context length of {encoder.context_length} by "
                f"{full.cut} tokens. Shorten it, or use fewer pseudo-tokens."
            )
        if full.ids.count(added[0]) == count:
            return full, added[0]
    raise ModelError(
        f"The tokenizer of {encoder.fingerprint.name} encodes none of {', '.join(_PLACEHOLDERS)} as a single token "
        f"in {template!r}. Use another template."
    )


def _invert(
    encoder: PseudoTokenEncoder | PseudoPatchEncoder,
    tower: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    vectors: ArrayLike,
    settings: tuple[str, int, str, int],
    *,
    ids: Sequence[str] | None = None,
    batch_size: int = 64,
    progress: bool = False,
    resume: str | Path | None = None,
    **optimization: Any,
) -> Inverted:
    """Invert all items in batches, with a tower of pseudo-inputs (n, inputs, width)."""
    method, inputs, entry, steps = settings
    check_positive(batch_size=batch_size)
    model = encoder.fingerprint
    config = InversionConfig(method, model.name, model.space, model.precision, inputs, entry, steps, **optimization)
    names, targets = _check_items(vectors, ids, encoder.dimension, model.name)
    folder = None if resume is None else Path(resume)
    finished = [] if folder is None else read_batches(folder, names, targets, config)
    done = {name for batch in finished for name in batch.ids}
    remaining = [row for row, name in enumerate(names) if name not in done]
    total = len(remaining) * steps
    with tqdm(total=total, desc="inverting", unit=" steps", file=sys.stderr, disable=not progress) as bar:
        for count, rows in enumerate(batches(remaining, batch_size), 1):
            chosen = tuple(names[row] for row in rows)
            start = initialize(chosen, width, config).to(encoder.device)
            goal = torch.from_numpy(targets[rows]).to(encoder.device)
            batch = _descend(tower, start, goal, chosen, config, partial(bar.update, len(rows)))
            if not np.isfinite(batch.losses).all():
                raise ModelError(
                    f"The features of {model.name} ({model.precision}) became infinite or NaN during inversion. "
                    "Use precision fp32, or a smaller lr."
                )
            finished.append(batch)
            if folder is not None:
                save_batch(batch, folder)
            # A batch that stopped early has skipped steps.
            bar.update(min(count * batch_size, len(remaining)) * steps - bar.n)
    return Inverted.join(finished, names)


def _check_items(
    vectors: ArrayLike, ids: Sequence[str] | None, dimension: int, model: str
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return the ids and the unit targets (n, d)."""
    values = np.asarray(vectors)
    if values.ndim != 2 or not len(values) or values.shape[1] != dimension:
        raise InputError(
            f"Expected embeddings of shape (n, {dimension}) with n ≥ 1 for {model}, got {values.shape}. "
            "Invert embeddings with the model that computed them."
        )
    exact = values.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        preview = ", ".join(map(str, bad[:_PREVIEW]))
        raise InputError(f"{len(bad)} embeddings are zero, infinite or NaN (rows {preview}). Encode them again.")
    names = tuple(map(str, range(len(values)))) if ids is None else tuple(map(str, ordered(ids, "ids")))
    if len(names) != len(values):
        raise InputError(f"Expected {len(values)} ids, one per embedding, got {len(names)}.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        preview = ", ".join(repeated[:_PREVIEW])
        raise InputError(f"{len(repeated)} ids occur more than once ({preview}). Make them distinct.")
    return names, (exact / norms[:, None]).astype(np.float32)


def initialize(ids: Sequence[str], width: int, config: InversionConfig) -> torch.Tensor:
    """Sample the initial pseudo-inputs of each item from the seed and its id alone.

    Returns:
        Float32 (n, inputs, width), from N(0, 0.02²).
    """
    items = []
    for name in ids:
        digest = hashlib.sha256(f"{config.seed} {name}".encode("utf-8", "surrogatepass")).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        items.append(torch.randn(config.inputs, width, generator=generator))
    return _DEVIATION * torch.stack(items)


def cosine_losses(features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalize features (n, d) and compute 1 − cosine with their unit targets (n, d).

    Returns:
        The unit features (n, d) and the losses (n,), in the dtype of the targets.
    """
    unit = functional.normalize(features.to(targets.dtype), dim=-1)
    return unit, 1 - (unit * targets).sum(dim=-1)


def _descend(
    tower: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    targets: torch.Tensor,
    ids: tuple[str, ...],
    config: InversionConfig,
    on_step: Callable[[], object],
) -> Inverted:
    """Optimize the pseudo-inputs of one batch with AdamW, each item independently; call ``on_step`` after each update.

    The losses are summed, not averaged, so the gradient of an item does not depend on the batch size. They are
    not finite if the features become infinite or NaN.
    """
    inputs = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([inputs], lr=config.lr, weight_decay=config.weight_decay)
    n, k, device = len(targets), len(config.eval_steps), targets.device
    vectors, losses = torch.zeros_like(targets), torch.full((n,), torch.inf, dtype=targets.dtype, device=device)
    updates = torch.zeros(n, dtype=torch.long, device=device)
    running = torch.ones(n, dtype=torch.bool, device=device)
    eval_losses, eval_vectors = torch.zeros(n, k), torch.zeros(n, k, targets.shape[1])
    evaluated = 0
    for step in range(config.steps + 1):
        with torch.set_grad_enabled(step < config.steps):
            features, current = cosine_losses(tower(inputs), targets)
        unit, loss = features.detach(), current.detach()
        if evaluated < k and step == config.eval_steps[evaluated]:
            # Items that have stopped keep their result.
            eval_losses[:, evaluated] = torch.where(running, loss, losses)
            eval_vectors[:, evaluated] = torch.where(running[:, None], unit, vectors)
            evaluated += 1
        better = running if config.patience is None else running & (loss < losses - _PROGRESS)
        vectors = torch.where(better[:, None], unit, vectors)
        losses = torch.where(better, loss, losses)
        updates = torch.where(better, step, updates)
        if config.patience is not None:
            running = running & (step - updates < config.patience)
        if step == config.steps or not running.any():
            break
        (inputs.grad,) = torch.autograd.grad(current.sum(), inputs)
        optimizer.step()
        on_step()
    eval_losses[:, evaluated:], eval_vectors[:, evaluated:] = losses[:, None], vectors[:, None]
    return Inverted(
        ids,
        vectors=vectors.float().cpu().numpy(),
        losses=losses.float().cpu().numpy(),
        updates=updates.cpu().numpy(),
        eval_losses=eval_losses.numpy(),
        eval_vectors=eval_vectors.numpy(),
        config=config,
    )


def _unsupported(encoder: Encoder, inputs: str, protocol: type) -> ModelError:
    members = [name for name in (*protocol.__annotations__, *vars(protocol)) if not name.startswith("_")]
    missing = ", ".join(name for name in members if not hasattr(encoder, name))
    return ModelError(
        f"{type(encoder).__name__} does not support {inputs}: it lacks {missing}. Encoders from load_encoder have them."
    )
