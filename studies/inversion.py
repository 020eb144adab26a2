"""Inversion on Flickr8k: retrieval, classification and references, with one side inverted and without.

Run ``python -m studies.inversion``. The paper is Mistretta et al., "Cross the Gap", ICLR 2025.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from human_judgments.report import OTHERS as GRAY
from human_judgments.report import OURS as BLUE
from human_judgments.report import Data, Figure, Page, bullets, command_block, intervals_note, percent
from human_judgments.script import Arguments, script
from i0tscore.inversion import invert_captions, invert_images
from i0tscore.inversion.invert import PAPER_INPUTS
from i0tscore.metrics.metric import PREFIX
from i0tscore.render.document import UNDEFINED, Table
from studies import inversion_tasks as study
from studies.embedder import Embedder, open_embedder
from studies.flickr8k import CLASSES_NOTE
from studies.gap import direction
from studies.inversion_tasks import ACCURACIES, BASELINE, GALLERY, QUERIES, Crossed, Material, Score

SCHEMA = "i0tscore.inversion/1"
WITHIN = ("mAP", "mAP@R", "R-precision", "R@1")

LABELS = {
    BASELINE: "not inverted",
    study.IMAGES: "the captions' images as queries",
    study.CAPTIONS: "the mean of the images' captions as queries",
}
"""Names in tables of what the JSON calls otherwise."""
DESCRIPTIONS = {
    "text–text": "Each caption is a query for the other captions of its image, not inverted and inverted by OVI: all "
    "captions against all. In the paper, only the first caption of each image is a query.",
    "image–image": "Each image with a class is a query for the others of its class, not inverted and inverted by OTI.",
    "zero-shot": "Zero-shot classification: the class of an image is the one whose name, averaged over templates, is "
    "most similar. Images are compared with texts, and texts with texts after OTI.",
    "image–text": "Each image is a query for one of its captions, across modalities, and among texts after OTI.",
    "text–image": "Each caption is a query for its image, across modalities, and among images after OVI.",
}
REFERENCE_RULES = (
    "Flickr8k-Expert; the references of an image are its five captions. Plain rules compare the rated caption y with "
    "the references r as captions. Crossed rules compare it with OVI(r), as with an image: the reference side is the "
    "largest y·OVI(r). `harmonic` combines it with the image side and clips both at 0. Plain, it is RefCLIPScore under "
    "`none`, with its weight 2.5 on the image side, and RefI0TScore under `post`; crossed, it has no weight, since "
    "both sides are then cosines of a caption with the images' region. `mean` does not clip. `multi-way mean` is the "
    "mean of y·x and all five references. Under `post`, inverted captions are standardized as images are, with the "
    "image mean; under `post, own mean`, with the mean of all inverted captions (in-sample)."
)
NOTES = (
    "a query is never in its own gallery; only one side is inverted at a time",
    CLASSES_NOTE,
    "a few captions belong to two images; the other image's copy then has the highest possible similarity and counts "
    "as mismatched",
    "intervals are of each figure alone, not corrected for their number; inverted features are sampled once, by seed "
    "and id",
    "optimizer, template and initialization of the inversion are the published ones, and so are 150 and 1,000 updates; "
    "cosines are means over the queries of the figure",
)
LITE = (
    "lite is trained on Flickr8k's training images: other images of the same kind as these",
    "lite has no patches: its pseudo-patch is the features of one location after a stage of its convolutional tower, "
    "so its OVI is a counterpart of the paper's and not the same",
)

OTI, OVI = "oti", "ovi"
BACKBONES = dict(
    zip(("CLIP B/32", "CLIP L/14", "OpenCLIP B/32", "OpenCLIP L/14", "SigLIP B/16"), PAPER_INPUTS, strict=True)
)
"""Values of ``--model`` by model of the paper; open_clip has no SLIP."""
OWN_PROTOCOL = ("ROxford", "RParis")
CAVEATS = (
    "The commands expect datasets as folders with `test/` and `train/`, each with a subfolder per class, or as a "
    "caption file with its images; R and P follow from the model's name. The paper queries the training part with the "
    "test part; CUB and SOP are queried with themselves, so without `--gallery`; the Oxford and Paris buildings have a "
    "protocol of their own, which no command here follows. Averages are over the paper's datasets, one command each, "
    "with the dataset in place of FOLDER, so that `--template` has the paper's text for its classes. The text–text "
    "commands follow the paper's protocol, without a prefix: the first caption of an image is a query for the others. "
    "The figures above are for all captions against all. Where a split is queried with itself, the paper's code counts "
    "the query among the relevant items of mAP@R; these commands do not. Text–text averages are over Flickr30k val, "
    "COCO test and nocaps val. open_clip has no SLIP, so no command runs it."
)
CLOSED_GAP = (
    "Published without a command here: for CLIP B/32 fine-tuned on COCO, OTI lowers image–image mAP averaged over five "
    "datasets from 27.0 to 24.2 where τ = 1 closed the gap, and raises it from 39.3 to 40.2 where τ = .01 kept it. "
    "`python -m studies.misalignment` runs the same experiment on heads of `lite`."
)


class Change(NamedTuple):
    """A published change by inverting queries.

    Attributes:
        task: Name of the task in this report.
        model: Name of the model in the paper.
        before: mAP or accuracy in percent, not inverted.
        after: The same, inverted.
    """

    task: str
    model: str
    before: float
    after: float

    @property
    def points(self) -> float:
        """Change in points."""
        return round(self.after - self.before, 2)


def _changes(task: str, *figures: tuple[float, float]) -> tuple[Change, ...]:
    names = (*BACKBONES, "SLIP B/16", "SLIP L/16")
    return tuple(Change(task, name, *pair) for name, pair in zip(names, figures, strict=False))


AVERAGES = (
    *_changes(
        "image–image",
        *((39.2, 41.2), (52.0, 55.3), (47.3, 49.5), (60.4, 63.6), (55.5, 58.3), (35.1, 35.3), (36.7, 37.1)),
    ),
    *_changes("text–text", (37.7, 40.6), (38.2, 41.3), (42.8, 45.3), (45.1, 47.0), (40.8, 44.4)),
    *_changes("zero-shot", (61.9, 56.4), (72.2, 68.4), (69.4, 66.1), (78.9, 77.0), (75.1, 66.3)),
)
"""Averages over datasets, from the paper's poster."""

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
"""Image–image mAP of CLIP B/32: not inverted, by OTI, and by PCA of class texts (Herzog & Wang, CVPR 2026)."""


