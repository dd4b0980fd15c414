"""Log-probabilities of given labels, the entropy, and what pulls their cotangents back to the logits.

With ``d = x - max`` and ``r = sum(exp(d)) - 1`` the logarithm of a probability is ``d - log1p(r)``, and the entropy
``log1p(r) - sum(p d)``, whose terms are all of one sign. Labels have the class axis, with one entry a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._array.typing import Array, Namespace
from .._options import LossArgs
from . import dense
from .dense import (
    Shifted,
    iota,
    joined,
    log_of,
    mask_logits,
    nan_unless,
    narrow,
    slice_axis,
    total,
    widen,
    without_each,
)
from .scaling import Scaling, scaled_shift, slope
from .targets import index_labels

#: Logits as they come.
PLAIN = Scaling()


def valid_labels(xp: Namespace, labels: Array, x: Array, axis: int) -> tuple[Array, Array]:
    """(labels with 0 for those that are no class, where they are one)."""
    index = index_labels(xp, labels, x)
    valid = xp.logical_and(index >= 0, index < x.shape[axis])
    return xp.where(valid, index, xp.zeros_like(index)), valid


def onehot_labels(xp: Namespace, index: Array, x: Array, axis: int) -> list[Array]:
    """For each label of a sample, where among the classes of ``x`` it is."""
    classes = iota(xp, x, axis, index.dtype)
    return [classes == slice_axis(index, axis, i, i + 1) for i in range(index.shape[axis])]


def _gathers(xp: Namespace) -> bool:
    return getattr(xp, "__array_api_version__", "") >= "2024.12" and hasattr(xp, "take_along_axis")


def take_labels(xp: Namespace, a: Array, labels: Array, axis: int) -> Array:
    """The entries of ``a`` at the labels, NaN (with every derivative) for a label that is no class."""
    index, valid = valid_labels(xp, labels, a, axis)
    if _gathers(xp):
        out = xp.take_along_axis(a, index, axis=axis)
    else:
        zero = xp.zeros_like(a)
        each = [
            xp.sum(xp.where(onehot, a, zero), axis=axis, keepdims=True, dtype=a.dtype)
            for onehot in onehot_labels(xp, index, a, axis)
        ]
        out = joined(xp, each, axis)
    # a factor: what is chosen by a condition has the derivative 0
    return out * xp.where(valid, xp.ones_like(out), nan_unless(xp, valid, out))


def shifted_rows(
    xp: Namespace, x: Array, axis: int, where: Array | None, compensated: bool, scaling: Scaling
) -> tuple[Shifted, Array | None, Array | None]:
    """(Scaled rows shifted, where a class can be seen or None, which rows show anything or None)."""
    x, visible, rows = mask_logits(xp, x, axis, where)
    return scaled_shift(xp, x, axis, compensated, scaling, visible), visible, rows


def scaled_log_softmax(
    xp: Namespace, x: Array, axis: int, where: Array | None, precision: str | None, scaling: Scaling
) -> Array:
    """The log-softmax of scaled logits."""
    y, compensated = widen(xp, x, precision)
    row, visible, _ = shifted_rows(xp, y, axis, where, compensated, scaling)
    return narrow(xp, log_of(xp, row, xp.log1p(row.sum_ex_max), visible), x.dtype)


def log_probs(
    xp: Namespace,
    x: Array,
    labels: Array,
    axis: int,
    where: Array | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
    log_softmax: Callable[..., Any] = dense.log_softmax,
) -> Array:
    """``log(softmax(x))`` at the labels, of the labels' shape."""
    if scaling.identity:
        log_p = log_softmax(xp, x, axis, where, precision)
    else:
        log_p = scaled_log_softmax(xp, x, axis, where, precision, scaling)
    return take_labels(xp, log_p, labels, axis)


