"""The cross-entropy as a JAX function: options around one function a sample, with closed forms for its derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import loss as generic
from ..._kernels import targets
from ..._kernels.dense import difference, iota, nan_where
from ..._options import LossArgs
from . import rules
from .dense import centred, hide_logits, is_compensated, less, log_softmax, logsumexp, softmax, total, wide, zero_hidden

#: The options that the closed forms below take; a loss with others goes through the generic kernels under a rule.
TAKEN = ("label_smoothing", "class_weight", "ignore_index", "z_loss", "precision", "sample_weight", "where")


def _is_dense(target: AnyArray) -> bool:
    return jnp.issubdtype(target.dtype, jnp.floating)


def _inside(labels: AnyArray, classes: int) -> tuple[AnyArray, AnyArray]:
    """(labels brought into the range, where they were in it)."""
    labels = targets.index_labels(jnp, labels, labels)
    inside = jnp.clip(labels, 0, classes - 1)
    return inside, labels == inside


def label_weight(args: LossArgs, classes: int, dtype: Any) -> AnyArray:
    """The class weight of each sample's label, 1 where it is no class."""
    inside, valid = _inside(args.labels, classes)
    return jnp.where(valid, args.class_weight.astype(dtype)[inside], 1)


def _pieces(
    x: AnyArray, labels: AnyArray, where: AnyArray | None, axis: int
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, AnyArray]:
    """(exp(x - max), where the label is; without ``axis`` the sum of the others, x - max at the label, both valid)."""
    inside, valid = _inside(labels, x.shape[axis])
    x = hide_logits(x, where, axis)
    inside = jnp.expand_dims(inside, axis)
    m = jnp.max(x, axis=axis, keepdims=True)
    e = jnp.exp(difference(jnp, x, m))
    onehot = iota(jnp, x, axis, inside.dtype) == inside
    others = total(jnp.where(onehot, 0, e), axis)
    d = jnp.squeeze(difference(jnp, jnp.take_along_axis(x, inside, axis=axis, mode="clip"), m), axis=axis)
    return e, onehot, others, d, valid


def _zero_where_none_visible(a: AnyArray, where: AnyArray | None, axis: int) -> AnyArray:
    """``a``, one a sample, with 0 where no class is visible."""
    return a if where is None else jnp.where(jnp.any(where, axis=axis), a, 0)


def _or_nan(a: AnyArray, valid: AnyArray) -> AnyArray:
    return nan_where(jnp, ~valid, a)


def _generic(
    target: AnyArray, where: AnyArray | None, axis: int, precision: str | None, weight: AnyArray | None = None
) -> LossArgs:
    return LossArgs(
        axis=axis,
        labels=target,
        dense=_is_dense(target),
        sample_weight=weight,
        where=where,
        reduction="none",
        precision=precision,
    )


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def losses(x: AnyArray, target: AnyArray, where: AnyArray | None, axis: int, precision: str | None) -> AnyArray:
    """One loss a sample; ``target`` holds class indices, or weights by class."""
    if is_compensated(x, precision):
        return generic.cross_entropy(jnp, x, _generic(target, where, axis, precision))
    if _is_dense(target):
        cost = -log_softmax(x, where, axis, precision)
        # 0 * inf is nothing lost
        cost = jnp.where(jnp.logical_and(target == 0, jnp.isinf(cost)), 0, cost)
        return _zero_where_none_visible(total(target * cost, axis), where, axis)
    _, _, others, d, valid = _pieces(x, target, where, axis)
    # with the label at the maximum exp(d) - 1 is 0, and the others are all that is left
    own = jnp.exp(d)
    loss = less(jnp.log1p(others + (own - 1)), d, jnp.float32, own)
    return _or_nan(_zero_where_none_visible(loss, where, axis), valid)


def _losses_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, target, where = primals
    value = losses(x, target, where, axis, precision)
    slope = slopes(x, target, jnp.ones_like(value), where, axis, precision)
    tangent = total(slope * zero_hidden(tangents[0], where), axis)
    if _is_dense(target):
        cost = -log_softmax(x, where, axis, precision)
        tangent = tangent + total(jnp.where(jnp.isfinite(cost), cost, 0) * tangents[1], axis)
    return value, tangent


losses.defjvp(_losses_jvp)


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def slopes(
    x: AnyArray, target: AnyArray, weight: AnyArray, where: AnyArray | None, axis: int, precision: str | None
) -> AnyArray:
    """The gradient of each sample's loss, times its weight."""
    if is_compensated(x, precision):
        return generic.cross_entropy_grad(jnp, x, _generic(target, where, axis, precision, weight))
    if _is_dense(target):
        p, log_p = softmax(x, where, axis, precision), log_softmax(x, where, axis, precision)
        g = p * (jnp.expand_dims(total(target, axis), axis) - target) + target * jnp.expm1(log_p)
        return zero_hidden(g * jnp.expand_dims(weight, axis), where)
    e, onehot, others, d, valid = _pieces(x, target, where, axis)
    factor = _or_nan(weight, valid) / (others + jnp.exp(d))
    others, factor = (jnp.expand_dims(a, axis) for a in (others, factor))
    return zero_hidden(jnp.where(onehot, -others, e) * factor, where)


