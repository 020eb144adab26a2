"""Adapters to what people already use: torchmetrics, trainers, Hugging Face, COCO scripts, Ray.

Each module stands on the public face of the package, needs no more than the extra it names, and is
imported by itself: ``from i0tscore.integrations.torchmetrics import I0TScore``.
"""
