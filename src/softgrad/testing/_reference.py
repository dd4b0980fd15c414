"""The formulas in eighty decimal digits; every derivative is a difference of them, no closed form of one is used."""

from __future__ import annotations

import decimal
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._array.typing import NDArray

STEP = Decimal("1e-20")
_CONTEXT = decimal.Context(prec=80, Emin=-(10**6), Emax=10**6, traps=[decimal.InvalidOperation])
_F = TypeVar("_F", bound=Callable[..., Any])
# a difference alters one entry: most of what the next one needs has been computed
_exp, _ln = functools.lru_cache(1 << 12)(Decimal.exp), functools.lru_cache(1 << 12)(Decimal.ln)


def _precise(function: _F) -> _F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with decimal.localcontext(_CONTEXT):
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def exact(host: Any) -> NDArray:
    """Every entry as an exact Decimal."""
    host = np.asarray(host)
    out = np.empty(host.shape, dtype=object)
    for place in np.ndindex(host.shape):
        entry = host[place]
        out[place] = entry if isinstance(entry, Decimal) else Decimal(float(entry))
    return out


def _lse(row: list[Decimal]) -> Decimal:
    top = max(row)
    return top + _ln(sum((_exp(value - top) for value in row), Decimal(0)))


@_precise
def logsumexp(x: Any, b: Any = None) -> NDArray:
    """Logarithm of the sum of exponentials over the last axis, of the magnitude with factors ``b``."""
    x = exact(x)
    if b is None:
        return _by_row(_lse, x)
    factors = exact(np.broadcast_to(b, x.shape))
    out = np.empty(x.shape[:-1], dtype=object)
    for place in np.ndindex(out.shape):
        total = sum((f * _exp(v) for f, v in zip(factors[place], x[place], strict=True)), Decimal(0))
        out[place] = _ln(abs(total))
    return out


@_precise
def log_softmax(x: Any) -> NDArray:
    """Logarithm of the softmax over the last axis."""
    x = exact(x)
    return x - _by_row(_lse, x)[..., None]


@_precise
def softmax(x: Any) -> NDArray:
    """Softmax over the last axis."""
    logs = log_softmax(x)
    return np.asarray([_exp(value) for value in logs.flat], dtype=object).reshape(logs.shape)


def _by_row(function: Callable[[list[Decimal]], Decimal], x: NDArray) -> NDArray:
    out = np.empty(x.shape[:-1], dtype=object)
    for place in np.ndindex(out.shape):
        out[place] = function(list(x[place]))
    return out


class Options(NamedTuple):
    """What changes a loss; arrays on the host."""

    label_smoothing: float = 0.0
    class_weight: Any = None
    sample_weight: Any = None
    ignore_index: int | None = None
    z_loss: float = 0.0
    where: Any = None
    softcap: float | None = None
    temperature: float = 1.0
    logit_shift: Any = None
    focal: float = 0.0


def _scaled(x: Any, options: Options) -> Any:
    """The logits after softcap, temperature and shift."""
    if options.softcap is not None:
        cap = Decimal(options.softcap)
        powers = [_exp(2 * a / cap) for a in x.ravel()]
        x = np.array([cap * (a - 1) / (a + 1) for a in powers], dtype=object).reshape(x.shape)
    x = x / Decimal(options.temperature)
    return x if options.logit_shift is None else x + exact(options.logit_shift)


@_precise
def losses(x: Any, labels: Any, options: Options = Options()) -> tuple[NDArray, Decimal]:  # noqa: B008 - immutable
    """(the loss of each sample, what the mean divides by) of logits ``(n, k)`` and their labels."""
    x, labels = _scaled(exact(x), options), np.asarray(labels)
    n, k = x.shape
    smoothing, z, focal = (Decimal(a) for a in (options.label_smoothing, options.z_loss, options.focal))
    by_class = exact(np.ones(k) if options.class_weight is None else options.class_weight)
    by_sample = exact(np.ones(n) if options.sample_weight is None else options.sample_weight)
    shown = np.broadcast_to(np.asarray(True if options.where is None else options.where), (n, k))
    out, total = np.full(n, Decimal(0), dtype=object), Decimal(0)
    for i in range(n):
        if by_sample[i] == 0 or (labels.ndim == 1 and labels[i] == options.ignore_index):
            continue
        target = exact(labels[i] if labels.ndim == 2 else np.arange(k) == labels[i])
        weight = sum(by_class * target, Decimal(0))
        allowed = [c for c in range(k) if shown[i, c]]
        if not allowed:
            continue
        spread = smoothing * sum(target, Decimal(0)) / len(allowed)
        smooth = {c: by_class[c] * ((1 - smoothing) * target[c] + spread) for c in allowed}
        lse = _lse([x[i, c] for c in allowed])
        costs = {c: lse - x[i, c] for c in smooth}
        if focal:
            costs = {c: cost * (1 - _exp(-cost)) ** focal for c, cost in costs.items()}
        out[i] = by_sample[i] * (sum(v * costs[c] for c, v in smooth.items()) + z * weight * lse * lse)
        total += by_sample[i] * weight
    return out, total


