"""What Triton's kernels of the loss are made of: labels, weights, and what a chunk of classes adds to its row."""

from __future__ import annotations

import triton
import triton.language as tl

from .mathematics import exp, power
from .scaling import CAPPED, MASKED, chunk, load, shifts, slope


@triton.jit
def labels(y_ptr, rows, live, k, DENSE: tl.constexpr):
    """(labels, whether they are classes); none where targets are weights by class."""
    y = tl.full(rows.shape, 0, tl.int64) if DENSE else tl.load(y_ptr + rows, mask=live, other=0).to(tl.int64)
    return y, (y >= 0) & (y < k)


@triton.jit
def sample_weights(y, rows, live, weight_ptr, divisor_ptr, scale, ignored, WEIGHTED: tl.constexpr,
                   DIVIDED: tl.constexpr, IGNORES: tl.constexpr):  # fmt: skip
    """(what each sample's loss is multiplied by, whether it counts for nothing)."""
    weight = tl.full(rows.shape, 1.0, tl.float32)
    if WEIGHTED:
        weight = tl.load(weight_ptr + rows, mask=live, other=0.0).to(tl.float32)
    nothing = weight == 0.0
    if IGNORES:
        nothing = nothing | (y == ignored)
    if DIVIDED:
        divisor = tl.load(divisor_ptr + rows * 0, mask=live, other=1.0).to(tl.float32)
        # a mean of nothing is 0, whatever stands in the logits
        nothing = nothing | (divisor == 0.0)
        weight = weight / divisor
    return weight * scale, nothing


@triton.jit
def class_weights(class_ptr, c, k, BALANCED: tl.constexpr):
    """The weights of some classes, 0 past the last."""
    if BALANCED:
        return tl.load(class_ptr + c, mask=c < k, other=0.0).to(tl.float32)
    return tl.where(c < k, 1.0, 0.0)


@triton.jit
def class_sum(balance, shown, like, HOW: tl.constexpr):
    """The sum of the weights of the classes that each row shows."""
    if MASKED & HOW:
        return tl.sum(tl.where(shown, balance[None, :], 0.0), 1)
    # of one dimension, or Triton lays all weights by class out anew
    return tl.zeros_like(like) + tl.sum(balance, 0)


@triton.jit
def label_weight(class_ptr, y, valid, BALANCED: tl.constexpr):
    """The class weight of each label, 1 of one that is no class."""
    if BALANCED:
        return tl.load(class_ptr + y, mask=valid, other=1.0).to(tl.float32)
    return tl.full(y.shape, 1.0, tl.float32)


@triton.jit
def targets(q_ptr, at, mask, c, y, DENSE: tl.constexpr):
    """The targets by class, as they were given."""
    if DENSE:
        return tl.load(q_ptr + at, mask=mask, other=0.0).to(tl.float32)
    return tl.where(c[None, :] == y[:, None], 1.0, 0.0)


@triton.jit
def evenly(size, smoothing, k, count, HOW: tl.constexpr):
    """What smoothing gives to each class of a row."""
    if MASKED & HOW:
        return size * (smoothing / tl.maximum(count, 1.0))
    return size * (smoothing / k)


@triton.jit
def smoothed(q, mask, shown, balance, uniform, smoothing, SMOOTH: tl.constexpr, HOW: tl.constexpr):
    """The weights by class that a loss is taken with."""
    if SMOOTH:
        even = tl.where(shown, uniform[:, None], 0.0) if MASKED & HOW else uniform[:, None]
        q = (1.0 - smoothing) * q + even
    return tl.where(mask, q * balance[None, :], 0.0)


@triton.jit
def finite_times(weight, a):
    """Their product; 0 where the weight is, though the other be infinite."""
    return tl.where((weight == 0.0) & (tl.abs(a) == float("inf")), 0.0, a * weight)


@triton.jit
def soft_slope(d, v, T, rest):
    """The gradient by weights by class ``v``, which sum to ``T``."""
    e = exp(d)
    s = (1.0 + rest)[:, None]
    return (e * (T[:, None] - v) - v * tl.where(d == 0.0, rest[:, None], s - e)) / s


@triton.jit
def factors(below, log_s, others, rest, focal, FOCAL: tl.constexpr):
    """What a focal factor makes of a label's loss and of its gradient (``_kernels/focal.py``); unread without one."""
    if FOCAL:
        s = 1.0 + rest
        cost, p, q = log_s - below, exp(below) / s, others / s
        factor = power(q, focal)
        share = p * tl.where(q == 0.0, 1.0, tl.where(cost == float("inf"), 0.0, cost) / q)
        return factor, factor * (1.0 + focal * share)
    return rest, rest


