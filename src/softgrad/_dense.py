"""Softmax, its logarithm, and their derivatives."""

from __future__ import annotations

from typing import Any

from ._array.axes import merge, split
from ._array.labels import same_shape
from ._array.namespace import as_scalar, check_same_library, floating, library, many_axes, mask
from ._array.precision import resolve_precision
from ._array.typing import ArrayT, Axis, DType, Precision
from ._docstrings import passes_on_to
from .backends._registry import run


def _along(function: str, x: Any, axis: Any, where: Any, dtype: DType, precision: Any) -> Any:
    lib = library(x, "x")
    x = floating(lib, x, "x", dtype)
    level = resolve_precision(precision)
    if where is not None:
        where = mask(lib, x, where)
    ndim = x.ndim
    axes = (axis % ndim,) if type(axis) is int and ndim and -ndim <= axis < ndim else many_axes(axis, ndim)
    if ndim == 0:
        row = lib.xp.reshape(x, (1,))
        seen = None if where is None else lib.xp.reshape(where, (1,))
        return as_scalar(lib, lib.xp.reshape(run(function, lib, lib.xp, row, 0, seen, level), ()))
    if 0 in [x.shape[i] for i in axes]:
        return lib.xp.zeros_like(x)
    if len(axes) == 1:
        return run(function, lib, lib.xp, x, axes[0], where, level)
    if where is not None:
        where = merge(lib, lib.xp.broadcast_to(where, x.shape), axes)[0]
    merged, last, order = merge(lib, x, axes)
    return split(lib, run(function, lib, lib.xp, merged, last, where, level), tuple(x.shape), order)


