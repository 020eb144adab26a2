"""What is known of the named rating sets: where they are from, their counts, files and readers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from i0tscore.errors import InputError, SampleFileError
from i0tscore.samples.datasets import load_hub_dataset
from i0tscore.samples.flickr8k import image_folder, locate
from i0tscore.samples.ratings import (
    RATING_COLUMNS,
    RatingScale,
    RatingSet,
    TableRules,
    read_dataset_ratings,
    read_rating_table,
)

HUB_COLUMNS: Mapping[str, tuple[str, ...]] = {
    **RATING_COLUMNS,
    "image": ("img", "image", "imgid", "file_name", "id"),
    "caption": ("cand", "mt", "caption"),
    "rating": ("human_score", "score", "rating", "correctness"),
    "references": ("refs", "references"),
    "category": ("category", "source", "dataset"),
}
"""Names used by Composite, Polaris and Nebula, on the hub and in their CSV files."""


@dataclass(frozen=True, slots=True)
class HubLocation:
    """A data set of the Hugging Face hub.

    Attributes:
        name: ``owner/name``.
        configuration: Its configuration; None for the only one.
        split: Its split.
    """

    name: str
    configuration: str | None = None
    split: str = "test"


@dataclass(frozen=True, slots=True)
class KnownSet:
    """What is known of a rating set.

    Attributes:
        name: Short name.
        title: For people.
        origin: Where the data come from.
        counts: What a complete set has; other counts are refused.
        hashes: SHA-256 of its files by name, where known; other files are noted.
        hub: Where the hub serves it, if it does.
        rules: How its table is to be taken, for sets that come as tables.
        files: Names that its table may have.
    """

    name: str
    title: str
    origin: str
    counts: Mapping[str, int]
    hashes: Mapping[str, str] = field(default_factory=dict)
    hub: HubLocation | None = None
    rules: TableRules = TableRules()  # noqa: RUF009 (frozen)
    files: tuple[str, ...] = ()


KNOWN_SETS: dict[str, KnownSet] = {
    known.name: known
    for known in (
        KnownSet(
            "flickr8k_expert",
            "Flickr8k-Expert",
            "Hodosh, Young and Hockenmaier 2013 (JAIR 47), ExpertAnnotations.txt with Flickr8k.token.txt; "
            "the same in CLIPScore's flickr8k.json",
            {
                "pairs": 5822,
                "pairs dropped": 158,
                "items": 5664,
                "ratings": 16992,
                "images": 1000,
            },
            {
                "ExpertAnnotations.txt": "56c2b1a9e1a46ba73b8b151abd7c3c8b1676fbacadb559d0c2eb6524b166cf4f",
                "Flickr8k.token.txt": "1e1f3a371ba1a1bf742e6930521c037e046b2bf3fcc2390ba8405e0301ed7689",
            },
            HubLocation("yuwd/Flickr8k-HumanEval", "expert"),
            TableRules(HUB_COLUMNS, RatingScale(1, 4, whole=True), allow_duplicates=True),
        ),
        KnownSet(
            "flickr8k_cf",
            "Flickr8k-CF",
            "Hodosh, Young and Hockenmaier 2013 (JAIR 47), CrowdFlowerAnnotations.txt with "
            "Flickr8k.token.txt; the same in CLIPScore's crowdflower_flickr8k.json",
            {"ratings": 47830, "judgements": 144860, "images": 1000},
            {"Flickr8k.token.txt": "1e1f3a371ba1a1bf742e6930521c037e046b2bf3fcc2390ba8405e0301ed7689"},
            HubLocation("yuwd/Flickr8k-HumanEval", "crowdflower"),
            TableRules(HUB_COLUMNS, RatingScale(0, 1), drop_caption=True, allow_duplicates=True),
        ),
        KnownSet(
            "composite",
            "Composite",
            "Aditya et al. 2018 (CVIU 173), correctness 1–5 of captions of Flickr8k, Flickr30k and COCO",
            {"ratings": 11985, "images": 3995},
            hub=HubLocation("yuwd/Composite"),
            rules=TableRules(HUB_COLUMNS, RatingScale(0, 5), drop_caption=True, allow_duplicates=True),
            files=("*composite*.csv", "*composite*.tsv", "*composite*.json"),
        ),
        KnownSet(
            "polaris",
            "Polaris",
            "Wada et al., CVPR 2024 (Polos), test split",
            {"ratings": 26122},
            hub=HubLocation("yuwd/Polaris"),
            rules=TableRules(HUB_COLUMNS, RatingScale(0, 1), allow_duplicates=True),
            files=("polaris_test.csv", "*polaris*.csv"),
        ),
        KnownSet(
            "nebula",
            "Nebula",
            "Matsuda et al., ACCV 2024 (DENEB), test split; its number of rows is not known here, so it is "
            "reported and not compared",
            {},
            hub=HubLocation("Ka2ukiMatsuda/Nebula"),
            rules=TableRules(HUB_COLUMNS, RatingScale(0, 1), allow_duplicates=True),
            files=("*nebula*.csv",),
        ),
        KnownSet(
            "pascal50s",
            "Pascal-50S",
            "Vedantam et al., CVPR 2015, in CLIPScore's JSON form",
            {"pairs": 4000, "pairs HC": 1000, "pairs HI": 1000, "pairs HM": 1000, "pairs MM": 1000},
        ),
        KnownSet("foil", "FOIL", "Shekhar et al., ACL 2017, test split, images of COCO val2014", {}),
        KnownSet(
            "blv_kreiss2022",
            "Kreiss et al. 2022, blind and low-vision raters",
            "Kreiss et al., EMNLP 2022 (MIT), 18 images from Wikimedia Commons in articles on 6 topics",
            {"ratings": 272, "items": 68, "images": 18},
            {
                "blv_data_criticaltrials.csv": ("7edd71867b814b60a733e380190277df7e2f23362f79babeb65d91c43e9868d5"),
                "sighted_data_criticaltrials.csv": ("2f0ffa58843065d5647212c25f21e709795e22057f37eb9b5e56096820dab5a6"),
                "authors_clipscores.csv": "cb497c8f99dc026cfe41ef1bbedf2b8a02b3669567ae2faaff9b1389e5b3cdd2",
            },
        ),
        KnownSet(
            "blv_eye4b",
            "Eye4B and VL-GuideData",
            "An et al. 2025 (arXiv 2502.14883), Kim et al. 2025/26 (arXiv 2510.00766); the ratings are not public",
            {},
        ),
    )
}
"""The named sets."""


def require_counts(
    path: object, found: Mapping[str, int], expected: Mapping[str, int], *, allow_others: bool = False
) -> tuple[str, ...]:
    """Compare what was read with what is known of a set.

    Args:
        path: What was read, for the message.
        found: Counts by name.
        expected: Known counts by name; those that ``found`` lacks are not compared.
        allow_others: Whether to return differences as notes instead of raising, e.g. for a subset.

    Raises:
        SampleFileError: Lists all counts that differ.
    """
    differing = [
        f"{name}: {found[name]:,} where the set has {count:,}"
        for name, count in expected.items()
        if name in found and found[name] != count
    ]
    if differing and not allow_others:
        raise SampleFileError(path, [f"{line}. Get the whole file, or allow other counts." for line in differing])
    return tuple(differing)


def differing_hashes(files: Mapping[str, Path], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return which files differ from those that the known figures were computed with.

    Args:
        files: Files by name.
        known: SHA-256 in hexadecimal by the same names.
    """
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return tuple(
        f"{name} differs from the file known by this name (SHA-256 {digest[:12]}…, not {known[name][:12]}…)"
        for name, digest in found.items()
        if name in known and known[name] != digest
    )


