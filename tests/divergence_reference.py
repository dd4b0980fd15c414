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
    """(KL(q||p), its gradient by the logits of q)."""
    ratios = [(mp.log(a / b) if b > 0 else mp.inf) if a > 0 else mp.mpf(0) for a, b in zip(q, p, strict=True)]
    value = sum(a * r for a, r in zip(q, ratios, strict=True) if a > 0)
    return value, [a * (r - value) if a > 0 else mp.mpf(0) for a, r in zip(q, ratios, strict=True)]


def row(x, y, *, beta=0.0, temperature=1.0):
    """(divergence, gradient by the logits ``x``, by those of the target ``y``) of a row, as mpmath's numbers."""
    p, q, beta, t = softmax(x, temperature), softmax(y, temperature), mp.mpf(beta), mp.mpf(temperature)
    apart = [a - b for a, b in zip(q, p, strict=True)]
    if beta == 0:
        (value, by_y), by_x = kl(q, p), [-a for a in apart]
    elif beta == 1:
        (value, by_x), by_y = kl(p, q), apart
    else:
        m = [beta * a + (1 - beta) * b for a, b in zip(q, p, strict=True)]
        (first, by_y), (second, by_x) = kl(q, m), kl(p, m)
        value = beta * first + (1 - beta) * second
        by_x, by_y = [(1 - beta) * g for g in by_x], [beta * g for g in by_y]
    return value, [g / t for g in by_x], [g / t for g in by_y]


def rows(x, y, **options):
    """The same of each row, rounded to float64."""
    found = [row(a, b, **options) for a, b in zip(x, y, strict=True)]
    value = np.array([float(each[0]) for each in found])
    return value, *(np.array([[float(g) for g in each[i]] for each in found]) for i in (1, 2))
