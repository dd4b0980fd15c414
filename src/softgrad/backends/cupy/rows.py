"""Softmax and the loss of CuPy arrays, one kernel for a whole row."""

from __future__ import annotations

import functools
import math
from typing import Any

import cupy

from ..._array.typing import AnyArray, Namespace
from ..._kernels.targets import ignored_index, index_labels
from ..._options import LossArgs
from .source import BLOCK, SOURCE, STAGED, THREAD

#: Classes up to which one thread takes a whole row.
THREAD_ROWS = 64
#: Threads of a block that shares a row, a power of two; and of one in which each takes a row, whose tile of doubles is
#: twice as large.
THREADS, ROWS_THREADS, ROWS_THREADS64 = 256, 128, 64
#: Bytes that a thread reads at once.
WIDTH = 16
_MODES = {"softmax": 0, "log_softmax": 1, "logsumexp": 2}
_NULL = 0


@functools.cache
def _kernel(name: str, char: str, kind: int, wide: bool, threads: int, pitch: int) -> Any:
    """A kernel for one dtype: compiled when first called."""
    T, A = {"e": ("__half", "float"), "f": ("float", "float"), "d": ("double", "double")}[char]
    suffix = "f" if A == "float" else ""
    head = (
        f"#include <cuda_fp16.h>\ntypedef {T} T;\ntypedef {A} A;\n"
        f"#define BLOCK {BLOCK}\n#define STAGED {STAGED}\n#define THREAD {THREAD}\n"
        f"#define KIND {kind}\n#define WIDE {int(wide)}\n#define THREADS {threads}\n#define PITCH {pitch}\n"
        f"#define EXP exp{suffix}\n#define LOG1P log1p{suffix}\n"
    )
    return cupy.RawKernel(head + SOURCE, name)


def _launch(name: str, x: AnyArray, rows: int, classes: int, step: int, out: Any, *args: Any) -> None:
    """Launch a kernel on rows of ``x``; ``out`` is what is written of its shape, if anything."""
    threads = ROWS_THREADS64 if x.dtype.char == "d" else ROWS_THREADS
    kind, pitch, grid = THREAD, 1, -(-rows // threads)
    aligned = step == 1 and all(each.data.ptr % WIDTH == 0 for each in (x, out) if each is not None)
    if name != "weights" and classes > THREAD_ROWS:
        kind, threads, grid = BLOCK, THREADS, rows
        aligned = aligned and classes * x.itemsize % WIDTH == 0
    elif name != "weights" and step == 1:
        kind, pitch = STAGED, (8 << max(0, (classes - 1).bit_length() - 3)) + 1
    wide = aligned and kind != THREAD
    _kernel(name, x.dtype.char, kind, wide, threads, pitch)((grid,), (threads,), args)


def _on_device(function: Any) -> Any:
    """CuPy allocates and launches on the current device, which is to be that of the second argument."""

    @functools.wraps(function)
    def run(first: Any, x: AnyArray, *args: Any) -> Any:
        with x.device:
            return function(first, x, *args)

    return run


def _layout(x: AnyArray, axis: int) -> tuple[AnyArray, int, int, int]:
    """(x in C order, rows, classes, elements between two classes of a row)."""
    x = cupy.ascontiguousarray(x)
    classes = x.shape[axis]
    step = math.prod(x.shape[axis + 1 :])
    return x, x.size // classes, classes, step


@_on_device
def _dense(function: str, x: AnyArray, axis: int) -> AnyArray:
    shape = x.shape[:axis] + x.shape[axis + 1 :] if function == "logsumexp" else x.shape
    out = cupy.empty(shape, x.dtype)
    x, rows, classes, step = _layout(x, axis)
    if rows:
        # without the class axis the rows are laid out as their starts
        written = None if function == "logsumexp" else out
        _launch("dense", x, rows, classes, step, written, x, out, rows, classes, step, cupy.int32(_MODES[function]))
    return out


def softmax(xp: Namespace, x: AnyArray, axis: int, where: None, precision: None) -> AnyArray:
    """``exp(x) / sum(exp(x))``, in one kernel."""
    return _dense("softmax", x, axis)


def log_softmax(xp: Namespace, x: AnyArray, axis: int, where: None, precision: None) -> AnyArray:
    """``x - logsumexp(x)``, in one kernel."""
    return _dense("log_softmax", x, axis)


def logsumexp(xp: Namespace, x: AnyArray, axis: int, where: None, precision: None) -> AnyArray:
    """``max(x) + log1p(sum of the other exponentials)``, in one kernel."""
    return _dense("logsumexp", x, axis)


def _wide(dtype: Any) -> Any:
    return cupy.float64 if dtype == cupy.float64 else cupy.float32


@_on_device
def _run(xp: Namespace, logits: AnyArray, args: LossArgs, value: bool, gradient: bool) -> tuple[AnyArray, AnyArray]:
    x, rows, classes, step = _layout(logits, args.axis)
    wide = _wide(x.dtype)
    shape = x.shape[: args.axis] + x.shape[args.axis + 1 :]
    labels = cupy.ascontiguousarray(index_labels(xp, args.labels, x))
    ignored = ignored_index(xp, args.labels, labels, args.ignore_index)
    ignores, ignore = cupy.int32(ignored is not None), cupy.int64(0 if ignored is None else ignored)
    class_weight = _NULL if args.class_weight is None else cupy.ascontiguousarray(args.class_weight)
    sample_weight = _NULL if args.sample_weight is None else cupy.ascontiguousarray(args.sample_weight)
    divisor: Any = _NULL
    scale = 1.0
    if args.reduction == "mean":
        if ignored is None and args.class_weight is None and args.sample_weight is None:
            scale = 1.0 / max(rows, 1)
        else:
            each = cupy.empty(shape, wide)
            if rows:
                _launch(
                    "weights", x, rows, classes, step, None, labels, class_weight, sample_weight, each, rows, classes,
                    ignores, ignore,
                )  # fmt: skip
            divisor = cupy.sum(each)
    # of half precision a mean's terms may be too small, and a sum's too large
    values = cupy.empty(shape, wide) if value else None
    grad = cupy.empty(x.shape, x.dtype) if gradient else None
    if rows:
        _launch(
            "loss", x, rows, classes, step, grad, x, labels, class_weight, sample_weight, divisor,
            _NULL if values is None else values, _NULL if grad is None else grad,
            rows, classes, step, wide(scale), ignores, ignore,
        )  # fmt: skip
    if values is not None:
        values = values if args.reduction == "none" else cupy.sum(values)
        values = values.astype(x.dtype, copy=False)
    return values, grad


def cross_entropy(xp: Namespace, logits: AnyArray, args: LossArgs) -> AnyArray:
    """The loss, reduced."""
    return _run(xp, logits, args, True, False)[0]


def cross_entropy_grad(xp: Namespace, logits: AnyArray, args: LossArgs) -> AnyArray:
    """Gradient by the logits."""
    return _run(xp, logits, args, False, True)[1]


def cross_entropy_value_and_grad(xp: Namespace, logits: AnyArray, args: LossArgs) -> tuple[AnyArray, AnyArray]:
    """Loss and gradient in one kernel, plus the reduction."""
    return _run(xp, logits, args, True, True)
