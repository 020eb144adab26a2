"""The result of an inversion, its configuration and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from i0tscore.encoders.loop import check_positive
from i0tscore.errors import InputError, SampleFileError, UsageError
from i0tscore.files import replace_file

SCHEMA = "i0tscore.inverted/1"

_TENSORS = {
    "vectors": "embeddings",
    "losses": "losses",
    "updates": "updates",
    "eval_losses": "curve",
    "eval_vectors": "curve_vectors",
}
"""Names of the tensors in a file, by attribute."""

_TOLERANCE = 1e-4
"""Largest difference between the stored and the recomputed loss of an item that is resumed."""


@dataclass(frozen=True, slots=True)
class InversionConfig:
    """Everything besides target and id that determines the result of an inversion.

    Attributes:
        method: ``oti`` (images, with pseudo-tokens) or ``ovi`` (captions, with pseudo-patches).
        model: Name of the encoder.
        space: Embedding space of the encoder, see ``Fingerprint.space``.
        precision: Precision of the towers.
        inputs: Number of pseudo-tokens (the paper's R) or pseudo-patches (P) per item.
        entry: The template around the pseudo-tokens, or the part of the image tower after which the
            pseudo-patches enter.
        steps: Maximum number of updates per item.
        lr: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        seed: Seed of the initial pseudo-inputs, combined with the id of each item.
        eval_steps: Numbers of updates after which losses and vectors are recorded.
        patience: Number of updates without progress after which an item stops; None for never.
    """

    method: str
    model: str
    space: str
    precision: str
    inputs: int
    entry: str
    steps: int
    lr: float = 2e-2
    weight_decay: float = 0.01
    seed: int = 42
    eval_steps: tuple[int, ...] = ()
    patience: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges, and convert ``eval_steps`` to a tuple."""
        object.__setattr__(self, "eval_steps", tuple(self.eval_steps))
        check_positive(steps=self.steps, **({} if self.patience is None else {"patience": self.patience}))
        if self.lr <= 0 or self.weight_decay < 0:
            raise UsageError(f"Expected lr > 0 and weight_decay >= 0, got {self.lr:g} and {self.weight_decay:g}.")
        outside = [step for step in self.eval_steps if not 0 <= step <= self.steps]
        if outside or list(self.eval_steps) != sorted(set(self.eval_steps)):
            raise UsageError(
                f"Expected eval_steps to increase and to be between 0 and {self.steps}, got {list(self.eval_steps)}."
            )

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Keys and values of the signature: all that determines the vectors, so not ``eval_steps``."""
        return (
            ("inv", self.method),
            ("m", self.model),
            ("space", self.space),
            ("prec", self.precision),
            ("inputs", str(self.inputs)),
            ("entry", self.entry),
            ("steps", str(self.steps)),
            ("lr", f"{self.lr:g}"),
            ("wd", f"{self.weight_decay:g}"),
            ("seed", str(self.seed)),
            ("patience", str(self.patience or "no")),
        )

    @property
    def signature(self) -> str:
        """One line that identifies how the vectors were computed."""
        return "|".join(f"{key}:{value}" for key, value in self.fields)


@dataclass(frozen=True, slots=True)
class Inverted:
    """Inverted items: features in the region of the other modality.

    Attributes:
        ids: Distinct ids of the items.
        vectors: Inverted features, float32 (n, d), of unit length.
        losses: 1 − cosine with the target, float32 (n,), in [0, 2].
        updates: Number of updates that led to each vector, int64 (n,): ``config.steps`` unless ``patience``
            was given.
        eval_losses: Losses after each of ``config.eval_steps``, float32 (n, k).
        eval_vectors: Vectors after each of ``config.eval_steps``, float32 (n, k, d).
        config: Configuration of the inversion.
    """

    ids: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]
    updates: npt.NDArray[np.int64]
    eval_losses: npt.NDArray[np.float32]
    eval_vectors: npt.NDArray[np.float32]
    config: InversionConfig

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, which ``load`` and ``read_embeddings`` read.

        Args:
            path: The file, which is replaced if it exists.

        Raises:
            InputError: The file cannot be written.
        """
        from safetensors.numpy import save

        settings = {"curve" if key == "eval_steps" else key: value for key, value in asdict(self.config).items()}
        header = {"schema": SCHEMA, "signature": self.config.signature, "settings": settings}
        metadata = {"ids": json.dumps(self.ids), "i0tscore": json.dumps(header)}
        tensors = {stored: np.ascontiguousarray(getattr(self, name)) for name, stored in _TENSORS.items()}
        try:
            replace_file(Path(path), save(tensors, metadata))
        except OSError as error:
            raise InputError(f"Cannot write {path}: {error.strerror}. Choose another path.") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by ``save``.

        Args:
            path: The file.

        Raises:
            SampleFileError: The file is missing, damaged or of another kind.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                header = json.loads(metadata["i0tscore"])
                if header["schema"] != SCHEMA:
                    raise ValueError(f"expected schema {SCHEMA!r}, got {header['schema']!r}")
                settings = header["settings"]
                config = InversionConfig(eval_steps=settings.pop("curve"), **settings)
                arrays = {name: file.get_tensor(stored) for name, stored in _TENSORS.items()}
                return cls(tuple(json.loads(metadata["ids"])), config=config, **arrays)
        except FileNotFoundError:
            raise SampleFileError(path, ["The file does not exist. Check the path."]) from None
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            reason = f"Not a file of inverted features ({type(error).__name__}: {error}). Run the inversion again."
            raise SampleFileError(path, [reason]) from error

    @classmethod
    def join(cls, parts: Sequence[Inverted], ids: Sequence[str]) -> Self:
        """Join results with the same configuration, in the order of ``ids``."""
        row = {name: i for i, name in enumerate(name for part in parts for name in part.ids)}
        order = [row[name] for name in ids]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in _TENSORS}
        return cls(tuple(ids), config=parts[0].config, **arrays)


def read_batches(
    folder: Path, ids: Sequence[str], targets: npt.NDArray[np.float32], config: InversionConfig
) -> list[Inverted]:
    """Read the finished batches of an interrupted run; create the folder if it does not exist.

    Raises:
        UsageError: The folder has batches of other items, other targets or another configuration.
        InputError: The folder cannot be created.
        SampleFileError: A file is damaged.
    """
    hint = "Resume with the arguments of the first run, or choose another folder."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot create the folder {folder}: {error}. Choose another folder.") from error
    row = {name: i for i, name in enumerate(ids)}
    batches = []
    for path in sorted(folder.glob("*.safetensors")):
        batch = Inverted.load(path)
        if batch.config != config:
            theirs, ours = (f"{c.signature}, evaluated after {list(c.eval_steps)}" for c in (batch.config, config))
            raise UsageError(f"{path} belongs to a run with other settings: {theirs} instead of {ours}. {hint}")
        # The stored losses identify the targets.
        same = row.keys() >= set(batch.ids) and batch.vectors.shape[1] == targets.shape[1]
        if same:
            losses = 1 - (batch.vectors * targets[[row[name] for name in batch.ids]]).sum(axis=1)
            same = bool(np.abs(losses - batch.losses).max(initial=0) < _TOLERANCE)
        if not same:
            raise UsageError(f"{path} belongs to a run on other items. {hint}")
        batches.append(batch)
    return batches


def save_batch(batch: Inverted, folder: Path) -> None:
    """Write a finished batch to a new file in the folder."""
    numbers = [int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdecimal()]
    batch.save(folder / f"{max(numbers, default=-1) + 1:06d}.safetensors")
