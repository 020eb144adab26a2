"""Scripts of sets that are read from known files or from the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from human_judgments.arguments import Arguments
from human_judgments.rating_sets import KNOWN_SETS, read_known_table
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.results.correlation import CorrelationName
from i0tscore.samples.flickr8k import CAPTIONS_FILE
from i0tscore.samples.ratings import RatingSet


def report_known_table(
    name: str, arguments: Arguments, *, headline: CorrelationName, remarks: Sequence[str] = ()
) -> Report:
    """Read a set that comes as a table, from a folder or the hub, and report on it as ``report_ratings``."""
    known = KNOWN_SETS[name]
    ratings, path = read_known_table(
        known, arguments.data, arguments.images, look_up=arguments.needs_images, offline=arguments.offline
    )
    return report_ratings(known, ratings, arguments, path=path, headline=headline, remarks=remarks)


def report_flickr8k(
    name: str,
    arguments: Arguments,
    read: Callable[..., RatingSet],
    *,
    names: tuple[str, ...],
    headline: CorrelationName,
    remarks: Sequence[str],
) -> Report:
    """Read a set of Flickr8k from its files, or the hub where they are not there, and report on it.

    Args:
        name: Of the set.
        arguments: Of the command line.
        read: Reads the set from a file.
        names: What the file may be called.
        headline: As for ``report_ratings``.
        remarks: The same.
    """
    known = KNOWN_SETS[name]
    file = arguments.local_file(names, known.origin)
    if file is None:
        ratings, path = read_known_table(known, None, offline=arguments.offline)
        return report_ratings(known, ratings, arguments, path=path, headline=headline, remarks=remarks)
    ratings = read(file, arguments.images, look_up=arguments.needs_images)
    texts = () if file.suffix == ".json" else (file.name, CAPTIONS_FILE)
    files = {text: file.with_name(text) for text in texts}
    return report_ratings(known, ratings, arguments, path=file, files=files, headline=headline, remarks=remarks)
