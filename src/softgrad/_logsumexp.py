"""The logarithm of a sum of exponentials."""

from __future__ import annotations

import math
import numbers
from typing import Any

from ._array.axes import merge
from ._array.namespace import (
    Library,
    as_scalar,
    check_same_library,
    floating,
    kind,
    library,
    many_axes,
    mask,
    small,
)
from ._array.precision import resolve_precision
from ._array.typing import Array, Axis, DType, Precision
from ._kernels.dense import nan_where
from .backends._registry import run


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
        ``0 * exp(inf)``; the derivative by it is still ``exp(x) / sum(b * exp(x))``, and 0 where all factors of a sum
        are 0. Floating dtypes promote each other, so that float64 factors of float32 numbers give float64.
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
        Of ``x``'s library and device, in the floating dtype of ``x`` and ``b``, ``axis`` removed; -inf where there is
        nothing to sum. Without ``return_sign`` a negative real sum is NaN.
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
    ``max + log1p(sum of the others)`` (Blanchard, Higham and Higham, 2021), for the real part of complex numbers too.

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
        x, b = _with_factors(lib, x, b, dtype)
    where = mask(lib, x, where)
    level = resolve_precision(precision)
    ndim = x.ndim
    usual = b is None and type(axis) is int and -ndim <= axis < ndim and not (keepdims or return_sign)
    if usual and x.shape[axis] and kind(xp, x.dtype) == "real":
        return as_scalar(lib, run("logsumexp", lib, xp, x, axis % ndim, where, level))
    shape = tuple(x.shape)
    axes = many_axes(axis, x.ndim)
    if x.ndim == 0:
        x = xp.reshape(x, (1,))
        where = None if where is None else xp.reshape(where, (1,))
        b = None if b is None else xp.reshape(b, (1,))
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    empty = any(x.shape[i] == 0 for i in axes)
    if len(axes) > 1 and not empty:
        b, where = (None if a is None else merge(lib, xp.broadcast_to(a, shape), axes)[0] for a in (b, where))
        x, along, _ = merge(lib, x, axes)
    else:
        along = axes[0]
    real = kind(xp, x.dtype) == "real"
    sign: Any = None
    if empty:
        # the sum of nothing takes the shape of the rows, which may be unknown to a lazy library
        nothing = xp.sum(x, axis=axes, dtype=x.dtype)
        value, sign = nothing - math.inf, nothing
    elif not real:
        value, sign = run("complex_logsumexp", lib, xp, x, b, along, where)
    elif b is None:
        value = run("logsumexp", lib, xp, x, along, where, level)
    else:
        value, sign = run("signed_logsumexp", lib, xp, x, b, along, where, level)
    if return_sign:
        if not real:
            value = xp.real(value)
        elif sign is None:
            sign = xp.where(value == -math.inf, xp.zeros_like(value), xp.ones_like(value))
            sign = xp.where(xp.isnan(value), value, sign)
    elif real and sign is not None:
        value = nan_where(xp, sign < 0, value)
    out = tuple(kept if not keepdims else (1 if i in axes else n for i, n in enumerate(shape)))
    results = [value, sign] if return_sign else [value]
    results = [as_scalar(lib, r if tuple(r.shape) == out or not keepdims else xp.reshape(r, out)) for r in results]
    return tuple(results) if return_sign else results[0]


def _with_factors(lib: Library, x: Array, b: Any, dtype: DType) -> tuple[Array, Array]:
    """``x`` and ``b`` broadcast against each other, in ``dtype`` or the floating dtype of the two."""
    xp = lib.xp
    if isinstance(b, numbers.Real):
        return x, xp.broadcast_to(small(lib, x, b, "b"), x.shape)
    check_same_library(lib, x, b, "b", "x")
    what = kind(xp, b.dtype)
    if what in ("bool", "other"):
        raise TypeError(f"b must be an array of numbers, got dtype {b.dtype}")
    # the standard leaves an integer beside a floating dtype open: here it follows, as a number does
    common = x.dtype if what == "integer" else xp.result_type(x.dtype, b.dtype)
    if dtype is not None and kind(xp, x.dtype) == kind(xp, common):
        common = dtype
    x, b = (a if a.dtype == common else xp.astype(a, common) for a in (x, b))
    try:
        x, b = xp.broadcast_arrays(x, b)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"b of shape {tuple(b.shape)} and x of shape {tuple(x.shape)} do not broadcast together"
        ) from error
    return x, b
