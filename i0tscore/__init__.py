"""i0tscore scores how well captions fit images, on an interpretable scale.

    import i0tscore
    result = i0tscore.i0t_score(images, captions, model="lite")
    result["I0TScore"].mean, result.samples[0].breakdown

Names are imported at first use: ``import i0tscore`` loads neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from i0tscore.encoders import load_encoder
    from i0tscore.errors import I0TScoreError
    from i0tscore.explanation.explain import explain
    from i0tscore.explanation.explanation import Explanation
    from i0tscore.gap import Statistics
    from i0tscore.metrics import functional
    from i0tscore.metrics.filtering import filter
    from i0tscore.metrics.metric import Metric
    from i0tscore.metrics.scorer import I0TScorer, clip_score, fit, i0t_score
    from i0tscore.results import Result, Signature
    from i0tscore.samples import Sample, read_samples
    from i0tscore.training.i0t_async import fit_async

_NAMES = {
    "encoders": ["load_encoder"],
    "errors": ["I0TScoreError"],
    "explanation.explain": ["explain"],
    "explanation.explanation": ["Explanation"],
    "gap": ["Statistics"],
    "metrics.filtering": ["filter"],
    "metrics.functional": ["functional"],
    "metrics.metric": ["Metric"],
    "metrics.scorer": ["I0TScorer", "clip_score", "fit", "i0t_score"],
    "results": ["Result", "Signature"],
    "samples": ["Sample", "read_samples"],
    "training.i0t_async": ["fit_async"],
}
_HOMES = {name: f"i0tscore.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "Explanation",
    "I0TScoreError",
    "I0TScorer",
    "Metric",
    "Result",
    "Sample",
    "Signature",
    "Statistics",
    "clip_score",
    "explain",
    "filter",
    "fit",
    "fit_async",
    "functional",
    "i0t_score",
    "load_encoder",
    "read_samples",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("i0tscore")
    if name not in _HOMES:
        raise AttributeError(f"module 'i0tscore' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if name == "functional" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
