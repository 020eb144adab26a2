"""How well a line tells images from captions (LS in An et al. 2025, after Fahim et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError

TRAINED_SHARE = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Separability:
    """A linear regression of the modality, images 0 and captions 1, on held-out pairs.

    Attributes:
        pairs: Held-out pairs, as rows of what was given (t,), int64.
        squared_errors: Of the image and of the caption of each (t, 2).
        right: Whether each is on its modality's side of ½ (t, 2), bool.
        fitted_rows: Rows that the regression was fitted to: two a pair.
        dimensions: d.
    """

    pairs: NDArray[np.int64]
    squared_errors: NDArray[np.float64]
    right: NDArray[np.bool_]
    fitted_rows: int
    dimensions: int

    @property
    def linear_separability(self) -> float:
        """1 − mean squared error; 1 where a line tells the modalities apart, and below 0 for small n/d."""
        return 1.0 - float(self.squared_errors.mean())

    @property
    def accuracy(self) -> float:
        """Share of held-out rows whose modality is told, ½ by chance."""
        return float(self.right.mean())

    @property
    def without_gap(self) -> float:
        """What ``linear_separability`` is expected to be where nothing tells the modalities apart.

        For n rows of normal vectors that do not depend on a label of variance ¼, the error of least
        squares on new rows is ¼(n + 1)(n − 2) / (n(n − d − 2)).
        """
        n, d = self.fitted_rows, self.dimensions
        return 1.0 - 0.25 * (n + 1) * (n - 2) / (n * (n - d - 2))


def separability(images: NDArray[Any], captions: NDArray[Any], *, seed: int = 0) -> Separability:
    """Fit ordinary least squares with an intercept on 70 % of the pairs and predict the other 30 %.

    Pairs are split whole, so that both modalities are equally frequent on both sides. The paper states
    neither labels nor split; 0 and 1 are the labels that its figures fit (±1 would put I0T_post's .54 at
    −.85). The figure depends on n/d: compare it only at equal n and d, and with ``without_gap``.

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings (n, d), row i of the image in row i.
        seed: Of the split.

    Raises:
        InputError: The fit would have no more rows than it has to have: 2 · 0.7 · n ≤ d + 2.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> found = separability(rng.normal(1, 1, (200, 4)), rng.normal(-1, 1, (200, 4)))
        >>> found.accuracy > 0.9, found.linear_separability > found.without_gap
        (True, True)
    """
    count, dimensions = images.shape
    order = np.random.default_rng(seed).permutation(count)
    train, test = np.split(order, [int(TRAINED_SHARE * count)])
    if 2 * len(train) <= dimensions + 2 or not len(test):
        raise InputError(
            f"linear separability needs more than {dimensions + 2} rows to fit to, and 70 % of {count} pairs "
            f"are {2 * len(train)}"
        )
    rows = np.concatenate([images[train], captions[train]], dtype=np.float64)
    labels = np.repeat([0.0, 1.0], len(train))
    solution = np.linalg.lstsq(_with_intercept(rows), labels, rcond=None)[0]
    predicted = np.stack(
        [_with_intercept(side[test].astype(np.float64)) @ solution for side in (images, captions)], axis=1
    )
    wanted = np.array([0.0, 1.0])
    right = (predicted > 0.5) == (wanted > 0.5)
    return Separability(test, (predicted - wanted) ** 2, right, 2 * len(train), dimensions)


def _with_intercept(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
