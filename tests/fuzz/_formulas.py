"""What calls have to give, in extended precision: sums and differences as they stand, cancellation kept out by hand."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._inputs import LD


def rows_of(x, axes):
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = np.transpose(x, (*kept, *axes))
    outer = moved.shape[: len(kept)]
    flat = moved.reshape((*outer, int(np.prod([x.shape[a] for a in axes], dtype=int))))
    return flat, lambda r: np.transpose(r.reshape(moved.shape), np.argsort((*kept, *axes)))


def parts(x, shown):
    """(finite rows, maximum, exponentials, sum without the maximum's own) of rows, hidden ones left out."""
    low = np.where(shown, x, -np.inf)
    m = low.max(-1, keepdims=True, initial=-np.inf)
    fine = np.isfinite(m) & ~np.isnan(np.where(shown, x, 0)).any(-1, keepdims=True)
    e = np.where(shown & fine, np.exp(np.where(fine, low - np.where(fine, m, 0), 0)), LD(0))
    index = np.argmax(np.where(fine, low, 0), -1)[..., None] if x.shape[-1] else None
    without = e.copy()
    if index is not None:
        np.put_along_axis(without, index, LD(0), -1)
    return fine, m, e, without.sum(-1, keepdims=True)


def dense(function, x, shown):
    """Exact softmax, log_softmax or logsumexp of rows by the table of edge cases."""
    fine, m, e, rest = parts(x, shown)
    some = shown.any(-1, keepdims=True)
    if function == "softmax":
        out = np.where(fine, e / (1 + rest), np.nan)
        return np.where(shown, out, 0)
    log = np.log1p(rest)
    if function == "log_softmax":
        with np.errstate(invalid="ignore"):
            out = np.where(fine, np.where(shown, x, 0) - np.where(fine, m, 0) - log, np.nan)
        return np.where(shown, out, -np.inf)
    nan = np.isnan(np.where(shown, x, 0)).any(-1, keepdims=True)
    out = np.where(fine, np.where(fine, m, 0) + log, np.where(nan, np.nan, m))
    return np.where(some, out, -np.inf)[..., 0]


def signed(x, b, shown):
    """(log|sum|, its sign, what the logarithm's rounding is a part of, where the sum is worth its digits) of rows."""
    counts = shown & (b != 0)
    low = np.where(counts, x, -np.inf)
    m = low.max(-1, keepdims=True, initial=-np.inf)
    nan = np.isnan(low).any(-1)
    high = np.isposinf(low)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(low), LD(0), b * np.exp(low - np.where(np.isfinite(m), m, 0)))
    s, size = terms.sum(-1), np.abs(terms).sum(-1)
    value, sign = m[..., 0] + np.log(np.abs(s)), np.sign(s)
    condition = np.abs(m[..., 0]) + np.abs(np.log(np.abs(s))) + 4 * size / np.abs(s)
    up, down = (high & (b > 0)).any(-1), (high & (b < 0)).any(-1)
    special = nan | high.any(-1)
    wrong = nan | (up & down)
    value = np.where(special, np.where(wrong, np.nan, np.inf), value)
    sign = np.where(special, np.where(wrong, np.nan, np.where(up, LD(1), LD(-1))), sign)
    nothing = ~special & np.isneginf(m[..., 0])
    value, sign = np.where(nothing, -np.inf, value), np.where(nothing, 0, sign)
    condition = np.where(np.isfinite(condition) & ~special & ~nothing, condition, 0)
    return value, sign, condition, special | nothing | (np.abs(s) > 1e-3 * size)


def pull(function, a, t):
    """(derivative of rows along ``t``, the size of its terms); ``a`` are probabilities, or logarithms of them."""
    p = np.exp(a) if function.startswith("log") else a
    if function == "log_softmax_vjp":
        return t - p * t.sum(-1, keepdims=True), np.abs(t) + p * np.abs(t).sum(-1, keepdims=True)
    mean, size = ((p * each).sum(-1, keepdims=True) for each in (t, np.abs(t)))
    # the probabilities were rounded: their sum is 1 within that
    size = np.abs(t) + size + np.abs(t).max(-1, keepdims=True, initial=0)
    return (t - mean, size) if function == "log_softmax_jvp" else (p * (t - mean), p * size)


