"""What is bound to data travels: pickled to another process, and copied."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import softgrad as sg
from marks import late_on_jax


@pytest.fixture
def draws(backend, asarray):
    """(X, labels, W, bias) of a library whose arrays can be pickled."""
    rng = np.random.default_rng(0)
    X, W, bias = (asarray(rng.normal(size=shape)) for shape in ((12, 3), (4, 3), (4,)))
    try:
        pickle.loads(pickle.dumps(X))
    except Exception:  # noqa: BLE001 - each library refuses in its own way
        pytest.skip(f"arrays of {backend} cannot be pickled")
    return X, asarray(rng.integers(0, 4, 12), "int64"), W, bias


def travelled(thing):
    """A thing after each way that there is."""
    yield copy.copy(thing)
    yield copy.deepcopy(thing)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(thing, protocol))


def same(got, expected, to_numpy):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


@late_on_jax
def test_a_bound_loss_and_its_methods(draws, to_numpy, asarray):
    X, labels, W, bias = draws
    loss = sg.LinearCrossEntropy(X, labels, l2=0.1, where=asarray([True, True, False, True], "bool"))
    value, grads = loss.value_and_grad(W, bias)
    product = loss.hvp(W, W)
    for one in travelled(loss):
        again, others = one.value_and_grad(W, bias)
        same((again, *others, one.hvp(W, W)), (value, *grads, product), to_numpy)
    for method in travelled(loss.value_and_grad):
        again, others = method(W, bias)
        same((again, *others), (value, *grads), to_numpy)


@late_on_jax
def test_a_preconditioner(draws, to_numpy):
    X, labels, W, bias = draws
    made = sg.statistics.BlockPreconditioner(sg.LinearCrossEntropy(X, labels, l2=0.1), W, bias)
    expected = made((W, bias))
    for one in travelled(made):
        same(one((W, bias)), expected, to_numpy)


def test_losses_of_batches_and_of_logits(draws, to_numpy):
    X, labels, W, _ = draws
    batched = sg.partial.BatchedLinearCrossEntropy([(X, labels)], l2=0.1)
    plain = sg.CrossEntropy(label_smoothing=0.1, class_weight=to_numpy(W[:, 0]) ** 2)
    for one, other in zip(travelled(batched), travelled(plain), strict=True):
        same([one.grad(W)], [batched.grad(W)], to_numpy)
        same([other.grad(X @ W.T, labels)], [plain.grad(X @ W.T, labels)], to_numpy)


def test_sparse_samples():
    from scipy import sparse

    X = sparse.random(20, 6, 0.4, "csr", random_state=0)
    labels, W = np.arange(20) % 3, np.random.default_rng(0).normal(size=(3, 6))
    loss = sg.LinearCrossEntropy(X, labels)
    for one in travelled(loss):
        same([one.hvp(W, W)], [loss.hvp(W, W)], np.asarray)


def test_methods_go_to_processes_that_are_spawned():
    X, labels, W = np.eye(3), np.arange(3), np.arange(9.0).reshape(3, 3)
    loss = sg.LinearCrossEntropy(X, labels)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(loss.grad, (W,)), loss.grad(W))
