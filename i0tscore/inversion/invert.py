"""Inversion of images (OTI) and captions (OVI), after Mistretta et al., "Cross the Gap" (ICLR 2025)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from i0tscore.encoders.base import Encoder, PseudoPatchEncoder, PseudoTokenEncoder, Tokens
from i0tscore.encoders.loop import batches, check_positive
from i0tscore.errors import InputError, ModelError, UsageError
from i0tscore.inversion.descent import descend, initialize
from i0tscore.inversion.inverted import InversionConfig, Inverted, read_batches, save_batch

TEMPLATE = "a photo of {}"
SEED = 42
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


def invert_images(
    encoder: Encoder,
    image_vectors: ArrayLike,
    *,
    ids: Sequence[str] | None = None,
    tokens: int | None = None,
    template: str = TEMPLATE,
    steps: int = 150,
    lr: float = 2e-2,
    weight_decay: float = 0.01,
    batch_size: int = 64,
    seed: int = SEED,
    eval_steps: Collection[int] = (),
    patience: int | None = None,
    progress: bool = False,
    resume: str | Path | None = None,
) -> Inverted:
    """Find a prompt for each image whose text features match the image embedding (OTI).

    Pseudo-tokens, vectors in place of word embeddings, are inserted into the template and go through the
    whole text tower. AdamW minimizes 1 − cos(features of the prompt, image embedding).

    Args:
        encoder: The encoder that computed the embeddings; a ``PseudoTokenEncoder``.
        image_vectors: Image embeddings (n, d), not necessarily normalized.
        ids: Distinct ids of the images; their positions by default. The initial pseudo-tokens of an image
            depend on ``seed`` and its id, so its result does not depend on the other images.
        tokens: Number of pseudo-tokens (R); by default the paper's for the model, else 1.
        template: The prompt, with ``{}`` in place of the pseudo-tokens.
        steps: Number of updates.
        lr: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_size: Number of images to invert at a time.
        seed: Seed of the initial pseudo-tokens.
        eval_steps: Increasing numbers of updates after which to record losses and vectors; 0 is the start.
        patience: Stop an image when its loss has not decreased by 1e-4 within this many updates, and return its
            best vector. By default, every image gets all updates and its last vector, as in the paper.
        progress: Whether to show a progress bar on stderr.
        resume: Folder of finished batches, from which an interrupted run resumes.

    Returns:
        The inverted features, which lie in the region of the captions.

    Raises:
        ModelError: The encoder does not support pseudo-tokens, or its features become infinite or NaN.
        UsageError: An option is out of range, or ``resume`` belongs to another run.
        InputError: The embeddings or ids cannot be used.

    Source:
        Mistretta et al., "Cross the Gap", ICLR 2025 (optimization-based textual inversion).

    Example:
        >>> import numpy as np
        >>> from i0tscore.encoders import load_encoder
        >>> encoder = load_encoder("lite")
        >>> inverted = invert_images(encoder, np.ones((1, encoder.dimension)), steps=5)
        >>> inverted.vectors.shape, inverted.losses[0] < 1
        ((1, 256), np.True_)
    """
    if not isinstance(encoder, PseudoTokenEncoder):
        raise _unsupported(encoder, "pseudo-tokens", PseudoTokenEncoder)
    model = encoder.fingerprint
    count = PAPER_INPUTS.get(model.name, (1, 1))[0] if tokens is None else tokens
    check_positive(tokens=count)
    tower = encoder.prompt_tower(*insert_pseudo_tokens(encoder, template, count))
    optimization = (steps, lr, weight_decay, seed, tuple(eval_steps), patience)
    config = InversionConfig("oti", model.name, model.space, model.precision, count, template, *optimization)
    return _invert(encoder, config, tower, encoder.token_width, image_vectors, ids, batch_size, progress, resume)


def invert_captions(
    encoder: Encoder,
    caption_vectors: ArrayLike,
    *,
    ids: Sequence[str] | None = None,
    patches: int | None = None,
    steps: int = 1000,
    lr: float = 2e-2,
    weight_decay: float = 0.01,
    batch_size: int = 64,
    seed: int = SEED,
    eval_steps: Collection[int] = (),
    patience: int | None = None,
    progress: bool = False,
    resume: str | Path | None = None,
) -> Inverted:
    """Find a pseudo-image for each caption whose features match the caption embedding (OVI).

    A few pseudo-patches are spread over the image tower's grid by nearest neighbor in reading order, and go
    through the rest of the tower with positions and class token. AdamW minimizes 1 − cos(features of the
    pseudo-image, caption embedding). Errors and source are those of ``invert_images``.

    Args:
        encoder: The encoder that computed the embeddings; a ``PseudoPatchEncoder``.
        caption_vectors: Caption embeddings (n, d), not necessarily normalized.
        ids: See ``invert_images``.
        patches: Number of pseudo-patches (P); by default the paper's for the model, else 1.
        steps: Number of updates.
        lr: See ``invert_images``.
        weight_decay: See ``invert_images``.
        batch_size: See ``invert_images``.
        seed: See ``invert_images``.
        eval_steps: See ``invert_images``.
        patience: See ``invert_images``.
        progress: See ``invert_images``.
        resume: See ``invert_images``.

    Returns:
        The inverted features, which lie in the region of the images.

    Example:
        >>> import numpy as np
        >>> from i0tscore.encoders import load_encoder
        >>> encoder = load_encoder("lite")
        >>> inverted = invert_captions(encoder, np.ones((1, encoder.dimension)), steps=5)
        >>> inverted.vectors.shape
        (1, 256)
    """
    if not isinstance(encoder, PseudoPatchEncoder):
        raise _unsupported(encoder, "pseudo-patches", PseudoPatchEncoder)
    model = encoder.fingerprint
    count = PAPER_INPUTS.get(model.name, (1, 1))[1] if patches is None else patches
    check_positive(patches=count)
    rows, columns = encoder.patch_grid
    if count > rows * columns:
        raise UsageError(f"Expected at most {rows * columns} patches, the size of the grid, got {count}.")
    optimization = (steps, lr, weight_decay, seed, tuple(eval_steps), patience)
    config = InversionConfig("ovi", model.name, model.space, model.precision, count, encoder.patch_stage, *optimization)
    tower = encoder.patch_tower(count)
    return _invert(encoder, config, tower, encoder.patch_width, caption_vectors, ids, batch_size, progress, resume)


def insert_pseudo_tokens(encoder: Encoder, template: str, count: int) -> tuple[Tokens, int]:
    """Tokenize a template with placeholders for pseudo-tokens.

    Args:
        encoder: Encoder that tokenizes.
        template: A text with one ``{}``.
        count: Number of pseudo-tokens to insert there.

    Returns:
        The tokens, and the id of the placeholder, which occurs ``count`` times.

    Raises:
        UsageError: The template does not contain ``{}`` exactly once, or exceeds the context length.
        ModelError: No placeholder is a single token.

    Example:
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
    config: InversionConfig,
    tower: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    vectors: ArrayLike,
    ids: Sequence[str] | None,
    batch_size: int,
    progress: bool,
    resume: str | Path | None,
) -> Inverted:
    """Invert all items in batches, with a tower of pseudo-inputs (n, inputs, width)."""
    check_positive(batch_size=batch_size)
    _check_config(config)
    targets = _unit_targets(vectors, encoder.dimension, config.model)
    names = tuple(str(i) for i in range(len(targets))) if ids is None else tuple(ids)
    _check_ids(names, len(targets))
    folder = None if resume is None else Path(resume)
    finished = [] if folder is None else read_batches(folder, names, targets, config)
    done = {name for batch in finished for name in batch.ids}
    remaining = [row for row, name in enumerate(names) if name not in done]
    total = len(remaining) * config.steps
    with tqdm(total=total, desc="inverting", unit=" steps", file=sys.stderr, disable=not progress) as bar:
        for count, rows in enumerate(batches(remaining, batch_size), 1):
            chosen = [names[row] for row in rows]
            start = initialize(chosen, width, config).to(encoder.device)
            goal = torch.from_numpy(targets[rows]).to(encoder.device)
            batch = descend(tower, start, goal, chosen, config, partial(bar.update, len(rows)))
            if not np.isfinite(batch.losses).all():
                raise ModelError(
                    f"The features of {config.model} ({config.precision}) became infinite or NaN during inversion. "
                    "Use precision fp32, or a smaller lr."
                )
            finished.append(batch)
            if folder is not None:
                save_batch(batch, folder)
            # A batch that stopped early has skipped steps.
            bar.update(min(count * batch_size, len(remaining)) * config.steps - bar.n)
    return Inverted.join(finished, names)


