"""What the curvature of the linear model tells: diagonal, blocks, and standard errors of the coefficients."""

import math
import pickle

import mpmath
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import oracle
import softgrad as sg
from marks import late, late_on_jax
from softgrad.statistics import (
    BlockPreconditioner,
    coefficient_statistics,
    hessian_diag,
    linear_cross_entropy_hessian_diag,
)

N, M, K = 9, 3, 4
RNG = np.random.default_rng(17)
X = RNG.normal(size=(N, M))
W = RNG.normal(size=(K, M))
BIAS = RNG.normal(size=K)
LABELS = RNG.integers(0, K, size=N)
SAMPLE_WEIGHT = np.append(RNG.random(N - 1), 0.0)
OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "all": {
        "l2": 0.3,
        "sample_weight": SAMPLE_WEIGHT,
        "class_weight": (0.5, 2.0, 1.0, 3.0),
        "label_smoothing": 0.2,
        "z_loss": 0.1,
        "ignore_index": 2,
        "block_size": 4,
    },
}

every_option = pytest.mark.parametrize("options", OPTIONS)
# JAX compiles each layout
both_layouts = pytest.mark.parametrize("sample_axis", [0, late(1, "jax")])
with_bias = pytest.mark.parametrize("bias", [False, True])


def bound(asarray, options, sample_axis, bias):
    """(loss, its parameters) of the problem in one layout on the library under test."""
    keywords = {name: asarray(value) if name == "sample_weight" else value for name, value in OPTIONS[options].items()}
    turn = np.transpose if sample_axis else np.asarray
    loss = sg.LinearCrossEntropy(asarray(turn(X)), asarray(LABELS, "int64"), sample_axis=sample_axis, **keywords)
    return loss, (asarray(turn(W)), *([asarray(BIAS)] if bias else []))


def close(result, expected, **keywords):
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, **{"rtol": 1e-11, "atol": 1e-14, **keywords})


# --- the diagonal


@late_on_jax
@every_option
@both_layouts
@with_bias
def test_diagonal_is_that_of_the_hessian(options, sample_axis, bias, asarray, to_numpy):
    loss, parameters = bound(asarray, options, sample_axis, bias)
    full = loss.hessian(*parameters)
    blocks = [full[0][0], full[1][1]] if bias else [full]
    found = hessian_diag(loss, *parameters)
    for diagonal, block in zip(found if bias else [found], blocks, strict=True):
        size = int(np.prod(diagonal.shape))
        close(to_numpy(diagonal), np.diag(to_numpy(block).reshape(size, size)).reshape(diagonal.shape))


@late_on_jax
def test_diagonal_against_multiprecision(asarray, to_numpy):
    def value(**moved):
        return oracle.linear(X=X, labels=LABELS, l2=0.3, **moved)

    expected = np.empty((K, M))
    with mpmath.workdps(oracle.DIGITS):
        here = value(W=W).item()
        for index in np.ndindex(K, M):
            around = []
            for sign in (1, -1):
                moved = oracle.exact(W)
                moved[index] += sign * oracle.STEP
                around.append(value(W=moved).item())
            expected[index] = float((around[0] - 2 * here + around[1]) / oracle.STEP**2)
    found = linear_cross_entropy_hessian_diag(asarray(X), asarray(LABELS, "int64"), asarray(W), l2=0.3)
    close(to_numpy(found), expected)


@late_on_jax
def test_diagonal_of_a_sure_sample_keeps_its_digits(asarray, to_numpy):
    x, w = np.array([[1.0]]), np.array([[40.0], [0.0]])
    found = linear_cross_entropy_hessian_diag(asarray(x), asarray([0], "int64"), asarray(w))
    with mpmath.workdps(40):
        p = 1 / (1 + mpmath.exp(-40))
        close(to_numpy(found), [[float(p * (1 - p))]] * 2, rtol=1e-14, atol=0.0)


# --- the blocks


@every_option
@both_layouts
@with_bias
@late_on_jax
def test_preconditioner_inverts_the_blocks_of_the_hessian(options, sample_axis, bias, asarray, to_numpy):
    loss, parameters = bound(asarray, options, sample_axis, bias)
    solve = BlockPreconditioner(loss, *parameters)
    p = M + bias
    full = np.zeros((K, p, K, p))
    if bias:
        (ww, wb), (bw, bb) = (
            [to_numpy(block) for block in row]
            for row in bound(asarray, options, 0, True)[0].hessian(asarray(W), asarray(BIAS))
        )
        full[:, :M, :, :M], full[:, :M, :, M], full[:, M, :, :M], full[:, M, :, M] = ww, wb, bw, bb
    else:
        full[...] = to_numpy(bound(asarray, options, 0, False)[0].hessian(asarray(W)))
    vector = RNG.normal(size=(K, p))
    turn = np.transpose if sample_axis else np.asarray
    parts = [vector[:, :M], vector[:, M]] if bias else [vector]
    given = [asarray(turn(parts[0])), *(asarray(part) for part in parts[1:])]
    found = solve(tuple(given) if bias else given[0])
    expected = np.stack([np.linalg.solve(full[k, :, k, :], vector[k]) for k in range(K)])
    for result, part in zip(
        found if bias else [found], [expected[:, :M], *([expected[:, M]] if bias else [])], strict=True
    ):
        close(to_numpy(result), turn(part) if part.ndim == 2 else part, rtol=1e-6, atol=1e-9)