@triton.jit
def loss_of(below, log_s, lse, own, T, factor, z, weight, nothing, SOFT: tl.constexpr, FOCAL: tl.constexpr,
            Z: tl.constexpr):  # fmt: skip
    """The loss of each row, ``below`` being how far its label, or the sum of its targets, is below the largest."""
    loss = T * log_s - below if SOFT else finite_times(own, log_s - below)
    if FOCAL:
        loss = loss * factor
    if Z:
        loss += z * lse * lse * own
    return tl.where(nothing, 0.0, loss * weight)


@triton.jit
def slope_of(x, shown, d, c, y, v, T, rest, others, lse, own, steep, z, weight, nothing, cap, SOFT: tl.constexpr,
             FOCAL: tl.constexpr, Z: tl.constexpr, HOW: tl.constexpr):  # fmt: skip
    """The gradient of some classes, whose logits ``x`` are ``d`` above the largest and whose targets are ``v``."""
    if SOFT:
        g = soft_slope(d, v, T, rest)
    else:
        e = exp(d)
        scale = own * steep if FOCAL else own
        g = tl.where(c[None, :] == y[:, None], -others[:, None], e) * (scale / (1.0 + rest))[:, None]
    if Z:
        g += exp(d) * (2.0 * z * lse * own / (1.0 + rest))[:, None]
    if CAPPED & HOW:
        g *= slope(x, cap)
    g = tl.where(nothing[:, None], 0.0, g * weight[:, None])
    return tl.where(shown, g, 0.0) if MASKED & HOW else g


@triton.jit
def label_logit(x_ptr, start, where_ptr, w_start, y, x_class, w_class, valid, HOW: tl.constexpr):
    """The label's logit."""
    x, _ = load(x_ptr, start + y * x_class, where_ptr, w_start + y * w_class, valid, HOW)
    return x


@triton.jit
def found_in(x, shown, c, y, q_ptr, q_at, mask, class_ptr, shift_ptr, k, cap, temperature, SOFT: tl.constexpr,
           DENSE: tl.constexpr, SMOOTH: tl.constexpr, BALANCED: tl.constexpr, HOW: tl.constexpr):  # fmt: skip
    """What a chunk of classes adds to its row: (largest logit, its shift, exponentials below it, ties at it, ...).

    With weights by class also the sums of these, of these times class weights, of class weights and of classes shown,
    and of the second and third times the difference to the largest.
    """
    added = shifts(shift_ptr, c, c < k, HOW)
    m, most_added, d = chunk(x, added, cap, temperature, HOW)
    ties, size, weighed, balances = tl.zeros_like(m), tl.zeros_like(m), tl.zeros_like(m), tl.zeros_like(m)
    count, costs, spread = tl.zeros_like(m), tl.zeros_like(m), tl.zeros_like(m)
    if SOFT:
        is_top = d == 0.0
        others = tl.sum(tl.where(is_top, 0.0, exp(d)), 1)
        ties = tl.sum(tl.where(is_top, 1.0, 0.0), 1)
        balance = class_weights(class_ptr, c, k, BALANCED)
        if DENSE:
            q = tl.load(q_ptr + q_at, mask=mask, other=0.0).to(tl.float32)
            size = tl.sum(q, 1)
            q = tl.where(mask, q * balance[None, :], 0.0)  # which no sum can be fused with
            weighed = tl.sum(q, 1)
            costs = tl.sum(finite_times(q, d), 1)
        if SMOOTH:
            balances = class_sum(balance, shown, m, HOW)
            count = tl.sum(shown.to(tl.float32), 1) if MASKED & HOW else m
            spread = tl.sum(tl.where(shown, finite_times(balance[None, :], d), 0.0), 1)
    else:
        others = tl.sum(tl.where(c[None, :] == y[:, None], 0.0, exp(d)), 1)
    return m, most_added, others, ties, size, weighed, balances, count, costs, spread


@triton.jit
def lowered(total, weights, by):
    """A sum of weights times differences to the largest, which is higher by ``by`` now."""
    return tl.where(by == float("inf"), total, tl.fma(-by, weights, total))


@triton.jit
def joined(g, total, weights, total2, weights2):
    """Such a sum of the classes so far and of the next chunk, whose largest is ``g`` above theirs."""
    total = tl.where(g > 0.0, lowered(total, weights, g), total)
    return total + tl.where(g < 0.0, lowered(total2, weights2, -g), total2)
