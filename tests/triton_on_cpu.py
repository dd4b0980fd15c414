"""Triton's interpreter on CPU tensors, made strict.

Every access is held to the arguments' elements, which the interpreter lets pass; an FMA rounds once; and numbers that a
kernel is given are in single precision. It shows logic and masks, not the rounding of a GPU's exponential, nor races.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np


class OutOfBoundsError(IndexError):
    """A kernel reads or writes where none of its arguments has an element."""


_extents: list[tuple[int, int]] = []


def interpreted() -> bool:
    """Whether Triton interprets its kernels in this process."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _extent(tensor: Any) -> tuple[int, int]:
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + last * tensor.element_size()


def _check(pointers: Any, mask: Any) -> None:
    used = pointers.data[np.broadcast_to(mask.data, pointers.data.shape)]
    inside = np.zeros(used.shape, bool)
    for first, last in _extents:
        inside |= (used >= first) & (used <= last)
    if not inside.all():
        raise OutOfBoundsError(f"{np.sum(~inside)} of {inside.size} accesses are outside of the kernel's arguments")


def install() -> None:
    """Make the interpreter strict."""
    import triton.language as tl
    from triton.runtime import interpreter

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store = builder.create_masked_load, builder.create_masked_store
    init, call = executor._init_args_hst, executor.__call__

    def create_masked_load(self: Any, ptrs: Any, mask: Any, *rest: Any) -> Any:
        _check(ptrs, mask)
        return load(self, ptrs, mask, *rest)

    def create_masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        _check(ptrs, mask)
        return store(self, ptrs, value, mask, *rest)

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        # of single precision the product is exact in double, and the sum all but
        fused = x.data.astype(np.float64) * y.data + z.data
        return interpreter.TensorHandle(fused.astype(z.data.dtype), z.dtype.scalar)

    def init_args(self: Any, *args: Any) -> Any:
        on_host = init(self, *args)
        _extents[:] = [_extent(each) for each in on_host[0] if hasattr(each, "data_ptr")]
        return on_host

    def create_splat(self: Any, ret_ty: Any, arg: Any) -> Any:
        # of a comparison of numbers the interpreter has the dtype wrong
        data = np.full(ret_ty.shape, arg.data.reshape(-1)[0], arg.data.dtype)
        return interpreter.TensorHandle(data, arg.dtype.scalar)

    convert = interpreter._implicit_cvt

    def in_single(arg: Any) -> Any:
        if type(arg) is float:
            return tl.tensor(interpreter.TensorHandle(np.array([arg], np.float32), tl.float32), tl.float32)
        return convert(arg)

    patch, patched = interpreter._patch_lang, {}

    def patch_once(fn: Any) -> Any:
        # Triton's language is patched at every call of every function, which takes two fifths of the interpreter's time
        if id(fn.__globals__) not in patched:
            patched[id(fn.__globals__)] = patch(fn)
        return interpreter._LangPatchScope()  # of nothing

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a row of NaN alone
            return call(self, *args, **kwargs)

    builder.create_masked_load, builder.create_masked_store = create_masked_load, create_masked_store
    builder.create_fma, builder.create_splat = create_fma, create_splat
    executor._init_args_hst, executor.__call__ = init_args, run
    interpreter._implicit_cvt = in_single
    interpreter._patch_lang = patch_once
