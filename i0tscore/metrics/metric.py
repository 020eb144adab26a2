"""Metrics as values: standardizer × weight × clip × reference rule, with names that can be parsed.

``CLIPScore``, ``I0TScore(clip=yes,weight=2)``, ``RefI0TScore(reference_rule=mean)``,
``DNScore(lambda=0.5)``, ``CLIPScore(std=shift(0.5))``; the part in brackets says what differs from the named
metric.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from i0tscore.errors import UsageError
from i0tscore.gap.standardizers import NONE, POST, Standardizer, shortest
from i0tscore.gap.vectors import ArrayT
from i0tscore.metrics.functional import ReferenceRule, combine_references

PREFIX = "A photo depicts "
"""What CLIPScore and I0T put before every caption and reference."""


_OUTER_COMMA = re.compile(r",(?![^()]*\))")
"""A comma that is not inside brackets."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is computed from one image, one caption and, for Ref- metrics, the references.

    Attributes:
        base: Name in the table of metrics.
        standardizer: What is done to the embeddings first.
        weight: Factor of the image–caption similarity.
        clip: Whether a negative similarity becomes 0.
        reference_rule: How references join in; None for reference-free metrics.

    Example:
        >>> metric = Metric.parse("I0TScore(clip=yes,weight=2)")
        >>> str(metric), metric.weight, metric.clip
        ('I0TScore(clip=yes,weight=2)', 2.0, True)
    """

    base: str
    standardizer: Standardizer = NONE
    weight: float = 1.0
    clip: bool = False
    reference_rule: ReferenceRule | None = None

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read a metric's name.

        Raises:
            UsageError: No such metric or setting.
        """
        match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
        name = match.group(1).lower() if match else ""
        if name in RENAMED:
            name = RENAMED[name].lower()
            warnings.warn(
                f"The metric {text!r} is now called {METRICS[name].base}. The old name works until the next release.",
                UserWarning,
                stacklevel=2,
            )
        metric = METRICS.get(name)
        if match is None or metric is None:
            raise UsageError(f"no metric {text!r}; there are {', '.join(sorted(m.base for m in METRICS.values()))}")
        for setting in filter(None, map(str.strip, _OUTER_COMMA.split(match.group(2) or ""))):
            key, _, value = setting.partition("=")
            metric = metric._with(key.strip(), value.strip(), text)
        if metric.needs_references and metric.standardizer.spec.cross_modal_only:
            raise UsageError(
                f"metric {text!r}: {metric.standardizer} compares images with captions only, and references "
                "are captions; use a metric without references"
            )
        return metric

    def _with(self, key: str, value: str, text: str) -> Metric:
        settings: dict[str, Callable[[], Metric]] = {
            "weight": lambda: replace(self, weight=_positive(value)),
            "clip": lambda: replace(self, clip={"yes": True, "no": False}[value]),
            "std": lambda: replace(self, standardizer=Standardizer.parse(value)),
        }
        if self.reference_rule is not None:
            rules: dict[str, ReferenceRule] = {"harmonic": "harmonic", "mean": "mean"}
            settings["reference_rule"] = lambda: replace(self, reference_rule=rules[value])
        if self.standardizer.strength is not None:
            name = self.standardizer.name
            settings["lambda"] = lambda: replace(self, standardizer=Standardizer(name, _finite(value)))
        try:
            return settings[key]()
        except UsageError as error:
            raise UsageError(f"metric {text!r}: {error}") from None
        except (KeyError, ValueError):
            raise UsageError(
                f"metric {text!r}: {key}={value} is not understood; {self.base} takes "
                "weight=NUMBER above 0, clip=yes|no, std=STANDARDIZER"
                + ("" if self.reference_rule is None else ", reference_rule=harmonic|mean")
                + ("" if self.standardizer.strength is None else ", lambda=NUMBER")
            ) from None

    def __str__(self) -> str:
        default = METRICS[self.base.lower()]
        settings = []
        if self.clip != default.clip:
            settings.append(f"clip={'yes' if self.clip else 'no'}")
        if self.standardizer.name != default.standardizer.name:
            settings.append(f"std={self.standardizer}")
        elif self.standardizer != default.standardizer:
            settings.append(f"lambda={shortest(self.standardizer.strength or 0.0)}")
        if self.reference_rule != default.reference_rule:
            settings.append(f"reference_rule={self.reference_rule}")
        if self.weight != default.weight:
            settings.append(f"weight={shortest(self.weight)}")
        return self.base + (f"({','.join(settings)})" if settings else "")

    @property
    def needs_references(self) -> bool:
        """Whether each sample must have references."""
        return self.reference_rule is not None

    @property
    def needs_statistics(self) -> bool:
        """Whether a run must have reference statistics: under every standardizer but ``none``."""
        return self.standardizer != NONE

    def for_pairs(self, first: str, second: str) -> Metric:
        """Self, if it compares any item of one kind with any of another.

        Args:
            first: ``image`` or ``caption``.
            second: The same.

        Raises:
            UsageError: It needs references, or its standardizer compares images with captions only.
        """
        if self.needs_references:
            raise UsageError(f"{self} needs references; similarity takes metrics without")
        if first == second and self.standardizer.spec.cross_modal_only:
            raise UsageError(f"{self} compares images with captions only, not {first}s with {second}s")
        return self

    def value(self, similarity: ArrayT, nearest: ArrayT | None = None) -> ArrayT:
        """The metric from image–caption similarities and, for Ref- metrics, the nearest references'.

        Args:
            similarity: Dot products of standardized embeddings, any shape.
            nearest: Highest dot product of caption and references, broadcastable to the same.
        """
        weighted: Any = self.weight * (similarity.clip(0) if self.clip else similarity)
        if self.reference_rule is None or nearest is None:
            return weighted  # type: ignore[no-any-return]
        return combine_references(weighted, nearest, self.reference_rule)  # type: ignore[no-any-return]


