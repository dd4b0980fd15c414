"""``check_backend`` on plug-ins, namespaces and libraries that nobody told it of."""

import sys
import types

import numpy as np
import pytest

import softgrad as sg
from softgrad import testing
from softgrad._kernels import dense as dense_kernels
from softgrad._kernels import linear as linear_kernels
from softgrad._kernels import loss as loss_kernels
from softgrad.backends import Backend

SECTIONS = ("edge cases",)
GENERIC = {
    "softmax_vjp": dense_kernels.__name__,
    "log_softmax_jvp": dense_kernels.__name__,
    "cross_entropy_hvp": loss_kernels.__name__,
    "cross_entropy_hessian_diag": loss_kernels.__name__,
    "linear_cross_entropy_hvp": linear_kernels.__name__,
    "linear_cross_entropy": linear_kernels.__name__,
}


def plug(name="plug", types=("numpy:ndarray",), **fields):
    return Backend(name, types, {f: f"{home}:{f}" for f, home in GENERIC.items()}, opt_in=True, **fields)


def test_the_generic_code_is_a_back_end():
    report = testing.check_backend("generic", sections=SECTIONS, show=False)
    assert report.ok
    assert report.name == "generic"


def test_a_plug_in_may_be_registered_already():
    sg.backends.register(plug())
    try:
        report = testing.check_backend("plug", sections=(*SECTIONS, "kernels"), show=False)
    finally:
        sg.backends.unregister("plug")
    assert report.ok
    assert report.name == "plug"
    found = {check.promise.split()[0]: check for check in report.checks if check.section == "kernels"}
    assert set(found) == set(GENERIC)
    ran = {function for function, check in found.items() if check.status == "passed"}
    # the diagonal is a method alone, which explain does not take
    assert ran == set(GENERIC) - {"cross_entropy_hessian_diag"}
    assert "no public function calls it alone" in found["cross_entropy_hessian_diag"].detail


def test_a_built_in_back_end_is_itself_again_afterwards():
    before = sg.backends.available()["numpy"]
    report = testing.check_backend(plug("numpy"), sections=("layout", "kernels"), show=False)
    assert report.ok
    assert sg.backends.available()["numpy"] == before


def test_a_plug_in_that_declines_everything_says_so():
    declining = plug(should_run=f"{__name__}:never")
    sys.modules.setdefault(__name__, sys.modules.get(__name__) or types.ModuleType(__name__))
    sys.modules[__name__].never = never
    report = testing.check_backend(declining, sections=("kernels",), show=False, on_failure="return")
    assert {check.status for check in report.checks} == {"skipped"}
    assert any("not today" in check.detail for check in report.checks)


def never(function, *args):
    return "not today"


def test_the_namespace_of_an_unknown_library_is_asked_for():
    with pytest.raises(sg.BackendError, match="pass the namespace of their arrays"):
        testing.check_backend(plug(types=("decimal:Decimal", "nowhere_to_be_found:Array")), show=False)


def test_the_namespace_of_a_plug_in_may_be_that_of_its_types(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy_by_another_name", np)
    report = testing.check_backend(plug(types=("numpy_by_another_name:ndarray",)), sections=SECTIONS, show=False)
    assert report.ok


def test_an_unknown_namespace_is_read_by_the_function_given():
    read = []

    def to_numpy(array):
        read.append(array)
        return np.asarray(array)

    report = testing.check_backend(np, sections=("layout",), to_numpy=to_numpy, show=False)
    assert report.ok
    assert report.name == "numpy"
