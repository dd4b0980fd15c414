"""Type aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy.typing as npt

#: An array with what its own library gives it, in code for that library and in what a caller gets.
AnyArray: TypeAlias = Any
#: An array where the options of a call ask for it, else None: type checkers do not follow which.
ArrayIfAsked: TypeAlias = Any
#: An array of NumPy, on the host.
NDArray: TypeAlias = npt.NDArray[Any]
#: The type of ``array.device``.
Device: TypeAlias = Any
#: The type of ``array.dtype``.
DType: TypeAlias = Any


class Array(Protocol):
    """An array of any library: what the array API standard gives it, and the generic code may use.

    No number of it, which would steer Python; no assignment; no ``@``, which may round its operands; no ``device``,
    which Dask's and traced arrays lack.
    """

    @property
    def dtype(self) -> DType: ...
    @property
    def ndim(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def T(self) -> Array: ...  # noqa: N802
    def __getitem__(self, key: Any, /) -> Array: ...
    def __neg__(self) -> Array: ...
    def __invert__(self) -> Array: ...
    def __add__(self, other: Any, /) -> Array: ...
    def __radd__(self, other: Any, /) -> Array: ...
    def __sub__(self, other: Any, /) -> Array: ...
    def __rsub__(self, other: Any, /) -> Array: ...
    def __mul__(self, other: Any, /) -> Array: ...
    def __rmul__(self, other: Any, /) -> Array: ...
    def __truediv__(self, other: Any, /) -> Array: ...
    def __rtruediv__(self, other: Any, /) -> Array: ...
    def __pow__(self, other: Any, /) -> Array: ...
    def __and__(self, other: Any, /) -> Array: ...
    def __or__(self, other: Any, /) -> Array: ...
    def __lt__(self, other: Any, /) -> Array: ...
    def __le__(self, other: Any, /) -> Array: ...
    def __gt__(self, other: Any, /) -> Array: ...
    def __ge__(self, other: Any, /) -> Array: ...
    def __eq__(self, other: object, /) -> Array: ...  # type: ignore[override]
    def __ne__(self, other: object, /) -> Array: ...  # type: ignore[override]


class Namespace(Protocol):
    """A namespace of the array API standard: what is not listed here is taken for a function that gives an array."""

    __name__: str
    __array_namespace_info__: Any
    finfo: Any
    iinfo: Any
    isdtype: Any
    broadcast_arrays: Any

    def __getattr__(self, name: str, /) -> Callable[..., Array]: ...


#: The array type of an argument and of the result.
ArrayT = TypeVar("ArrayT")

Axis: TypeAlias = int | tuple[int, ...] | None
Precision: TypeAlias = Literal["high", "default"] | None
Reduction: TypeAlias = Literal["none", "sum", "mean"]
Parameters: TypeAlias = Literal["W", "bias", "X"]
Wrt: TypeAlias = Parameters | Iterable[Parameters] | None
