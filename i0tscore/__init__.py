"""Scores how well a caption fits an image."""