def command(task: str, folder: str, model: str | None) -> str:
    """Return the command that runs a task on one dataset; a dash if no model of open_clip does.

    Example:
        >>> command("zero-shot", "cars/", "ViT-B-32/openai")
        'i0tscore retrieve cars/test/ --task image-text --template cars --invert oti --model ViT-B-32/openai'
    """
    inputs, options, method = {
        "image–image": (f"{folder}test/ --gallery {folder}train/", "image-image", OTI),
        "text–text": (
            f"{folder}captions.json {folder}images/",
            "text-text --protocol cross-the-gap --preset raw",
            OVI,
        ),
        "zero-shot": (f"{folder}test/", f"image-text --template {folder.rstrip('/')}", OTI),
    }[task]
    command = f"i0tscore retrieve {inputs} --task {options} --invert {method} --model {model}"
    return UNDEFINED if model is None else command


def replications(tasks: Data) -> Iterator[dict[str, Any]]:
    """Yield the published changes of each task, next to the difference measured at the last update."""
    for name in dict.fromkeys(change.task for change in AVERAGES):
        points = [change.points for change in AVERAGES if change.task == name]
        last = [line for line in tasks[name]["lines"] if line["what"] == QUERIES][-1]
        ours = next(iter(last["differences"].values()))
        if ours["interval"] is not None:
            reading = direction(sum(points), *ours["interval"])
            yield {"task": name, "theirs": points, "ours": ours, "reading": reading}