def test_preconditioner_makes_conjugate_gradients_shorter():
    from scipy.sparse.linalg import LinearOperator, cg

    x = np.random.default_rng(3).normal(size=(200, 6)) * np.logspace(-2, 2, 6)
    loss = sg.LinearCrossEntropy(x, np.random.default_rng(4).integers(0, 3, size=200), l2=1e-6)
    w, size = np.zeros((3, 6)), 18
    solve = BlockPreconditioner(loss, w)
    hessian = LinearOperator((size, size), lambda v: loss.hvp(w, v.reshape(w.shape)).reshape(-1), dtype=np.float64)
    inverse = LinearOperator((size, size), lambda v: solve(v.reshape(w.shape)).reshape(-1), dtype=np.float64)
    right = loss.grad(w).reshape(-1)
    steps = []
    for preconditioner in (None, inverse):
        count = []
        _, state = cg(hessian, right, rtol=1e-6, maxiter=5000, M=preconditioner, callback=count.append)
        assert state == 0
        steps.append(len(count))
    assert steps[1] < steps[0] / 2


def test_preconditioner_refuses_what_it_cannot_use(asarray):
    loss, (w, bias) = bound(asarray, "plain", 0, True)
    with pytest.raises(ValueError, match="two arrays"):
        BlockPreconditioner(loss, w, bias)(w)
    with pytest.raises(ValueError, match=r"shapes of W.*\(3, 3\)"):
        BlockPreconditioner(loss, w, bias)((w[:3, :], bias[:3]))
    with pytest.raises(ValueError, match="ridge"):
        BlockPreconditioner(loss, w, bias, ridge=-1.0)
    none = sg.LinearCrossEntropy(asarray(X), asarray(LABELS, "int64"), reduction="none")
    for call in (hessian_diag, BlockPreconditioner):
        with pytest.raises(ValueError, match="reduction"):
            call(none, w, bias)
        with pytest.raises(TypeError, match=f"loss must be a LinearCrossEntropy.*got {type(w).__name__}"):
            call(w, w, bias)


# --- standard errors


def fitted_sample():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(40, 2)).round(2)
    y = np.argmax(x @ np.array([[0, 0], [1.0, -0.5], [-0.5, 1.0]]).T + rng.gumbel(size=(40, 3)), axis=1)
    return x, y


# MNLogit(y, [x, 1]).fit(tol=1e-14) of statsmodels 0.15.0 on that sample: params, bse and pvalues, transposed
ESTIMATES = [
    [0.7305514095748632, -0.06745793516160457, -0.12788636014450916],
    [-0.28522533466356587, 0.9950994419781264, -0.32218839455839315],
]
ERRORS = [
    [0.5253884547645323, 0.42249019060299364, 0.41836187461457],
    [0.547718860074251, 0.4868963290749834, 0.4465251300963991],
]
P_VALUES = [
    [0.16437781364030812, 0.8731430359844328, 0.7598455681827979],
    [0.6025399991831217, 0.04097722185976559, 0.47057368655567544],
]


@late_on_jax
def test_statistics_are_those_of_statsmodels(asarray, to_numpy):
    x, y = fitted_sample()
    theta = np.zeros((3, 3))
    loss = sg.LinearCrossEntropy(x, y)
    for _ in range(20):
        full = np.zeros((3, 3, 3, 3))
        (ww, wb), (bw, bb) = loss.hessian(theta[:, :2], theta[:, 2])
        full[:, :2, :, :2], full[:, :2, :, 2], full[:, 2, :, :2], full[:, 2, :, 2] = ww, wb, bw, bb
        grad = np.append(*(g.reshape(3, -1) for g in loss.grad(theta[:, :2], theta[:, 2])), axis=1)
        theta[1:] -= np.linalg.solve(full[1:, :, 1:].reshape(6, 6), grad[1:].reshape(-1)).reshape(2, 3)
    found = coefficient_statistics(asarray(x), asarray(theta[:, :2]), asarray(theta[:, 2]))
    close(to_numpy(found.coefficients), ESTIMATES, rtol=1e-8)
    close(to_numpy(found.standard_errors), ERRORS, rtol=1e-8)
    close(to_numpy(found.p_values), P_VALUES, rtol=1e-7)
    close(to_numpy(found.z), np.divide(ESTIMATES, ERRORS), rtol=1e-8)


