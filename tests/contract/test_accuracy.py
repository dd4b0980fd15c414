"""Errors in units in the last place, against mpmath and the bounds of docs/accuracy.md: some of ``nox -s accuracy``."""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import mpmath
import numpy as np
import pytest

import fuzz
import softgrad as sg
from accuracy import __main__ as program
from accuracy import (
    _divergence,
    _families,
    _formats,
    _jobs,
    _linear,
    _measure,
    _reference,
    _report,
    _separable,
    _subjects,
)
from fuzz import _run
from fuzz._dense import dense_call
from marks import late

FORMATS = _formats.FORMATS
#: Where each call is a graph or a program anew, and none is chosen by what the rows hold.
LATE = ("dask", "jax")


@pytest.fixture(scope="session")
def arrays(backend, library):
    made = _subjects.open_arrays(backend)
    # every function anew would be compiled for minutes; the program measures them compiled
    return dataclasses.replace(made, compile=None)


def subjects(backend, arrays):
    for subject in _subjects.ours(backend, arrays):
        yield dataclasses.replace(subject, arrays=dataclasses.replace(subject.arrays, compile=None), choosy=False)


def broken(results):
    return [_report.line(result) for result in results if result.broken]


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", *(late(name, "jax", "dask") for name in ("float16", "bfloat16"))],
)
def test_bounds_of_every_family(dtype, backend, arrays):
    if dtype not in arrays.dtypes:
        pytest.skip(f"no {dtype}")
    # a number of rows that no kernel's block divides, with labels at the maximum and elsewhere
    inputs = [_families.every(5, case) for case in _families.cases(FORMATS[dtype], long=False, special=False)]
    everyone, reference = list(subjects(backend, arrays)), _reference.cached()
    if backend not in (*LATE, "cupy"):
        results = list(_measure.run(everyone, inputs, reference))
    else:
        inputs = _families.together(each for each in inputs if backend != "jax" or each.family != "many classes")
        results = list(_measure.run([each for each in everyone if not each.generic], inputs, reference))
        # the generic kernels are those of all libraries: here they take the cases in turn
        for i, subject in enumerate(each for each in everyone if each.generic):
            results += _measure.run([subject], inputs[i::2], reference)
    assert len(results) >= (40 if backend == "jax" else 60)
    assert not broken(results)


# of JAX there is a program for each shape: no kernel is chosen by it
@pytest.mark.full("jax")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "family",
    [
        "dominant",
        "subnormal",
        *(late(f"{which} rows", "cupy") for which in ("low", "high")),
    ],
)
def test_bounds_in_shapes_and_layouts_that_kernels_choose_by(family, dtype, backend, arrays):
    mine = dataclasses.replace(next(iter(subjects(backend, arrays))), choosy=True)
    inputs = [case for case in _families.cases(FORMATS[dtype], long=False) if case.family == family]
    assert len(inputs) == len(_families.SHAPES)
    if backend in LATE or backend not in sg.backends.available():
        # what is a program or a graph knows no shape, nor do the generic kernels
        inputs = inputs[1:2]
    assert not broken(_measure.run([mine], inputs, _reference.cached()))


@functools.cache
def long_axis():
    """(a case of columns in which a sum in one order would be off by hundreds of units, what is exact there)."""
    rng = np.random.default_rng(5)
    pool = FORMATS["float32"].round(rng.normal(size=200) * 3)
    x = rng.choice(pool, (1 << 18, 2))
    case = _families.Case("long", FORMATS["float32"], x, np.zeros(2, np.int64), axis=0)
    return case, _reference.compute(case)


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
def test_no_order_of_a_long_axis_costs_accuracy(function, backend, arrays):
    case, references = long_axis()
    mine = next(iter(subjects(backend, arrays)))
    (result,) = _measure.measure(mine, case, {function: references[function]})
    assert not result.broken, _report.line(result)
    assert result.worst < 20


# on JAX each is a program of seconds, and test_compiled_scalings compiles both kernels
KERNELS = [False, late(True, "jax")]
separated, apart = map(functools.cache, (_linear.problem, _divergence.problem))


