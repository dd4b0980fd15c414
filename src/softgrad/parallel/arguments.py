"""Check a process's arguments: where its share begins, and how arrays are reduced over the processes."""

from __future__ import annotations

from typing import Any

from .._array.labels import same_shape
from .._array.namespace import Library, check_same_library, is_array, kind
from .._array.scalars import integer
from .._array.typing import AnyArray, Array
from .._kernels.shards import TAKES, Reduce
from .._kernels.targets import index_dtype
from .._options import OPTIONS, LossArgs

#: The options of the undivided losses that are refused here.
REFUSED = ("validate", *(name for name in OPTIONS if name not in TAKES))


def first_of(lib: Library, x: Array, first_class: Any) -> Any:
    """``first_class`` as an int, or as an integer array of no dimensions that may have no value yet."""
    if is_array(first_class) and first_class.ndim == 0 and not lib.scalars:
        check_same_library(lib, x, first_class, "first_class", "the first argument")
        if kind(lib.xp, first_class.dtype) != "integer":
            raise TypeError(f"first_class must be an integer, got dtype {first_class.dtype}")
        return lib.xp.astype(first_class, index_dtype(lib.xp, x))
    first = integer(first_class, "first_class")
    if first < 0:
        raise ValueError(f"first_class must be at least 0, got {first}")
    return first


def takes(args: LossArgs, function: str) -> LossArgs:
    """``args``, or an error that names an option which the shares of a loss cannot be merged with."""
    others = args.beyond(TAKES)
    if others:
        raise TypeError(f"softgrad.parallel.{function} does not take {', '.join(others)}")
    return args


def checked(lib: Library, reduce: Any) -> Reduce:
    """``reduce``, whose answers are checked to be arrays as those that it was given."""
    if not callable(reduce):
        raise TypeError(f"reduce must be a function of an array and 'sum' or 'max', got {type(reduce).__name__}")
    return Checked(lib, reduce)


class Checked:
    """A ``reduce`` whose answers are looked at; equal where the functions are, so that a compiler knows it again."""

    def __init__(self, lib: Library, reduce: Reduce) -> None:
        self.lib, self.reduce = lib, reduce

    def __call__(self, array: AnyArray, op: str) -> AnyArray:
        """What ``reduce`` gives."""
        out = self.reduce(array, op)
        if not is_array(out):
            raise TypeError(f"reduce must give an array, got {type(out).__name__} for {op!r}")
        check_same_library(self.lib, array, out, "what reduce gives", "what it was given")
        if not same_shape(tuple(out.shape), tuple(array.shape)) or out.dtype != array.dtype:
            raise TypeError(
                f"reduce must keep shape and dtype: given {tuple(array.shape)} of {array.dtype}, it gave "
                f"{tuple(out.shape)} of {out.dtype}"
            )
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checked) and self.reduce == other.reduce

    def __hash__(self) -> int:
        return hash(self.reduce)
