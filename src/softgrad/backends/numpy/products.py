"""The matrix products of the linear model: sums of products in place, and small ones that stay in one thread."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .. import _threads
from .blocks import Floats, Memory

#: Multiplications of a product that OpenBLAS does without packing its operands and without threads.
SMALL = 1_000_000
#: Samples of a small product at most and at least.
MOST_ROWS, LEAST_ROWS = 16384, 32
#: Bytes of a product that is computed separately and added, where BLAS cannot add in place.
PIECE_BYTES = 4 << 20


@cache
def _gemm(char: str) -> Any:
    """BLAS's C = A B + beta C from SciPy where that is installed, else None."""
    try:
        from scipy.linalg import blas
    except ImportError:
        return None
    return blas.sgemm if char == "f" else blas.dgemm


def _adds(total: Floats) -> Any:
    """BLAS's product that adds to ``total`` in place, where it is installed and worth it."""
    return None if total.nbytes <= PIECE_BYTES else _gemm(total.dtype.char)


def _in_place(gemm: Any, total: Floats, a: Floats, b: Floats, beta: float) -> None:
    # the transpose of all: BLAS adds into columns in order of memory
    left, trans_left = _columns(b.T)
    right, trans_right = _columns(a.T)
    gemm(1.0, left, right, beta=beta, c=total.T, trans_a=trans_left, trans_b=trans_right, overwrite_c=1)


def product_beside(out: Floats, a: Floats, b: Floats, total: Floats) -> None:
    """``out`` (rows in order of memory) = ``a @ b``, by the library that adds to ``total``.

    SciPy, NumPy and PyTorch bring a BLAS each, and the threads of one wait, at work, on the cores of the other's.
    """
    theirs = _threads.product()
    if theirs is not None:
        theirs(out, a, b, 0.0)
        return
    gemm = _adds(total) if a.size and b.size and out.dtype == total.dtype else None
    if gemm is None:
        np.matmul(a, b, out=out)
    else:
        _in_place(gemm, out, a, b, 0.0)


def add_product(total: Floats, a: Floats, b: Floats, first: bool) -> None:
    """``total`` (rows in order of memory) += ``a @ b``, or = the first time."""
    if first:
        product_beside(total, a, b, total)
        return
    if not a.size or not b.size:
        return
    theirs = _threads.product()
    if theirs is not None:
        theirs(total, a, b, 1.0)
        return
    gemm = _adds(total)
    if gemm is not None:
        _in_place(gemm, total, a, b, 1.0)
        return
    step = max(1, PIECE_BYTES // max(1, b.shape[1] * total.itemsize))
    for i in range(0, len(total), step):
        total[i : i + step] += a[i : i + step] @ b


def _columns(a: Floats) -> tuple[Floats, bool]:
    """(an array with columns in order of memory, whether it is the transpose of ``a``)."""
    if a.flags.f_contiguous:
        return a, False
    return (a.T, True) if a.flags.c_contiguous else (np.asfortranarray(a), False)


def _product(out: Floats, a: Floats, b: Floats, beta: float) -> None:
    np.matmul(a, b, out=out)


def write_product(out: Floats, a: Floats, b: Floats) -> None:
    """``out`` = ``a @ b``, in ``out``'s dtype."""
    if out.dtype == a.dtype:
        (_threads.product() or _product)(out, a, b, 0.0)
    else:
        np.copyto(out, a @ b, casting="same_kind")


def small_rows(m: int, k: int) -> int:
    """Samples of a small product with ``m`` features and ``k`` classes."""
    return max(LEAST_ROWS, min(MOST_ROWS, SMALL // max(1, m * k) // LEAST_ROWS * LEAST_ROWS))


class Small:
    """Products of a block with few classes, in groups of samples, for one thread."""

    def __init__(self, W: Floats, group: int, memory: Memory) -> None:
        self.W, self.group, self.memory = W, group, memory
        self.k, self.m = W.shape
        self.Wt = np.ascontiguousarray(W.T)

    def _by_rows(self, x: Floats) -> bool:
        return bool(x.flags.c_contiguous)

    def logits(self, x: Floats) -> Floats:
        """``W @ x.T``, class first."""
        n, k = len(x), self.k
        z = self.memory(0, (k, n))
        if not self._by_rows(x):
            for i in range(0, n, self.group):
                np.matmul(self.W, x[i : i + self.group].T, out=z[:, i : i + self.group])
            return z
        rows = self.memory(10, (n, k))
        groups = n // self.group  # counted, since no feature leaves nothing to count by
        whole = groups * self.group
        if whole:
            out = rows[:whole].reshape(groups, self.group, k)
            np.matmul(x[:whole].reshape(groups, self.group, self.m), self.Wt, out=out)
        if whole < n:
            np.matmul(x[whole:], self.Wt, out=rows[whole:])
        np.copyto(z, rows.T)
        return z

    def add_gradient(self, total: Floats, z: Floats, x: Floats) -> None:
        """``total`` += ``z @ x``."""
        n, k = len(x), self.k
        groups = n // self.group
        whole = groups * self.group
        if self._by_rows(x) and whole > self.group:
            grads = z[:, :whole].reshape(k, groups, self.group).transpose(1, 0, 2)
            parts = self.memory(11, (groups, k, self.m))
            np.matmul(grads, x[:whole].reshape(groups, self.group, self.m), out=parts)
            total += np.add.reduce(parts, axis=0)
        else:
            whole = 0
        for i in range(whole, n, self.group):
            total += z[:, i : i + self.group] @ x[i : i + self.group]

    def write_rows(self, out: Floats, z: Floats) -> None:
        """``out`` = ``z.T @ W``."""
        rows = self.memory(10, z.shape[::-1])
        np.copyto(rows, z.T)
        n = len(rows)
        groups = n // self.group if out.dtype == rows.dtype and out.flags.c_contiguous else 0
        whole = groups * self.group
        if whole:
            shape = (groups, self.group, self.m)
            np.matmul(rows[:whole].reshape(groups, self.group, self.k), self.W, out=out[:whole].reshape(shape))
        for i in range(whole, n, self.group):
            write_product(out[i : i + self.group], rows[i : i + self.group], self.W)
