"""The page of scores: how to read them, how they are distributed, and the samples, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.images import ImageInput, decode
from i0tscore.errors import ImageError, InputError
from i0tscore.render.charts import Axis, histogram
from i0tscore.render.document import UNDEFINED, Table, format_number
from i0tscore.render.page import jpeg_url, render_page

THUMBNAILS = 500
"""Default number of samples with a thumbnail."""

MAX_ROWS = 5000
"""Maximum number of samples listed, which keeps the page below 15 MB."""

FIRST_ROWS = 50
"""Number of samples shown at a time, and without the script."""

Images = Sequence[ImageInput] | Mapping[str, ImageInput]
Reference = tuple[NDArray[np.float64], NDArray[np.float64]]

_PIXELS = 160
_SHOWN_METRICS = 3
_LONG_CAPTION = 300
_NOT_MATCHED = 0.5
_SHARE, _MOST = 0.05, 20
_SUMMANDS = {"semantic": "semantic", "image_bias": "image bias", "caption_bias": "caption bias", "offset": "offset"}
_PARTS = {**_SUMMANDS, "cosine": "cosine"}


class Group(NamedTuple):
    """Samples to review.

    Attributes:
        title: What the samples have in common.
        reason: Why to review them.
        rows: Rows of the samples.
    """

    title: str
    reason: str
    rows: list[int]


def score_page(
    result: Mapping[str, Any],
    *,
    reference: Mapping[str, Reference] | None = None,
    images: Images | None = None,
    thumbnails: int | None = None,
    explanations: Mapping[int, str] | None = None,
) -> str:
    """Return a page of scores as HTML.

    Args:
        result: The data of a result with samples, as in ``docs/reference/result.schema.json``.
        reference: Scores of matched and of mismatched reference pairs, or their quantiles, by metric.
        images: One image per sample, or images by sample id; None for a page without images.
        thumbnails: Maximum number of thumbnails, 500 if None: half for the lowest scores, a quarter for the highest,
            and a quarter for samples in between, chosen at random.
        explanations: HTML by sample position, shown as it is with the sample. The content security policy allows
            ``data:`` images and SVG, but neither scripts nor ``style`` attributes.

    Raises:
        InputError: The number of images differs from the number of samples.
        MissingExtraError: Jinja2 is not installed.
    """
    samples = result["samples"]
    if images is not None and not isinstance(images, Mapping) and len(images) != len(samples):
        raise InputError(
            f"Expected one image for each of the {len(samples)} samples, got {len(images)}. If samples were "
            "skipped, pass a dict of images by id."
        )
    metrics = result["scores"]
    leading = min(metrics, key=lambda name: (metrics[name]["mean"] is None, metrics[name]["scale"] is None))
    order = sorted(range(len(samples)), key=lambda i: _ascending(samples[i]["scores"][leading]["value"]))[:MAX_ROWS]
    listed = [samples[i] for i in order]
    columns = _columns(listed, list(metrics), leading)
    axes = {
        name: Axis.around(_defined(samples, name), (reference or {}).get(name, ()))
        for name in list(metrics)[:_SHOWN_METRICS]
    }
    limit = THUMBNAILS if thumbnails is None else thumbnails
    pictures = {} if images is None else _thumbnails(images, order, samples, limit)
    largest = max((abs(_cell(sample, part) or 0.0) for sample in listed for part in _SUMMANDS), default=0.0)
    rows = [
        _row(sample, leading, axes, largest, pictures.get(row), (explanations or {}).get(i))
        for row, (i, sample) in enumerate(zip(order, listed, strict=True))
    ]
    return render_page(
        "score.html",
        result=result,
        summary=_summary(metrics),
        misfit=not (result["statistics_fit"] or {"fits": True})["fits"],
        sentences=_how_to_read(result, leading),
        charts={name: _chart(samples, name, metric, reference or {}) for name, metric in metrics.items()},
        bands={name: _bands(axis, metrics[name]["scale"]) for name, axis in axes.items()},
        leading=leading,
        calibrated=metrics[leading]["scale"] is not None,
        columns=columns,
        rows=rows,
        first=FIRST_ROWS,
        data=_table_data(listed, columns, groups := _groups(listed, leading)),
        groups=groups,
        illustrated=images is not None,
        pictures=_about_pictures(images, samples, len(pictures), len(order)),
        notes=_notes(result),
    )


def _ascending(value: float | None) -> tuple[bool, float]:
    """Return a sort key with undefined values last."""
    return value is None, value or 0.0


def _defined(samples: Iterable[Mapping[str, Any]], metric: str) -> NDArray[np.float64]:
    values = [sample["scores"][metric]["value"] for sample in samples]
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _summary(metrics: Mapping[str, Any]) -> Table:
    confidence = next(iter(metrics.values()))["confidence"]
    scaled = any(metric["scale"] for metric in metrics.values())
    header = ["metric", "mean", f"{100 * confidence:g}% interval"]
    header += ["matched pairs", "mismatched pairs"] * scaled + ["clipped to 0"]
    rows = []
    for name, metric in metrics.items():
        scale = metric["scale"] or {"matched": (), "mismatched": ()}
        spans = [_span(scale[kind][::2]) for kind in ("matched", "mismatched") if scaled]
        rows.append([name, format_number(metric["mean"]), _span(metric["interval"]), *spans, f"{metric['zeros']:.0%}"])
    return Table(header, rows)


def _span(ends: Sequence[float] | None) -> str:
    return " to ".join(map(format_number, ends or ())) or UNDEFINED


def _how_to_read(result: Mapping[str, Any], leading: str) -> list[str]:
    """Explain the scores in three sentences, with the numbers of this run."""
    metric, samples = result["scores"][leading], result["samples"]
    values = _defined(samples, leading)
    if not len(values):
        return [f"{leading} is undefined for every caption. See the notes for the reasons."]
    confidence, mean = 100 * metric["confidence"], format_number(metric["mean"])
    interval = f" ({confidence:g}% interval {_span(metric['interval'])})" if metric["interval"] else ""
    sentences = [f"The mean {leading} of {_count(len(values), 'caption')} is {mean}{interval}."]
    if metric["scale"] is None:
        return [
            *sentences,
            f"The scores range from {format_number(values.min())} to {format_number(values.max())}, "
            f"with a median of {format_number(float(np.median(values)))}.",
            "There are no reference pairs for this metric. Compare only scores that have the same signature.",
        ]
    scale = metric["scale"]
    fits = sum((sample["scores"][leading]["p_match"] or 0.0) >= _NOT_MATCHED for sample in samples)
    return [
        *sentences,
        f"In the reference data, the middle half of images with their own captions score "
        f"{_span(scale['matched'][::2])}, and with captions of other images {_span(scale['mismatched'][::2])}.",
        f"Of the {_count(len(values), 'caption')}, {fits:,} {'is' if fits == 1 else 'are'} more like matched pairs "
        f"(p(match) of at least 0.5), and {len(values) - fits:,} more like mismatched pairs.",
    ]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _chart(
    samples: Sequence[Mapping[str, Any]], name: str, metric: Mapping[str, Any], reference: Mapping[str, Reference]
) -> Any:
    curves = dict(zip(("matched", "mismatched"), reference.get(name, ()), strict=False))
    return histogram(_defined(samples, name), metric["mean"], curves)


def _bands(axis: Axis, scale: Mapping[str, Any] | None) -> list[tuple[str, float, float]]:
    """Return the kind, left end, and width of each band of a scale."""
    if scale is None:
        return []
    ends = {kind: [axis.at(end, 100) for end in scale[kind][::2]] for kind in ("matched", "mismatched")}
    return [(kind, low, round(high - low, 1)) for kind, (low, high) in ends.items()]


def _columns(samples: Sequence[Mapping[str, Any]], metrics: Sequence[str], leading: str) -> dict[str, str]:
    """Return labels of the columns by their names in CSV, without those that have no value."""
    columns = {"id": "id", "caption": "caption", **dict(zip(metrics, metrics, strict=True))}
    columns |= {
        f"{leading}.p_match": "p(match)",
        f"{leading}.percentile_matched": "percentile among matched pairs",
        f"{leading}.percentile_mismatched": "percentile among mismatched pairs",
        **{part: label for part, label in _PARTS.items() if part not in ("offset", "cosine")},
        "tokens": "tokens",
        "tokens_cut": "tokens cut",
    }
    return {key: label for key, label in columns.items() if any(_cell(sample, key) is not None for sample in samples)}


def _cell(sample: Mapping[str, Any], key: str) -> Any:
    """Return a value of a sample by the name of its column in CSV."""
    if key in sample:
        return sample[key]
    if key in _PARTS:
        return (sample["breakdown"] or {}).get(key)
    if key in sample["scores"]:
        return sample["scores"][key]["value"]
    metric, _, field = key.rpartition(".")
    return sample["scores"][metric][field]


def _table_data(
    samples: Sequence[Mapping[str, Any]], columns: Mapping[str, str], groups: Sequence[Group]
) -> dict[str, Any]:
    """Return what the script sorts, filters, and exports: values by row, and the rows of each group."""
    rows = [
        [round(value, 6) if isinstance(value, float) else value for value in (_cell(sample, key) for key in columns)]
        for sample in samples
    ]
    return {"columns": list(columns), "rows": rows, "groups": [group.rows for group in groups]}


def _groups(samples: Sequence[Mapping[str, Any]], leading: str) -> list[Group]:
    few = range(min(_MOST, max(1, round(_SHARE * len(samples)))))
    probabilities = [sample["scores"][leading]["p_match"] for sample in samples]
    if any(p is not None for p in probabilities):
        worst = [i for i, p in enumerate(probabilities) if p is not None and p < _NOT_MATCHED]
        title, why = "Likely mismatched", "More like mismatched than matched pairs: p(match) is below 0.5."
    else:
        defined = [i for i in few if samples[i]["scores"][leading]["value"] is not None]
        worst, title, why = defined, "Lowest scores", "The lowest scores of the run."
    biased = sorted(
        (i for i, sample in enumerate(samples) if _cell(sample, "caption_bias") is not None),
        key=lambda i: -_cell(samples[i], "caption_bias"),
    )
    ids: dict[str, set[str]] = {}
    for sample in samples:
        ids.setdefault(sample["caption"], set()).add(sample["id"])
    groups = [
        Group(title, why, worst),
        Group(
            "Highest caption bias",
            "The captions of the run whose cosine is highest with any image.",
            [biased[i] for i in few if biased],
        ),
        Group(
            "Cut captions", "Longer than the context length of the model. The rest of the caption is not scored.", []
        ),
        Group("One caption for several images", "Often placeholders or generic captions.", []),
        Group("Without a score", "The details of each sample show the reason.", []),
    ]
    for i, sample in enumerate(samples):
        members = (sample["tokens_cut"], sample["caption"] and len(ids[sample["caption"]]) > 1, sample.get("notes"))
        for group, member in zip(groups[2:], members, strict=True):
            group.rows.extend([i] if member else [])
    return groups


def _row(
    sample: Mapping[str, Any],
    leading: str,
    axes: Mapping[str, Axis],
    largest: float,
    picture: tuple[str, str] | None,
    explanation: str | None,
) -> dict[str, Any]:
    """Return what the page shows of a sample."""
    caption = sample["caption"]
    scores = {name: sample["scores"][name]["value"] for name in axes}
    parts = sample["breakdown"] or {}
    return {
        "id": sample["id"],
        "caption": caption,
        "long": caption is not None and len(caption) > _LONG_CAPTION,
        "context": sample.get("context"),
        "picture": picture,
        "scores": {
            name: (value, None if value is None else axes[name].at(value, 100)) for name, value in scores.items()
        },
        "p_match": sample["scores"][leading]["p_match"],
        "parts": [
            (label, parts[name], None if name == "cosine" else round(50 * parts[name] / (largest or 1.0), 1))
            for name, label in _PARTS.items()
            if parts.get(name) is not None
        ],
        "facts": list(_facts(sample, leading, axes)),
        "explanation": explanation,
    }


def _facts(sample: Mapping[str, Any], leading: str, shown: Mapping[str, Axis]) -> Iterator[str]:
    score = sample["scores"][leading]
    if score["percentile_matched"] is not None:
        yield (
            f"{leading} is higher than for {score['percentile_matched']:.0f}% of matched and "
            f"{score['percentile_mismatched']:.0f}% of mismatched reference pairs"
        )
    if score["rank"] is not None:
        yield "rank {:,} of {:,} for this image among the distinct captions of this run".format(*score["rank"])
    for name, other in sample["scores"].items():
        if name not in shown:
            yield f"{name} {format_number(other['value'])}"
    if sample["tokens"] is not None:
        cut = f", {sample['tokens_cut']} of them cut" if sample["tokens_cut"] else ""
        yield f"{_count(sample['tokens'], 'token')}{cut}"
    yield from sample.get("notes", ())


def _with_thumbnail(rows: int, limit: int) -> set[int]:
    """Choose rows for thumbnails, always the same for the same arguments."""
    if rows <= limit:
        return set(range(rows))
    low, high = limit // 2, limit // 4
    between = np.random.default_rng(0).choice(np.arange(low, rows - high), limit - low - high, replace=False)
    return {*range(low), *range(rows - high, rows), *between.tolist()}


def _thumbnails(
    images: Images, order: Sequence[int], samples: Sequence[Mapping[str, Any]], limit: int
) -> dict[int, tuple[str, str]]:
    """Return a data URL, or else the reason for a missing thumbnail, by row."""
    sources = {}
    for row in sorted(_with_thumbnail(len(order), limit)):
        i = order[row]
        sources[row] = images.get(samples[i]["id"]) if isinstance(images, Mapping) else images[i]
    with ThreadPoolExecutor() as pool:
        return dict(zip(sources, pool.map(thumbnail, sources.values()), strict=True))


def thumbnail(source: ImageInput | None) -> tuple[str, str]:
    """Return a small copy of an image as a data URL, or else an empty URL and the reason."""
    if source is None:
        return "", "no image was given"
    try:
        image = decode(source)
    except ImageError as error:
        return "", f"cannot be shown: {error}"
    image.thumbnail((_PIXELS, _PIXELS))
    return jpeg_url(image, quality=70), ""


def _notes(result: Mapping[str, Any]) -> list[str]:
    sources = dict.fromkeys(m["scale"]["source"] for m in result["scores"].values() if m["scale"])
    notes = [f"Reference pairs: {'; '.join(sources)}."] if sources else []
    if result["gap"]:
        distances = [f"{format_number(v)} under {name}" for name, v in result["gap"].items() if name != "measure"]
        notes.append(f"Modality gap of this run: {', '.join(distances)}.")
    return [*notes, *result["notes"]]


def _about_pictures(images: Images | None, samples: Sequence[Mapping[str, Any]], shown: int, rows: int) -> str:
    if images is None:
        embedded = all(sample["tokens"] is None for sample in samples)
        return "There are no thumbnails: " + ("the samples are embeddings." if embedded else "no images were given.")
    if shown < rows:
        return (
            f"{shown:,} of {rows:,} samples have a thumbnail: the lowest scores, the highest scores, and a random "
            "selection in between."
        )
    return ""