def model_of(asarray, **parameters):
    """A model fitted by maximum likelihood on the sample of statsmodels."""
    x, y = fitted_sample()
    given = asarray(x), asarray(y, "int64")
    return given[0], sg.SoftmaxRegression(**{"C": math.inf, "tol": 1e-10, **parameters}).fit(*given)


def test_statistics_of_a_fitted_model(asarray, to_numpy):
    x, model = model_of(asarray)
    found = coefficient_statistics(x, model)
    close(to_numpy(found.coefficients), ESTIMATES, rtol=1e-6)
    close(to_numpy(found.standard_errors), ERRORS, rtol=1e-6)
    close(to_numpy(found.p_values), P_VALUES, rtol=1e-5)
    assert (found.reference, found.classes, found.features) == (0, (1, 2), ("x0", "x1", "intercept"))
    again = coefficient_statistics(x, model, reference=1)
    assert (again.reference, again.classes) == (1, (0, 2))


def test_statistics_of_a_model_without_intercept(asarray, to_numpy):
    x, model = model_of(asarray, fit_intercept=False)
    found, same = coefficient_statistics(x, model), coefficient_statistics(x, model.coef_)
    assert found.features == ("x0", "x1")
    close(to_numpy(found.standard_errors), to_numpy(same.standard_errors), rtol=0, atol=0)


def test_statistics_have_the_names_of_a_table():
    pandas = pytest.importorskip("pandas")
    x, y = fitted_sample()
    table, labels = pandas.DataFrame(x, columns=["age", "dose"]), np.array(["none", "mild", "severe"])[y]
    found = coefficient_statistics(table, sg.SoftmaxRegression(C=math.inf, tol=1e-10).fit(table, labels), reference=1)
    assert (found.reference, found.classes, found.features) == (
        "none",
        ("mild", "severe"),
        ("age", "dose", "intercept"),
    )
    np.testing.assert_allclose(found.standard_errors, ERRORS, rtol=1e-6)
    rows = pandas.DataFrame(found.rows())
    assert list(rows.columns) == ["class", "feature", "coefficient", "standard_error", "z", "p_value"]
    assert rows.set_index(["class", "feature"]).loc[("severe", "dose"), "coefficient"] == found.coefficients[1, 1]
    printed = str(found).splitlines()
    assert printed[0] == "each class against none"
    assert printed[2].split() == ["mild", "age", "0.7306", "0.5254", "1.39", "0.164"]
    assert len(printed) == 2 + 6
    restored = pickle.loads(pickle.dumps(found))
    assert (restored.classes, restored.features) == (found.classes, found.features)


@pytest.mark.parametrize(("name", "value"), [("C", 1.0), ("class_weight", "balanced"), ("class_weight", {0: 2.0})])
def test_statistics_of_a_fit_that_was_not_by_maximum_likelihood_are_refused(name, value, asarray):
    x, model = model_of(asarray, **{name: value})
    with pytest.raises(ValueError, match=rf"the model has {name}=.*C=math\.inf"):
        coefficient_statistics(x, model)


def test_a_model_brings_its_own_bias(asarray):
    x, model = model_of(asarray)
    with pytest.raises(TypeError, match="bias must be None"):
        coefficient_statistics(x, model, model.intercept_)
    with pytest.raises(ValueError, match="sample_axis must be 0"):
        coefficient_statistics(x, model, sample_axis=1)
    with pytest.raises(NotFittedError):
        coefficient_statistics(x, sg.SoftmaxRegression())
    with pytest.raises(TypeError, match=r"fitted SoftmaxRegression, got LogisticRegression"):
        coefficient_statistics(x, LogisticRegression())


@both_layouts
@late_on_jax
def test_the_curvature_at_a_fitted_model(sample_axis, asarray, to_numpy):
    x, model = model_of(asarray)
    y = fitted_sample()[1]
    turn = np.transpose if sample_axis else np.asarray
    loss = sg.LinearCrossEntropy(asarray(turn(to_numpy(x))), asarray(y, "int64"), sample_axis=sample_axis)
    weights = asarray(turn(to_numpy(model.coef_)))
    for found, same in zip(hessian_diag(loss, model), hessian_diag(loss, weights, model.intercept_), strict=True):
        close(to_numpy(found), to_numpy(same), rtol=1e-15)
    direction = weights, model.intercept_
    by_model, by_arrays = BlockPreconditioner(loss, model), BlockPreconditioner(loss, weights, model.intercept_)
    for found, same in zip(by_model(direction), by_arrays(direction), strict=True):
        close(to_numpy(found), to_numpy(same), rtol=1e-12)


