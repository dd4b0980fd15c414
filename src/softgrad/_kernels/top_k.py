"""Softmaxes over some classes, the rest lumped into one class or left out: their small rows of logits."""

from __future__ import annotations

import math
from typing import NamedTuple

from .._array.typing import Array, Namespace
from .dense import SCATTERS, difference, iota, log_normalizer, shift, slice_axis
from .log_probs import onehot_labels, take_labels, valid_labels


class Few(NamedTuple):
    """Rows of the logits of some classes."""

    #: Those of the labels, and with the rest last where it is a class.
    logits: Array
    #: Where among all classes the labels are, and the probabilities of the others beside each other; or None.
    onehot: Array | None = None
    others: Array | None = None


def place(xp: Namespace, values: Array, labels: Array, x: Array, axis: int) -> Array:
    """``values`` at the labels among the classes of ``x``, 0 at the others."""
    index, out = valid_labels(xp, labels, x, axis)[0], xp.zeros_like(x)
    if xp.__name__ in SCATTERS:
        return SCATTERS[xp.__name__](out, index, values, axis)
    for i, onehot in enumerate(onehot_labels(xp, index, x, axis)):
        out = xp.where(onehot, slice_axis(values, axis, i, i + 1), out)
    return out


def few(
    xp: Namespace,
    x: Array,
    labels: Array,
    axis: int,
    temperature: float,
    lump: bool,
) -> Few:
    """The logits of the labels' classes and of the others together, the sum of whose exponentials is theirs."""
    if temperature != 1.0:
        m = xp.max(x, axis=axis, keepdims=True)
        x = difference(xp, x, m) / temperature
    own = take_labels(xp, x, labels, axis)
    if not lump or labels.shape[axis] == x.shape[axis]:
        return Few(own)
    onehot = place(xp, xp.ones_like(own), labels, x, axis) > 0
    low = xp.where(onehot, xp.zeros_like(x) - math.inf, x)
    none = xp.max(low, axis=axis, keepdims=True) == -math.inf
    row = shift(xp, xp.where(none, xp.zeros_like(x), low), axis, False)
    rest = log_normalizer(xp, row, axis)
    rest = xp.where(none, xp.zeros_like(rest) - math.inf, rest)
    return Few(xp.concat([own, rest], axis=axis), onehot, row.e / (1 + row.sum_ex_max))


def spread(
    xp: Namespace,
    g: Array,
    found: Few,
    x: Array,
    labels: Array,
    axis: int,
    temperature: float,
) -> Array:
    """A derivative by the logits of ``few`` as one by those of all classes."""
    count = labels.shape[axis]
    out = place(xp, slice_axis(g, axis, 0, count), labels, x, axis)
    if found.onehot is not None:
        out = xp.where(found.onehot, out, slice_axis(g, axis, count, count + 1) * found.others)
    return out if temperature == 1.0 else out / temperature


def with_rest(xp: Namespace, log_probs: Array, axis: int) -> Array:
    """Log-probabilities with that of all other classes last: 1 - sum(p), with one of the largest as -expm1(log(p))."""
    at = xp.argmax(log_probs, axis=axis, keepdims=True)
    first, zero = iota(xp, log_probs, axis, at.dtype) == at, xp.zeros_like(log_probs)
    most, others = xp.where(first, log_probs, zero), xp.where(first, zero, xp.exp(log_probs))
    rest, p = (xp.sum(a, axis=axis, keepdims=True, dtype=a.dtype) for a in (most, others))
    rest = -xp.expm1(rest) - p
    # rounding may leave less than nothing
    some = rest > 0
    left = xp.log(xp.where(some, rest, xp.ones_like(rest)))
    left = xp.where(some, left, xp.zeros_like(left) - math.inf)
    return xp.concat([log_probs, xp.where(xp.isnan(rest), rest, left)], axis=axis)
