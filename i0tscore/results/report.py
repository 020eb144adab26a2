"""Signatures, and conversion of reports to plain data and strict JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

from i0tscore.errors import UsageError, did_you_mean
from i0tscore.render.document import Document, Notes, Table, render_fragment

NOT_IN_JSON = {"json": False}
"""Metadata of fields of reports that are not part of their JSON."""

_TEXT = ("id", "caption", "notes")
"""Names of columns of text."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A metric's name and every setting that its number depends on, in a fixed order.

    Same inputs and same signature, same number: to 1e-5 in fp32 across machines, exactly on one.

    Attributes:
        metric: The metric's name.
        fields: ``(key, value)`` pairs in the order shown.

    Examples:
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
        """Return the same signature with one value replaced.

        Args:
            key: Name of the setting.
            value: Its new value.
        """
        return replace(self, fields=tuple((k, value if k == key else v) for k, v in self.fields))

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Parse a signature.

        Args:
            text: What ``str(signature)`` returned.
        """
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


class SampleColumns:
    """A report with values per sample that converts to a table."""

    __slots__ = ()

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return columns of text and numbers by name, with one value per sample; None where undefined."""
        raise NotImplementedError

    def to_arrow(self) -> Any:
        r"""Return ``columns`` as a ``pyarrow.Table``; undefined values are null.

        Unpaired surrogates, which Arrow cannot store, are written as ``\udc80``.
        """
        import pyarrow  # type: ignore[import-untyped]

        columns = {}
        for name, values in self.columns().items():
            if any(isinstance(value, str) for value in values):
                values = [value and value.encode("utf-8", "backslashreplace").decode() for value in values]
            column = pyarrow.array(values)
            if pyarrow.types.is_null(column.type):  # such as captions of embeddings, and percentiles
                column = column.cast(pyarrow.string() if name in _TEXT else pyarrow.float64())
            columns[name] = column
        return pyarrow.table(columns)

    def to_pandas(self) -> Any:
        """Return ``columns`` as a ``pandas.DataFrame``; undefined numbers are NaN."""
        return self.to_arrow().to_pandas()


class Report(Part):
    """A result that a command returns; ``to_dict`` is described in ``docs/reference/*.schema.json``.

    Attributes:
        SCHEMA: Name of the schema.
        notes: Notes for the reader, in every report.
        skipped: Samples left out, in reports on samples.
        resampling: Settings of the intervals, in reports with intervals.
    """

    __slots__ = ()

    SCHEMA: ClassVar[str]

    notes: tuple[str, ...]

    def figures(self) -> dict[str, str]:
        """Return the main figures by name, as ``repr`` shows them."""
        raise NotImplementedError

    def tables(self) -> list[Table]:
        """Return the tables that a notebook shows."""
        return [Table(["figure", "value"], [list(item) for item in self.figures().items()])]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={figure}' for name, figure in self.figures().items())})"

    def _repr_html_(self) -> str:
        """Return HTML for notebooks."""
        return render_fragment(Document([*self.tables(), Notes(self.notes)]))

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


def require_name(what: str, name: str, names: Iterable[str]) -> None:
    """Raise UsageError, which lists the names, unless a name is one of them."""
    if name not in (listed := list(names)):
        raise UsageError(
            f"Expected a {what} of the report ({', '.join(listed)}), got {name!r}.{did_you_mean(name, listed)}"
        )


def dumps(data: object, indent: int | None = None) -> str:
    """Return data as strict JSON: UTF-8 text, no NaN."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace("|", "%7C").replace("\n", "%0A")


def _unescape(value: str) -> str:
    return value.replace("%0A", "\n").replace("%7C", "|").replace("%25", "%")
