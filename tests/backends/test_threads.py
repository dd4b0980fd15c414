"""The threads of the NumPy kernels: how many, for whom, and that nothing is lost with them."""

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
from softgrad.backends import _threads

pytestmark = pytest.mark.usefixtures("usual_kernels")


@pytest.mark.parametrize(("given", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_workers_refuses_what_is_no_number_of_threads(given, error):
    with pytest.raises(error, match="workers"), sg.backends.workers(given):
        raise AssertionError


def test_workers_hold_for_the_block_and_the_context(monkeypatch):
    monkeypatch.setenv("SOFTGRAD_WORKERS", "3")
    assert _threads.count() == 3
    elsewhere = []
    with sg.backends.workers(5):
        thread = threading.Thread(target=lambda: elsewhere.append(_threads.count()))
        thread.start()
        thread.join()
        assert _threads.count() == 5
        with sg.backends.workers(2):
            assert _threads.count() == 2
    assert elsewhere == [3]
    assert _threads.count() == 3


@pytest.mark.parametrize("text", ["0", "many", "-2", "1.5"])
def test_an_environment_that_names_no_number_is_refused(text, monkeypatch):
    monkeypatch.setenv("SOFTGRAD_WORKERS", text)
    with pytest.raises(ValueError, match=r"SOFTGRAD_WORKERS.*whole number"):
        sg.softmax(np.zeros((100_000, 10)))


def test_limits_of_others_are_respected(monkeypatch):
    monkeypatch.delenv("SOFTGRAD_WORKERS", raising=False)
    monkeypatch.setattr(_threads, "_cpus", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "7,2")
    assert _threads.count() <= 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpoolctl.threadpool_limits(1, "blas"):
        assert _threads.count() == 1


@pytest.mark.parametrize(("n", "parts"), [(2, 5), (10, 3), (1000, 2)])
def test_pieces_come_in_order_and_start_no_threads_of_their_own(n, parts):
    seen = set()

    def task(start, stop):
        seen.add(threading.current_thread())
        assert _threads.count() == 1
        assert _threads.run(lambda a, b: (a, b), 8, 1) == [(0, 8)]
        return start, stop

    pieces = _threads.run(task, n, parts)
    assert [stop for _, stop in pieces[:-1]] == [start for start, _ in pieces[1:]]
    assert pieces[0][0] == 0
    assert pieces[-1][1] == n
    assert len(pieces) == min(n, parts * _threads.PIECES)
    assert _threads.run(task, n, parts) == pieces
    assert len({thread.name for thread in seen}) <= parts


def test_nobody_waits_for_a_thread_that_has_not_begun():
    release = threading.Event()
    pool = _threads._pool
    pool.grow(3)
    busy = [_threads.Helper(lambda: release.wait(60)) for _ in pool.threads]
    for helper in busy:
        pool.helpers.put(helper)
    try:
        caller = threading.current_thread()
        assert _threads.run(lambda a, b: threading.current_thread() is caller, 8, 2) == [True] * 8
    finally:
        release.set()
    for helper in busy:
        helper.close()
        assert helper.error is None


def test_sums_do_not_depend_on_which_thread_was_first():
    rng = np.random.default_rng(0)
    x, y = 40 * rng.normal(size=(100_000, 10)).astype("float32"), rng.integers(0, 10, 100_000)
    X, W = rng.normal(size=(100_000, 5)), rng.normal(size=(10, 5))
    with sg.backends.workers(3):
        value, grad = sg.cross_entropy_value_and_grad(x, y)
        model_value, model_grad = sg.linear_cross_entropy_value_and_grad(X, y, W)
        for _ in range(10):
            again = sg.cross_entropy_value_and_grad(x, y)
            assert again[0] == value
            np.testing.assert_array_equal(again[1], grad)
            again = sg.linear_cross_entropy_value_and_grad(X, y, W)
            assert again[0] == model_value
            np.testing.assert_array_equal(again[1], model_grad)


def test_an_error_waits_for_the_other_pieces():
    ended = []

    def task(start, stop):
        if start == 0:
            time.sleep(0.05)
            raise KeyError("here")
        time.sleep(0.2)
        ended.append(start)

    with pytest.raises(KeyError, match="here"):
        _threads.run(task, 2, 2)
    assert ended == [1]


def test_callers_of_many_threads_share_the_pool():
    x = np.random.default_rng(0).normal(size=(60_000, 10))
    expected = sg.softmax(x)
    wrong = []

    def call():
        with sg.backends.workers(2):
            for _ in range(5):
                if not np.array_equal(sg.softmax(x), expected):
                    wrong.append(1)

    with ThreadPoolExecutor(6) as callers:
        for called in [callers.submit(call) for _ in range(6)]:
            called.result()
    assert not wrong


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_small_arrays_start_no_threads():
    code = (
        "import threading, numpy as np, softgrad as sg\n"
        "x = np.zeros((1000, 10)); y = np.zeros(1000, int)\n"
        "sg.softmax(x); sg.cross_entropy_value_and_grad(x, y); sg.linear_cross_entropy_grad(x, y, np.zeros((3, 10)))\n"
        "print(threading.active_count())\n"
        "sg.softmax(np.zeros((100_000, 10)))\n"
        "print(threading.active_count())\n"
    )
    assert run_python(code, SOFTGRAD_WORKERS="2") == ["1", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")
def test_a_forked_child_makes_its_own_pool():
    code = (
        "import os, warnings, numpy as np, softgrad as sg\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "x = np.random.default_rng(0).normal(size=(200_000, 4)); p = sg.softmax(x)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0 if np.array_equal(sg.softmax(x), p) else 3)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), np.array_equal(sg.softmax(x), p))\n"
    )
    assert run_python(code, SOFTGRAD_WORKERS="2") == ["0", "True"]