@_precise
def loss(x: Any, labels: Any, options: Options = Options(), reduction: str = "mean") -> Decimal:  # noqa: B008
    """The reduced loss, "sum" or "mean"."""
    each, total = losses(x, labels, options)
    value = sum(each, Decimal(0))
    return value if reduction == "sum" or total == 0 else value / total


@_precise
def divergence(x: Any, y: Any, beta: float = 0.0, temperature: float = 1.0) -> Decimal:
    """The mean over rows of KL(softmax(y) || softmax(x)), with ``beta`` 1 the other way, between them of JS."""
    ours, theirs = (softmax(exact(a) / Decimal(temperature)) for a in (x, y))
    b, value = Decimal(beta), Decimal(0)
    for p, q in zip(ours, theirs, strict=True):
        m = [p, q][beta == 1] if beta in (0, 1) else [b * j + (1 - b) * i for i, j in zip(p, q, strict=True)]
        to_q = sum(((j * _ln(j / k)) for j, k in zip(q, m, strict=True)), Decimal(0))
        to_p = sum(((i * _ln(i / k)) for i, k in zip(p, m, strict=True)), Decimal(0))
        value += to_q + to_p if beta in (0, 1) else b * to_q + (1 - b) * to_p
    return value / len(ours)


@_precise
def gradient(function: Callable[[NDArray], Decimal], x: Any) -> NDArray:
    """Central differences of a scalar ``function``, right to some 40 digits."""
    x = exact(x)
    out = np.empty(x.shape, dtype=object)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += STEP
        down[place] -= STEP
        out[place] = (function(up) - function(down)) / (2 * STEP)
    return out


@_precise
def hvp(function: Callable[[NDArray], Decimal], x: Any, vector: Any) -> NDArray:
    """Mixed second differences of a scalar ``function`` along ``vector`` and each axis."""
    x, along = exact(x), exact(vector) * STEP
    out = np.empty(x.shape, dtype=object)
    for place in np.ndindex(x.shape):
        step = np.full(x.shape, Decimal(0), dtype=object)
        step[place] = STEP
        corners = function(x + along + step) - function(x + along - step)
        corners -= function(x - along + step) - function(x - along - step)
        out[place] = corners / (4 * STEP * STEP)
    return out


@_precise
def hessian_diag(function: Callable[[NDArray], Decimal], x: Any) -> NDArray:
    """Second differences of a scalar ``function`` along each axis."""
    x = exact(x)
    out, middle = np.empty(x.shape, dtype=object), function(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += STEP
        down[place] -= STEP
        out[place] = (function(up) - 2 * middle + function(down)) / (STEP * STEP)
    return out


@_precise
def linear_loss(
    X: Any,
    labels: Any,
    W: Any,
    bias: Any = None,
    options: Options = Options(),  # noqa: B008
    reduction: str = "mean",
    l2: float = 0.0,
) -> Decimal:
    """The reduced loss of the linear model, samples ``(n, m)``, weights ``(k, m)``, with its penalty."""
    X, W = exact(X), exact(W)
    logits = X @ W.T
    if bias is not None:
        logits = logits + exact(bias)
    return loss(logits, labels, options, reduction) + Decimal(l2) / 2 * sum((W * W).flat, Decimal(0))


@_precise
def product(a: Any, b: Any) -> Decimal:
    """The sum of the products of two arrays' entries."""
    return sum((exact(a) * exact(b)).flat, Decimal(0))
