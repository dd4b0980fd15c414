"""The registry: which code runs, how to choose it, and that a broken back end harms nobody."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import subprocess
import sys
import threading
import types
from contextvars import copy_context

import numpy as np
import pytest

import softgrad as sg
import tiny_arrays
from kernel_cases import flat
from softgrad import backends
from softgrad._array import libraries
from softgrad._options import OPTIONS
from softgrad.backends import ArrayLibrary, Backend, _discovery, _registry

pytestmark = pytest.mark.usefixtures("usual_kernels")


@pytest.fixture
def module(monkeypatch):
    """A module that a back end's paths can name."""
    made = types.ModuleType("made_up_backend")
    made.softmax = lambda xp, x, axis, where, precision: xp.zeros_like(x)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.fixture
def registered(asarray, module):
    """Register a back end for the arrays under test, and take it away again."""
    names = []

    def register(name, functions=None, **options):
        cls = type(asarray([0.0]))
        functions = functions or {"softmax": "made_up_backend:softmax"}
        backends.register(Backend(name, (f"{cls.__module__}:{cls.__qualname__}",), functions, **options))
        names.append(name)

    yield register
    for name in names:
        backends.unregister(name)


def is_zero(array, to_numpy):
    return not to_numpy(array).any()


def test_generic_is_the_end_of_every_plan(asarray):
    x = asarray([[1.0, 2.0]])
    with backends.use("generic"):
        explanation = backends.explain("softmax", x)
    assert explanation.backend == "generic"
    assert explanation.declined == ()


def test_a_higher_priority_runs_first(asarray, to_numpy, registered):
    x = asarray([[1.0, 2.0]])
    registered("first", priority=100)
    assert backends.explain("softmax", x).backend == "first"
    assert is_zero(sg.softmax(x), to_numpy)


def test_equal_priorities_run_by_name(asarray, registered):
    registered("beta", priority=100)
    registered("alpha", priority=100)
    assert backends.explain("softmax", asarray([1.0, 2.0])).backend == "alpha"


def test_opt_in_waits_to_be_asked(asarray, to_numpy, registered):
    x = asarray([[1.0, 2.0]])
    registered("waiting", priority=100, opt_in=True)
    assert not is_zero(sg.softmax(x), to_numpy)
    with backends.use("waiting"):
        assert is_zero(sg.softmax(x), to_numpy)
    assert not is_zero(sg.softmax(x), to_numpy)


def test_a_kernel_that_is_not_replaced_runs_as_usual(asarray, to_numpy, registered):
    x = asarray([[1.0, 2.0]])
    before = backends.explain("log_softmax", x).backend
    registered("partial", priority=100)
    assert backends.explain("log_softmax", x).backend == before


def test_a_declined_call_says_why_and_runs(asarray, to_numpy, registered, module):
    module.should_run = lambda function, xp, x, *rest: True if x.ndim == 2 else f"{function} of {x.ndim} dimensions"
    registered("picky", priority=100, should_run="made_up_backend:should_run")
    assert backends.explain("softmax", asarray([[1.0, 2.0]])).backend == "picky"
    explanation = backends.explain("softmax", asarray([1.0, 2.0]))
    assert ("picky", "softmax of 1 dimensions") in explanation.declined
    assert "picky declined: softmax of 1 dimensions" in str(explanation)
    assert not is_zero(sg.softmax(asarray([1.0, 2.0])), to_numpy)


def test_explain_runs_nothing(asarray, registered, module):
    def fail(*args):
        raise AssertionError("explain ran the kernel")

    module.softmax = fail
    registered("untouched", priority=100)
    assert backends.explain("softmax", asarray([1.0, 2.0])).implementation.startswith(fail.__module__)


def test_explain_follows_the_whole_call(asarray):
    logits, labels = asarray([[1.0, 2.0]]), asarray([0], "int64")
    assert backends.explain("cross_entropy", logits, labels).function == "cross_entropy"
    assert backends.explain("logsumexp", logits, b=logits).function == "signed_logsumexp"
    assert backends.explain("linear_cross_entropy_grad", logits, labels, logits).function == (
        "linear_cross_entropy_value_and_grad"
    )


def test_explain_of_what_has_no_kernel(asarray):
    with pytest.raises(sg.BackendError, match="kernel"):
        backends.explain("softmax", asarray(np.zeros((2, 0))))
    with pytest.raises(sg.BackendError, match=r"name.*'softmin'"):
        backends.explain("softmin", asarray([1.0]))


@pytest.mark.libraries("dask")
def test_explain_names_a_function_that_has_a_name(asarray):
    assert backends.explain("softmax", asarray([1.0])).implementation.startswith("softgrad.backends.dask.dense:")


