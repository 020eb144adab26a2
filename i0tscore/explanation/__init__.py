"""Explanation of single scores by words and regions."""

from i0tscore.explanation.explain import explain, explain_pair, explain_worst
from i0tscore.explanation.explanation import Explanation

__all__ = ["Explanation", "explain", "explain_pair", "explain_worst"]
