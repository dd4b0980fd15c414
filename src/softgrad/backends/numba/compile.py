"""Functions compiled by numba, kept on disk until any module of compiled functions changes.

What numba keeps of a function holds the functions that it calls, but its own file alone is looked at.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.ccallback import CFunc


@cache
def _digest() -> str:
    """Of the source of all modules of compiled functions."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=16).hexdigest()


def _stamped(made: Any) -> Any:
    """Let what is kept of a function be out of date when the digest changes; another numba may keep it otherwise."""
    kept: Any = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):
        kept._source_stamp = (kept._source_stamp, _digest())
    return made


def compiled(function: Any) -> Any:
    """A function that is compiled for the types of its arguments, and runs without Python."""
    return _stamped(numba.njit(nogil=True, cache=True)(function))


def c_function(function: Any, *arguments: Any) -> Any:
    """A C function without a result, for arguments of these types; its ``address`` is good as long as it is held."""
    made = CFunc(function, (arguments, numba.types.void), locals={}, options={})
    made.enable_caching()
    _stamped(made).compile()
    return made


def _copy_numbers(x: Any, start: int, n: int, y: Any, into: int) -> None:
    """``n`` numbers from ``x[start]`` on into ``y[into]`` and on.

    An assignment of slices would compile the text of its error message as well, for two seconds.
    """
    some, out = x[start : start + n], y[into : into + n]
    for i in range(n):
        out[i] = some[i]


copy = compiled(_copy_numbers)
