"""Softmax, its logarithm, its normaliser and the loss on class indices, by compiled loops shared out to threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Job
from . import _numba_loops as loops
from . import _threads
from ._numpy_blocks import Floats, threads_for
from ._numpy_loss import mass


def flattened(a: Floats) -> Floats:
    """The array as one axis, read-only: numba compiles for each of the two kinds, and a caller's may be that."""
    flat = a.reshape(-1)
    flat.flags.writeable = False
    return flat


def _share_out(task: Any, x: Floats, k: int) -> list[Any]:
    """``task(first row, last row)`` for pieces of all rows."""
    return _threads.run(task, x.size // k, threads_for(x.size))


def _elementwise(loop: Any, x: Floats) -> Floats:
    k, y = x.shape[-1], np.empty(x.shape, x.dtype)
    flat, out = flattened(x), y.reshape(-1)
    _share_out(lambda a, b: loop(flat[a * k : b * k], k, out[a * k : b * k]), x, k)
    return y


def softmax(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Exponentials over their sum."""
    return _elementwise(loops.softmax, x)


def log_softmax(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Logarithm of the softmax."""
    return _elementwise(loops.log_softmax, x)


def logsumexp(xp: Any, x: Floats, axis: int, where: None, precision: None) -> Floats:
    """Logarithm of the sum of exponentials."""
    k, out = x.shape[-1], np.empty(x.shape[:-1], x.dtype)
    flat, rows = flattened(x), out.reshape(-1)
    _share_out(lambda a, b: loops.logsumexp(flat[a * k : b * k], k, rows[a:b]), x, k)
    return out


def _pull(loop: Any, p: Floats, c: Floats) -> Floats:
    k, out = p.shape[-1], np.empty(p.shape, p.dtype)
    flat, beside, into = flattened(p), flattened(c), out.reshape(-1)
    _share_out(lambda a, b: loop(flat[a * k : b * k], k, beside[a * k : b * k], into[a * k : b * k]), p, k)
    return out


def softmax_vjp(xp: Any, probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """P (c - sum(p c)), with c less its value at a probability near 1."""
    return _pull(loops.softmax_pull, probs, cotangent)


def log_softmax_vjp(xp: Any, log_probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """C - p sum(c), at a probability near 1 from the others alone."""
    return _pull(loops.log_softmax_pull, log_probs, cotangent)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp


def _loss(x: Floats, job: Job, want_value: bool, want_grad: bool) -> tuple[Any, Any]:
    k, dtype, samples = x.shape[-1], x.dtype, x.shape[:-1]
    none = np.empty(0, dtype)
    weight = None if job.sample_weight is None else np.broadcast_to(job.sample_weight, samples)
    divisor = mass(job, job.labels, weight, k) if job.reduction == "mean" else 1.0
    if divisor == 0.0:
        return np.zeros((), dtype), np.zeros(x.shape, dtype) if want_grad else None
    labels = flattened(np.ascontiguousarray(job.labels, dtype=np.int64))
    skipped = flattened(np.asarray([] if job.ignore_index is None else [job.ignore_index], dtype=np.int64))
    weights = flattened(none if weight is None else np.ascontiguousarray(weight, dtype=dtype))
    grad = np.empty(x.shape if want_grad else 0, dtype)
    each = want_value and job.reduction == "none"
    losses = np.empty(samples if each else 0, dtype)
    flat, flat_grad, flat_losses = flattened(x), grad.reshape(-1), losses.reshape(-1)
    factor = dtype.type(1.0 / divisor)

    def task(a: int, b: int) -> float:
        rows = slice(a * k, b * k)
        return loops.loss(
            flat[rows], k, labels[a:b], weights[a:b], skipped, factor, flat_losses[a:b], flat_grad[rows]
        )  # fmt: skip

    total = sum(_share_out(task, x, k))
    value = losses if each else np.asarray(total / divisor).astype(dtype)
    return value, grad if want_grad else None


def cross_entropy(xp: Any, logits: Floats, job: Job) -> Any:
    """Return the loss, reduced."""
    return _loss(logits, job, True, False)[0]


def cross_entropy_grad(xp: Any, logits: Floats, job: Job) -> Floats:
    """Return the gradient with respect to the logits."""
    grad: Floats = _loss(logits, job, False, True)[1]
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Floats, job: Job) -> tuple[Any, Floats]:
    """Return the loss and its gradient."""
    return _loss(logits, job, True, True)
