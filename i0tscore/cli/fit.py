"""``i0tscore fit``: reference statistics of a corpus, written to a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i0tscore.cli.console import check_output, say, write_output
from i0tscore.cli.options import (
    InputOptions,
    ModelOptions,
    ReadingOptions,
    format_option,
    make_scorer,
    read_inputs,
    render,
    verb,
)
from i0tscore.errors import UsageError
from i0tscore.options import option
from i0tscore.render import RENDERERS
from i0tscore.render.document import Paragraph


@dataclass
class FitOptions:
    """What is fitted, and where it is written.

    Raises:
        UsageError: The options contradict each other, or the file cannot be written.
    """

    output: Path = option("Statistics file to write (.safetensors).", path="FILE", required=True)
    name: str | None = option("Short name, shown in signatures.", default_text="stem of the file")
    source: str = option("Description of the data.", "")
    bank_size: int = option("Number of images and captions to keep for the standardizer nnn.", 0, minimum=0)
    method: str = option(
        "moments: means and covariances. async: also train the normalization of I0T_async.",
        "moments",
        choices=("moments", "async"),
    )
    format: str = format_option(*RENDERERS, "json")

    def __post_init__(self) -> None:
        """Check that the options make sense together."""
        check_output(self.output)
        if self.output.suffix != ".safetensors":
            raise UsageError(f"--output {self.output}: Statistics are safetensors. Give a name ending in .safetensors.")
        if self.method == "async" and self.bank_size:
            raise UsageError("--bank-size requires --method moments.")


@dataclass
class AsyncOptions:
    """How I0T_async is trained; None for the values of the paper."""

    epochs: int | None = option("async: Epochs.", default_text="3", minimum=1)
    learning_rate: float | None = option("async: Learning rate.", default_text="1e-6", minimum=0.0)
    train_batch_size: int | None = option("async: Pairs per training batch.", default_text="64", minimum=2)
    cyclic_weight: float | None = option("async: Weight of both cyclic losses.", default_text="0.25", minimum=0.0)
    mcsie: bool | None = option(
        "async: Encode each pair twice per epoch under dropout.",
        default_text="yes; no for embeddings",
        names="--mcsie/--no-mcsie",
    )
    as_released: bool | None = option(
        "async: Dropout behind every MLP too, as in the authors' code.", default_text="no", is_flag=True
    )
    seed: int | None = option("async: Seed of batch order and dropout.", default_text="12345", type=int)
    checkpoints: Path | None = option(
        "async: Folder of the checkpoint, from which an interrupted run continues.", path="FOLDER"
    )


@verb("Compute reference statistics from matched pairs.")
def fit(
    inputs: InputOptions, reading: ReadingOptions, options: FitOptions, training: AsyncOptions, model: ModelOptions
) -> None:
    """Compute reference statistics, the mean embedding of each modality, from matched pairs.

    Other commands read the file with --statistics.

    CAPTIONS and IMAGES are the same as for score. Use at least 500 pairs that resemble the data to be
    scored but do not include them. --method async needs several thousand pairs.
    """
    recipe = {name: value for name, value in vars(training).items() if value is not None}
    if recipe and options.method != "async":
        names = [f"--{'no-' if value is False else ''}{name.replace('_', '-')}" for name, value in recipe.items()]
        raise UsageError(f"{', '.join(names)}: Only with --method async. Leave out, or add --method async.")

    from i0tscore.views.report_views import statistics_document, summarize_statistics

    found = read_inputs(inputs, reading, model)
    skipped = found.skipped
    labels: dict[str, Any] = {"name": options.name or options.output.stem, "source": options.source}
    if options.method == "async":
        from i0tscore.training.i0t_async import AsyncRecipe, fit_async

        recipe = {"mcsie": inputs.read_embeddings is None} | recipe
        settings: dict[str, Any] = {key: recipe.pop(key) for key in ("seed", "checkpoints") if key in recipe}
        if "train_batch_size" in recipe:
            recipe["batch_size"] = recipe.pop("train_batch_size")
        settings |= {"preset": model.preset} | model.encoding(inputs.on_error) | labels
        statistics = fit_async(found.images, found.captions, recipe=AsyncRecipe(**recipe), **settings)
    else:
        scorer = make_scorer(model, inputs.on_error)
        run = scorer.encode(found.images, found.captions, contexts=found.contexts)
        skipped += run.skipped
        statistics = scorer.fit_run(run, bank_size=options.bank_size, **labels)
    statistics.save(options.output)
    if options.format == "json":
        facts = {"file": str(options.output), "name": statistics.name, **summarize_statistics(statistics)}
        write_output(json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
    else:
        document = statistics_document(statistics, Paragraph([f"written to {options.output}"]))
        write_output(render(document, options.format))
    for one in skipped:
        say("warning", f"skipped {one.id}: {one.reason}")
