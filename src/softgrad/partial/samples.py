"""Shares of the samples: partial results of the linear model."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from .._array.namespace import Library, as_scalar, check_same_library, floating, ignore_fp_warnings, library
from .._array.typing import AnyArray, Array, ArrayT, Namespace
from .._docstrings import passes_on_to
from .._kernels.dense import narrow
from .._kernels.linear import BlockedLinear
from .._kernels.loss import divided
from ..backends._parameters import on_parameters
from ..backends._registry import run
from ..linear.functions import DataOptions, linear_cross_entropy
from ..linear.model import LinearCrossEntropy
from ..linear.penalty import on_gradient, on_value


class LinearPartial(NamedTuple):
    """What a share of the samples adds to the loss of the linear model.

    Attributes
    ----------
    loss : array
        0-d: the sum of the weighted losses.
    grad : array or tuple of arrays
        The sum of their gradients with respect to W, with a bias to (W, bias).
    weight : array
        0-d: the sum of sample weight times class weight over the samples not ignored, which a mean divides by.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> partial.LinearPartial(np.asarray(1.5), np.zeros((2, 2)), np.asarray(3.0)).weight
    array(3.)
    """

    loss: AnyArray
    grad: Any
    weight: AnyArray


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.value, without=("l2", "reduction"), raises=linear_cross_entropy)
def linear_partial(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[DataOptions]
) -> LinearPartial:
    """What a share of the samples adds to :func:`softgrad.linear_cross_entropy` and its gradient.

    It takes the share's samples and all of the coefficients; ``l2`` and ``reduction`` are for :func:`finish`.

    Returns
    -------
    LinearPartial
        Arrays of X's library and device, in X's dtype; in float32 where that is narrower.

    Raises
    ------
    TypeError
        For ``l2`` and ``reduction``.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> X, labels, W = np.eye(3), np.asarray([0, 1, 1]), np.zeros((2, 3))
    >>> parts = [partial.linear_partial(X[rows], labels[rows], W) for rows in (slice(0, 1), slice(1, 3))]
    >>> value, grad = partial.finish(partial.merge(*parts))
    >>> print(value.round(6))
    0.693147
    """
    for name, why in (("l2", "finish applies it"), ("reduction", "a partial result is a sum, finish makes the mean")):
        if name in options:
            raise TypeError(f"linear_partial has no option {name!r}: {why}")
    loss, W, bias = summed(X, labels, W, bias, dict(options))
    value, grad = loss.value_and_grad(W, bias)
    return LinearPartial(value, grad, weight_of(loss, W, bias))


def summed(
    X: Any, labels: Any, W: Any, bias: Any, options: dict[str, Any]
) -> tuple[LinearCrossEntropy, AnyArray, AnyArray]:
    """(the loss as a sum, W, bias) of a share, in float32 where X is narrower: a sum soon outgrows half precision."""
    loss = LinearCrossEntropy(X, labels, reduction="sum", **options)
    xp = loss._lib.xp
    if xp.finfo(loss._like.dtype).bits < 32:
        loss = LinearCrossEntropy(xp.astype(X, xp.float32), labels, reduction="sum", **options)
        W, bias = xp.astype(W, xp.float32), None if bias is None else xp.astype(bias, xp.float32)
    return loss, W, bias


def weight_of(loss: LinearCrossEntropy, W: Any, bias: Any) -> Array:
    """The sum of sample weight times class weight over the samples that count, 0-d."""
    lib = loss._lib
    weights, intercept, args = loss._parameters(W, bias)
    args = args._replace(reduction="mean", precision=None)
    with ignore_fp_warnings(lib):
        mean = BlockedLinear(lib.xp, loss._X, weights, intercept, args, loss.block_size)
        weight: AnyArray = run("total_weight", lib, lib.xp, mean.logits_like(), args) if lib.chunked else mean.divisor()
        return as_scalar(lib, narrow(lib.xp, weight, weights.dtype))


def add(xp: Namespace, a: Array, b: Array) -> Array:
    """``a + b``."""
    return a + b


def mean(xp: Namespace, total: Array, weight: Array) -> Array:
    """``total / weight``; 0 where the weight is 0."""
    return divided(xp, xp.asarray(total), xp.asarray(weight))


def merge_samples(a: LinearPartial, b: LinearPartial) -> LinearPartial:
    """The sums of two disjoint shares."""
    if isinstance(a.grad, tuple) != isinstance(b.grad, tuple):
        raise TypeError("merge takes partial results that all have a bias, or none")
    lib = library(a.loss, "a partial result")
    if isinstance(a.grad, tuple):
        grad: Any = tuple(on_parameters(lib, add, pair) for pair in zip(a.grad, b.grad, strict=True))
    else:
        grad = on_parameters(lib, add, (a.grad, b.grad))
    return LinearPartial(on_parameters(lib, add, (a.loss, b.loss)), grad, on_parameters(lib, add, (a.weight, b.weight)))


def mean_of(lib: Library, part: LinearPartial, W: Any, l2: float) -> tuple[Array, Any]:
    """The mean loss and its gradient, with the penalty."""
    single = not isinstance(part.grad, tuple)
    weight = lib.xp.asarray(part.weight)
    value = on_parameters(lib, mean, (lib.xp.asarray(part.loss), weight))
    grads = [on_parameters(lib, mean, (g, weight)) for g in ((part.grad,) if single else part.grad)]
    if l2:
        check_same_library(lib, grads[0], W, "W", "the gradient")
        W = narrow(lib.xp, floating(lib, W, "W"), grads[0].dtype)
        value, grads[0] = on_value(lib, value, W, l2), on_gradient(lib, grads[0], W, l2)
    return as_scalar(lib, value), grads[0] if single else tuple(grads)
