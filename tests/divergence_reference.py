"""Divergences of two softmaxes and their gradients in high precision, a row at a time."""

from __future__ import annotations

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 60


def softmax(row, temperature):
    e = [mp.exp(mp.mpf(float(a)) / mp.mpf(temperature)) for a in row]
    s = sum(e)
    return [a / s for a in e]


def kl(q, p):
    """KL(q||p)."""
    return sum(a * mp.log(a / b) if b > 0 else mp.inf for a, b in zip(q, p, strict=True) if a > 0)


def _pulled(q, p):
    """Gradient of KL(q||p) by the logits of q."""
    mean = kl(q, p)
    return [a * (mp.log(a / b) - mean) if a > 0 else mp.mpf(0) for a, b in zip(q, p, strict=True)]


def row(x, y, *, beta=0.0, temperature=1.0):
    """(divergence, gradient by the logits ``x``, by those of the target ``y``) of a row, as mpmath's numbers."""
    p, q, beta, t = softmax(x, temperature), softmax(y, temperature), mp.mpf(beta), mp.mpf(temperature)
    apart = [a - b for a, b in zip(q, p, strict=True)]
    if beta == 0:
        value, by_x, by_y = kl(q, p), [-a for a in apart], _pulled(q, p)
    elif beta == 1:
        value, by_x, by_y = kl(p, q), _pulled(p, q), apart
    else:
        m = [beta * a + (1 - beta) * b for a, b in zip(q, p, strict=True)]
        value = beta * kl(q, m) + (1 - beta) * kl(p, m)
        by_x, by_y = [(1 - beta) * g for g in _pulled(p, m)], [beta * g for g in _pulled(q, m)]
    return value, [g / t for g in by_x], [g / t for g in by_y]


def rows(x, y, **options):
    """The same of each row, rounded to float64."""
    found = [row(a, b, **options) for a, b in zip(x, y, strict=True)]
    value = np.array([float(each[0]) for each in found])
    return value, *(np.array([[float(g) for g in each[i]] for each in found]) for i in (1, 2))