def _check_config(config: InversionConfig) -> None:
    check_positive(steps=config.steps)
    if config.patience is not None:
        check_positive(patience=config.patience)
    if config.lr <= 0 or config.weight_decay < 0:
        raise UsageError(f"Expected lr > 0 and weight_decay >= 0, got {config.lr:g} and {config.weight_decay:g}.")
    outside = [step for step in config.eval_steps if not 0 <= step <= config.steps]
    if outside or list(config.eval_steps) != sorted(set(config.eval_steps)):
        raise UsageError(
            f"Expected eval_steps to increase and to be between 0 and {config.steps}, got {list(config.eval_steps)}."
        )


def _unit_targets(vectors: ArrayLike, dimension: int, model: str) -> NDArray[np.float32]:
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
    unit: NDArray[np.float32] = (exact / norms[:, None]).astype(np.float32)
    return unit


def _check_ids(ids: tuple[str, ...], n: int) -> None:
    if len(ids) != n:
        raise InputError(f"Expected {n} ids, one per embedding, got {len(ids)}.")
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        preview = ", ".join(repeated[:_PREVIEW])
        raise InputError(f"{len(repeated)} ids occur more than once ({preview}). Make them distinct.")


def _unsupported(encoder: Encoder, inputs: str, protocol: type) -> ModelError:
    members = [name for name in (*protocol.__annotations__, *vars(protocol)) if not name.startswith("_")]
    missing = ", ".join(name for name in members if not hasattr(encoder, name))
    return ModelError(
        f"{type(encoder).__name__} does not support {inputs}: it lacks {missing}. Encoders from load_encoder have them."
    )
