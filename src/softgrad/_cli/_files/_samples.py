"""Samples as float64, none of whose values is lost on the way to float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._errors import UsageError
from .._problem import exponents
from ._table import Source

#: The code of a missing value in Stata, 2 ** 1023, and whatever is larger.
_CODE = 2.0**1023
#: A value smaller than its column's largest by this factor has fewer digits in float32, or none.
_RANGE = -int(np.finfo(np.float32).minexp)


def samples(source: Source) -> npt.NDArray[np.float64]:
    """The samples of a source.

    Raises
    ------
    UsageError
        Values are not finite, are codes of missing values, or are so far apart that float32 cannot hold both.
    """
    X = source.X
    if 0 in X.shape:
        raise UsageError(f"holds no samples or no attributes: X has the shape {X.shape}")
    with np.errstate(over="ignore"):
        wide = X.astype(np.float64)
    _refuse(source, wide, ~np.isfinite(wide), "values that are not finite numbers of float64")
    _refuse(source, wide, np.abs(wide) >= _CODE, "values from 2^1023 on, Stata's codes for missing ones")
    size = np.abs(wide)
    least = np.ldexp(1.0, np.maximum(exponents(wide) - _RANGE, -1074))
    lost = (size < least) & (X != 0)
    if lost.any():
        row, column = np.argwhere(lost)[0]
        top = int(np.argmax(size[:, column]))
        raise UsageError(
            f"{source.row(row)}: {source.columns[column]} holds {X[row, column]!s}, {source.row(top)} has "
            f"{wide[top, column]}: too far apart for float32, in which the check is done too"
        )
    return wide


def _refuse(source: Source, X: npt.NDArray[np.float64], bad: npt.NDArray[Any], words: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UsageError(
            f"{source.row(row)}: {source.columns[column]} holds {source.X[row, column]!s}; {words}: {np.sum(bad)}"
        )
