"""The page of a comparison: where a system scores higher or lower than the baseline, and with which captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.images import ImageInput
from i0tscore.errors import InputError
from i0tscore.render.charts import histogram
from i0tscore.render.document import Table, format_number
from i0tscore.render.page import named_blocks, render_page
from i0tscore.render.score_page import thumbnail
from i0tscore.results.comparison import Comparison, PairedSamples, compare_means, score_gains
from i0tscore.results.intervals import Estimate, difference_row, format_estimate
from i0tscore.views.report_views import comparison_document

_EXAMPLES = 10
_BUCKETS = 4
_PHRASES, _LONGEST_PHRASE, _FEWEST_CAPTIONS = 10, 3, 3
_MOST_MARKED_WORDS = 300
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def comparison_page(comparison: Comparison, images: Mapping[str, ImageInput] | None = None) -> str:
    """Return a comparison as an HTML page, with details of its first metric.

    Args:
        comparison: The comparison, with its samples.
        images: Images by id, for the examples; None for a page without images.

    Raises:
        InputError: No id has a score in every system.
        MissingExtraError: Jinja2 is not installed.
    """
    samples, base = comparison.samples, comparison.baseline
    metric = next(iter(comparison.metrics))
    if not comparison.metrics[metric].n:
        raise InputError(
            "Expected at least one id with a score in every system, got none. Compare systems with ids in common."
        )
    document = comparison_document(comparison)
    systems = [_details(comparison, samples, metric, name, images) for name in comparison.systems if name != base]
    return render_page(
        "comparison.html", metric=metric, baseline=base, blocks=named_blocks(document.filled), systems=systems
    )


def _details(
    comparison: Comparison,
    samples: PairedSamples,
    metric: str,
    system: str,
    images: Mapping[str, ImageInput] | None,
) -> dict[str, Any]:
    """Return what the page shows of one system against the baseline, over the ids that all systems have scores of."""
    base, values = comparison.baseline, samples.values[metric]
    rows = samples.common(metric)
    gains = score_gains(values[system], values[base])[rows]
    texts = {name: [samples.captions[name][i] for i in rows] for name in samples.captions}
    clusters = [samples.images[i] for i in rows]

    def by_bucket(title: str, measure: NDArray[np.float64], digits: int) -> Table:
        buckets = _buckets(measure)
        cells = []
        for number in np.unique(buckets):
            inside = buckets == number
            low, high = (format_number(end(measure[inside]), digits) for end in (np.min, np.max))
            pair = {base: np.zeros(inside.sum()), system: gains[inside]}
            (found,) = compare_means(
                pair, [clusters[i] for i in np.flatnonzero(inside)], base, resampling=comparison.resampling
            )
            cells.append([low if low == high else f"{low} to {high}", str(inside.sum()), difference_row(found)[0]])
        return Table([title, "ids", "difference"], cells)

    captioned = base in texts and system in texts
    return {
        "name": system,
        "sentence": _sentence(comparison, metric, system),
        "chart": histogram(gains, float(gains.mean())),
        "buckets": [
            by_bucket("mean score of both systems", (values[system] + values[base])[rows] / 2, 3),
            *([by_bucket(f"words in the caption of {base}", _lengths(texts[base]), 0)] if captioned else []),
        ],
        "phrases": [
            (owner, _phrases(texts[owner], texts[other], sign * gains))
            for owner, other, sign in ((system, base, 1), (base, system, -1))
            if captioned
        ],
        "examples": _examples(samples, rows, gains, base, system, images) if captioned else [],
    }


def _sentence(comparison: Comparison, metric: str, system: str) -> str:
    found = comparison.metrics[metric].systems[system]
    if found.difference is None:
        raise InputError(f"Expected a system to compare with the baseline, got {system}.")
    cells = difference_row(found.difference)
    p = f"; p = {cells[1]}" if found.difference.p_value is not None else ""
    return (
        f"The mean difference ({system} − {comparison.baseline}) is {cells[0]}{p}. {system} scores higher on "
        f"{found.wins:,} ids, the same on {found.ties:,}, and lower on {found.losses:,}."
    )


def _buckets(measure: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the bucket of each value: about the same number in each, with equal values together."""
    cuts = np.unique(np.quantile(measure, np.linspace(0, 1, _BUCKETS + 1)[1:-1]))
    return np.searchsorted(cuts, measure, side="left")


