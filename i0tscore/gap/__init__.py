"""The modality gap: reference statistics, standardizers that remove the gap, and measures of it.

Everything here works on arrays of embeddings and knows neither images, captions nor encoders.
"""

from i0tscore.gap.measures import centroid_distance
from i0tscore.gap.standardizers import NONE, POST, GapStatistics, Normalization, NormalizationPair, Standardizer
from i0tscore.gap.statistics import Moments, Quartiles, Statistics
from i0tscore.gap.vectors import dot, normalize

__all__ = [
    "NONE",
    "POST",
    "GapStatistics",
    "Moments",
    "Normalization",
    "NormalizationPair",
    "Quartiles",
    "Standardizer",
    "Statistics",
    "centroid_distance",
    "dot",
    "normalize",
]