@pytest.mark.parametrize("fit", list(_linear.GAPS))
@pytest.mark.parametrize("dtype", list(_linear.BOUNDS))
@pytest.mark.parametrize("generic", KERNELS)
def test_gradient_of_a_fit_that_separates_its_classes(generic, dtype, fit, arrays):
    assert _linear.ours(arrays, separated(dtype, fit), dtype, generic) <= _linear.BOUNDS[dtype]


@pytest.mark.parametrize("size", list(_divergence.APART))
@pytest.mark.parametrize("dtype", list(_divergence.BOUNDS))
@pytest.mark.parametrize("generic", KERNELS)
def test_divergences_of_two_that_nearly_agree(generic, dtype, size, arrays):
    assert _divergence.ours(arrays, apart(dtype, size, rows=2), dtype, generic) <= _divergence.BOUNDS[dtype]


def test_a_fit_goes_on_where_the_usual_gradient_is_zero(asarray, to_numpy):
    p = _linear.problem("float32", "far apart")
    X, W = p.X.astype("float32"), p.W.astype("float32")
    logits = X @ W.T
    e = np.exp(logits - logits.max(1, keepdims=True))
    usual = e / e.sum(1, keepdims=True)
    usual[np.arange(len(X)), p.labels] -= 1
    assert not usual[np.arange(len(X)), p.labels].any()
    at_label = sg.cross_entropy_grad(asarray(logits, "float32"), asarray(p.labels, None), reduction="sum")
    assert (to_numpy(at_label)[np.arange(len(X)), p.labels] < 0).all()


# on JAX the solver is that of NumPy, and the gradient is measured above
@pytest.mark.full("jax")
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(("dtype", "reached"), [("float32", 60), ("float64", 50)])
def test_a_fit_of_separable_data_goes_on_as_long_as_there_are_numbers(dtype, reached, asarray, to_numpy):
    X, y = _separable.problem()
    model = sg.SoftmaxRegression(C=np.inf, tol=0.0, max_iter=120, fit_intercept=False)
    model.fit(asarray(X, dtype), asarray(y, None))
    assert _separable.end("", X, y, to_numpy(model.coef_), 0, np.zeros(1)).gap > reached


def test_log_sum_exp_near_zero_is_exact_where_float64_is_to_be_had(asarray, to_numpy):
    x = np.log(np.full(4, 0.25, dtype=np.float32))
    with mpmath.workdps(60):
        exact = float(mpmath.log(mpmath.fsum(mpmath.exp(float(v)) for v in x)))
    assert abs(exact) < 1e-7
    got = to_numpy(sg.logsumexp(asarray(x, "float32"), precision="high"))
    assert abs(got - exact) <= 1e-7 * abs(exact)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("classes", [2, 3, 12, 80])
def test_a_z_loss_sees_how_far_the_sum_is_from_one(classes, axis, label, asarray, to_numpy):
    # the log-sum-exp is (classes - 1) exp(-40), and so is the sum of the other probabilities
    x, small = np.full((40, classes), -40.0), (classes - 1) * np.exp(-40.0)
    x[:, 0] = 0.0
    grad = sg.cross_entropy_grad(
        asarray(x if axis else x.T), asarray(np.full(40, label), "int64"), axis=axis, z_loss=0.25, reduction="sum"
    )
    rows = to_numpy(grad) if axis else to_numpy(grad).T
    right = -0.5 * small if label == 0 else 1 + 0.5 * small
    np.testing.assert_allclose(rows[:, 0], np.full(40, right), rtol=1e-13)


@pytest.mark.parametrize("classes", [2, 3, 12, 80])
def test_a_loss_is_not_lost_where_the_other_exponentials_underflow(classes, asarray, to_numpy):
    # exp(-110) is 0 in float32, exp(-110 + 36) is a normal number
    x = np.full((40, classes), -110.0)
    x[:, 0] = -36.0
    loss = sg.cross_entropy(asarray(x, "float32"), asarray(np.zeros(40, np.int64), None), reduction="none")
    np.testing.assert_allclose(to_numpy(loss), np.full(40, (classes - 1) * np.exp(-74.0)), rtol=1e-5)


