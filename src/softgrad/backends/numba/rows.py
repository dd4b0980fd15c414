"""Softmax, its logarithm, its normaliser and the loss on class indices, by compiled loops shared out to threads.

The classes are next to each other in memory, or columns are: each function has loops for either.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import numpy as np

from ..._options import LossArgs
from ..numpy.blocks import Floats, memory_order, threads_for
from ..numpy.loss import sum_of, weight_sum
from . import column_loops, entries
from ._width import VECTOR_BYTES
from .columns import in_order

#: Elements that are worth a thread which waits for work.
AWAKE_ELEMENTS = 1 << 15
#: Numbers of a vector, by dtype, and how many classes are few.
LANES = {"f": VECTOR_BYTES // 4, "d": VECTOR_BYTES // 8}
IN_ORDER = {"f": in_order(4), "d": in_order(8)}
#: Where an array's object holds the address of its numbers: after what all objects have.
_DATA, _address = object.__basicsize__, ctypes.c_void_p.from_address


class Samples(NamedTuple):
    """What a loop takes of a loss."""

    labels: Any
    #: None where all samples weigh 1.
    weights: Floats | None
    #: What a mean divides by; 1 for other reductions.
    divisor: float


def samples_of(args: LossArgs, shape: tuple[int, ...], k: int, char: str) -> Samples:
    """Labels and weights of samples of a shape as a loop takes them."""
    labels, weight = args.labels, args.sample_weight
    # a chunk of Dask's may be a scalar, whose address is none of an array's
    if not isinstance(labels, np.ndarray) or labels.dtype.char != "l" or not labels.flags.c_contiguous:
        labels = np.ascontiguousarray(labels, dtype=np.int64)
    if weight is not None:
        weight = np.ascontiguousarray(np.broadcast_to(weight, shape), dtype=char)
    return Samples(labels, weight, weight_sum(args, args.labels, weight, k) if args.reduction == "mean" else 1.0)


class Laid(NamedTuple):
    """How the axes of an array are put in order for a loop."""

    #: The axes, those of the classes being ``axis`` among them.
    order: tuple[int, ...]
    axis: int

    def __call__(self, a: Floats) -> Floats:
        """An array of the logits' shape, in order in memory; a copy unless it is that."""
        return np.ascontiguousarray(a.transpose(self.order))

    def _samples(self) -> tuple[int, ...]:
        own = self.order[self.axis]
        return tuple(i - (i > own) for i in self.order if i != own)

    def samples(self, a: Floats) -> Floats:
        """An array of the samples' shape, likewise; of no dimensions if it has none."""
        return np.asarray(a.transpose(self._samples()), order="C")

    def back(self, a: Floats) -> Floats:
        """A result of the logits' shape as they were."""
        return a.transpose(np.argsort(self.order))

    def back_samples(self, a: Floats) -> Floats:
        """A result of the samples' shape as they were."""
        return a.transpose(np.argsort(self._samples()))


def laid(x: Floats, axis: int) -> Laid | None:
    """How a loop takes ``x``; None as it is."""
    shape = x.shape
    if x.flags.c_contiguous:
        inner = math.prod(shape[axis + 1 :])
        if inner == 1 or inner >= LANES[x.dtype.char]:
            return None
    order = memory_order(x)
    at = order.index(axis)
    inner = math.prod(shape[i] for i in order[at + 1 :])
    if inner < LANES[x.dtype.char]:
        # too few columns for a vector
        order, at = (*order[:at], *order[at + 1 :], axis), x.ndim - 1
    return Laid(order, at)


def share_out(entry: tuple[Any, ...], most: int, x: Floats, axis: int, *arrays: Floats | None, **options: Any) -> float:
    """Call an entry on all rows or columns of ``x`` and what belongs to them; returns the sum of its totals.

    ``entry`` has a function for each layout of the classes; up to ``most`` classes are few.
    """
    shape, size, char = x.shape, x.size, x.dtype.char
    k = shape[axis]
    n, inner, kind = size // k, 1, entries.FEW if k <= most else entries.ROWS
    if axis < len(shape) - 1 and (inner := math.prod(shape[axis + 1 :])) > 1:
        kind, n = entries.COLUMNS, n // inner * column_loops.units(inner, LANES[char])
    words: list[Any] = [_address(id(x) + _DATA).value, size]
    for a in arrays:
        # asking NumPy for the address takes three times as long
        words += (0, 0) if a is None else (_address(id(a) + _DATA).value, a.size)
    parts = threads_for(size, AWAKE_ELEMENTS)
    return entries.run(entry[kind], char, n, parts, k, inner, words, (x, arrays), **options)


