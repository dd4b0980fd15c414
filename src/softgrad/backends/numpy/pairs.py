"""Two classes: one exponential a sample, of the difference of its logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .blocks import Floats, Memory

#: Bound on that difference: its exponential and the inverse of it are normal numbers.
BOUND = {"f": 87.0, "d": 708.0}


def _within(d: Floats) -> bool:
    bound = BOUND[d.dtype.char]
    return bool(d.max() <= bound and d.min() >= -bound)


def softmax(src: Floats, dst: Floats, memory: Memory) -> bool:
    """Write the softmax of a block (outer, class, inner) to ``dst``; False if it is out of range."""
    e, q = memory(13, src.shape[::2]), memory(14, src.shape[::2])
    np.subtract(src[:, 0], src[:, 1], out=e)
    if not _within(e):
        return False
    np.exp(e, out=e)
    np.add(e, 1.0, out=q)
    np.divide(1.0, q, out=q)
    np.multiply(e, q, out=dst[:, 0])
    np.copyto(dst[:, 1], q)
    return True


def loss(src: Floats, dst: Floats | None, y: Floats, weight: Any, scale: float, memory: Memory) -> Floats | None:
    """Losses of a block times the samples' weights, and the gradient times the scale; None if it is out of range.

    With t the label's logit less the other's, the loss is log1p(exp(-t)) and the other's probability 1 / (1 + exp(t)).
    """
    shape = src.shape[::2]
    n = shape[0] * shape[1]
    t, sign = memory(13, (n,)), memory(14, (n,))
    np.subtract(src[:, 1], src[:, 0], out=t.reshape(shape))
    np.multiply(y, 2.0, out=sign, casting="same_kind")
    np.subtract(sign, 1.0, out=sign)
    np.multiply(t, sign, out=t)
    if not _within(t):
        return None
    e = np.exp(t, out=t)
    losses: Floats = np.divide(1.0, e, out=memory(15, (n,)))
    np.log1p(losses, out=losses)
    weighted = not isinstance(weight, float)
    if weighted or weight != 1.0:
        losses *= weight
    if dst is not None:
        np.add(e, 1.0, out=e)
        np.divide(scale, e, out=e)
        if weighted or weight != 1.0:
            np.multiply(e, weight, out=e)
        np.multiply(e, sign, out=e)
        np.copyto(dst[:, 0], e.reshape(shape))
        np.negative(e.reshape(shape), out=dst[:, 1])
    return losses
