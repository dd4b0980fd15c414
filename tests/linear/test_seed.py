"""The derivation that the linear model came from: X is (M, N), Y is (K, N), W is (M, K), the loss a sum."""

import numpy as np
import pytest

import softgrad as sg
from linear_cases import LABELS, K, M, W, X
from marks import late_on_jax

ONE_HOT = np.eye(K)[LABELS]


SEED_X, SEED_Y, SEED_W = X.T, ONE_HOT.T, W.T


@pytest.fixture
def seed(asarray):
    return asarray(SEED_X), asarray(SEED_Y), asarray(SEED_W)


def _seed_softmax():
    logits = SEED_W.T @ SEED_X
    exponentials = np.exp(logits)
    return exponentials / np.sum(exponentials, axis=0)


def test_both_written_forms_of_the_loss_agree(seed, asarray, to_numpy):
    x, y, w = seed
    logits = asarray(SEED_W.T @ SEED_X)
    first = -np.sum(SEED_Y * np.log(to_numpy(sg.softmax(logits, axis=0))))
    second = np.sum(SEED_Y * (to_numpy(sg.logsumexp(logits, axis=0)) - SEED_W.T @ SEED_X))
    np.testing.assert_allclose(first, second, rtol=1e-13)
    value = to_numpy(sg.linear_cross_entropy(x, y, w, sample_axis=1, reduction="sum"))
    np.testing.assert_allclose(value, first, rtol=1e-13)
    np.testing.assert_allclose(value, second, rtol=1e-13)
    dense = sg.cross_entropy(logits, y, axis=0, reduction="sum")
    np.testing.assert_allclose(to_numpy(dense), second, rtol=1e-13)


def test_matrix_gradient_is_x_times_s_minus_y(seed, to_numpy):
    x, y, w = seed
    gradient = to_numpy(sg.linear_cross_entropy_grad(x, y, w, sample_axis=1, reduction="sum"))
    assert gradient.shape == (M, K)
    np.testing.assert_allclose(gradient, SEED_X @ (_seed_softmax() - SEED_Y).T, rtol=1e-12, atol=1e-14)


def test_class_indices_are_the_same_problem(seed, asarray, to_numpy):
    x, y, w = seed
    options = {"sample_axis": 1, "reduction": "sum"}
    by_hot = sg.linear_cross_entropy_value_and_grad(x, y, w, **options)
    by_index = sg.linear_cross_entropy_value_and_grad(x, asarray(LABELS, "int64"), w, **options)
    for one, other in zip(by_hot, by_index, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), rtol=1e-13, atol=1e-15)


def test_column_gradients_are_the_columns_of_the_matrix(seed, to_numpy):
    x, y, w = seed
    residual = _seed_softmax() - SEED_Y
    matrix = to_numpy(sg.linear_cross_entropy_grad(x, y, w, sample_axis=1, reduction="sum"))
    for i in range(K):
        by_hand = np.sum(SEED_X * residual[i], axis=1, keepdims=True)
        column = to_numpy(sg.linear_cross_entropy_grad(x, y, w, sample_axis=1, reduction="sum", classes=[i]))
        assert column.shape == (M, 1)
        np.testing.assert_allclose(column, by_hand, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(column, matrix[:, i : i + 1], rtol=1e-13, atol=1e-15)


def test_slipped_formula_is_wrong_and_the_mended_one_right(seed, asarray, to_numpy):
    x, y, w = seed
    s = _seed_softmax()
    for i in range(K):
        first = np.sum(SEED_X * s[i], axis=1)
        # the slip: the indicator summed over every class, so that the index i is lost
        slipped = first - np.sum(SEED_X * np.sum(SEED_Y, axis=0), axis=1)
        mended = first - np.sum(SEED_X[:, i == LABELS], axis=1)
        column = to_numpy(sg.linear_cross_entropy_grad(x, y, w, sample_axis=1, reduction="sum", classes=[i]))[:, 0]
        np.testing.assert_allclose(column, mended, rtol=1e-12, atol=1e-14)
        # what it is wrong by: the samples of the other classes
        excess = np.sum(SEED_X[:, i != LABELS], axis=1)
        assert np.linalg.norm(excess) > 0.1
        np.testing.assert_allclose(column - slipped, excess, rtol=1e-11, atol=1e-13)


def test_seed_layout_is_the_transposed_problem(seed, asarray, to_numpy):
    x, y, w = seed
    here = sg.linear_cross_entropy_value_and_grad(x, y, w, sample_axis=1, reduction="sum")
    there = sg.linear_cross_entropy_value_and_grad(asarray(X), asarray(ONE_HOT), asarray(W), reduction="sum")
    np.testing.assert_allclose(to_numpy(here[0]), to_numpy(there[0]), rtol=1e-14)
    np.testing.assert_allclose(to_numpy(here[1]).T, to_numpy(there[1]), rtol=1e-13, atol=1e-15)


@late_on_jax
@pytest.mark.parametrize("block_size", [None, 1, 2])
@pytest.mark.parametrize("classes", [4, 200])
def test_without_features_the_bias_decides(block_size, classes, asarray, to_numpy):
    rng = np.random.default_rng(0)
    bias, labels = rng.normal(size=classes), rng.integers(0, classes, 5)
    X, W, y = asarray(np.zeros((5, 0))), asarray(np.zeros((classes, 0))), asarray(labels, "int64")
    probs = np.exp(bias) / np.exp(bias).sum()
    value, (grad_W, grad) = sg.linear_cross_entropy_value_and_grad(X, y, W, asarray(bias), block_size=block_size)
    np.testing.assert_allclose(to_numpy(value), -np.log(probs[labels]).mean(), rtol=1e-12)
    np.testing.assert_allclose(to_numpy(grad), probs - np.bincount(labels, minlength=classes) / 5, atol=1e-14)
    assert grad_W.shape == (classes, 0)
    product = sg.linear_cross_entropy_hvp(X, y, W, asarray(bias), asarray(bias), wrt="bias", block_size=block_size)
    np.testing.assert_allclose(to_numpy(product), probs * bias - probs * (probs @ bias), atol=1e-14)