def log_probs_vjp(
    xp: Namespace,
    x: Array,
    labels: Array,
    cotangent: Array,
    axis: int,
    where: Array | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Array:
    """The sum of ``c (onehot - p)`` over a sample's labels.

    At a label it is c (s - e) / s for its own c, with the sum of the others for s - e at the maximum, less p times the
    c of the other labels, which are added up without its own.
    """
    y, compensated = widen(xp, x, precision)
    row, visible, _ = shifted_rows(xp, y, axis, where, compensated, scaling)
    g = sloped(xp, label_slopes(xp, row, labels, narrow(xp, cotangent, y.dtype), axis, visible), row.x, scaling)
    return narrow(xp, g if visible is None else xp.where(visible, g, xp.zeros_like(g)), x.dtype)


def label_slopes(
    xp: Namespace, row: Shifted, labels: Array, c: Array, axis: int, visible: Array | None = None
) -> Array:
    """``log_probs_vjp`` by the scaled logits, but for 0 at hidden classes."""
    s = 1 + row.sum_ex_max
    index, valid = valid_labels(xp, labels, row.e, axis)
    if visible is not None:
        # the logarithm of a hidden class is -inf, whatever the logits
        c = xp.where(take_labels(xp, xp.astype(visible, c.dtype), index, axis) > 0, c, xp.zeros_like(c))
    own, other = parted(xp, c, index, axis)
    others = without_each(xp, row, s)
    there = (own * take_labels(xp, others, index, axis) - other * take_labels(xp, row.e, index, axis)) / s
    g = -(row.e / s) * xp.sum(c, axis=axis, keepdims=True, dtype=c.dtype)
    for i, onehot in enumerate(onehot_labels(xp, index, row.e, axis)):
        g = xp.where(onehot, slice_axis(there, axis, i, i + 1), g)
    defined = xp.all(valid, axis=axis, keepdims=True)
    return xp.where(defined, g, nan_unless(xp, defined, s))


def sloped(xp: Namespace, g: Array, x: Array, scaling: Scaling) -> Array:
    """A derivative by scaled logits as one by the logits."""
    return g if scaling.identity else g * slope(xp, x, scaling)


def parted(xp: Namespace, c: Array, index: Array, axis: int) -> tuple[Array, Array]:
    """At each label of a sample the sum of the c of those that are the same class, and of the others."""
    own = other = zero = xp.zeros_like(c)
    for i in range(index.shape[axis]):
        same, each = index == slice_axis(index, axis, i, i + 1), slice_axis(c, axis, i, i + 1)
        own, other = own + xp.where(same, each, zero), other + xp.where(same, zero, each)
    return own, other


def one_label_vjp(
    xp: Namespace, x: Array, labels: Array, c: Array, axis: int, precision: Any, grad: Callable[..., Array]
) -> Array:
    """``log_probs_vjp`` of one label a sample by the gradient of its loss, for what is not differentiated again."""
    index, weight = xp.squeeze(labels, axis=axis), -xp.squeeze(c, axis=axis)
    args = LossArgs(axis=axis, labels=index, dense=False, sample_weight=weight, reduction="none", precision=precision)
    return grad(xp, x, args)


def mean_of(xp: Namespace, row: Shifted, axis: int, compensated: bool) -> tuple[Array, Array]:
    """(x - max, 0 where the probability is; its mean over the probabilities)."""
    d = xp.where(row.e == 0, xp.zeros_like(row.d), row.d)
    return d, total(xp, row.e * d, axis, compensated) / (1 + row.sum_ex_max)


def entropy(
    xp: Namespace,
    x: Array,
    axis: int,
    where: Array | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Array:
    """``-sum(p log(p))``, without ``axis``; 0 where no class is visible."""
    y, compensated = widen(xp, x, precision)
    row, _, rows = shifted_rows(xp, y, axis, where, compensated, scaling)
    h = xp.log1p(row.sum_ex_max) - mean_of(xp, row, axis, compensated)[1]
    if rows is not None:
        h = xp.where(rows, h, xp.zeros_like(h))
    return narrow(xp, xp.squeeze(h, axis=axis), x.dtype)


def entropy_vjp(
    xp: Namespace,
    x: Array,
    cotangent: Array,
    axis: int,
    where: Array | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Array:
    """``-c p (log(p) + entropy)``, whose normalizers cancel: ``c p (mean(d) - d)``."""
    y, compensated = widen(xp, x, precision)
    row, visible, _ = shifted_rows(xp, y, axis, where, compensated, scaling)
    c = xp.expand_dims(narrow(xp, cotangent, y.dtype), axis=axis)
    g = sloped(xp, entropy_slopes(xp, row, c, axis, compensated), row.x, scaling)
    return narrow(xp, g if visible is None else xp.where(visible, g, xp.zeros_like(g)), x.dtype)


def entropy_slopes(xp: Namespace, row: Shifted, c: Array, axis: int, compensated: bool) -> Array:
    """``entropy_vjp`` by the scaled logits, the class axis of ``c`` kept, but for 0 at hidden classes."""
    d, mean = mean_of(xp, row, axis, compensated)
    return c * (row.e / (1 + row.sum_ex_max) * (mean - d))
