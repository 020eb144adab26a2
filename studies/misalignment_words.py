"""The words of the report on inversion within images, which follow from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from human_judgments.report import percent
from studies.gap_blocks import direction
from studies.inversion_words import sign
from studies.misalignment_heads import estimate

Row = Mapping[str, Any]

CLOSED, KEPT = -2.8, 0.9
"""What OTI changes in the paper where τ = 1 closed the gap, and where τ = .01 kept it, in points of mAP."""


def dynamics_words(rows: Sequence[Row]) -> str:
    """After how many updates retrieval is best, and whether the cosine is."""
    found = []
    for tokens in dict.fromkeys(row["tokens"] for row in rows if row["tokens"]):
        own = [row for row in rows if row["tokens"] == tokens]
        best, last = max(own, key=lambda row: row["mAP"]["value"]), own[-1]
        change = estimate(best["difference"])
        found.append(
            f"R = {tokens} retrieves best after {best['step']} of {last['step']} updates, "
            f"{percent(change, signed=True)} points from the images themselves, and comes to a cosine of "
            f"{1 - last['loss']:.2f} in the end"
        )
    return (
        f"{'; '.join(found)}. Theirs, Cars with CLIP B/32, read off a curve: R = 4 is best near 17 updates, "
        "about 7 points above the images themselves, long before the cosine is."
    )


def heads_words(rows: Sequence[Row]) -> list[str]:
    """What temperature and intra-modal terms do to the gap and to inversion."""
    words = []
    plain = sorted((row for row in rows if row["intra"] == "none"), key=lambda row: row["logit_scale"])
    if len(plain) > 1:
        warm, cold = plain[0], plain[-1]
        words.append(
            f"A lower temperature keeps the gap: {warm['gap']:.2f} at τ = {1 / warm['logit_scale']:g}, "
            f"{max(row['gap'] for row in plain):.2f} at the most, {cold['gap']:.2f} at τ = "
            f"{1 / cold['logit_scale']:g}. {_against_theirs(warm, CLOSED)} {_against_theirs(cold, KEPT)}"
        )
    for key, name in (("oti", "OTI, image–image"), ("ovi", "OVI, text–text")):
        told = [
            f"{term}: {signs.count(1)} rise, {signs.count(-1)} fall, {signs.count(0)} cannot be told"
            for term, signs in _changes(rows, key).items()
        ]
        if told:
            words.append(
                f"{name}, heads whose mAP inversion changes beyond the interval, by intra-modal term: "
                f"{'; '.join(told)}."
            )
    return words


def _against_theirs(row: Row, points: float) -> str:
    """What OTI does to heads of a temperature, beside what the paper has at that end."""
    if "oti" not in row:
        return ""
    change = estimate(row["oti"]["difference"])
    said = "" if change.interval is None else f": {direction(points, *change.interval)}"
    return (
        f"At τ = {1 / row['logit_scale']:g} OTI changes image–image mAP by {percent(change, signed=True)} "
        f"points, theirs by {points:+.1f} at that end{said}."
    )


def _changes(rows: Sequence[Row], key: str) -> dict[str, list[int | None]]:
    """For each intra-modal term the signs of what inversion changes."""
    found: dict[str, list[int | None]] = {}
    for row in rows:
        if key in row:
            found.setdefault(row["intra"], []).append(sign(estimate(row[key]["difference"])))
    return found
