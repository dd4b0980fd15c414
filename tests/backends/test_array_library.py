"""A back end brings an array library that softgrad knows nothing of; its arrays need not tell their namespace."""

import numpy as np
import pytest

import softgrad as sg
from softgrad.backends import ArrayLibrary, Backend
from softgrad.testing import check_backend
from tiny_arrays import Tiny

LIBRARY = ArrayLibrary("tiny", "tiny_arrays", types=("tiny_arrays:Tiny",), warns=True)
LOGITS = np.array([[0.5, -1.0, 2.0], [1.5, 0.5, -0.75]])


@pytest.fixture
def brought():
    """The back end, registered."""
    backend = Backend("tiny", LIBRARY.types, {}, library=LIBRARY)
    sg.backends.register(backend)
    yield backend
    sg.backends.unregister("tiny")


@pytest.mark.full
def test_it_keeps_the_contract(brought):
    report = check_backend(brought, show=False, on_failure="return")
    assert report.ok, "\n".join(f"{check.promise}: {check.detail}" for check in report.failures)
    assert report.arrays.startswith("arrays of tiny")


def test_its_arrays_come_back(brought):
    X, W, y = (
        Tiny(np.array([[1.0, -0.5], [0.25, 2.0]])),
        Tiny(np.array([[0.5, -0.25], [1.0, 0.75], [0.0, 1.0]])),
        [2, 0],
    )
    value, (by_weights, by_bias) = sg.linear_cross_entropy_value_and_grad(X, Tiny(y), W, Tiny(np.zeros(3)))
    results = [
        sg.softmax(Tiny(LOGITS)),
        sg.logsumexp(Tiny(LOGITS), axis=1),
        *sg.cross_entropy_value_and_grad(Tiny(LOGITS), Tiny(y)),
        value,
        by_weights,
        by_bias,
    ]
    assert {type(each) for each in results} == {Tiny}
    expected = [sg.softmax(LOGITS), sg.logsumexp(LOGITS, axis=1), *sg.cross_entropy_value_and_grad(LOGITS, np.array(y))]
    theirs, (weights, bias) = sg.linear_cross_entropy_value_and_grad(X.host, np.array(y), W.host, np.zeros(3))
    for ours, right in zip(results, [*expected, theirs, weights, bias], strict=True):
        np.testing.assert_allclose(ours.host, right, rtol=1e-14)
    assert sg.backends.explain("softmax", Tiny(LOGITS)).backend == "generic"


def test_a_fit_reads_its_parameters(brought):
    X, y = np.array([[0.0, 1.0], [1.0, 0.5], [0.5, 0.0], [2.0, 1.0]]), np.array([0, 1, 0, 1])
    ours, right = sg.SoftmaxRegression().fit(Tiny(X), Tiny(y)), sg.SoftmaxRegression().fit(X, y)
    assert type(ours.coef_) is Tiny
    np.testing.assert_allclose(ours.coef_.host, right.coef_, rtol=1e-6)


def test_mixing_it_with_another_library_is_refused(brought):
    with pytest.raises(sg.MixedArraysError, match="labels is an array of numpy, logits is one of tiny"):
        sg.cross_entropy(Tiny(LOGITS), np.array([0, 1]))


def test_a_library_that_softgrad_has_is_not_brought():
    with pytest.raises(sg.BackendError, match="brings the library 'torch', which softgrad has"):
        Backend("mine", ("torch:Tensor",), {}, library=ArrayLibrary("torch", "torch"))
    with pytest.raises(ValueError, match="name must be an identifier, got 'no name'"):
        ArrayLibrary("no name", "tiny_arrays")
