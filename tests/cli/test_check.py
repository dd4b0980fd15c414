"""``check``: the identity on the library under test, and what is said where something is missing or wrong."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

from marks import full, late_on_jax, late_where_slow
from softgrad import _cli
from softgrad._cli import _problem
from softgrad.testing import _libraries

AUTOGRAD = {"torch": "torch autograd", "jax": "jax.grad"}
GROUPS = {"loss", "columns", "product", "differences"}
FRAMEWORKS = [name for name in _libraries.LIBRARIES if name != "numpy"]


@pytest.fixture(scope="module")
def answer(backend, library):
    """(exit code, stdout, stderr) of a check of the library under test, in JSON."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _cli.main(["check", "--backend", backend, "--json"])
    return code, out.getvalue(), err.getvalue()


def said(out):
    """The words of an output, wherever its lines end."""
    return " ".join(out.split())


def test_check_finds_the_identity_on_the_digits(backend, answer):
    code, out, err = answer
    report = json.loads(out)
    assert (code, err, report["agrees"], report["missing"]) == (0, "", True, [])
    assert report["data"]["samples"] == 1797
    assert report["data"]["attributes"] == 64
    assert report["data"]["classes"] == list("0123456789")
    assert [(r["back_end"], r["dtype"]) for r in report["results"]] == [
        (backend, "float64"),
        (backend, "float32"),
    ]
    for result in report["results"]:
        assert result["failure"] is None
        assert result["device"]
        assert {c["group"] for c in result["checks"]} == GROUPS | {
            AUTOGRAD[backend] for _ in range(backend in AUTOGRAD)
        }
        assert all(c["agrees"] and c["error"] <= c["tolerance"] for c in result["checks"])
        np.testing.assert_allclose(result["loss"], report["reference"]["loss"], rtol=1e-5)
        steps = {c["step"] for c in result["checks"] if c["group"] == "differences"}
        assert len(steps) >= 6


def test_check_holds_float64_to_one_part_in_a_million_million(answer):
    report = json.loads(answer[1])
    exact = [
        c for r in report["results"] for c in r["checks"] if r["dtype"] == "float64" and c["group"] != "differences"
    ]
    assert len(exact) >= 7
    assert max(c["tolerance"] for c in exact) <= 1e-12
    assert max(c["error"] for c in exact) <= 1e-13
    narrow = [
        c["tolerance"]
        for r in report["results"]
        for c in r["checks"]
        if r["dtype"] == "float32" and c["group"] != "differences"
    ]
    assert max(narrow) <= 1e-3


@pytest.mark.full("torch", "jax", "cupy", "dask")  # most of the time goes to their imports
def test_check_as_a_program_prints_json_and_nothing_else(backend, command):
    done = command("check", "--backend", backend, "--json")
    report = json.loads(done.stdout)
    if backend == "cupy" and report["missing"]:
        assert done.returncode == 1
        assert report["missing"][0]["reason"].startswith("no usable device: ")
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert report["agrees"]
        assert report["seconds"] < 60


