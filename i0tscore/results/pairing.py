"""Whether systems can be paired: the same ids, scored in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from i0tscore.errors import InputError
from i0tscore.results.saved import RunScores
from i0tscore.results.signature import Signature
from i0tscore.samples.rows import preview

OWN_FIELDS = ("n", "skipped", "bs", "seed")
"""What signatures of compared runs may differ in: the number of samples, and the runs' own bootstrap."""

_SHOWN = 10


def require_same_ids(systems: Mapping[str, Iterable[str]]) -> None:
    """Refuse systems whose ids differ.

    Args:
        systems: The ids of each system's samples, by its name.

    Raises:
        InputError: Says which ids are only in which systems.
    """
    owners: dict[str, list[str]] = {}
    for system, ids in systems.items():
        for name in dict.fromkeys(ids):
            owners.setdefault(name, []).append(system)
    only: dict[str, list[str]] = {}
    for name, having in owners.items():
        if len(having) < len(systems):
            only.setdefault(" and ".join(having), []).append(name)
    if only:
        lines = [f"  only in {having}: {len(ids)} ({preview(ids, _SHOWN)})" for having, ids in only.items()]
        head = "the systems do not have the same ids, so that they cannot be paired"
        raise InputError("\n".join([f"{head}: add or remove captions", *lines]))


def common_signatures(systems: Mapping[str, RunScores], names: Iterable[str]) -> dict[str, Signature]:
    """One signature a metric, without what belongs to single runs; empty where some run has none.

    Args:
        systems: By name.
        names: Metrics that all systems have.

    Raises:
        InputError: Names every field in which the signatures differ.
    """
    if not all(run.signatures for run in systems.values()):
        return {}
    common, lines = {}, []
    for name in names:
        having = {system: run.signatures[name] for system, run in systems.items() if name in run.signatures}
        fields = {system: dict(signature.fields) for system, signature in having.items()}
        for key in dict.fromkeys(key for own in fields.values() for key in own if key not in OWN_FIELDS):
            found = {system: own.get(key, "nothing") for system, own in fields.items()}
            if len(set(found.values())) > 1:
                told = ", ".join(f"{value} in {system}" for system, value in found.items())
                lines.append(f"  {name}, {key}: {told}")
        first = next(iter(having.values()))
        common[name] = Signature(first.metric, tuple(f for f in first.fields if f[0] not in OWN_FIELDS))
    if lines:
        head = "the systems were not scored in the same way, so that their scores do not compare"
        raise InputError("\n".join([f"{head}: score them again alike, or give their captions", *lines]))
    return common
