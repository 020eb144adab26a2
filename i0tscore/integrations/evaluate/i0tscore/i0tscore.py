"""I0TScore, CLIPScore and their forms with references as a metric of Hugging Face evaluate.

evaluate copies this file alone and finds its imports line by line: it reads no file beside it, imports one
package a line, and leaves the work to the installed package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import datasets
import evaluate

from i0tscore.encoders.encode import listing, same_length, strings
from i0tscore.errors import InputError
from i0tscore.integrations.huggingface import cached_scorer, from_cell, score_columns, to_cell

_DESCRIPTION = """
How well captions fit images. I0TScore (An et al., ACL 2025) is the cosine of an image and a caption after the
gap between the two modalities has been taken out of CLIP's embeddings: about 0 for a caption of some other
image, at most 1. CLIPScore (Hessel et al., EMNLP 2021) comes from the same encoding, and so do RefI0TScore
and RefCLIPScore where references are given.
"""

_INPUTS = """
Args:
    predictions (list of str): The captions.
    images (list): For each caption its image: a path (cheapest), the bytes of a file, a PIL image or a uint8
        array (H, W, 3).
    references (list of list of str, optional): For each caption its references, or one as a string.
    per_sample (bool): Whether to return every caption's scores, too.
    **options: What i0tscore.I0TScorer takes: model, weights, statistics, metrics, preset, confidence, ...
        evaluate.load takes them as well, except seed and cache_dir, which mean something else there.

Returns:
    A dict, in which what is undefined is None:
    n (int): How many captions were scored.
    I0TScore, CLIPScore, ... (float): The mean.
    I0TScore_interval, ... (list of two floats): A bootstrap interval of the mean.
    I0TScore_signature, ... (str): How the number was made; compare only numbers of one signature.
    I0TScore_values, ... (list of floats): With per_sample, one number a caption.
    skipped (list of dicts): With on_error="skip", position ("id") and reason of what was left out.

Example:
    >>> metric = evaluate.load(i0tscore.integrations.evaluate.path(), model="lite")
    >>> metric.compute(predictions=["A tabby cat."], images=["images/chelsea.jpg"])["I0TScore"]
"""


class I0tscore(evaluate.Metric):  # type: ignore[misc]
    """The metric, spelled so that evaluate registers it as ``i0tscore``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = signature(evaluate.Metric.__init__).parameters
        self._options = {name: value for name, value in kwargs.items() if name not in own}
        super().__init__(*args, **{name: value for name, value in kwargs.items() if name in own})

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="`i0tscore --cite` prints BibTeX for I0T, CLIPScore and CLIP.",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    # Undecoded, so that not all images are in memory at once.
                    "images": datasets.Image(decode=False),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
            reference_urls=[
                "https://aclanthology.org/2025.acl-long.1319/",
                "https://aclanthology.org/2021.emnlp-main.595/",
            ],
        )

    def add_batch(
        self,
        *,
        predictions: Iterable[str] | None = None,
        references: Iterable[Sequence[str] | str] | None = None,
        images: Iterable[Any] | None = None,
    ) -> None:
        """Add captions with their images, and with references or without.

        Raises:
            InputError: Something is missing or of another type, or the numbers differ.
        """
        if predictions is None or images is None:
            raise InputError("give predictions=, the captions, and images=, one for each")
        captions, cells = strings(predictions, "predictions"), [to_cell(i) for i in strings(images, "images")]
        wrong = [f"prediction {i} is {type(c).__name__}" for i, c in enumerate(captions) if not isinstance(c, str)]
        if wrong:
            raise InputError(f"{listing(wrong)}\nwhere captions must be strings")
        if references is None:
            lists: list[list[str]] = [[] for _ in captions]
        else:
            lists = [[r] if isinstance(r, str) else list(r or ()) for r in references]
        same_length(captions=captions, images=cells, references=lists)
        super().add_batch(predictions=captions, images=cells, references=lists)

    def add(
        self,
        *,
        prediction: str | None = None,
        reference: Sequence[str] | str | None = None,
        images: Any = None,
    ) -> None:
        """Add one caption with its image, which is named ``images`` here, too, as the column is."""
        self.add_batch(
            predictions=None if prediction is None else [prediction],
            references=None if reference is None else [reference],
            images=[images],
        )

    def _compute(
        self,
        *,
        predictions: Sequence[str],
        images: Sequence[Any],
        references: Sequence[Sequence[str]],
        **options: Any,
    ) -> dict[str, Any]:
        options = {**self._options, **options}
        per_sample = options.pop("per_sample", False)
        ids = [str(position) for position in range(len(predictions))]
        result = cached_scorer(**options).score(
            [from_cell(cell) for cell in images],
            predictions,
            references if any(references) else None,
            ids,
        )
        output: dict[str, Any] = {"n": result.n}
        for name, metric in result.items():
            output[name] = metric.mean
            output[f"{name}_interval"] = None if metric.interval is None else list(metric.interval)
            output[f"{name}_signature"] = str(metric.signature)
        if per_sample:
            columns = score_columns(result, ids)
            output |= {f"{name}_values": column for name, column in columns.items()}
        if options.get("on_error") == "skip":
            output["skipped"] = [skipped._asdict() for skipped in result.skipped]
        return output
