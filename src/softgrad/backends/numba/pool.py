"""Threads for compiled loops, which take calls without running Python; on Linux.

A sleeping thread takes longer to wake than a call on half a million numbers takes. So an idle thread polls for the next
call for a while before it sleeps, and yields its core between polls.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from queue import SimpleQueue
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._threads import NATIVE
from .compile import c_function, compiled

#: States of a thread: asleep; awake, or about to be; given a call; running it.
ASLEEP, AWAKE, GIVEN, RUNNING = range(4)
#: The words of a thread, on a cache line of its own: its state; the call, a function and its argument; the caller's
#: core.
STATE, FUNCTION, DATA, CORE, WORDS = 0, 1, 2, 3, 8
#: Nanoseconds for which an idle thread polls before it sleeps.
SPIN_NS = 5_000_000
#: Threads at most, beside the caller's.
MAX_THREADS = 255
#: Seconds to wait for each thread at interpreter exit.
JOIN_TIMEOUT_S = 5.0
#: Bytes of a set of cores.
MASK = 1024
_MONOTONIC = 1

_POINTER = types.CPointer(types.int64)
_yield = types.ExternalFunction("sched_yield", types.int32())
_core = types.ExternalFunction("sched_getcpu", types.int32())
_get_cores = types.ExternalFunction("sched_getaffinity", types.int32(types.int32, types.intp, types.voidptr))
_set_cores = types.ExternalFunction("sched_setaffinity", types.int32(types.int32, types.intp, types.voidptr))
_self = types.ExternalFunction("pthread_self", types.int64())
_clock = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.voidptr))


@intrinsic  # type: ignore[untyped-decorator]
def _seen(context: Any, words: Any, i: Any) -> Any:
    """Load a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.gep(arguments[0], [arguments[1]]), "acquire", 8)

    return types.int64(words, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _set(context: Any, words: Any, i: Any, value: Any) -> Any:
    """Store a value in a word, after all earlier writes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[2], builder.gep(arguments[0], [arguments[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _changed(context: Any, words: Any, i: Any, old: Any, new: Any) -> Any:
    """Replace ``old`` in a word by ``new``; whether it held ``old``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(arguments[0], [arguments[1]])
        pair = builder.cmpxchg(place, arguments[2], arguments[3], "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(words, types.intp, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _called(context: Any, function: Any, data: Any) -> Any:
    """Call a C function by its address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [arguments[1].type])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _leave_core(core: int, cores: Any) -> None:
    """Move off the caller's core if the affinity allows: the thread might otherwise queue behind the caller there."""
    if _core() != core or _get_cores(0, MASK, cores.ctypes) < 0:
        return
    word, bit = core // 64, np.int64(1) << (core % 64)
    cores[word] ^= bit
    if cores.any():
        _set_cores(0, MASK, cores.ctypes)
    cores[word] ^= bit
    _set_cores(0, MASK, cores.ctypes)


_leave = compiled(_leave_core)


def _nanoseconds(time: Any) -> int:
    _clock(_MONOTONIC, time.ctypes)
    now: int = time[0] * 1_000_000_000 + time[1]
    return now


_now = compiled(_nanoseconds)


def _served(words: Any) -> None:
    """Run the calls given to a thread, until none has come for a while or it is put to sleep."""
    cores, time = np.zeros(MASK // 8, np.int64), np.zeros(2, np.int64)
    since = _now(time)
    while _seen(words, STATE) != ASLEEP:
        if _changed(words, STATE, GIVEN, RUNNING):
            _leave(_seen(words, CORE), cores)
            _called(_seen(words, FUNCTION), _seen(words, DATA))
            _set(words, STATE, AWAKE)
            since = _now(time)
        elif _now(time) - since > SPIN_NS and _changed(words, STATE, AWAKE, ASLEEP):
            return
        else:
            _yield()


def _shared(words: Any, threads: int, function: int, data: int) -> None:
    """Run a call on this thread and on ``threads`` others; those that have not begun when this one is done never do."""
    core = _core()
    for i in range(0, threads * WORDS, WORDS):
        # a thread without a call does not read these
        _set(words, i + FUNCTION, function)
        _set(words, i + DATA, data)
        _set(words, i + CORE, core)
        _changed(words, i + STATE, AWAKE, GIVEN)
    # a thread queued on this core can move to another
    _yield()
    _called(function, data)
    for i in range(0, threads * WORDS, WORDS):
        if not _changed(words, i + STATE, GIVEN, AWAKE):
            while _seen(words, i + STATE) == RUNNING:
                _yield()


def _joined(words: Any) -> None:
    """Run a call on each thread of OpenMP's."""
    if _self() == _seen(words, STATE):
        _set(words, CORE, _core())
        _yield()
    else:
        _leave(_seen(words, CORE), np.zeros(MASK // 8, np.int64))
    _called(_seen(words, FUNCTION), _seen(words, DATA))


_serve_code = c_function(_served, _POINTER)
_share_code = c_function(_shared, _POINTER, types.int64, types.int64, types.int64)
_join_code = c_function(_joined, _POINTER)
_serve, _join = NATIVE(_serve_code.address), NATIVE(_join_code.address)
_share = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(_share_code.address)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class _Threads:
    """The threads of this process."""

    def __init__(self) -> None:
        # an RLock knows its owner, which Ctrl-C may interrupt between taking the lock and noting it
        self.lock = threading.RLock()
        self.words = (ctypes.c_int64 * (MAX_THREADS * WORDS))()
        #: Each thread with its signals: True wakes it, False ends it.
        self.threads: list[tuple[threading.Thread, SimpleQueue[bool]]] = []

    def wake(self, threads: int) -> int:
        """Wake so many threads, starting new ones as needed; returns how many are awake or about to be."""
        while len(self.threads) < min(threads, MAX_THREADS):
            i, signals = len(self.threads), SimpleQueue[bool]()
            args = (self.words, 8 * WORDS * i, signals)
            thread = threading.Thread(target=_work, args=args, name=f"softgrad_{i}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down, or the system has no more threads
                break
            self.threads.append((thread, signals))
        there = min(threads, len(self.threads))
        for i in range(there):
            if self.words[i * WORDS + STATE] == ASLEEP:
                # no interrupt comes between the two: Python delivers one at the end of a call
                self.words[i * WORDS + STATE] = AWAKE
                self.threads[i][1].put(True)
        return there

    def share(self, function: Any, data: int, parts: int) -> None:
        """Call a C function on ``parts`` threads at most; on this one alone while another call uses the others."""
        try:
            if self.lock.acquire(blocking=False):
                _share(self.words, self.wake(parts - 1), _address(function), data)
            else:
                function(data)
        finally:
            if self.lock._is_owned():  # type: ignore[attr-defined]
                self.lock.release()

    def end(self) -> None:
        """End all threads: none may still run a compiled function when its code is freed."""
        with self.lock:
            for i, (_, signals) in enumerate(self.threads):
                self.words[i * WORDS + STATE] = ASLEEP
                signals.put(False)
            for thread, _ in self.threads:
                thread.join(JOIN_TIMEOUT_S)
            self.threads = []


def _work(words: Any, offset: int, signals: SimpleQueue[bool]) -> None:
    address = ctypes.addressof(words) + offset
    while signals.get():
        _serve(address)


_threads = _Threads()


def _forget() -> None:
    """Leave the parent's threads behind: they do not exist in a forked child."""
    global _threads
    _threads = _Threads()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _threads.end())


def share(function: Any, data: int, parts: int) -> None:
    """Call a C function, of type ``NATIVE``, with ``data`` on ``parts`` threads at most, this one included."""
    _threads.share(function, data, parts)


def join(openmp: Any, function: Any, data: int, parts: int) -> None:
    """Call a C function on ``parts`` threads of OpenMP's, by its entry to a parallel region.

    OpenMP waits for the last of its threads, so none of them may queue on this thread's core.
    """
    words = (ctypes.c_int64 * WORDS)(threading.get_ident(), _address(function), data, -1)
    openmp(_join, ctypes.addressof(words), parts, 0)
