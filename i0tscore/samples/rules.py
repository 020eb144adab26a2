"""Which captions to keep: the grammar of criteria, and the options that say what is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from i0tscore.errors import UsageError
from i0tscore.options import Options, option

PER_METRIC = ("p_match", "percentile_matched", "percentile_mismatched")
"""Fields that each metric has: ``p_match`` is that of the first metric, ``p_match(CLIPScore)`` that of another."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_NESTED = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_CRITERION = re.compile(
    rf"\s*([a-z_]\w*(?:\s*{_NESTED})?)\s*(?:(>=|<=|>|<)\s*({_NUMBER})|\bbetween\s+({_NUMBER})\s+and\s+({_NUMBER}))"
    r"\s*(and\b|$)",
    re.IGNORECASE,
)
_OUTER_COMMA = re.compile(r",(?![^()]*\))")


class Criterion(NamedTuple):
    """A field with the range of values to keep, both ends included.

    Attributes:
        field: Name of the field, as written.
        low: Smallest value to keep.
        high: Largest value to keep.
        text: The criterion, as written.
    """

    field: str
    low: float
    high: float
    text: str


def parse_criteria(text: str) -> tuple[Criterion, ...]:
    """Parse criteria joined by ``and``: ``FIELD OP NUMBER`` or ``FIELD between NUMBER and NUMBER``.

    ``OP`` is one of ``>=``, ``<=``, ``>``, ``<``. A field is a word, which may have settings in parentheses.

    Raises:
        UsageError: The text does not follow this grammar.

    Examples:
        >>> [one[:3] for one in parse_criteria("p_match >= 0.5 and tokens between 5 and 70")]
        [('p_match', 0.5, inf), ('tokens', 5.0, 70.0)]
    """
    found: list[Criterion] = []
    position, more = 0, True
    while more:
        match = _CRITERION.match(text, position)
        if match is None:
            rest = text[position:].strip()
            raise UsageError(
                'Expected criteria such as "p_match >= 0.5" or "I0TScore >= 0.2 and tokens between 5 and 70", got '
                f"{rest[:60]!r}. Compare a field with a number by >=, <=, >, <, or between, and join criteria by and."
            )
        name, operator, bound, low, high, conjunction = match.groups()
        criterion = text[position : match.start(6)].strip()
        ends = _range(operator, float(bound)) if operator else (float(low), float(high))
        if ends[0] > ends[1]:
            raise UsageError(f"Expected the smaller number first, got {criterion!r}. Swap the numbers.")
        found.append(Criterion(name, *ends, criterion))
        position, more = match.end(), bool(conjunction)
    return tuple(found)


def _range(operator: str, bound: float) -> tuple[float, float]:
    """Return the smallest and the largest value that meet a comparison."""
    if operator[0] == ">":
        return (bound if operator == ">=" else math.nextafter(bound, math.inf)), math.inf
    return -math.inf, (bound if operator == "<=" else math.nextafter(bound, -math.inf))


def field_key(text: str) -> tuple[str, Hashable]:
    """Return what identifies a field, regardless of case, spaces, and the order of settings.

    Examples:
        >>> field_key("P_match( I0TScore )") == field_key("p_match(i0tscore)")
        True
    """
    base, _, inner = re.sub(r"\s", "", text).lower().partition("(")
    if base in PER_METRIC:
        return base, field_key(inner[:-1]) if inner else ""
    return base, frozenset(_OUTER_COMMA.split(inner[:-1]))


@dataclass(frozen=True)
class SelectionRules(Options):
    """What to keep, applied in the order of the fields; the first step that rejects a caption gives the reason.

    A field with a help text is also an option of the command line.

    Attributes:
        keep: Criteria, see ``parse_criteria``; empty for none.
        keep_precision: Expected share of matched pairs among those kept, in (0, 1).
        prior: Share of matched pairs in the corpus, in (0, 1); goes with ``keep_precision``.
        precision_from: Where the expected precision comes from: ``reference``, matched and mismatched reference pairs;
            or ``input``, the scores of the corpus itself and mismatched reference pairs.
        max_caption_repeats: Reject captions that occur with more images than this; case and spaces do not count.
        best_per_image: Keep only the highest caption of each image by ``by``; of equal ones, the first.
        keep_fraction: Keep this share of all scored captions, in (0, 1], highest first.
        keep_number: Keep this many captions, highest first.
        by: Field that orders captions, and the metric of ``keep_precision``; the first metric if None.

    Raises:
        UsageError: A value is not allowed, rules contradict each other, or there is none.
    """

    keep: str = option(
        'Keep captions that meet criteria, such as "p_match >= 0.5 and tokens between 5 and 70".',
        "",
        metavar="CRITERIA",
    )
    keep_precision: float | None = option(
        "Keep captions above the threshold at which this share of them is expected to be matched, given --prior.",
        type=float,
        metavar="P",
    )
    prior: float | None = option(
        "Expected share of matched pairs in the input, for --keep-precision.", type=float, metavar="P"
    )
    precision_from: str = option(
        "Estimate the precision from matched and mismatched reference pairs (reference), or from the scores of the "
        "input and mismatched reference pairs (input), for statistics that were fitted to the input.",
        "reference",
        choices=("reference", "input"),
    )
    max_caption_repeats: int | None = option(
        "Reject captions that occur with more than N images.", type=int, metavar="N"
    )
    best_per_image: bool = option("Keep the highest caption of each image.", False)
    keep_fraction: float | None = option("Keep this share of the captions, highest first.", type=float, metavar="P")
    keep_number: int | None = option("Keep N captions, highest first.", type=int, metavar="N")
    by: str | None = option("Field that orders captions.", default_text="the first metric", metavar="FIELD")

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        for name, top in (("keep_precision", 1.0), ("prior", 1.0), ("keep_fraction", math.inf)):
            value = getattr(self, name)
            if value is not None and not (0 < value < top and value <= 1):
                raise UsageError(f"Expected {name} between 0 and 1, got {value}.")
        for name in ("max_caption_repeats", "keep_number"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"Expected {name} to be at least 1, got {value}.")
        if (self.keep_precision is None) != (self.prior is None):
            raise UsageError("--keep-precision and --prior go together (keep_precision=, prior=). Give both.")
        if self.precision_from == "input" and self.keep_precision is None:
            raise UsageError("--precision-from has no effect without --keep-precision (keep_precision=). Remove it.")
        if self.keep_fraction is not None and self.keep_number is not None:
            raise UsageError("--keep-fraction and --keep-number contradict each other. Give one.")
        if self.by is not None and not self.ordering:
            raise UsageError(f"--by {self.by} has no effect. Add --best-per-image, --keep-fraction, or --keep-number.")
        if not (self.criteria or self.ordering or self.max_caption_repeats):
            raise UsageError(
                'Expected a rule for what to keep, got none. Give criteria, such as --keep "p_match >= 0.5", '
                "--keep-fraction 0.3, or --best-per-image."
            )

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The parsed criteria."""
        return parse_criteria(self.keep) if self.keep else ()

    @property
    def ordering(self) -> bool:
        """Whether a rule needs the field ``by``."""
        numbers = (self.keep_precision, self.keep_fraction, self.keep_number)
        return self.best_per_image or any(number is not None for number in numbers)

    @property
    def named(self) -> tuple[str, ...]:
        """The fields that the rules name, as written."""
        return (*(criterion.field for criterion in self.criteria), *([self.by] if self.by else []))
