"""The threads that PyTorch's operations run on, for the kernels of NumPy's memory.

OpenMP's threads wait at work for the next operation: those of another pool would share the cores with them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

import torch

from .. import _threads

_forked = False


def _fork() -> None:
    """Leave OpenMP alone in a child process: its threads are the parent's."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork)


@cache
def _openmp() -> Any:
    """GNU's entry to a parallel region, which LLVM's OpenMP has as well; None where torch has other threads."""
    if sys.platform != "linux" or "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    try:
        region = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError):
        return None
    region.argtypes, region.restype = (_threads.NATIVE, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return region


def region() -> Any:
    """OpenMP's entry to a parallel region; None where there is none, or its threads are not this process's."""
    return None if _forked else _openmp()


def product(out: Any, a: Any, b: Any, beta: float) -> None:
    """``a @ b + beta * out`` in ``out``, of NumPy arrays."""
    result, left, right = (torch.from_numpy(each) for each in (out, a, b))
    torch.addmm(result, left, right, beta=beta, out=result)


def shared() -> _threads.use_pool:
    """Run what is shared out in the ``with`` block on torch's threads, and on no more than torch may use."""
    return _threads.use_pool(_threads.Pool(region(), torch.get_num_threads, product))
