"""``i0tscore correlate``: agreement of scores with human ratings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from i0tscore.cli.console import check_output, write_output
from i0tscore.cli.options import (
    IntervalOptions,
    ModelOptions,
    OnError,
    OutputOptions,
    argument,
    choose_folder,
    images_option,
    make_scorer,
    metric_option,
    on_error_option,
    statistics_option,
    verb,
    write_report,
)
from i0tscore.errors import InputError, UsageError
from i0tscore.options import option

if TYPE_CHECKING:
    from i0tscore.samples.preferences import PreferenceSet
    from i0tscore.samples.rating_sets import KnownSet
    from i0tscore.samples.ratings import RatingScale, RatingSet

CORRELATIONS = ("tau_b", "tau_c", "spearman", "pearson")
RATING_FORMATS = ("table", "clipscore-ratings", "flickr8k-expert")
RATING_SETS = (
    *("flickr8k_expert", "flickr8k_cf", "composite", "polaris", "polaris_val"),
    *("nebula", "pascal50s", "foil", "thumb"),
)
_COLUMNS = (
    *("scale", "rater", "category", "system", "allow_duplicates"),
    *("image_column", "caption_column", "context_column", "group"),
)
_DEFAULT_RATING = "rating"
_Rated = TypeVar("_Rated", "RatingSet", "PreferenceSet")


@dataclass
class CorrelateOptions:
    """Where ratings and scores are, and what is reported.

    Raises:
        UsageError: The options contradict each other.
    """

    table: Any = argument("[TABLE]")  # a path; None only with --set
    image_folder: Path | None = argument("[IMAGES]")
    images: Path | None = images_option()
    input_format: str | None = option(
        "Format of TABLE.", default_text="flickr8k-expert for ExpertAnnotations.txt, else table", choices=RATING_FORMATS
    )
    known_set: str | None = option(
        "Known rating set; TABLE is its file or folder. Without TABLE, read the set from the Hugging Face hub.",
        names="--set",
        choices=(None, *RATING_SETS),
    )
    allow_other_counts: bool = option("With --set, accept part of the set, or another version.", False)
    on_error: OnError = on_error_option()
    image_column: str | None = option("Column of the images.", metavar="NAME")
    caption_column: str | None = option("Column of the captions.", metavar="NAME")
    context_column: str | None = option("Column of the texts in which the images appear.", metavar="NAME")
    rating: tuple[str, ...] = option(
        "Column of the ratings; higher is better. Repeat the option if each rater has a column.",
        (),
        default_text="rating",
        multiple=True,
        metavar="COLUMN",
    )
    scale: tuple[float, float] | None = option(
        "Lowest and highest valid rating.", type=(float, float), metavar="LOW HIGH"
    )
    score: tuple[str, ...] = option("Scores in TABLE. Repeatable.", (), multiple=True, metavar="COLUMN")
    scores: Path | None = option(
        "Table with the columns image and caption and columns of scores; --score selects some of them.", path="FILE"
    )
    items: Path | None = option(
        "Also write a CSV table of the rated captions, sorted from scored high but rated low to the opposite.",
        path="FILE",
    )
    group: str | None = option("Column of the clusters for the bootstrap.", default_text="image", metavar="COLUMN")
    no_cluster: bool = option("Resample rows instead of images. Valid only if no rows share an image.", False)
    rater: str | None = option(
        "Column of the raters. With --score, adds the agreement of the raters themselves.", metavar="COLUMN"
    )
    item_key: tuple[str, ...] = option(
        "Column that identifies what is rated. Repeatable.",
        (),
        default_text="image and caption",
        multiple=True,
        metavar="COLUMN",
    )
    category: str | None = option("Also report results for each category in this column.", metavar="COLUMN")
    system: str | None = option("Also report results for each captioning system in this column.", metavar="COLUMN")
    average_raters: bool = option("Average the ratings of each item, which raises every correlation.", False)
    allow_duplicates: bool = option("Accept identical rows and treat them as ratings by different raters.", False)
    statistics: str = statistics_option()
    metric: tuple[str, ...] = metric_option(
        "Also 'number of words' and, with references, BLEU-1, BLEU-4, ROUGE-L, METEOR, CIDEr, and SPICE."
    )
    correlation: Any = option(
        "Correlation used for differences, categories and systems.",
        default_text="tau_c; with --set, the one in published figures",
        choices=CORRELATIONS,
    )
    baseline: str | None = option("Score to compare the others with.", default_text="the first", metavar="NAME")

    def __post_init__(self) -> None:
        """Complete the options, and check that they make sense together."""
        self.images = choose_folder(self.image_folder, self.images)
        check_output(self.items)
        self.score, self.rating = tuple(dict.fromkeys(self.score)), tuple(dict.fromkeys(self.rating))
        if (self.score or self.scores) and self.on_error == "skip":
            raise UsageError("--on-error skip has no effect on given scores, which must all be valid. Remove it.")
        if self.known_set is None:
            self._check_table()
        else:
            self._require_unset("does not apply to --set", *_COLUMNS, "input_format", "no_cluster", "item_key")
            if len(self.rating) > 1:
                raise UsageError("Expected one --rating with --set, got several. Give one.")
            if self.score and self.scores is None:
                raise UsageError(
                    "With --set, --score selects columns of a table of scores, and none is given. Add --scores FILE."
                )

    def _check_table(self) -> None:
        if self.table is None:
            raise UsageError("Expected a table of ratings, got none. Give TABLE, or --set NAME for a known rating set.")
        if self.input_format is None:
            self.input_format = "flickr8k-expert" if self.table.name == "ExpertAnnotations.txt" else "table"
        self._require_unset("applies to --set", "allow_other_counts")
        if self.group is not None and self.no_cluster:
            raise UsageError("--group and --no-cluster contradict each other. Give one.")
        if self.score and self.scores is None and self.input_format != "table":
            raise UsageError(f"{self.input_format} contains no scores. Add --scores FILE.")
        if len(self.rating) > 1 and self.rater is not None:
            raise UsageError("With several --rating columns, each column belongs to one rater. Remove --rater.")
        if self.in_table:
            self._require_unset("has no effect on scores in the table itself", "context_column")
        else:
            self._require_unset("applies only to scores in the table itself (--score)", "item_key")
        if self.input_format != "table":
            self._require_unset(f"applies to tables, not to {self.input_format}", "rating", *_COLUMNS)

    @property
    def in_table(self) -> bool:
        """Whether all scores are columns of the table of ratings, which then needs no captions."""
        given = self.score and self.scores is None and self.input_format == "table"
        return bool(given) and not self.computes and self.items is None

    @property
    def computes(self) -> bool:
        """Whether metrics are computed."""
        return bool(self.metric or self.images) or not (self.score or self.scores)

    def _require_unset(self, reason: str, *names: str) -> None:
        for name in names:
            if getattr(self, name):
                raise UsageError(f"--{name.replace('_', '-')} {reason}. Remove it.")


@verb("Measure how well scores agree with human ratings.")
def correlate(
    options: CorrelateOptions, intervals: IntervalOptions, output: OutputOptions, model: ModelOptions
) -> None:
    """Measure how well scores agree with the human ratings in TABLE, which has one rating or one caption per row.

    TABLE is a CSV, TSV, Excel, JSON, JSON lines, or parquet file or, with --set, the file or folder of a known rating
    set. Scores are read from columns of TABLE (--score) or from another table (--scores). If neither is given, or if
    IMAGES or --metric is also given, --model computes scores. Intervals come from resampling images.
    """
    from i0tscore.results.correlation import correlation_report, item_rows
    from i0tscore.results.preferences import preference_report
    from i0tscore.samples.preferences import PreferenceSet
    from i0tscore.samples.rating_sets import KNOWN_SETS, PUBLISHED
    from i0tscore.views.cells import csv_text
    from i0tscore.views.report_views import (
        correlation_csv,
        correlation_document,
        preference_csv,
        preference_document,
    )

    if options.items is not None and options.items.resolve() in {
        path.resolve() for path in (options.table, options.scores, output.path) if path is not None
    }:
        raise UsageError(f"{options.items}: --items would replace another file of this run. Give another name.")
    known = None if options.known_set is None else KNOWN_SETS[options.known_set]
    rated = _read_rated(options, model) if known is None else _read_known(options, known, model)
    if options.baseline is not None and options.baseline not in rated.scores:
        raise UsageError(f"--baseline {options.baseline}: No such score. Choose from {', '.join(rated.scores)}.")
    published = () if known is None else PUBLISHED.get(known.name, ())
    if isinstance(rated, PreferenceSet):
        preferences = preference_report(
            rated, baseline=options.baseline, resampling=intervals.resampling, published=published
        )
        write_report(preferences, output, preference_document, preference_csv)
        return
    report = correlation_report(
        rated.averaged() if options.average_raters else rated,
        headline=options.correlation or ("tau_c" if known is None else known.headline),
        baseline=options.baseline,
        resampling=intervals.resampling,
        system=options.system or "system",
        published=published,
    )
    items = None if options.items is None else item_rows(rated, report.baseline)
    write_report(report, output, correlation_document, correlation_csv)
    if items is not None:
        write_output(csv_text(items), options.items)


def _read_known(options: CorrelateOptions, known: KnownSet, model: ModelOptions) -> RatingSet | PreferenceSet:
    """Read a known set, and read or compute the scores of its captions.

    Raises:
        InputError: The files have problems, or are not those of the set.
        UsageError: An option does not apply to the set.
    """
    from i0tscore.samples.preferences import PreferenceSet
    from i0tscore.samples.rating_sets import read_known_set, verify

    for name in options.rating:
        if name not in known.ratings:
            choices = f"Choose from {', '.join(known.ratings)}." if known.ratings else "Remove it."
            raise UsageError(f"--rating {name}: {known.title} has no such rating. {choices}")
    rating: dict[str, Any] = {"rating": options.rating[0]} if options.rating else {}
    by_model = options.computes and _uses_images(options)
    found, path, files = read_known_set(
        known, options.table, options.images, look_up=by_model, offline=model.offline, **rating
    )
    differing = verify(found.counts, known, path, files, allow_other_counts=options.allow_other_counts)
    if isinstance(found, PreferenceSet) and (options.correlation or options.average_raters or options.items):
        raise UsageError(
            f"{known.title} has preferences, not ratings. Remove --correlation, --average-raters, and --items."
        )
    notes = (f"Data: {known.origin}.", *known.remarks, *found.notes, *differing)
    if isinstance(found, PreferenceSet):
        return _add_scores(replace(found, notes=notes), options, model)
    return _add_scores(replace(found, notes=notes), options, model)


def _read_rated(options: CorrelateOptions, model: ModelOptions) -> RatingSet:
    """Read ratings, and read or compute the scores of what they rate.

    Raises:
        InputError: The files have problems; all of them are listed.
    """
    from i0tscore.samples.ratings import ANY_NUMBER, RatingScale, read_score_table

    scale = ANY_NUMBER if options.scale is None else RatingScale(*options.scale)
    if options.in_table:
        return read_score_table(
            options.table,
            options.score,
            rating=options.rating[0] if options.rating else _DEFAULT_RATING,
            raters=options.rating[1:] and options.rating,
            scale=scale,
            image_column=options.image_column,
            caption_column=options.caption_column,
            group=options.group,
            no_cluster=options.no_cluster,
            rater=options.rater,
            item_key=options.item_key,
            by_item=options.average_raters,
            parts=tuple(dict.fromkeys(filter(None, (options.category, options.system)))),
            allow_duplicates=options.allow_duplicates,
        )
    ratings = _read_ratings(options, scale, with_images=options.computes and _uses_images(options))
    rated = _add_scores(ratings, options, model)
    columns_of = {"category": options.category, "system": options.system}
    rated = replace(rated, parts={columns_of.get(name) or name: labels for name, labels in rated.parts.items()})
    return replace(rated, clusters=(), over="rows") if options.no_cluster else rated


def _uses_images(options: CorrelateOptions) -> bool:
    """Return whether a metric to compute uses images."""
    from i0tscore.metrics.sample_sets import split_metrics

    names, classic = split_metrics(options.metric)
    return bool(names or not classic)


def _add_scores(rated: _Rated, options: CorrelateOptions, model: ModelOptions) -> _Rated:
    """Read or compute the scores of rated captions; those computed come before those given.

    Raises:
        UsageError: A score is both given and computed.
    """
    from i0tscore.metrics.sample_sets import rate, split_metrics
    from i0tscore.samples.ratings import read_scores_of

    given = dict(rated.scores)
    if options.scores is not None:
        found = read_scores_of(
            options.scores,
            rated.samples,
            options.score,
            image_column=options.image_column,
            caption_column=options.caption_column,
        )
        given |= rated.with_scores(found, {}).scores
    if not options.computes:
        return replace(rated, scores=given)
    names, classic = split_metrics(options.metric)
    settings = {"statistics": options.statistics, "metrics": names or None, "resamples": 0}
    scorer = make_scorer(model, options.on_error, **settings) if _uses_images(options) else None
    scored = rate(rated, scorer, names, classic)
    if both := [name for name in given if name in scored.scores]:
        raise UsageError(f"The score {both[0]!r} is both given and computed. Rename the column or remove the metric.")
    return replace(scored, scores={**scored.scores, **given})


def _read_ratings(options: CorrelateOptions, scale: RatingScale, *, with_images: bool) -> RatingSet:
    """Read rated captions, and find their images if a model will score them."""
    from i0tscore.samples.flickr8k import read_clipscore_json, read_flickr8k_expert
    from i0tscore.samples.ratings import RATING_COLUMNS, read_rating_table

    skip = options.on_error == "skip"
    if options.input_format == "flickr8k-expert":
        return read_flickr8k_expert(options.table, options.images, look_up=with_images, skip=skip)
    folder = (options.images or options.table.parent) if with_images else None
    if options.input_format == "clipscore-ratings":
        return read_clipscore_json(options.table, folder, skip=skip)
    labels = {"rater": options.rater, "category": options.category, "system": options.system}
    columns = {
        **RATING_COLUMNS,
        "rating": options.rating or (_DEFAULT_RATING,),
        **{name: (column,) if column else () for name, column in labels.items()},
    }
    ratings = read_rating_table(
        options.table,
        images=folder,
        columns=columns,
        image_column=options.image_column,
        caption_column=options.caption_column,
        context_column=options.context_column,
        raters=options.rating[1:] and options.rating,
        group=options.group,
        scores=options.score if options.scores is None else (),
        scale=scale,
        allow_duplicates=options.allow_duplicates,
        skip=skip,
    )
    for name, column in labels.items():
        if column is not None and (ratings.rater if name == "rater" else ratings.parts.get(name)) is None:
            raise InputError(f"{options.table}: The column {column!r} is missing or empty. Correct --{name}.")
    return ratings
