"""SoftmaxRegression among scikit-learn's tools, and what is for the host alone."""

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
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from estimator_cases import CLASS_WEIGHT, LABELS, NAMES, SAMPLE_WEIGHT, M, N, X, data, every_solver
from marks import late_on_jax, some
from softgrad import SoftmaxRegression
from softgrad.estimator import predictions as estimator_predictions
from softgrad.estimator.solvers import SOLVERS


@pytest.mark.parametrize("solver", some(SOLVERS, "lbfgs"))
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


@late_on_jax
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
