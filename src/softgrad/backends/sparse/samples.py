"""SciPy's sparse matrices as the samples of a linear model: NumPy's namespace, with products that take them."""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np

from ..._array.namespace import Library, kind, library
from ..._array.typing import AnyArray, DType, Namespace


def is_sparse(x: Any) -> bool:
    """Whether ``x`` is a matrix or array of scipy.sparse."""
    issparse = getattr(sys.modules.get("scipy.sparse"), "issparse", None)
    return issparse is not None and bool(issparse(x))


def rows_of(X: Any, turned: bool) -> AnyArray:
    """``X`` (its transpose where ``turned``) as a CSR array of floats that shares its memory where it can."""
    from scipy import sparse

    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions, got shape {tuple(X.shape)}")
    what = kind(library(np.zeros(0), "X").xp, X.dtype)
    if what not in ("real", "integer"):
        raise TypeError(f"X must be a real array of numbers, got dtype {X.dtype}")
    rows = sparse.csr_array(X.T if turned else X)
    if what == "integer":
        rows = rows.astype(np.float64)
    if not rows.has_canonical_format:
        # an entry stored in two parts has no square of its own
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


class SparseNamespace:
    """NumPy's namespace; what the linear kernels do with rows of X is done to sparse ones too.

    Parameters
    ----------
    dense : namespace
        NumPy's, of the array API.
    """

    def __init__(self, dense: Namespace) -> None:
        self._dense = dense

    def __getattr__(self, name: str) -> Any:
        """Delegate functions of dense arrays to NumPy."""
        return getattr(self._dense, name)

    def matmul(self, a: Any, b: Any, /) -> AnyArray:
        """``a @ b``, always dense."""
        if is_sparse(a) and is_sparse(b):
            return (a @ b).toarray()
        return a @ b

    def matrix_transpose(self, a: Any, /) -> Any:
        """``a`` transposed."""
        return a.T

    def astype(self, a: Any, dtype: DType, /, *, copy: bool = True) -> Any:
        """``a`` in ``dtype``."""
        return a.astype(dtype, copy=copy) if is_sparse(a) else self._dense.astype(a, dtype, copy=copy)

    def zeros_like(self, a: Any, /, **options: Any) -> Any:
        """Zeros; for a sparse array an empty sparse array."""
        return type(a)(a.shape, dtype=a.dtype) if is_sparse(a) else self._dense.zeros_like(a, **options)

    def ones_like(self, a: Any, /, **options: Any) -> AnyArray:
        """Ones, dense."""
        return np.ones(a.shape, a.dtype) if is_sparse(a) else self._dense.ones_like(a, **options)

    def where(self, condition: Any, a: Any, b: Any, /) -> Any:
        """``a`` where the condition holds, else ``b``; of sparse ``a`` the rows that a column of conditions keeps."""
        if not is_sparse(a):
            return self._dense.where(condition, a, b)
        kept = np.repeat(np.asarray(condition).reshape(-1), np.diff(a.indptr))
        return type(a)((np.where(kept, a.data, a.dtype.type(0)), a.indices, a.indptr), shape=a.shape)

    def concat(self, arrays: Any, /, *, axis: int = 0) -> Any:
        """The arrays side by side."""
        if not any(is_sparse(a) for a in arrays):
            return self._dense.concat(arrays, axis=axis)
        from scipy import sparse

        return (sparse.hstack if axis == 1 else sparse.vstack)(arrays, format="csr")


_of: Any = functools.cache(SparseNamespace)


def namespace_of(lib: Library, x: Any) -> Namespace:
    """The namespace for kernels that are given ``x`` as the samples."""
    return _of(lib.xp) if is_sparse(x) else lib.xp


def library_of(x: Any, argument: str) -> tuple[Library, Namespace, AnyArray]:
    """(library, namespace for the kernels, rows) of samples that may be sparse."""
    if not is_sparse(x):
        lib = library(x, argument)
        return lib, lib.xp, x
    lib = library(np.zeros(0), argument)
    return lib, _of(lib.xp), rows_of(x, False)