@pytest.mark.parametrize("width", [80, *full(120)])
@late_where_slow
def test_check_prints_a_table_that_fits_a_terminal(backend, library, call, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = call("check", "--backend", backend)
    assert (code, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= width
    lines = [line.split() for line in out.splitlines()]
    columns = 4 + (backend in AUTOGRAD)
    (wide,) = [words for words in lines if words[:2] == [backend, "float64"]]
    assert len(wide) == 2 + columns
    assert all(0 <= float(word) < 1e-6 for word in wide[2:])
    (limits,) = [words for words in lines if words[:2] == ["allowed", "float64"]]
    assert all(float(error) <= float(limit) for error, limit in zip(wide[2:], limits[2:], strict=True))


@late_on_jax
def test_check_ends_with_what_a_user_wants_to_know(backend, answer, call):
    out = said(call("check", "--backend", backend)[1])
    results = json.loads(answer[1])["results"]
    for result in results:
        kinds = ("columns", "product", AUTOGRAD.get(backend))
        worst = max(check["error"] for check in result["checks"] if check["group"] in kinds)
        eps = np.finfo(result["dtype"]).eps
        # a compiled library may add in another order each time
        assert 0 < worst < 100 * eps
        assert f" in {result['dtype']} (" in out
    verdict = out.index(f"The gradient agrees on {backend}: no comparison differs by more than ")
    assert out.index("a matrix W of weights was drawn at random (seed 0)") < verdict
    assert "Nothing was fitted." in out[:verdict]
    assert "Next: check your own data by --data FILE" in out[verdict:]
    for head in ("loss", "by class", "X(S−Y)ᵀ", "finite diffs", *filter(None, [AUTOGRAD.get(backend)])):
        assert f"{head}: the " in out, "a column without a legend"


@late_on_jax
def test_a_file_is_checked_as_the_arrays_it_was_made_of(backend, library, call, data):
    path = data()
    code, out, err = call("check", "--backend", backend, "--data", path, "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["data"] == {
        "source": "data.csv",
        "samples": 60,
        "of_samples": 60,
        "attributes": 3,
        "classes": ["0", "1", "2"],
        "label": "column 'label'",
        "notes": [],
        "seed": 0,
    }
    X = np.random.default_rng(0).normal(size=(60, 3))
    expected = _problem.make_problem(X, np.arange(60) % 3, ("0", "1", "2"), seed=0, samples=0)
    assert report["reference"]["loss"] == expected.loss
    np.testing.assert_allclose(report["results"][0]["loss"], expected.loss, rtol=1e-12)


def test_numpy_alone_is_enough_and_what_is_missing_is_told_last(call, numpy_alone):
    code, out, err = call("check")
    assert (code, err) == (0, "")
    assert "The gradient agrees on numpy: " in said(out)
    assert said(out).endswith(f"Not run: {', '.join(FRAMEWORKS)} (not installed).")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_library_asked_for_and_missing_is_a_failure(call, numpy_alone, name):
    code, out, _ = call("check", "--backend", name, "--backend", "numpy")
    assert code == 1
    assert f"missing: {name}: not installed" in out
    assert f"The gradient was NOT RUN on {name}" in out
    assert "The gradient agrees on numpy: " in said(out)
    code, out, _ = call("check", "--backend", name, "--json")
    report = json.loads(out)
    assert code == 1
    assert not report["agrees"]
    assert report["missing"] == [{"back_end": name, "reason": "not installed"}]


def test_a_library_whose_import_fails_is_told_with_its_words(call, numpy_alone, fake_library):
    fake_library("broken", "raise OSError('libgone.so: cannot open\\nshared object')")
    fake_library("deviceless", "def asarray(*a, **k): raise RuntimeError('no CUDA-capable device')\nfloat32 = 0")
    code, out, _ = call("check", "--json")
    reasons = {each["back_end"]: each["reason"] for each in json.loads(out)["missing"]}
    assert code == 0
    assert reasons["broken"] == "import fails: OSError: libgone.so: cannot open shared object"
    assert reasons["deviceless"] == "no usable device: RuntimeError: no CUDA-capable device"
    assert call("check", "--backend", "broken")[0] == 1


def test_an_unknown_library_is_wrong_use(call):
    code, out, err = call("check", "--backend", "nonesuch")
    assert (code, out) == (2, "")
    assert "nonesuch" in err
    assert "array_api_strict" in err


OFF = """
from softgrad._kernels.linear import linear_cross_entropy_value_and_grad as right

def linear_cross_entropy_value_and_grad(*args):
    value, gradients = right(*args)
    return value, tuple(each * (1 + {off}) for each in gradients)
"""
OFF_VALUE = """
from softgrad._kernels.linear import linear_cross_entropy as right

def linear_cross_entropy(*args):
    return right(*args) * {factor}
"""


def disagreeing(out):
    return {(r["dtype"], c["group"]) for r in json.loads(out)["results"] for c in r["checks"] if not c["agrees"]}


def test_a_gradient_that_is_off_is_found(call, plug_in):
    plug_in(OFF.format(off=1e-11), "linear_cross_entropy_value_and_grad")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert not json.loads(out)["agrees"]
    assert disagreeing(out) >= {("float64", "product")}
    assert {dtype for dtype, _ in disagreeing(out)} == {"float64"}


def test_a_gradient_that_is_far_off_is_found_by_finite_differences_too(call, plug_in):
    plug_in(OFF.format(off=0.05), "linear_cross_entropy_value_and_grad")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert disagreeing(out) >= {(d, g) for d in ("float64", "float32") for g in ("product", "differences")}
    code, out, _ = call("check", "--backend", "numpy")
    assert code == 1
    assert "The gradient DISAGREES on numpy" in out
    assert "agrees on" not in out
    assert "wrong: numpy, float64: the gradient is off by 5e-02 (" in out
    assert "5e-02 !" in out


def test_a_loss_that_is_off_is_found_by_finite_differences(call, plug_in):
    plug_in(OFF_VALUE.format(factor="1.001"), "linear_cross_entropy")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert disagreeing(out) == {("float64", "differences")}


@pytest.mark.parametrize("factor", ["float('nan')", "float('inf')"])
def test_a_loss_that_is_no_number_never_agrees(call, plug_in, factor):
    plug_in(OFF_VALUE.format(factor=factor), "linear_cross_entropy")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    wrong = [c for r in json.loads(out)["results"] for c in r["checks"] if c["group"] == "differences"]
    assert not any(c["agrees"] for c in wrong)
    assert all(c["error"] is None for c in wrong)
    assert call("check", "--backend", "numpy")[0] == 1


def test_a_kernel_that_raises_is_a_line_and_a_failure(call, plug_in):
    plug_in("def linear_cross_entropy(*args):\n    raise ValueError('no such\\nthing')", "linear_cross_entropy")
    code, out, err = call("check", "--backend", "numpy")
    assert (code, err) == (1, "")
    assert "failed: numpy, float64: ValueError: no such thing" in out
    assert "The gradient could NOT BE COMPUTED on numpy" in out
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert {r["failure"] for r in json.loads(out)["results"]} == {"ValueError: no such thing"}
