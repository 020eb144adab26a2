"""The known rating sets, one row each: origin, counts, hashes, how to read them, and published figures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from i0tscore.errors import InputError, SampleFileError, first_line
from i0tscore.samples.datasets import quiet_datasets
from i0tscore.samples.diagnostics import Diagnostics, quote
from i0tscore.samples.flickr8k import (
    CROWD_FILES,
    EXPERT_FILES,
    image_folder,
    locate,
    read_flickr8k_crowd,
    read_flickr8k_expert,
)
from i0tscore.samples.formats import read_records
from i0tscore.samples.preferences import PreferenceSet, read_foil, read_preferences
from i0tscore.samples.ratings import (
    ANY_NUMBER,
    RATING_COLUMNS,
    RatingScale,
    RatingSet,
    rating_set,
    read_rating_table,
)
from i0tscore.samples.schema import RENAME, Schema
from i0tscore.samples.source import Source, read_json_lines

HUB_COLUMNS: Mapping[str, tuple[str, ...]] = {
    **RATING_COLUMNS,
    "image": ("img", "image", "imgid", "file_name", "id"),
    "caption": ("cand", "mt", "caption"),
    "rating": ("human_score", "score", "rating", "correctness"),
    "references": ("refs", "references"),
    "category": ("category", "source", "dataset"),
}
"""Column names of Composite, Polaris and Nebula, on the hub, in their CSV files, and in Polos' and EXPERT's JSON."""

THUMB_FILES = ("mscoco_THumB-1.0.jsonl", "*THumB*.jsonl")
THUMB_REFERENCES = "mscoco_references.json"

_TOKENS = {"Flickr8k.token.txt": "1e1f3a371ba1a1bf742e6930521c037e046b2bf3fcc2390ba8405e0301ed7689"}


Drop = Literal["own", "rated"]
Headline = Literal["tau_b", "tau_c", "spearman", "pearson"]


class HubLocation(NamedTuple):
    """A dataset on the Hugging Face hub.

    Attributes:
        name: ``owner/name``.
        configuration: Configuration; None for the only one.
        split: Split.
    """

    name: str
    configuration: str | None = None
    split: str = "test"


@dataclass(frozen=True, slots=True)
class KnownSet:
    """A known rating set.

    Attributes:
        name: Short name, which is also the name of its script.
        title: Title of its report.
        origin: Where the data come from.
        counts: Counts of the complete set; other counts are an error.
        hashes: SHA-256 of its files by name, where known; differences are noted.
        headline: Correlation of its published figures.
        help: Help of its script.
        remarks: Notes for its report.
        files: Names that its file may have, the preferred one first; empty if only its script reads it.
        read: Reads its file; None if it is a table.
        hub: Its location on the hub, or None.
        scale: Values of a rating in its table.
        drop: Captions to remove from the references of an item: ``own``, its own caption; ``rated``, every caption
            that was rated for its image, unless no reference would be left.
        ratings: Names of its ratings, if there are several; the first is the default.
    """

    name: str
    title: str
    origin: str
    counts: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    headline: Headline = "tau_c"
    help: str = ""
    remarks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    read: Callable[..., RatingSet | PreferenceSet] | None = None
    hub: HubLocation | None = None
    scale: RatingScale = ANY_NUMBER
    drop: Drop | None = None
    ratings: tuple[str, ...] = ()


def read_thumb(
    data: Path, images: Path | None = None, *, look_up: bool = True, rating: str = "human_score"
) -> RatingSet:
    """Read THumB 1.0: captions of four systems and one of a person for each of 500 images of COCO.

    Args:
        data: ``mscoco_THumB-1.0.jsonl``, or its folder. References are read from ``mscoco_references.json`` next to it,
            if it is there.
        images: Folder of the images; found next to the file if None.
        look_up: Whether to look up the images.
        rating: ``P`` (precision, 1 to 5), ``R`` (recall, 1 to 5), or ``human_score`` (their mean minus deductions for
            fluency, conciseness, and inclusive language).
    """
    file, diagnostics = locate(data, THUMB_FILES, "Kasai et al., NAACL 2022"), Diagnostics()
    references: dict[object, object] = {}
    if (others := file.with_name(THUMB_REFERENCES)).is_file():
        source = Source(others, Diagnostics())
        references = {record.get("seg_id"): record.get("refs") for _, record in read_json_lines(source)}
        diagnostics.adopt(source.diagnostics, others)
    columns = {"image": "image", "caption": "hyp", "rating": rating, "system": "SYS", "segment": "seg_id"}
    schema = Schema({key: (name,) for key, name in columns.items()}, {(key,): RENAME for key in columns})
    rows = []
    for location, record in read_records(file, schema, diagnostics):
        row = {key: record.get(name) for key, name in columns.items()}
        if references and row["segment"] not in references:
            message = f"{others.name} has no references for the segment {quote(row['segment'])}. Correct the id."
            diagnostics.row_error(location, message)
        rows.append((location, {**row, "references": references.get(row.pop("segment"))}))
    folder = image_folder(images, file, ("images", "val2014"), look_up=look_up)
    scale = ANY_NUMBER if rating == "human_score" else RatingScale(1, 5)
    found = rating_set(file, "thumb", rows, diagnostics, folder=folder, scale=scale)
    return replace(found, counts={**found.counts, "systems": len(set(found.parts.get("system", ())))})


KNOWN_SETS: dict[str, KnownSet] = {
    known.name: known
    for known in (
        KnownSet(
            "flickr8k_expert",
            "Flickr8k-Expert",
            "Hodosh, Young and Hockenmaier 2013 (JAIR 47), ExpertAnnotations.txt with Flickr8k.token.txt; the same in "
            "CLIPScore's flickr8k.json",
            {"pairs": 5822, "pairs dropped": 158, "items": 5664, "ratings": 16992, "images": 1000},
            {"ExpertAnnotations.txt": "56c2b1a9e1a46ba73b8b151abd7c3c8b1676fbacadb559d0c2eb6524b166cf4f", **_TOKENS},
            help="Agreement with Flickr8k-Expert (its text files or flickr8k.json; otherwise from the hub).",
            remarks=(
                "each of the three ratings of a pair is a separate row; pairs whose caption is one of the image's own "
                "five captions are excluded; the references of an image are its five captions (CLIPScore's protocol)",
            ),
            files=EXPERT_FILES,
            read=read_flickr8k_expert,
            hub=HubLocation("yuwd/Flickr8k-HumanEval", "expert"),
            scale=RatingScale(1, 4, whole=True),
        ),
        KnownSet(
            "flickr8k_cf",
            "Flickr8k-CF",
            "Hodosh, Young and Hockenmaier 2013 (JAIR 47), CrowdFlowerAnnotations.txt with Flickr8k.token.txt; the "
            "same in CLIPScore's crowdflower_flickr8k.json",
            {"ratings": 47830, "judgements": 144860, "images": 1000},
            _TOKENS,
            "tau_b",
            "Agreement with Flickr8k-CF (its text files or crowdflower_flickr8k.json; otherwise from the hub).",
            ("no pair is excluded; its rating is the share of workers who answered yes",),
            CROWD_FILES,
            read_flickr8k_crowd,
            HubLocation("yuwd/Flickr8k-HumanEval", "crowdflower"),
            RatingScale(0, 1),
            drop="rated",
        ),
        KnownSet(
            "composite",
            "Composite",
            "Aditya et al. 2018 (CVIU 173), correctness 1–5 of captions of Flickr8k, Flickr30k and COCO",
            {"ratings": 11985, "images": 3995},
            help="Agreement with Composite (a table in --data, or yuwd/Composite from the hub).",
            files=("*composite*.csv", "*composite*.tsv", "*composite*.json"),
            hub=HubLocation("yuwd/Composite"),
            scale=RatingScale(0, 5),
            drop="own",
        ),
        KnownSet(
            "polaris",
            "Polaris",
            "Wada et al., CVPR 2024 (Polos), test split",
            {"ratings": 26122},
            help="Agreement with Polaris (polaris_test.csv in --data, or yuwd/Polaris from the hub).",
            remarks=("test split; images without names on the hub are distinguished by their references",),
            files=("polaris_test.csv", "*polaris*.csv", "*polaris*test*.json"),
            hub=HubLocation("yuwd/Polaris"),
            scale=RatingScale(0, 1),
        ),
        KnownSet(
            "polaris_val",
            "Polaris, validation part",
            "Wada et al., CVPR 2024 (Polos); the part of the validation split that the release of EXPERT has",
            {"ratings": 4237, "images": 2738},
            {"polaris_exp_val.json": "fef800bd40634682963fd8ef339e5f4197ea1ea43ef9e29f79f07d97e9a63983"},
            help="Agreement with the part of Polaris' validation split in EXPERT's release (polaris_exp_val.json).",
            remarks=(
                "1,000 of the rows have the rating 0 and a single judgment",
                "this part has no references, so classic metrics are undefined",
                "this part differs from the test split in counts and rows, so no published figure applies to it",
            ),
            files=("polaris_exp_val.json",),
            scale=RatingScale(0, 1),
        ),
        KnownSet(
            "nebula",
            "Nebula",
            "Matsuda et al., ACCV 2024 (DENEB), test split",
            {"ratings": 3298},
            help="Agreement with Nebula (a table in --data, or Ka2ukiMatsuda/Nebula from the hub).",
            remarks=("test split as distributed, without later corrections of some ratings",),
            files=("*nebula*.csv", "*nebula*.json"),
            hub=HubLocation("Ka2ukiMatsuda/Nebula"),
            scale=RatingScale(0, 1),
        ),
        KnownSet(
            "pascal50s",
            "Pascal-50S",
            "Vedantam et al., CVPR 2015, in the JSON format of the releases of FLEUR and EXPERT",
            {"pairs": 4000, "pairs HC": 1000, "pairs HI": 1000, "pairs HM": 1000, "pairs MM": 1000},
            {"pascal_50s.json": "ce39b0a4021ab5f1add1430580fe24fd3fc58de3d03179a37466eb6ddd63fcdd"},
            help="Accuracy on Pascal-50S (pascal_50s.json in --data, --images).",
            remarks=(
                "HC: two correct human captions; HI: a correct and an incorrect human caption; HM: a human and a "
                "machine caption; MM: two machine captions",
                "equal scores count as half; in the released code of Distribution Normalization, the first caption "
                "wins, and only ties of votes are broken at random",
                "each pair of the file has one sample of five references, whereas Hessel et al. (2021) average five "
                "samples",
            ),
            files=("pascal_50s.json", "*pascal*.json", "*pascal*.jsonl"),
            read=read_preferences,
        ),
        KnownSet(
            "foil",
            "FOIL",
            "Shekhar et al., ACL 2017, test split, images of COCO val2014",
            help="Accuracy on FOIL (foilv1.0_test_2017.json in --data, COCO's val2014 in --images).",
            remarks=("the true caption is removed from the references of its image",),
            files=("foilv1.0_test_2017.json", "*foil*.json"),
            read=read_foil,
        ),
        KnownSet(
            "thumb",
            "THumB 1.0",
            "Kasai et al., NAACL 2022, mscoco_THumB-1.0.jsonl with mscoco_references.json",
            {"ratings": 2500, "images": 500, "systems": 5},
            {
                "mscoco_THumB-1.0.jsonl": "463ebf947c793a541922ead33eb10a885e77c19e9c7d27cf89e034bfff643efa",
                "mscoco_references.json": "897672f1f53ed33a376237c33fabc89ebbd04b40e9ced82691c2e9c9324d8fdf",
            },
            remarks=(
                "human_score is the mean of precision and recall minus deductions for fluency, conciseness, and "
                "inclusive language",
                "the system Human is one of the five captions of an image in COCO; the references are the other four",
            ),
            files=THUMB_FILES,
            read=read_thumb,
            ratings=("human_score", "P", "R"),
        ),
        KnownSet(
            "blv_kreiss2022",
            "Kreiss et al. 2022, blind and low-vision raters",
            "Kreiss et al., EMNLP 2022 (MIT), 18 images from Wikimedia Commons in articles on 6 topics",
            {"ratings": 272, "items": 68, "images": 18},
            {
                "blv_data_criticaltrials.csv": "7edd71867b814b60a733e380190277df7e2f23362f79babeb65d91c43e9868d5",
                "sighted_data_criticaltrials.csv": "2f0ffa58843065d5647212c25f21e709795e22057f37eb9b5e56096820dab5a6",
                "authors_clipscores.csv": "cb497c8f99dc026cfe41ef1bbedf2b8a02b3669567ae2faaff9b1389e5b3cdd2",
                "blv_data_all.csv": "ac10bcf577789559cdd94f0edb795d8dd1c55d67ce636f0dfe6d352fa98cf926",
                "sighted_data_all.csv": "57c78cf19d73f1521adde091ed4a0dc72aa8cbc2ee75d8304a422a24bcabd71b",
            },
            "pearson",
            remarks=(
                "with only 18 images and 68 descriptions, most intervals contain 0, also those of differences between "
                "metrics",
                "descriptions were written for these articles; only ContextI0TScore uses the article",
                "all trials: the description of a guitar is excluded, because the release does not contain its image",
            ),
        ),
        KnownSet(
            "blv_eye4b",
            "Eye4B and VL-GuideData",
            "An et al. 2025 (arXiv 2502.14883), Kim et al. 2025/26 (arXiv 2510.00766); the ratings are not public",
            remarks=(
                "the ratings of this set are not public, so the counts and hashes of the complete set are unknown",
            ),
        ),
    )
}
"""Known rating sets by name."""


class Published(NamedTuple):
    """A published figure.

    Attributes:
        metric: Name of the metric.
        figure: Name of the figure: ``tau_b``, ``tau_c``, ``accuracy``, or a category of pairs.
        value: Value × 100.
        condition: What the metric uses.
        source: Where it was published.
    """

    metric: str
    figure: str
    value: float
    condition: str
    source: str


_REFERENCES = "compares words with references, does not use the image"
_ZERO_SHOT = "CLIP ViT-B/32, zero-shot"
_ZERO_SHOT_REFERENCES = "CLIP ViT-B/32 and references, zero-shot"
_FINE_TUNED = "CLIP ViT-B/32 fine-tuned on COCO with generated pairs"
_LONG_CLIP = "Long-CLIP fine-tuned on COCO"
_FITTED = "CLIP ViT-B/32 and a fitted set"
_SUPERVISED = "trained on human ratings"
_LARGE = "large vision-language model as a judge"

_CLIPSCORE = "Hessel et al. 2021"
_PAC = "rerun by Sarto et al. 2023 (PAC-S)"
_DN = "Zhou et al. 2023"
_DN_EXPERT = f"{_DN}; the README of their code prints 53.210"
_I0T = "An et al. 2025; does not say which τ, most likely τ-b"
_KIT = "capevalkit 0.1.3"
_NOT_REPRODUCED = f"{_KIT}, which could not reproduce it"
_MID = "Kim et al. 2022, from a leaderboard"


def _published(*groups: tuple[str, str, str, Mapping[str, float]]) -> tuple[Published, ...]:
    """Return figures from groups of one figure, condition and source."""
    return tuple(
        Published(metric, figure, value, condition, source)
        for figure, condition, source, values in groups
        for metric, value in values.items()
    )


_CLASSIC = ("BLEU-4", "ROUGE-L", "METEOR", "CIDEr", "SPICE")


def _classic(*values: float) -> dict[str, float]:
    return dict(zip(_CLASSIC, values, strict=True))


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "flickr8k_expert": _published(
        ("tau_c", _REFERENCES, _CLIPSCORE, {"BLEU-1": 32.3, **_classic(30.8, 32.3, 41.8, 43.9, 44.9)}),
        ("tau_c", _ZERO_SHOT, _CLIPSCORE, {"CLIPScore": 51.2}),
        ("tau_c", _ZERO_SHOT, _DN_EXPERT, {"DN": 54.3}),
        ("tau_c", _ZERO_SHOT, _DN, {"DN, means of 100 unpaired samples": 53.2}),
        ("tau_c", _ZERO_SHOT_REFERENCES, _CLIPSCORE, {"RefCLIPScore": 53.0}),
        ("tau_c", _ZERO_SHOT_REFERENCES, _DN, {"DN with references": 55.3}),
        ("tau_c", _FITTED, _MID, {"MID": 54.9}),
        ("tau_c", _FINE_TUNED, _PAC, {"PAC-S": 54.3}),
        ("tau_b", _LONG_CLIP, _I0T, {"I0T_post": 53.97, "I0T_async": 53.33}),
        ("tau_c", _SUPERVISED, _KIT, {"Polos": 56.4}),
        ("tau_c", _LARGE, _KIT, {"FLEUR": 53.0, "EXPERT": 56.7}),
    ),
    "flickr8k_cf": _published(
        ("tau_b", _REFERENCES, _CLIPSCORE, _classic(16.9, 19.9, 22.2, 24.6, 24.4)),
        ("tau_b", _ZERO_SHOT, _CLIPSCORE, {"CLIPScore": 34.4}),
        ("tau_b", _ZERO_SHOT, _DN, {"DN": 35.4, "DN, means of 100 unpaired samples": 35.1}),
        ("tau_b", _ZERO_SHOT_REFERENCES, _CLIPSCORE, {"RefCLIPScore": 36.4}),
        ("tau_b", _ZERO_SHOT_REFERENCES, _DN, {"DN with references": 37.0}),
        ("tau_b", _FITTED, _MID, {"MID": 37.3}),
        ("tau_b", _FINE_TUNED, _PAC, {"PAC-S": 36.0}),
        ("tau_b", _LONG_CLIP, _I0T, {"I0T_post": 33.58, "I0T_async": 33.08}),
        ("tau_b", _SUPERVISED, _KIT, {"Polos": 37.8}),
        ("tau_b", _LARGE, _KIT, {"FLEUR": 38.6, "EXPERT": 39.3}),
    ),
    "composite": _published(
        ("tau_c", _REFERENCES, _CLIPSCORE, _classic(30.6, 32.4, 38.9, 37.7, 40.3)),
        ("tau_c", _ZERO_SHOT, _CLIPSCORE, {"CLIPScore": 53.8}),
        ("tau_c", _ZERO_SHOT_REFERENCES, _CLIPSCORE, {"RefCLIPScore": 55.4}),
        ("tau_c", _FINE_TUNED, _KIT, {"PAC-S": 55.7}),
        ("tau_c", _SUPERVISED, _KIT, {"Polos": 57.6}),
        ("tau_c", _LARGE, _KIT, {"FLEUR": 63.5, "EXPERT": 65.0}),
    ),
    "polaris": _published(
        ("tau_c", _REFERENCES, _KIT, _classic(46.3, 46.3, 51.2, 52.1, 51.0)),
        ("tau_c", _ZERO_SHOT, _KIT, {"CLIPScore": 52.3}),
        ("tau_c", _ZERO_SHOT_REFERENCES, _NOT_REPRODUCED, {"RefCLIPScore": 52.3}),
        ("tau_c", "trained on this set's training split", _KIT, {"Polos": 57.8}),
    ),
    "nebula": _published(
        ("tau_c", _REFERENCES, _KIT, _classic(44.1, 43.4, 47.6, 48.8, 47.4)),
        ("tau_c", _ZERO_SHOT, _KIT, {"CLIPScore": 47.9}),
        ("tau_c", _ZERO_SHOT_REFERENCES, _NOT_REPRODUCED, {"RefCLIPScore": 46.9}),
        ("tau_c", _SUPERVISED, _KIT, {"Polos": 55.0}),
    ),
    "pascal50s": tuple(
        Published(metric, figure, value, condition, _CLIPSCORE)
        for metric, condition, values in (
            ("length", "number of words", (51.7, 52.3, 63.6, 49.6)),
            ("BLEU-4", _REFERENCES, (60.4, 90.6, 84.9, 54.7)),
            ("SPICE", _REFERENCES, (63.6, 96.3, 86.7, 68.3)),
            ("METEOR", _REFERENCES, (63.8, 97.7, 93.7, 65.4)),
            ("ROUGE-L", _REFERENCES, (63.7, 95.3, 92.3, 61.2)),
            ("CIDEr", _REFERENCES, (65.1, 98.1, 90.5, 64.8)),
            ("CLIPScore", _ZERO_SHOT, (56.5, 99.3, 96.4, 70.4)),
            ("RefCLIPScore", _ZERO_SHOT_REFERENCES, (64.5, 99.6, 95.4, 72.8)),
        )
        for figure, value in zip(("HC", "HI", "HM", "MM"), values, strict=True)
    ),
    "thumb": _published(
        ("tau_c", _ZERO_SHOT, f"{_DN}, as they rerun it", {"CLIPScore": 19.9}),
        ("tau_c", _ZERO_SHOT, _DN, {"DN": 23.5, "DN, means of 100 unpaired samples": 22.2}),
        ("tau_c", _ZERO_SHOT_REFERENCES, f"{_DN}, as they rerun it", {"RefCLIPScore": 24.7}),
        ("tau_c", _ZERO_SHOT_REFERENCES, _DN, {"DN with references": 25.8}),
    ),
    "foil": _published(
        ("accuracy, 4 references", _REFERENCES, _CLIPSCORE, _classic(82.6, 79.3, 85.4, 90.6, 86.1)),
        ("accuracy", _ZERO_SHOT, _CLIPSCORE, {"CLIPScore": 87.2}),
        ("accuracy, 4 references", _ZERO_SHOT_REFERENCES, _CLIPSCORE, {"RefCLIPScore": 92.6}),
    ),
}
"""Published figures by set. Figures under different conditions are not comparable."""


def verify(
    counts: Mapping[str, int],
    known: KnownSet,
    path: Path,
    files: Mapping[str, Path],
    *,
    allow_other_counts: bool = False,
) -> tuple[str, ...]:
    """Compare the counts and files of a set with the known ones.

    Args:
        counts: Counts of the set that was read.
        known: The known set.
        path: Path of the set that was read, for the message.
        files: Its files by name, to compare their hashes.
        allow_other_counts: Whether to note different counts instead of raising.

    Returns:
        Notes on the differences.

    Raises:
        SampleFileError: Counts differ; the message lists all that do.
    """
    differing = [
        f"{name}: {counts[name]:,}, but the complete set has {count:,}"
        for name, count in known.counts.items()
        if name in counts and counts[name] != count
    ]
    if differing and not allow_other_counts:
        raise SampleFileError(path, [f"{line}. Use the complete file, or allow other counts." for line in differing])
    digests = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    for name, digest in digests.items():
        expected = known.hashes.get(name, digest)
        if digest != expected:
            shown = f"{digest[:12]}…, not {expected[:12]}…"
            differing.append(f"{name} differs from the known file of this name (SHA-256 {shown})")
    return tuple(differing)


def read_known_set(
    known: KnownSet,
    data: Path | None,
    images: Path | None = None,
    *,
    look_up: bool = True,
    offline: bool = False,
    drop: Drop | None = None,
    **options: Any,
) -> tuple[RatingSet | PreferenceSet, Path, dict[str, Path]]:
    """Read a set from its files, or from the hub.

    Args:
        known: The set.
        data: Its file, or the folder that holds it; None for the hub or its cache.
        images: Folder of the images; found next to the file if None. The hub needs none.
        look_up: Whether to look up the images.
        offline: Whether to avoid the network.
        drop: Captions to remove from the references; None for the protocol of the set.
        options: Further arguments of ``known.read``.

    Returns:
        The set, where it was read from, and its files by name.

    Raises:
        InputError: The file is missing, or the hub cannot be reached.
        SampleFileError: The file has errors.
    """
    found: RatingSet | PreferenceSet
    if data is None or known.read is None:
        found, path = _read_known_table(known, data, images, look_up=look_up, offline=offline)
    else:
        path = locate(data, known.files, known.origin)
        found = known.read(path, images, look_up=look_up, **options)
    if isinstance(found, RatingSet) and (dropped := drop or known.drop):
        found = drop_rated(found, dropped)
    beside = {name: path.with_name(name) for name in known.hashes if data is not None}
    return found, path, {name: file for name, file in beside.items() if file.is_file()}


def drop_rated(ratings: RatingSet, drop: Drop) -> RatingSet:
    """Remove rated captions from references, and note it.

    Args:
        ratings: The set.
        drop: ``own``: remove the caption of an item from its references. ``rated``: remove every caption that was rated
            for an image from the references of all its items; if none would be left, keep all, as in the file of
            Flickr8k-CF that CLIPScore's code creates.
    """
    rated: dict[str, set[str]] = {}
    image_of = dict(zip(ratings.item.tolist(), ratings.clusters, strict=True))
    for item, image in image_of.items():
        rated.setdefault(image, set()).add(ratings.samples[item].caption)
    samples = []
    for item, sample in enumerate(ratings.samples):
        dropped = {sample.caption} if drop == "own" else rated[image_of[item]]
        left = tuple(text for text in sample.references if text not in dropped)
        samples.append(replace(sample, references=left if left or drop == "own" else sample.references))
    note = {
        "own": "The rated caption is removed from the references of its image.",
        "rated": "Every caption that was rated for an image is removed from its references, unless none would be left.",
    }[drop]
    return replace(ratings, samples=tuple(samples), notes=(*ratings.notes, note))


def load_hub_dataset(name: str, configuration: str | None, split: str) -> Any:
    """Load a dataset from the Hugging Face hub, or from its cache if the hub is unreachable.

    Raises:
        InputError: It is in neither.
    """
    with quiet_datasets() as datasets:
        try:
            return datasets.load_dataset(name, configuration, split=split)
        except Exception as error:  # the library raises exceptions of many libraries
            reason = first_line(error)
            raise InputError(
                f"{name}: The hub is unreachable, and the dataset is not cached ({reason}). Give its folder."
            ) from error


def _read_known_table(
    known: KnownSet, data: Path | None, images: Path | None, *, look_up: bool, offline: bool
) -> tuple[RatingSet, Path]:
    """Read a set that is a table, from a file, a folder or the hub; return it and where it was read from."""
    root = dataset = None
    if data is None:
        hub = known.hub
        if hub is None or offline:
            where = "is not on the hub" if hub is None else "is on the hub, which --offline does not allow"
            raise InputError(f"{known.title} {where}. Give its folder ({known.origin}).")
        dataset = load_hub_dataset(hub.name, hub.configuration, hub.split)
        file = Path(hub.name)
    else:
        is_dataset = (data / "state.json").is_file() or (data / "dataset_info.json").is_file()
        file = data if is_dataset else locate(data, known.files, known.origin)
        folder = image_folder(images, file, ("images",), look_up=look_up and not is_dataset)
        root = None if folder is None else folder.root
    ratings = read_rating_table(
        file,
        name=known.name,
        images=root,
        columns=HUB_COLUMNS,
        scale=known.scale,
        allow_duplicates=True,
        dataset=dataset,
    )
    return ratings, file
