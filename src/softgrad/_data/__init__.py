"""Data that the package carries; ``NOTICE.md`` beside it names source and licence."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt

__all__ = ["load_digits"]


def load_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Load the test part of the UCI optical digits.

    Returns
    -------
    X : ndarray of uint8, shape (1797, 64)
        An 8 × 8 image a row, pixels from 0 to 16.
    y : ndarray of uint8, shape (1797,)
        The digit that each image shows.

    Notes
    -----
    E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, CC BY 4.0.

    Examples
    --------
    >>> from softgrad._data import load_digits
    >>> X, y = load_digits()
    >>> X.shape, y[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    with resources.files(__name__).joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["X"], arrays["y"]
