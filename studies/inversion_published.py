"""Figures of Mistretta et al. ("Cross the Gap", ICLR 2025) and of a reproduction: not measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from human_judgments.report import UNDEFINED, table
from i0tscore.inversion.invert import PAPER_INPUTS

OTI, OVI = "oti", "ovi"
SLIP = ("SLIP B/16", "SLIP L/16")
BACKBONES = dict(
    zip(("CLIP B/32", "CLIP L/14", "OpenCLIP B/32", "OpenCLIP L/14", "SigLIP B/16"), PAPER_INPUTS, strict=True)
)
"""What ``--model`` takes for each of theirs; open_clip has no SLIP."""

OWN_PROTOCOL = ("ROxford", "RParis")

CAVEATS = (
    "The commands are for data sets as folders with `test/` and `train/`, each with a sub-folder a class, or "
    "as a captions file with its images; R and P are taken from the model's name. The paper queries the "
    "training part with the test part; CUB and SOP are queried with themselves, so without `--gallery`; the "
    "Oxford and Paris buildings have a protocol of their own, which no command here follows. Averages are "
    "over its data sets, one command each; text–text ones are Flickr30k val, COCO test and nocaps val. SLIP "
    "is in no open_clip release, so no command runs it."
)
CLOSED_GAP = (
    "Theirs without any command here: CLIP B/32 fine-tuned on COCO, image–image mAP averaged over five data "
    "sets, falls by OTI from 27.0 to 24.2 where τ = 1 closed the gap and rises from 39.3 to 40.2 where τ = "
    ".01 kept it. The same experiment on heads of `lite` is `python -m studies.misalignment`."
)


@dataclass(frozen=True, slots=True)
class Change:
    """What inverting queries changed, by their tables, in percent.

    Attributes:
        task: As the tasks of this report are called.
        model: As they call it.
        before: As they are: mAP, or accuracy.
        after: Inverted.
    """

    task: str
    model: str
    before: float
    after: float

    @property
    def points(self) -> float:
        """After − before."""
        return round(self.after - self.before, 2)


def _changes(task: str, *figures: tuple[float, float]) -> tuple[Change, ...]:
    names = (*BACKBONES, *SLIP)
    return tuple(Change(task, name, *pair) for name, pair in zip(names, figures, strict=False))


AVERAGES = (
    *_changes(
        "image–image",
        *((39.2, 41.2), (52.0, 55.3), (47.3, 49.5), (60.4, 63.6), (55.5, 58.3), (35.1, 35.3), (36.7, 37.1)),
    ),
    *_changes("text–text", (37.7, 40.6), (38.2, 41.3), (42.8, 45.3), (45.1, 47.0), (40.8, 44.4)),
    *_changes("zero-shot", (61.9, 56.4), (72.2, 68.4), (69.4, 66.1), (78.9, 77.0), (75.1, 66.3)),
)
"""Averages over data sets, from their poster."""

DATA_SETS: Mapping[str, tuple[float, float, float]] = {
    "ROxford": (42.4, 43.0, 51.4),
    "RParis": (74.0, 70.3, 80.9),
    "Cars": (24.9, 28.0, 34.6),
    "Pets": (31.2, 37.5, 47.7),
    "Flowers": (62.5, 62.6, 70.3),
    "Aircraft": (14.5, 14.4, 16.1),
    "DTD": (28.3, 31.9, 34.0),
    "EuroSAT": (49.3, 47.2, 53.8),
    "Food": (33.6, 34.7, 43.0),
    "SUN": (34.6, 36.3, 40.0),
    "Caltech": (77.7, 79.9, 83.3),
    "UCF": (46.2, 48.6, 53.3),
    "ImageNet": (21.6, 23.8, 28.6),
}
"""Image–image mAP of CLIP B/32 as it is, by OTI, and by PCA of class texts: Herzog & Wang, CVPR 2026."""


def command(task: str, folder: str, model: str) -> str:
    """What runs one data set.

    Example:
        >>> command("zero-shot", "cars/", "ViT-B-32-quickgelu/openai")
        'i0tscore retrieve cars/test/ --task image-text --invert oti --model ViT-B-32-quickgelu/openai'
    """
    what = {
        "image–image": (f"{folder}test/ --gallery {folder}train/", "image-image", OTI),
        "text–text": (f"{folder}captions.json {folder}images/", "text-text", OVI),
        "zero-shot": (f"{folder}test/", "image-text", OTI),
    }
    place, name, method = what[task]
    return f"i0tscore retrieve {place} --task {name} --invert {method} --model {model}"


def published_blocks() -> list[str]:
    """Their averages and their figures by data set, each with the command that would run it."""
    averages = [
        [
            change.task,
            change.model,
            f"{change.before:.1f}",
            f"{change.after:.1f}",
            f"{change.points:+.1f}",
            _command(change.task, "FOLDER/", BACKBONES.get(change.model)),
        ]
        for change in AVERAGES
    ]
    each = [
        [
            name,
            *(f"{value:.1f}" for value in values),
            _command("image–image", f"{name.lower()}/", None if name in OWN_PROTOCOL else BACKBONES["CLIP B/32"]),
        ]
        for name, values in DATA_SETS.items()
    ]
    mean = [sum(column) / len(DATA_SETS) for column in zip(*DATA_SETS.values(), strict=True)]
    each.append(["mean of these", *(f"{value:.1f}" for value in mean), UNDEFINED])
    return [
        f"## Published figures, which need data or weights that are not here\n\n{CAVEATS}",
        "Theirs, averages (Mistretta et al., ICLR 2025): mAP × 100, zero-shot classification accuracy in "
        "percent; the queries, or the photographs, inverted:",
        table(["task", "model", "as they are", "inverted", "change", "command"], averages, left=2),
        "Theirs, image–image mAP × 100 of CLIP B/32 by data set (Herzog & Wang, CVPR 2026, whose averages "
        "are over other data sets; PCA: their projection on the main directions of class texts, "
        "`studies.closed_form.project_pca`):",
        table(["data set", "as they are", "OTI", "PCA", "command"], each),
        CLOSED_GAP,
    ]


def _command(task: str, folder: str, model: str | None) -> str:
    return UNDEFINED if model is None else command(task, folder, model)
