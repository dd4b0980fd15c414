"""The threads of the compiled loops: every call is run, whoever is awake, and nothing outlives the program."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import softgrad as sg
from marks import full

pytestmark = pytest.mark.usefixtures("usual_kernels")


@pytest.fixture(autouse=True)
def _of_linux(_of_numba):
    if sys.platform != "linux":
        pytest.skip("these threads are for Linux")


@pytest.fixture
def pool():
    from softgrad.backends.numba import pool as numba_pool

    before, numba_pool._threads = numba_pool._threads, numba_pool._Threads()
    yield numba_pool
    numba_pool._threads.end()
    numba_pool._threads = before


def counted(pool, together=1):
    """(a C function that so many threads have to be in at once, which of them called it with what)."""
    seen = []

    def call(data):
        seen.append((threading.get_ident(), data))
        due = -(-len(seen) // together) * together
        until(lambda: len(seen) >= due)

    return pool.NATIVE(call), seen


def states(pool):
    return [pool._threads.words[i * pool.WORDS + pool.STATE] for i in range(len(pool._threads.threads))]


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_each_thread_runs_a_call_once(pool):
    function, seen = counted(pool, 3)
    pool.share(function, 7, 3)
    assert sorted(data for _, data in seen) == [7, 7, 7]
    assert len({thread for thread, _ in seen}) == 3


def test_a_thread_that_was_asleep_is_woken(pool):
    function, seen = counted(pool, 2)
    pool.share(function, 1, 2)
    until(lambda: states(pool) == [pool.ASLEEP])
    pool.share(function, 2, 2)
    assert sorted(data for _, data in seen) == [1, 1, 2, 2]


def test_nobody_waits_for_a_thread_that_has_not_begun(pool):
    function, seen = counted(pool, 2)
    pool.share(function, 1, 2)
    # a thread that the system does not let run: it is given the call and takes no notice
    pool._threads.words[pool.STATE] = pool.ASLEEP
    thread, signals = pool._threads.threads[0]
    signals.put(False)
    thread.join(60)
    function, of_one = counted(pool)
    pool.share(function, 2, 2)
    assert [data for _, data in (*seen, *of_one)] == [1, 1, 2]
    assert states(pool) == [pool.AWAKE]
    pool._threads.threads = []


def test_one_call_has_the_threads_and_another_goes_on_alone(pool):
    over, of_slow = threading.Event(), []

    def held(data):
        of_slow.append(data)
        over.wait(60)

    slow = pool.NATIVE(held)
    quick, of_quick = counted(pool)
    first = threading.Thread(target=pool.share, args=(slow, 1, 2))
    first.start()
    until(lambda: of_slow)
    pool.share(quick, 2, 2)
    assert [thread for thread, _ in of_quick] == [threading.get_ident()]
    over.set()
    first.join()


def test_a_thread_may_run_on_all_its_cores_after_a_call(pool):
    function, _ = counted(pool, 3)
    for _ in range(5):
        pool.share(function, 0, 3)
    for thread, _ in pool._threads.threads:
        assert os.sched_getaffinity(thread.native_id) == os.sched_getaffinity(0)


def test_results_are_the_same_however_many_call():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 100)).astype("float32"), rng.integers(0, 100, 3000)
    with sg.backends.workers(3):
        assert sg.backends.explain("softmax", x).backend == "numba"
        expected = sg.softmax(x), *sg.cross_entropy_value_and_grad(x, y)
        wrong = []

        def call():
            with sg.backends.workers(3):
                for _ in range(50):
                    got = sg.softmax(x), *sg.cross_entropy_value_and_grad(x, y)
                    wrong.extend(1 for a, b in zip(got, expected, strict=True) if not np.array_equal(a, b))

        with ThreadPoolExecutor(4) as callers:
            for called in [callers.submit(call) for _ in range(4)]:
                called.result()
    assert not wrong


PROGRAM = """
import logging, os, sys, warnings, numpy as np, softgrad as sg
logging.getLogger("softgrad").setLevel("ERROR")  # of compiling it is said how long it took
warnings.simplefilter("ignore", DeprecationWarning)
x = np.random.default_rng(0).normal(size=(4000, 100))
p = sg.softmax(x)
"""
FORK = """
pid = os.fork()
if pid == 0:
    same = np.array_equal(sg.softmax(x), p)
    sys.exit(0 if same else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert np.array_equal(sg.softmax(x), p)
"""
AT_EXIT = """
import atexit
atexit.register(lambda: print(np.array_equal(sg.softmax(x), p)))
"""


@pytest.mark.parametrize(
    "rest",
    # of the first the child ends with its threads awake, the parent with a call
    [FORK + AT_EXIT, *full("", FORK, AT_EXIT)],
    ids=["fork, a call at the end", "awake at the end", "fork", "a call at the end"],
)
def test_programs_end(rest):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM + rest],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "SOFTGRAD_WORKERS": "3"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "False" not in done.stdout
