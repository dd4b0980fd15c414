"""The kernels, imported when the first of them is called for."""

import numpy as np


def should_run(function, xp, x, axis, where, precision):
    """Say True, or why softgrad should take its own kernel."""
    if x.ndim != 2 or axis != 1:
        return "rows of a matrix only"
    if x.dtype != np.float64:
        return f"float64 only, not {x.dtype}"
    if where is not None or precision is not None:
        return "no where and no precision"
    return True


def softmax(xp, x, axis, where, precision):
    """exp(x - max) over its sum."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / np.einsum("ij->i", e)[:, None]
