"""What an inversion gives, what it was done with, and its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from i0tscore import errors
from i0tscore.files import replace_file

SCHEMA = "i0tscore.inverted/1"
ARRAYS = ("losses", "updates", "curve", "curve_vectors")


@dataclass(frozen=True, slots=True)
class InversionConfig:
    """All that decides the result of an inversion besides its target and id.

    Attributes:
        method: ``oti`` (images, by pseudo-tokens) or ``ovi`` (captions, by pseudo-patches).
        model: The encoder's name.
        space: The encoder's embedding space, see ``Fingerprint.space``.
        precision: The type the towers compute in.
        inputs: How many pseudo-tokens (R of the paper) or pseudo-patches (P) an item has.
        entry: The template the pseudo-tokens stand in, or the part of the image tower after which the
            pseudo-patches enter.
        steps: Updates an item gets at most.
        lr: Step size of AdamW.
        weight_decay: Weight decay of AdamW.
        seed: Seed of the initial pseudo-inputs; each item's are drawn from it and the item's id.
        curve: Numbers of updates after which loss and vector were recorded.
        patience: Updates without progress after which an item stops; None for never.
    """

    method: str
    model: str
    space: str
    precision: str
    inputs: int
    entry: str
    steps: int
    lr: float
    weight_decay: float
    seed: int
    curve: tuple[int, ...] = ()
    patience: int | None = None

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """What decides the vectors, as keys and values; the curve, which decides nothing, is left out."""
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
            ("patience", "no" if self.patience is None else str(self.patience)),
        )

    @property
    def signature(self) -> str:
        """Says in one line how the vectors were made."""
        return "|".join(f"{key}:{value}" for key, value in self.fields)


@dataclass(frozen=True, slots=True)
class Inverted:
    """Inverted items: vectors of the other modality that stand for them.

    Attributes:
        ids: One for each item, all different.
        vectors: Inverted features, float32 (n, d), of unit length.
        losses: 1 − cosine of each with its target, float32 (n,), in [0, 2].
        updates: After how many updates each was reached, int64 (n,): all ``settings.steps`` unless
            ``patience`` was given.
        curve: The losses after each number of updates in ``settings.curve``, float32 (n, k).
        curve_vectors: The vectors after each of them, float32 (n, k, d).
        settings: What it was done with.
    """

    ids: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]
    updates: npt.NDArray[np.int64]
    curve: npt.NDArray[np.float32]
    curve_vectors: npt.NDArray[np.float32]
    settings: InversionConfig

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, which ``read_embeddings`` reads as well as ``load``.

        Raises:
            InputError: If it cannot be written.
        """
        from safetensors.numpy import save

        tensors = {"embeddings": self.vectors, **{name: getattr(self, name) for name in ARRAYS}}
        header = {"schema": SCHEMA, "signature": self.settings.signature, "settings": asdict(self.settings)}
        metadata = {"ids": json.dumps(self.ids), "i0tscore": json.dumps(header)}
        data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata)
        try:
            replace_file(Path(path), data)
        except OSError as error:
            raise errors.InputError(
                f"inverted features cannot be written to {path} ({error.strerror}): choose another place"
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that ``save`` wrote.

        Raises:
            SampleFileError: If it is missing, damaged or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                header = json.loads(metadata["i0tscore"])
                if header["schema"] != SCHEMA:
                    raise ValueError(f"schema {header['schema']!r}, this version reads {SCHEMA!r}")
                arrays = {name: file.get_tensor(name) for name in ARRAYS}
                return cls(
                    ids=tuple(json.loads(metadata["ids"])),
                    vectors=file.get_tensor("embeddings"),
                    settings=_settings(header["settings"]),
                    **arrays,
                )
        except FileNotFoundError:
            raise errors.SampleFileError(path, ["there is no such file; check the path"]) from None
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            reason = f"not a file of inverted features ({type(error).__name__}: {error}); invert anew"
            raise errors.SampleFileError(path, [reason]) from error

    @classmethod
    def join(cls, parts: Sequence[Inverted], ids: Sequence[str]) -> Self:
        """Join parts with the same settings, in the order of ``ids``."""
        row = {name: i for i, name in enumerate(name for part in parts for name in part.ids)}
        order = [row[name] for name in ids]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in ("vectors", *ARRAYS)}
        return cls(ids=tuple(ids), settings=parts[0].settings, **arrays)


def _settings(stored: dict[str, Any]) -> InversionConfig:
    return replace(InversionConfig(**stored), curve=tuple(stored["curve"]))
