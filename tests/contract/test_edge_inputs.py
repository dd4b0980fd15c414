"""What input of an unusual kind gives on every library: integers, no dimension, mixed widths, any strides."""

import array_api_compat
import numpy as np
import pytest

import oracle
import softgrad as sg
from contract_cases import FEATURES, LABELS, LOGITS, SOFT, VECTOR, WEIGHTS


def default_float(xp, array):
    info = xp.__array_namespace_info__()
    return info.default_dtypes(device=array_api_compat.device(array))["real floating"]


# --- integer and boolean and complex input


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax, sg.logsumexp])
def test_integers_become_the_default_float(function, dtype, xp, asarray, to_numpy):
    numbers = np.array([[3, 1, 0], [100, 127, 7]])
    x = asarray(numbers, dtype)
    result = function(x, axis=-1)
    assert result.dtype == default_float(xp, x)
    expected = {
        sg.softmax: oracle.softmax(numbers),
        sg.log_softmax: oracle.softmax(numbers, log=True),
        sg.logsumexp: oracle.logsumexp(numbers, axis=-1),
    }[function]
    # e**-120 is 0 where the default float is float32
    np.testing.assert_allclose(to_numpy(result), oracle.rounded(expected), rtol=1e-5, atol=1e-37)


def test_integer_logits_become_the_default_float(xp, asarray, to_numpy):
    numbers = np.array([[3, 1, 0, -2], [5, 0, 7, 1], [0, 0, 1, 0]])
    logits = asarray(numbers, "int64")
    loss = sg.CrossEntropy(reduction="none")
    reference = oracle.cross_entropy(numbers, LABELS, vector=VECTOR)
    got = oracle.every_order(loss, logits, asarray(LABELS, "int64"), asarray(VECTOR, "float32"))
    for name, (array, kind) in got.items():
        assert array.dtype == default_float(xp, logits), name
        expected = oracle.rounded(getattr(reference, kind)("none"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=2e-5, atol=1e-7, err_msg=name)


def test_integer_features_become_the_default_float(xp, asarray, to_numpy):
    X, W = np.array([[1, 2], [0, -1], [3, 1]]), np.array([[1, 0], [0, 2], [-1, 1], [2, 2]])
    arguments = asarray(X, "int64"), asarray(LABELS, "int64"), asarray(W, "int64")
    value, gradient = sg.linear_cross_entropy_value_and_grad(*arguments)
    assert value.dtype == gradient.dtype == default_float(xp, arguments[0])
    expected = oracle.linear(X, LABELS, W)
    np.testing.assert_allclose(to_numpy(value), float(expected.item()), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax])
