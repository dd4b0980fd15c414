"""SoftmaxRegression: scikit-learn's conventions, on the arrays of every library."""

import functools
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from softgrad import SoftmaxRegression
from softgrad._array.errors import MixedArraysError
from softgrad.estimator import data as estimator_data
from softgrad.estimator import predictions as estimator_predictions
from softgrad.estimator import scaling as estimator_scaling
from softgrad.estimator.solvers import SOLVERS
from softgrad.linear.model import LinearCrossEntropy

N, M, K = 240, 6, 3
X, LABELS = make_classification(N, M, n_informative=4, n_classes=K, class_sep=0.7, random_state=3)
X = X * np.logspace(-1, 1, M) + 1.0
NAMES = np.array(["ash", "birch", "cedar"])
SAMPLE_WEIGHT = np.random.default_rng(2).random(N) + 0.1
CLASS_WEIGHT = {0: 1.0, 1: 3.0, 2: 0.5}

every_solver = pytest.mark.parametrize("solver", list(SOLVERS))


@functools.cache
def reference(classes=K, weighted=False, class_weight=None, C=1.0, intercept=True):
    """Probabilities of scikit-learn's LogisticRegression, by a solver that ends at its optimum."""
    rows = classes > LABELS
    weights = {None: None, "dict": CLASS_WEIGHT}.get(class_weight)
    if class_weight == "balanced":
        # as scikit-learn has it since 1.8, where sample weights count
        mass = np.bincount(LABELS, SAMPLE_WEIGHT if weighted else None)
        weights = {k: mass.sum() / (K * mass[k]) for k in range(K)}
    model = LogisticRegression(
        C=C,
        solver="lbfgs" if math.isinf(C) else "newton-cholesky",
        tol=1e-9 if math.isinf(C) else 1e-12,
        max_iter=20_000,
        fit_intercept=intercept,
        class_weight=weights,
    )
    model.fit(X[rows], LABELS[rows], sample_weight=SAMPLE_WEIGHT[rows] if weighted else None)
    return model.predict_proba(X[rows])


def data(asarray, classes=K, dtype="float64"):
    rows = classes > LABELS
    return asarray(X[rows], dtype), asarray(LABELS[rows], "int64")


# --- agreement with scikit-learn, on every library


@every_solver
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(solver, classes, asarray, to_numpy):
    x, y = data(asarray, classes)
    model = SoftmaxRegression(solver=solver, tol=1e-8, max_iter=1000).fit(x, y)
    found = to_numpy(model.predict_proba(x))
    np.testing.assert_allclose(found, reference(classes), atol=1e-6)
    np.testing.assert_allclose(to_numpy(model.predict_log_proba(x)), np.log(found), atol=1e-9)


@pytest.mark.parametrize("class_weight", [None, "balanced", "dict"])
def test_weights_are_those_of_scikit_learn(class_weight, asarray, to_numpy):
    x, y = data(asarray)
    weights = CLASS_WEIGHT if class_weight == "dict" else class_weight
    model = SoftmaxRegression(tol=1e-8, max_iter=1000, class_weight=weights)
    model.fit(x, y, sample_weight=asarray(SAMPLE_WEIGHT))
    expected = reference(weighted=True, class_weight=class_weight)
    np.testing.assert_allclose(to_numpy(model.predict_proba(x)), expected, atol=1e-6)


