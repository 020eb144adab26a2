"""Metrics: their formulas, metrics as values, and the scorer that computes them."""
