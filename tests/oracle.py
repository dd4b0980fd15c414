"""Slow references in multiprecision: the loss from its formula, every derivative by finite differences of it.

Nothing here knows a closed form of a gradient: a derivative is a central difference of the loss in 80 digits
with a step of 1e-20, so that it shares no algebra with the code under test.
"""

import functools

import mpmath
import numpy as np

DIGITS = 80
STEP = mpmath.mpf("1e-20")


def _precise(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with mpmath.workdps(DIGITS):
            return function(*args, **kwargs)

    return wrapper


def _remembered(function):
    """The function, each value computed once: of a row, a finite difference moves one logit."""
    values = {}

    def wrapper(x):
        # the tuple that a number of mpmath is, and not the number: that one's hash takes long
        key = x._mpf_, mpmath.mp.prec
        if key not in values:
            if len(values) > 10_000:
                values.clear()
            values[key] = function(x)
        return values[key]

    return wrapper


_exp, _tanh = map(_remembered, (mpmath.exp, mpmath.tanh))


def exact(array):
    """Every entry as the mpf that it stands for."""
    array = np.asarray(array)
    out = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        entry = array[index]
        out[index] = entry if isinstance(entry, mpmath.mpf) else mpmath.mpf(float(entry))
    return out


def rounded(array):
    """Float64 of an array of mpf."""
    array = np.asarray(array, dtype=object)
    return np.array([float(entry) for entry in array.ravel()], dtype=np.float64).reshape(array.shape)


# --------------------------------------------------------------------------- dense


def _rows(x, axis, where):
    """The reduced axes merged into a last one; (rows, masks, function that puts rows back)."""
    x = np.asarray(x)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(a % x.ndim for a in axes) if x.ndim else ()
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    order = kept + axes
    mask = np.broadcast_to(np.asarray(True if where is None else where), x.shape)
    moved = np.transpose(x, order)
    outer = moved.shape[: len(kept)]
    shape = (*outer, moved.size // max(1, int(np.prod(outer))))
    rows, masks = moved.reshape(shape), np.transpose(mask, order).reshape(shape)

    def back(values):
        return np.transpose(values.reshape(moved.shape), np.argsort(order))

    return rows, masks, back


@_precise
def logsumexp(x, axis=None, b=None, where=None):
    """mpf: log Σ b exp(x) over the allowed entries; b must make every sum positive."""
    x = exact(x)
    weights = np.ones(x.shape, dtype=object) if b is None else exact(np.broadcast_to(b, x.shape))
    rows, masks, _ = _rows(x, axis, where)
    factors, _, _ = _rows(weights, axis, None)
    out = np.empty(rows.shape[:-1], dtype=object)
    for index in np.ndindex(out.shape):
        terms = [
            (value, factor)
            for value, factor, allowed in zip(rows[index], factors[index], masks[index], strict=True)
            if allowed and factor != 0
        ]
        terms.sort(key=lambda term: term[0], reverse=True)
        if not terms or mpmath.isinf(terms[0][0]):
            out[index] = terms[0][0] if terms else mpmath.mpf("-inf")
            continue
        (top, first), *rest = terms
        others = mpmath.fsum(factor / first * mpmath.exp(value - top) for value, factor in rest)
        out[index] = top + mpmath.log(first) + mpmath.log1p(others)
    return out


@_precise
def softmax(x, axis=-1, where=None, log=False):
    """mpf: the softmax, or with `log` its logarithm."""
    rows, masks, back = _rows(exact(x), axis, where)
    out = np.empty(rows.shape, dtype=object)
    for index in np.ndindex(rows.shape[:-1]):
        row = list(zip(rows[index], masks[index], strict=True))
        total = mpmath.fsum(_exp(value) for value, allowed in row if allowed)
        for j, (value, allowed) in enumerate(row):
            if not allowed:
                out[(*index, j)] = mpmath.mpf("-inf") if log else mpmath.mpf(0)
            elif log:
                # through log1p, so that what lies beyond the digits of the largest term still counts
                others = (mpmath.exp(other - value) for i, (other, a) in enumerate(row) if a and i != j)
                out[(*index, j)] = -mpmath.log1p(mpmath.fsum(others))
            else:
                out[(*index, j)] = _exp(value) / total
    return back(out)


# --------------------------------------------------------------------------- the loss of one sample


class _Row:
    """One sample's loss as a function of its logits."""

    def __init__(self, q, allowed, class_weight, label_smoothing, z_loss, sample_weight, focal=0.0, scaled=lambda x: x):
        count = sum(bool(a) for a in allowed)
        eps, total = mpmath.mpf(label_smoothing), mpmath.fsum(q)
        self.allowed = [bool(a) for a in allowed]
        self.sample_weight, self.z_loss = sample_weight, mpmath.mpf(z_loss)
        self.focal, self.scaled = mpmath.mpf(focal), scaled
        self.targets = [
            w * ((1 - eps) * q_c + (eps * total / count if a else 0))
            for q_c, a, w in zip(q, self.allowed, class_weight, strict=True)
        ]
        self.weight = mpmath.fsum(w * q_c for w, q_c in zip(class_weight, q, strict=True))
        self.counting = [i for i, t in enumerate(self.targets) if t != 0]

    def __call__(self, x):
        x = self.scaled(x)
        lse = mpmath.log(mpmath.fsum(_exp(v) for v, a in zip(x, self.allowed, strict=True) if a))
        out = mpmath.mpf(0)
        for i in self.counting:
            log_p = x[i] - lse if self.allowed[i] else mpmath.mpf("-inf")
            out -= self.targets[i] * log_p * ((1 - mpmath.exp(log_p)) ** self.focal if self.focal else 1)
        return self.sample_weight * (out + self.z_loss * self.weight * lse**2)


def _moved(x, j, h):
    x = list(x)
    x[j] += h
    return x


def _gradient(f, x):
    return [(f(_moved(x, j, STEP)) - f(_moved(x, j, -STEP))) / (2 * STEP) for j in range(len(x))]


def _hessian_diag(f, x):
    h, here = STEP, f(x)
    return [(f(_moved(x, j, h)) - 2 * here + f(_moved(x, j, -h))) / h**2 for j in range(len(x))]


def _hvp(f, x, d):
    h = STEP
    ahead = [v + h * e for v, e in zip(x, d, strict=True)]
    behind = [v - h * e for v, e in zip(x, d, strict=True)]
    return [(p - m) / (2 * h) for p, m in zip(_gradient(f, ahead), _gradient(f, behind), strict=True)]


class Reference:
    """What cross_entropy must return, in mpf; samples first, classes last, moved back by the properties."""

    def __init__(self, losses, rows, weights, axis):
        self._losses, self._rows, self._weights, self._axis = losses, rows, weights, axis

    def total_weight(self):
        return mpmath.fsum(self._weights.ravel())

    def _scale(self, reduction):
        if reduction != "mean":
            return mpmath.mpf(1)
        total = self.total_weight()
        return 1 / total if total != 0 else mpmath.mpf(0)

    def value(self, reduction="mean"):
        if reduction == "none":
            return self._losses
        return np.asarray(mpmath.fsum(self._losses.ravel()) * self._scale(reduction), dtype=object)

    def _array(self, name, reduction):
        return np.moveaxis(self._rows[name] * self._scale(reduction), -1, self._axis)

    def grad(self, reduction="mean"):
        return self._array("grad", reduction)

    def hessian_diag(self, reduction="mean"):
        return self._array("hessian_diag", reduction)

    def hvp(self, reduction="mean"):
        return self._array("hvp", reduction)


@_precise
def cross_entropy(
    logits,
    labels,
    *,
    axis=-1,
    label_smoothing=0.0,
    class_weight=None,
    sample_weight=None,
    ignore_index=None,
    z_loss=0.0,
    softcap=None,
    temperature=1.0,
    logit_shift=None,
    focal=0.0,
    where=None,
    vector=None,
    orders=("grad", "hessian_diag", "hvp"),
):
    """A Reference: value, gradient, diagonal of the Hessian and Hessian times `vector`."""
    logits = exact(logits)
    labels = np.asarray(labels)
    dense = labels.ndim == logits.ndim
    x = np.moveaxis(logits, axis, -1)
    mask = np.moveaxis(np.broadcast_to(np.asarray(True if where is None else where), logits.shape), axis, -1)
    k, samples = x.shape[-1], x.shape[:-1]
    cw = [mpmath.mpf(1)] * k if class_weight is None else list(exact(class_weight))
    sw = exact(np.broadcast_to(1.0 if sample_weight is None else sample_weight, samples))
    q = np.moveaxis(exact(labels), axis, -1) if dense else None
    d = np.moveaxis(exact(vector), axis, -1) if vector is not None else None
    shift = [mpmath.mpf(0)] * k if logit_shift is None else list(exact(logit_shift))

    def scaled(x):
        if softcap is not None:
            x = [softcap * _tanh(value / softcap) for value in x]
        if temperature == 1.0 and logit_shift is None:
            return x
        return [value / mpmath.mpf(temperature) + added for value, added in zip(x, shift, strict=True)]

    losses, weights = np.empty(samples, dtype=object), np.empty(samples, dtype=object)
    names = [name for name in orders if name != "hvp" or d is not None]
    rows = {name: np.empty(x.shape, dtype=object) for name in names}
    for i in np.ndindex(samples):
        target, dead = None, False
        if dense:
            target = list(q[i])
        elif ignore_index is not None and int(labels[i]) == ignore_index:
            dead = True
        elif 0 <= int(labels[i]) < k:
            target = [mpmath.mpf(c == int(labels[i])) for c in range(k)]
        if dead or sw[i] == 0 or not any(mask[i]):
            losses[i] = weights[i] = mpmath.mpf(0)
            for name in names:
                rows[name][i] = [mpmath.mpf(0)] * k
            continue
        if target is None:
            losses[i] = weights[i] = mpmath.mpf("nan")
            for name in names:
                rows[name][i] = [mpmath.mpf("nan")] * k
            continue
        f = _Row(target, mask[i], cw, label_smoothing, z_loss, sw[i], focal, scaled)
        here = list(x[i])
        losses[i], weights[i] = f(here), sw[i] * f.weight
        if "grad" in names:
            rows["grad"][i] = _gradient(f, here)
        if "hessian_diag" in names:
            rows["hessian_diag"][i] = _hessian_diag(f, here)
        if "hvp" in names:
            rows["hvp"][i] = _hvp(f, here, list(d[i]))
    return Reference(losses, rows, weights, axis)


# --------------------------------------------------------------------------- the linear model


@_precise
def linear(X, labels, W, bias=None, *, sample_axis=0, l2=0.0, reduction="mean", sample_weight=None, **options):
    """mpf: the value of the linear model's loss, from its logits written out."""
    X, W, labels = exact(X), exact(W), np.asarray(labels)
    if sample_axis == 1:
        X, W = X.T, W.T
        labels = labels.T if labels.ndim == 2 else labels
    logits = X @ W.T
    if bias is not None:
        logits = logits + exact(bias)
    reference = cross_entropy(logits, labels, sample_weight=sample_weight, orders=(), **options)
    value = reference.value(reduction)
    penalty = mpmath.mpf(l2) / 2 * mpmath.fsum(w**2 for w in W.ravel())
    return np.asarray(value + penalty, dtype=object)


@_precise
def derivative(f, arguments, name, direction=None):
    """mpf: gradient of f(**arguments) by `name`; with `direction` (a dict) the gradient's change along it."""
    if direction is not None:
        moved = []
        for sign in (1, -1):
            there = dict(arguments)
            for key, d in direction.items():
                there[key] = exact(arguments[key]) + sign * STEP * exact(d)
            moved.append(derivative(f, there, name))
        return (moved[0] - moved[1]) / (2 * STEP)
    base = exact(arguments[name])
    out = np.empty(base.shape, dtype=object)
    for index in np.ndindex(base.shape):
        values = []
        for sign in (1, -1):
            there = base.copy()
            there[index] += sign * STEP
            values.append(f(**{**arguments, name: there}))
        out[index] = np.asarray(values[0] - values[1], dtype=object).item() / (2 * STEP)
    return out


# --------------------------------------------------------------------------- comparing

_BITS = {"float16": (11, -14), "bfloat16": (8, -126), "float32": (24, -126), "float64": (53, -1022)}


@_precise
def ulps(actual, reference, dtype):
    """The largest distance, in units of the last place of `dtype` at the exact value."""
    digits, smallest = _BITS[dtype]
    actual = np.asarray(actual).astype(np.float64)
    reference = np.asarray(reference, dtype=object)
    assert actual.shape == reference.shape, f"shape {actual.shape}, expected {reference.shape}"
    worst = mpmath.mpf(0)
    for index in np.ndindex(actual.shape):
        value, got = reference[index], float(actual[index])
        if not np.isfinite(got):
            if mpmath.isnan(value) and np.isnan(got):
                continue
            if mpmath.isinf(value) and got == float(value):
                continue
            return float("inf")
        if value == 0:
            if got != 0:
                return float("inf")
            continue
        exponent = max(int(mpmath.floor(mpmath.log(abs(value), 2))), smallest)
        worst = max(worst, abs(mpmath.mpf(got) - value) / mpmath.mpf(2) ** (exponent - digits + 1))
    return float(worst)


# --------------------------------------------------------------------------- asking the loss everything


def every_order(loss, logits, labels, vector, **arguments):
    """All that a loss object computes, by name: (array, the method of Reference that it must equal)."""
    value, gradient = loss.value_and_grad(logits, labels, **arguments)
    return {
        "value": (loss(logits, labels, **arguments), "value"),
        "grad": (loss.grad(logits, labels, **arguments), "grad"),
        "value of value_and_grad": (value, "value"),
        "grad of value_and_grad": (gradient, "grad"),
        "hvp": (loss.hvp(logits, labels, vector, **arguments), "hvp"),
        "hessian_diag": (loss.hessian_diag(logits, labels, **arguments), "hessian_diag"),
    }
