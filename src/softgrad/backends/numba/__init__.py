"""The back end of compiled loops for NumPy arrays, where numba is installed: softgrad[numba]."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import Any

from ..._options import LossArgs
from .._declaration import Backend

#: Numbers of a linear model from which its loops are ahead of a product.
LEAST = 1 << 13
#: What has loops, of logits and of what a softmax or its logarithm gave.
FUNCTIONS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_value_and_grad",
)
DERIVATIVES = ("softmax_vjp", "softmax_jvp", "log_softmax_vjp")
#: Classes up to which the linear model's loops are ahead of BLAS's products, and weights that a thread's sum may have.
LINEAR = ("linear_cross_entropy", "linear_cross_entropy_value_and_grad")
LINEAR_CLASSES, LINEAR_WEIGHTS = 128, 1 << 18
#: The same where a vector of 64 bytes is two of the processor's.
NARROW_CLASSES = 16
#: Terms that a sum of cotangents takes in its dtype.
LONGEST = 1 << 15
_SMALL = f"fewer than {LEAST} elements"
#: "0" turns this back end off.
VARIABLE = "SOFTGRAD_NUMBA"
_verdict: bool | str | None = None


def compiles() -> bool | str:
    """Whether the loops can be had, or why not."""
    global _verdict
    if _verdict is None and os.environ.get(VARIABLE) == "0":
        _verdict = f"{VARIABLE}=0 turns numba off"
    if _verdict is None:
        try:
            importlib.import_module(".linear", __package__)
            _verdict = True
        except Exception as error:  # noqa: BLE001 - numba refuses a NumPy or a cache folder in ways of its own
            _verdict = f"numba: {error}"
    return _verdict


def _obstacle(args: LossArgs) -> str | None:
    """What a loss asks for that has no loop."""
    if args.dense:
        return "labels that are weights by class have no loop"
    if (args.labels.dtype == "uint64" and args.ignore_index is not None) or abs(args.ignore_index or 0) >= 1 << 62:
        return "labels to ignore are not of int64's range"
    return None


def _linear(X: Any, W: Any, bias: Any, args: LossArgs, *rest: Any) -> bool | str:
    """Whether the linear model has a loop that is ahead."""
    if X.dtype.char not in "fd" or not X.dtype.isnative or X.dtype != W.dtype:
        return f"dtype {X.dtype} has no loop here"
    if not X.flags.c_contiguous:
        return "the features of a sample are not next to each other in memory"
    if len(W) > LINEAR_CLASSES or not 0 < W.size <= LINEAR_WEIGHTS:
        return f"more than {LINEAR_CLASSES} classes or {LINEAR_WEIGHTS} weights"
    if len(rest) > 1 and "X" in rest[0]:
        return "the gradient with respect to X has no loop"
    verdict = _obstacle(args) or compiles()
    if verdict is True and len(W) > NARROW_CLASSES and not _vectors_are_whole():
        return f"more than {NARROW_CLASSES} classes on a processor with vectors of less than 64 bytes"
    return verdict


@cache
def _vectors_are_whole() -> bool:
    """Whether the processor has vectors of 64 bytes, and so many that sums of a tile stay in registers."""
    features = importlib.import_module("llvmlite.binding").get_host_cpu_features()
    return bool(features.get("avx512f"))


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Take the cases that have a loop: whatever the number of samples and their layout, for the same bits of each."""
    if isinstance(_verdict, str):
        return _verdict
    if function in LINEAR:
        return _linear(x, *rest) if x.size >= LEAST else _SMALL
    if x.dtype.char not in "fd" or not x.dtype.isnative:
        return f"dtype {x.dtype} has no loop here"
    args = None
    if function in DERIVATIVES:
        beside, axis = rest
        if beside.dtype != x.dtype or x.shape[axis] > LONGEST:
            return "the other array has another dtype, or its sums are long"
    elif function in FUNCTIONS[:3]:
        axis, where, precision = rest
        if where is not None or precision is not None:
            return "where and precision='high' have no loop"
    else:
        args = rest[0]
        axis = args.axis
    if x.shape[axis] < 2 or not x.size:
        return "fewer than 2 classes, or no sample"
    return (None if args is None else _obstacle(args)) or (_verdict if _verdict is True else compiles())


BACKEND = (
    Backend(
        name="numba",
        types=("numpy:ndarray",),
        functions={
            **{name: f"{__package__}.rows:{name}" for name in (*FUNCTIONS, *DERIVATIVES)},
            **{name: f"{__package__}.linear:{name}" for name in LINEAR},
        },
        priority=1,
        should_run=f"{__name__}:should_run",
        options=("sample_weight", "ignore_index"),
    )
    if importlib.util.find_spec("numba") is not None
    else None
)
