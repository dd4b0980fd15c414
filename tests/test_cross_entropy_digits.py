"""The digits of the loss that cancellation would lose."""

import mpmath
import numpy as np
import pytest

import oracle
import softgrad as sg


@pytest.mark.parametrize(
    ("dtype", "gap"), [("float32", 20.0), ("float32", 60.0), ("float64", 40.0), ("float64", 600.0)]
)
@pytest.mark.parametrize("dense", [False, True])
def test_dominant_true_class_keeps_its_digits(dense, dtype, gap, asarray, to_numpy):
    limit = {"float32": 70, "float64": 500}[dtype]
    logits = asarray([[gap, 0.0, -1.0]], dtype)
    labels = asarray([[1.0, 0.0, 0.0]], dtype) if dense else asarray([0], "int64")
    with mpmath.workdps(400):
        others = [mpmath.exp(-gap), mpmath.exp(-gap - 1)]
        total = 1 + mpmath.fsum(others)
        loss = np.array([mpmath.log(total)], dtype=object)
        row = np.array([[-mpmath.fsum(others) / total, others[0] / total, others[1] / total]], dtype=object)
        for result in (
            sg.cross_entropy(logits, labels, reduction="none"),
            sg.cross_entropy_value_and_grad(logits, labels, reduction="none")[0],
        ):
            assert oracle.ulps(to_numpy(result), loss, dtype) <= limit
        for result in (
            sg.cross_entropy_grad(logits, labels, reduction="none"),
            sg.cross_entropy_value_and_grad(logits, labels, reduction="none")[1],
        ):
            assert oracle.ulps(to_numpy(result), row, dtype) <= limit


def test_the_example_of_the_contract(asarray, to_numpy):
    loss = to_numpy(sg.cross_entropy(asarray([[20.0, 0.0]], "float32"), asarray([0], "int64")))
    np.testing.assert_allclose(loss, 2.0611537e-9, rtol=1e-6)


FAMILIES = {
    "normal": np.random.default_rng(1).normal(size=(4, 10)),
    "wide": np.random.default_rng(2).normal(scale=15.0, size=(4, 10)),
    "far from zero": 3000.0 + np.random.default_rng(3).integers(-16, 16, size=(4, 10)) / 8,
    "ties": np.array([[2.0] * 10, [7.0] * 5 + [-7.0] * 5, [0.0] * 9 + [30.0], [30.0] * 2 + [0.0] * 8]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_within_the_goal(family, dtype, asarray, to_numpy):
    limit = {"float32": 70, "float64": 500}[dtype]
    logits = FAMILIES[family].astype(np.float32).astype(np.float64)
    labels = np.array([0, 4, 9, int(np.argmax(logits[3]))])
    reference = oracle.cross_entropy(logits, labels, orders=("grad",))
    value, gradient = sg.cross_entropy_value_and_grad(
        asarray(logits, dtype), asarray(labels, "int64"), reduction="none"
    )
    assert oracle.ulps(to_numpy(value), reference.value("none"), dtype) <= limit
    assert oracle.ulps(to_numpy(gradient), reference.grad("none"), dtype) <= limit


@pytest.mark.parametrize(("dtype", "goal"), [("float32", 0.51), ("float64", 6)])
@pytest.mark.parametrize("family", FAMILIES)
def test_high_precision_is_within_its_goal(family, dtype, goal, asarray, to_numpy):
    logits = FAMILIES[family].astype(np.float32).astype(np.float64)
    labels = np.array([0, 4, 9, int(np.argmax(logits[3]))])
    reference = oracle.cross_entropy(logits, labels, orders=("grad",))
    loss = sg.CrossEntropy(reduction="none", precision="high")
    value, gradient = loss.value_and_grad(asarray(logits, dtype), asarray(labels, "int64"))
    assert oracle.ulps(to_numpy(value), reference.value("none"), dtype) <= goal
    assert oracle.ulps(to_numpy(gradient), reference.grad("none"), dtype) <= goal
