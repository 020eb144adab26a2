"""I0TScore, CLIPScore, and their variants with references as a metric for Hugging Face evaluate.

evaluate copies only this file and finds its imports line by line. Therefore the file reads no other file, imports one
package per line, and leaves the work to the installed package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import datasets
import evaluate

from i0tscore.encoders import encode
from i0tscore.errors import InputError
from i0tscore.integrations.huggingface import cached_scorer, score_columns, to_cell

_DESCRIPTION = """
Scores how well captions fit images. I0TScore (An et al., ACL 2025) is the cosine similarity of an image and a caption
after removing the modality gap from CLIP's embeddings: about 0 for a mismatched caption, at most 1. CLIPScore (Hessel
et al., EMNLP 2021) is computed from the same encoding, and with references so are RefI0TScore and RefCLIPScore.
"""

_INPUTS = """
Args:
    predictions (list of str): The captions.
    images (list): For each caption a path (fastest), the bytes of a file, a PIL image, or a uint8 array (H, W, 3).
    references (list of list of str, optional): For each caption a list of references, or one as a string.
    per_sample (bool): Whether to also return the scores of every caption.
    **options: Arguments of i0tscore.I0TScorer: model, weights, statistics, metrics, preset, confidence, ...
        evaluate.load accepts them as well, except seed and cache_dir, which it uses itself.

Returns:
    A dict, in which undefined values are None:
    n (int): Number of scored captions.
    I0TScore, CLIPScore, ... (float): The mean.
    I0TScore_interval, ... (list of two floats): Bootstrap interval of the mean.
    I0TScore_signature, ... (str): How the number was computed; only compare numbers with the same signature.
    I0TScore_values, ... (list of floats): With per_sample, one number per caption.
    skipped (list of dicts): With on_error="skip", the position ("id") and reason of each skipped caption.

Example:
    >>> metric = evaluate.load(i0tscore.integrations.evaluate.path(), model="lite")
    >>> metric.compute(predictions=["A tabby cat."], images=["images/chelsea.jpg"])["I0TScore"]
"""


class I0tscore(evaluate.Metric):  # type: ignore[misc]
    """The metric; evaluate derives the name ``i0tscore`` from the name of the class."""

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
        """Add captions with their images and, optionally, references.

        Raises:
            InputError: Captions or images are missing or of a wrong type, or the numbers differ.
        """
        if predictions is None or images is None:
            raise InputError("Expected predictions=, the captions, and images=, one per caption.")
        # Missing values are stored, so that compute can skip them.
        captions = [
            None if encode.is_missing(caption) else caption for caption in encode.ordered(predictions, "predictions")
        ]
        cells = [None if encode.is_missing(image) else to_cell(image) for image in encode.ordered(images, "images")]
        lists: list[Any] = [[] for _ in captions]
        if references is not None:
            lists = [encode.reference_list(own) for own in encode.ordered(references, "references")]
        wrong = [
            (f"prediction {i}", encode.caption_problem(c))
            for i, c in enumerate(captions)
            if c is not None and not isinstance(c, str)
        ]
        wrong += [
            (f"reference {i}", encode.reference_problem(own))
            for i, own in enumerate(lists)
            if not isinstance(own, list)
        ]
        if problems := [(owner, reason) for owner, reason in wrong if reason]:
            raise InputError(encode.listing(problems))
        lists = [[None if encode.is_missing(text) else text for text in own] for own in lists]
        encode.same_length(captions=captions, images=cells, references=lists)
        super().add_batch(predictions=captions, images=cells, references=lists)

    def add(
        self,
        *,
        prediction: str | None = None,
        reference: Sequence[str] | str | None = None,
        images: Any = None,
    ) -> None:
        """Add one caption with its image; the argument has the name of the column, ``images``."""
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
            images,
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