class Target(NamedTuple):
    """What a loss is told besides its logits, the classes last."""

    #: Weights by class before smoothing; class indices as one-hot, a label that is none as 0.
    q: np.ndarray
    eps: float
    z: float
    class_weight: np.ndarray
    sample_weight: np.ndarray
    shown: np.ndarray
    #: The class indices, or None; the one to ignore, or None.
    index: np.ndarray | None
    ignore: int | None
    #: Weight of each sample in the mean.
    counts: np.ndarray

    @property
    def dead(self):
        """Samples that count for nothing."""
        dead = (self.sample_weight == 0) | ~self.shown.any(-1)
        return dead if self.index is None or self.ignore is None else dead | (self.index == self.ignore)


class Losses:
    """Losses of rows and their derivatives; ``size`` of any is what its rounding is a part of.

    ``terms`` is the size of the terms that a row's logits were added from.
    """

    def __init__(self, x, target, terms=0):
        shown, q, eps, z = target.shown, target.q, LD(target.eps), LD(target.z)
        self.target, self.shown = target, shown
        fine, m, e, rest = parts(x, shown)
        count = np.maximum(shown.sum(-1, keepdims=True), 1)
        v = target.class_weight * ((1 - eps) * q + np.where(shown, eps, 0) * q.sum(-1, keepdims=True) / count)
        self.T = v.sum(-1, keepdims=True)
        low = np.where(shown, x, -np.inf)
        high = np.where(fine, m, 0)
        with np.errstate(invalid="ignore"):
            cost = np.log1p(rest) - np.where(fine, low - high, 0)
            value = np.where(v == 0, 0, v * cost).sum(-1)
        self.lse, self.lse_size = high + np.log1p(rest), np.abs(high) + np.log1p(rest) + terms
        # kernels of a few classes take the logarithm of the whole sum, which is near 1 where the result is near 0
        self.lse_size = np.maximum(self.lse_size, 1)
        self.zw = z * (target.class_weight * q).sum(-1, keepdims=True)
        self.p, self.other = e / (1 + rest), np.where(e == 1, rest, 1 + rest - e) / (1 + rest)
        gradient, size = np.where(shown, self.T * self.p - v, 0), np.where(shown, self.T * self.p + v, 0)
        if target.index is not None and not target.eps:
            # nothing cancels at the label
            others = np.where(q > 0, 0, e).sum(-1, keepdims=True) / (1 + rest)
            gradient = np.where(shown, np.where(q > 0, -v * others, gradient), 0)
            size = np.abs(gradient)
        out = np.zeros(self.T.shape[:-1], bool)
        if target.index is not None:
            out = (target.index < 0) | (target.index >= x.shape[-1])
        bad = out & ~target.dead
        self.dead = target.dead
        #: Rows whose results no formula gives.
        self.special = bad | (~fine[..., 0] & ~self.dead)
        self.value = np.where(bad, np.nan, self.weighed(value + (self.zw * self.lse**2)[..., 0]))
        self.value_size = self.weighed(value + 2 * (self.zw * self.lse_size**2)[..., 0])
        #: What an exponential is multiplied by at most, row by row before the samples' weights; and of all.
        self.most = self.T + 2 * self.zw * np.where(fine, self.lse_size, 0)
        self.factor = 1 + self.weighed(2 * self.zw * np.where(fine, self.lse_size, 0)).max(initial=0)
        self.gradient = self.weighed(gradient + 2 * self.zw * self.lse * self.p)
        self.size = self.weighed(size + 2 * self.zw * self.lse_size * self.p)

    def weighed(self, a):
        """``a`` times its samples' weights, 0 where they count for nothing."""
        weight, dead = self.target.sample_weight, self.dead
        if a.ndim > weight.ndim:
            weight, dead = weight[..., None], dead[..., None]
        return np.where(dead, 0, a * weight)

    def curvature(self, u, u_size):
        """(second derivatives times ``u``, their size)."""
        u, u_size = np.where(self.shown, u, 0), np.where(self.shown, u_size, 0)
        mean, mean_size = ((self.p * a).sum(-1, keepdims=True) for a in (u, u_size))
        spread, spread_size = self.p * (u - mean), self.p * (u_size + mean_size)
        h = self.T * spread + 2 * self.zw * (self.lse * spread + self.p * mean)
        size = self.T * spread_size + 2 * self.zw * (self.lse_size * spread_size + self.p * mean_size)
        return self.weighed(h), self.weighed(size)

    def diagonal(self):
        """(diagonals of the second derivatives, their size)."""
        spread = self.p * self.other
        h, size = (self.T * spread + 2 * self.zw * (lse * spread + self.p**2) for lse in (self.lse, self.lse_size))
        return self.weighed(h), self.weighed(size)
