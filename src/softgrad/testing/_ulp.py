"""Distances in units in the last place."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._array.libraries.declaration import dtype_name
from .._array.typing import NDArray
from ._host import to_host


class Format(NamedTuple):
    """Digits of the significand and the smallest normal exponent of a binary format."""

    digits: int
    smallest: int


FORMATS = {
    "float16": Format(11, -14),
    "bfloat16": Format(8, -126),
    "float32": Format(24, -126),
    "float64": Format(53, -1022),
}


def epsilon(name: str) -> float:
    """The distance from 1 to the next number of a dtype."""
    return 2.0 ** (1 - FORMATS[name].digits)


def spacing(value: float, name: str) -> float:
    """The unit in the last place of ``value`` in a dtype."""
    form = FORMATS[name]
    exponent = math.frexp(value)[1] - 1 if value and math.isfinite(value) else form.smallest
    return math.ldexp(1.0, max(exponent, form.smallest) - form.digits + 1)


def _format_of(array: Any) -> str:
    name = dtype_name(getattr(array, "dtype", "float64"))
    if name not in FORMATS:
        raise TypeError(f"actual must hold real floating numbers, got dtype {name}")
    return name


def _distance(got: float, want: Any, name: str, scale: float | None) -> float:
    near = float(want)
    if not (math.isfinite(got) and math.isfinite(near)):
        return 0.0 if got == near or (math.isnan(got) and math.isnan(near)) else math.inf
    # a reference in more digits than a float has is subtracted in its own arithmetic
    away = float(type(want)(got) - want) if not isinstance(want, float) else got - near
    return abs(away) / spacing(near if scale is None else scale, name)


def ulp_distance(actual: Any, expected: Any, *, normwise: bool = False) -> NDArray:
    """How far ``actual`` is from ``expected``, entry by entry, in units in the last place of ``actual``'s dtype.

    Parameters
    ----------
    actual : array
        Of any library, in float16, bfloat16, float32 or float64; a Python float counts as float64.
    expected : array or nested list
        Broadcasts to ``actual``'s shape. Floats, or ``decimal.Decimal`` and mpmath's ``mpf`` for references with more
        digits.
    normwise : bool, default False
        Whether to measure in units of the last entry's greatest place: those of the largest magnitude in ``expected``.

    Returns
    -------
    numpy.ndarray
        float64, of ``actual``'s shape; inf where one is NaN or infinite and the other is not the same.

    Raises
    ------
    TypeError
        If ``actual`` is not of real floating numbers.
    ValueError
        If ``expected`` does not broadcast to its shape.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad.testing import ulp_distance
    >>> ulp_distance(np.asarray([1.0, 2.0]), [1.0, 2.0 + 2**-51])
    array([0., 1.])
    """
    name = _format_of(actual)
    got = to_host(actual).astype(np.float64)
    want = to_host(expected)
    if want.dtype != object:
        want = want.astype(np.float64)
    try:
        want = np.broadcast_to(want, got.shape)
    except ValueError:
        raise ValueError(f"expected has shape {want.shape}, actual has {got.shape}") from None
    finite = [abs(float(w)) for w in want.flat if math.isfinite(float(w))]
    scale = max(finite, default=0.0) if normwise else None
    plain = want.dtype != object
    distances = [
        _distance(float(g), float(w) if plain else w, name, scale) for g, w in zip(got.flat, want.flat, strict=True)
    ]
    return np.asarray(distances, dtype=np.float64).reshape(got.shape)


def assert_close(actual: Any, expected: Any, *, ulp: float = 4.0, normwise: bool = False) -> None:
    """Raise where ``actual`` is more than ``ulp`` units in the last place from ``expected``.

    Parameters
    ----------
    actual : array
        Of any library, in float16, bfloat16, float32 or float64.
    expected : array or nested list
        Of ``actual``'s shape, or a number for all entries. Floats, or ``decimal.Decimal`` and mpmath's ``mpf``.
    ulp : float, default 4.0
        The distance allowed.
    normwise : bool, default False
        Whether the unit is that of the largest magnitude in ``expected``: for gradients, whose small entries are
        differences of large terms.

    Raises
    ------
    AssertionError
        If an entry is further away, or one is NaN or infinite where the other is not, or the shapes differ.
    TypeError
        If ``actual`` is not of real floating numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> from softgrad.testing import assert_close
    >>> assert_close(sg.softmax(np.zeros(4)), 0.25, ulp=0)
    >>> assert_close(np.float32(0.1), 0.1, ulp=1)
    """
    shape, want = tuple(to_host(actual).shape), to_host(expected)
    if want.shape not in ((), shape):
        raise AssertionError(f"shape {shape}, expected {want.shape}")
    distances = ulp_distance(actual, expected, normwise=normwise)
    if distances.size == 0 or np.max(distances) <= ulp:
        return
    place = np.unravel_index(int(np.argmax(distances)), distances.shape)
    got = to_host(actual)[place]
    index = f"[{', '.join(str(int(i)) for i in place)}]" if place else ""
    raise AssertionError(
        f"{int(np.sum(distances > ulp))} of {distances.size} entries are more than {ulp:g} ulp away; the worst, "
        f"{index or 'the value'}, is {got!s}, expected {np.broadcast_to(want, shape)[place]!s}: "
        f"{distances[place]:.3g} ulp of {_format_of(actual)}"
    )
