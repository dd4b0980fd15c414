"""The contract that every array library and every plug-in is held to: how its clauses are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._array.libraries.declaration import dtype_name
from .._array.typing import AnyArray, NDArray
from ._host import Arrays
from ._ulp import FORMATS, assert_close

#: Digits that a result may lose, in units in its last place.
SOFTMAX_ULP = 70.0
SUM_ULP = 4.0
#: Of derivatives, whose small entries are differences of large terms: units of the largest entry.
DERIVATIVE_ULP = 64.0

LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 20.0, 0.125, 0.75]])
LABELS = np.array([2, 0, 1])
SHARES = np.array([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 1.0, 0.0], [0.125, 0.375, 0.25, 0.25]])
VECTOR = np.array([[1.0, -0.5, 0.25, 2.0], [0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 1.0, 0.0]])
SHOWN = np.array([[True, False, True, True], [True, True, True, False], [False, True, True, True]])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])
BIAS = np.array([0.25, -0.5, 0.0, 1.0])


class Skip(Exception):  # noqa: N818 - not an error
    """A clause that does not apply; the words say why."""


class Kit:
    """What a clause is given: arrays of the library, and ways to compare them.

    Attributes
    ----------
    arrays : Arrays
    wide : str
        The widest floating dtype that the device has.
    floats : tuple of str
        The floating dtypes that it has.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.xp = arrays.xp
        self.floats = tuple(name for name in FORMATS if arrays.has_dtype(name))
        if not {"float32", "float64"} & set(self.floats):
            raise TypeError(
                f"{arrays.name} cannot make an array of float32 or float64 and give it back to NumPy: pass to_numpy="
            )
        self.wide = "float64" if "float64" in self.floats else "float32"

    def put(self, data: Any, dtype: str | None = None) -> AnyArray:
        """An array of the library, in the widest floating dtype by default."""
        return self.arrays.put(data, dtype or self.wide)

    def labels(self, data: Any = LABELS, dtype: str | None = None) -> AnyArray:
        """Class indices."""
        return self.put(data, dtype or ("int64" if self.arrays.has_dtype("int64") else "int32"))

    def get(self, array: Any) -> NDArray:
        """A copy on the host."""
        return self.arrays.get(array)

    def exact(self, data: Any, dtype: str) -> NDArray:
        """``data`` rounded to ``dtype``, in float64: what a reference has to start from."""
        return self.arrays.exact(data, dtype)

    def need(self, dtype: str) -> None:
        """Skip the clause where there is no such dtype."""
        if not self.arrays.has_dtype(dtype):
            raise Skip(f"no {dtype}")

    def close(self, actual: Any, expected: Any, ulp: float, *, normwise: bool = False, what: str = "") -> None:
        """Compare in units in the last place of ``actual``'s dtype; results in half precision are rounded once."""
        name = dtype_name(actual.dtype)
        allowed = min(ulp, 2.0) if name in ("float16", "bfloat16") else ulp
        with context(what):
            host = self.get(actual)
            # bfloat16 is read as float32
            if name == "bfloat16":
                allowed *= 2.0**16
            assert_close(host, expected, ulp=allowed, normwise=normwise)

    def equal(self, actual: Any, expected: Any, what: str = "") -> None:
        """Compare entry by entry, NaN equal to NaN, within rounding of the widest dtype."""
        host, want = self.get(actual), np.asarray(expected, dtype=np.float64)
        with context(what):
            if host.shape != want.shape:
                raise AssertionError(f"shape {host.shape}, expected {want.shape}")
            np.testing.assert_allclose(host, want, rtol=1e-13 if host.dtype == np.float64 else 1e-5, atol=1e-30)

    def same_dtype(self, array: Any, dtype: str) -> None:
        """Compare the dtype of a result."""
        if dtype_name(array.dtype) != dtype:
            raise AssertionError(f"dtype {dtype_name(array.dtype)}, expected {dtype}")

    def raises(self, errors: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any]) -> None:
        """Demand one of ``errors``."""
        expected = errors if isinstance(errors, tuple) else (errors,)
        try:
            call()
        except expected:
            return
        except Exception as error:
            raise AssertionError(f"raised {type(error).__name__}: {error}") from error
        raise AssertionError(f"no {' or '.join(e.__name__ for e in expected)} was raised")


@contextmanager
def context(what: str) -> Iterator[None]:
    """Say in the error what was compared."""
    try:
        yield
    except AssertionError as error:
        text = "\n".join(line for line in str(error).splitlines() if line.strip())
        raise AssertionError(f"{what}: {text}" if what else text) from error


@dataclass(frozen=True)
class Clause:
    """One promise, and the function that holds a library to it."""

    section: str
    promise: str
    hold: Callable[[Kit], None]


CLAUSES: list[Clause] = []


def clause(section: str, promise: str) -> Callable[[Callable[[Kit], None]], Callable[[Kit], None]]:
    """Add a function to the contract."""

    def add(hold: Callable[[Kit], None]) -> Callable[[Kit], None]:
        CLAUSES.append(Clause(section, promise, hold))
        return hold

    return add
