"""How many threads the NumPy kernels use, and the pool that they share."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

__all__ = ["count", "run", "workers"]

T = TypeVar("T")


class Pool(NamedTuple):
    """The threads of another library, which it keeps awake."""

    #: OpenMP's entry to a parallel region: (function, its argument, threads, 0); None where it has none.
    region: Any
    #: How many the library itself would use.
    most: Callable[[], int]


VARIABLE = "SOFTGRAD_WORKERS"
#: Pieces of a call for each thread: a thread that starts late, or shares its core, then holds up little.
PIECES = 4

_asked: ContextVar[int | None] = ContextVar("softgrad_workers", default=None)
#: A C function for threads, of one argument.
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_lent: ContextVar[Pool | None] = ContextVar("softgrad_threads", default=None)
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_controller: Any = None
_inside = threading.local()


def _forget() -> None:
    """Leave the parent's pool behind: its threads do not exist in a forked child."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0
    _inside.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def workers(n: int, /) -> Iterator[None]:
    """Set how many threads the NumPy kernels use, inside a ``with`` block.

    Parameters
    ----------
    n : int
        Threads at most, the calling one included. Small arrays use fewer.

    Raises
    ------
    TypeError
        If `n` is not an int.
    ValueError
        If `n` is below 1.

    Notes
    -----
    Outside of such a block the number is that of the environment variable ``SOFTGRAD_WORKERS``. Where that
    is unset it is the number of CPUs that this process may run on, and no more than ``OMP_NUM_THREADS`` and,
    where threadpoolctl is in use, than its limit for BLAS. The setting belongs to the current context, so
    that other threads and tasks keep theirs.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> with sg.backends.workers(1):
    ...     p = sg.softmax(np.zeros((1000, 4)))
    >>> p[0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"workers: expected an int, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"workers: expected at least 1, got {n}")
    token = _asked.set(n.__index__())
    try:
        yield
    finally:
        _asked.reset(token)


def count() -> int:
    """Return how many threads a large call may use now."""
    if getattr(_inside, "task", False):
        return 1
    pool = _lent.get()
    return _asked_for() if pool is None else min(_asked_for(), pool.most())


def _asked_for() -> int:
    asked = _asked.get()
    if asked is not None:
        return asked
    text = os.environ.get(VARIABLE)
    if text:
        if not text.strip().isdecimal() or int(text) < 1:
            raise ValueError(f"{VARIABLE}: expected a whole number of at least 1, got {text!r}")
        return int(text)
    return max(1, min(_cpus(), _openmp_limit(), _blas_limit()))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _openmp_limit() -> int:
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else sys.maxsize


def _blas_limit() -> int:
    """Return threadpoolctl's limit, asked only where somebody has imported it: nobody else can have set one."""
    global _controller
    module = sys.modules.get("threadpoolctl")
    if module is None:
        return sys.maxsize
    try:
        if _controller is None:
            _controller = module.ThreadpoolController()
        sizes = [lib.num_threads for lib in _controller.lib_controllers if lib.user_api == "blas"]
    except (AttributeError, OSError, RuntimeError):  # a half-imported threadpoolctl sets no limit
        return sys.maxsize
    return min((n for n in sizes if n), default=sys.maxsize)


class lent:  # noqa: N801 - a context manager, as those of contextlib
    """Run the pieces of a call on a pool's threads inside a ``with`` block, on no more than its library would."""

    __slots__ = ("pool", "token")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __enter__(self) -> None:
        self.token = _lent.set(self.pool)

    def __exit__(self, *error: object) -> None:
        _lent.reset(self.token)


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # the smaller pool, if any, ends by itself once its callers are done with it
            _pool, _pool_size = ThreadPoolExecutor(size, "softgrad"), size
        return _pool


def run(task: Callable[[int, int], T], n: int, parts: int) -> list[T]:
    """Return ``task(start, stop)`` of contiguous pieces of ``range(n)``, in order, on ``parts`` threads at most.

    The pieces depend on ``n`` and ``parts`` alone, so that sums of theirs do too. There are a few for each thread,
    which takes the next one when it is done: the calling thread waits for none that has not begun. No task of
    several starts threads of its own. All pieces have ended when this returns or raises.
    """
    if parts <= 1 or n <= 1:
        return [task(0, n)]
    openmp = region()
    # a pool that another library keeps awake starts all its threads at once
    pieces = min(n, (PIECES if openmp is None else 1) * parts)
    cuts = [n * i // pieces for i in range(pieces + 1)]
    waiting = iter(range(pieces))
    lock = threading.Lock()
    results: dict[int, T] = {}

    def work() -> None:
        before, _inside.task = getattr(_inside, "task", False), True
        try:
            while True:
                with lock:
                    i = next(waiting, None)
                if i is None:
                    return
                results[i] = task(cuts[i], cuts[i + 1])
        except BaseException:
            with lock:
                for _ in waiting:  # nobody begins another
                    pass
            raise
        finally:
            _inside.task = before

    if openmp is None:
        each(work, min(parts, pieces))
        return [results[i] for i in range(pieces)]
    errors: list[BaseException] = []

    def attempt(_: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below: a thread of another pool cannot hand it on
            errors.append(error)

    openmp(NATIVE(attempt), None, min(parts, pieces), 0)
    if errors:
        raise errors[0]
    return [results[i] for i in range(pieces)]


def region() -> Any:
    """OpenMP's entry to a parallel region, where the pieces of a call run on its threads."""
    pool = _lent.get()
    return None if pool is None else pool.region


def each(work: Callable[[], None], parts: int) -> None:
    """Call ``work`` on ``parts`` threads at most, this one included."""
    futures: list[Future[None]] = []
    try:
        pool = _executor(parts - 1)
        futures.extend(pool.submit(work) for _ in range(parts - 1))
    except RuntimeError:  # the interpreter is shutting down: no new threads
        pass
    try:
        work()
    finally:
        begun = [future for future in futures if not future.cancel()]
        wait(begun)
    for future in begun:
        future.result()
