"""The temperature of a classifier: against SciPy's minimiser, scikit-learn's calibration and closed forms."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import oracle
import softgrad as sg
from marks import late_on_jax
from softgrad import calibration

RNG = np.random.default_rng(5)
N, K = 60, 4
LOGITS = RNG.normal(size=(N, K)) * 4
LABELS = np.where(RNG.random(N) < 0.5, LOGITS.argmax(axis=1), RNG.integers(0, K, N))
WEIGHT = RNG.random(N)
WHERE = RNG.random((N, K)) < 0.8
WHERE[np.arange(N), LABELS] = True
SOFT = RNG.dirichlet(np.ones(K), N)


def best(labels=LABELS, **options):
    def loss(u):
        return float(sg.cross_entropy(LOGITS * math.exp(-u), labels, **options))

    found = minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-10})
    return math.exp(found.x), found.fun


@late_on_jax
@pytest.mark.parametrize("options", [{}, {"sample_weight": WEIGHT}, {"where": WHERE}], ids=str)
@pytest.mark.parametrize("dense", [False, True])
def test_it_is_the_temperature_of_least_loss(options, dense, asarray):
    given = {name: asarray(a, "bool" if a.dtype == bool else "float64") for name, a in options.items()}
    if dense and "where" in options:
        options = {"where": np.ones_like(WHERE)}
        given = {"where": asarray(options["where"], "bool")}
    labels = SOFT if dense else LABELS
    found = calibration.temperature(asarray(LOGITS), asarray(labels, "float64" if dense else "int64"), **given)
    T, loss = best(labels, **options)
    assert isinstance(found.temperature, float)
    assert found.temperature == pytest.approx(T, rel=1e-6)
    assert found.loss_after == pytest.approx(loss, rel=1e-12)
    assert found.loss_before == pytest.approx(float(sg.cross_entropy(LOGITS, labels, **options)), rel=1e-12)
    assert found.iterations < 15


def test_the_slope_is_zero_there_in_high_precision(asarray):
    T = calibration.temperature(asarray(LOGITS), asarray(LABELS, "int64")).temperature
    with oracle.mpmath.workdps(oracle.DIGITS):
        step = oracle.mpmath.mpf("1e-12")
        up, down = (np.sum(losses(T * (1 + sign * step))) for sign in (1, -1))
        assert abs((up - down) / (2 * step)) < 1e-10


def losses(T):
    with oracle.mpmath.workdps(oracle.DIGITS):
        x = oracle.exact(LOGITS) / T
        return [oracle.logsumexp(row - row[y], axis=None)[()] for row, y in zip(x, LABELS, strict=True)]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_narrow_formats(dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype}")
    found = calibration.temperature(asarray(LOGITS, dtype), asarray(LABELS, "int64"))
    assert found.temperature == pytest.approx(best()[0], rel=2e-3 if dtype == "float16" else 1e-4)


def test_other_axes(asarray):
    x, labels = asarray(LOGITS.T), asarray(LABELS, "int64")
    assert calibration.temperature(x, labels, axis=0).temperature == pytest.approx(best()[0], rel=1e-6)


# of Dask a dozen graphs each, and the steps are those of the host
@pytest.mark.full("dask")
def test_the_ends_of_the_range(asarray):
    right = asarray(LOGITS.argmax(axis=1), "int64")
    wrong = asarray(LOGITS.argmin(axis=1), "int64")
    found = calibration.temperature(asarray(LOGITS), right)
    assert found.loss_after < 1e-15
    assert found.temperature >= math.exp(-10)
    assert calibration.temperature(asarray(LOGITS), wrong).temperature == pytest.approx(math.exp(10), rel=0.2)
    hidden = np.where(WHERE, LOGITS, -np.inf)
    found = calibration.temperature(asarray(hidden), asarray(LABELS, "int64"))
    assert found.temperature == pytest.approx(best(where=WHERE)[0], rel=1e-6)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "no sample counts", {"sample_weight": 0.0}),
        (ValueError, "max_iter must be at least 1, got 0", {"max_iter": 0}),
        (TypeError, "max_iter must be an int, got 1.5", {"max_iter": 1.5}),
    ],
)
def test_what_is_wrong_is_named(error, message, change, asarray):
    with pytest.raises(error, match=message):
        calibration.temperature(asarray(LOGITS), asarray(LABELS, "int64"), **change)


def test_a_loss_that_is_not_finite(asarray):
    with pytest.raises(ValueError, match="cross-entropy of the logits is nan"):
        calibration.temperature(asarray(LOGITS), asarray(LABELS + K, "int64"))


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(120, 30))
    y = np.asarray(["a", "b", "c"])[(X[:, :3] + 2 * rng.normal(size=(120, 3))).argmax(axis=1)]
    return X[:60], y[:60], X[60:], y[60:]


def test_a_fitted_model_against_scikit_learn(split):
    frozen = pytest.importorskip("sklearn.frozen")
    from sklearn.calibration import CalibratedClassifierCV

    X, y, X_new, y_new = split
    model = sg.SoftmaxRegression(C=100.0, max_iter=1000).fit(X, y)
    before = model.coef_.copy()
    mine = calibration.calibrate(model, X_new, y_new)
    try:
        theirs = CalibratedClassifierCV(frozen.FrozenEstimator(model), method="temperature").fit(X_new, y_new)
    except ValueError:
        pytest.skip("scikit-learn has it from 1.8 on")
    np.testing.assert_allclose(mine.predict_proba(X_new), theirs.predict_proba(X_new), rtol=1e-4, atol=1e-6)
    assert mine.temperature_ > 1
    assert np.array_equal(model.coef_, before)
    assert (mine.predict(X_new) == model.predict(X_new)).all()
    again = calibration.calibrate(mine, X_new, y_new)
    assert again.temperature_ == pytest.approx(mine.temperature_, rel=1e-6)
    with pytest.raises(ValueError, match="y holds 'd', which is none of the classes"):
        calibration.calibrate(model, X_new[:1], np.asarray(["d"]))
    with pytest.raises(ValueError, match=r"y must have one dimension.*\(1, 1\)"):
        calibration.calibrate(model, X_new[:1], y_new[:1, None])
    # as fit takes them
    listed = calibration.calibrate(model, X_new.tolist(), y_new.tolist(), sample_weight=[1.0] * len(y_new))
    assert listed.temperature_ == mine.temperature_
    with pytest.raises(ValueError, match="temperature must be above 0"):
        calibration.apply(model, 0)
    with pytest.raises(TypeError, match="model must be a SoftmaxRegression, got int"):
        calibration.calibrate(3, X_new, y_new)
    with pytest.raises(TypeError, match="fitted SoftmaxRegression, got int"):
        calibration.apply(3, 1.0)


def test_a_model_on_the_arrays_of_a_library(split, asarray, to_numpy):
    X, y, X_new, y_new = split
    labels, labels_new = (np.unique(each, return_inverse=True)[1] for each in (y, y_new))
    host = calibration.calibrate(sg.SoftmaxRegression(C=10.0, tol=1e-8).fit(X, labels), X_new, labels_new)
    model = sg.SoftmaxRegression(C=10.0, tol=1e-8).fit(asarray(X), asarray(labels, "int64"))
    found = calibration.calibrate(model, asarray(X_new), asarray(labels_new, "int64"))
    assert type(found.coef_) is type(model.coef_)
    assert found.temperature_ == pytest.approx(host.temperature_, rel=1e-5)
    np.testing.assert_allclose(to_numpy(found.coef_), host.coef_, rtol=1e-4, atol=1e-6)
