"""The focal factor ``(1 - p)**focal`` of a term ``-log p`` of the loss (Lin et al. 2017), and its derivatives.

Everything is a function of p, of q = 1 - p summed from the other classes, and of the cost -log p: nothing cancels where
p is nearly 1. For the derivatives of F = q**focal * cost by the logit z of its own class,

    dF/dz = -a q,    a = q**focal (1 + focal p cost / q)
    da/dz = -b q,    b = focal p q**(focal - 1) (2 - cost + (focal - 1) p cost / q)

and by the logit of another class k, ``a p_k`` and ``b p_k``.
"""

from __future__ import annotations

from .._array.typing import Array, Namespace


def _finite(xp: Namespace, cost: Array) -> Array:
    """``cost`` with 0 in place of the infinite one of an impossible class, whose p is 0."""
    return xp.where(xp.isinf(cost), xp.zeros_like(cost), cost)


def _share(xp: Namespace, p: Array, q: Array, cost: Array) -> Array:
    """``p cost / q``, 1 where the class is sure; ``cost`` is finite."""
    one = xp.ones_like(p)
    sure = q == 0
    return p * xp.where(sure, one, cost / xp.where(sure, one, q))


def power(xp: Namespace, q: Array, exponent: float) -> Array:
    """``q**exponent``; 0, and constant to automatic differentiation, where ``q`` is."""
    sure = q == 0
    return xp.where(sure, xp.zeros_like(q), xp.where(sure, xp.ones_like(q), q) ** exponent)


def first(xp: Namespace, p: Array, q: Array, cost: Array, focal: float) -> Array:
    """``a``."""
    return power(xp, q, focal) * (1 + focal * _share(xp, p, q, _finite(xp, cost)))


def second(xp: Namespace, p: Array, q: Array, cost: Array, focal: float) -> Array:
    """``b``; 0 where q is, which it is multiplied by."""
    cost = _finite(xp, cost)
    return focal * p * power(xp, q, focal - 1) * (2 - cost + (focal - 1) * _share(xp, p, q, cost))
