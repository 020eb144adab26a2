"""Formulas of the metrics, on embeddings: numpy arrays or torch tensors, on any device, differentiable in torch.

Every function normalizes its embeddings first, so raw encoder outputs and unit vectors give the same scores. If an
image or a caption equals its mean, it has no direction after centering and the score is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from i0tscore.errors import InputError
from i0tscore.gap import POST, GapStatistics, Standardizer
from i0tscore.gap.vectors import ArrayT, dot, is_tensor, like, namespace, normalize

ReferenceRule = Literal["harmonic", "mean", "mean3"]
ContextRule = Literal["alone", "mean"]


def clip_score(images: ArrayT, captions: ArrayT, *, weight: float = 2.5, clip: bool = True) -> ArrayT:
    """Compute CLIPScore of matching rows: ``weight · max(cos, 0)`` (Hessel et al. 2021).

    Args:
        images: Image embeddings, shape (n, d).
        captions: Embeddings of the captions with the prefix ``A photo depicts``, shape (n, d).
        weight: w of the paper.
        clip: Whether negative cosines become 0.

    Returns:
        Shape (n,), in [0, weight] or, without clipping, in [−weight, weight].

    Examples:
        >>> import numpy as np
        >>> clip_score(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]]))
        array([1.5])
    """
    _check(images, captions)
    cosine = dot(normalize(images), normalize(captions))
    score: ArrayT = weight * (cosine.clip(0) if clip else cosine)
    return score


def i0t_score(images: ArrayT, captions: ArrayT, image_mean: Any, caption_mean: Any) -> ArrayT:
    """Compute I0TScore of matching rows: the cosine after I0T_post (An et al. 2025).

    Args:
        images: Image embeddings, shape (n, d).
        captions: Embeddings of the captions with the scoring prefix, shape (n, d).
        image_mean: Mean of unit image embeddings of a reference corpus, shape (d,).
        caption_mean: Mean of its unit caption embeddings, shape (d,).

    Returns:
        Shape (n,), in [−1, 1], near 0 for unrelated pairs; NaN if a vector equals its mean.

    Examples:
        >>> import numpy as np
        >>> x, y = np.eye(3), np.eye(3)[[0, 2, 1]]
        >>> i0t_score(x, y, x.mean(0), y.mean(0)).round(3)
        array([ 1. , -0.5, -0.5])
    """
    return dot(*_standardize(POST, images, captions, image_mean, caption_mean))


def dn_score(images: ArrayT, captions: ArrayT, image_mean: Any, caption_mean: Any, *, strength: float = 0.25) -> ArrayT:
    """Compute the distribution-normalized score of matching rows: (x − λμx)·(y − λμy) (Zhou et al. 2023).

    Args:
        images: Image embeddings, shape (n, d).
        captions: Caption embeddings, shape (n, d).
        image_mean: Mean of unit image embeddings, shape (d,).
        caption_mean: Mean of unit caption embeddings, shape (d,).
        strength: λ.

    Returns:
        Shape (n,); a dot product, not a cosine.

    Examples:
        >>> import numpy as np
        >>> dn_score(np.eye(2), np.eye(2), np.array([0.5, 0.5]), np.array([0.5, 0.5])).round(2)
        array([0.78, 0.78])
    """
    return dot(*_standardize(Standardizer("dn", strength), images, captions, image_mean, caption_mean))


def ref_clip_score(
    images: ArrayT, captions: ArrayT, references: ArrayT | Sequence[ArrayT], *, weight: float = 2.5
) -> ArrayT:
    """Compute RefCLIPScore: harmonic mean of CLIPScore and max over references of max(cos, 0) (Hessel et al. 2021).

    Args:
        images: Image embeddings, shape (n, d).
        captions: Caption embeddings, shape (n, d).
        references: Reference embeddings, shape (n, r, d), or a sequence of n arrays (r_i, d).
        weight: w of the paper, for the image side.

    Returns:
        Shape (n,), ≥ 0; 0 if either side is 0.

    Examples:
        >>> import numpy as np
        >>> ref_clip_score(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]]), np.array([[[0.6, 0.8]]]))
        array([1.2])
    """
    _check(images, captions)
    y = normalize(captions)
    similarity = dot(normalize(images), y)
    nearest = reference_similarity(y, [normalize(r) for r in references], "harmonic")
    return combine_references(weight * similarity, nearest, "harmonic")


def ref_i0t_score(
    images: ArrayT,
    captions: ArrayT,
    references: ArrayT | Sequence[ArrayT],
    image_mean: Any,
    caption_mean: Any,
    *,
    rule: ReferenceRule = "harmonic",
) -> ArrayT:
    """Compute RefI0TScore: the rule of RefCLIPScore on embeddings standardized by I0T_post.

    Defined by analogy; An et al. 2025 report no scores with references.

    Args:
        images: Image embeddings, shape (n, d).
        captions: Caption embeddings, shape (n, d).
        references: Reference embeddings, shape (n, r, d), or a sequence of n arrays (r_i, d).
        image_mean: Mean of unit image embeddings, shape (d,).
        caption_mean: Mean of unit caption embeddings, shape (d,).
        rule: ``harmonic`` clips both sides at 0. ``mean`` is their arithmetic mean without clipping. ``mean3`` is a
            quarter of the image side plus three quarters of the mean similarity with the three nearest references.

    Returns:
        Shape (n,), in [0, 1] for ``harmonic``, in [−1, 1] otherwise.

    Examples:
        >>> import numpy as np
        >>> x = np.eye(3)
        >>> ref_i0t_score(x, x, x[:, None], x.mean(0), x.mean(0)).round(3)
        array([1., 1., 1.])
    """
    x, y = _standardize(POST, images, captions, image_mean, caption_mean)
    means = GapStatistics(image_mean, caption_mean)
    z = [POST.apply(normalize(r), means, "caption") for r in references]
    return combine_references(dot(x, y), reference_similarity(y, z, rule), rule)


def context_i0t_score(captions: ArrayT, contexts: ArrayT, caption_mean: Any) -> ArrayT:
    """Compute ContextI0TScore of matching rows: the cosine of captions and contexts after I0T_post of both.

    Defined by analogy with I0TScore of An et al. 2025, who do not score contexts. ``context_rule=mean`` is the
    arithmetic mean of this and ``i0t_score``.

    Args:
        captions: Embeddings of the captions with the scoring prefix, shape (n, d).
        contexts: Embeddings of the contexts without prefix, shape (n, d).
        caption_mean: Mean of unit caption embeddings of a reference corpus, shape (d,).

    Returns:
        Shape (n,), in [−1, 1]; NaN if a vector equals the mean.

    Examples:
        >>> import numpy as np
        >>> y = np.eye(3)
        >>> context_i0t_score(y, y[[0, 2, 1]], y.mean(0)).round(3)
        array([ 1. , -0.5, -0.5])
    """
    return i0t_score(captions, contexts, caption_mean, caption_mean)


class Breakdown(NamedTuple):
    """The exact parts of a CLIP cosine; every field has shape (n,).

    With x = μx + x̃ and y = μy + ỹ, ``cosine = offset + image_bias + caption_bias + semantic``.

    Attributes:
        cosine: x·y.
        offset: μx·μy, the same for every pair.
        image_bias: x̃·μy, which this image scores with any caption.
        caption_bias: μx·ỹ, which this caption scores with any image.
        semantic: x̃·ỹ, the part that depends on the match.
        image_residual_norm: ‖x̃‖.
        caption_residual_norm: ‖ỹ‖; I0TScore = semantic / (‖x̃‖ ‖ỹ‖).
    """

    cosine: Any
    offset: Any
    image_bias: Any
    caption_bias: Any
    semantic: Any
    image_residual_norm: Any
    caption_residual_norm: Any


def breakdown(images: ArrayT, captions: ArrayT, image_mean: Any, caption_mean: Any) -> Breakdown:
    """Decompose the cosine of matching rows into its four parts.

    Args:
        images: Image embeddings, shape (n, d).
        captions: Caption embeddings, shape (n, d).
        image_mean: Mean of unit image embeddings, shape (d,).
        caption_mean: Mean of unit caption embeddings, shape (d,).

    Returns:
        The parts, shape (n,) each, in the dtype of the inputs.

    Examples:
        >>> import numpy as np
        >>> parts = breakdown(np.eye(2), np.eye(2), np.array([0.5, 0.5]), np.array([0.5, 0.5]))
        >>> bool(np.allclose(parts.cosine, sum(parts[1:5])))
        True
    """
    _check(images, captions)
    x, y = normalize(images), normalize(captions)
    mean_x, mean_y = like(x, image_mean), like(y, caption_mean)
    x_residual, y_residual = x - mean_x, y - mean_y
    return Breakdown(
        cosine=dot(x, y),
        offset=dot(mean_x, mean_y) + dot(x, x) * 0,
        image_bias=dot(x_residual, mean_y[None]),
        caption_bias=dot(mean_x[None], y_residual),
        semantic=dot(x_residual, y_residual),
        image_residual_norm=dot(x_residual, x_residual) ** 0.5,
        caption_residual_norm=dot(y_residual, y_residual) ** 0.5,
    )


def reference_similarity(captions: ArrayT, references: Sequence[ArrayT], rule: ReferenceRule) -> ArrayT:
    """Return the reference side of a Ref- score of captions (n, d) and n arrays of references (r_i, d), r_i ≥ 1."""
    if not len(captions):
        return dot(captions, captions)
    sides = [reference_side(r @ y, rule) for y, r in zip(captions, references, strict=True)]
    stacked: ArrayT = namespace(captions).stack(sides)
    return stacked


def reference_side(products: ArrayT, rule: ReferenceRule) -> ArrayT:
    """Reduce the dot products of a caption with its references, on the last axis: the highest, or their mean.

    For ``mean3``, it is the mean of the highest three, or of all if there are fewer.
    """
    if rule != "mean3":
        highest: ArrayT = namespace(products).amax(products, -1)
        return highest
    untyped: Any = products
    ordered = untyped.sort(-1).values if is_tensor(products) else np.sort(untyped, axis=-1)
    mean: ArrayT = ordered[..., -3:].mean(-1)
    return mean


def combine_references(similarity: ArrayT, nearest: ArrayT, rule: ReferenceRule) -> ArrayT:
    """Combine the image side and the reference side of a Ref- score, arrays of one shape.

    ``harmonic`` clips both at 0 and is 0 if either is 0; ``mean`` and ``mean3`` do not clip.
    """
    if rule != "harmonic":
        share = 0.5 if rule == "mean" else 0.25
        mean: ArrayT = share * similarity + (1 - share) * nearest
        return mean
    xp = namespace(similarity)
    a, b = similarity.clip(0), nearest.clip(0)
    total = a + b
    harmonic: ArrayT = 2 * a * b / xp.where(total == 0, xp.ones_like(total), total)
    return harmonic


def _check(images: Any, captions: Any) -> None:
    """Check that both are arrays, or both tensors, of one shape."""
    both = images, captions
    if not (all(isinstance(one, np.ndarray) for one in both) or all(is_tensor(one) for one in both)):
        types = f"{type(images).__name__} and {type(captions).__name__}"
        raise InputError(f"Expected images and captions as two numpy arrays or two torch tensors, got {types}.")
    if images.shape != captions.shape:
        shapes = f"{tuple(images.shape)} and {tuple(captions.shape)}"
        raise InputError(f"Expected images and captions of one shape, with a row per pair, got {shapes}.")


def _standardize(
    standardizer: Standardizer, images: ArrayT, captions: ArrayT, image_mean: Any, caption_mean: Any
) -> tuple[ArrayT, ArrayT]:
    _check(images, captions)
    means = GapStatistics(image_mean, caption_mean)
    x = standardizer.apply(normalize(images), means, "image")
    return x, standardizer.apply(normalize(captions), means, "caption")
