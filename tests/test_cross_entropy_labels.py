"""The loss of labels of every integer dtype, in range and out of it."""

import functools

import numpy as np
import pytest

import oracle
import softgrad as sg
from marks import full

N, K = 4, 5
RNG = np.random.default_rng(20)
LOGITS = RNG.normal(scale=2.0, size=(N, K))


MANY = np.random.default_rng(8).normal(size=(2, 130))


@functools.cache
def _many_reference():
    # the label of the second sample is out of range, whatever the dtype makes of it
    return oracle.cross_entropy(MANY, np.array([127, -1]), vector=MANY)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint64", *full("uint8", "int16", "int32", "uint32", "int64")])
def test_labels_of_every_integer_dtype(dtype, asarray, to_numpy):
    # -126 is 130 in eight bits, 255 is -1: neither may meet a class again
    bad = -126 if dtype == "int8" else np.iinfo(dtype).max
    labels = asarray(np.array([127, bad], dtype=dtype), dtype)
    reference = _many_reference()
    got = oracle.every_order(sg.CrossEntropy(reduction="none"), asarray(MANY), labels, asarray(MANY))
    for name, (array, kind) in got.items():
        expected = oracle.rounded(getattr(reference, kind)("none"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-12, atol=1e-15, err_msg=name)
        assert np.all(np.isnan(to_numpy(array)[1])), name


@pytest.mark.parametrize(
    ("dtype", "label"),
    [
        ("int8", -1),
        ("int8", -128),
        ("int8", -127),
        ("uint8", 130),
        ("uint8", 255),
        ("int16", 130),
        ("int16", -(2**15)),
        ("int16", -126),
        ("uint16", 2**16 - 1),
        ("int32", -(2**31)),
        ("uint32", 2**32 - 1),
        ("uint32", 2**31),
        ("int64", 2**32),
        ("int64", -(2**63)),
        ("int64", 2**63 - 1),
        ("uint64", 2**63),
        ("uint64", 2**64 - 1),
        ("uint64", 2**64 - 126),
    ],
)
def test_label_out_of_range_of_every_integer_dtype(dtype, label, asarray, to_numpy):
    logits = asarray(np.zeros((3, 130)))
    labels = asarray(np.array([1, label, 2], dtype=dtype), dtype)
    value, gradient = sg.cross_entropy_value_and_grad(logits, labels, reduction="none")
    np.testing.assert_array_equal(np.isnan(to_numpy(value)), [False, True, False])
    np.testing.assert_array_equal(np.isnan(to_numpy(gradient)), np.repeat([[False], [True], [False]], 130, axis=1))
    with pytest.raises(IndexError, match=str(label)):
        sg.cross_entropy(logits, labels, validate=True)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32", "uint64"])
def test_ignore_index_beyond_the_dtype_ignores_nothing(dtype, asarray, to_numpy):
    logits = np.random.default_rng(9).normal(size=(2, 200))
    # 156 is -100 in eight unsigned bits, and a class all the same
    labels = np.array([100 if dtype == "int8" else 156, 3], dtype=dtype)
    for ignored in (-100, 1000, -1, 2**70, 2 ** np.iinfo(dtype).bits + int(labels[0])):
        value = sg.cross_entropy(asarray(logits), asarray(labels, dtype), ignore_index=ignored, reduction="none")
        np.testing.assert_allclose(
            to_numpy(value), oracle.rounded(oracle.cross_entropy(logits, labels, orders=()).value("none")), rtol=1e-12
        )


@pytest.mark.parametrize(("dtype", "label"), [("uint64", 2**64 - 100), ("uint32", 2**32 - 100)])
def test_label_beyond_the_signed_range_is_not_ignored(dtype, label, asarray, to_numpy):
    # cast to a signed integer it would be -100
    labels = asarray(np.array([0, label, 1], dtype=dtype), dtype)
    losses = sg.cross_entropy(asarray(LOGITS[:3]), labels, ignore_index=-100, reduction="none")
    np.testing.assert_array_equal(np.isnan(to_numpy(losses)), [False, True, False])


@pytest.mark.parametrize(("dtype", "ignored"), [("uint8", 255), ("int8", -1), ("uint64", 2**64 - 1), ("int64", 2)])
def test_ignore_index_of_every_kind(dtype, ignored, asarray, to_numpy):
    labels = np.array([0, ignored, 1], dtype=dtype)
    loss = sg.CrossEntropy(ignore_index=ignored)
    logits = LOGITS[:3]
    value, gradient = loss.value_and_grad(asarray(logits), asarray(labels, dtype))
    reference = oracle.cross_entropy(logits, labels, ignore_index=ignored)
    np.testing.assert_allclose(to_numpy(value), oracle.rounded(reference.value()), rtol=1e-12)
    np.testing.assert_allclose(to_numpy(gradient), oracle.rounded(reference.grad()), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(to_numpy(gradient)[1], np.zeros(K))
