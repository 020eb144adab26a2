"""Signatures, and conversion of reports to plain data and strict JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

NOT_IN_JSON = {"json": False}
"""Metadata of fields of reports that are not part of their JSON."""


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


class Part:
    """A dataclass that converts to plain data, field by field; undefined values are None.

    Fields with the metadata ``NOT_IN_JSON`` are left out.
    """

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        shown = [field for field in fields(self) if field.metadata.get("json", True)]  # type: ignore[arg-type]
        return {field.name: plain(getattr(self, field.name)) for field in shown}


class Report(Part):
    """A result that a verb returns; ``to_dict`` is described in ``docs/*.schema.json``.

    Attributes:
        SCHEMA: Name of the schema.
        notes: Notes for the reader, in every report.
        skipped: Samples left out, in reports on samples.
        resampling: Settings of the intervals, in reports with intervals.
    """

    __slots__ = ()

    SCHEMA: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": self.SCHEMA, **Part.to_dict(self)}

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return ``to_dict`` as JSON, without NaN."""
        return dumps(self.to_dict(), indent)


def plain(value: Any) -> Any:
    """Return a value with its dataclasses and named tuples as dicts, sequences as lists and signatures as text."""
    if isinstance(value, Signature):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def dumps(data: object, indent: int | None = None) -> str:
    """Return data as strict JSON: UTF-8 text, no NaN."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace("|", "%7C").replace("\n", "%0A")


def _unescape(value: str) -> str:
    return value.replace("%0A", "\n").replace("%7C", "|").replace("%25", "%")
