"""Clauses on the divergences of two softmaxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._divergence import js_divergence, js_divergence_value_and_grad, kl_divergence, kl_divergence_value_and_grad
from .._top_k_divergence import Rest, top_k_kl_divergence, top_k_kl_divergence_value_and_grad
from . import _reference as reference
from ._contract import DERIVATIVE_ULP, LOGITS, SHOWN, SOFTMAX_ULP, VECTOR, Kit, clause
from ._gradient import check_gradient

INF, NAN = np.inf, np.nan
#: Name: (value, value and gradient, options, weight of the target in the mixture).
KINDS: dict[str, tuple[Any, Any, dict[str, Any], float]] = {
    "forward": (kl_divergence, kl_divergence_value_and_grad, {}, 0.0),
    "reverse": (kl_divergence, kl_divergence_value_and_grad, {"direction": "reverse"}, 1.0),
    "Jensen-Shannon": (js_divergence, js_divergence_value_and_grad, {"beta": 0.25}, 0.25),
}
_BOTH = ("logits", "target_logits")


@clause("values", "the divergences of two softmaxes are right in every dtype, where they nearly agree too")
def _divergences(kit: Kit) -> None:
    for dtype in kit.floats:
        for target in (VECTOR, LOGITS + VECTOR / 64, LOGITS + VECTOR / 8192):
            x, y = (kit.exact(a, dtype) for a in (LOGITS, target))
            for name, (value, _, options, beta) in KINDS.items():
                got = value(kit.put(LOGITS, dtype), kit.put(target, dtype), **options)
                kit.same_dtype(got, dtype)
                kit.close(got, reference.divergence(x, y, beta), SOFTMAX_ULP, what=f"{name}, {dtype}")


@clause("gradients", "the gradients of the divergences by both logits are right")
def _slopes(kit: Kit) -> None:
    x, y = kit.put(LOGITS), kit.put(VECTOR)
    for name, (_, value_and_grad, options, beta) in KINDS.items():
        _, (by_x, by_y) = value_and_grad(x, y, wrt=_BOTH, temperature=2.0, **options)
        for got, exact in (
            (by_x, reference.gradient(lambda z, b=beta: reference.divergence(z, VECTOR, b, 2.0), LOGITS)),  # type: ignore[misc]
            (by_y, reference.gradient(lambda z, b=beta: reference.divergence(LOGITS, z, b, 2.0), VECTOR)),  # type: ignore[misc]
        ):
            kit.close(got, exact, DERIVATIVE_ULP, normwise=True, what=name)


#: Three classes of each sample, with the fourth.
_ALL = np.array([[2, 0, 1, 3], [0, 3, 1, 2], [3, 1, 2, 0]])


@clause("values", "the divergence from some classes of a teacher is right, the rest as one class and left out")
def _some_classes(kit: Kit) -> None:
    labels = kit.put(_ALL[:, :3], "int64")
    told = np.take_along_axis(VECTOR - np.log(np.exp(VECTOR).sum(axis=1, keepdims=True)), _ALL[:, :3], 1)
    for dtype in kit.floats:
        y, x = kit.exact(told, dtype), np.take_along_axis(kit.exact(LOGITS, dtype), _ALL, 1)
        lumped = np.concatenate([y, np.log1p(-np.exp(y).sum(axis=1, keepdims=True))], axis=1)
        cases: tuple[tuple[Rest, Any, Any], ...] = (("lump", x, lumped), ("renormalize", x[:, :3], y))
        for rest, logits, target in cases:
            got = top_k_kl_divergence(kit.put(LOGITS, dtype), kit.put(told, dtype), labels, rest=rest)
            kit.same_dtype(got, dtype)
            kit.close(got, reference.divergence(logits, target), SOFTMAX_ULP, what=f"{rest}, {dtype}")
    for rest, count in (("lump", 3), ("renormalize", 2)):
        few = kit.put(told[:, :count]), kit.put(_ALL[:, :count], "int64")
        check_gradient(
            lambda z, f=few, r=rest: top_k_kl_divergence(z, *f, rest=r),  # type: ignore[misc]
            lambda z, f=few, r=rest: top_k_kl_divergence_value_and_grad(z, *f, rest=r)[1],
            kit.put(LOGITS / 4),
        )


@clause("gradients", "the divergences agree with finite differences and with the library's automatic differentiation")
def _differences(kit: Kit) -> None:
    x, y = kit.put(LOGITS / 4), kit.put(VECTOR)
    for value, value_and_grad, options, _ in KINDS.values():
        check_gradient(
            lambda z, f=value, o=options: f(z, y, **o),  # type: ignore[misc]
            lambda z, f=value_and_grad, o=options: f(z, y, **o)[1],
            x,
        )


@clause("edge cases", "a divergence is infinite where the other distribution lacks a class, and 0 between equal ones")
def _without_mass(kit: Kit) -> None:
    x, y = kit.put([[0.0, 0.0], [0.0, -INF]]), kit.put([[0.0, -INF], [0.0, 0.0]])
    kit.equal(kl_divergence(x, y, reduction="none"), [np.log(2.0), INF], "forward")
    kit.equal(kl_divergence(x, y, direction="reverse", reduction="none"), [INF, np.log(2.0)], "reverse")
    for value, value_and_grad, options, _ in KINDS.values():
        kit.equal(value(x, x, **options), 0.0, "equal ones")
        kit.equal(value_and_grad(x, x, **options)[1], np.zeros((2, 2)), "gradient of equal ones")


@clause("edge cases", "the divergences leave out hidden classes, rows hidden whole and samples of weight 0")
def _hidden(kit: Kit) -> None:
    shown = SHOWN.copy()
    shown[1] = False
    weight = np.array([1.0, 1.0, 0.0])
    x, y = (kit.put(np.where(shown, a, NAN)) for a in (LOGITS, VECTOR))
    for name, (_, value_and_grad, options, beta) in KINDS.items():
        ours, theirs = (a[:1, shown[0]] for a in (LOGITS, VECTOR))
        value, grad = value_and_grad(x, y, where=kit.put(shown, "bool"), sample_weight=kit.put(weight), **options)
        kit.close(value, reference.divergence(ours, theirs, beta), SOFTMAX_ULP, what=name)
        if not (kit.get(grad)[np.logical_not(shown)] == 0).all() or kit.get(grad)[1:].any():
            raise AssertionError(f"{name}: the gradient of what is hidden is not 0: {kit.get(grad)}")
