"""Clauses on log-probabilities of labels and the entropy."""

from __future__ import annotations

import numpy as np

from .._array.typing import NDArray
from .._log_probs import entropy, entropy_vjp, log_probs, log_probs_vjp
from ..linear.log_probs import linear_log_probs, linear_log_probs_vjp
from . import _reference as reference
from ._contract import BIAS, DERIVATIVE_ULP, FEATURES, LOGITS, SOFTMAX_ULP, VECTOR, WEIGHTS, Kit, clause

INF, NAN = np.inf, np.nan
_SEVERAL = np.array([[2, 0], [0, 0], [1, 3]])


def _log_probs(x: NDArray) -> NDArray:
    return np.take_along_axis(reference.log_softmax(x), _SEVERAL, axis=1)


def _entropy(x: NDArray) -> NDArray:
    terms: NDArray = -np.sum(reference.softmax(x) * reference.log_softmax(x), axis=1)
    return terms


@clause("values", "log-probabilities of labels and the entropy are right to the digits promised, in every dtype")
def _values(kit: Kit) -> None:
    for dtype in kit.floats:
        x, known = kit.put(LOGITS, dtype), kit.exact(LOGITS, dtype)
        several = log_probs(x, kit.labels(_SEVERAL))
        kit.same_dtype(several, dtype)
        kit.close(several, _log_probs(known), SOFTMAX_ULP, what=f"log_probs in {dtype}")
        kit.close(log_probs(x, kit.labels(_SEVERAL[:, 1])), _log_probs(known)[:, 1], SOFTMAX_ULP, what=dtype)
        h = entropy(x)
        kit.same_dtype(h, dtype)
        kit.close(h, _entropy(known), SOFTMAX_ULP, what=f"entropy in {dtype}")


@clause("gradients", "vjp are the derivatives of log-probabilities and of the entropy")
def _derivatives(kit: Kit) -> None:
    x, c = kit.put(LOGITS), VECTOR[:, :2]
    want = reference.gradient(lambda x: reference.product(_log_probs(x), c), LOGITS)
    got = log_probs_vjp(x, kit.labels(_SEVERAL), kit.put(c))
    kit.close(got, want, DERIVATIVE_ULP, normwise=True, what="log_probs_vjp")
    want = reference.gradient(lambda x: reference.product(_entropy(x), c[:, 0]), LOGITS)
    kit.close(entropy_vjp(x, kit.put(c[:, 0])), want, DERIVATIVE_ULP, normwise=True, what="entropy_vjp")


@clause("edge cases", "the log-probability of no class is NaN, that of an impossible or hidden one -inf")
def _labels(kit: Kit) -> None:
    x = kit.put([[2.0, -INF, 2.0], [0.0, 0.0, 0.0]])
    kit.equal(log_probs(x, kit.labels([[0, 1], [3, 2]])), [[-np.log(2.0), -INF], [NAN, -np.log(3.0)]])
    where = kit.put([True, False, True], "bool")
    kit.equal(log_probs(x, kit.labels([[0, 1], [0, 1]]), where=where), [[-np.log(2.0), -INF]] * 2)
    kit.equal(log_probs_vjp(x, kit.labels([1, -1]), kit.put([1.0, 1.0])), [[-0.5, 1.0, -0.5], [NAN] * 3])


@clause("edge cases", "an impossible class adds nothing to the entropy, and a row without a sum has none")
def _impossible(kit: Kit) -> None:
    x = kit.put([[0.0, 0.0, -INF], [-INF] * 3, [INF, 0.0, 0.0], [NAN, 0.0, 0.0]])
    kit.equal(entropy(x), [np.log(2.0), NAN, NAN, NAN])
    kit.equal(entropy_vjp(x, kit.put(np.ones(4))), [[0.0] * 3, [NAN] * 3, [NAN] * 3, [NAN] * 3])
    kit.equal(entropy(x, where=kit.put([False] * 3, "bool")), [0.0] * 4)


@clause("values", "the linear model's log-probabilities, entropy and likeliest classes are those of its logits")
def _linear(kit: Kit) -> None:
    X, W, bias = (kit.put(a) for a in (FEATURES, WEIGHTS, BIAS))
    labels, z = kit.labels(_SEVERAL), FEATURES @ WEIGHTS.T + BIAS
    for block_size in (None, 2):
        found = linear_log_probs(X, labels, W, bias, entropy=True, top_k=2, block_size=block_size)
        kit.close(found.log_probs, _log_probs(z), 4 * SOFTMAX_ULP, what="log_probs")
        kit.close(found.entropy, _entropy(z), 4 * SOFTMAX_ULP, what="entropy")
        kit.close(found.log_normalizer, reference.logsumexp(z), 4 * SOFTMAX_ULP, what="log_normalizer")
        kit.equal(found.top_labels, np.argsort(-z, axis=1, kind="stable")[:, :2])


@clause("gradients", "vjp of the linear model are its logits' own, times its factors")
def _linear_derivatives(kit: Kit) -> None:
    X, W, bias = (kit.put(a) for a in (FEATURES, WEIGHTS, BIAS))
    c, z = VECTOR[:, :2], FEATURES @ WEIGHTS.T + BIAS
    slope = reference.gradient(
        lambda z: reference.product(_log_probs(z), c) + reference.product(_entropy(z), c[:, 1]), z
    ).astype(np.float64)
    given = kit.put(c), kit.put(c[:, 1])
    got = linear_log_probs_vjp(X, kit.labels(_SEVERAL), W, bias, given, wrt=("W", "bias", "X"), block_size=2)
    for a, want in zip(got, (slope.T @ FEATURES, slope.sum(axis=0), slope @ WEIGHTS), strict=True):
        kit.close(a, want, 4 * DERIVATIVE_ULP, normwise=True)
