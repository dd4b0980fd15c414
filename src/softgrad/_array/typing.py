"""Type aliases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypeVar

import numpy.typing as npt

#: An array of any supported library; no common static type exists.
Array: TypeAlias = Any
#: An array of NumPy, on the host.
NDArray: TypeAlias = npt.NDArray[Any]
#: A namespace of the array API standard.
Namespace: TypeAlias = Any
#: The type of ``array.device``.
Device: TypeAlias = Any
#: The type of ``array.dtype``.
DType: TypeAlias = Any

#: The array type of an argument and of the result.
ArrayT = TypeVar("ArrayT")

Axis: TypeAlias = int | tuple[int, ...] | None
Precision: TypeAlias = Literal["high", "default"] | None
Reduction: TypeAlias = Literal["none", "sum", "mean"]
Parameters: TypeAlias = Literal["W", "bias", "X"]
Wrt: TypeAlias = Parameters | Iterable[Parameters] | None
