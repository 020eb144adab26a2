"""Modality inversion: images through the text tower, captions through the image tower.

After Mistretta et al., "Cross the Gap" (ICLR 2025), and retrieval between and within modalities with it.
"""

from i0tscore.inversion.invert import invert_captions, invert_images
from i0tscore.inversion.inverted import InversionConfig, Inverted

__all__ = ["InversionConfig", "Inverted", "invert_captions", "invert_images"]