METRICS: dict[str, Metric] = {
    metric.base.lower(): metric
    for metric in (
        Metric("CLIPScore", NONE, weight=2.5, clip=True),
        Metric("RefCLIPScore", NONE, weight=2.5, clip=True, reference_rule="harmonic"),
        Metric("I0TScore", POST),
        Metric("RefI0TScore", POST, reference_rule="harmonic"),
        Metric("DNScore", Standardizer("dn", 0.25)),
        Metric("CovarianceI0TScore", Standardizer("covariance", 0.2)),
        Metric("AsyncI0TScore", Standardizer("async")),
    )
}


RENAMED = {"colori0tscore": "CovarianceI0TScore"}
"""Former names in lower case, which still parse with a warning."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Metrics and prefix that go together.

    Attributes:
        metrics: Metrics without references.
        with_references: Those added when references are given.
        prefix: Text before every caption and reference.
    """

    metrics: tuple[str, ...]
    with_references: tuple[str, ...]
    prefix: str

    def choose(self, references: bool) -> tuple[str, ...]:
        """The preset's metrics for input with or without references."""
        return self.metrics + (self.with_references if references else ())


PRESETS: dict[str, Preset] = {
    "paper": Preset(("I0TScore", "CLIPScore"), ("RefI0TScore", "RefCLIPScore"), PREFIX),
    "torchmetrics": Preset(("CLIPScore(clip=no,weight=100)",), (), ""),
    "raw": Preset(("CLIPScore(clip=no,weight=1)",), (), ""),
}


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _positive(text: str) -> float:
    number = _finite(text)
    if number <= 0:
        raise ValueError(text)
    return number


def parse_metrics(names: Sequence[str | Metric] | str | Metric) -> tuple[Metric, ...]:
    """Parse one or several metric names, in order and without repeats."""
    names = (names,) if isinstance(names, str | Metric) else names
    return tuple(dict.fromkeys(n if isinstance(n, Metric) else Metric.parse(n) for n in names))
