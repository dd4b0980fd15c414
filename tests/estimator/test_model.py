"""SoftmaxRegression: scikit-learn's conventions, on the arrays of every library."""

import functools
import math
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression

from estimator_cases import CLASS_WEIGHT, LABELS, NAMES, SAMPLE_WEIGHT, K, M, N, X, data, every_solver
from marks import late_on_jax
from softgrad import SoftmaxRegression
from softgrad._array.errors import MixedArraysError
from softgrad.estimator import data as estimator_data
from softgrad.estimator import scaling as estimator_scaling
from softgrad.linear.model import LinearCrossEntropy


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


# --- agreement with scikit-learn, on every library


@every_solver
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(solver, classes, asarray, to_numpy):
    x, y = data(asarray, classes)
    model = SoftmaxRegression(solver=solver, tol=1e-8, max_iter=1000).fit(x, y)
    found = to_numpy(model.predict_proba(x))
    np.testing.assert_allclose(found, reference(classes), atol=1e-6)
    np.testing.assert_allclose(to_numpy(model.predict_log_proba(x)), np.log(found), atol=1e-9)


@late_on_jax
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


@late_on_jax
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


def test_a_model_moves_with_the_names_of_its_features(asarray):
    model = SoftmaxRegression().fit(X, LABELS)
    # as scikit-learn keeps them of a table
    model.feature_names_in_ = np.array(list("abcdef"), dtype=object)
    assert list(model.to(asarray(X)).feature_names_in_) == list("abcdef")


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


@late_on_jax
@pytest.mark.parametrize(("solver", "size"), [("lbfgs", 1e30), ("newton-cg", 1e8), ("trust-ncg", 1e8)])
def test_huge_features_do_not_end_in_nan(solver, size, asarray, to_numpy):
    x = asarray(X / np.abs(X).max() * size, "float32")
    y = asarray(LABELS, "int64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SoftmaxRegression(solver=solver, max_iter=4).fit(x, y)
    assert np.all(np.isfinite(to_numpy(model.coef_)))
    assert np.all(np.isfinite(model.loss_curve_))
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert np.all(np.isfinite(to_numpy(model.predict_proba(x))))
