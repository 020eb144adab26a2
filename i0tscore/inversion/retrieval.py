"""Retrieval with the baseline embeddings, with standardized ones, and with one side inverted."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from i0tscore.errors import InputError
from i0tscore.gap import Standardizer, Statistics
from i0tscore.inversion.inverted import Inverted
from i0tscore.inversion.search import Search
from i0tscore.results import Resampling, Signature
from i0tscore.results.retrieval import LABEL_MEASURES, LabelRetrieval, Method, RetrievalReport, Side
from i0tscore.samples import Skipped


def report_retrieval(
    search: Search,
    inverted: Inverted | None = None,
    side: Side = "query",
    *,
    standardizers: Sequence[Standardizer] = (),
    statistics: Statistics | None = None,
    encoding: Sequence[tuple[str, str]] = (),
    resampling: Resampling | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> RetrievalReport:
    """Measure a search with the baseline, with standardizers and with one side inverted.

    Args:
        search: Queries and gallery.
        inverted: Inverted features of one side, in the order of its items.
        side: The inverted side.
        standardizers: Standardizers to apply to the embeddings of both sides.
        statistics: Statistics for the standardizers.
        encoding: Signature fields of the encoding.
        resampling: Resampling of the intervals.
        skipped: Items that were skipped.
        notes: Remarks for the reader.

    Raises:
        InputError: ``inverted`` has other items than the side, or another order.
        StatisticsError: The statistics lack what a standardizer needs.

    Source:
        Mistretta et al., "Cross the Gap", ICLR 2025: within a modality, only the query is inverted.

    Example:
        >>> import numpy as np
        >>> from i0tscore.inversion.search import Items
        >>> vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
        >>> items = Items(tuple("abcd"), vectors, np.array([0, 0, 1, 1]), np.arange(4))
        >>> report = report_retrieval(Search.of("image-image", items, items))
        >>> report.baseline.measures["R@1"].value
        1.0
    """
    resampling = resampling or Resampling()
    baseline = search.retrieve()
    results = {str(s): search.retrieve_standardized(s, statistics) for s in standardizers}
    if inverted is not None:
        if inverted.ids != search.side(side).ids:
            raise InputError(
                f"The inverted features belong to other items. Pass one per {side} item, with its id and in its order."
            )
        config = inverted.config
        for k, step in enumerate(config.eval_steps):
            results[f"{config.method}@{step}"] = search.retrieve(inverted.eval_vectors[:, k], side)
        results[config.method] = search.retrieve(inverted.vectors, side)
    clusters = search.queries.clusters
    methods = {}
    for name, found in results.items():
        change = {measure: found.values[measure] - baseline.values[measure] for measure in LABEL_MEASURES}
        differences = LabelRetrieval(change).estimates(clusters, resampling)
        methods[name] = Method(found.estimates(clusters, resampling), differences)
    return RetrievalReport(
        search.task,
        len(search.queries),
        len(search.gallery),
        baseline.left_out,
        Method(baseline.estimates(clusters, resampling), {}),
        methods,
        None if inverted is None else side,
        None if inverted is None else float(1 - inverted.losses.mean()),
        _signature(search, inverted, side, standardizers, statistics, encoding, resampling, len(skipped)),
        search.queries.over,
        resampling,
        tuple(skipped),
        tuple(notes),
    )


def _signature(
    search: Search,
    inverted: Inverted | None,
    side: Side,
    standardizers: Sequence[Standardizer],
    statistics: Statistics | None,
    encoding: Sequence[tuple[str, str]],
    resampling: Resampling,
    skipped: int,
) -> Signature:
    fields = [*encoding, ("task", search.task)]
    fitted = [standardizer for standardizer in standardizers if standardizer.spec.need is not None]
    if statistics is not None and fitted:
        digests = dict.fromkeys(statistics.digest_of(standardizer)[:4] for standardizer in fitted)
        fields.append(("stats", f"{statistics.name}-{'-'.join(digests)}"))
    if inverted is not None:
        # The model and the precision are fields of the encoding.
        fields.append(("inverted", side))
        fields += [(key, value) for key, value in inverted.config.fields if key not in ("m", "prec")]
    fields += [("queries", str(len(search.queries))), ("gallery", str(len(search.gallery))), ("skipped", str(skipped))]
    if search.seed is not None:
        fields.append(("drawn", str(search.seed)))
    if resampling.resamples:
        fields += [("bs", str(resampling.resamples)), ("seed", str(resampling.seed))]
    return Signature("retrieval", (*fields, ("v", version("i0tscore"))))
