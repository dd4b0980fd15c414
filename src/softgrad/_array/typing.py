"""The types that the package speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypeVar

import numpy.typing as npt

#: An array of any library of the standard; its type is known only to that library.
Array: TypeAlias = Any
#: An array of NumPy, on the host.
NDArray: TypeAlias = npt.NDArray[Any]
#: A namespace of the array API standard.
Namespace: TypeAlias = Any
#: What ``array.device`` gives.
Device: TypeAlias = Any
#: What ``array.dtype`` gives.
DType: TypeAlias = Any

#: The array type that goes in and comes out again.
ArrayT = TypeVar("ArrayT")

Axis: TypeAlias = int | tuple[int, ...] | None
Precision: TypeAlias = Literal["high", "default"] | None
Reduction: TypeAlias = Literal["none", "sum", "mean"]
Parameters: TypeAlias = Literal["W", "bias", "X"]
Wrt: TypeAlias = Parameters | Iterable[Parameters] | None
