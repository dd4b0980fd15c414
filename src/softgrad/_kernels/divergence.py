"""The distance between two softmaxes, from their logits: pure array API functions, nothing checked or converted.

With q = softmax(target / T), p = softmax(logits / T) and d = log(q / p), KL(q||p) is the sum of q d - (q - p): terms of
at least 0, so that nothing cancels between the classes. Where q and p are close, d comes from the difference of the
logits, q - p from expm1(-d), and a term is (q - p) d / 2 + (q + p) (z - tanh(z)), z = d / 2, the last by its series.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.typing import AnyArray, Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from .dense import centred, difference, mask_logits, narrow, shift, total, widen
from .high import narrowed
from .loss import divided, keep, scaled, sum_all, weight_sum
from .top_k import few, spread, with_rest

#: Names of the arrays that a gradient is taken by.
NAMES = ("logits", "target_logits")
#: |log(q / p)| from which a term is exact enough without the series.
NEAR = 0.5
#: KL, and mass beside the largest class, from which the rounding of float64 is below that of a result in float32.
PLAIN = 1e-5


class DivergenceArgs(NamedTuple):
    """What a kernel is given beside the logits: checked, on their device."""

    axis: int
    #: Of the logits' shape, in their dtype or in float32; with labels log-probabilities, of their shape.
    target: ArrayIfAsked
    #: Weight of the target in the mixture; 0 is KL(target || softmax(logits)), 1 the other way round.
    beta: float = 0.0
    temperature: float = 1.0
    #: True keeps; broadcastable to the logits, or None.
    where: AnyArray | None = None
    #: One weight a sample, or None.
    sample_weight: AnyArray | None = None
    reduction: str = "mean"
    #: None or "high".
    precision: str | None = None
    #: The classes at which the target is known, along ``axis``, or None for all.
    labels: AnyArray | None = None
    #: Whether the classes that it does not tell are one more.
    lump: bool = True


class Pair(NamedTuple):
    """Two softmaxes side by side."""

    p: Array
    q: Array
    log_p: Array
    log_q: Array
    #: log(q / p); 0 where the logits have no difference.
    d: Array
    #: q - p, with its digits where they are close.
    gap: Array
    #: Where their difference is not finite: one of the two has no mass there, or the row is NaN.
    lone: Array


def _series(count: int) -> tuple[float, ...]:
    """The first coefficients of (z - tanh(z)) / z**3, in powers of z**2."""
    t = [1.0]  # of tanh, whose derivative is 1 - tanh**2
    for n in range(1, count + 1):
        t.append(-sum(t[i] * t[n - 1 - i] for i in range(n)) / (2 * n + 1))
    return tuple(-c for c in t[1:])


_SERIES = {32: _series(5), 64: _series(11)}


def _softmax(xp: Namespace, x: Array, axis: int, temperature: float) -> tuple[Array, Array, Array, Array, Array]:
    """(maximum, where it is, probabilities, their logarithms, logsumexp(x / T) - max(x) / T)."""
    m = None
    if temperature != 1.0:
        # shifted first: the division rounds what is left of large logits alone
        m = xp.max(x, axis=axis, keepdims=True)
        x = difference(xp, x, m) / temperature
    row = shift(xp, x, axis, False)
    log_sum = xp.log1p(row.sum_ex_max)
    return row.m if m is None else m, row.top, row.e / (1 + row.sum_ex_max), row.d - log_sum, log_sum


def _apart(xp: Namespace, b: Array, a: Array) -> tuple[Array, Array]:
    """``b - a`` and what rounding took from it: where one has a shift against the other, that is what is left."""
    s = difference(xp, b, a)
    back = s - b
    return s, (b - (s - back)) - (a + back)


def compare(xp: Namespace, x: Array, y: Array, axis: int, temperature: float) -> Pair:
    """The softmaxes of ``x`` and ``y``, and how far they are apart."""
    zero = xp.zeros_like(x)
    m, top, p, log_p, log_x = _softmax(xp, x, axis, temperature)
    m_y, _, q, log_q, log_y = _softmax(xp, y, axis, temperature)
    lone = xp.logical_not(xp.isfinite(y - x))
    a, b = xp.where(lone, zero, x), xp.where(lone, zero, y)
    u, lost = _apart(xp, b, a)
    # centred on the classes that x is largest at
    count = xp.sum(xp.astype(top, x.dtype), axis=axis, keepdims=True, dtype=x.dtype)
    own = xp.sum(xp.where(top, y, zero), axis=axis, keepdims=True, dtype=x.dtype) / count
    own = xp.where(xp.isfinite(own), own, m_y)
    centre, shift_lost = _apart(xp, own, m)
    step = (u - centre) / temperature
    d = step + (lost - shift_lost) / temperature - ((m_y - own) / temperature + (log_y - log_x))
    # far apart, logits are larger than the logarithms that they differ by
    d = xp.where(xp.abs(log_q) + xp.abs(log_p) < xp.abs(step), log_q - log_p, d)
    # the normalisers leave a rounding error in d, which the sum of q - p, 0 if exact, measures
    far = xp.logical_or(lone, d < -1)
    gap = xp.where(far, q - p, -q * xp.expm1(-xp.where(far, zero, d)))
    off = total(xp, gap, axis)
    gap = xp.where(far, gap, (gap - q * off) / (1 - off))
    # 0 times the gap is NaN in a row that is
    return Pair(p, q, log_p, log_q, xp.where(lone, gap * 0, d + xp.log1p(-off)), gap, lone)


def _terms(xp: Namespace, q: Array, p: Array, d: Array, gap: Array) -> Array:
    """The terms of KL(q||p): q d - (q - p), with d = log(q / p) and ``gap`` = q - p."""
    near = xp.logical_and(xp.abs(d) < NEAR, q > 0)
    z = xp.where(near, d, xp.zeros_like(d)) / 2
    square = z * z
    series = _SERIES[64 if xp.finfo(d.dtype).bits == 64 else 32]
    rest = xp.zeros_like(z)
    for c in reversed(series):
        rest = rest * square + c
    return xp.where(near, gap * z + (q + p) * (z * square * rest), q * d - gap)


def _share(xp: Namespace, q: Array, log_q: Array, m: Array, gap: Array) -> Array:
    """log(q / m) for a mixture ``m``, ``gap`` = q - m; 0 where q is."""
    r = gap / xp.where(m == 0, xp.ones_like(m), m)
    near, some = r > -0.5, q > 0
    one = xp.ones_like(q)
    far = xp.where(some, log_q, xp.zeros_like(q)) - xp.log(xp.where(some, m, one))
    share = xp.where(near, xp.log1p(xp.where(near, r, xp.zeros_like(r))), far)
    return xp.where(q == 0, xp.zeros_like(share), share)


def _js(xp: Namespace, a: Pair, axis: int, beta: float, wrt: tuple[str, ...]) -> tuple[Array, dict[str, Array]]:
    """The terms of the mean of KL(q||m) and KL(p||m), and the gradients."""
    m = beta * a.q + (1 - beta) * a.p
    sides = {
        "logits": (1 - beta, a.p, a.log_p, -beta * a.gap),
        "target_logits": (beta, a.q, a.log_q, (1 - beta) * a.gap),
    }
    terms: Any = None
    grads = {}
    for name, (weight, q, log_q, gap) in sides.items():
        d = _share(xp, q, log_q, m, gap)
        part = weight * _terms(xp, q, m, d, gap)
        terms = part if terms is None else terms + part
        if name in wrt:
            grads[name] = weight * q * centred(xp, q, d, axis)
    return terms, grads


def _kl(xp: Namespace, a: Pair, axis: int, reverse: bool, wrt: tuple[str, ...]) -> tuple[Array, dict[str, Array]]:
    """The terms of KL(q||p), of KL(p||q) with ``reverse``, and the gradients."""
    q, p, d, gap = (a.p, a.q, -a.d, -a.gap) if reverse else (a.q, a.p, a.d, a.gap)
    mean_over, other = reversed(NAMES) if not reverse else NAMES
    endless = xp.logical_and(xp.logical_and(a.lone, p == 0), q > 0)
    terms = _terms(xp, q, p, d, gap)
    grads = {}
    if other in wrt:
        grads[other] = -gap
    if mean_over in wrt:
        grads[mean_over] = q * centred(xp, q, xp.where(endless, xp.zeros_like(d) + math.inf, d), axis)
    return xp.where(endless, xp.zeros_like(terms) + math.inf, terms), grads


def rows(
    xp: Namespace, x: Array, y: Array, args: DivergenceArgs, wrt: tuple[str, ...]
) -> tuple[Array, tuple[Array, ...]]:
    """One divergence a sample, the class axis kept, and its gradients by ``wrt``; of wide arrays, without weights."""
    axis = args.axis
    x, visible, _ = mask_logits(xp, x, axis, args.where)
    y = mask_logits(xp, y, axis, args.where)[0]
    pair = compare(xp, x, y, axis, args.temperature)
    if args.beta in (0.0, 1.0):
        terms, found = _kl(xp, pair, axis, args.beta == 1.0, wrt)
    else:
        terms, found = _js(xp, pair, axis, args.beta, wrt)
    grads = []
    for name in wrt:
        g = found[name] if args.temperature == 1.0 else found[name] / args.temperature
        grads.append(g if visible is None else xp.where(visible, g, xp.zeros_like(g)))
    return total(xp, terms, axis), tuple(grads)


def plain_rows(
    xp: Namespace, x: Array, y: Array, temperature: float, beta: float, wrt: tuple[str, ...], wide: bool
) -> tuple[tuple[AnyArray, ...], tuple[AnyArray, ...]]:
    """``rows`` of matrices by the plain formulas, in one tuple, and in which rows each keeps enough digits by them.

    With ``wide`` in float64 for float32; else KL in their own format, which is enough where it is not small: then the
    sum of q |log(q / p)| is at most 1 more than KL, and a rounding of each logarithm is not much of it.
    """
    x, y = (xp.astype(a, xp.float64) for a in (x, y)) if wide else (x, y)
    x, y = (y, x) if beta == 1.0 else (x, y)
    d, e = (a - xp.max(a, axis=-1, keepdims=True) for a in (x, y))
    if temperature != 1.0:
        d, e = d / temperature, e / temperature
    p, q = xp.exp(d), xp.exp(e)
    s, t = (xp.sum(a, axis=-1, keepdims=True) for a in (p, q))
    names = NAMES[::-1] if beta == 1.0 else NAMES
    found = {}
    if 0.0 < beta < 1.0:
        p, q = p / s, q / t
        m = xp.log(beta * q + (1 - beta) * p)
        value: AnyArray = 0.0
        for name, weight, a, log_a, norm in (("logits", 1 - beta, p, d, s), ("target_logits", beta, q, e, t)):
            far = log_a - m
            mean = xp.sum(a * far, axis=-1, keepdims=True)
            value = value + weight * (mean - xp.log(norm))
            if name in wrt:
                found[name] = a * ((far - mean) * (weight / temperature))
    else:
        far = e - d
        mean = xp.sum(q * far, axis=-1, keepdims=True) / t
        norm = xp.log(t / s)
        value = mean - norm
        if names[0] in wrt:
            found[names[0]] = p * (1 / (s * temperature)) - q * (1 / (t * temperature))
        if names[1] in wrt:
            found[names[1]] = q * ((far - mean) * (1 / (t * temperature)))
    good = value < math.inf
    if wide:
        good = xp.logical_and(good, value >= PLAIN)
        fine = dict.fromkeys(names, good)
        for name, norm in zip(names, (s, t), strict=True):
            # of what is nearly sure the others' slopes are next to its rounding
            if name in wrt and (name == names[1] or 0.0 < beta < 1.0):
                fine[name] = xp.logical_and(good, norm > 1 + PLAIN)
    else:
        good = xp.logical_and(good, value >= (1 + xp.abs(norm)) / 8)
        fine = dict.fromkeys(names, good)
        if names[0] in wrt:
            g = found[names[0]]
            most = xp.maximum(xp.max(g, axis=-1, keepdims=True), -xp.min(g, axis=-1, keepdims=True))
            fine[names[0]] = xp.logical_and(good, most * (8 * temperature) >= 1 / xp.minimum(s, t))
        if names[1] in wrt:
            fine[names[1]] = xp.logical_and(good, t > 1.125)
    return (value, *(found[name] for name in wrt)), (good, *(fine[name] for name in wrt))


def divergence(
    xp: Namespace,
    logits: Array,
    args: DivergenceArgs,
    wrt: tuple[str, ...] = (),
    rows: Callable[..., tuple[Array, tuple[Array, ...]]] = rows,
) -> tuple[Array, tuple[Array, ...]]:
    """The divergence, reduced, and its gradients by ``wrt``: with labels by the logits alone."""
    axis, labels, scale = args.axis, args.labels, args.temperature
    x, _ = widen(xp, logits, args.precision)
    y = narrow(xp, args.target, x.dtype)
    weights = LossArgs(axis, y, True, sample_weight=args.sample_weight)
    kept, weight = keep(xp, weights, x)
    if kept is not None:
        # a NaN left in a sample that does not count would come back as 0 * NaN in its derivative
        x, y = (xp.where(kept, a, xp.zeros_like(a)) for a in (x, y))
        labels = labels if labels is None else xp.where(kept, labels, xp.zeros_like(labels))
    if labels is None:
        each, found = rows(xp, x, y, args, wrt)
    else:
        some = few(xp, x, labels, axis, scale, args.lump)
        y = y if some.onehot is None else with_rest(xp, y, axis)
        each, found = rows(xp, some.logits, y, args._replace(temperature=1.0, labels=None), wrt)
        found = tuple(spread(xp, g, some, x, labels, axis, scale) for g in found)
    each = scaled(xp, each, kept, weight)
    divisor = weight_sum(xp, x, weights, None) if args.reduction == "mean" else None
    if args.reduction == "none":
        value = xp.squeeze(each, axis=axis)
    else:
        value = sum_all(xp, each)
        value = value if divisor is None else divided(xp, value, divisor)
    grads = []
    for name, g in zip(wrt, found, strict=True):
        g = scaled(xp, g, kept, weight)
        g = g if divisor is None else divided(xp, g, divisor)
        grads.append(narrowed(xp, g, logits.dtype if name == "logits" else args.target.dtype))
    return narrowed(xp, value, logits.dtype), tuple(grads)
