"""Adapters to torchmetrics, trainers, Hugging Face, COCO scripts, and Ray.

Import each module by itself, ``from i0tscore.integrations.torchmetrics import I0TScore``; it needs only the extra that
it names.
"""
