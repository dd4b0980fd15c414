"""The identity as it is written down: its value and gradient, and a refusal of what is in another notation."""

import numpy as np
import pytest

from softgrad import identity

RNG = np.random.default_rng(5)
M, N, K = 3, 6, 4
X, W = RNG.normal(size=(M, N)), RNG.normal(size=(M, K))
LABELS = RNG.integers(0, K, size=N)
Y = np.eye(K)[:, LABELS]
WHOLE = [identity.loss_from_probabilities, identity.loss_from_normalizer, identity.gradient_product]
BY_CLASS = [identity.gradient_column, identity.slipped_gradient_column]

every_function = pytest.mark.parametrize("function", WHOLE + BY_CLASS)


def call(function, *arguments):
    return function(*arguments, 1) if function in BY_CLASS else function(*arguments)


def gradient():
    exp = np.exp(W.T @ X)
    return X @ (exp / exp.sum(axis=0) - Y).T


@pytest.mark.parametrize("form", ["float64", "int64", "bool"])
def test_a_one_hot_matrix_of_any_dtype_gives_the_gradient(form, asarray, to_numpy):
    given = asarray(X), asarray(Y, form), asarray(W)
    np.testing.assert_allclose(to_numpy(identity.gradient_product(*given)), gradient(), rtol=1e-12)
    for i in (0, K - 1, -1):
        found = to_numpy(identity.gradient_column(*given, i))
        np.testing.assert_allclose(found, gradient()[:, i], rtol=1e-12)


def test_the_samples_dtype_decides_for_all(asarray):
    x = asarray(X, "float32")
    for function in WHOLE + BY_CLASS:
        assert call(function, x, asarray(Y), asarray(W)).dtype == x.dtype


@every_function
@pytest.mark.parametrize("bad", [LABELS, LABELS[None, :], Y.T, Y[:-1], Y[:, :-1]], ids=lambda a: str(a.shape))
def test_labels_that_are_no_one_hot_columns_are_refused(bad, function, asarray):
    dtype = "int64" if bad.dtype.kind == "i" else "float64"
    with pytest.raises(ValueError, match=r"Y must hold a one-hot column.*\(4, 6\)"):
        call(function, asarray(X), asarray(bad, dtype), asarray(W))


@every_function
def test_shapes_that_do_not_agree_name_the_argument(function, asarray):
    with pytest.raises(ValueError, match="W must be"):
        call(function, asarray(X), asarray(Y), asarray(W.T))
    with pytest.raises(ValueError, match="X must have two dimensions"):
        call(function, asarray(X[0]), asarray(Y), asarray(W))
    with pytest.raises(ValueError, match="W must have two dimensions"):
        call(function, asarray(X), asarray(Y), asarray(W[:, 0]))


@every_function
def test_what_is_no_array_is_refused(function, asarray):
    with pytest.raises(TypeError, match="Y must be an array"):
        call(function, asarray(X), Y.tolist(), asarray(W))


@pytest.mark.parametrize("function", BY_CLASS)
def test_a_class_that_is_not_there_is_refused(function, asarray):
    given = asarray(X), asarray(Y), asarray(W)
    for i in (K, -K - 1):
        with pytest.raises(IndexError, match=f"i is {i}: there are {K} classes"):
            function(*given, i)
    with pytest.raises(TypeError, match="i must be an int"):
        function(*given, 1.0)