def test_a_class_of_weight_0_may_be_impossible_where_labels_are_smoothed(asarray, to_numpy):
    x = np.asarray([[1.0, -np.inf, 0.5, -np.inf], [1.0, -np.inf, 0.5, 0.0]])
    weight = asarray([1.0, 0.0, 1.0, 1.0])
    loss = sg.CrossEntropy(label_smoothing=0.1, class_weight=weight, reduction="none")
    found = to_numpy(loss(asarray(x), asarray(np.asarray([0, 2]), None)))
    assert found[0] == np.inf
    assert np.isfinite(found[1])


def test_the_sign_of_a_sum_that_is_not_a_number(asarray, to_numpy):
    x = asarray([[516.0, np.nan], [np.nan, 1.0], [np.inf, np.inf]])
    value, sign = sg.logsumexp(x, axis=1, b=asarray([-1.0, 2.0]), return_sign=True)
    assert np.isnan(to_numpy(value)).all()
    assert np.isnan(to_numpy(sign)).all()


@pytest.mark.libraries("numpy", "torch")
def test_random_calls(backend):
    # the last two draw what comes up seldom
    made = [fuzz.one(1, number, backend) for number in (*range(100), 155, 260)]
    assert len({call.function for call in made}) == 26


def test_the_random_calls_find_a_wrong_result(monkeypatch, capsys):
    monkeypatch.setattr(sg, "softmax", lambda x, **options: x)
    monkeypatch.setattr(_run, "KINDS", ((dense_call, 1.0),))
    assert fuzz.main(["--calls", "60", "--libraries", "numpy", "--failures", "1"]) == 1
    assert "numpy softmax" in capsys.readouterr().out


def hessian(backend):
    if backend == "torch":
        import torch

        return torch.func.hessian
    if backend == "jax":
        import jax

        return jax.hessian
    pytest.skip(f"{backend} has no automatic differentiation")


@pytest.mark.full("jax", "cupy")
@pytest.mark.parametrize("ties", [2, 3])
def test_hessians_at_ties(ties, backend, asarray, to_numpy):
    exact = np.eye(ties) / ties - np.full((ties, ties), ties**-2.0)
    x = asarray(np.zeros(ties))
    label = asarray(np.asarray(0), None)
    for function, expected in (
        (sg.logsumexp, exact),
        (lambda a: sg.cross_entropy(a, label), exact),
        (lambda a: -sg.log_softmax(a)[0], exact),
    ):
        np.testing.assert_allclose(to_numpy(hessian(backend)(function)(x)), expected, rtol=1e-15, atol=1e-16)


SCIPY = """
import json, sys
import scipy.special
if sys.argv[1] == "torch":
    import torch
    found = torch.func.hessian(scipy.special.logsumexp)(torch.zeros(2, dtype=torch.float64)).tolist()
else:
    import jax
    jax.config.update("jax_enable_x64", True)
    found = jax.hessian(scipy.special.logsumexp)(jax.numpy.zeros(2)).tolist()
print(json.dumps(found))
"""


@pytest.mark.full
def test_the_hessian_that_scipy_gives_at_ties_is_the_wrong_answer_that_ours_is_not(backend):
    hessian(backend)
    if importlib.metadata.version("scipy").split(".")[:2] == ["1", "14"]:
        pytest.skip("SciPy 1.14 takes a log-sum-exp of NumPy arrays alone")
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SCIPY, backend], capture_output=True, text=True, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[0, 0], [0, 0]], "SciPy has changed: say so in docs/accuracy.md"


# --------------------------------------------------------------------------- the measure itself


def exact(*values):
    with mpmath.workdps(60):
        return _reference.pack([mpmath.mpf(v) for v in values], (len(values),))


def test_ulps_counts_last_places():
    form = FORMATS["float32"]
    one = np.spacing(np.float32(1))
    got = [1.0, 1 + one, 1 - one / 2, 0.0, np.inf, np.nan, 2.0**-149]
    found = _formats.ulps(got, exact(1, 1, 1, 1, 1, 1, 2.0**-148), form)
    np.testing.assert_array_equal(found, [0, 1, 0.5, 2**23, np.inf, np.inf, 1])


