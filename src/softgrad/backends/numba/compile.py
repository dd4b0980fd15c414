"""Functions compiled by numba, kept on disk until any module of compiled functions changes.

numba's cache of a function contains the functions that it calls, but checks only the function's own file for changes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.ccallback import CFunc

#: Seconds of compiling after which a warning says why the program waits.
TELL_AFTER_S = 1.0


class _Clock(event.Listener):  # type: ignore[misc]
    """The time that compiling takes; numba calls it under the lock that it compiles under."""

    def __init__(self) -> None:
        self.depth, self.seconds, self.told = 0, 0.0, False

    @contextmanager
    def timed(self, counts: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Count the block if ``counts`` says so at its end, but not again what is compiled within it."""
        start = time.perf_counter()
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if not self.depth and counts():
                self.seconds += time.perf_counter() - start
                self._tell()

    def _tell(self) -> None:
        if self.seconds > TELL_AFTER_S and not self.told:
            self.told = True
            logging.getLogger("softgrad").warning(
                "softgrad: numba compiled for %.1f s, once for each function and dtype; the result is kept for later "
                "processes (in NUMBA_CACHE_DIR where that is set). SOFTGRAD_NUMBA=0 does without numba.",
                self.seconds,
            )

    def on_start(self, event: Any) -> None:
        # a program's own functions are compiled by the same numba
        function = getattr(event.data["dispatcher"], "py_func", None)
        if (getattr(function, "__module__", None) or "").startswith(__package__):
            event.data["softgrad"] = block = self.timed()
            block.__enter__()

    def on_end(self, event: Any) -> None:
        block = event.data.pop("softgrad", None)
        if block is not None:
            block.__exit__(None, None, None)


_clock = _Clock()
event.register("numba:compile", _clock)


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


def _kept(make: Callable[[], Any]) -> Any:
    """What ``make`` gives, kept on disk: compiling in each program again would cost more than it saves."""
    try:
        return make()
    except RuntimeError as error:
        raise RuntimeError(
            f"it has no folder to keep compiled functions in: set NUMBA_CACHE_DIR to one that can be written ({error})"
        ) from error


def compiled(function: Any) -> Any:
    """A function that is compiled for the types of its arguments, and runs without Python."""
    return _stamped(_kept(lambda: numba.njit(nogil=True, cache=True)(function)))


def c_function(function: Any, *arguments: Any) -> Any:
    """A C function without a result, for arguments of these types; its ``address`` is good as long as it is held."""
    made = CFunc(function, (arguments, numba.types.void), locals={}, options={})
    _kept(made.enable_caching)
    with _clock.timed(lambda: not made.cache_hits):
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
