"""Metrics as values: standardizer × weight × clipping × reference rule, with names that can be parsed.

Examples: ``CLIPScore``, ``I0TScore(clip=yes,weight=2)``, ``RefI0TScore(reference_rule=mean)``,
``ContextI0TScore(context_rule=mean)``, ``DNScore(lambda=0.5)``, ``CLIPScore(std=shift(0.5))``. The settings in
parentheses override those of the named metric.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from i0tscore.errors import UsageError, did_you_mean
from i0tscore.gap.standardizers import NONE, POST, Standardizer, shortest
from i0tscore.gap.vectors import ArrayT
from i0tscore.metrics.functional import ContextRule, ReferenceRule, combine_references

if TYPE_CHECKING:
    from i0tscore.gap import Statistics
    from i0tscore.gap.statistics import ReferenceDistribution

PREFIX = "A photo depicts "
"""Text that CLIPScore and I0T put before every caption and reference."""

RENAMED = {"colori0tscore": "CovarianceI0TScore"}
"""Former names in lower case, which still parse with a warning."""

_OUTER_COMMA = re.compile(r",(?![^()]*\))")
"""A comma outside parentheses."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of a caption by its image, for Ref- metrics also its references, or by its context.

    Attributes:
        base: Name in the table ``METRICS``.
        standardizer: Standardizer applied to the embeddings.
        weight: Factor of the image–caption similarity.
        clip: Whether negative similarities become 0.
        reference_rule: How references are combined; None for metrics without references.
        context_rule: What a caption is compared with: its context alone, or the context and the image, whose
            similarities are averaged; None for metrics without contexts.

    Examples:
        >>> metric = Metric.parse("I0TScore(clip=yes,weight=2)")
        >>> str(metric), metric.weight, metric.clip
        ('I0TScore(clip=yes,weight=2)', 2.0, True)
    """

    base: str
    standardizer: Standardizer = NONE
    weight: float = 1.0
    clip: bool = False
    reference_rule: ReferenceRule | None = None
    context_rule: ContextRule | None = None

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Parse a metric's name.

        Args:
            text: Name, with settings in parentheses where they differ from its own, as in ``I0TScore(clip=yes)``.

        Raises:
            UsageError: The metric or one of its settings is unknown.
        """
        match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
        name = match.group(1).lower() if match else ""
        if name in RENAMED:
            name = RENAMED[name].lower()
            note = f"The metric {text!r} is now called {METRICS[name].base}. The old name works until the next release."
            warnings.warn(note, UserWarning, stacklevel=2)
        if match is None or name not in METRICS:
            raise UsageError(f"Unknown metric {text!r}.{_suggest(text)}")
        metric = METRICS[name]
        for setting in filter(None, map(str.strip, _OUTER_COMMA.split(match.group(2) or ""))):
            key, _, value = setting.partition("=")
            metric = metric._with(key.strip(), value.strip(), text)
        if (metric.needs_references or metric.needs_context) and metric.standardizer.spec.cross_modal_only:
            raise UsageError(
                f"Invalid metric {text!r}. {metric.standardizer} only compares images with captions, and references "
                "and contexts are texts. Use a metric without them."
            )
        return metric

    def _with(self, key: str, value: str, text: str) -> Metric:
        """Return the metric with one setting replaced; ``text`` is the whole name, for messages."""

        def number() -> float:
            if not math.isfinite(parsed := float(value)) or (key == "weight" and parsed <= 0):
                raise ValueError(value)
            return parsed

        settings: dict[str, tuple[str, Callable[[], Metric]]] = {
            "weight": ("NUMBER above 0", lambda: replace(self, weight=number())),
            "clip": ("yes|no", lambda: replace(self, clip={"yes": True, "no": False}[value])),
            "std": ("STANDARDIZER", lambda: replace(self, standardizer=Standardizer.parse(value))),
        }
        if self.reference_rule is not None:
            rules: dict[str, ReferenceRule] = {rule: rule for rule in get_args(ReferenceRule)}
            settings["reference_rule"] = "|".join(rules), lambda: replace(self, reference_rule=rules[value])
        if self.context_rule is not None:
            context_rules: dict[str, ContextRule] = {rule: rule for rule in get_args(ContextRule)}
            settings["context_rule"] = "|".join(context_rules), lambda: replace(self, context_rule=context_rules[value])
        if self.standardizer.strength is not None:
            name = self.standardizer.name
            settings["lambda"] = "NUMBER", lambda: replace(self, standardizer=Standardizer(name, number()))
        try:
            return settings[key][1]()
        except UsageError as error:
            raise UsageError(f"Invalid metric {text!r}. {error}") from None
        except (KeyError, ValueError):
            accepted = ", ".join(f"{name}={values}" for name, (values, _) in settings.items())
            raise UsageError(
                f"Invalid metric {text!r}: cannot use {key}={value}. {self.base} accepts {accepted}."
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
        if self.context_rule != default.context_rule:
            settings.append(f"context_rule={self.context_rule}")
        if self.weight != default.weight:
            settings.append(f"weight={shortest(self.weight)}")
        return self.base + (f"({','.join(settings)})" if settings else "")

    @property
    def needs_references(self) -> bool:
        """Whether each sample must have references."""
        return self.reference_rule is not None

    @property
    def needs_context(self) -> bool:
        """Whether a sample must have a context to have a score."""
        return self.context_rule is not None

    @property
    def needs_statistics(self) -> bool:
        """Whether a run must have reference statistics: for every standardizer but ``none``."""
        return self.standardizer != NONE

    @property
    def with_parts(self) -> tuple[Metric, ...]:
        """The metric, and for one with references or contexts also the metric without, of image and caption."""
        if self.reference_rule is None and self.context_rule is None:
            return (self,)
        base = self.base.removeprefix("Ref").removeprefix("Context")
        return self, replace(self, base=base, reference_rule=None, context_rule=None)

    def distribution(self, statistics: Statistics | None) -> ReferenceDistribution | None:
        """Return the reference distribution of the metric's similarities; None with references, or if there is none."""
        if statistics is None or self.needs_references:
            return None
        key = str(self.standardizer) + ("" if self.context_rule is None else f"+context-{self.context_rule}")
        return statistics.reference.get(key)

    def value(self, similarity: ArrayT, nearest: ArrayT | None = None) -> ArrayT:
        """Compute the metric from similarities.

        Args:
            similarity: Dot products of standardized captions and images, or what takes their place, any shape.
            nearest: For Ref- metrics, the ``reference_similarity`` of each caption, broadcastable to the same shape.
                None computes the part without references.
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
        Metric("ContextI0TScore", POST, context_rule="alone"),
    )
}


def _suggest(text: str) -> str:
    """Return what to give instead of an unknown metric, to append to a message."""
    from i0tscore.metrics.classic import CLASSIC_METRICS

    several = [name.strip() for name in _OUTER_COMMA.split(text)]
    if len(several) > 1:
        return f" Repeat the option for each metric: {' '.join(f'--metric {name}' for name in several)}."
    if did_you_mean(text, CLASSIC_METRICS):
        return f" {', '.join(CLASSIC_METRICS)} use no images and are computed by `i0tscore correlate` only."
    names = sorted(metric.base for metric in METRICS.values())
    return f"{did_you_mean(text, names)} Choose one of {', '.join(names)}."


@dataclass(frozen=True, slots=True)
class Preset:
    """Metrics with the caption prefix they are defined for.

    Attributes:
        metrics: Metrics without references.
        with_references: Metrics to add if references are given.
        with_contexts: Metrics to add if contexts are given.
        prefix: Text before every caption and reference.
    """

    metrics: tuple[str, ...]
    with_references: tuple[str, ...]
    with_contexts: tuple[str, ...]
    prefix: str

    def choose(self, references: bool, contexts: bool = False) -> tuple[str, ...]:
        """Return the metrics for input with or without references and contexts."""
        return self.metrics + self.with_references * references + self.with_contexts * contexts


PRESETS: dict[str, Preset] = {
    "paper": Preset(("I0TScore", "CLIPScore"), ("RefI0TScore", "RefCLIPScore"), ("ContextI0TScore",), PREFIX),
    "torchmetrics": Preset(("CLIPScore(clip=no,weight=100)",), (), (), ""),
    "raw": Preset(("CLIPScore(clip=no,weight=1)",), (), (), ""),
}


def parse_metrics(names: Sequence[str | Metric] | str | Metric) -> tuple[Metric, ...]:
    """Parse one or several metric names, in order and without duplicates."""
    names = (names,) if isinstance(names, str | Metric) else names
    return tuple(dict.fromkeys(name if isinstance(name, Metric) else Metric.parse(name) for name in names))