def render(data: Data) -> Page:
    """Render the report."""
    tasks, references, inverted = data["tasks"], data["references"], data["inverted"]
    introduction, *notes = data["notes"]
    rated = f"{references['ratings']:,} ratings of {references['items']:,} pairs"
    last = max(score["updates"] or 0 for score in references["scores"])
    blocks: list[str | Table] = [
        f"{introduction} [Inversion](../docs/research/inversion.md) describes the method. {command_block(data)}",
        f"Figures × 100. {intervals_note(data, 'images')}",
        "## Published changes, and the changes here",
        replication_table(data),
        "## Inversion",
        inversion_table(inverted),
        f"CPU seconds are measured on one batch, of up to {study.TIMED} items.",
        "## Text to text",
        *task_blocks("text–text", tasks),
        "## Image to image",
        *task_blocks("image–image", tasks),
        "## Across modalities, where inversion is expected to lower retrieval",
        *(block for name in ("zero-shot", "image–text", "text–image") for block in task_blocks(name, tasks)),
        f"## Crossed references\n\n{REFERENCE_RULES} τ-c; n = {rated}, {references['photographs']:,} images; "
        f"references inverted with {last:,} updates. Differences on the same resamples, from the plain rule in the "
        "same row and from the plain rule with the highest τ-c under the same standardizer:",
        *reference_tables(references, last),
        "Distances of means from the image mean of the statistics: "
        + ", ".join(f"{name} {value:.2f}" for name, value in references["distance_to_image_mean"].items())
        + ".",
        *published_blocks(),
        f"## Conditions\n\n{bullets(notes)}",
        "\n".join(["```", *(one["signature"] for one in inverted.values()), "```"]),
    ]
    title = f"Inversion on Flickr8k, model {data['encoder']['name']}"
    return Page(title, blocks, Figure("Effect of inversion by number of updates", (11.0, 3.4), partial(_draw, data)))


def replication_table(data: Data) -> Table:
    """Return a table of published changes next to the differences measured here."""
    table = []
    for row in data["replication"]:
        points, measure = row["theirs"], _measures(data["tasks"][row["task"]])[0]
        published = f"{min(points):+.1f} to {max(points):+.1f} ({len(points)} models)"
        table.append([row["task"], measure, published, percent(row["ours"], signed=True)])
    return Table(["task", "measure", "published, points", "here, points"], table, left=2)


def inversion_table(inverted: Data) -> Table:
    """Return a table of how each side was inverted and of the cosine reached."""
    table = [
        [
            method,
            f"{one['n']:,}",
            str(one["inputs"]),
            ", ".join(f".{round(1000 * cosine):03d} ({step})" for step, cosine in one["cosine"].items()),
            f"{one['processor_seconds_an_item']:.2f}",
        ]
        for method, one in inverted.items()
    ]
    header = ["", "items", "pseudo-inputs", "mean cosine with the target (updates)", "CPU seconds per item"]
    return Table(header, table)


def task_blocks(name: str, tasks: Data) -> list[str | Table]:
    """Return the description of a task, its figures, and its differences from the baseline."""
    task = tasks[name]
    measures, lines = _measures(task), task["lines"]
    left_out = f" {task['left_out']} more have nothing to find." if task["left_out"] else ""
    images = "" if task["photographs"] == task["queries"] else f" of {task['photographs']:,} images"
    text = f"{DESCRIPTIONS[name]} n = {task['queries']:,} queries{images}.{left_out}"
    header = ["", "updates", "cosine"]
    if len(measures) <= len(ACCURACIES):
        table = [
            [
                *_line_cells(line),
                *(
                    cell
                    for m in measures
                    for cell in (percent(line["values"][m]), percent(line["differences"].get(m), signed=True))
                ),
            ]
            for line in lines
        ]
        return [text, Table([*header, *(cell for m in measures for cell in (m, "difference"))], table)]
    values = [[*_line_cells(line), *(percent(line["values"][m]) for m in measures)] for line in lines]
    changes = [
        [*_line_cells(line), *(percent(line["differences"][m], signed=True) for m in measures)] for line in lines[1:]
    ]
    return [
        text,
        Table([*header, *measures], values),
        "Difference from the same queries, not inverted:",
        Table([*header, *measures], changes),
    ]


def _measures(task: Data) -> list[str]:
    return [measure for measure in (*WITHIN, *ACCURACIES) if measure in task["lines"][0]["values"]]


def _line_cells(line: Data) -> tuple[str, str, str]:
    what, updates, cosine = line["what"], line["updates"], line["cosine"]
    return (
        str(LABELS.get(what, what)),
        UNDEFINED if updates is None else f"{updates:,}",
        UNDEFINED if cosine is None else f"{cosine:.3f}",
    )


