"""How many threads the NumPy kernels use, and the pool that they share."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from .._array.scalars import integer

__all__ = ["count", "run", "workers"]

T = TypeVar("T")


class Pool(NamedTuple):
    """The threads of another library, which it keeps awake."""

    #: OpenMP's entry to a parallel region: (function, its argument, threads, 0); None where it has none.
    region: Any
    #: How many the library itself would use.
    most: Callable[[], int]
    #: Its matrix product on them, of NumPy arrays: (out, a, b, beta) writes ``a @ b + beta * out`` into ``out``.
    product: Callable[[Any, Any, Any, float], None] | None = None


VARIABLE = "SOFTGRAD_WORKERS"
#: Pieces of a call for each thread: a thread that starts late, or shares its core, then holds up little.
PIECES = 4
#: Seconds to wait at interpreter exit for each thread still at work, as after an interrupt.
JOIN_TIMEOUT_S = 5.0

_asked: ContextVar[int | None] = ContextVar("softgrad_workers", default=None)
#: A C function for threads, of one argument.
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_used_pool: ContextVar[Pool | None] = ContextVar("softgrad_threads", default=None)
_controller: Any = None
_inside = threading.local()


class Helper:
    """A slot for one more thread in a call: taken by a thread that starts, or closed by the caller when it is done.

    Ctrl-C may interrupt the main thread between any two calls. So the caller takes locks by ``with``, whose release
    cannot be skipped, and every step may be repeated.
    """

    __slots__ = ("at_work", "error", "taken", "work")

    def __init__(self, work: Callable[[], None]) -> None:
        self.work: Callable[[], None] | None = work
        self.taken: dict[None, bool] = {}
        self.at_work = threading.Lock()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless the caller has closed the slot."""
        with self.at_work:
            work = self.work
            if work is not None and self.taken.setdefault(None, True):
                try:
                    work()
                except BaseException as error:  # noqa: BLE001 - raised by the caller
                    self.error = error

    def close(self) -> None:
        """Wait for the thread if it has begun, else keep it from beginning."""
        if self.taken.setdefault(None, False):
            with self.at_work:
                pass
        self.work = None


class _Pool:
    """The threads of this process, which wait for helpers to run; None ends one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.helpers: SimpleQueue[Helper | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.ended = False

    def grow(self, size: int) -> None:
        """Start threads until there are ``size``, if the system allows."""
        if len(self.threads) >= size:
            return
        with self.lock:
            while len(self.threads) < size and not self.ended:
                name = f"softgrad_{len(self.threads)}"
                thread = threading.Thread(target=_serve, args=(self.helpers,), name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is shutting down, or the system has no more threads
                    return
                self.threads.append(thread)

    def end(self) -> None:
        """End all threads: none may still run a compiled function when its code is freed."""
        self.ended = True
        for _ in self.threads:
            self.helpers.put(None)
        for thread in self.threads:
            thread.join(JOIN_TIMEOUT_S)


def _serve(helpers: SimpleQueue[Helper | None]) -> None:
    while (helper := helpers.get()) is not None:
        helper.run()
        del helper  # and the arrays that it holds


_pool = _Pool()


def _forget() -> None:
    """Leave the parent's threads behind: they do not exist in a forked child."""
    global _pool
    _pool = _Pool()
    _inside.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _pool.end())


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
    n = integer(n, "workers")
    if n < 1:
        raise ValueError(f"workers must be at least 1, got {n}")
    token = _asked.set(n)
    try:
        yield
    finally:
        _asked.reset(token)


def count() -> int:
    """Return how many threads a large call may use now."""
    if getattr(_inside, "task", False):
        return 1
    pool = _used_pool.get()
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
    """Return threadpoolctl's limit, if it has been imported: otherwise none can have been set."""
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


class use_pool:  # noqa: N801 - a context manager, as those of contextlib
    """Run the pieces of a call on a pool's threads inside a ``with`` block, on no more than its library would."""

    __slots__ = ("pool", "token")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __enter__(self) -> None:
        self.token = _used_pool.set(self.pool)

    def __exit__(self, *error: object) -> None:
        _used_pool.reset(self.token)


def run(task: Callable[[int, int], T], n: int, parts: int, pieces: int | None = None) -> list[T]:
    """Return ``task(start, stop)`` of contiguous pieces of ``range(n)``, in order, on ``parts`` threads at most.

    The pieces depend on ``n`` and ``pieces`` alone, and so do their sums. By default there are a few for each
    thread, which takes the next one when it is done; the calling thread waits for no thread that has not begun. A task
    run as one of several starts no threads of its own. All pieces have ended when this returns or raises, unless
    it is interrupted twice in a row.
    """
    if n <= 1 or (parts <= 1 and pieces is None):
        return [task(0, n)]
    openmp = region()
    # a pool that another library keeps awake starts all its threads at once
    pieces = min(n, pieces or (PIECES if openmp is None else 1) * parts)
    cuts = [n * i // pieces for i in range(pieces + 1)]
    if parts <= 1 or pieces == 1:
        return [task(cuts[i], cuts[i + 1]) for i in range(pieces)]
    waiting = iter(range(pieces))
    lock = threading.Lock()
    results: dict[int, T] = {}

    def work() -> None:
        before = getattr(_inside, "task", False)
        try:
            _inside.task = True
            while True:
                with lock:
                    i = next(waiting, None)
                if i is None:
                    return
                results[i] = task(cuts[i], cuts[i + 1])
        except BaseException:
            with lock:
                for _ in waiting:  # no further piece is begun
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
    work()  # what is left where an interrupt came before this thread's own attempt
    return [results[i] for i in range(pieces)]


def region() -> Any:
    """OpenMP's entry to a parallel region, where the pieces of a call run on its threads."""
    pool = _used_pool.get()
    return None if pool is None else pool.region


def product() -> Callable[[Any, Any, Any, float], None] | None:
    """The matrix product of the library that keeps the threads of this call awake, or None."""
    pool = _used_pool.get()
    return None if pool is None else pool.product


def each(work: Callable[[], None], parts: int) -> None:
    """Call ``work``, which holds what it works on, on ``parts`` threads at most, this one included."""
    pool = _pool
    pool.grow(parts - 1)
    helpers = [Helper(work) for _ in range(min(parts - 1, len(pool.threads)))]
    try:
        for helper in helpers:
            pool.helpers.put(helper)
        work()
    finally:
        for helper in helpers:
            helper.close()
    for helper in helpers:
        if helper.error is not None:
            raise helper.error
