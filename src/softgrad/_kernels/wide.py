"""Arrays of numbers in several parts, and a namespace of the functions that kernels call on them.

A kernel that is given this namespace computes as it does in float64, with twice or three times the digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._array.typing import AnyArray, Array, DType, Namespace
from . import double_double as dd
from .dense import two_sum

#: By name of a namespace: whether a value of an array may decide what is computed next.
CAN_BRANCH: dict[str, Callable[[Array], bool]] = {}


class Wide:
    """An array of numbers in parts, each an array of ``xp``'s; comparisons look at the first."""

    __slots__ = ("parts", "space")
    #: NumPy leaves operators to this class.
    __array_ufunc__ = None

    def __init__(self, space: WideNamespace, parts: dd.Number) -> None:
        self.space, self.parts = space, parts

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self.parts[0].shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self.parts[0].ndim)

    @property
    def dtype(self) -> DType:
        """The dtype of a part."""
        return self.parts[0].dtype

    @property
    def device(self) -> Any:
        """The device of the parts."""
        return getattr(self.parts[0], "device", None)

    def __getitem__(self, index: Any) -> Wide:
        return self.space.each(lambda part: part[index], self)

    def __neg__(self) -> Wide:
        return Wide(self.space, dd.negative(self.parts))

    def __add__(self, other: Any) -> Wide:
        space, b = self.space, self.space.number(other, self)
        if len(self.parts) == len(b) == 1:
            parts: dd.Number = two_sum(self.parts[0], b[0])
        else:
            parts = dd.add(self.parts, b, space.count)
        return Wide(space, dd.finite(space.xp, parts, self.parts[0] + b[0]))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Wide:
        return self + Wide(self.space, dd.negative(self.space.number(other, self)))

    def __rsub__(self, other: Any) -> Wide:
        return (-self) + other

    def __mul__(self, other: Any) -> Wide:
        space, b = self.space, self.space.number(other, self)
        parts = dd.multiply(space.xp, self.parts, b, space.count)
        return Wide(space, dd.finite(space.xp, parts, self.parts[0] * b[0]))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Wide:
        space, b = self.space, self.space.number(other, self)
        parts = dd.divide(space.xp, self.parts, b, space.count)
        return Wide(space, dd.finite(space.xp, parts, self.parts[0] / b[0]))

    def __rtruediv__(self, other: Any) -> Wide:
        return Wide(self.space, self.space.number(other, self)) / self

    def __pow__(self, power: float) -> Wide:
        if power == 2:
            return self * self
        space = self.space
        parts = space.exp(space.log(self) * power).parts
        plain = self.parts[0] ** power
        some = space.xp.logical_and(self.parts[0] > 0, plain != 0)
        return space.where(some, Wide(space, parts), Wide(space, (plain,)))

    def __lt__(self, other: Any) -> Array:
        return self.parts[0] < self.space.lead(other)

    def __le__(self, other: Any) -> Array:
        return self.parts[0] <= self.space.lead(other)

    def __gt__(self, other: Any) -> Array:
        return self.parts[0] > self.space.lead(other)

    def __ge__(self, other: Any) -> Array:
        return self.parts[0] >= self.space.lead(other)

    def __eq__(self, other: Any) -> AnyArray:
        return self.parts[0] == self.space.lead(other)

    def __ne__(self, other: Any) -> AnyArray:
        return self.parts[0] != self.space.lead(other)

    __hash__ = None  # type: ignore[assignment]