def _slopes_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, target, weight, where = primals
    value = slopes(x, target, weight, where, axis, precision)
    p = softmax(x, where, axis, precision)
    factor = weight * total(target, axis) if _is_dense(target) else _or_nan(weight, _inside(target, x.shape[axis])[1])
    tangent = jnp.expand_dims(factor, axis) * p * centred(p, zero_hidden(tangents[0], where), axis)
    each = slopes(x, target, jnp.ones_like(weight), where, axis, precision)
    tangent = tangent + each * jnp.expand_dims(tangents[2], axis)
    if _is_dense(target):
        change = tangents[1]
        pull = p * jnp.expand_dims(total(change, axis), axis) - change
        tangent = tangent + pull * jnp.expand_dims(weight, axis)
    return value, zero_hidden(tangent, where)


slopes.defjvp(_slopes_jvp)


def cross_entropy(logits: AnyArray, args: LossArgs) -> AnyArray:
    """The loss, reduced."""
    axis, x = args.axis, wide(logits, args.precision)
    where = None if args.where is None else jnp.broadcast_to(args.where, x.shape)
    kept, weight = generic.keep(jnp, args, x)
    if kept is not None:
        # a NaN left in an ignored sample would come back as 0 * NaN in its derivative
        x = jnp.where(kept, x, 0)
    precision = args.precision if is_compensated(logits, args.precision) else None
    target, w = args.labels, None
    special = bool(args.beyond(TAKEN))
    if special:
        w = targets.target(jnp, x, args._replace(label_smoothing=0.0), where)[3]
        w = None if w is None else jnp.squeeze(w, axis=axis)
    elif args.dense or args.label_smoothing:
        _, target, _, w, _ = targets.target(jnp, x, args, where)
        w = None if w is None else jnp.squeeze(w, axis=axis)
    elif args.class_weight is not None:
        w = label_weight(args, x.shape[axis], x.dtype)
    weight_sum = None
    if args.reduction == "mean":
        weight_sum = generic.weight_sum(jnp, x, args, None if w is None else jnp.expand_dims(w, axis))
        # where nothing counts, no NaN must come back as 0 * NaN either
        x = jnp.where(weight_sum == 0, 0, x)
    if special:
        each = rules.losses(x, *rules.split(args._replace(precision=precision)))
    else:
        each = _each(x, target, w, where, args, precision)
    each = generic.scaled(jnp, jnp.expand_dims(each, axis), kept, weight)
    if args.reduction == "none":
        return jnp.squeeze(each, axis=axis).astype(logits.dtype)
    value: AnyArray = generic.sum_all(jnp, each)
    value = value if weight_sum is None else generic.divided(jnp, value, weight_sum)
    return value.astype(logits.dtype)


def _each(
    x: AnyArray, target: AnyArray, w: AnyArray | None, where: AnyArray | None, args: LossArgs, precision: str | None
) -> AnyArray:
    """One loss a sample, before sample weights, by the closed forms."""
    axis = args.axis
    each = losses(x, target, where, axis, precision)
    if not _is_dense(target) and w is not None:
        # a class of weight 0 costs nothing, though its logit be -inf
        each = jnp.where(jnp.logical_and(w == 0, jnp.isinf(each)), 0, each) * w
    if args.z_loss:
        extra = args.z_loss * _zero_where_none_visible(logsumexp(x, where, axis, precision), where, axis) ** 2
        each = each + (extra if w is None else extra * w)
    if _is_dense(target) and not args.dense:
        # a factor, so that derivatives are NaN too
        each = each * _or_nan(jnp.ones_like(each), _inside(args.labels, x.shape[axis])[1])
    return each


def value_and_grad(logits: AnyArray, args: LossArgs) -> tuple[AnyArray, AnyArray]:
    """The loss and its gradient, which can be differentiated in turn."""
    if args.reduction != "none":
        return jax.value_and_grad(cross_entropy)(logits, args)
    value, pull = jax.vjp(lambda x: cross_entropy(x, args), logits)
    return value, pull(jnp.ones_like(value))[0]


def grad(logits: AnyArray, args: LossArgs) -> AnyArray:
    """The gradient."""
    return value_and_grad(logits, args)[1]


def hvp(logits: AnyArray, args: LossArgs, vector: AnyArray) -> AnyArray:
    """Second derivative times ``vector``."""
    x = wide(logits)
    return jax.jvp(lambda x: grad(x, args), (x,), (vector.astype(x.dtype),))[1].astype(logits.dtype)