def softmax(
    x: ArrayT,
    /,
    *,
    axis: Axis = -1,
    where: Any = None,
    dtype: DType = None,
    precision: Precision = None,
) -> ArrayT:
    """Normalised exponentials: ``exp(x) / sum(exp(x))``.

    Parameters
    ----------
    x : array
        Real numbers of any shape, in any library of the array API standard. Integers are taken in the library's
        default floating dtype.
    axis : int, tuple of ints or None, default -1
        The axis or axes along which the result sums to 1; None is the whole array.
    where : bool array, optional
        True keeps an element, False takes it out of the sum and gives it 0. Broadcasts to ``x``.
    dtype : dtype, optional
        A real floating dtype of ``x``'s library, or its name, to compute and return in.
    precision : {"high", "default"}, optional
        See :func:`softgrad.precision`.

    Returns
    -------
    array
        Of ``x``'s shape, library and device, in ``x``'s floating dtype. float16 and bfloat16 are computed in float32.
        A row of -inf alone, or with +inf or NaN in it, is NaN; a row hidden by ``where`` is 0.

    Raises
    ------
    TypeError
        If ``x`` is not an array, or is of booleans or complex numbers.
    AxisError
        If ``axis`` is out of range, or names an axis twice.
    ValueError
        If ``where`` does not broadcast to ``x``, or ``precision`` is not known.

    Notes
    -----
    The maximum is subtracted first (Blanchard, Higham and Higham, 2021, *Accurately computing the log-sum-exp and
    softmax functions*, IMA J. Numer. Anal. 41).

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.softmax(np.asarray([[0.0, 0.0], [1000.0, 0.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return _along("softmax", x, axis, where, dtype, precision)


@passes_on_to(softmax, raises=softmax)
def log_softmax(
    x: ArrayT,
    /,
    *,
    axis: Axis = -1,
    where: Any = None,
    dtype: DType = None,
    precision: Precision = None,
) -> ArrayT:
    """Logarithm of the softmax: ``x - logsumexp(x)``, with no loss of digits at the maximum.

    Parameters
    ----------
    axis : int, tuple of ints or None, default -1
        The axis or axes along which the exponentials of the result sum to 1; None is the whole array.
    where : bool array, optional
        True keeps an element, False takes it out of the sum and gives it -inf. Broadcasts to ``x``.

    Returns
    -------
    array
        Of ``x``'s shape, library, device and floating dtype.

    Notes
    -----
    At the maximum it is ``-log1p(sum of the others)`` (Blanchard, Higham and Higham, 2021), where the usual
    ``x - max - log(sum)`` gives 0 as soon as the others are below the rounding of 1.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.log_softmax(np.asarray([40.0, 0.0]))[0].item()
    -4.248354255291589e-18
    """
    return _along("log_softmax", x, axis, where, dtype, precision)


def _derivative(function: str, first: Any, name: str, second: Any, other: str, axis: Any) -> Any:
    lib = library(first, name)
    first = floating(lib, first, name)
    check_same_library(lib, first, second, other, name)
    second = floating(lib, second, other)
    if not same_shape(tuple(second.shape), tuple(first.shape)):
        raise ValueError(f"{other} has shape {tuple(second.shape)}, {name} has {tuple(first.shape)}")
    xp = lib.xp
    axes = many_axes(axis, first.ndim)
    if first.ndim == 0:
        row = run(function, lib, xp, xp.reshape(first, (1,)), xp.reshape(second, (1,)), 0)
        return as_scalar(lib, xp.reshape(row, ()))
    if len(axes) == 1:
        return run(function, lib, xp, first, second, axes[0])
    merged, last, order = merge(lib, first, axes)
    y = run(function, lib, xp, merged, merge(lib, second, axes)[0], last)
    return split(lib, y, tuple(first.shape), order)


def softmax_vjp(probs: ArrayT, cotangent: ArrayT, /, *, axis: Axis = -1) -> ArrayT:
    """Pull a cotangent of the softmax back to its input: ``p * (c - sum(p * c))``.

    Parameters
    ----------
    probs : array
        ``softmax(x)``.
    cotangent : array
        The derivative of a scalar with respect to ``probs``, of the same shape.
    axis : int, tuple of ints or None, default -1
        The axis that ``probs`` sums to 1 over.

    Returns
    -------
    array
        The derivative with respect to ``x``: of ``probs``' shape and dtype.

    Raises
    ------
    TypeError
        If either is not an array of real numbers, or they are of two libraries.
    ValueError
        If their shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.softmax_vjp(np.asarray([0.5, 0.5]), np.asarray([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _derivative("softmax_vjp", probs, "probs", cotangent, "cotangent", axis)


@passes_on_to(softmax_vjp, raises=softmax_vjp)
def softmax_jvp(probs: ArrayT, tangent: ArrayT, /, *, axis: Axis = -1) -> ArrayT:
    """Push a tangent of the softmax's input forward: ``p * (t - sum(p * t))``.

    Parameters
    ----------
    tangent : array
        The direction in which ``x`` moves, of the same shape.

    Returns
    -------
    array
        The direction in which ``probs`` moves: of its shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.softmax_jvp(np.asarray([0.5, 0.5]), np.asarray([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _derivative("softmax_jvp", probs, "probs", tangent, "tangent", axis)


@passes_on_to(raises=softmax_vjp)
def log_softmax_vjp(log_probs: ArrayT, cotangent: ArrayT, /, *, axis: Axis = -1) -> ArrayT:
    """Pull a cotangent of the log-softmax back to its input: ``c - p * sum(c)``.

    Parameters
    ----------
    log_probs : array
        ``log_softmax(x)``.
    cotangent : array
        The derivative of a scalar with respect to ``log_probs``, of the same shape.
    axis : int, tuple of ints or None, default -1
        The axis that ``exp(log_probs)`` sums to 1 over.

    Returns
    -------
    array
        The derivative with respect to ``x``: of ``log_probs``' shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.log_softmax_vjp(np.log(np.asarray([0.5, 0.5])), np.asarray([1.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _derivative("log_softmax_vjp", log_probs, "log_probs", cotangent, "cotangent", axis)


@passes_on_to(log_softmax_vjp, raises=softmax_vjp)
def log_softmax_jvp(log_probs: ArrayT, tangent: ArrayT, /, *, axis: Axis = -1) -> ArrayT:
    """Push a tangent of the log-softmax's input forward: ``t - sum(p * t)``.

    Parameters
    ----------
    tangent : array
        The direction in which ``x`` moves, of the same shape.

    Returns
    -------
    array
        The direction in which ``log_probs`` moves: of its shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.log_softmax_jvp(np.log(np.asarray([0.5, 0.5])), np.asarray([1.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _derivative("log_softmax_jvp", log_probs, "log_probs", tangent, "tangent", axis)