def information(x, theta, weight, reference):
    """The sum of (diag(p) - p pT) times x xT, in multiprecision, without the reference class."""
    others = [k for k in range(len(theta)) if k != reference]
    p = oracle.softmax(x @ theta.T)
    size = len(others) * x.shape[1]
    total = np.zeros((size, size))
    for row, probs, w in zip(x, p, weight, strict=True):
        curve = [[float(probs[a] * ((a == b) - probs[b])) for b in others] for a in others]
        total += w * np.kron(curve, np.outer(row, row))
    return total


@late_on_jax
@both_layouts
@pytest.mark.parametrize("reference", [0, 2, -1])
def test_covariance_is_the_inverse_information(reference, sample_axis, asarray, to_numpy):
    x = np.random.default_rng(6).normal(size=(30, M))
    weight = np.random.default_rng(7).random(30)
    turn = np.transpose if sample_axis else np.asarray
    found = coefficient_statistics(
        asarray(turn(x)),
        asarray(turn(W)),
        reference=reference,
        sample_weight=asarray(weight),
        sample_axis=sample_axis,
    )
    expected = np.linalg.inv(information(x, W, weight, reference % K))
    close(to_numpy(found.covariance), expected, rtol=1e-9)
    close(to_numpy(found.standard_errors).reshape(-1) ** 2, np.diag(expected), rtol=1e-9)
    close(to_numpy(found.coefficients), np.delete(W, reference % K, axis=0) - W[reference])


@late_on_jax
def test_large_logits_do_not_overflow(asarray, to_numpy):
    x = np.append(np.random.default_rng(6).normal(size=(60, 1)), np.full((60, 1), 1000.0), axis=1)
    theta = np.array([[1.0, 5.0], [0.5, 5.0], [-0.5, 5.0]])
    found = coefficient_statistics(asarray(x), asarray(theta))
    errors = to_numpy(found.standard_errors)
    assert np.all(np.isfinite(errors))
    shifted = theta - [0.0, 5.0]
    close(errors**2, np.diag(np.linalg.inv(information(x, shifted, np.ones(60), 0))).reshape(2, 2), rtol=1e-7)


@late_on_jax
def test_statistics_keep_library_device_and_dtype(asarray, to_numpy):
    x = np.random.default_rng(6).normal(size=(30, M))
    for dtype in ("float32", "float64"):
        given = asarray(x, dtype)
        for result in coefficient_statistics(given, asarray(W, dtype)):
            assert type(result) is type(given)
            assert result.dtype == given.dtype
            assert getattr(result, "device", None) == getattr(given, "device", None)
    close(to_numpy(result), np.linalg.inv(information(x, W, np.ones(30), 0)), rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
@late_on_jax
def test_statistics_refuse_a_fit_that_separates_its_classes(classes, asarray):
    x = np.random.default_rng(6).normal(size=(60, 2))
    labels = (x @ np.asarray([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])[:classes].T).argmax(axis=1)
    weight = np.ones(60)
    weight[0] = 0.0
    mixed = np.append(labels[:1] - 1, labels[1:]) % classes
    fits = {"all": labels, "but for one of weight 0": mixed}
    for name, y in fits.items():
        model = sg.SoftmaxRegression(C=math.inf, max_iter=1000).fit(
            asarray(x), asarray(y, "int64"), None if name == "all" else asarray(weight)
        )
        with pytest.raises(ValueError, match="predicts every sample of its fit right"):
            coefficient_statistics(asarray(x), model)
    model = sg.SoftmaxRegression(C=math.inf, max_iter=1000).fit(asarray(x), asarray(mixed, "int64"))
    assert np.all(np.isfinite(coefficient_statistics(asarray(x), model.to(asarray(x))).rows()[0]["p_value"]))


def test_statistics_refuse_what_has_none(asarray):
    x = np.random.default_rng(6).normal(size=(30, M))
    given, w = asarray(x), asarray(W)
    with pytest.raises(ValueError, match="singular"):
        coefficient_statistics(asarray(np.append(x, x[:, :1], axis=1)), asarray(np.append(W, W[:, :1], axis=1)))
    with pytest.raises(ValueError, match="singular"):
        coefficient_statistics(given, asarray(W * 1e4))
    with pytest.raises(IndexError, match=r"reference is 4.*4 classes"):
        coefficient_statistics(given, w, reference=4)
    with pytest.raises(TypeError, match="reference"):
        coefficient_statistics(given, w, reference=1.0)
    with pytest.raises(ValueError, match="single class"):
        coefficient_statistics(given, w[:1, :])
    with pytest.raises(ValueError, match="two dimensions"):
        coefficient_statistics(given[0, :], w)
