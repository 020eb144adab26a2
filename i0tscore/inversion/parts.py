"""The finished batches of a long run, kept in a folder so that a killed run goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from i0tscore.errors import InputError, UsageError
from i0tscore.inversion.inverted import InversionConfig, Inverted

TOLERANCE = 1e-4


@dataclass
class Parts:
    """Finished batches, in memory and, if a folder is given, on disk.

    Args:
        folder: Where they are kept: one file a batch.
        parts: The finished batches.
    """

    folder: Path | None
    parts: list[Inverted] = field(default_factory=list)

    @classmethod
    def resumed(
        cls,
        folder: str | Path | None,
        ids: tuple[str, ...],
        targets: npt.NDArray[np.float32],
        settings: InversionConfig,
    ) -> Parts:
        """Take up what is in the folder, which is made if it is not there.

        Raises:
            UsageError: If it holds batches of other items, targets or settings.
            InputError: If the folder cannot be made.
            SampleFileError: If a file is damaged.
        """
        if folder is None:
            return cls(None)
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {folder} cannot be made: {error}") from error
        run = cls(folder)
        row = {name: i for i, name in enumerate(ids)}
        for path in sorted(folder.glob("*.safetensors")):
            part = Inverted.load(path)
            if part.settings != settings:
                theirs, ours = part.settings.signature, settings.signature
                reason = f"{theirs}, curve {part.settings.curve}, not {ours}, curve {settings.curve}"
                raise UsageError(f"{path} is of a run with other settings ({reason}): {_ADVICE}")
            if not _fits(part, row, targets):
                raise UsageError(f"{path} is of a run on other items: {_ADVICE}")
            run.parts.append(part)
        return run

    def add(self, part: Inverted) -> None:
        """Keep one more finished batch; raises InputError if it cannot be written."""
        if self.folder is not None:
            taken = [int(path.stem) for path in self.folder.glob("*.safetensors") if path.stem.isdecimal()]
            part.save(self.folder / f"{max(taken, default=-1) + 1:06d}.safetensors")
        self.parts.append(part)

    @property
    def done(self) -> set[str]:
        """Ids of the finished items."""
        return {name for part in self.parts for name in part.ids}


_ADVICE = "resume with what it was begun with, or give another folder"


def _fits(part: Inverted, row: dict[str, int], targets: npt.NDArray[np.float32]) -> bool:
    """Whether a finished batch is of these items: its losses are those of its vectors with the targets."""
    if not row.keys() >= set(part.ids) or part.vectors.shape[1] != targets.shape[1]:
        return False
    own = targets[[row[name] for name in part.ids]]
    losses = 1 - (part.vectors * own).sum(axis=1)
    return bool(np.abs(losses - part.losses).max(initial=0) < TOLERANCE)
