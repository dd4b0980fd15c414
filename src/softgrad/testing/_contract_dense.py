"""Clauses on softmax, log_softmax, logsumexp and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._array.errors import AxisError
from .._array.libraries.declaration import dtype_name
from .._dense import log_softmax, log_softmax_jvp, log_softmax_vjp, softmax, softmax_jvp, softmax_vjp
from .._logsumexp import logsumexp
from . import _reference as reference
from ._contract import DERIVATIVE_ULP, LOGITS, SHOWN, SOFTMAX_ULP, SUM_ULP, VECTOR, Kit, Skip, clause
from ._gradient import check_gradient

INF, NAN = np.inf, np.nan


@clause("values", "softmax, log_softmax and logsumexp are right to the digits promised, in every dtype")
def _dense_values(kit: Kit) -> None:
    for dtype in kit.floats:
        x, known = kit.put(LOGITS, dtype), kit.exact(LOGITS, dtype)
        for function, ulp in ((softmax, SOFTMAX_ULP), (log_softmax, SOFTMAX_ULP), (logsumexp, SUM_ULP)):
            y = function(x, axis=-1)
            kit.same_dtype(y, dtype)
            kit.close(y, getattr(reference, function.__name__)(known), ulp, what=f"{function.__name__} in {dtype}")


@clause("values", "precision='high' loses one unit in the last place at most, six in float64")
def _high(kit: Kit) -> None:
    kit.need("float64")
    for dtype in kit.floats:
        x, known = kit.put(LOGITS, dtype), kit.exact(LOGITS, dtype)
        ulp = 6.0 if dtype == "float64" else 1.0
        kit.close(softmax(x, precision="high"), reference.softmax(known), ulp, what=f"softmax in {dtype}")
        kit.close(log_softmax(x, precision="high"), reference.log_softmax(known), ulp, what=f"log_softmax in {dtype}")


@clause("values", "any axis and several axes give what the last axis gives")
def _axes(kit: Kit) -> None:
    cube = np.stack([LOGITS, VECTOR])
    for axis in (0, 1, -1, (0, 2), None):
        axes = range(3) if axis is None else (axis,) if isinstance(axis, int) else axis
        moved = np.moveaxis(cube, axes, range(-len(axes), 0))
        rows = moved.reshape(*moved.shape[: 3 - len(axes)], -1)
        back = np.moveaxis(reference.softmax(rows).reshape(moved.shape), range(-len(axes), 0), axes)
        kit.close(softmax(kit.put(cube), axis=axis), back, SOFTMAX_ULP, what=f"softmax, axis={axis}")
        lse = logsumexp(kit.put(cube), axis=axis)
        kit.close(lse, reference.logsumexp(rows), SUM_ULP, what=f"logsumexp, axis={axis}")


@clause("values", "logsumexp takes factors and gives the sign")
def _factors(kit: Kit) -> None:
    b = np.array([[1.0, -2.0, 0.5, 0.0]])
    value, sign = logsumexp(kit.put(LOGITS), axis=-1, b=kit.put(b), return_sign=True)
    kit.close(value, reference.logsumexp(LOGITS, b), 16 * SUM_ULP)
    kit.equal(sign, np.sign(np.sum(b * np.exp(LOGITS), axis=-1)))
    kit.equal(logsumexp(kit.put([1.0, 2.0]), b=kit.put([1.0, -1.0])), NAN, "the logarithm of a negative sum")
    kit.equal(logsumexp(kit.put([INF, 1.0]), b=kit.put([0.0, 1.0])), 1.0, "a factor 0 of an infinite term")


@clause("gradients", "vjp and jvp are the derivatives of softmax and log_softmax")
def _dense_derivatives(kit: Kit) -> None:
    rows = [
        ("softmax", softmax, softmax_vjp, softmax_jvp, reference.softmax),
        ("log_softmax", log_softmax, log_softmax_vjp, log_softmax_jvp, reference.log_softmax),
    ]
    for name, forward, vjp, jvp, exact in rows:
        y, v = forward(kit.put(LOGITS)), kit.put(VECTOR)
        pulled = reference.gradient(lambda x, exact=exact: reference.product(exact(x), VECTOR), LOGITS)  # type: ignore[misc]
        kit.close(vjp(y, v), pulled, DERIVATIVE_ULP, normwise=True, what=f"{name}_vjp")
        # the product with the tangent is tested entry by entry, as the derivative of each output
        pushed = np.empty(LOGITS.shape, dtype=object)
        for place in np.ndindex(LOGITS.shape):
            unit = np.zeros(LOGITS.shape)
            unit[place] = 1.0
            row = reference.gradient(
                lambda x, exact=exact, unit=unit, i=place[0]: reference.product(exact(x), unit[i : i + 1]),  # type: ignore[misc]
                LOGITS[place[0] : place[0] + 1],
            )
            pushed[place] = reference.product(row, VECTOR[place[0] : place[0] + 1])
        kit.close(jvp(y, v), pushed, DERIVATIVE_ULP, normwise=True, what=f"{name}_jvp")


@clause("gradients", "softmax is the gradient of logsumexp, at ties too")
def _tie(kit: Kit) -> None:
    for data in (LOGITS, np.zeros((2, 3))):
        check_gradient(lambda x: logsumexp(x), lambda x: softmax(x, axis=None), kit.put(data))


@clause("edge cases", "an empty class axis gives empty, its logsumexp -inf; no rows give no rows")
def _empty(kit: Kit) -> None:
    for function in (softmax, log_softmax):
        kit.equal(function(kit.put(np.zeros((3, 0)))), np.zeros((3, 0)))
        kit.equal(function(kit.put(np.zeros((0, 3)))), np.zeros((0, 3)))
    kit.equal(logsumexp(kit.put(np.zeros((3, 0))), axis=-1), [-INF] * 3)


@clause("edge cases", "a row of all -inf is NaN, its logsumexp -inf; +inf and NaN spoil their row alone")
def _infinities(kit: Kit) -> None:
    data = [[-INF, -INF], [INF, 0.0], [NAN, 0.0], [0.0, 0.0], [2.0, -INF]]
    kit.equal(softmax(kit.put(data)), [[NAN] * 2, [NAN] * 2, [NAN] * 2, [0.5, 0.5], [1.0, 0.0]])
    kit.equal(log_softmax(kit.put(data))[4, :], [0.0, -INF])
    kit.equal(logsumexp(kit.put(data), axis=-1), [-INF, INF, NAN, np.log(2.0), 2.0])


@clause("edge cases", "a row hidden by where is 0, its logarithm -inf; what is hidden may be anything")
def _hidden(kit: Kit) -> None:
    data, shown = [[NAN, 1.0, 1.0], [3.0, 4.0, INF]], [[False, True, True], [False] * 3]
    x, where = kit.put(data), kit.put(shown, "bool")
    kit.equal(softmax(x, where=where), [[0.0, 0.5, 0.5], [0.0] * 3])
    kit.equal(log_softmax(x, where=where), [[-INF, -np.log(2.0), -np.log(2.0)], [-INF] * 3])
    kit.equal(logsumexp(x, axis=-1, where=where), [1.0 + np.log(2.0), -INF])


@clause("edge cases", "where leaves of each row what a shorter row would give")
def _masked(kit: Kit) -> None:
    y = kit.get(softmax(kit.put(LOGITS), where=kit.put(SHOWN, "bool")))
    for i, shown in enumerate(SHOWN):
        kit.equal(y[i][shown], reference.softmax(LOGITS[i][shown]).astype(np.float64))
        kit.equal(y[i][~shown], np.zeros(np.sum(~shown)))


@clause("edge cases", "without dimensions softmax is 1, log_softmax 0 and logsumexp the value")
def _scalar(kit: Kit) -> None:
    kit.equal(softmax(kit.put(7.0)), 1.0)
    kit.equal(log_softmax(kit.put(7.0), axis=0), 0.0)
    kit.equal(logsumexp(kit.put(7.0)), 7.0)


@clause("edge cases", "the logarithm at a sure class keeps its digits")
def _sure(kit: Kit) -> None:
    row = np.array([[40.0, 0.0, -3.0]])
    for dtype in kit.floats:
        if dtype in ("float32", "float64"):
            kit.close(log_softmax(kit.put(row, dtype)), reference.log_softmax(row), SOFTMAX_ULP, what=dtype)


@clause("dtypes", "integers become the default float")
def _integers(kit: Kit) -> None:
    for dtype in ("int8", "int16", "int32", "int64", "uint8"):
        if not kit.arrays.has_dtype(dtype):
            continue
        y = softmax(kit.put([0, 0], dtype))
        if dtype_name(y.dtype) not in ("float32", "float64"):
            raise AssertionError(f"{dtype} became {dtype_name(y.dtype)}")
        kit.equal(y, [0.5, 0.5], dtype)


@clause("dtypes", "booleans and complex numbers are refused, by logsumexp booleans alone")
def _refused(kit: Kit) -> None:
    flags = kit.put([True, False], "bool")
    for function in (softmax, log_softmax, logsumexp):
        kit.raises(TypeError, lambda function=function: function(flags))  # type: ignore[misc]
    if kit.arrays.has_dtype("complex64"):
        numbers = kit.put([0j, 0j], "complex64")
        kit.raises(TypeError, lambda: softmax(numbers))
        np.testing.assert_allclose(kit.get(logsumexp(numbers)), np.log(2.0) + 0j, rtol=1e-6)


@clause("dtypes", "half precision is summed in single")
def _half(kit: Kit) -> None:
    halves = [name for name in ("float16", "bfloat16") if name in kit.floats]
    if not halves:
        raise Skip("no half precision")
    for dtype in halves:
        y = logsumexp(kit.put(np.zeros(100_000), dtype))
        kit.same_dtype(y, dtype)
        kit.close(y, np.log(100_000.0), 1.0, what=dtype)


@clause("dtypes", "dtype= is computed in and returned")
def _dtype_argument(kit: Kit) -> None:
    for dtype in kit.floats:
        kit.same_dtype(softmax(kit.put([1.0, 2.0], "float32"), dtype=getattr(kit.xp, dtype)), dtype)


@clause("layout", "an axis that is not there, or named twice, is an AxisError")
def _no_axis(kit: Kit) -> None:
    for axis in (2, -3, (0, 0)):
        kit.raises(AxisError, lambda axis=axis: softmax(kit.put(LOGITS), axis=axis))  # type: ignore[misc]


@clause("layout", "a transposed view gives what its copy gives, and inputs are never written to")
def _views(kit: Kit) -> None:
    functions: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (softmax, {}),
        (log_softmax, {}),
        (logsumexp, {"axis": -1}),
    ]
    for function, kwargs in functions:
        x = kit.put(LOGITS)
        seen = kit.xp.permute_dims(x, (1, 0))
        kit.equal(function(seen, **kwargs), kit.get(function(kit.put(LOGITS.T.copy()), **kwargs)), function.__name__)
        kit.equal(x, LOGITS, f"the input of {function.__name__}")