INTERRUPTED = """
import random, signal, sys, threading, time
import numpy as np, softgrad as sg
from softgrad.backends import _threads

rng = np.random.default_rng(0)
X, y, W = rng.normal(size=(6000, 40)), rng.integers(0, 200, 6000), rng.normal(size=(200, 40))
x = rng.normal(size=(100_000, 10))
with sg.backends.workers(1):
    expected = sg.linear_cross_entropy_value_and_grad(X, y, W)
calls = [
    *[lambda: _threads.run(lambda a, b: None, 12, 3)] * 20,
    lambda: sg.softmax(x),
    lambda: sg.softmax(x.T, axis=0),
    lambda: sg.linear_cross_entropy_value_and_grad(X, y, W),
]
for call in calls:
    call()
draw, armed = random.Random(0), False

def interrupt(*_):
    global armed
    signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0002, 0.002))
    if armed:
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
interrupts, end = 0, time.monotonic() + float(sys.argv[1])
signal.setitimer(signal.ITIMER_REAL, 0.001)
while time.monotonic() < end:
    try:
        armed = True
        for call in calls:
            call()
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
for _ in range(5):
    for call in calls:
        call()
again = sg.linear_cross_entropy_value_and_grad(X, y, W)
np.testing.assert_allclose(again[0], expected[0], rtol=1e-12)
np.testing.assert_allclose(again[1][0], expected[1][0], rtol=1e-9, atol=1e-12)
assert _threads.count() == 3
assert len(set(_threads.run(lambda a, b: (time.sleep(0.05), threading.get_ident())[1], 12, 3))) == 3
print("interrupts" if interrupts > 100 else interrupts)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("kernels", ["numba", *full("numpy")])
def test_calls_after_interrupts_return_with_all_threads(kernels):
    seconds = os.environ.get("SOFTGRAD_INTERRUPT_SECONDS", "1.2")
    hide = "import sys; sys.modules['numba'] = None\n" if kernels == "numpy" else ""
    code = f"import sys; sys.argv[1:] = [{seconds!r}]\n{hide}{INTERRUPTED}"
    # coverage takes locks of its own in each thread, which an interrupt may leave locked
    bare = dict.fromkeys(("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"), "")
    assert run_python(code, SOFTGRAD_WORKERS="3", **bare) == ["interrupts"]


def test_the_callers_settings_of_numpy_stay_theirs():
    x = np.random.default_rng(0).normal(size=(3000, 300))
    before = np.getbufsize(), np.geterr()
    for workers in (1, 2):
        with sg.backends.workers(workers):
            sg.softmax(x)
            sg.linear_cross_entropy_grad(x, np.zeros(3000, int), x[:400])
        assert (np.getbufsize(), np.geterr()) == before
