"""What the generic code owes to every array library: its width, its device, its type, its inputs and its graphs."""

import types

import numpy as np
import pytest

import softgrad as sg
from calls import CALLS, expected, flat
from softgrad._array.typing import Array

WIDTHS = [name for name in CALLS if "float16" not in name and "complex" not in name]
ROWS = np.random.default_rng(3).normal(scale=4.0, size=(2, 150, 3))


@pytest.mark.parametrize("name", WIDTHS)
def test_call_keeps_width_device_library_and_inputs(name, xp, library, asarray, to_numpy):
    made, before = [], []

    def make(host, dtype=None, samples=True):
        host = np.array(host, "float32" if host.dtype == np.float64 else host.dtype)
        made.append(asarray(host.copy(), None))
        before.append(host)
        return made[-1]

    results = flat(CALLS[name](make))
    # all at once: on Dask what they share is computed once
    found = iter(library.declared.read_all(xp, [*made, *results]))
    for host in before:
        np.testing.assert_array_equal(next(found), host)
    like = made[0]
    for result, right in zip(results, expected(name), strict=True):
        assert isinstance(result, (type(like), np.generic) if isinstance(like, np.ndarray) else type(like))
        assert result.dtype == {"b": xp.bool, "i": xp.int64, "f": xp.float32}[right.dtype.kind]
        if hasattr(like, "device") and hasattr(result, "device"):  # scalars of the first NumPy 2 have none
            assert result.device == like.device
        np.testing.assert_allclose(next(found), right, rtol=2e-5, atol=1e-6)


def test_the_static_type_promises_what_the_library_has(asarray):
    promised = {name for name, value in vars(Array).items() if isinstance(value, types.FunctionType | property)}
    assert {"shape", "__add__"} <= promised
    array = asarray(np.ones((2, 2)))
    assert [name for name in promised if not hasattr(array, name)] == []


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax, sg.logsumexp])
def test_axis_of_many_terms(function, axis, asarray, to_numpy):
    exact = np.logaddexp.reduce(ROWS, axis=axis, keepdims=True)
    right = {"logsumexp": exact.squeeze(axis), "log_softmax": ROWS - exact, "softmax": np.exp(ROWS - exact)}
    np.testing.assert_allclose(
        to_numpy(function(asarray(ROWS), axis=axis)), right[function.__name__], rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64"])
def test_labels_narrower_than_the_number_of_classes(dtype, asarray, to_numpy):
    logits, labels = ROWS.reshape(3, 300), np.asarray([99, 0, 127])
    right = np.logaddexp.reduce(logits, axis=1) - logits[[0, 1, 2], labels]
    loss = sg.cross_entropy(asarray(logits), asarray(labels, dtype), reduction="none")
    np.testing.assert_allclose(to_numpy(loss), right, rtol=1e-11)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Dask computes where NumPy is not told to be quiet
def test_infinite_complex_sums_are_those_of_the_library_of_c(asarray, to_numpy, has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("the library has no complex numbers")
    inf = np.inf
    x = np.asarray([[inf + 0.7j, 1.0], [-inf + 2j, inf], [-inf, -inf - 1j], [0.5j, 1.0]])
    with np.errstate(all="ignore"):
        right = np.log(np.sum(np.exp(x), axis=1))
    result = to_numpy(sg.logsumexp(asarray(x, "complex128"), axis=1))
    np.testing.assert_allclose(result, right, rtol=1e-14)


@pytest.mark.parametrize("wide", ["x", "b"])
def test_complex_factors_are_as_wide_as_the_wider(wide, xp, asarray):
    x = asarray([0.5, 1.0], "float64" if wide == "x" else "float32")
    b = asarray([1.0 + 1j, 2.0], "complex64" if wide == "x" else "complex128")
    assert sg.logsumexp(x, b=b).dtype == xp.complex128


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.libraries("dask")
def test_the_generic_loss_sums_a_number_of_samples_that_is_not_known(reduction, backend, asarray, to_numpy):
    logits, labels = ROWS.reshape(300, 3), np.arange(300) % 3
    x, shares = asarray(logits), asarray(np.eye(3)[labels])
    every = x[:, 0] == x[:, 0]
    right = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(300), labels]
    with sg.backends.use("generic"):
        loss = sg.cross_entropy(x[every], shares[every], reduction=reduction)
    np.testing.assert_allclose(to_numpy(loss), getattr(np, reduction)(right), rtol=1e-11)