@pytest.mark.parametrize(("C", "intercept"), [(0.01, True), (100.0, False), (math.inf, True)])
def test_penalty_and_intercept_are_those_of_scikit_learn(C, intercept, asarray, to_numpy):
    x, y = data(asarray)
    model = SoftmaxRegression(C, fit_intercept=intercept, tol=1e-8, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(to_numpy(model.predict_proba(x)), reference(C=C, intercept=intercept), atol=1e-6)
    if not intercept:
        assert not np.any(to_numpy(model.intercept_))


def test_float32(asarray, to_numpy):
    x, y = data(asarray, dtype="float32")
    model = SoftmaxRegression(tol=1e-5, max_iter=1000).fit(x, y)
    assert model.coef_.dtype == x.dtype
    np.testing.assert_allclose(to_numpy(model.predict_proba(x)), reference(), atol=2e-3)


def test_half_precision_is_fitted_in_float32(asarray, to_numpy, has_dtype):
    if not has_dtype("float16"):
        pytest.skip("no float16")
    x, y = data(asarray, dtype="float16")
    model = SoftmaxRegression(tol=1e-4).fit(x, y)
    assert str(model.coef_.dtype).split(".")[-1] in ("float32", "float64")
    np.testing.assert_allclose(to_numpy(model.predict_proba(x)), reference(), atol=2e-2)


# --- shapes, types and places, on every library


def test_what_a_fit_leaves(asarray, to_numpy):
    x, y = data(asarray)
    model = SoftmaxRegression().fit(x, y)
    assert (tuple(model.coef_.shape), tuple(model.intercept_.shape)) == ((K, M), (K,))
    assert model.n_features_in_ == M
    np.testing.assert_array_equal(to_numpy(model.classes_), range(K))
    assert isinstance(model.n_iter_, int)
    assert len(model.loss_curve_) == model.n_iter_ + 1
    assert model.loss_curve_[0] == pytest.approx(math.log(K))
    assert all(isinstance(value, float) for value in model.loss_curve_)
    assert model.loss_curve_ == sorted(model.loss_curve_, reverse=True)
    logits = to_numpy(x) @ to_numpy(model.coef_).T + to_numpy(model.intercept_)
    np.testing.assert_allclose(to_numpy(model.decision_function(x)), logits, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(to_numpy(model.predict(x)), logits.argmax(axis=1))
    assert float(to_numpy(model.intercept_).sum()) == pytest.approx(0.0, abs=1e-12)


def test_arrays_come_out_as_they_went_in(asarray):
    x, y = data(asarray)
    model = SoftmaxRegression().fit(x, y)
    floats = [model.coef_, model.intercept_, model.decision_function(x), model.predict_proba(x)]
    for a in (*floats, model.predict_log_proba(x), model.classes_, model.predict(x)):
        assert type(a) is type(x)
        assert getattr(a, "device", None) == getattr(x, "device", None)
    assert {a.dtype for a in floats} == {x.dtype}
    assert model.predict(x).dtype == y.dtype


def test_two_classes_keep_both_columns(asarray, to_numpy):
    x, y = data(asarray, 2)
    model = SoftmaxRegression(tol=1e-8).fit(x, y)
    coef = to_numpy(model.coef_)
    assert coef.shape == (2, M)
    np.testing.assert_allclose(coef[0], -coef[1], rtol=1e-6, atol=1e-9)
    logits = to_numpy(x) @ coef.T + to_numpy(model.intercept_)
    found = model.decision_function(x)
    assert len(found.shape) == 1
    np.testing.assert_allclose(to_numpy(found), logits[:, 1] - logits[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("names", "dtype"),
    [([-7, 3, 1000], "int64"), ([5, 2, 9], "uint8"), ([0.0, -1.0, 4.0], "float64"), ([True, False], "bool")],
)
def test_labels_are_any_numbers(names, dtype, asarray, to_numpy):
    x, _ = data(asarray, len(names))
    host = np.array(names, dtype=dtype)[LABELS[len(names) > LABELS]]
    y = asarray(host, dtype)
    model = SoftmaxRegression(tol=1e-8).fit(x, y)
    np.testing.assert_array_equal(to_numpy(model.classes_), np.unique(host))
    assert model.classes_.dtype == y.dtype
    found = model.predict(x)
    assert found.dtype == y.dtype
    assert np.mean(to_numpy(found) == host) == model.score(x, y)
    order = np.argsort(names)
    np.testing.assert_allclose(to_numpy(model.predict_proba(x)), reference(len(names))[:, order], atol=1e-6)


def test_score_counts_hits_with_weights_and_misses_unseen_labels(asarray, to_numpy):
    x, y = data(asarray)
    model = SoftmaxRegression().fit(x, y)
    hits = to_numpy(model.predict(x)) == LABELS
    assert model.score(x, y) == np.mean(hits)
    weighted = model.score(x, y, sample_weight=asarray(SAMPLE_WEIGHT))
    assert weighted == pytest.approx(np.average(hits, weights=SAMPLE_WEIGHT), rel=1e-12)
    assert model.score(x, asarray(np.full(N, 77), "int64")) == 0.0
    assert isinstance(model.score(x, y), float)


def test_warm_start_goes_on_from_where_it_was(asarray):
    x, y = data(asarray)
    model = SoftmaxRegression(tol=1e-6, warm_start=True).fit(x, y)
    first = model.loss_curve_[-1]
    assert model.n_iter_ > 1
    model.fit(x, y)
    assert (model.n_iter_, model.loss_curve_[0]) == (0, pytest.approx(first))
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(x[:, :2], y)
    with pytest.raises(ValueError, match=r"warm_start.*\[0, 1, 2\]"):
        model.fit(*data(asarray, 2))


def test_the_data_never_leave_their_device(asarray, monkeypatch):
    x, y = data(asarray)
    sizes = []

    def watched(lib, *arrays):
        sizes.extend(math.prod(a.shape) for a in arrays)
        return reading(lib, *arrays)

    reading = estimator_data.to_host
    for module in (estimator_data, estimator_scaling):
        monkeypatch.setattr(module, "to_host", watched)
    SoftmaxRegression(class_weight="balanced").fit(x, y, sample_weight=asarray(SAMPLE_WEIGHT))
    assert max(sizes, default=0) <= M * (M + 1) < N


def test_a_lone_scalar_weight_changes_only_the_penalty(asarray, to_numpy):
    x, y = data(asarray)
    model = SoftmaxRegression(tol=1e-8, C=0.5).fit(x, y, sample_weight=2.0)
    np.testing.assert_allclose(to_numpy(model.predict_proba(x)), reference(), atol=1e-6)


def test_inputs_are_not_written_to(asarray, to_numpy):
    x, y = data(asarray)
    weight = asarray(SAMPLE_WEIGHT)
    model = SoftmaxRegression(class_weight="balanced", max_iter=5, tol=0.1).fit(x, y, sample_weight=weight)
    model.predict_proba(x)
    np.testing.assert_array_equal(to_numpy(x), X)
    np.testing.assert_array_equal(to_numpy(y), LABELS)
    np.testing.assert_array_equal(to_numpy(weight), SAMPLE_WEIGHT)


# --- faults, on every library


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad, asarray):
    x, y = data(asarray)
    broken = X.copy()
    broken[5, 2] = bad
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        SoftmaxRegression().fit(asarray(broken), y)
    weight = SAMPLE_WEIGHT.copy()
    weight[3] = bad
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        SoftmaxRegression().fit(x, y, sample_weight=asarray(weight))
    labels = LABELS.astype(float)
    labels[7] = bad
    with pytest.raises(ValueError, match=r"y contains (NaN|infinity)"):
        SoftmaxRegression().fit(x, asarray(labels))


def test_large_finite_numbers_are_not_taken_for_infinity(asarray):
    x = np.stack([np.linspace(1e308, 1.7e308, 20), np.arange(20.0)], axis=1)
    lib = estimator_data.library(asarray(x), "X")
    estimator_data._finite(lib, asarray(x), "X")


def test_shapes_that_do_not_fit_are_refused(asarray):
    x, y = data(asarray)
    weight = asarray(SAMPLE_WEIGHT)
    model = SoftmaxRegression()
    for arguments, match in (
        ((x[:, 0], y), r"(two dimensions|2D array)"),
        ((x[:0, :], y[:0]), r"0 sample\(s\)"),
        ((x[:, :0], y), r"0 feature\(s\)"),
        ((x, y[:9]), r"(shape \(240,\).*\(9,\)|inconsistent)"),
        ((x, y, weight[:9]), r"sample_weight.*\(240,\).*\(9,\)"),
        ((x, y, x), r"sample_weight.*\(240,\).*\(240, 6\)"),
    ):
        with pytest.raises(ValueError, match=match):
            model.fit(*arguments)
    model.fit(x, y)
    for call in (model.predict, model.predict_proba, model.predict_log_proba, model.decision_function):
        with pytest.raises(ValueError, match=r"(2 features|two dimensions|2D)"):
            call(x[:, :2])


def test_one_class_is_refused(asarray):
    x, _ = data(asarray)
    with pytest.raises(ValueError, match="only one class, 4"):
        SoftmaxRegression().fit(x, asarray(np.full(N, 4), "int64"))


def test_labels_and_weights_that_mean_nothing_are_refused(asarray):
    x, y = data(asarray)
    with pytest.raises(ValueError, match="continuous"):
        SoftmaxRegression().fit(x, asarray(LABELS + 0.5))
    with pytest.raises(ValueError, match="negative"):
        SoftmaxRegression().fit(x, y, sample_weight=asarray(-SAMPLE_WEIGHT))
    with pytest.raises(ValueError, match="non-zero"):
        SoftmaxRegression().fit(x, y, sample_weight=asarray(np.zeros(N)))
    with pytest.raises(ValueError, match="y to be passed"):
        SoftmaxRegression().fit(x, None)


def test_a_model_is_used_where_it_was_fitted(asarray, backend):
    x, y = data(asarray)
    model = SoftmaxRegression()
    with pytest.raises(NotFittedError):
        model.predict(x)
    model.fit(x, y)
    if backend == "numpy":
        return
    with pytest.raises(MixedArraysError, match=r"(?s)predict\(\) must use the same namespace.*model\.to\(X\)"):
        model.predict(X)
    with pytest.raises(ValueError, match=r"SoftmaxRegression.predict_proba\(\) must use the same namespace"):
        SoftmaxRegression().fit(X, LABELS).predict_proba(x)
    with pytest.raises(TypeError, match=r"y is an array of numpy.*X is"):
        SoftmaxRegression().fit(x, LABELS)
    with pytest.raises(TypeError, match="y must be an array"):
        SoftmaxRegression().fit(x, LABELS.tolist())
    with pytest.raises(TypeError, match="y is an array of"):
        SoftmaxRegression().fit(X, y)


@pytest.mark.parametrize("names", ["int", "bool", "str"])
@pytest.mark.parametrize("way", ["name", "array"])
def test_a_model_moves_to_another_library_and_back(way, names, asarray, to_numpy, backend):
    if backend == "array_api_strict" and way == "name":
        pytest.skip("its default device is not that of the test")
    x = asarray(X)
    y = {"int": LABELS + 3, "bool": LABELS > 0, "str": NAMES[LABELS]}[names]
    fitted = SoftmaxRegression().fit(X, y)
    there = fitted.to(backend if way == "name" else x)
    assert type(fitted.coef_) is np.ndarray
    assert type(there.coef_) is type(x)
    assert getattr(there.coef_, "device", None) == getattr(x, "device", None)
    np.testing.assert_array_equal(to_numpy(there.predict(x)), fitted.predict(X))
    np.testing.assert_allclose(to_numpy(there.predict_proba(x)), fitted.predict_proba(X), rtol=1e-12)
    back = there.to("numpy")
    for name in ("coef_", "intercept_", "classes_"):
        assert type(getattr(back, name)) is np.ndarray
        assert getattr(back, name).dtype == getattr(fitted, name).dtype
        np.testing.assert_array_equal(getattr(back, name), getattr(fitted, name))
    assert (back.n_iter_, back.n_features_in_, back.loss_curve_) == (fitted.n_iter_, M, fitted.loss_curve_)


def test_a_model_moves_with_the_names_of_its_features(asarray, backend):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcdef"))
    moved = SoftmaxRegression().fit(table, LABELS).to(asarray(X))
    assert list(moved.feature_names_in_) == list("abcdef")


def test_a_move_that_cannot_be_is_refused(asarray):
    x, y = data(asarray)
    with pytest.raises(NotFittedError):
        SoftmaxRegression().to("numpy")
    model = SoftmaxRegression().fit(x, y)
    for name in ("nunpy", "json"):
        with pytest.raises(ValueError, match=f"'{name}' is not an array library.*'numpy', 'torch'"):
            model.to(name)
    with pytest.raises(TypeError, match=r"must be an array"):
        model.to([1.0])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_interrupt_or_an_error_from_outside_leaves_the_best_coefficients(kind, asarray, to_numpy, monkeypatch):
    x, y = data(asarray)
    calls, compute = [], LinearCrossEntropy.value_and_grad

    def interrupted(self, W, bias=None, **keywords):
        if len(calls) == 5:
            raise kind
        value, grads = compute(self, W, bias, **keywords)
        calls.append((float(to_numpy(value)), to_numpy(W)))
        return value, grads

    monkeypatch.setattr(LinearCrossEntropy, "value_and_grad", interrupted)
    model = SoftmaxRegression(tol=1e-9)
    with pytest.raises(kind) as caught:
        model.fit(x, y)
    assert "best coefficients so far are kept" in caught.value.__notes__[0]
    np.testing.assert_array_equal(to_numpy(model.coef_), min(calls, key=lambda call: call[0])[1])
    assert len(model.loss_curve_) == model.n_iter_ + 1
    assert tuple(model.predict(x).shape) == (N,)


def test_a_fit_that_ends_early_says_so(asarray):
    x, y = data(asarray)
    with pytest.warns(ConvergenceWarning, match=r"^lbfgs failed to converge.*stopped after 2 iterations.*max_iter=2"):
        SoftmaxRegression(max_iter=2, tol=1e-9).fit(x, y)


@pytest.mark.parametrize(("solver", "size"), [("lbfgs", 1e30), ("newton-cg", 1e8), ("trust-ncg", 1e8)])
def test_huge_features_do_not_end_in_nan(solver, size, asarray, to_numpy):
    x = asarray(X / np.abs(X).max() * size, "float32")
    y = asarray(LABELS, "int64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SoftmaxRegression(solver=solver, max_iter=8).fit(x, y)
    assert np.all(np.isfinite(to_numpy(model.coef_)))
    assert np.all(np.isfinite(model.loss_curve_))
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert np.all(np.isfinite(to_numpy(model.predict_proba(x))))


# --- scikit-learn's own checks, and what is for the host alone


@every_solver
def test_scikit_learns_checks_pass(solver):
    results = check_estimator(SoftmaxRegression(solver=solver), on_skip=None)
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    left_out = [str(result["exception"]) for result in results if result["status"] == "skipped"]
    assert all("array_api" in reason or "pandas is not installed" in reason for reason in left_out), left_out


DISPATCH = """
import importlib
import sys
import numpy as np
from sklearn import config_context
from sklearn.datasets import make_classification
from sklearn.utils import estimator_checks as checks
from softgrad import SoftmaxRegression

library, device = sys.argv[1:]
module = importlib.import_module(library)
if library == "array_api_strict":
    device = module.Device(device)
X, y = make_classification(60, 4, random_state=0)
names = np.array(["no", "yes"])[y]
expected = SoftmaxRegression().fit(X, names)
with config_context(array_api_dispatch=True):
    x = module.asarray(X, device=device)
    model = SoftmaxRegression().fit(x, names, sample_weight=np.ones(60))
    assert type(model.coef_) is type(x)
    assert set(model.predict(x)) == {"no", "yes"}
    assert model.score(x, names) == expected.score(X, names)
    back = SoftmaxRegression().fit(X, module.asarray(y, device=device))
    assert isinstance(back.coef_, np.ndarray)
    np.testing.assert_allclose(back.coef_, expected.coef_)

if hasattr(checks, "NamespaceAndDevice"):  # scikit-learn 1.9 has them for estimators of others
    model, device = SoftmaxRegression(tol=1e-6), sys.argv[2]
    for weighted in (False, True):
        checks.check_array_api_input_and_values("", model, library, device, check_sample_weight=weighted)
    checks.check_array_api_same_namespace("SoftmaxRegression", model, library, device)
    there, here = checks.NamespaceAndDevice(library, device), checks.NamespaceAndDevice("numpy", None)
    # on the others it asks for a fit without the dispatch too, by copies to the host
    for X, rest in ((there, here), (here, there)) if library == "array_api_strict" else ():
        checks.check_array_api_mixed_inputs("SoftmaxRegression", model, X, rest, check_values=True)
print("passed")
"""


@pytest.mark.full("torch")
@pytest.mark.libraries("torch", "array_api_strict")
def test_scikit_learns_dispatch(backend):
    devices = {"torch": "cpu", "array_api_strict": "device1"}
    run = subprocess.run(
        [sys.executable, "-c", DISPATCH, backend, devices[backend]],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "passed", run.stderr


def test_without_scikit_learn_the_error_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import softgrad.estimator.model"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: softgrad.SoftmaxRegression needs SciPy and scikit-learn" in run.stderr
    assert "'sklearn'" in run.stderr


def test_without_scikit_learn_the_names_of_the_package_are_there():
    code = """
import sys
sys.modules["sklearn"] = None
import inspect, pydoc
import softgrad
from softgrad import *
assert hasattr(softgrad, "SoftmaxRegression")
assert set(softgrad.__all__) <= set(dict(inspect.getmembers(softgrad)))
assert "needs SciPy and scikit-learn" in pydoc.render_doc(softgrad)
try:
    SoftmaxRegression(C=2.0)
except ImportError as error:
    assert "'sklearn'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@every_solver
def test_digits_agree_with_scikit_learn(solver):
    x, y = load_digits(return_X_y=True)
    x = x[:, x.std(axis=0) > 0.5][::3] / 16
    y = y[::3]
    model = SoftmaxRegression(solver=solver, tol=1e-8, max_iter=3000).fit(x, y)
    other = LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=500).fit(x, y)
    np.testing.assert_allclose(model.predict_proba(x), other.predict_proba(x), atol=1e-6)


def test_labels_are_strings():
    model = SoftmaxRegression(class_weight={"birch": 1.1}).fit(X, NAMES[LABELS])
    np.testing.assert_array_equal(model.classes_, NAMES)
    assert set(model.predict(X)) == set(NAMES)
    assert model.score(X, NAMES[LABELS]) == np.mean(model.predict(X) == NAMES[LABELS]) > 0.5
    assert model.score(X, np.full(N, "yew")) == 0.0
    mixed = np.array([("ash", "birch", "cedar")[i] for i in LABELS], dtype=object)
    np.testing.assert_array_equal(SoftmaxRegression().fit(X, mixed).classes_, NAMES)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix"])
@every_solver
def test_sparse_data_are_fitted_as_dense_ones(kind, solver):
    dense = np.where(np.random.default_rng(1).random(X.shape) < 0.5, X, 0.0)
    given = getattr(scipy.sparse, kind)(dense)
    for weight in (None, SAMPLE_WEIGHT):
        options = {"solver": solver, "tol": 1e-7, "class_weight": "balanced", "max_iter": 500}
        sparse = SoftmaxRegression(**options).fit(given, LABELS, sample_weight=weight)
        model = SoftmaxRegression(**options).fit(dense, LABELS, sample_weight=weight)
        assert isinstance(sparse.coef_, np.ndarray)
        np.testing.assert_allclose(sparse.predict_proba(given), model.predict_proba(dense), atol=1e-6)
        assert sparse.loss_curve_[-1] == pytest.approx(model.loss_curve_[-1], rel=1e-9)
        assert sparse.score(given, LABELS) == model.score(dense, LABELS)


def test_sparse_data_in_blocks(monkeypatch):
    from softgrad.backends.sparse import linear as sparse_linear

    dense = np.where(X > 1.0, X, 0.0)
    whole = SoftmaxRegression(tol=1e-7).fit(scipy.sparse.csr_array(dense), LABELS, sample_weight=SAMPLE_WEIGHT)
    monkeypatch.setattr(sparse_linear, "rows_of_block", lambda *args: 50)
    blocks = SoftmaxRegression(tol=1e-7).fit(scipy.sparse.csr_array(dense), LABELS, sample_weight=SAMPLE_WEIGHT)
    np.testing.assert_allclose(blocks.coef_, whole.coef_, rtol=1e-6, atol=1e-8)


def test_more_features_than_samples():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(30, 80)), rng.integers(0, 3, size=30)
    model = SoftmaxRegression(tol=1e-8, max_iter=1000).fit(x, y)
    other = LogisticRegression(solver="newton-cholesky", tol=1e-12).fit(x, y)
    np.testing.assert_allclose(model.predict_proba(x), other.predict_proba(x), atol=1e-6)


def test_badly_scaled_features_converge():
    scales = np.logspace(-4, 4, M)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SoftmaxRegression(C=math.inf, tol=1e-5).fit(X * scales, LABELS)
    assert model.loss_curve_[-1] == pytest.approx(
        SoftmaxRegression(C=math.inf, tol=1e-8).fit(X, LABELS).loss_curve_[-1]
    )


def test_pipeline_search_pickle_and_clone():
    names = NAMES[LABELS]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SoftmaxRegression()), {"softmaxregression__C": [0.01, 1.0]}, cv=3
    ).fit(X, names)
    assert search.best_score_ > 0.5
    assert cross_val_score(SoftmaxRegression(), X, names, cv=3, scoring="neg_log_loss").mean() > -1.0
    model = search.best_estimator_[-1]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "coef_")


def test_pickle_of_a_fit_on_any_library(asarray, to_numpy, backend):
    if backend == "cupy":
        pytest.skip("the emulated device does not pickle")
    x, y = data(asarray)
    model = SoftmaxRegression().fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(to_numpy(again.predict(x)), to_numpy(model.predict(x)))


def test_tables_bring_the_names_of_their_columns():
    pandas = pytest.importorskip("pandas")
    columns = [f"feature {i}" for i in range(M)]
    table = pandas.DataFrame(X, columns=columns)
    model = SoftmaxRegression().fit(table, pandas.Series(NAMES[LABELS]))
    assert list(model.feature_names_in_) == columns
    np.testing.assert_array_equal(model.predict(table), SoftmaxRegression().fit(X, NAMES[LABELS]).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table.rename(columns={"feature 0": "other"}))


def test_verbose_prints_a_line_a_step(capsys):
    model = SoftmaxRegression(verbose=1).fit(X, LABELS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_ + 1
    assert lines[0].startswith("iteration    0  loss 1.0986123")
    SoftmaxRegression().fit(X, LABELS)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("C", 0.0),
        ("C", -1),
        ("C", math.nan),
        ("C", "1"),
        ("solver", "sag"),
        ("tol", -1e-3),
        ("tol", math.inf),
        ("max_iter", -1),
        ("max_iter", 2.5),
        ("class_weight", "even"),
        ("class_weight", [1, 2, 3]),
        ("class_weight", {0: -1.0}),
        ("class_weight", {9: 1.0}),
    ],
)
def test_parameters_out_of_their_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        SoftmaxRegression(**{name: value}).fit(X, LABELS)


def test_a_weight_of_a_class_that_a_fold_lacks_is_passed_over():
    rows = LABELS < 2
    model = SoftmaxRegression(class_weight=CLASS_WEIGHT, tol=1e-8).fit(X[rows], LABELS[rows])
    other = LogisticRegression(class_weight=CLASS_WEIGHT, solver="newton-cholesky", tol=1e-10).fit(
        X[rows], LABELS[rows]
    )
    np.testing.assert_allclose(model.predict_proba(X[rows]), other.predict_proba(X[rows]), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, N])
def test_predictions_do_not_depend_on_the_blocks(rows, asarray, to_numpy, monkeypatch):
    model = SoftmaxRegression().fit(asarray(X), asarray(LABELS, "int64"))
    calls = ("predict", "predict_proba", "predict_log_proba")
    whole = [to_numpy(getattr(model, name)(asarray(X))) for name in calls]
    monkeypatch.setattr(estimator_predictions, "block_rows", lambda *_: rows)
    for name, expected in zip(calls, whole, strict=True):
        np.testing.assert_allclose(to_numpy(getattr(model, name)(asarray(X))), expected, rtol=1e-13, atol=1e-15)
    assert model.score(asarray(X), asarray(LABELS, "int64")) == np.mean(whole[0] == LABELS)


def test_predictions_keep_one_block_of_logits_in_memory():
    rng = np.random.default_rng(0)
    model = SoftmaxRegression().fit(X[:, :2], LABELS)
    model.coef_, model.intercept_, model.classes_ = rng.normal(size=(1000, 2)), np.zeros(1000), np.arange(1000)
    samples = rng.normal(size=(12_000, 2))
    peaks = {}
    for name in ("predict_proba", "predict"):
        tracemalloc.start()
        result = getattr(model, name)(samples)
        peaks[name] = tracemalloc.get_traced_memory()[1] - result.nbytes
        tracemalloc.stop()
    # all logits would be 96 MB; a block has at most 32 MiB of them, beside their softmax
    assert max(peaks.values()) < 2.5 * 2**25
