"""What a run over shards is told: how to encode, what to compute, where to write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.encoders.encoded import EncodedRun
from i0tscore.encoders.options import EncodeOptions
from i0tscore.gap import Statistics
from i0tscore.metrics.evaluate import metric_signature
from i0tscore.metrics.metric import PRESETS, Metric
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Resampling, Signature
from i0tscore.results.signature import SignatureFields

if TYPE_CHECKING:
    from i0tscore.encoders.base import Fingerprint

_NOTHING = np.zeros((0, 1), dtype=np.float32), np.zeros(0, dtype=np.int64), ()
_NO_RUN = EncodedRun((), (), *_NOTHING, *_NOTHING)
"""What a signature is made of before its counts are known."""


@dataclass(frozen=True)
class ShardSettings(EncodeOptions):
    """How shards are encoded and scored; every setting means what it means for ``I0TScorer``.

    The model is a name, or an ``Encoder`` that can be sent to other processes; files must exist on every machine.

    Attributes:
        statistics: ``batch`` takes two passes; ``auto`` takes the statistics shipped for the model.
        metrics: Names or values; None for the metrics of the preset.
        preset: ``paper``, ``torchmetrics``, or ``raw``.
        confidence: Coverage of the intervals.
        resamples: Number of bootstrap resamples; 0 for no intervals.
        seed: Bootstrap seed.
    """

    statistics: str | Path | Statistics = "auto"
    metrics: Any = None
    preset: str = "paper"
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 12345

    def __post_init__(self) -> None:
        """Reject what the scorer rejects, before any work."""
        I0TScorer(**vars(self))

    @property
    def resampling(self) -> Resampling:
        """Of the intervals."""
        return Resampling(self.confidence, self.resamples, self.seed)

    @property
    def prefix(self) -> str:
        """Text before every caption."""
        return PRESETS[self.preset].prefix


@dataclass(frozen=True)
class Prepared:
    """What only a process with the model knows.

    Attributes:
        fingerprint: Of the encoder.
        settings: For signatures.
        statistics: Fixed ones, or None.
    """

    fingerprint: Fingerprint
    settings: SignatureFields
    statistics: Statistics | None


@dataclass(frozen=True)
class Job:
    """One pass over shards.

    Attributes:
        settings: How shards are encoded.
        metrics: What is computed.
        made_by: For signatures.
        output: Folder of the scores.
        images: Folder of images that are not in the shards, or None.
        kept: Folder of embeddings between the passes, or None.
        statistics: Those used, or None.
    """

    settings: ShardSettings
    metrics: tuple[Metric, ...]
    made_by: SignatureFields
    output: Path
    images: Path | None = None
    kept: Path | None = None
    statistics: Statistics | None = None

    @property
    def references(self) -> bool:
        """Whether any metric needs them."""
        return any(metric.needs_references for metric in self.metrics)

    def signature(self, metric: Metric, n: int = 0, skipped: int = 0) -> Signature:
        """How the metric is made; ``bs`` says that the bootstrap draws by Poisson weights."""
        made = metric_signature(_NO_RUN, metric, self.statistics, self.made_by)
        made = made.with_field("n", str(n)).with_field("skipped", str(skipped))
        return made.with_field("bs", f"poisson-{self.settings.resamples}")
