"""Softmax, its logarithm, the log of a sum of exponentials, and the derivatives of the first two."""

from __future__ import annotations

import math
from typing import Any

from ._namespace import Library, default_float, floating, kind, library, many_axes, mask, same_place, small
from ._precision import resolve_precision
from ._typing import Array, ArrayT, Axis, DType, Precision
from .backends._registry import run


def _merge(lib: Library, x: Array, axes: tuple[int, ...]) -> tuple[Array, int, tuple[int, ...]]:
    """``x`` with ``axes`` moved to the end and made one: (array, that axis, the order of the axes)."""
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    xp = lib.xp
    if order != tuple(range(x.ndim)):
        x = xp.permute_dims(x, order)
    kept = x.ndim - len(axes)
    size = math.prod(x.shape[kept:])
    return xp.reshape(x, (*x.shape[:kept], size)), kept, order


def _split(lib: Library, y: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """Undo ``_merge``."""
    xp = lib.xp
    y = xp.reshape(y, tuple(shape[i] for i in order))
    if order != tuple(range(len(order))):
        back = sorted(range(len(order)), key=order.__getitem__)
        y = xp.permute_dims(y, tuple(back))
    return y


def _finish(lib: Library, y: Array) -> Any:
    return y[()] if lib.scalars and y.ndim == 0 else y


def _along(function: str, x: Any, axis: Any, where: Any, dtype: DType, precision: Any) -> Any:
    lib = library(x, "x")
    x = floating(lib, x, "x", dtype)
    level = resolve_precision(precision)
    if where is not None:
        where = mask(lib, x, where)
    ndim = x.ndim
    if type(axis) is int and ndim and -ndim <= axis < ndim:
        axis %= ndim
        if x.shape[axis] == 0:
            return lib.xp.zeros_like(x)
        return run(function, lib, lib.xp, x, axis, where, level)
    axes = many_axes(axis, ndim)
    if ndim == 0:
        row = lib.xp.reshape(x, (1,))
        seen = None if where is None else lib.xp.reshape(where, (1,))
        return _finish(lib, lib.xp.reshape(run(function, lib, lib.xp, row, 0, seen, level), ()))
    if any(x.shape[i] == 0 for i in axes):
        return lib.xp.zeros_like(x)
    if len(axes) == 1:
        return run(function, lib, lib.xp, x, axes[0], where, level)
    if where is not None:
        where = _merge(lib, lib.xp.broadcast_to(where, x.shape), axes)[0]
    merged, last, order = _merge(lib, x, axes)
    return _split(lib, run(function, lib, lib.xp, merged, last, where, level), tuple(x.shape), order)


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
        What sums to 1; None is the whole array.
    where : bool array, optional
        True keeps an element, False takes it out of the sum and gives it 0. Broadcasts to ``x``.
    dtype : dtype, optional
        A real floating dtype of ``x``'s library to compute and return in.
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
    x : array
        Real numbers of any shape, in any library of the array API standard.
    axis : int, tuple of ints or None, default -1
        What the exponentials sum to 1 over; None is the whole array.
    where : bool array, optional
        True keeps an element, False takes it out of the sum and gives it -inf. Broadcasts to ``x``.
    dtype : dtype, optional
        A real floating dtype of ``x``'s library to compute and return in.
    precision : {"high", "default"}, optional
        See :func:`softgrad.precision`.

    Returns
    -------
    array
        Of ``x``'s shape, library, device and floating dtype.

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


def logsumexp(
    x: Any,
    /,
    *,
    axis: Axis = None,
    b: Any = None,
    where: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    dtype: DType = None,
    precision: Precision = None,
) -> Any:
    """Logarithm of a sum of exponentials, ``log(sum(b * exp(x)))``.

    Parameters
    ----------
    x : array
        Real or complex numbers of any shape.
    axis : int, tuple of ints or None, default None
        What to sum over; None is the whole array.
    b : array or number, optional
        Factors of the exponentials, of any sign; broadcast with ``x``. A factor of 0 takes its term out, even
        ``0 * exp(inf)``.
    where : bool array, optional
        True keeps a term. Broadcasts to ``x``.
    keepdims : bool, default False
        Whether the axes summed over stay, with size 1.
    return_sign : bool, default False
        Whether to return the sign of the sum too (for complex numbers its phase); the result is then the logarithm
        of its magnitude.
    dtype : dtype, optional
        A floating dtype of ``x``'s library to compute and return in.
    precision : {"high", "default"}, optional
        See :func:`softgrad.precision`. No effect on complex numbers.

    Returns
    -------
    array
        Of ``x``'s library, device and floating dtype, ``axis`` removed; -inf where there is nothing to sum. Without
        ``return_sign`` a negative real sum is NaN.
    sign : array
        Only with ``return_sign``: -1, 0 or 1, or a complex number of magnitude 1 (or 0).

    Raises
    ------
    TypeError
        If ``x`` is not an array or is of booleans; if ``b`` is of another library.
    AxisError
        If ``axis`` is out of range, or names an axis twice.
    ValueError
        If ``b`` or ``where`` does not broadcast to ``x``.

    Notes
    -----
    ``max + log1p(sum of the others)`` (Blanchard, Higham and Higham, 2021).

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> print(sg.logsumexp(np.asarray([1000.0, 1000.0])))
    1000.6931471805599
    >>> value, sign = sg.logsumexp(np.asarray([1.0, 0.0]), b=np.asarray([-1.0, 1.0]), return_sign=True)
    >>> print(sign)
    -1.0
    """
    lib = library(x, "x")
    xp = lib.xp
    x = floating(lib, x, "x", dtype, complex_ok=True)
    if b is not None:
        x, b = _with_factors(lib, x, b)
    where = mask(lib, x, where)
    level = resolve_precision(precision)
    shape = tuple(x.shape)
    axes = many_axes(axis, x.ndim)
    if x.ndim == 0:
        x = xp.reshape(x, (1,))
        where = None if where is None else xp.reshape(where, (1,))
        b = None if b is None else xp.reshape(b, (1,))
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    if len(axes) > 1:
        b, where = (
            None if a is None else _merge(lib, xp.broadcast_to(a, shape), axes)[0] for a in (b, where)
        )
        x, along, _ = _merge(lib, x, axes)
    else:
        along = axes[0]
    real = kind(xp, x.dtype) == "real"
    sign: Any = None
    if x.shape[along] == 0:
        # the sum of nothing takes the shape of the rows, which may be unknown to a lazy library
        nothing = xp.sum(x, axis=along, dtype=x.dtype)
        value, sign = (nothing if real else xp.real(nothing)) - math.inf, nothing
    elif not real:
        value, sign = run("complex_logsumexp", lib, xp, x, b, along, where)
    elif b is None:
        value = run("logsumexp", lib, xp, x, along, where, level)
    else:
        value, sign = run("signed_logsumexp", lib, xp, x, b, along, where, level)
    if return_sign:
        if sign is None:
            sign = xp.where(value == -math.inf, xp.zeros_like(value), xp.ones_like(value))
            sign = xp.where(xp.isnan(value), value, sign)
    elif not real:
        value = xp.astype(value, x.dtype) + _phase_log(lib, sign)
    elif sign is not None:
        value = xp.where(sign < 0, xp.zeros_like(value) + math.nan, value)
    out = tuple(kept if not keepdims else (1 if i in axes else n for i, n in enumerate(shape)))
    results = [value, sign] if return_sign else [value]
    results = [
        _finish(lib, r if tuple(r.shape) == out or not keepdims else xp.reshape(r, out)) for r in results
    ]
    return tuple(results) if return_sign else results[0]


def _phase_log(lib: Library, phase: Array) -> Array:
    """The imaginary part of the logarithm, as a complex number; 0 where the sum is 0."""
    xp = lib.xp
    safe = xp.where(phase == 0, xp.ones_like(phase), phase)
    angle = xp.imag(xp.log(safe))
    unit = xp.astype(xp.ones_like(angle), phase.dtype)
    return unit * angle * 1j


def _with_factors(lib: Library, x: Array, b: Any) -> tuple[Array, Array]:
    """``x`` and ``b`` broadcast against each other, in the floating dtype of the two."""
    xp = lib.xp
    if not hasattr(b, "dtype") or library(b, "b").xp is not xp:
        return x, xp.broadcast_to(small(lib, x, b, "b"), x.shape)
    same_place(lib, x, b, "b", "x")
    what = kind(xp, b.dtype)
    if what in ("bool", "other"):
        raise TypeError(f"b must be an array of numbers, got dtype {b.dtype}")
    if what == "integer":
        b = xp.astype(b, default_float(xp, b) if kind(xp, x.dtype) == "complex" else x.dtype)
    if kind(xp, b.dtype) == "complex" and kind(xp, x.dtype) == "real":
        x = xp.astype(x, b.dtype)
    elif b.dtype != x.dtype:
        b = xp.astype(b, x.dtype)
    try:
        x, b = xp.broadcast_arrays(x, b)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"b of shape {tuple(b.shape)} and x of shape {tuple(x.shape)} do not broadcast together"
        ) from error
    return x, b


