"""The cross-entropy as a JAX function: options around one function a sample, with closed forms for its derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import _kernels_loss as generic
from .._kernels import has_float64
from .._typing import Array, Job
from ._jax_dense import carries, log_softmax, logsumexp, seen, total, wide


def _job(target: Array, where: Array | None, axis: int, precision: str | None, weight: Array | None = None) -> Job:
    dense = jnp.issubdtype(target.dtype, jnp.floating)
    return Job(axis, target, dense, sample_weight=weight, where=where, reduction="none", precision=precision)


def _short(x: Array, target: Array, where: Array | None, precision: str | None) -> bool:
    """Whether the label's term alone is needed beside the others' sum."""
    return where is None and not jnp.issubdtype(target.dtype, jnp.floating) and not carries(x, precision)


def _inside(labels: Array, x: Array, axis: int) -> tuple[Array, Array]:
    """(labels inside the range, where they are classes), the class axis kept."""
    labels = generic.index_labels(jnp, labels, x)
    inside = jnp.clip(labels, 0, x.shape[axis] - 1)
    return jnp.expand_dims(inside, axis), jnp.expand_dims(labels == inside, axis)


def _pieces(x: Array, labels: Array, axis: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    """(exp(x - max), sum without the label's, the label's, its logarithm, where it is, where it is a class)."""
    inside, valid = _inside(labels, x, axis)
    m = jnp.max(x, axis=axis, keepdims=True)
    e = jnp.exp(x - m)
    hot = generic.iota(jnp, x, axis, inside.dtype) == inside
    others = total(jnp.where(hot, 0, e), axis)
    d = jnp.take_along_axis(x, inside, axis=axis, mode="clip") - m
    return e, others, jnp.exp(d), d, hot, valid


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def losses(x: Array, target: Array, where: Array | None, axis: int, precision: str | None) -> Array:
    """One loss a sample; ``target`` holds class indices, or weights by class."""
    if not _short(x, target, where, precision):
        return generic.cross_entropy(jnp, x, _job(target, where, axis, precision))
    _, others, own, d, _, valid = _pieces(wide(x, precision), target, axis)
    # with the label at the maximum own - 1 is 0, and the others are all that is left
    loss = jnp.where(valid, jnp.log1p(others + (own - 1)) - d, jnp.nan)
    return jnp.squeeze(loss, axis=axis).astype(x.dtype)


@losses.defjvp
def _losses_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, target, where = primals
    value = losses(x, target, where, axis, precision)
    slope = slopes(x, target, jnp.ones_like(value), where, axis, precision)
    tangent = jnp.sum(slope * seen(tangents[0], where), axis=axis)
    if jnp.issubdtype(target.dtype, jnp.floating):
        cost = -log_softmax(x, where, axis, precision)
        tangent = tangent + jnp.sum(jnp.where(jnp.isfinite(cost), cost, 0) * tangents[1], axis=axis)
    return value, tangent.astype(value.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def slopes(x: Array, target: Array, weight: Array, where: Array | None, axis: int, precision: str | None) -> Array:
    """The gradient of each sample's loss times its weight."""
    if not _short(x, target, where, precision):
        return generic.cross_entropy_grad(jnp, x, _job(target, where, axis, precision, weight))
    e, others, own, _, hot, valid = _pieces(wide(x, precision), target, axis)
    factor = jnp.expand_dims(weight, axis)
    factor = jnp.where(valid, factor, jnp.nan) / (others + own)
    return jnp.where(hot, -others * factor, e * factor).astype(x.dtype)


@slopes.defjvp
def _slopes_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, target, weight, where = primals
    value = slopes(x, target, weight, where, axis, precision)
    job = _job(target, where, axis, precision, weight)
    by_x = generic.cross_entropy_hvp(jnp, x, job, seen(tangents[0], where))
    each = slopes(x, target, jnp.ones_like(weight), where, axis, precision)
    tangent = by_x + each * jnp.expand_dims(tangents[2], axis)
    if jnp.issubdtype(target.dtype, jnp.floating):
        change = jnp.sum(tangents[1], axis=axis, keepdims=True) * each_probability(x, where, axis, precision)
        tangent = tangent + jnp.expand_dims(weight, axis) * seen(change - tangents[1], where)
    return value, tangent.astype(value.dtype)


def each_probability(x: Array, where: Array | None, axis: int, precision: str | None) -> Array:
    """The probabilities by which weights by class pull."""
    return jnp.exp(log_softmax(x, where, axis, precision))


def prepared(logits: Array, job: Job) -> tuple[Array, Array | None, Array | None, Array | None, Array | None]:
    """(logits to compute with, what counts, sample weights, target weights by class, weight of a target)."""
    x = wide(logits, job.precision if has_float64(jnp, logits) else None)
    axis = job.axis
    kept, weight = generic.keep(jnp, job, x)
    if kept is not None:
        # a NaN left in an ignored sample would come back as 0 * NaN in its derivative
        x = jnp.where(kept, x, 0)
    v = w = None
    if job.dense or job.label_smoothing:
        _, v, _, w, _ = generic.target(jnp, x, job, job.where)
    elif job.class_weight is not None:
        inside, valid = _inside(job.labels, x, axis)
        w = jnp.where(valid, job.class_weight.astype(x.dtype)[inside], 0)
    return x, kept, weight, v, w


def cross_entropy(logits: Array, job: Job) -> Array:
    """The loss, reduced."""
    axis = job.axis
    where = None if job.where is None else jnp.broadcast_to(job.where, logits.shape)
    job = job._replace(where=where)
    x, kept, weight, v, w = prepared(logits, job)
    precision = job.precision if carries(x, job.precision) else None
    each = jnp.expand_dims(losses(x, job.labels if v is None else v, where, axis, precision), axis)
    if v is not None and not job.dense:
        each = jnp.where(_inside(job.labels, x, axis)[1], each, jnp.nan)
    if v is None and w is not None:
        # a class of weight 0 costs nothing, though its logit be -inf
        each = jnp.where(jnp.logical_and(w == 0, jnp.isinf(each)), 0, each) * w
    if job.z_loss:
        lse = jnp.expand_dims(logsumexp(x, where, axis, precision), axis)
        if where is not None:
            lse = jnp.where(jnp.any(where, axis=axis, keepdims=True), lse, 0)
        extra = job.z_loss * lse**2
        each = each + (extra if w is None else extra * w)
    each = generic.scaled(jnp, each, kept, weight)
    if job.reduction == "none":
        return jnp.squeeze(each, axis=axis).astype(logits.dtype)
    value = generic.sum_all(jnp, each)
    if job.reduction == "mean":
        value = generic.divided(jnp, value, generic.mass(jnp, x, job, w))
    return value.astype(logits.dtype)


def value_and_grad(logits: Array, job: Job) -> tuple[Array, Array]:
    """The loss and its gradient, which can be differentiated in turn."""
    if job.reduction != "none":
        return jax.value_and_grad(cross_entropy)(logits, job)
    value, pull = jax.vjp(lambda x: cross_entropy(x, job), logits)
    return value, pull(jnp.ones_like(value))[0]


def grad(logits: Array, job: Job) -> Array:
    """The gradient."""
    return value_and_grad(logits, job)[1]