class WideNamespace:
    """The functions that kernels call; what is not named here is ``xp``'s, of arrays that are not ``Wide``."""

    __name__ = "softgrad._kernels.wide"

    def __init__(self, xp: Namespace, count: int) -> None:
        self.xp, self.count = xp, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def of(self, a: Array) -> AnyArray:
        """An array of float64 as numbers of one part."""
        return Wide(self, (a,))

    def number(self, a: Any, like: Wide) -> dd.Number:
        """The parts of an operand."""
        if isinstance(a, Wide):
            return a.parts
        return (self.xp.zeros_like(like.parts[0]) + a,) if isinstance(a, int | float) else (a,)

    def lead(self, a: Any) -> Any:
        """What an operand is to about 53 bits."""
        return a.parts[0] if isinstance(a, Wide) else a

    def each(self, function: Any, a: Wide) -> Wide:
        """A function that moves numbers about, of every part."""
        return Wide(self, tuple(function(part) for part in a.parts))

    def _moved(self, name: str, a: Any, *args: Any, **options: Any) -> Any:
        function = getattr(self.xp, name)
        if isinstance(a, Wide):
            return self.each(lambda part: function(part, *args, **options), a)
        return function(a, *args, **options)

    def _tested(self, name: str, a: Any, *args: Any, **options: Any) -> Array:
        return getattr(self.xp, name)(self.lead(a), *args, **options)

    def reshape(self, a: Any, shape: Any) -> Any:
        """As the standard's."""
        return self._moved("reshape", a, shape)

    def expand_dims(self, a: Any, *, axis: int) -> Any:
        """As the standard's."""
        return self._moved("expand_dims", a, axis=axis)

    def squeeze(self, a: Any, *, axis: int) -> Any:
        """As the standard's."""
        return self._moved("squeeze", a, axis=axis)

    def broadcast_to(self, a: Any, shape: Any) -> Any:
        """As the standard's."""
        return self._moved("broadcast_to", a, shape)

    def isfinite(self, a: Any) -> Array:
        """As the standard's."""
        return self._tested("isfinite", a)

    def isinf(self, a: Any) -> Array:
        """As the standard's."""
        return self._tested("isinf", a)

    def isnan(self, a: Any) -> Array:
        """As the standard's."""
        return self._tested("isnan", a)

    def argmax(self, a: Any, *, axis: int, keepdims: bool) -> Array:
        """As the standard's."""
        return self._tested("argmax", a, axis=axis, keepdims=keepdims)

    def zeros_like(self, a: Any, dtype: DType = None) -> Any:
        """As the standard's."""
        zeros = self.xp.zeros_like(self.lead(a), dtype=dtype)
        return self.of(zeros) if isinstance(a, Wide) and dtype is None else zeros

    def ones_like(self, a: Any) -> Any:
        """As the standard's."""
        return self.zeros_like(a) + 1

    def astype(self, a: Any, dtype: DType) -> Any:
        """As the standard's; to float64 from integers and truth values."""
        if isinstance(a, Wide):
            return a
        cast = self.xp.astype(a, dtype)
        return self.of(cast) if dtype == self.xp.float64 else cast

    def where(self, condition: Array, a: Any, b: Any) -> Any:
        """As the standard's."""
        if not (isinstance(a, Wide) or isinstance(b, Wide)):
            return self.xp.where(condition, a, b)
        like: Wide = a if isinstance(a, Wide) else b
        first, second = self.number(a, like), self.number(b, like)
        zero = (self.xp.zeros_like(like.parts[0]),)
        count = max(len(first), len(second))
        pairs = zip((first + zero * count)[:count], (second + zero * count)[:count], strict=True)
        return Wide(self, tuple(self.xp.where(condition, p, q) for p, q in pairs))

    def max(self, a: Wide, *, axis: int, keepdims: bool) -> Wide:
        """The largest, of numbers of one part."""
        return self.of(self.xp.max(a.parts[0], axis=axis, keepdims=keepdims))

    def sum(self, a: Any, *, axis: int, keepdims: bool = False, dtype: DType = None) -> Any:
        """As the standard's."""
        if not isinstance(a, Wide):
            return self.xp.sum(a, axis=axis, keepdims=keepdims, dtype=dtype)
        parts = dd.total(self.xp, a.parts, axis, self.count)
        plain = self.xp.sum(a.parts[0], axis=axis, keepdims=True, dtype=a.dtype)
        total = Wide(self, dd.finite(self.xp, parts, plain))
        return total if keepdims else self.squeeze(total, axis=axis)

    def concat(self, arrays: list[Any], *, axis: int) -> Any:
        """As the standard's."""
        count = max(len(a.parts) for a in arrays)
        zeros = [(self.xp.zeros_like(a.parts[0]),) * count for a in arrays]
        padded = [(a.parts + zero)[:count] for a, zero in zip(arrays, zeros, strict=True)]
        return Wide(self, tuple(self.xp.concat(list(parts), axis=axis) for parts in zip(*padded, strict=True)))

    def abs(self, a: Any) -> Any:
        """As the standard's."""
        return self.where(a < 0, -a, a) if isinstance(a, Wide) else self.xp.abs(a)

    def exp(self, a: Wide) -> Wide:
        """As the standard's."""
        return Wide(self, dd.exponential(self.xp, a.parts, self.count))

    def log(self, a: Wide) -> Wide:
        """As the standard's."""
        return Wide(self, dd.logarithm(self.xp, a.parts, self.count))

    def _near_zero(self, a: Wide, signs: int, divisors: tuple[int, ...], otherwise: Wide) -> Wide:
        small = self.xp.abs(a.parts[0]) < dd.SMALL
        near = Wide(self, dd.series(self.xp, self.where(small, a, 0.0).parts, signs, divisors, self.count))
        return self.where(small, near, otherwise)

    def log1p(self, a: Wide) -> Wide:
        """As the standard's."""
        return self._near_zero(a, -1, (2, 3, 4, 5, 6, 7, 8)[: 3 * self.count - 1], self.log(1 + a))

    def expm1(self, a: Wide) -> Wide:
        """As the standard's."""
        return self._near_zero(a, 1, (2, 6, 24, 120, 720, 5040, 40320)[: 3 * self.count - 1], self.exp(a) - 1)

    def tanh(self, a: Wide) -> Wide:
        """As the standard's."""
        size = self.abs(a)
        twice = self.expm1(2 * self.where(size > 100, 100.0, size))
        r = twice / (twice + 2)
        return self.where(a < 0, -r, r)