def test_a_broken_kernel_is_named_and_left_out(asarray, to_numpy, registered):
    registered("broken", {"softmax": "made_up_backend:not_there"}, priority=100)
    x = asarray([[1.0, 2.0]])
    with pytest.warns(sg.BackendWarning, match="'broken'.*not_there"):
        result = sg.softmax(x)
    assert not is_zero(result, to_numpy)


def test_use_of_an_unknown_name():
    with pytest.raises(sg.BackendError, match=r"'nowhere'.*generic"), backends.use("nowhere"):
        pass


def test_use_nests_and_ends_with_its_block(asarray, registered):
    registered("inner", priority=100, opt_in=True)
    x = asarray([1.0, 2.0])
    usual = backends.explain("softmax", x).backend
    with backends.use("inner"):
        with backends.use("generic"):
            assert backends.explain("softmax", x).backend == "generic"
        assert backends.explain("softmax", x).backend == "inner"
    assert backends.explain("softmax", x).backend == usual


def test_use_ends_where_the_block_fails(asarray, registered):
    registered("inner", priority=100, opt_in=True)
    with pytest.raises(ZeroDivisionError), backends.use("inner"):
        raise ZeroDivisionError
    assert backends.explain("softmax", asarray([1.0])).backend != "inner"
    assert _registry._chosen.users == 0


def test_use_holds_for_its_own_thread(asarray, registered):
    registered("mine", priority=100, opt_in=True)
    x = asarray([1.0, 2.0])
    seen = []

    def ask():
        seen.append(backends.explain("softmax", x).backend)

    with backends.use("mine"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        inherited = threading.Thread(target=copy_context().run, args=(ask,))
        inherited.start()
        inherited.join()
    assert seen[0] != "mine"
    assert seen[1] == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generic", ("a:b",), {}), "generic"),
        (("two words", ("a:b",), {}), "identifier"),
        (("good", ("a:b",), {"softmin": "a:b"}), "softmin"),
        (("good", "a:b", {}), "types .* must be a tuple"),
        (("good", ("a.b",), {}), "'a.b'"),
        (("good", ("a:b",), {"softmax": "a.b"}), "'a.b'"),
    ],
)
def test_a_declaration_that_cannot_be_meant(arguments, words):
    with pytest.raises(sg.BackendError, match=words):
        Backend(*arguments)


def test_register_takes_a_backend():
    with pytest.raises(TypeError, match="Backend"):
        backends.register("numpy")


class Entry:
    """An entry point of another package."""

    group = backends.GROUP

    def __init__(self, name, load):
        self.name, self.value, self.load = name, f"{name}:BACKEND", load


@pytest.fixture
def entry_points(monkeypatch):
    """Let other packages declare back ends."""
    known = dict(_discovery.registered)

    def declare(*entries):
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: entries if group == backends.GROUP else ()
        )
        monkeypatch.setattr(_discovery, "_discovered", False)
        _registry._forget_plans()

    yield declare
    _discovery.registered.clear()
    _discovery.registered.update(known)
    _registry._forget_plans()


def test_a_plugin_that_shares_a_type_is_opt_in(entry_points, module):
    entry_points(Entry("other", lambda: Backend("other", ("numpy:ndarray",), {"softmax": "made_up_backend:softmax"})))
    x = np.asarray([1.0, 2.0])
    assert sg.softmax(x).any()
    if _discovery._builtin_types & {"numpy:ndarray"}:
        assert backends.available()["other"].opt_in
    with backends.use("other"):
        assert not sg.softmax(x).any()


def explode():
    raise RuntimeError("no such device")


@pytest.mark.parametrize("load", [explode, lambda: "not a back end"])
def test_a_broken_plugin_is_named_and_left_out(load, entry_points):
    entry_points(Entry("faulty", load))
    with pytest.warns(sg.BackendWarning, match="'faulty'"):
        result = sg.softmax(np.asarray([0.0, 0.0]))
    np.testing.assert_array_equal(result, [0.5, 0.5])
    assert "faulty" not in backends.available()


def test_a_plugin_brings_the_library_of_arrays_that_nobody_knows(entry_points, monkeypatch):
    monkeypatch.setattr(libraries, "_of_types", {})
    library = ArrayLibrary("tiny", "tiny_arrays", types=("tiny_arrays:Tiny",))
    entry_points(Entry("tiny", lambda: Backend("tiny", library.types, {}, library=library)))
    logits = type("Fresh", (tiny_arrays.Tiny,), {})(np.zeros((1, 2)))
    np.testing.assert_array_equal(sg.softmax(logits).host, [[0.5, 0.5]])


