"""Which parameters and which classes a derivative of the linear model is asked for."""

from __future__ import annotations

from typing import Any

from ._typing import Wrt

NAMES = ("W", "bias", "X")


def names_of(wrt: Wrt, bias: Any, allowed: tuple[str, ...] = NAMES) -> tuple[tuple[str, ...], bool]:
    """(The parameters to differentiate by, whether the answer is a single array)."""
    if wrt is None:
        return ("W",) if bias is None else ("W", "bias"), bias is None
    single = isinstance(wrt, str)
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in names:
        if name not in allowed:
            raise ValueError(f"wrt must name some of {allowed}, got {name!r}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"wrt must name each of its parameters once, got {wrt!r}")
    if "bias" in names and bias is None:
        raise ValueError("wrt names the bias, but bias is None")
    return names, single


def columns_of(classes: Any, count: int) -> tuple[int, ...] | None:
    """The classes asked for, counted from the front."""
    if classes is None:
        return None
    columns = []
    for i in classes:
        if isinstance(i, bool) or not hasattr(i, "__index__"):
            raise TypeError(f"classes must be ints, got {i!r}")
        if not -count <= i < count:
            raise IndexError(f"classes names {i!r}: there are {count} classes")
        columns.append(int(i) % count)
    if not columns:
        raise ValueError("classes must name at least one class")
    return tuple(columns)
