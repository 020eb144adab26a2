"""The explanation of one score: its data, and how it is shown."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from i0tscore.explanation.plot import draw
from i0tscore.explanation.regions import RegionMap
from i0tscore.explanation.units import UnitEffect
from i0tscore.files import replace_file
from i0tscore.render.document import (
    UNDEFINED,
    Document,
    Heatmap,
    Marked,
    Notes,
    Paragraph,
    Signatures,
    Table,
    format_number,
    one_line,
    render_fragment,
    shorten,
)
from i0tscore.render.gap_plot import require_matplotlib
from i0tscore.render.page import overlay, render_blocks, render_html
from i0tscore.results.report import NOT_IN_JSON, Report, Signature
from i0tscore.results.result import SampleResult

_BAR = 24
_LABEL = 40
_PARTS = {"semantic": "semantic", "image_bias": "image bias", "caption_bias": "caption bias", "offset": "offset"}
_PLACES = (("top left", "top", "top right"), ("left", "center", "right"), ("bottom left", "bottom", "bottom right"))


class Deletion(NamedTuple):
    """How the score falls when parts are removed, which shows whether the explanation is faithful for this pair.

    Attributes:
        full: The score with all parts.
        by_effect: Mean score while parts are removed, from the one that supports the score most.
        others: Mean score while parts are removed in other orders: words in random order, regions by the same map
            shifted and mirrored at random. Higher than ``by_effect`` if the explanation is faithful.
        beaten: Number of these orders that lower the score less than ``by_effect``.
        orders: Number of these orders.
    """

    full: float
    by_effect: float
    others: float
    beaten: int
    orders: int


class NearestReference(NamedTuple):
    """A reference with its similarity to the caption, as computed for the reference side of the metric."""

    text: str
    similarity: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Explanation(Report):
    """Explanation of the score of one caption of one image.

    Attributes:
        metric: The metric that is explained.
        signature: Every setting that the score depends on.
        sample: The scores, percentiles, and breakdown, as ``Result.samples`` has them; for a Ref- metric also those of
            the metric without references.
        units: ``words`` or ``sentences``: what the caption is split into.
        effects: The contribution of each unit, in the order of the caption.
        regions: Where the image supports the caption or a phrase, or None if not asked for.
        references: The references, the nearest first.
        word_deletion: How faithful ``effects`` are, or None with fewer than three units.
        region_deletion: How faithful ``regions`` are, or None.
        notes: Remarks for the reader.
        image: The decoded image, for views; not in the JSON.
    """

    SCHEMA = "i0tscore.explanation/1"

    metric: str
    signature: Signature
    sample: SampleResult
    units: Literal["words", "sentences"]
    effects: tuple[UnitEffect, ...]
    regions: RegionMap | None = None
    references: tuple[NearestReference, ...] = ()
    word_deletion: Deletion | None = None
    region_deletion: Deletion | None = None
    notes: tuple[str, ...] = ()
    image: Image.Image | None = field(default=None, metadata=NOT_IN_JSON)

    def figures(self) -> dict[str, str]:
        """Return the score, and the words or sentences with the highest and the lowest effect."""
        defined = sorted((e.effect, e.text) for e in self.effects if e.effect is not None)
        ends = {"highest": defined[-1], "lowest": defined[0]} if defined else {}
        return {
            self.metric: format_number(self.sample.scores[self.metric].value),
            **{name: f"{shorten(one_line(text), _LABEL)} ({signed(effect)})" for name, (effect, text) in ends.items()},
        }

    def tables(self) -> list[Table]:
        """Return the scores and the effects."""
        return [_scores_table(self), _effects_table(self)]

    def _repr_html_(self) -> str:
        """Return HTML for notebooks."""
        shown = [self.marked if self.units == "words" else None, *self.tables(), Notes(self.notes)]
        if self.regions is None:
            return render_fragment(Document(shown))
        block = _map(self.regions, self.image)
        picture = f'<img src="{overlay(block)}" alt="{html.escape(one_line(block.title))}">'
        return f"{render_fragment(Document([*shown, block]))}\n{picture}"

    @property
    def document(self) -> Document:
        """The score, its parts, the words, the map, and how faithful they are, for renderers."""
        sample = self.sample
        return Document(
            [
                self.marked if self.units == "words" else None,
                _scores_table(self),
                _parts_table(sample.breakdown) if sample.breakdown else None,
                _effects_table(self) if any(e.effect is not None for e in self.effects) else None,
                None if self.regions is None else _map(self.regions, self.image),
                _references_table(self),
                Paragraph(_faithfulness(self)),
                Notes((*sample.notes, *self.notes)),
                Signatures([str(self.signature)]),
            ]
        )

    @property
    def marked(self) -> Marked:
        """The caption, with its words weighted by their effects."""
        caption, largest = self.sample.caption or "", _largest([e.effect for e in self.effects])
        parts, position = list[tuple[str, float]](), 0
        for effect in self.effects:
            parts += [(caption[position : effect.start], 0.0), (effect.text, (effect.effect or 0.0) / largest)]
            position = effect.end
        return Marked([*parts, (caption[position:], 0.0)])

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the explanation as a page: a single file that loads nothing from the network.

        Args:
            path: File to write the page to; None to only return it.

        Raises:
            MissingExtraError: Jinja2 is not installed.
        """
        page = render_html(self.document)
        if path is not None:
            replace_file(Path(path), page.encode("utf-8", "backslashreplace"))
        return page

    def fragment(self) -> str:
        """Return the words and the map as HTML, to embed in a page with the same stylesheet."""
        words = self.marked if self.units == "words" else _effects_table(self)
        return render_blocks([words] if self.regions is None else [words, _map(self.regions, self.image)])

    def plot(self, figure: Any = None) -> list[Any]:
        """Draw the map over the image, if there is one, and the effects of the words.

        Args:
            figure: An empty Matplotlib figure; None for a new pyplot figure, which notebooks show.

        Returns:
            The Matplotlib axes.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        require_matplotlib("a plot of an explanation")
        if figure is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=self.figure_size, layout="constrained")
        return draw(figure, self.metric, self.effects, self.regions, self.image)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height of the plot in inches."""
        return (9.0 if self.regions is not None else 5.0), max(4.0, 1.2 + 0.24 * len(self.effects))