def _dense(function: str, x: Floats, axis: int) -> Floats:
    how = laid(x, axis)
    if how is not None:
        out = _dense(function, how(x), how.axis)
        return how.back_samples(out) if function == "logsumexp" else how.back(out)
    shape, char = x.shape, x.dtype.char
    out = np.empty(shape[:axis] + shape[axis + 1 :] if function == "logsumexp" else shape, char)
    share_out(entries.DENSE[function], IN_ORDER[char], x, axis, out)
    return out


def softmax(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Exponentials over their sum."""
    return _dense("softmax", x, axis)


def log_softmax(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Logarithm of the softmax."""
    return _dense("log_softmax", x, axis)


def logsumexp(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Logarithm of the sum of exponentials."""
    return _dense("logsumexp", x, axis)


def _vjp(function: str, a: Floats, c: Floats, axis: int) -> Floats:
    how = laid(a, axis)
    if how is not None:
        return how.back(_vjp(function, how(a), how(c), how.axis))
    if not c.flags.c_contiguous:
        c = np.ascontiguousarray(c)
    char = a.dtype.char
    out = np.empty(a.shape, char)
    share_out(entries.VJPS[function], LANES[char] - 1, a, axis, c, out)
    return out


def softmax_vjp(xp: Any, probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """``p (c - sum(p c))``, with ``c`` centred on its value at a probability near 1."""
    return _vjp("softmax", probs, cotangent, axis)


def log_softmax_vjp(xp: Any, log_probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """``c - p sum(c)``, at a probability near 1 from the other cotangents alone."""
    return _vjp("log_softmax", log_probs, cotangent, axis)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp


def _loss(x: Floats, args: LossArgs, want_value: bool, want_grad: bool) -> tuple[Any, Any]:
    axis, char = args.axis, x.dtype.char
    how = laid(x, axis)
    if how is not None:
        weight = args.sample_weight
        if weight is not None:
            weight = how.samples(np.broadcast_to(weight, x.shape[:axis] + x.shape[axis + 1 :]))
        args = args._replace(axis=how.axis, labels=how.samples(args.labels), sample_weight=weight)
        value, grad = _loss(how(x), args, want_value, want_grad)
        if want_value and args.reduction == "none":
            value = how.back_samples(value)
        return value, how.back(grad) if want_grad else None
    shape = x.shape
    samples = shape[:axis] + shape[axis + 1 :]
    labels, weights, divisor = samples_of(args, samples, shape[axis], char)
    if divisor == 0.0:
        return np.zeros((), char), np.zeros(shape, char) if want_grad else None
    # where threads share the samples, the order of their own sums depends on how many there are
    apart = args.reduction == "none" or x.size >= AWAKE_ELEMENTS
    losses = np.empty(samples, char) if want_value and apart else None
    grad = np.empty(shape, char) if want_grad else None
    options = {"skipped": args.ignore_index, "factor": 1.0 / divisor}
    total = share_out(entries.LOSS, IN_ORDER[char], x, axis, labels, weights, losses, grad, **options)
    if args.reduction == "none":
        return losses, grad
    return np.array((total if losses is None else sum_of(losses)) / divisor, char), grad


def cross_entropy(xp: Any, logits: Floats, args: LossArgs) -> Any:
    """Return the loss, reduced."""
    return _loss(logits, args, True, False)[0]


def cross_entropy_grad(xp: Any, logits: Floats, args: LossArgs) -> Floats:
    """Return the gradient with respect to the logits."""
    grad: Floats = _loss(logits, args, False, True)[1]
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Floats, args: LossArgs) -> tuple[Any, Floats]:
    """Return the loss and its gradient."""
    return _loss(logits, args, True, True)
