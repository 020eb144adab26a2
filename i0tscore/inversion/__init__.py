"""Modality inversion: an image's embedding through the text tower, a caption's through the image tower.

After Mistretta et al., "Cross the Gap" (ICLR 2025). ``invert`` has the two functions, ``descent`` the
optimisation of one batch, ``inverted`` the result and its file.
"""

from i0tscore.inversion.invert import invert_captions, invert_images
from i0tscore.inversion.inverted import InversionConfig, Inverted

__all__ = ["InversionConfig", "Inverted", "invert_captions", "invert_images"]