def test_ulps_of_what_no_number_stands_for():
    form = FORMATS["float64"]
    found = _formats.ulps(
        [np.inf, 1.0, np.nan, 0.0, 5e-324, -np.inf], exact(np.inf, np.inf, np.nan, 0, 0, -np.inf), form
    )
    np.testing.assert_array_equal(found, [0, np.inf, 0, 0, np.inf, 0])
    beyond = exact(mpmath.mpf(2) ** 1024, -(mpmath.mpf(2) ** 1024), mpmath.mpf(2) ** -1080)
    np.testing.assert_array_equal(_formats.ulps([np.inf, np.inf, 0.0], beyond, form) > 0.5, [False, True, False])


def test_a_reference_has_twice_the_digits():
    with mpmath.workdps(60):
        (high,), (low,), (exponent,) = exact(mpmath.mpf(1) / 3)
        third = (mpmath.mpf(high) + mpmath.mpf(low)) * mpmath.mpf(2) ** int(exponent)
        assert abs(third - mpmath.mpf(1) / 3) < mpmath.mpf(2) ** -104


def test_lost_is_what_a_normal_number_became_no_number_of():
    form = FORMATS["float32"]
    found = _formats.lost([0, 0, np.nan, 1e-10, np.inf], exact(1e-10, 1e-40, 1, 1e-10, 1), form)
    np.testing.assert_array_equal(found, [True, False, True, False, True])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_to_a_narrow_format(dtype):
    form = FORMATS[dtype]
    x = np.random.default_rng(0).normal(size=100) * 10
    rounded = form.round(x)
    assert (_formats.ulps(rounded, _reference.pack(map(mpmath.mpf, x), (100,)), form) <= 0.5 + 1e-4).all()
    np.testing.assert_array_equal(form.round(rounded), rounded)


def test_references_are_kept_and_read_back(tmp_path):
    case = next(iter(_families.cases(FORMATS["float32"], long=False)))
    reference = _reference.cached(tmp_path)
    made, (path,) = reference(case), tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    read = reference(case)
    assert path.stat().st_mtime_ns == written
    for name in made:
        for a, b in zip(made[name].exact, read[name].exact, strict=True):
            np.testing.assert_array_equal(a, b)
    assert read["logsumexp"].scale is not None
    assert read["softmax"].scale is None


@pytest.mark.full
def test_the_program_fails_where_a_bound_is_broken(tmp_path, monkeypatch, capsys):
    arguments = ["--dtypes", "float32", "--no-long", "--no-peers", "--cache", str(tmp_path)]
    monkeypatch.setattr(_measure, "bound", lambda *_: 0.01)
    assert program.main(arguments) == 1
    assert "BROKEN softgrad numpy: softmax float32" in capsys.readouterr().out


def test_the_program_refuses_a_library_it_does_not_know():
    with pytest.raises(SystemExit):
        program.main(["--libraries", "numpyy"])


@pytest.mark.full
@pytest.mark.libraries("numpy", "torch")
def test_the_program_writes_its_page_and_picture(backend, tmp_path, monkeypatch, capsys):
    (tmp_path / "_static").mkdir()
    page = tmp_path / "accuracy.md"
    page.write_text(f"first\n{_report.BEGIN}\nold\n{_report.END}\nlast\n", encoding="utf-8")
    monkeypatch.setattr(_jobs, "cases", lambda form, long: [next(iter(_families.cases(form, long=False)))])
    arguments = ["--libraries", backend, "--dtypes", "float32", "--no-long", "--write", str(tmp_path)]
    assert program.main([*arguments, "--details", "--cache", str(tmp_path)]) == 0
    assert "0 bounds broken" in capsys.readouterr().out
    head, tables, tail = page.read_text(encoding="utf-8").replace(_report.END, _report.BEGIN).split(_report.BEGIN)
    assert (head, tail) == ("first\n", "\nlast\n")
    assert "old" not in tables
    assert f"| softgrad {backend} high |" in tables
    assert "| scikit-learn |" in tables
    assert ("| scipy |" in tables) == (backend == "numpy")
    # drawn where Matplotlib is, as in NumPy's session
    for theme in ("light", "dark") if importlib.util.find_spec("matplotlib") else ():
        words = "".join(ElementTree.parse(tmp_path / "_static" / f"accuracy_{theme}.svg").getroot().itertext())
        assert "worst error of the loss, ULP" in words
        assert ("scikit-learn" in words) == (backend == "numpy")
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match=r"accuracy.md has no .* before an"):
        _report.write(tmp_path, [], [], [], [], "", [])
