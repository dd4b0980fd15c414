"""The first calls of a program: from several threads, and beside libraries that are half imported, stubs or broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marks import full, late

pytestmark = pytest.mark.usefixtures("usual_kernels")


def run_python(code, **environment):
    """What a program prints; it may import the modules of the tests."""
    done = subprocess.run(
        [sys.executable, "-W", "error::softgrad.BackendWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CALLS = """
import sys, threading, types, warnings
import numpy as np
import arrays, softgrad as sg
warnings.simplefilter("error", sg.BackendWarning)
library = arrays.LOADERS[sys.argv[1]]()
rng = np.random.default_rng(0)
x, y, X, W = rng.normal(size=(900, 20)), rng.integers(0, 20, 900), rng.normal(size=(900, 5)), rng.normal(size=(20, 5))
x, y, X, W = library.asarray(x), library.asarray(y, "int64"), library.asarray(X), library.asarray(W)
calls = [("softmax", (x,)), ("log_softmax", (x,)), ("logsumexp", (x,)), ("cross_entropy", (x, y)),
         ("cross_entropy_grad", (x, y)), ("linear_cross_entropy_value_and_grad", (X, y, W))]

def call(function, arguments):
    getattr(sg, function)(*arguments)

def show():
    for function, arguments in calls:
        told = sg.backends.explain(function, *arguments)
        print(function, told.backend, told.declined)
"""
#: Each call waits at a barrier for the others.
TOGETHER = """
barrier, errors = threading.Barrier(len(calls)), []

def together(function, arguments):
    barrier.wait()
    try:
        call(function, arguments)
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=together, args=each) for each in calls]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
"""


def python(code, backend):
    return run_python(f"import sys; sys.argv[1:] = [{backend!r}]\n{code}")


@pytest.fixture(scope="module")
def single(backend):
    """The back ends of calls that come one after the other."""
    return python(CALLS + "show()", backend)


@pytest.mark.full("torch", "jax", "cupy", "dask")
@pytest.mark.parametrize("run", [1, *full(2, 3)])
def test_first_calls_of_several_threads_find_the_back_ends_of_single_ones(backend, single, run):
    assert python(CALLS + TOGETHER + "show()", backend) == single


def test_a_plan_made_while_a_back_end_is_registered_is_not_kept():
    """Thread one makes a plan, and holds still; a back end comes; the next call has it."""
    code = """
import threading, types, sys
import numpy as np, softgrad as sg
from softgrad.backends import _registry, Backend
module = sys.modules["mine"] = types.ModuleType("mine")
module.softmax = lambda xp, x, axis, where, precision: xp.zeros_like(x)
at_it, go = threading.Event(), threading.Event()
make = _registry._make_plan
def slow(*args):
    plan = make(*args)
    at_it.set()
    go.wait()
    return plan
_registry._make_plan = slow
thread = threading.Thread(target=sg.softmax, args=(np.zeros(3),))
thread.start()
at_it.wait()
_registry._make_plan = make
sg.backends.register(Backend("mine", ("numpy:ndarray",), {"softmax": "mine:softmax"}, priority=100))
go.set()
thread.join()
assert not sg.softmax(np.zeros(3)).any()
"""
    run_python(code)


OTHERS = ("cupy", "dask", "jax", "torch")
HALF_IMPORTED = """
import builtins
sys.path.insert(0, FOLDER)
builtins.go = threading.Event()
for name in set(OTHERS) - set(sys.modules):  # Dask imports some of them
    builtins.at_it = threading.Event()
    threading.Thread(target=__import__, args=(name,), daemon=True).start()
    builtins.at_it.wait()
"""
#: What stands under a library's name in ``sys.modules``.
STUBS = {
    "empty": "for name in OTHERS: sys.modules[name] = types.ModuleType(name)",
    "absent": "for name in OTHERS: sys.modules[name] = None",
    "mock": "import unittest.mock\nfor name in OTHERS: sys.modules[name] = unittest.mock.MagicMock()",
}


def beside(backend, code):
    """The calls of a program that runs ``code`` before the first."""
    others = [name for name in OTHERS if name != backend]
    return python(CALLS.replace("rng = np", f"OTHERS = {others}\n{code}\nrng = np", 1) + "show()", backend)


@pytest.mark.full("torch", "jax", "cupy")
def test_a_half_imported_library_harms_no_call_on_other_arrays(backend, single, tmp_path):
    for name in OTHERS:
        (tmp_path / f"{name}.py").write_text("import builtins\nbuiltins.at_it.set()\nbuiltins.go.wait()\n", "utf-8")
    assert beside(backend, HALF_IMPORTED.replace("FOLDER", repr(str(tmp_path)))) == single


# Dask itself imports some of the others, and finds a stub in their place
@pytest.mark.full("torch", "jax", "cupy")
@pytest.mark.parametrize("stub", [name if name == "mock" else late(name, "dask") for name in STUBS])
def test_a_stub_of_a_library_harms_no_call_on_other_arrays(backend, single, stub):
    assert beside(backend, STUBS[stub]) == single


def test_back_ends_beside_a_stub_can_be_asked_for():
    """What is left out is named, and is there once the stub has given way to the library."""
    code = """
import sys, types, warnings
import numpy as np, softgrad as sg
stub = sys.modules["dask"] = types.ModuleType("dask")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with sg.backends.use("numpy"):
        assert sg.softmax(np.zeros(1)) == 1
assert ["dask" in str(w.message) for w in caught if "torch" not in str(w.message)] in ([], [True]), caught
"""
    run_python(code)


@pytest.mark.libraries("numpy")
def test_numba_without_a_folder_for_its_cache_says_what_to_set():
    pytest.importorskip("numba")
    code = """
import warnings
import numba.core.caching as caching
import numpy as np, softgrad as sg
for each in [caching.CacheImpl, *caching.CacheImpl.__subclasses__()]:
    each._locator_classes = []
x = np.random.default_rng(0).normal(size=(900, 20))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    np.testing.assert_allclose(sg.softmax(x).sum(axis=1), 1)
assert any("'numba'" in str(w.message) and "NUMBA_CACHE_DIR" in str(w.message) for w in caught), caught
assert sg.backends.explain("softmax", x).backend == "numpy"
"""
    run_python(code)
