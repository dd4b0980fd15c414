"""What the back ends share that hand arrays of a library to the kernels of NumPy arrays."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .._array.namespace import library


@cache
def numpy_namespace() -> Any:
    """NumPy's namespace: looked up when wanted, since a trace that imports this has read what is known of libraries."""
    return library(np.empty(0), "x").xp


def is_high(args: tuple[Any, ...]) -> bool:
    """Whether the arguments of a kernel ask for ``precision="high"``."""
    return any(getattr(a, "precision", a) == "high" for a in args if isinstance(a, (str, tuple)))