def test_a_plugin_cannot_take_a_name_that_is_there(entry_points, module):
    available = backends.available()
    if not available:
        pytest.skip("no back end is built in")
    name = next(iter(available))
    entry_points(Entry(name, lambda: Backend(name, ("collections:deque",), {"softmax": "made_up_backend:softmax"})))
    with pytest.warns(sg.BackendWarning, match="name is taken"):
        assert backends.available()[name] is available[name]


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "jax", "cupy", "dask", "sparse"])
def test_a_plugin_cannot_take_a_built_in_name_before_its_library_is_loaded(name, entry_points, monkeypatch):
    monkeypatch.delitem(_discovery.registered, name, raising=False)
    entry_points(Entry("theirs", lambda: Backend(name, ("collections:deque",), {"softmax": "made_up_backend:softmax"})))
    with pytest.warns(sg.BackendWarning, match=r"'theirs'.*name is taken"):
        sg.softmax(np.zeros(1))
    assert name not in _discovery.registered


def test_a_plugin_may_call_softgrad_while_it_is_imported(entry_points, module):
    """It finds what there is without it, and nothing of that is kept."""
    calls = []

    def load():
        calls.append(sg.softmax(np.zeros(1)))
        return Backend("busy", ("numpy:ndarray",), {"softmax": "made_up_backend:softmax"})

    entry_points(Entry("busy", load))
    with backends.use("busy"):
        assert not sg.softmax(np.zeros(1)).any()
    assert calls == [1.0]


