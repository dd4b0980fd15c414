"""Check scalar options."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np


def number(value: Any, name: str, low: float, high: float = math.inf) -> float:
    """``value`` as a float between ``low`` and ``high``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = " (an array; float() makes a number of it, where it is not traced)" if hasattr(value, "shape") else ""
        raise TypeError(f"{name} must be a number, got {value!r}{hint}")
    result = float(value)
    if not low <= result <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value!r}")
    return result


def positive(value: Any, name: str) -> float:
    """``value`` as a finite float above 0."""
    result = number(value, name, 0.0)
    if not 0.0 < result < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return result


def integer(value: Any, name: str, what: str = "an int") -> int:
    """``value`` as an int; anything with ``__index__`` except bool."""
    try:
        # to NumPy 2.0 its own bool is an index, with a warning
        if isinstance(value, (bool, np.bool)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {what}, got {value!r}") from None


def one_of(value: Any, name: str, known: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``known``."""
    if value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}")
    return str(value)