def _lengths(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array([len(text.split()) for text in texts], dtype=np.float64)


def _phrases(own: Sequence[str], other: Sequence[str], gains: NDArray[np.float64]) -> list[list[str]]:
    """Return phrases of up to three words that a system uses in more captions than the other system.

    Args:
        own: The system's captions (n).
        other: The other system's captions (n).
        gains: How much higher the system scores (n,).

    Returns:
        For each phrase: the phrase, the number of captions of both that have it, and the mean gain where only the
        system's caption has it.
    """
    mine, theirs = ([_phrases_of(text) for text in texts] for texts in (own, other))
    counts, others = (Counter(phrase for one in found for phrase in one) for found in (mine, theirs))
    excess = {
        phrase: (count - others[phrase]) / (count + others[phrase]) ** 0.5
        for phrase, count in counts.items()
        if count >= others[phrase] + _FEWEST_CAPTIONS
    }
    rows: list[list[str]] = []
    for phrase in sorted(excess, key=lambda phrase: (-excess[phrase], -len(phrase.split()), phrase)):
        if len(rows) == _PHRASES or any(_overlap(phrase, chosen[0]) for chosen in rows):
            continue
        only = np.array([phrase in a and phrase not in b for a, b in zip(mine, theirs, strict=True)])
        rows.append([phrase, str(counts[phrase]), str(others[phrase]), _signed(gains[only].mean())])
    return rows


def _signed(difference: float) -> str:
    return format_estimate(Estimate(float(difference), None), signed=True)


def _overlap(one: str, other: str) -> bool:
    return f" {one} " in f" {other} " or f" {other} " in f" {one} "


def _phrases_of(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + n]) for n in range(1, _LONGEST_PHRASE + 1) for i in range(len(words) - n + 1)}


def _examples(
    samples: PairedSamples,
    rows: NDArray[Any],
    gains: NDArray[np.float64],
    base: str,
    system: str,
    images: Mapping[str, ImageInput] | None,
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the ids with the largest differences in both directions, with marked captions."""
    order = np.argsort(-gains, kind="stable")
    sides = [
        (f"{system} scores higher", [i for i in order[:_EXAMPLES] if gains[i] > 0]),
        (f"{base} scores higher", [i for i in order[::-1][:_EXAMPLES] if gains[i] < 0]),
    ]
    found = []
    for title, positions in sides:
        examples = []
        for i in positions:
            row = int(rows[i])
            name = samples.ids[row]
            texts = samples.captions[base][row], samples.captions[system][row]
            examples.append(
                {
                    "id": name,
                    "difference": _signed(gains[i]),
                    "picture": None if images is None else thumbnail(images.get(name)),
                    "captions": list(zip((base, system), _marked(*texts), strict=True)),
                }
            )
        found.append((title, examples))
    return found


def _marked(first: str, second: str) -> Iterator[list[tuple[str, bool]]]:
    """Yield the runs of words of both texts, each with whether it differs."""
    words = first.split(), second.split()
    if max(map(len, words)) > _MOST_MARKED_WORDS:
        yield from ([(" ".join(one), False)] for one in words)
        return
    steps = SequenceMatcher(None, *words, autojunk=False).get_opcodes()
    yield [(" ".join(words[0][a:b]), kind != "equal") for kind, a, b, _, _ in steps if a < b]
    yield [(" ".join(words[1][c:d]), kind != "equal") for kind, _, _, c, d in steps if c < d]
