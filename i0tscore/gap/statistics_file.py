"""Statistics files: safetensors with the moments of both modalities and the quantiles of scores.

``image_mean``, ``caption_mean`` (d,) and ``image_covariance``, ``caption_covariance`` (d, d), and for each
standardizer ``<name>/matched`` and ``<name>/mismatched``; where there is a trained normalization, its arrays
as ``normalization/image/mean`` and so on, and of a bank ``bank/image`` and ``bank/caption`` in float16. What
the numbers belong to is in the metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError
from i0tscore.gap.bank import HubnessBank
from i0tscore.gap.moments import Moments
from i0tscore.gap.normalization import ARRAYS, Normalization
from i0tscore.gap.reference import ReferenceDistribution
from i0tscore.gap.statistics import Statistics

SCHEMA = "i0tscore.statistics/1"
_KINDS = ("image", "caption")


def write_statistics(statistics: Statistics, path: Path) -> None:
    """Write a statistics file; raises StatisticsError where that fails."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
    for kind, moments in zip(_KINDS, (statistics.image, statistics.caption), strict=True):
        tensors[f"{kind}_mean"] = moments.mean
        tensors[f"{kind}_covariance"] = moments.covariance.astype(np.float32)
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "name": statistics.name,
        "encoder": statistics.encoder,
        "space": statistics.space,
        "prefix": statistics.prefix,
        "source": statistics.source,
        "counts": [statistics.image.count, statistics.caption.count],
        "calibration": {k: [r.slope, r.intercept] for k, r in statistics.reference.items()},
    }
    for key, reference in statistics.reference.items():
        tensors[f"{key}/matched"] = reference.matched
        tensors[f"{key}/mismatched"] = reference.mismatched
    if statistics.normalization is not None:
        header["normalization_eps"] = [n.eps for n in statistics.normalization]
        for kind, normalization in zip(_KINDS, statistics.normalization, strict=True):
            tensors |= {f"normalization/{kind}/{name}": getattr(normalization, name) for name in ARRAYS}
    if statistics.bank is not None:
        header["bank_nearest"] = statistics.bank.nearest
        tensors |= {"bank/image": statistics.bank.images, "bank/caption": statistics.bank.captions}
    try:
        path.write_bytes(save(tensors, {"i0tscore": json.dumps(header, ensure_ascii=False)}))
    except OSError as error:
        raise StatisticsError(f"statistics cannot be written to {path}: {error}") from error


def read_statistics(path: Path) -> Statistics:
    """Read a statistics file; raises StatisticsError if it is missing, damaged or something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            header = json.loads((file.metadata() or {})["i0tscore"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header["schema"] != SCHEMA:
            raise StatisticsError(f"{path}: schema {header['schema']!r}, this version reads {SCHEMA!r}")
        return _assemble(header, tensors)
    except FileNotFoundError:
        raise StatisticsError(f"no statistics file {path}; make one with `i0tscore fit`") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StatisticsError(
            f"{path} is not a statistics file of i0tscore ({type(error).__name__}: {error}); "
            "make one with `i0tscore fit`"
        ) from error


def _assemble(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Statistics:
    image, caption = (
        _moments(int(count), tensors[f"{kind}_mean"], tensors[f"{kind}_covariance"])
        for kind, count in zip(_KINDS, header["counts"], strict=True)
    )
    if image.mean.shape != caption.mean.shape:
        raise ValueError("the two means are of different length")
    reference = {
        key: ReferenceDistribution(tensors[f"{key}/matched"], tensors[f"{key}/mismatched"], *calibration)
        for key, calibration in header["calibration"].items()
    }
    words = {key: str(header[key]) for key in ("name", "encoder", "space", "prefix", "source")}
    return Statistics(
        image=image,
        caption=caption,
        reference=reference,
        normalization=_normalization(header, tensors, image.mean.shape),
        bank=_bank(header, tensors, image.mean.shape),
        **words,
    )


def _normalization(
    header: dict[str, Any], tensors: dict[str, NDArray[Any]], shape: tuple[int, ...]
) -> tuple[Normalization, Normalization] | None:
    if "normalization_eps" not in header:
        return None
    image, caption = (
        Normalization(**{name: tensors[f"normalization/{kind}/{name}"] for name in ARRAYS}, eps=float(eps))
        for kind, eps in zip(_KINDS, header["normalization_eps"], strict=True)
    )
    if image.mean.shape != shape or caption.mean.shape != shape:
        raise ValueError("the normalization is of another length than the means")
    return image, caption


def _bank(header: dict[str, Any], tensors: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> HubnessBank | None:
    if "bank_nearest" not in header:
        return None
    bank = HubnessBank(tensors["bank/image"], tensors["bank/caption"], int(header["bank_nearest"]))
    if bank.images.shape[1:] != shape:
        raise ValueError("the bank is of another length than the means")
    return bank


def _moments(count: int, mean: NDArray[Any], covariance: NDArray[Any]) -> Moments:
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(f"a mean of shape {mean.shape} with a covariance of shape {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("means and covariances must be finite")
    return Moments(count, mean.astype(np.float64), covariance.astype(np.float64))
