"""What every report shares: a schema name, plain data, and strict JSON."""

from __future__ import annotations

import json
from typing import Any, ClassVar


class Report:
    """A result that a verb returns.

    Attributes:
        SCHEMA: Name of the schema of ``to_dict``, as in ``docs/*.schema.json``.
    """

    __slots__ = ()

    SCHEMA: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; undefined values are None."""
        raise NotImplementedError

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return ``to_dict`` as JSON, without NaN."""
        return dumps(self.to_dict(), indent)


def dumps(data: object, indent: int | None = None) -> str:
    """Return data as strict JSON: UTF-8 text, no NaN."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)
