"""Comparing CuPy's results with NumPy's over functions, dtypes and shapes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGERS = ("int8", "uint8", "int32", "int64", "uint64")
SHAPES = ((7,), (4, 5), (3, 1), (2, 3, 70), (1, 1000), (700, 3), (0, 3), ())
# An odd axis order and a step: CuPy generates other kernels for arrays that are not contiguous
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda a: a,
    "transposed": lambda a: a.T,
    "every second": lambda a: a[::2] if a.ndim else a,
}
ELEMENTWISE = {
    "exp log1p log sqrt isfinite isnan expm1 tanh": (*FLOATS, *COMPLEX),
    "signbit rint floor": FLOATS,
    "negative abs sign square": (*FLOATS, *COMPLEX, "int32", "int64"),
    "logical_not": ("bool", *FLOATS, *INTEGERS),
    "conj real imag angle": COMPLEX,
}
REDUCTIONS = {
    "sum prod any all": ("bool", *FLOATS, *COMPLEX, *INTEGERS),
    "max min argmax argmin": ("bool", *FLOATS, *INTEGERS),
    "mean var": (*FLOATS, *COMPLEX, "int32"),
    "cumsum": ("bool", *FLOATS, *COMPLEX, *INTEGERS),
    "count_nonzero": ("bool", *FLOATS, *INTEGERS),
}
# Ratio to the size of the terms that a result is made of
TOLERANCES = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-12, "complex64": 2e-5, "complex128": 1e-12}


def sample(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Return numbers of moderate size, with both signs where the dtype has them."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.6)
    values = np.asarray(rng.standard_normal(shape) * 3)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    if np.dtype(dtype).kind == "u":
        values = abs(values)
    return np.asarray(values.astype(dtype))


def same(ours: Any, expected: Any, dtype: str, size: Any = 1) -> bool:
    """Whether CuPy's result has the dtype, the shape and, within rounding, the values of NumPy's."""
    expected = np.asarray(expected)
    if ours.dtype != expected.dtype or ours.shape != expected.shape:
        return False
    found = ours.get()
    if expected.dtype.kind in "biu":
        return bool(np.array_equal(found, expected))
    tolerance = max(TOLERANCES.get(name, 0) for name in (dtype, str(expected.dtype)))
    wide = "complex128" if expected.dtype.kind == "c" else "float64"
    found, expected = found.astype(wide), expected.astype(wide)
    with np.errstate(invalid="ignore"):
        close = abs(found - expected) <= tolerance * np.maximum(size, abs(expected))
    return bool(np.all(close | (found == expected) | (np.isnan(found) & np.isnan(expected))))


def cases() -> Iterator[tuple[str, str, Callable[[Any], Any], np.ndarray]]:
    """Yield a name, a dtype, a function of (namespace, array) and an array."""
    for table, axes in ((ELEMENTWISE, [None]), (REDUCTIONS, [None, -1, 0])):
        for (names, dtypes), shape, axis in itertools.product(table.items(), SHAPES, axes):
            for name, dtype in itertools.product(names.split(), dtypes):
                if axis is not None and not shape:
                    continue
                if name in ("max", "min", "argmax", "argmin") and 0 in shape:
                    continue
                keywords = {} if table is ELEMENTWISE else {"axis": axis}
                label = f"{name}(axis={axis})" if keywords else name
                array = sample(shape, dtype)
                if name == "prod" and array.dtype.kind in "fc":
                    # A product that overflows says nothing
                    array = array / abs(array)
                yield label, dtype, _call(name, keywords), array


def _call(name: str, keywords: dict[str, Any]) -> Callable[[Any, Any], Any]:
    return lambda xp, array: getattr(xp, name)(array, **keywords)


def disagreements(cupy: Any, start: int = 0, every: int = 1) -> tuple[int, list[str]]:
    """Run the cases and return how many there were, and a line for each result that differs from NumPy's.

    ``every`` greater than 1 takes a part of the cases only.
    """
    differing, checked = [], 0
    for label, dtype, function, array in itertools.islice(cases(), start, None, every):
        for layout, arrange in LAYOUTS.items():
            host = arrange(array)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                expected = np.asarray(function(np, host))
                if host.dtype.kind in "fc" and expected.dtype.kind in "fc":
                    # NumPy adds the rows of a float16 array in float16, and is the less accurate of the two
                    wide = function(np, host.astype("complex128" if host.dtype.kind == "c" else "float64"))
                    expected = np.asarray(wide).astype(expected.dtype)
                ours = function(cupy, arrange(cupy.asarray(array)))
            checked += 1
            # Cancellation: a sum is as accurate as its terms are large
            size = max(1.0, float(abs(host.astype("complex128")).sum())) if "sum" in label else 1.0
            if not same(ours, expected, dtype, size):
                differing.append(f"{label} of {dtype}{array.shape}, {layout}: {ours.dtype}{ours.shape}")
    return checked, differing
