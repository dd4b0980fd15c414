"""A pytest plugin that puts softgrad under SciPy's own tests of logsumexp, softmax and log_softmax."""

import pytest
from differences import Differences

import softgrad as sg

MODULE = "scipy.special.tests.test_logsumexp"

DIFFERENCES = Differences(
    "SciPy",
    {
        r"test_xp_invalid_input|test_array_like|_array_like$|_scalar$": (
            "lists and Python numbers are refused: an array decides the library, the device and the dtype"
        ),
        r"test_dtypes_ab\[(numpy|array_api_strict)-int(32|64)-(float32|complex64)\]": (
            "integer factors follow a floating x, as numbers do; NumPy takes them for float64"
        ),
        r"test_dtypes_ab\[(torch|jax.numpy)-(float32|complex64)-int(32|64)\]": (
            "an integer x is of the default float; PyTorch and JAX let it follow floating factors"
        ),
        r"test_device\[array_api_strict-1.0\]": (
            "array-api-strict's argmax raises on its own device no_x64, and logsumexp with b calls it"
        ),
    },
)


def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    return sg.logsumexp(a, axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)


def softmax(x, axis=None):
    return sg.softmax(x, axis=axis)


def log_softmax(x, axis=None):
    return sg.log_softmax(x, axis=axis)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    (module,) = {item.module for item in items}
    assert module.__name__ == MODULE
    for ours in (logsumexp, softmax, log_softmax):
        assert hasattr(module, ours.__name__), f"{MODULE} has no {ours.__name__} any more"
        setattr(module, ours.__name__, ours)
    DIFFERENCES.expect(items)


def pytest_terminal_summary(terminalreporter):
    DIFFERENCES.report(terminalreporter)
