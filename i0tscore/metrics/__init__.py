"""Metrics: formulas on embeddings, metrics as values, and the scorer that runs them."""