def verify(
    counts: Mapping[str, int],
    known: KnownSet,
    path: Path,
    files: Mapping[str, Path],
    *,
    allow_other_counts: bool = False,
) -> tuple[str, ...]:
    """Compare a set with what is known of it.

    Args:
        counts: What was read.
        known: What is known.
        path: What was read, for the message.
        files: The files it was read from, by name; their hashes are compared.
        allow_other_counts: Note other counts instead of refusing them, e.g. for a part of a set.

    Returns:
        What differs and is not refused, for the notes.

    Raises:
        SampleFileError: Counts differ; all that do are named.
    """
    differing = require_counts(path, counts, known.counts, allow_others=allow_other_counts)
    return (*differing, *differing_hashes(files, known.hashes))


def read_known_table(
    known: KnownSet,
    data: Path | None,
    images: Path | None = None,
    *,
    look_up: bool = True,
    offline: bool = False,
) -> tuple[RatingSet, Path]:
    """Read a set that comes as a table: from a file or folder, or else from the hub.

    Args:
        known: The set.
        data: Its file, the folder that holds it, or None for the hub (or its cache).
        images: The images' folder; ``images`` beside the file if left out. Not needed for the hub.
        look_up: Whether to look for the images.
        offline: Whether the hub must not be asked.

    Returns:
        The set and where it was read from.

    Raises:
        InputError: The file is not there, or the hub not reachable.
        SampleFileError: Whatever is wrong with the file.
    """
    if data is None:
        hub = known.hub
        if hub is None or offline:
            where = "is not on the hub" if hub is None else "would be read from the hub"
            raise InputError(f"{known.title} {where}: give its folder ({known.origin})")
        dataset = load_hub_dataset(hub.name, hub.configuration, hub.split)
        return read_dataset_ratings(dataset, hub.name, known.name, known.rules), Path(hub.name)
    is_dataset = (data / "state.json").is_file() or (data / "dataset_info.json").is_file()
    file = data if is_dataset else locate(data, known.files, f"it comes from {known.origin}")
    folder = image_folder(images, file, ("images",), look_up=look_up and not is_dataset)
    root = None if folder is None else folder.root
    return read_rating_table(file, name=known.name, images=root, rules=known.rules), file
