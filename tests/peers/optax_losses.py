"""A pytest plugin that puts softgrad under optax's own tests of its softmax cross-entropies."""

import jax.numpy as jnp
import numpy as np
import pytest
from differences import Differences
from optax.losses import _classification

import softgrad as sg

MODULE = "optax.losses._classification_test"
CLASSES = (
    "SoftmaxCrossEntropyTest",
    "SafeSoftmaxCrossEntropyTest",
    "SoftmaxCrossEntropyWithIntegerLabelsTest",
)

DIFFERENCES = Differences(
    "optax",
    {
        r"SoftmaxCrossEntropyTest::test_mask": "a hidden class that the target weighs has loss inf; optax drops it",
        r"test_axes": "the classes stand along one axis",
    },
)


def softmax_cross_entropy(logits, labels, axis=-1, where=None):
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if where is not None:
        where = jnp.asarray(where)
        where = where if where.ndim == logits.ndim else jnp.expand_dims(where, axis)
    return sg.cross_entropy(logits, labels, axis=axis, where=where, reduction="none")


def safe_softmax_cross_entropy(logits, labels):
    return softmax_cross_entropy(logits, labels)


def softmax_cross_entropy_with_integer_labels(logits, labels, axis=-1, where=None):
    return softmax_cross_entropy(logits, labels, axis, where)


def pytest_configure():
    for ours in (softmax_cross_entropy, safe_softmax_cross_entropy, softmax_cross_entropy_with_integer_labels):
        assert hasattr(_classification, ours.__name__), f"optax has no {ours.__name__} any more"
        setattr(_classification, ours.__name__, ours)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.cls is not None and item.cls.__name__ in CLASSES]
    assert {item.cls.__name__ for item in items} == set(CLASSES)
    DIFFERENCES.expect(items)


def pytest_runtest_setup():
    # some of optax's tests draw from NumPy's global generator, masks among them
    np.random.seed(0)  # noqa: NPY002


def pytest_terminal_summary(terminalreporter):
    DIFFERENCES.report(terminalreporter)
