"""The classes of Flickr8k's photographs as captions that an encoder is asked to choose from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from studies.embedder import Embedder
from studies.flickr8k_labels import CLASSES, TEMPLATES


def class_features(embedder: Embedder) -> NDArray[np.float32]:
    """Of each class, in the order of ``CLASSES``, its name in every template (c, t, d), not normalised."""
    prompts = [template.format(name) for name in CLASSES for template in TEMPLATES]
    return embedder.text_features(prompts).reshape(len(CLASSES), len(TEMPLATES), -1)