def _derivative(function: str, first: Any, name: str, second: Any, other: str, axis: Any) -> Any:
    lib = library(first, name)
    first = floating(lib, first, name)
    same_place(lib, first, second, other, name)
    second = floating(lib, second, other)
    if tuple(second.shape) != tuple(first.shape):
        raise ValueError(f"{other} has shape {tuple(second.shape)}, {name} has {tuple(first.shape)}")
    xp = lib.xp
    axes = many_axes(axis, first.ndim)
    if first.ndim == 0:
        row = run(function, lib, xp, xp.reshape(first, (1,)), xp.reshape(second, (1,)), 0)
        return _finish(lib, xp.reshape(row, ()))
    if len(axes) == 1:
        return run(function, lib, xp, first, second, axes[0])
    merged, last, order = _merge(lib, first, axes)
    y = run(function, lib, xp, merged, _merge(lib, second, axes)[0], last)
    return _split(lib, y, tuple(first.shape), order)


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


def softmax_jvp(probs: ArrayT, tangent: ArrayT, /, *, axis: Axis = -1) -> ArrayT:
    """Push a tangent of the softmax's input forward: ``p * (t - sum(p * t))``.

    Parameters
    ----------
    probs : array
        ``softmax(x)``.
    tangent : array
        The direction in which ``x`` moves, of the same shape.
    axis : int, tuple of ints or None, default -1
        The axis that ``probs`` sums to 1 over.

    Returns
    -------
    array
        The direction in which ``probs`` moves: of its shape and dtype.

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
    >>> sg.softmax_jvp(np.asarray([0.5, 0.5]), np.asarray([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _derivative("softmax_jvp", probs, "probs", tangent, "tangent", axis)


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
    >>> sg.log_softmax_vjp(np.log(np.asarray([0.5, 0.5])), np.asarray([1.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _derivative("log_softmax_vjp", log_probs, "log_probs", cotangent, "cotangent", axis)


def log_softmax_jvp(log_probs: ArrayT, tangent: ArrayT, /, *, axis: Axis = -1) -> ArrayT:
    """Push a tangent of the log-softmax's input forward: ``t - sum(p * t)``.

    Parameters
    ----------
    log_probs : array
        ``log_softmax(x)``.
    tangent : array
        The direction in which ``x`` moves, of the same shape.
    axis : int, tuple of ints or None, default -1
        The axis that ``exp(log_probs)`` sums to 1 over.

    Returns
    -------
    array
        The direction in which ``log_probs`` moves: of its shape and dtype.

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
    >>> sg.log_softmax_jvp(np.log(np.asarray([0.5, 0.5])), np.asarray([1.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _derivative("log_softmax_jvp", log_probs, "log_probs", tangent, "tangent", axis)
