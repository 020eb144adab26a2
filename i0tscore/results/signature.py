"""Signatures: one line that says how a number was made, so that it can be made again."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Signature:
    """A metric's name and every setting that its number depends on, in a fixed order.

    Same inputs and same signature, same number: to 1e-5 in fp32 across machines, exactly on one.

    Attributes:
        metric: The metric's name.
        fields: ``(key, value)`` pairs in the order shown.

    Example:
        >>> signature = Signature("CLIPScore", (("m", "lite"), ("n", "3")))
        >>> str(signature)
        'CLIPScore|m:lite|n:3'
        >>> Signature.parse(str(signature)) == signature
        True
    """

    metric: str
    fields: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [f"{key}:{_escape(value)}" for key, value in self.fields]
        return "|".join([self.metric, *parts])

    def __getitem__(self, key: str) -> str:
        return dict(self.fields)[key]

    def with_field(self, key: str, value: str) -> Signature:
        """The same signature with one value replaced."""
        return replace(self, fields=tuple((k, value if k == key else v) for k, v in self.fields))

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read what ``str`` wrote."""
        metric, *parts = text.split("|")
        pairs = (part.partition(":") for part in parts)
        return cls(metric, tuple((key, _unescape(value)) for key, _, value in pairs))


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace("|", "%7C").replace("\n", "%0A")


def _unescape(value: str) -> str:
    return value.replace("%0A", "\n").replace("%7C", "|").replace("%25", "%")
