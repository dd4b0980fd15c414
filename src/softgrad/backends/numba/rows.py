"""Softmax, its logarithm, its normaliser and the loss on class indices, by compiled loops shared out to threads.

The classes are next to each other in memory, or columns are: each function has loops for either.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..._options import LossArgs
from ..numpy.blocks import Floats, threads_for
from ..numpy.loss import mass
from . import column_loops, entries
from ._width import VECTOR_BYTES

#: Elements that are worth a thread which waits for work.
AWAKE_ELEMENTS = 1 << 15
#: Numbers of a vector, by dtype.
LANES = {"f": VECTOR_BYTES // 4, "d": VECTOR_BYTES // 8}


class Samples(NamedTuple):
    """What a loop takes of a loss."""

    labels: Any
    #: Empty where all samples weigh 1.
    weights: Floats
    #: What a mean divides by; 1 for other reductions.
    divisor: float


def samples_of(job: LossArgs, shape: tuple[int, ...], k: int, dtype: Any) -> Samples:
    """Labels and weights of samples of a shape as a loop takes them."""
    weight = None if job.sample_weight is None else np.broadcast_to(job.sample_weight, shape)
    return Samples(
        np.ascontiguousarray(job.labels, dtype=np.int64),
        np.empty(0, dtype) if weight is None else np.ascontiguousarray(weight, dtype=dtype),
        mass(job, job.labels, weight, k) if job.reduction == "mean" else 1.0,
    )


def share_out(entry: Any, char: str, size: int, k: int, inner: int, *places: entries.Place, **options: Any) -> float:
    """Call an entry on all rows of so many numbers, or the units of all columns; returns the sum of its totals."""
    n = size // k
    if inner > 1:
        n = n // inner * column_loops.units(inner, LANES[char])
    return entries.run(entry, char, n, threads_for(size, AWAKE_ELEMENTS), k, inner, places, **options)


def along(function: str, char: str, size: int, k: int, inner: int, x: entries.Place, out: entries.Place) -> None:
    """``function`` of all classes into ``out``."""
    share_out(entries.DENSE[function], char, size, k, inner, x, out)


def _place(a: Floats) -> entries.Place:
    return entries.Place(a.__array_interface__["data"][0], a.size, a) if a.size else entries.NOWHERE


def _along(function: str, x: Floats, axis: int, out: Floats) -> Floats:
    k, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    along(function, x.dtype.char, x.size, k, inner, _place(x), _place(out))
    return out


def softmax(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Exponentials over their sum."""
    return _along("softmax", x, axis, np.empty(x.shape, x.dtype))


def log_softmax(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Logarithm of the softmax."""
    return _along("log_softmax", x, axis, np.empty(x.shape, x.dtype))


def logsumexp(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Logarithm of the sum of exponentials."""
    return _along("logsumexp", x, axis, np.empty(x.shape[:axis] + x.shape[axis + 1 :], x.dtype))


def pull(
    function: str, char: str, size: int, k: int, inner: int, a: entries.Place, c: entries.Place, out: entries.Place
) -> None:
    """Cotangents of (log-)probabilities, pulled back by ``function``'s derivative, into ``out``."""
    share_out(entries.PULLS[function], char, size, k, inner, a, c, out)


def _pull(function: str, a: Floats, c: Floats, axis: int) -> Floats:
    out = np.empty(a.shape, a.dtype)
    k, inner = a.shape[axis], math.prod(a.shape[axis + 1 :])
    pull(function, a.dtype.char, a.size, k, inner, _place(a), _place(c), _place(out))
    return out


def softmax_vjp(xp: Any, probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """P (c - sum(p c)), with c less its value at a probability near 1."""
    return _pull("softmax", probs, cotangent, axis)


def log_softmax_vjp(xp: Any, log_probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """C - p sum(c), at a probability near 1 from the others alone."""
    return _pull("log_softmax", log_probs, cotangent, axis)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp


def _loss(x: Floats, job: LossArgs, want_value: bool, want_grad: bool) -> tuple[Any, Any]:
    axis, dtype = job.axis, x.dtype
    k, inner, samples = x.shape[axis], math.prod(x.shape[axis + 1 :]), x.shape[:axis] + x.shape[axis + 1 :]
    labels, weights, divisor = samples_of(job, samples, k, dtype)
    if divisor == 0.0:
        return np.zeros((), dtype), np.zeros(x.shape, dtype) if want_grad else None
    grad = np.empty(x.shape if want_grad else 0, dtype)
    each = want_value and job.reduction == "none"
    losses = np.empty(samples if each else 0, dtype)
    places = map(_place, (x, labels, weights, losses, grad))
    total = share_out(
        entries.loss, dtype.char, x.size, k, inner, *places, skipped=job.ignore_index, factor=1.0 / divisor
    )
    value = losses if each else np.array(total / divisor, dtype)
    return value, grad if want_grad else None


def cross_entropy(xp: Any, logits: Floats, job: LossArgs) -> Any:
    """Return the loss, reduced."""
    return _loss(logits, job, True, False)[0]


def cross_entropy_grad(xp: Any, logits: Floats, job: LossArgs) -> Floats:
    """Return the gradient with respect to the logits."""
    grad: Floats = _loss(logits, job, False, True)[1]
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Floats, job: LossArgs) -> tuple[Any, Floats]:
    """Return the loss and its gradient."""
    return _loss(logits, job, True, True)
