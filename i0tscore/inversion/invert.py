"""Images into the text tower's space and captions into the image tower's: OTI and OVI."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from i0tscore.encoders.base import Encoder, PseudoPatchEncoder, PseudoTokenEncoder
from i0tscore.encoders.pipeline import check_positive
from i0tscore.errors import ModelError, UsageError
from i0tscore.inversion.inverted import InversionConfig, Inverted
from i0tscore.inversion.prompt import place_tokens
from i0tscore.inversion.run import Run

TEMPLATE = "a photo of {}"
SEED = 42
PAPER_INPUTS = {
    "ViT-B-32-quickgelu/openai": (1, 1),
    "ViT-L-14-quickgelu/openai": (1, 4),
    "ViT-B-32/datacomp_xl_s13b_b90k": (1, 1),
    "ViT-L-14/datacomp_xl_s13b_b90k": (1, 2),
    "ViT-B-16-SigLIP/webli": (1, 4),
}
"""The paper's numbers of pseudo-tokens R and pseudo-patches P; other models get 1 of either."""


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
    curve: Collection[int] = (),
    patience: int | None = None,
    progress: bool = False,
    resume: str | Path | None = None,
) -> Inverted:
    """Find for each image a prompt whose text features point where the image's do (OTI).

    Pseudo-tokens, vectors in the place of word embeddings, stand in the template and go through the
    whole text tower; AdamW moves them to lower 1 − cos(features of the prompt, image embedding).

    Args:
        encoder: The encoder that made the embeddings, a ``PseudoTokenEncoder``.
        image_vectors: Image embeddings (n, d), scaled to unit length here.
        ids: One for each image, all different; their positions if not given. An item's initial
            pseudo-tokens come from ``seed`` and its id, so its result does not depend on the others.
        tokens: How many pseudo-tokens (R); the paper's number for the model if not given, else 1.
        template: The prompt, with one ``{}`` where the pseudo-tokens stand.
        steps: How many updates.
        lr: Step size of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_size: How many images are inverted at once.
        seed: Seed of the initial pseudo-tokens.
        curve: Numbers of updates after which losses and vectors are recorded; 0 is the start.
        patience: Stop an image once its loss has not fallen by 1e-4 in so many updates, and take its
            best vector. Without, every image gets all the steps and its last vector, as in the paper.
        progress: Whether to show a bar on stderr.
        resume: A folder to keep finished batches in; those found there are not done again.

    Returns:
        The inverted features, in the captions' region of the space.

    Raises:
        ModelError: If the encoder takes no pseudo-tokens or its features stop being finite.
        UsageError: If an option is out of range or ``resume`` is of another run.
        InputError: If the embeddings or ids cannot be used.

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
        raise _incapable(encoder, "pseudo-tokens", PseudoTokenEncoder)
    count = tokens if tokens is not None else PAPER_INPUTS.get(encoder.fingerprint.name, (1, 1))[0]
    check_positive(tokens=count)
    prompt, placeholder = place_tokens(encoder, template, count)
    settings = InversionConfig(
        "oti", *_identity(encoder), count, template, steps, lr, weight_decay, seed, tuple(curve), patience
    )
    tower = encoder.prompt_tower(prompt, placeholder)
    run = Run(settings, tower, encoder.token_width, encoder.dimension, encoder.device)
    return run(image_vectors, ids, batch_size=batch_size, progress=progress, resume=resume)


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
    curve: Collection[int] = (),
    patience: int | None = None,
    progress: bool = False,
    resume: str | Path | None = None,
) -> Inverted:
    """Find for each caption a pseudo-image whose features point where the caption's do (OVI).

    A few pseudo-patches are spread over the image tower's grid by nearest neighbour in reading order,
    and go with positions and class token through the rest of the tower; AdamW moves them to lower
    1 − cos(features of the pseudo-image, caption embedding). The arguments not named here, the errors
    and the source are those of ``invert_images``.

    Args:
        encoder: The encoder that made the embeddings, a ``PseudoPatchEncoder``.
        caption_vectors: Caption embeddings (n, d), scaled to unit length here.
        ids: See ``invert_images``.
        patches: How many pseudo-patches (P); the paper's number for the model if not given, else 1.
        steps: How many updates.
        lr: See ``invert_images``.
        weight_decay: See ``invert_images``.
        batch_size: See ``invert_images``.
        seed: See ``invert_images``.
        curve: See ``invert_images``.
        patience: See ``invert_images``.
        progress: See ``invert_images``.
        resume: See ``invert_images``.

    Returns:
        The inverted features, in the images' region of the space.

    Example:
        >>> import numpy as np
        >>> from i0tscore.encoders import load_encoder
        >>> encoder = load_encoder("lite")
        >>> inverted = invert_captions(encoder, np.ones((1, encoder.dimension)), steps=5)
        >>> inverted.vectors.shape
        (1, 256)
    """
    if not isinstance(encoder, PseudoPatchEncoder):
        raise _incapable(encoder, "pseudo-patches", PseudoPatchEncoder)
    count = patches if patches is not None else PAPER_INPUTS.get(encoder.fingerprint.name, (1, 1))[1]
    check_positive(patches=count)
    rows, columns = encoder.patch_grid
    if count > rows * columns:
        raise UsageError(f"patches must be at most {rows * columns}, the patches of an image, got {count}")
    entry = encoder.patch_stage
    settings = InversionConfig(
        "ovi", *_identity(encoder), count, entry, steps, lr, weight_decay, seed, tuple(curve), patience
    )
    run = Run(settings, encoder.patch_tower(count), encoder.patch_width, encoder.dimension, encoder.device)
    return run(caption_vectors, ids, batch_size=batch_size, progress=progress, resume=resume)


def _identity(encoder: Encoder) -> tuple[str, str, str]:
    known = encoder.fingerprint
    return known.name, known.space, known.precision


def _incapable(encoder: Encoder, inputs: str, protocol: type) -> ModelError:
    wanted = [name for name in (*protocol.__annotations__, *vars(protocol)) if not name.startswith("_")]
    missing = ", ".join(name for name in wanted if not hasattr(encoder, name))
    return ModelError(
        f"{type(encoder).__name__} takes no {inputs}, which this inversion moves: it lacks {missing}; "
        "the encoders of load_encoder have them"
    )
