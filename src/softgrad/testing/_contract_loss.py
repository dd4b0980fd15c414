"""Clauses on the cross-entropy of logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array.errors import LabelError
from .._cross_entropy import CrossEntropy
from . import _reference as reference
from ._contract import DERIVATIVE_ULP, LABELS, LOGITS, SHARES, SHOWN, SOFTMAX_ULP, VECTOR, Kit, clause
from ._gradient import check_gradient, check_hvp

INF, NAN = np.inf, np.nan
_CLASS_WEIGHT = [1.0, 0.5, 2.0, 0.25]
_SHIFT = [0.5, -1.0, 0.25, 0.0]
_SAMPLE_WEIGHT = np.array([0.5, 2.0, 1.5])

#: Options, with the labels and what else a call is given.
CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "class indices": ({}, LABELS, {}),
    "weights by class": ({}, SHARES, {}),
    "label smoothing": ({"label_smoothing": 0.125}, LABELS, {}),
    "class weights": ({"class_weight": _CLASS_WEIGHT, "label_smoothing": 0.25}, LABELS, {}),
    "sample weights": ({}, SHARES, {"sample_weight": _SAMPLE_WEIGHT}),
    "an ignored index": ({"ignore_index": 0}, LABELS, {}),
    "z-loss": ({"z_loss": 0.0625}, LABELS, {}),
    "scaled logits": ({"softcap": 4.0, "temperature": 0.5, "logit_shift": _SHIFT}, LABELS, {}),
    "a focal factor": ({"focal": 1.5}, LABELS, {}),
    "a mask": ({"label_smoothing": 0.125}, LABELS, {"where": SHOWN}),
    "everything at once": (
        {
            "softcap": 4.0,
            "temperature": 0.5,
            "logit_shift": _SHIFT,
            "label_smoothing": 0.25,
            "class_weight": _CLASS_WEIGHT,
            "focal": 2.0,
            "ignore_index": 0,
            "z_loss": 0.0625,
        },
        LABELS,
        {"sample_weight": _SAMPLE_WEIGHT, "where": SHOWN},
    ),
}


def place(kit: Kit, labels: Any, arguments: dict[str, Any], dtype: str) -> tuple[Any, dict[str, Any]]:
    """Labels and arguments as arrays of the library."""
    arrays = {name: kit.put(value, "bool" if name == "where" else dtype) for name, value in arguments.items()}
    return (kit.labels(labels) if labels.ndim == 1 else kit.put(labels, dtype)), arrays


@clause("values", "the loss of each sample, its sum and its mean are right, under every option and in every dtype")
def _loss_values(kit: Kit) -> None:
    for dtype in kit.floats:
        known = kit.exact(LOGITS, dtype)
        # each option by itself in one dtype; the others show how dtypes are promoted
        names = CASES if dtype == kit.wide else ("weights by class", "everything at once")
        for name in names:
            options, labels, arguments = CASES[name]
            given, arrays = place(kit, labels, arguments, dtype)
            each, total = reference.losses(known, labels, reference.Options(**options, **arguments))
            expected = {"none": each, "sum": sum(each), "mean": sum(each) / total}
            for reduction, want in expected.items():
                loss = CrossEntropy(**options, reduction=reduction)  # type: ignore[arg-type]
                value = loss(kit.put(LOGITS, dtype), given, **arrays)
                kit.same_dtype(value, dtype)
                kit.close(value, want, SOFTMAX_ULP, what=f"{name}, {reduction}, {dtype}")


@clause("gradients", "gradient, second derivative and its diagonal are those of the loss, under every option")
def _loss_derivatives(kit: Kit) -> None:
    for name, (options, labels, arguments) in CASES.items():
        given, arrays = place(kit, labels, arguments, kit.wide)
        settings = reference.Options(**options, **arguments)
        x, v, loss = kit.put(LOGITS), kit.put(VECTOR), CrossEntropy(**options)

        def exact(z: Any, labels: Any = labels, settings: reference.Options = settings) -> Any:
            return reference.loss(z, labels, settings)

        value, grad = loss.value_and_grad(x, given, **arrays)
        for what, got, want in (
            ("value of value_and_grad", value, exact(LOGITS)),
            ("gradient of value_and_grad", grad, reference.gradient(exact, LOGITS)),
            ("gradient", loss.grad(x, given, **arrays), reference.gradient(exact, LOGITS)),
            ("hvp", loss.hvp(x, given, v, **arrays), reference.hvp(exact, LOGITS, VECTOR)),
            ("hessian_diag", loss.hessian_diag(x, given, **arrays), reference.hessian_diag(exact, LOGITS)),
        ):
            kit.close(got, want, DERIVATIVE_ULP, normwise=True, what=f"{what}, {name}")


@clause("gradients", "they agree with finite differences and with the library's automatic differentiation")
def _loss_differences(kit: Kit) -> None:
    y, x = kit.labels(), kit.put(LOGITS / 4)
    for loss in (
        CrossEntropy(label_smoothing=0.125, z_loss=0.0625),
        CrossEntropy(softcap=4.0, temperature=0.5, logit_shift=_SHIFT, focal=1.5),
    ):
        check_gradient(lambda z, f=loss: f(z, y), lambda z, f=loss: f.grad(z, y), x)  # type: ignore[misc]
        check_hvp(lambda z, f=loss: f.grad(z, y), lambda z, v, f=loss: f.hvp(z, y, v), x)  # type: ignore[misc]


@clause("gradients", "loss and gradient keep their digits where the sample is sure")
def _sure(kit: Kit) -> None:
    x = np.array([[20.0, 0.0, 1.0]])
    for dtype in ("float32", "float64"):
        if dtype not in kit.floats:
            continue
        value, grad = CrossEntropy().value_and_grad(kit.put(x, dtype), kit.labels([0]))

        def exact(z: Any) -> Any:
            return reference.loss(z, np.array([0]))

        kit.close(value, exact(x), SOFTMAX_ULP, what=f"loss in {dtype}")
        # every entry for itself: the one at the label is minus the sum of the others, not p - 1
        kit.close(grad, reference.gradient(exact, x), SOFTMAX_ULP, what=f"gradient in {dtype}")


@clause("edge cases", "a label out of range makes its own sample NaN, and is an error with validate=True")
def _out_of_range(kit: Kit) -> None:
    x, loss = kit.put([[0.0, 0.0], [0.0, 0.0]]), CrossEntropy(reduction="none")
    for label in (2, -1, 1000):
        y = kit.labels([0, label])
        kit.equal(loss(x, y), [np.log(2.0), NAN], f"loss, label {label}")
        kit.equal(loss.grad(x, y), [[-0.5, 0.5], [NAN, NAN]], f"gradient, label {label}")
        kit.raises(LabelError, lambda y=y: loss(x, y, validate=True))  # type: ignore[misc]


@clause("edge cases", "ignored samples and samples of weight 0 count for nothing, whatever their logits")
def _ignored(kit: Kit) -> None:
    x, y = kit.put([[0.0, 0.0], [NAN, INF]]), kit.labels([0, -100])
    for name, value in (
        ("ignore_index", CrossEntropy(ignore_index=-100).value_and_grad(x, y)),
        ("sample_weight", CrossEntropy().value_and_grad(x, kit.labels([0, 1]), sample_weight=kit.put([1.0, 0.0]))),
    ):
        kit.equal(value[0], np.log(2.0), name)
        kit.equal(value[1], [[-0.5, 0.5], [0.0, 0.0]], name)
    none, every = kit.put([0.0, 1.0]), kit.put([[True, True]] * 2, "bool")
    for name, value in (
        ("every sample ignored", CrossEntropy(ignore_index=-100).value_and_grad(x, kit.labels([-100, -100]))),
        ("classes of weight 0", CrossEntropy(class_weight=none).value_and_grad(x, kit.labels([0, 0]))),
        ("the same, masked", CrossEntropy(class_weight=none).value_and_grad(x, kit.labels([0, 0]), where=every)),
        ("targets of weight 0", CrossEntropy().value_and_grad(x, kit.put([[0.0, 0.0]] * 2))),
    ):
        kit.equal(value[0], 0.0, name)
        kit.equal(value[1], np.zeros((2, 2)), name)


@clause(
    "edge cases", "a hidden true class loses inf, a row hidden whole does not count; weight 0 of a class at -inf is 0"
)
def _hidden(kit: Kit) -> None:
    loss, x = CrossEntropy(reduction="none"), kit.put([[1.0, 1.0], [NAN, 2.0]])
    where = kit.put([[False, True], [False, False]], "bool")
    kit.equal(loss(x, kit.labels([0, 0]), where=where), [INF, 0.0])
    kit.equal(loss.grad(x, kit.labels([1, 0]), where=where), [[0.0, 0.0], [0.0, 0.0]])
    rows = kit.put([[True], [False]], "bool")
    kit.equal(CrossEntropy()(x, kit.labels([0, 0]), where=rows), np.log(2.0), "the mean over the shown row")
    kit.equal(CrossEntropy().total_weight(x, kit.labels([0, 0]), where=rows), 1.0, "the shown rows")
    impossible, target = kit.put([[2.0, -INF]]), kit.put([[1.0, 0.0]])
    kit.equal(loss(impossible, target), [0.0])
    kit.equal(loss.grad(impossible, target), [[0.0, 0.0]])
    kit.equal(loss.hvp(impossible, target, kit.put([[1.0, 1.0]])), [[0.0, 0.0]])


@clause("dtypes", "class indices may be of any integer dtype; floats and booleans are refused")
def _label_dtypes(kit: Kit) -> None:
    x = kit.put(LOGITS)
    want = kit.get(CrossEntropy()(x, kit.labels()))
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        if kit.arrays.has_dtype(dtype):
            kit.equal(CrossEntropy()(x, kit.put(LABELS, dtype)), want, dtype)
    kit.raises(TypeError, lambda: CrossEntropy()(x, kit.put(LABELS)))
    kit.raises(TypeError, lambda: CrossEntropy()(x, kit.put(LABELS == 0, "bool")))


@clause("dtypes", "the logits decide the dtype")
def _mixed(kit: Kit) -> None:
    value, grad = CrossEntropy().value_and_grad(kit.put(LOGITS, "float32"), kit.put(SHARES))
    kit.same_dtype(value, "float32")
    kit.same_dtype(grad, "float32")


@clause("layout", "classes on the first axis give the transposed gradient; inputs are never written to")
def _axis_first(kit: Kit) -> None:
    x, y = kit.put(LOGITS), kit.labels()
    want = kit.get(CrossEntropy().grad(x, y))
    kit.equal(CrossEntropy(axis=0).grad(kit.put(LOGITS.T.copy()), y), want.T)
    kit.equal(CrossEntropy(axis=0).grad(kit.xp.permute_dims(x, (1, 0)), y), want.T, "a view")
    kit.equal(x, LOGITS, "the logits")
    kit.equal(y, LABELS, "the labels")


@clause("layout", "shapes that do not fit are a ValueError, no classes too")
def _shapes(kit: Kit) -> None:
    kit.raises(ValueError, lambda: CrossEntropy()(kit.put(LOGITS), kit.labels([0, 1])))
    kit.raises(ValueError, lambda: CrossEntropy()(kit.put(np.zeros((3, 0))), kit.labels()))
    kit.equal(CrossEntropy()(kit.put(np.zeros((0, 4))), kit.labels(np.zeros(0, int))), 0.0, "no samples")