def test_dense_refuses_boolean_and_complex(function, dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    with pytest.raises(TypeError, match="complex" if dtype == "complex128" else "bool"):
        function(asarray([[1, 0, 1]], dtype))


def test_logsumexp_refuses_boolean(asarray):
    with pytest.raises(TypeError, match="bool"):
        sg.logsumexp(asarray([True, False], "bool"))


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
@pytest.mark.parametrize("method", ["__call__", "grad", "value_and_grad", "hvp", "hessian_diag"])
def test_loss_refuses_boolean_and_complex_logits(method, dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    logits, labels = asarray(np.eye(3), dtype), asarray([0, 1, 2], "int64")
    vector = (asarray(np.eye(3)),) if method == "hvp" else ()
    with pytest.raises(TypeError, match="logits"):
        getattr(sg.CrossEntropy(), method)(logits, labels, *vector)


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
def test_linear_refuses_boolean_and_complex(dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    labels = asarray(LABELS, "int64")
    with pytest.raises(TypeError, match=r"\bX\b"):
        sg.linear_cross_entropy(asarray(FEATURES != 0, dtype), labels, asarray(WEIGHTS))
    with pytest.raises(TypeError, match=r"\bW\b"):
        sg.linear_cross_entropy(asarray(FEATURES), labels, asarray(WEIGHTS != 0, dtype))


def test_logsumexp_takes_complex(asarray, to_numpy, has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("no complex128 here")
    z = np.array([1.0 + 2.0j, -0.5 - 1.0j, 0.25 + 3.0j])
    result = to_numpy(sg.logsumexp(asarray(z, "complex128")))
    np.testing.assert_allclose(result, np.log(np.sum(np.exp(z))), rtol=1e-14)


# --- 0-d input


@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("value", [1.5, -700.0])
def test_zero_dimensions_have_one_class(value, axis, asarray, to_numpy):
    x = asarray(value)
    for function, expected in ((sg.softmax, 1.0), (sg.log_softmax, 0.0), (sg.logsumexp, value)):
        result = to_numpy(function(x, axis=axis))
        assert result.shape == ()
        assert result == expected


@pytest.mark.libraries("numpy")
def test_zero_dimensional_results_of_numpy_are_scalars(asarray, backend):
    x, labels = asarray(LOGITS), asarray(LABELS, "int64")
    results = {
        "softmax": sg.softmax(asarray(1.5)),
        "log_softmax": sg.log_softmax(asarray(1.5)),
        "logsumexp": sg.logsumexp(x),
        "loss": sg.cross_entropy(x, labels),
        "value_and_grad": sg.cross_entropy_value_and_grad(x, labels)[0],
        "linear": sg.linear_cross_entropy(asarray(FEATURES), labels, asarray(WEIGHTS)),
        "of a scalar": sg.softmax(np.float64(1.5)),
    }
    assert {name: type(result) for name, result in results.items()} == dict.fromkeys(results, np.float64)


# --- mixed float widths


@pytest.mark.parametrize(("logits", "other"), [("float32", "float64"), ("float64", "float32")])
def test_logits_decide_the_width(logits, other, asarray, to_numpy):
    x = asarray(LOGITS, logits)
    loss = sg.CrossEntropy(class_weight=asarray([1.0, 2.0, 0.5, 3.0], other))
    got = oracle.every_order(
        loss, x, asarray(SOFT, other), asarray(VECTOR, other), sample_weight=asarray([0.5, 2.0, 1.0], other)
    )
    reference = oracle.cross_entropy(
        LOGITS, SOFT, class_weight=[1.0, 2.0, 0.5, 3.0], sample_weight=[0.5, 2.0, 1.0], vector=VECTOR
    )
    for name, (array, kind) in got.items():
        assert array.dtype == x.dtype, name
        expected = oracle.rounded(getattr(reference, kind)("mean"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=2e-5, atol=1e-7, err_msg=name)


# --- read-only, non-contiguous, Fortran-ordered input


def _strided(xp, asarray):
    yield "transposed", xp.permute_dims(asarray(np.ascontiguousarray(LOGITS.T)), (1, 0))
    yield "every other", asarray(np.repeat(LOGITS, 2, axis=1))[:, ::2]
    yield "inner block", asarray(np.pad(LOGITS, 1))[1:-1, 1:-1]


def test_strides_do_not_matter(xp, asarray, to_numpy):
    labels, vector, loss = asarray(LABELS, "int64"), asarray(VECTOR), sg.CrossEntropy(reduction="none")
    for name, view in _strided(xp, asarray):
        np.testing.assert_array_equal(to_numpy(view), LOGITS)
        for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
            for axis in (-1, 0):
                expected = to_numpy(function(asarray(LOGITS), axis=axis))
                np.testing.assert_allclose(to_numpy(function(view, axis=axis)), expected, rtol=1e-14, err_msg=name)
        expected = oracle.every_order(loss, asarray(LOGITS), labels, vector)
        for order, (array, _) in oracle.every_order(loss, view, labels, vector).items():
            np.testing.assert_allclose(
                to_numpy(array),
                to_numpy(expected[order][0]),
                rtol=1e-14,
                atol=1e-17,
                err_msg=f"{name} {order}",
            )


@pytest.mark.libraries("numpy")
def test_layout_in_memory_does_not_matter_to_numpy(backend, asarray):
    for x in (np.asfortranarray(LOGITS), LOGITS[::-1][::-1], np.broadcast_to(LOGITS[:1], (3, 4))):
        x = x.view()
        x.flags.writeable = False
        for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
            np.testing.assert_allclose(function(x, axis=-1), function(x.copy(), axis=-1), rtol=1e-14)
        np.testing.assert_allclose(
            sg.cross_entropy_grad(x, LABELS), sg.cross_entropy_grad(x.copy(), LABELS), rtol=1e-14, atol=1e-17
        )


def test_strides_do_not_matter_to_the_linear_model(xp, asarray, to_numpy):
    labels = asarray(LABELS, "int64")
    X = xp.permute_dims(asarray(np.ascontiguousarray(FEATURES.T)), (1, 0))
    W = asarray(np.repeat(WEIGHTS, 2, axis=0))[::2, :]
    value, gradient = sg.linear_cross_entropy_value_and_grad(X, labels, W)
    expected = sg.linear_cross_entropy_value_and_grad(asarray(FEATURES), labels, asarray(WEIGHTS))
    np.testing.assert_allclose(to_numpy(value), to_numpy(expected[0]), rtol=1e-14)
    np.testing.assert_allclose(to_numpy(gradient), to_numpy(expected[1]), rtol=1e-13, atol=1e-16)
