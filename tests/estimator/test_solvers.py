"""SciPy's minimisers on a bound loss: where the parameters travel, when they stop, and what stops them early."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array

import softgrad as sg
from marks import late
from softgrad._array.namespace import library
from softgrad.estimator.scaling import MOST_FEATURES, scaling, second_moments
from softgrad.estimator.solvers import SOLVERS, Objective, minimize

N, M, K = 60, 4, 3
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, M)) * np.array([1.0, 0.03, 20.0, 1.0]) + np.array([0.0, 0.0, 5.0, 0.0])
LABELS = np.argmax(X @ (RNG.normal(size=(K, M)) / X.std(axis=0)).T + RNG.gumbel(size=(N, K)), axis=1)

every_solver = pytest.mark.parametrize("solver", list(SOLVERS))


def host(a):
    return np.asarray(a, dtype=np.float64)


class OneNumber:
    """A loss of a single coefficient, with its derivatives, that notes where it was asked."""

    def __init__(self, value, slope, curvature):
        self.functions = value, slope, curvature
        self.asked = []

    def value_and_grad(self, W, bias=None):
        w = float(W[0, 0])
        self.asked.append(w)
        value, slope, _ = self.functions
        return np.asarray(value(w)), np.asarray([[slope(w)]])

    def hvp(self, W, vector, bias=None):
        return self.functions[2](float(W[0, 0])) * vector


def objective_of(loss, shape=(1, 1), intercept=False, scaled=None):
    return Objective(loss, shape, intercept, host, lambda *arrays: [host(a) for a in arrays], scaled)


def log_cosh(limit=math.inf, broken=math.nan):
    """Smallest at 1; a second-order step from far away overshoots, and from ``limit`` on nothing is finite."""

    def inside(f):
        return lambda w: f(w - 1) if w < limit else broken

    return OneNumber(
        inside(lambda d: abs(d) + math.log1p(math.exp(-2 * abs(d)))),
        inside(math.tanh),
        inside(lambda d: 1 / math.cosh(d) ** 2),
    )


# --- on arrays of each library


@pytest.fixture
def problem(asarray):
    return sg.LinearCrossEntropy(asarray(X), asarray(LABELS, "int64"), l2=0.01)


def on_library(problem, asarray, to_numpy, sizes=None, scaled=None):
    def put(a):
        assert type(a) is np.ndarray
        assert a.dtype == np.float64
        if sizes is not None:
            sizes.append(a.size)
        return asarray(a)

    def take(*arrays):
        if sizes is not None:
            sizes.extend(math.prod(a.shape) for a in arrays)
        return [to_numpy(a) for a in arrays]

    return Objective(problem, (K, M), True, put, take, scaled)


# of Dask's arrays every evaluation is a graph
@pytest.mark.parametrize("solver", [each if each == "lbfgs" else late(each, "dask") for each in SOLVERS])
def test_the_gradient_is_within_tol_and_only_parameters_travel(solver, problem, asarray, to_numpy):
    sizes = []
    objective = on_library(problem, asarray, to_numpy, sizes)
    fit = minimize(objective, np.zeros((K, M + 1)), solver=solver, tol=1e-5, max_iter=500)
    assert fit.converged, fit.message
    W, bias = objective.split(fit.point.theta)
    value, (grad, slope) = problem.value_and_grad(asarray(W), asarray(bias))
    assert float(to_numpy(value)) == fit.point.value == fit.curve[-1]
    assert max(np.abs(to_numpy(grad)).max(), np.abs(to_numpy(slope)).max()) <= 1e-5
    assert set(sizes) == {1, K, K * M}


@every_solver
def test_hvp_is_the_derivative_of_the_gradient(solver, problem, asarray, to_numpy):
    scaled = scaling(np.cov(np.append(X, np.ones((N, 1)), axis=1).T) + np.eye(M + 1), K, 0.01, True)
    for change in (None, scaled):
        objective = on_library(problem, asarray, to_numpy, scaled=change)
        u, direction = RNG.normal(size=(2, K * (M + 1))) * 0.1
        h = 1e-5
        numeric = (objective(u + h * direction)[1] - objective(u - h * direction)[1]) / (2 * h)
        np.testing.assert_allclose(objective.hvp(u, direction), numeric, rtol=1e-6, atol=1e-8)


# --- the coordinates that the solver sees


def moments(weight=None, intercept=True, data=X):
    lib = library(data, "X") if isinstance(data, np.ndarray) else None
    return second_moments(lib, data, weight, intercept)


def test_second_moments():
    weight = RNG.random(N)
    full = np.append(X, np.ones((N, 1)), axis=1)
    np.testing.assert_allclose(moments(), full.T @ full / N, rtol=1e-13)
    np.testing.assert_allclose(moments(weight), (full.T * weight) @ full / weight.sum(), rtol=1e-13)
    np.testing.assert_allclose(moments(weight, False), (X.T * weight) @ X / weight.sum(), rtol=1e-13)


def test_second_moments_on_every_library(asarray):
    for weight in (None, RNG.random(N)):
        x = asarray(X)
        lib = library(x, "X")
        w = None if weight is None else asarray(weight)
        np.testing.assert_allclose(second_moments(lib, x, w, True), moments(weight), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_second_moments_of_many_rows_keep_every_square(weighted):
    rng = np.random.default_rng(8)
    many = rng.normal(size=(40_000, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    many[:, 2] = 0.0
    many[7, 2] = 100.0
    weight = rng.random(len(many)) if weighted else None
    found = moments(weight, True, many)
    full = np.append(many, np.ones((len(many), 1)), axis=1)
    w = np.ones(len(many)) if weight is None else weight
    exact = (full.T * w) @ full / w.sum()
    np.testing.assert_allclose(np.diag(found), np.diag(exact), rtol=1e-12)
    np.testing.assert_allclose(found, exact, atol=0.1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(N, 1.0), (40_000, 1.0), (40_000, 1e30)])
def test_second_moments_of_sparse_data(rows, size, weighted):
    many = np.where(np.random.default_rng(9).random((rows, M)) < 0.5, np.resize(X, (rows, M)), 0.0)
    many = (many * size).astype(np.float32)
    weight = np.resize(RNG.random(7), rows).astype(np.float32) if weighted else None
    with np.errstate(over="ignore", invalid="ignore"):
        found, expected = moments(weight, True, csr_array(many)), moments(weight, True, many)
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(found / scale[:, None] / scale, expected / scale[:, None] / scale, atol=1e-4)


def test_no_moments_where_they_would_be_too_large_or_not_finite():
    assert moments(data=np.zeros((5, 9))) is None
    assert moments(data=np.zeros((MOST_FEATURES + 9, MOST_FEATURES), dtype=np.int8)) is None
    with np.errstate(over="ignore", invalid="ignore"):
        assert moments(data=np.full((9, 2), 1e200)) is None
    assert moments(np.zeros(N)) is None
    assert scaling(None, 3, 0.1, True) is None


@pytest.mark.parametrize("rows", [N, 40_000])
def test_second_moments_whose_squares_overflow(rows):
    many = np.resize(X, (rows, M))
    with np.errstate(over="ignore", invalid="ignore"):
        found = moments(data=(many * 1e30).astype(np.float32))
    size = np.append(np.full(M, 1e30), 1.0)
    np.testing.assert_allclose(found / size[:, None] / size, moments(data=many), rtol=1e-3, atol=1e-6)


def test_scaling_is_a_change_of_variables():
    change = scaling(moments(), K, 0.01, True)
    theta, grad = RNG.normal(size=(2, K, M + 1))
    u = change.variables(theta)
    np.testing.assert_allclose(change.coefficients(u), theta, rtol=1e-12)
    v = RNG.normal(size=u.shape)
    assert np.sum(change.pulled_back(grad) * v) == pytest.approx(np.sum(grad * change.coefficients(v)), rel=1e-12)


def test_scaling_of_a_feature_that_is_zero_or_follows_from_another():
    x = np.stack([X[:, 0], X[:, 0], np.zeros(N)], axis=1)
    change = scaling(moments(data=x), K, 0.0, True)
    assert np.all(np.isfinite(change.factor))
    assert np.all(np.isfinite(change.inverse))


def test_scaling_of_moments_that_rounding_left_indefinite():
    change = scaling(np.array([[1.0, 1.0 + 1e-6], [1.0 + 1e-6, 1.0]]), K, 0.0, False)
    assert np.all(np.isfinite(change.inverse))


@every_solver
def test_scaling_takes_fewer_evaluations_to_the_same_end(solver):
    loss = sg.LinearCrossEntropy(X, LABELS, l2=0.01)
    ends, evaluations = [], []
    for change in (None, scaling(moments(), K, 0.01, True)):
        objective = objective_of(loss, (K, M), True, change)
        calls = itertools.count()
        products = objective.hvp
        objective.hvp = lambda *args, calls=calls, products=products: (next(calls), products(*args))[1]
        fit = minimize(objective, np.zeros((K, M + 1)), solver=solver, tol=1e-7, max_iter=3000)
        assert fit.converged, fit.message
        ends.append(fit.point.theta - fit.point.theta.mean(axis=0))
        evaluations.append(objective.evaluations + next(calls))
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-3, atol=1e-4)
    assert evaluations[1] < evaluations[0]


# --- when it stops


def test_a_start_within_tol_takes_no_step():
    loss = log_cosh()
    fit = minimize(objective_of(loss), np.array([[1.0]]), tol=1e-8)
    assert (fit.converged, fit.iterations, fit.curve, loss.asked) == (True, 0, [fit.point.value], [1.0])


def test_max_iter_of_zero_takes_no_step():
    fit = minimize(objective_of(log_cosh()), np.array([[3.0]]), max_iter=0)
    assert (fit.converged, fit.iterations, len(fit.curve)) == (False, 0, 1)


@every_solver
def test_max_iter_stops_and_says_so(solver):
    loss = sg.LinearCrossEntropy(X, LABELS)
    fit = minimize(objective_of(loss, (K, M), True), np.zeros((K, M + 1)), solver=solver, tol=1e-9, max_iter=2)
    assert (fit.converged, fit.iterations, len(fit.curve)) == (False, 2, 3)
    assert "max_iter=2" in fit.message


@every_solver
def test_the_curve_falls(solver):
    loss = sg.LinearCrossEntropy(X, LABELS, l2=0.01)
    seen = []
    fit = minimize(
        objective_of(loss, (K, M), True),
        np.zeros((K, M + 1)),
        solver=solver,
        max_iter=300,
        report=lambda iteration, point: seen.append((iteration, point.value)),
    )
    assert seen == list(enumerate(fit.curve))
    assert len(fit.curve) == fit.iterations + 1
    assert np.all(np.diff(fit.curve) <= 0)


@every_solver
def test_the_rounding_of_the_loss_ends_the_search(solver):
    loss = sg.LinearCrossEntropy(X.astype(np.float32), LABELS, l2=0.01)
    objective = Objective(loss, (K, M), True, lambda a: a.astype(np.float32), lambda *arrays: list(map(host, arrays)))
    fit = minimize(objective, np.zeros((K, M + 1)), solver=solver, tol=0.0, max_iter=2000, resolution=2.0**-23)
    assert fit.converged, fit.message
    assert fit.iterations < 2000
    exact = minimize(
        objective_of(sg.LinearCrossEntropy(X, LABELS, l2=0.01), (K, M), True),
        np.zeros((K, M + 1)),
        solver=solver,
        tol=1e-8,
        max_iter=2000,
    )
    assert fit.point.value == pytest.approx(exact.point.value, rel=1e-5)


# --- faults


@every_solver
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_step_that_overflows_is_taken_back(solver, broken):
    loss = log_cosh(limit=1.3, broken=broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = minimize(objective_of(loss), np.array([[-1.6]]), solver=solver, tol=1e-6, max_iter=200)
    assert any(w >= 1.3 for w in loss.asked)
    assert fit.converged, fit.message
    assert fit.point.theta[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert all(math.isfinite(value) for value in fit.curve)


def test_a_start_that_overflows_is_an_error():
    with pytest.raises(FloatingPointError, match="not finite at the start"):
        minimize(objective_of(log_cosh(limit=1.3)), np.array([[5.0]]))


@pytest.mark.parametrize("solver", ["newton-cg", "trust-ncg"])
def test_a_second_derivative_that_overflows_is_an_error(solver):
    loss = OneNumber(lambda w: w * w, lambda w: 2 * w, lambda w: math.inf)
    with pytest.raises(FloatingPointError, match=r"second derivative overflows.*'lbfgs'"):
        minimize(objective_of(loss), np.array([[3.0]]), solver=solver)


@every_solver
@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_interrupt_or_an_error_from_outside_keeps_the_best_so_far(solver, kind):
    loss = sg.LinearCrossEntropy(X, LABELS, l2=0.01)
    inner, seen = loss.value_and_grad, []

    def interrupted(W, bias):
        if len(seen) == 6:
            raise kind
        value, grads = inner(W, bias)
        seen.append((float(value), np.append(W, bias[:, None], axis=1)))
        return value, grads

    loss.value_and_grad = interrupted
    fit = minimize(objective_of(loss, (K, M), True), np.zeros((K, M + 1)), solver=solver, tol=1e-12)
    assert isinstance(fit.interrupt, kind)
    best = min(seen, key=lambda pair: pair[0])
    assert fit.point.value == best[0]
    np.testing.assert_array_equal(fit.point.theta, best[1])
    assert "interrupted" in fit.message
    assert not fit.converged


def test_an_interrupt_before_anything_is_known_goes_on():
    def interrupted(w):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minimize(objective_of(OneNumber(interrupted, None, None)), np.zeros((1, 1)))


def test_an_interrupt_from_the_report_keeps_the_best_so_far():
    def report(iteration, point):
        if iteration == 2:
            raise KeyboardInterrupt

    fit = minimize(objective_of(log_cosh()), np.array([[-1.6]]), report=report)
    assert isinstance(fit.interrupt, KeyboardInterrupt)
    assert fit.point.value <= min(fit.curve)
