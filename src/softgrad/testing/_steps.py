"""Estimates of directional derivatives, each with a bound of its own error."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._array.typing import NDArray
from ._autodiff import NotDifferentiableError
from ._ulp import epsilon


class Estimate(NamedTuple):
    """Derivatives along each direction, and how far each may be off."""

    values: NDArray
    tolerance: NDArray
    #: A size that the derivative would naturally have, for where it is 0.
    scale: float


def rounding_of(dtype: str, units: float) -> float:
    """``units`` roundings of a result relative to it, fewer in half precision, which results alone are rounded to."""
    return (units if dtype in ("float32", "float64") else units / 8) * epsilon(dtype)


def central(
    value: Callable[[NDArray, str], NDArray],
    point: NDArray,
    directions: Sequence[NDArray],
    dtype: str,
    rounded: Callable[[NDArray], NDArray],
) -> Estimate:
    """Central differences at three steps, extrapolated twice."""
    eps = epsilon(dtype)
    values, tolerances, natural = [], [], 0.0
    for direction in directions:
        moved = np.abs(direction) > 0
        step = eps**0.2 * max(1.0, float(np.max(np.abs(point[moved]), initial=0.0)) * 2**-4)
        step /= max(1.0, float(np.max(np.abs(direction), initial=0.0)))
        slopes, largest = [], 0.0
        for level in (1.0, 0.5, 0.25):
            up, down = (rounded(point + sign * level * step * direction) for sign in (1.0, -1.0))
            # the points are rounded, so the way between them is not quite the one asked for
            way = float(np.sum((up - down) * direction) / np.sum(direction * direction)) if direction.any() else 1.0
            high, low = value(up, dtype), value(down, dtype)
            largest = max(largest, float(np.max(np.abs([high, low]), initial=0.0)))
            slopes.append((high - low) / way)
        first, second = ((4 * fine - coarse) / 3 for coarse, fine in itertools.pairwise(slopes))
        best = (16 * second - first) / 15
        rounding = 6 * eps * largest * 4 / step
        # rounding of the points along many axes at once bends the way
        rounding += (
            6 * eps * float(np.max(np.abs(point), initial=0.0)) / step * float(np.max(np.abs(best), initial=0.0))
        )
        values.append(best)
        tolerances.append(rounding + np.abs(second - first))
        natural = max(natural, largest / (1.0 + float(np.max(np.abs(point), initial=0.0))))
    return Estimate(np.asarray(values), np.asarray(tolerances), natural)


def complex_step(
    value: Callable[[NDArray, str], NDArray], point: NDArray, directions: Sequence[NDArray], dtype: str
) -> Estimate:
    """Imaginary parts after an imaginary step too short to be seen otherwise."""
    step, wide = 1e-20, {"float32": "complex64", "float64": "complex128"}[dtype]
    values = []
    for direction in directions:
        try:
            result = value(point + 1j * step * direction, wide)
        except Exception as error:
            raise NotDifferentiableError(f"the function takes no complex numbers: {_line(error)}") from error
        if result.dtype.kind != "c":
            raise NotDifferentiableError("the function drops the imaginary part")
        values.append(np.imag(result) / step)
    found = np.asarray(values)
    return Estimate(found, rounding_of(dtype, 64) * np.max(np.abs(found), initial=0.0) * np.ones(found.shape), 0.0)


def exact_differences(function: Callable[[Any], Any], point: NDArray, directions: Sequence[NDArray]) -> Estimate:
    """Central differences in 60 digits of a function written for mpmath."""
    mpmath: Any = importlib.import_module("mpmath")
    with mpmath.workdps(60):
        step = mpmath.mpf("1e-20")
        here = np.asarray([mpmath.mpf(float(v)) for v in point.flat], dtype=object).reshape(point.shape)
        values = []
        for direction in directions:
            away = np.asarray([step * float(v) for v in direction.flat], dtype=object).reshape(point.shape)
            values.append(float((function(here + away) - function(here - away)) / (2 * step)))
    return Estimate(np.asarray(values), np.zeros(len(values)), 0.0)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
