"""The modality gap: means of both modalities, standardizers that remove the gap, and its measures.

Arrays in, arrays out; nothing here knows images, captions or encoders.
"""

from i0tscore.gap.bank import HubnessBank
from i0tscore.gap.formulas import GapStatistics
from i0tscore.gap.measures import centroid_distance, expected_residual_gap
from i0tscore.gap.moments import Moments
from i0tscore.gap.normalization import Normalization
from i0tscore.gap.reference import Quartiles, ReferenceDistribution
from i0tscore.gap.standardizers import NONE, POST, Standardizer, all_standardizers
from i0tscore.gap.statistics import Statistics
from i0tscore.gap.vectors import dot, normalize

__all__ = [
    "NONE",
    "POST",
    "GapStatistics",
    "HubnessBank",
    "Moments",
    "Normalization",
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
