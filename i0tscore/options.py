"""Options that are declared once, as fields of a dataclass: their default, help text, and allowed values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from i0tscore.errors import UsageError, did_you_mean


def option(help_text: str, default: Any = None, **settings: Any) -> Any:
    """Return a dataclass field that is also an option of the command line.

    Args:
        help_text: Its line on the help page.
        default: Its default; False makes it a flag.
        settings: Its ``choices``, its ``minimum``, or ``path`` (its metavar); and what ``i0tscore.cli.options`` adds.
    """
    return field(default=default, metadata={"help": help_text, **settings})


@dataclass(frozen=True)
class Options:
    """Base of options whose values are checked when they are set.

    Raises:
        UsageError: A value is not allowed.
    """

    def __post_init__(self) -> None:
        """Check the values."""
        for declared in fields(self):
            value, allowed = getattr(self, declared.name), declared.metadata
            if "choices" in allowed and value not in allowed["choices"]:
                names = [choice for choice in allowed["choices"] if choice is not None]
                near = did_you_mean(str(value), names)
                raise UsageError(f"Expected {declared.name} to be one of {', '.join(names)}, got {value!r}.{near}")
            chosen = value != declared.default
            if "minimum" in allowed and chosen and (value is None or value < allowed["minimum"]):
                raise UsageError(f"Expected {declared.name} to be at least {allowed['minimum']}, got {value}.")

    @property
    def changed(self) -> list[str]:
        """The command-line names of the options that do not have their default."""
        return [f"--{one.name.replace('_', '-')}" for one in fields(self) if getattr(self, one.name) != one.default]

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> Self:
        """Return the options that a caller gave as keywords.

        Raises:
            TypeError: A keyword is unknown; the error names a similar one.
        """
        names = [declared.name for declared in fields(cls)]
        for name in keywords:
            if name not in names:
                raise TypeError(f"Unknown option {name!r}.{did_you_mean(name, names)}")
        return cls(**keywords)
