"""The modality gap: reference statistics, standardizers that remove the gap, and measures of it.

Everything here works on arrays of embeddings and knows neither images, captions nor encoders.
"""

from i0tscore.gap.measures import centroid_distance, expected_residual_gap
from i0tscore.gap.standardizers import (
    NONE,
    POST,
    GapStatistics,
    HubnessBank,
    Normalization,
    NormalizationPair,
    Standardizer,
    all_standardizers,
)
from i0tscore.gap.statistics import Moments, Quartiles, ReferenceDistribution, Statistics
from i0tscore.gap.vectors import dot, normalize

__all__ = [
    "NONE",
    "POST",
    "GapStatistics",
    "HubnessBank",
    "Moments",
    "Normalization",
    "NormalizationPair",
    "Quartiles",
    "ReferenceDistribution",
    "Standardizer",
    "Statistics",
    "all_standardizers",
    "centroid_distance",
    "dot",
    "expected_residual_gap",
    "normalize",
]