def _scores_table(explanation: Explanation) -> Table:
    """Return one row for each metric, the explained one first."""
    scores = explanation.sample.scores
    rows = [
        [
            name,
            format_number(scores[name].value),
            *(
                UNDEFINED if share is None else f"{share:.0f}%"
                for share in (scores[name].percentile_matched, scores[name].percentile_mismatched)
            ),
            format_number(scores[name].p_match, 2),
        ]
        for name in dict.fromkeys((explanation.metric, *scores))
    ]
    return Table(["metric", "score", "matched pairs below", "mismatched pairs below", "p(match)"], rows, wrap=False)


def _parts_table(breakdown: dict[str, float | None]) -> Table:
    values = [breakdown[name] for name in _PARTS]
    rows = [
        [label, bar, signed(value)] for label, bar, value in zip(_PARTS.values(), _bars(values), values, strict=True)
    ]
    return Table(
        ["part", "", "value"], rows, f"Parts of the cosine ({format_number(breakdown['cosine'])} in total)", left=2
    )


def _effects_table(explanation: Explanation) -> Table:
    """Return one row for each unit: words from the largest effect to the smallest, sentences in order, numbered."""
    effects: Sequence[UnitEffect] = explanation.effects
    sentences = explanation.units == "sentences"
    if not sentences:
        effects = sorted(effects, key=lambda e: -np.inf if e.effect is None else e.effect, reverse=True)
    bars = _bars([e.effect for e in effects])
    rows = [[e.text, bar, signed(e.effect)] for e, bar in zip(effects, bars, strict=True)]
    title = f"Effect on {explanation.metric}: the score of the caption minus the score without the "
    if sentences:
        numbered = [[str(i), *row] for i, row in enumerate(rows, 1)]
        return Table(["", "sentence", "", "effect"], numbered, f"{title}sentence", left=3, shorten={"sentence": None})
    return Table(["word", "", "effect"], rows, f"{title}word", left=2)


def _map(regions: RegionMap, image: Image.Image | None) -> Heatmap:
    row, column = np.unravel_index(regions.values.argmax(), regions.values.shape)
    rows, columns = regions.values.shape
    place = _PLACES[3 * int(row) // rows][3 * int(column) // columns]
    what = (
        "similarity of each location" if regions.method == "local" else "drop in similarity when a location is hidden"
    )
    return Heatmap(
        regions.values.tolist(),
        f"Where the image supports “{regions.text}”: {what}. Strongest: {place}.",
        regions.aspect,
        image,
        regions.box,
    )


def _references_table(explanation: Explanation) -> Table | None:
    if not explanation.references:
        return None
    rows = [[reference.text, format_number(reference.similarity)] for reference in explanation.references]
    return Table(["reference", "similarity to the caption"], rows, wrap=False, shorten={"reference": None})


def _faithfulness(explanation: Explanation) -> Iterator[str]:
    """Say how far the effects and the map can be trusted for this pair."""
    found, metric = explanation.word_deletion, explanation.metric
    if found is not None:
        yield (
            f"Removing {explanation.units} in order of effect changes {metric} from {format_number(found.full)} to "
            f"{format_number(found.by_effect)} on average, compared with {format_number(found.others)} for random "
            f"orders. {_verdict(found, 'random orders', 'the effects')}"
        )
    found = explanation.region_deletion
    if found is not None:
        yield (
            f"Hiding regions in order of the map changes the similarity from {format_number(found.full)} to "
            f"{format_number(found.by_effect)} on average, compared with {format_number(found.others)} for regions of "
            f"the same shapes elsewhere. {_verdict(found, 'other maps', 'the map')}"
        )


def _verdict(found: Deletion, others: str, what: str) -> str:
    if found.beaten == found.orders:
        return f"All {found.orders} {others} lower it less, which supports {what} for this pair."
    said = f"{found.beaten} of {found.orders} {others} lower it less"
    return f"{said}." if 4 * found.beaten >= 3 * found.orders else f"Only {said}. Do not rely on {what} for this pair."


def _bars(values: Sequence[float | None]) -> list[str]:
    """Return bars on one scale, solid for positive and light for negative values."""
    scale = _BAR / _largest(values)
    return [("█" if value > 0 else "░") * round(abs(value) * scale) if value else "" for value in values]


def _largest(values: Sequence[float | None]) -> float:
    return max((abs(value) for value in values if value is not None), default=0.0) or 1.0


def signed(value: float | None) -> str:
    """Format a number with its sign, unless it is rounded to 0."""
    text = format_number(value)
    return f"+{text}" if value is not None and round(value, 3) > 0 else text