def reference_tables(references: Data, last: int) -> list[str | Table]:
    """Return τ-c of every rule, plain and crossed after all updates, then its difference by number of updates."""
    scores = {Score(s["condition"], s["rule"], s["updates"]): s for s in references["scores"]}
    final = [
        [
            score.condition,
            score.rule,
            percent(scores[score.plain]["tau_c"]),
            percent(found["tau_c"]),
            percent(found["from_plain"], signed=True),
            percent(found["from_best_plain"], signed=True),
        ]
        for score, found in scores.items()
        if score.updates == last
    ]
    steps = sorted({score.updates for score in scores if score.updates is not None})
    by_step = [
        [condition, rule, *(percent(scores[Score(condition, rule, step)]["from_plain"], signed=True) for step in steps)]
        for condition in study.CONDITIONS[:2]
        for rule in study.RULES
    ]
    header = ["standardizer", "rule", "plain", "crossed", "difference", "from the best plain one"]
    return [
        Table(header, final, left=2),
        "Difference of the crossed from the plain rule by number of updates:",
        Table(["standardizer", "rule", *(f"{step:,}" for step in steps)], by_step, left=2),
    ]


def published_blocks() -> list[str | Table]:
    """Return the published averages and figures by dataset, each with the command that would compute it."""
    averages = [
        [
            change.task,
            change.model,
            f"{change.before:.1f}",
            f"{change.after:.1f}",
            f"{change.points:+.1f}",
            command(change.task, "FOLDER/", BACKBONES.get(change.model)),
        ]
        for change in AVERAGES
    ]
    by_set = []
    for name, values in DATA_SETS.items():
        model = None if name in OWN_PROTOCOL else BACKBONES["CLIP B/32"]
        cells = [f"{value:.1f}" for value in values]
        by_set.append([name, *cells, command("image–image", f"{name.lower()}/", model)])
    mean = [sum(column) / len(DATA_SETS) for column in zip(*DATA_SETS.values(), strict=True)]
    by_set.append(["mean of these", *(f"{value:.1f}" for value in mean), UNDEFINED])
    return [
        f"## Published figures, which need data or weights that are not here\n\n{CAVEATS}",
        "Averages (Mistretta et al., ICLR 2025): mAP × 100, or accuracy of zero-shot classification in percent, with "
        "the queries or the images inverted:",
        Table(["task", "model", "not inverted", "inverted", "change", "command"], averages, left=2),
        "Image–image mAP × 100 of CLIP B/32 by dataset (Herzog & Wang, CVPR 2026, whose averages are over other "
        "datasets). PCA is their projection on the principal directions of class texts, "
        "`studies.closed_form.project_pca`:",
        Table(["dataset", "not inverted", "OTI", "PCA", "command"], by_set),
        CLOSED_GAP,
    ]


def _draw(data: Data, figure: Any) -> None:
    """Draw mAP within each modality and agreement with people by number of updates."""
    names = ("text–text", "image–image")
    *panels, last = figure.subplots(1, len(names) + 1)
    for axes, name in zip(panels, names, strict=True):
        lines = data["tasks"][name]["lines"]
        _draw_level(axes, "not inverted", lines[0]["values"]["mAP"])
        for what, color in ((QUERIES, BLUE), (GALLERY, "#d1622b")):
            points = [(line["updates"], line["values"]["mAP"]) for line in lines if line["what"] == what]
            _draw_curve(axes, what, points, color)
        axes.set_title(f"{name} mAP × 100", fontsize=9)
    scores = [s for s in data["references"]["scores"] if (s["condition"], s["rule"]) == ("post", study.MEAN)]
    _draw_level(last, "references as captions", scores[0]["tau_c"])
    _draw_curve(last, "references inverted", [(s["updates"], s["tau_c"]) for s in scores if s["updates"]], BLUE)
    last.set_title("Expert τ-c × 100, RefI0TScore (mean)", fontsize=9)
    for axes in (*panels, last):
        axes.set_xscale("log")
        # The line of a level extends from 0 to 1.
        steps = sorted({step for line in axes.lines for step in line.get_xdata() if step > 1})
        axes.set_xticks(steps, [f"{step:,}" for step in steps])
        axes.minorticks_off()
        axes.set_xlabel("updates")
        axes.legend(frameon=False, fontsize=7)


