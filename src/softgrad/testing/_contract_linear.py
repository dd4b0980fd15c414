"""Clauses on the linear model, on devices, on compiled and on large calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .._cross_entropy import CrossEntropy
from .._cross_entropy_functions import cross_entropy, cross_entropy_grad
from .._dense import log_softmax, softmax
from .._logsumexp import logsumexp
from ..backends import explain, use
from ..linear.functions import linear_cross_entropy_grad
from ..linear.model import LinearCrossEntropy
from . import _reference as reference
from ._contract import (
    BIAS,
    DERIVATIVE_ULP,
    FEATURES,
    LABELS,
    LOGITS,
    SHARES,
    SOFTMAX_ULP,
    VECTOR,
    WEIGHTS,
    Kit,
    Skip,
    clause,
)
from ._host import Arrays
from ._ulp import epsilon


@clause("values", "the loss of the linear model is right, with and without bias, penalty and blocks")
def _linear_values(kit: Kit) -> None:
    X, W, bias = kit.put(FEATURES), kit.put(WEIGHTS), kit.put(BIAS)
    for labels in (LABELS, SHARES):
        given = kit.labels(labels) if labels.ndim == 1 else kit.put(labels)
        for block in (None, 2):
            loss = LinearCrossEntropy(X, given, l2=0.5, block_size=block)
            kit.close(loss.value(W), reference.linear_loss(FEATURES, labels, WEIGHTS, l2=0.5), SOFTMAX_ULP)
            want = reference.linear_loss(FEATURES, labels, WEIGHTS, BIAS, l2=0.5)
            kit.close(loss.value(W, bias), want, SOFTMAX_ULP, what="with bias")


@clause("gradients", "gradients of the linear model by weights, bias and data, and its second derivative")
def _linear_derivatives(kit: Kit) -> None:
    X, W, bias, y = kit.put(FEATURES), kit.put(WEIGHTS), kit.put(BIAS), kit.labels()
    loss = LinearCrossEntropy(X, y, label_smoothing=0.125, l2=0.5, block_size=2)
    options = reference.Options(label_smoothing=0.125)

    def exact(X: Any = FEATURES, W: Any = WEIGHTS, bias: Any = BIAS) -> Any:
        return reference.linear_loss(X, LABELS, W, bias, options, l2=0.5)

    wanted = {
        "W": reference.gradient(lambda a: exact(W=a), WEIGHTS),
        "bias": reference.gradient(lambda a: exact(bias=a), BIAS),
        "X": reference.gradient(lambda a: exact(X=a), FEATURES),
    }
    value, grads = loss.value_and_grad(W, bias, wrt=("W", "bias", "X"))
    kit.close(value, exact(), SOFTMAX_ULP)
    for (name, want), got in zip(wanted.items(), grads, strict=True):
        kit.close(got, want, DERIVATIVE_ULP, normwise=True, what=f"gradient by {name}")
    direction = np.array([[1.0, 0.5], [-0.25, 0.0], [2.0, -1.0], [0.75, 0.25]])
    turned = loss.hvp(W, kit.put(direction), bias=bias, wrt="W")
    want = reference.hvp(lambda a: exact(W=a), WEIGHTS, direction)
    kit.close(turned, want, DERIVATIVE_ULP, normwise=True, what="second derivative by W")


@clause("layout", "samples on the second axis give the transposed gradient, X (S - Y)^T")
def _sample_axis(kit: Kit) -> None:
    y = kit.labels()
    want = kit.get(LinearCrossEntropy(kit.put(FEATURES), y).grad(kit.put(WEIGHTS)))
    loss = LinearCrossEntropy(kit.put(FEATURES.T.copy()), y, sample_axis=1)
    kit.close(loss.grad(kit.put(WEIGHTS.T.copy())), want.T, 4, normwise=True)


def _calls(kit: Kit) -> dict[str, Callable[[], Any]]:
    x, y, X, W = kit.put(LOGITS), kit.labels(), kit.put(FEATURES), kit.put(WEIGHTS)
    loss = CrossEntropy(class_weight=[1.0, 2.0, 0.5, 1.0], label_smoothing=0.125)
    return {
        "softmax": lambda: softmax(x),
        "log_softmax": lambda: log_softmax(x),
        "logsumexp": lambda: logsumexp(x, axis=-1),
        "loss": lambda: loss(x, y),
        "gradient": lambda: loss.grad(x, y),
        "hvp": lambda: loss.hvp(x, y, kit.put(VECTOR)),
        "linear gradient": lambda: LinearCrossEntropy(X, y).grad(W),
    }


@clause("devices", "results stay on the device of their input and in its library")
def _stays(kit: Kit) -> None:
    x = kit.put(LOGITS)
    for name, call in _calls(kit).items():
        y = call()
        if kit.arrays.name == "numpy":
            # a 0-d result comes back as a scalar, as SciPy's does
            if not isinstance(y, np.ndarray | np.generic):
                raise AssertionError(f"{name} gave {type(y)}")
        elif not isinstance(y, type(x)) and type(y).__module__.split(".")[0] != type(x).__module__.split(".")[0]:
            raise AssertionError(f"{name} gave {type(y)}, its input is {type(x)}")
        # scalars of the first NumPy 2 are on no device
        here = getattr(x, "device", None)
        there = getattr(y, "device", here)
        if there != here:
            raise AssertionError(f"{name} is on {there}, its input on {here}")


@clause("devices", "every other device gives the same results, and keeps them")
def _elsewhere(kit: Kit) -> None:
    devices = kit.arrays.other_devices()
    if not devices:
        raise Skip("one device alone")
    for device in devices:
        away = Kit(Arrays(kit.xp, kit.arrays.name, device, kit.arrays.read))
        local = _calls(kit)
        for name, call in _calls(away).items():
            y = call()
            if y.device != device:
                raise AssertionError(f"{name} of an array on {device} is on {y.device}")
            digits = 1e-5 if away.wide == "float32" else 1e-13
            want = kit.get(local[name]())
            near = digits * float(np.max(np.abs(want)))
            np.testing.assert_allclose(away.get(y), want, rtol=digits, atol=near, err_msg=f"{name} on {device}")


@clause("transforms", "compiled by its library, a call gives the same")
def _compiled(kit: Kit) -> None:
    x, y = kit.put(LOGITS), kit.labels()
    loss = CrossEntropy(label_smoothing=0.125)
    compile_ = kit.arrays.declared.compile
    if compile_ is None:
        raise Skip("the library compiles nothing, or the caller does it")
    value, grad = compile_(lambda a, b: loss.value_and_grad(a, b))(x, y)
    kit.close(value, kit.get(loss(x, y)), SOFTMAX_ULP)
    kit.close(grad, kit.get(loss.grad(x, y)), DERIVATIVE_ULP, normwise=True)


@clause("large", "arrays worked through in pieces give what the generic code gives")
def _large(kit: Kit) -> None:
    random, ran = np.random.default_rng(0), 0
    for rows, classes in ((3000, 7), (60, 900)):
        logits = random.normal(0.0, 4.0, (rows, classes))
        logits[rows // 2], logits[rows // 3, 1] = -np.inf, np.nan
        y, features = random.integers(0, classes, rows), random.normal(size=(rows, 5))
        weights = random.normal(size=(classes, 5)) / 4
        clean = np.nan_to_num(logits, neginf=0.0)
        for dtype in ("float32", "float64"):
            if dtype not in kit.floats:
                continue
            x, first, tidy = kit.put(logits, dtype), kit.put(logits.T.copy(), dtype), kit.put(clean, dtype)
            X, W, labels = kit.put(features, dtype), kit.put(weights, dtype), kit.labels(y)
            for function, arguments, options in (
                (softmax, (x,), {}),
                (softmax, (first,), {"axis": 0}),
                (log_softmax, (x,), {}),
                (logsumexp, (x,), {"axis": -1}),
                (cross_entropy, (tidy, labels), {}),
                (cross_entropy_grad, (tidy, labels), {}),
                (linear_cross_entropy_grad, (X, labels, W), {}),
            ):
                call: Callable[..., Any] = function
                told = explain(call.__name__, *arguments, **options)
                if told.backend == "generic":
                    continue
                ran += 1
                with use("generic"), warnings.catch_warnings():
                    # a lazy library computes when it is read, out of reach of the block that silences NumPy
                    warnings.simplefilter("ignore", RuntimeWarning)
                    want = kit.get(call(*arguments, **options))
                digits = 100 * epsilon(dtype)
                scale = float(np.nanmax(np.abs(np.where(np.isfinite(want), want, 0.0))))
                np.testing.assert_allclose(
                    kit.get(call(*arguments, **options)),
                    want,
                    rtol=digits,
                    atol=digits * scale,
                    err_msg=f"{call.__name__} of {told.backend}, {rows} rows, {classes} classes, {dtype}",
                )
    if not ran:
        raise Skip("the generic code is what runs here")