def test_importing_asks_nobody():
    """Neither a plug-in nor a library beside NumPy is loaded before it is needed."""
    code = (
        "import importlib.metadata as m, sys\n"
        "m.entry_points = lambda **k: sys.exit('asked')\n"
        "import softgrad\n"
        "assert 'softgrad.backends.numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- options of a loss


def by_every_back_end(calls):
    """(name, what it says of the first call, results) of each back end; each set of kernels is run once."""
    ran = {}
    for name in backends.available():
        with backends.use(name):
            told = [backends.explain(*call[:-1], **call[-1]) for call in calls]
            kernels = tuple(each.backend for each in told)
            if kernels not in ran:
                ran[kernels] = results_of(calls)
        yield name, told[0], ran[kernels]


def results_of(calls):
    return [a for name, *args, options in calls for a in flat(getattr(sg, name)(*args, **options))]


def option_case(option, asarray):
    """(logits, labels, arguments) of a loss with one option, large enough for compiled loops."""
    rng = np.random.default_rng(8)
    n, k = 400, 24
    values = {
        "softcap": 2.5,
        "temperature": 0.7,
        "logit_shift": asarray(rng.normal(size=k)),
        "label_smoothing": 0.1,
        "focal": 1.5,
        "z_loss": 0.2,
        "ignore_index": 3,
        "precision": "high",
        "class_weight": asarray(rng.uniform(0.5, 2.0, k)),
        "sample_weight": asarray(rng.uniform(0.5, 2.0, n)),
        "where": asarray(np.arange(k) != 5, "bool"),
    }
    labels = rng.choice(np.delete(np.arange(k), 5), n)
    return asarray(rng.normal(size=(n, k))), asarray(labels, "int64"), {option: values[option]}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_that_a_back_end_does_not_name_goes_to_the_next_kernel(option, asarray, to_numpy, registered, module):
    x, labels, given = option_case(option, asarray)
    expected = to_numpy(sg.cross_entropy(x, labels, **given))
    module.cross_entropy = lambda xp, logits, args: logits[0, 0] * 0 - 1
    registered("narrow", {"cross_entropy": "made_up_backend:cross_entropy"}, priority=100)
    assert to_numpy(sg.cross_entropy(x, labels)) == -1
    reason = dict(backends.explain("cross_entropy", x, labels, **given).declined)["narrow"]
    assert reason.startswith("does not take")
    assert option in reason
    np.testing.assert_array_equal(to_numpy(sg.cross_entropy(x, labels, **given)), expected)
    registered(
        "wide", {"cross_entropy": "made_up_backend:cross_entropy"}, priority=101, options=(option, "sample_weight")
    )
    assert to_numpy(sg.cross_entropy(x, labels, **given)) == -1


@pytest.mark.parametrize("option", OPTIONS)
def test_each_back_end_takes_the_options_that_it_names(option, asarray, to_numpy):
    def calls(asarray):
        x, labels, given = option_case(option, asarray)
        return [("cross_entropy_value_and_grad", x, labels, given), ("cross_entropy_hvp", x, labels, x, given)]

    with backends.use("generic"):
        value, *derivatives = results_of(calls(np.asarray))
    for name, explained, results in by_every_back_end(calls(asarray)):
        found = [to_numpy(a) for a in results]
        if explained.backend == name:
            assert option in backends.available()[name].options
        np.testing.assert_allclose(found[0], value, rtol=1e-13)
        for derivative, expected in zip(found[1:], derivatives, strict=True):
            np.testing.assert_allclose(derivative, expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_back_end_takes_the_options_of_the_linear_model_that_it_names(option, asarray, to_numpy):
    def calls(asarray):
        _, labels, given = option_case(option, asarray)
        rng = np.random.default_rng(9)
        X, W = asarray(rng.normal(size=(400, 6))), asarray(rng.normal(size=(24, 6)))
        linear = "linear_cross_entropy"
        return [(f"{linear}_value_and_grad", X, labels, W, given), (f"{linear}_hvp", X, labels, W, W, given)]

    with backends.use("generic"):
        value, *derivatives = results_of(calls(np.asarray))
    for name, explained, results in by_every_back_end(calls(asarray)):
        found = [to_numpy(a) for a in results]
        if explained.backend == name:
            assert option in backends.available()[name].options
        np.testing.assert_allclose(found[0], value, rtol=1e-13)
        for derivative, expected in zip(found[1:], derivatives, strict=True):
            np.testing.assert_allclose(derivative, expected, rtol=1e-9, atol=1e-14)


def test_an_option_that_there_is_not():
    with pytest.raises(sg.BackendError, match=r"takes unknown options \['temper'\]"):
        Backend("mine", ("numpy:ndarray",), {}, options=("temper",))


def explained_calls(asarray):
    rng = np.random.default_rng(2)
    x, X, W = (asarray(rng.normal(size=shape), "float32") for shape in ((30, 6), (30, 4), (6, 4)))
    y, c = asarray(rng.integers(0, 6, 30), "int64"), asarray(rng.normal(size=30), "float32")
    where = asarray(rng.random((30, 6)) > 0.2, "bool")
    dense = ("softmax", "log_softmax", "logsumexp")
    high = {"precision": "high"}
    yield from ((name, (x,), {"axis": -1, **options}) for name in dense for options in ({}, {"where": where}, high))
    yield from ((f"{name}_{kind}", (x, x), {}) for name in dense[:2] for kind in ("vjp", "jvp"))
    for kind in ("", "_grad", "_value_and_grad"):
        yield from ((f"cross_entropy{kind}", (x, y), options) for options in ({}, {"label_smoothing": 0.1}, high))
    yield "cross_entropy_hvp", (x, y, x), {}
    yield from ((f"linear_cross_entropy{kind}", (X, y, W), {}) for kind in ("", "_grad"))
    yield "linear_cross_entropy", (X, y, W), {"softcap": 3.0}
    yield "linear_log_probs", (X, y, W), {"entropy": True}
    yield from (("log_probs", (x, y), {}), ("entropy", (x,), {}), ("entropy_vjp", (x, c), {}))


def called(function, *args, **options):
    """The code that a call runs."""
    seen = set()
    sys.setprofile(lambda frame, event, arg: seen.add(frame.f_code) if event == "call" else None)
    try:
        function(*args, **options)
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.libraries("numpy", "torch", "jax")
@pytest.mark.parametrize("chosen", [None, "generic", "numpy", "torch", "jax"])
def test_explain_names_the_function_that_runs(chosen, asarray, backend):
    if chosen not in (None, "generic", backend):
        return
    for name, args, options in explained_calls(asarray):
        if backend == "jax" and (chosen is not None or "precision" not in options):
            # what has been compiled runs no Python
            continue
        with backends.use(chosen) if chosen else contextlib.nullcontext():
            told = backends.explain(name, *args, **options)
            if backend != "jax":
                # numba may have to compile for a first call, which takes ten times as long where each call is watched
                getattr(sg, name)(*args, **options)
            ran = called(getattr(sg, name), *args, **options)
        if backend == "torch":
            assert told.array_type == "torch.Tensor"
            # with these the linear model takes the products of torch's generic kernel
            assert (told.backend in ("numpy", "numba")) == (chosen is None and "softcap" not in options), told
        if backend == "jax":
            assert told.array_type.endswith(".ArrayImpl")
            assert told.backend == "numpy"
        module, _, kernel = told.implementation.partition(":")
        assert getattr(importlib.import_module(module), kernel).__code__ in ran, told


@pytest.mark.libraries("torch")
def test_explain_names_torch_for_what_is_recorded(asarray):
    x = asarray(np.zeros((3, 4))).requires_grad_(True)
    told = backends.explain("softmax", x)
    assert told.backend == "torch"
    assert told.declined == (("torch_cpu", "a gradient is recorded"),)