def _draw_level(axes: Any, name: str, stored: Data) -> None:
    axes.axhline(100 * (stored["value"] or 0.0), color=GRAY, linestyle="--", label=name)
    if stored["interval"] is not None:
        low, high = stored["interval"]
        axes.axhspan(100 * low, 100 * high, color=GRAY, alpha=0.12, linewidth=0)


def _draw_curve(axes: Any, name: str, points: Sequence[tuple[int, Data]], color: str) -> None:
    values = [100 * (stored["value"] or 0.0) for _, stored in points]
    axes.plot([step for step, _ in points], values, ".-", color=color, label=name)
    for step, stored in points:
        if stored["interval"] is not None:
            low, high = stored["interval"]
            axes.vlines(step, 100 * low, 100 * high, color=color, alpha=0.5, linewidth=1)


@script(
    "studies.inversion",
    render,
    click.option("--queries", type=click.IntRange(2), metavar="N", help="Use only the first N images, as a trial."),
    click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Updates of OTI."),
    click.option("--caption-steps", type=click.IntRange(1), default=1000, show_default=True, help="Updates of OVI."),
    click.option(
        "--inverted",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="Folder to save finished batches in and to resume from.",
    ),
)
def main(
    arguments: Arguments, queries: int | None, steps: int, caption_steps: int, inverted: Path | None
) -> tuple[str, Data]:
    """Retrieval, classification and reference scores with one side inverted, on Flickr8k's test split."""
    model, resampling = arguments.required_model(), arguments.resampling
    with open_embedder(model) as embedder:
        material = study.read_material(embedder, arguments, queries)
        oti, ovi = _invert(embedder, material, (steps, caption_steps), inverted, quiet=model.quiet)
    tasks = {
        "text–text": study.text_to_text(material, ovi, resampling),
        "image–image": study.image_to_image(material, oti, resampling),
        "zero-shot": study.zero_shot(material, oti, resampling),
        "image–text": study.image_to_text(material, oti, resampling),
        "text–image": study.text_to_image(material, ovi, resampling),
    }
    references = study.compare_references(material, ovi, resampling)
    fingerprint = asdict(embedder.fingerprint)
    notes = (
        f"Flickr8k, test split: {len(material.names):,} images with {len(material.captions):,} captions, "
        f"{len(material.labeled)} of them with a class, and {references['ratings']:,} ratings of "
        f"{references['items']:,} pairs; model {arguments.label}. Images are inverted into the texts' region (OTI), "
        'captions into the images\' region (OVI), as in Mistretta et al., "Cross the Gap", ICLR 2025.',
        *(LITE if arguments.label == "lite" else ()),
        *NOTES,
        f"statistics of post: {material.statistics.name}",
        f"encoder {', '.join(fingerprint.values())}; prefix {PREFIX!r}",
    )
    stem = f"inversion-{arguments.label.replace('/', '--')}"
    return stem if queries is None else f"{stem}-{queries}", {
        "schema": SCHEMA,
        "command": arguments.command,
        "encoder": fingerprint,
        "resampling": asdict(resampling),
        "photographs": len(material.names),
        "inverted": {one.method: one.to_dict() for one in (oti, ovi)},
        "tasks": tasks,
        "references": references,
        "replication": list(replications(tasks)),
        "notes": list(notes),
    }


def _invert(
    embedder: Embedder, material: Material, updates: tuple[int, int], folder: Path | None, *, quiet: bool
) -> tuple[Crossed, Crossed]:
    """Invert images by OTI and captions by OVI."""
    progress = not quiet and sys.stderr.isatty()
    oti = partial(invert_images, embedder.encoder, progress=progress)
    ovi = partial(invert_captions, embedder.encoder, progress=progress)
    folders = [None if folder is None else folder / name for name in (OTI, OVI)]
    return (
        study.cross(oti, material.images, material.names, updates=updates[0], folder=folders[0]),
        study.cross(ovi, material.captions, material.caption_ids, updates=updates[1], folder=folders[1]),
    )


if __name__ == "__main__":
    main()
