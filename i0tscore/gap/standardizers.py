"""Standardizers by name; ``formulas`` has the table of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from i0tscore.errors import StatisticsError, UsageError
from i0tscore.gap.formulas import HOW_TO_HAVE, KINDS, GapStatistics, Need, Side, Similarity
from i0tscore.gap.vectors import ArrayT


def shortest(number: float) -> str:
    """A number in as few digits as give it back exactly.

    Example:
        >>> shortest(2.0), shortest(0.12345678)
        ('2', '0.12345678')
    """
    brief = f"{number:g}"
    return brief if float(brief) == number else repr(number)


@dataclass(frozen=True, slots=True)
class Standardizer:
    """A named way to move both modalities before comparing them.

    Attributes:
        name: One of the table in ``formulas``, e.g. ``post``.
        strength: λ or t, for those that have one.

    Raises:
        UsageError: No such name, or a strength where none belongs, or none where one does.

    Example:
        >>> Standardizer.parse("dn(0.25)")
        Standardizer(name='dn', strength=0.25)
        >>> str(Standardizer.parse("dn")), Standardizer.parse("dn").similarity
        ('dn(0.25)', 'dot')
    """

    name: str
    strength: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not in the table."""
        kind = KINDS.get(self.name)
        if kind is None or (self.strength is None) != (not kind.symbol):
            raise UsageError(f"no standardizer {_written(self)!r}; there are {', '.join(_forms())}")
        if self.strength is not None and not math.isfinite(self.strength):
            raise UsageError(f"standardizer {_written(self)!r}: {kind.symbol} must be a finite number")
        if kind.symbol == "t" and not (self.strength or 0.0) > 0:
            raise UsageError(f"standardizer {_written(self)!r}: t must be above 0")

    @classmethod
    def parse(cls, text: str) -> Standardizer:
        """Read a name such as ``post``, ``dn`` or ``dn(0.25)``; without a parameter its default is taken."""
        match = re.fullmatch(r"(\w+)(?:\(([^()]+)\))?", text.strip())
        name, given = match.groups() if match else (text, None)
        default = KINDS[name].default if name in KINDS else None
        try:
            return cls(name, default if given is None else float(given))
        except UsageError:
            raise
        except ValueError:
            raise UsageError(f"standardizer {text!r}: {given!r} is not a number") from None

    def __str__(self) -> str:
        return _written(self)

    @property
    def similarity(self) -> Similarity:
        """How the standardized vectors are compared."""
        return KINDS[self.name].similarity

    @property
    def cross_modal_only(self) -> bool:
        """Whether images can be compared with captions only, not with images, nor captions with captions."""
        return KINDS[self.name].cross_modal_only

    @property
    def need(self) -> Need | None:
        """What of reference statistics is needed, if anything."""
        return KINDS[self.name].need

    def images(self, vectors: ArrayT, reference: GapStatistics) -> ArrayT:
        """Standardize unit image embeddings (…, d).

        Raises:
            StatisticsError: The reference lacks what is needed.
        """
        return self._apply(vectors, Side(reference, 0))

    def captions(self, vectors: ArrayT, reference: GapStatistics) -> ArrayT:
        """Standardize unit caption embeddings (…, d); raises StatisticsError as ``images`` does."""
        return self._apply(vectors, Side(reference, 1))

    def _apply(self, vectors: ArrayT, side: Side) -> ArrayT:
        if self.need is not None and not side.reference.has(self.need):
            raise StatisticsError(f"{self} needs {HOW_TO_HAVE[self.need]}")
        parameters = () if self.strength is None else (self.strength,)
        result: ArrayT = KINDS[self.name].formula(vectors, side, *parameters)
        return result


def all_standardizers() -> Iterator[Standardizer]:
    """Every standardizer of the table, those with a parameter once for each value worth trying."""
    for name, kind in KINDS.items():
        for strength in kind.tried or (None,):
            yield Standardizer(name, strength)


def default_standardizers() -> Iterator[Standardizer]:
    """Every standardizer of the table once, with the default of its parameter."""
    return (Standardizer(name, kind.default) for name, kind in KINDS.items())


def _written(standardizer: Standardizer) -> str:
    name, strength = standardizer.name, standardizer.strength
    return name if strength is None else f"{name}({shortest(strength)})"


def _forms() -> list[str]:
    return [f"{name}({kind.symbol})" if kind.symbol else name for name, kind in KINDS.items()]


NONE = Standardizer("none")
POST = Standardizer("post")
