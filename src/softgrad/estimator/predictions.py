"""What a fitted softmax regression predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted, validate_data

from .._array.errors import MixedArraysError
from .._array.namespace import Library, library, without_fp_warnings
from .._array.transfer import is_abstract, is_lazy, to_host
from .._array.typing import AnyArray
from .._dense import log_softmax, softmax
from .._kernels.dense import device_of, product
from .._kernels.linear import block_rows
from ..backends.sparse import chunks as sparse_chunks
from .data import checked_samples, device_label, in_native_order, on_device, on_device_of


class FittedElsewhereError(MixedArraysError, ValueError):
    """A model fitted on the arrays of one library or device, used on those of another."""


class Predictions(ClassifierMixin):  # type: ignore[misc]
    """The methods that a fit makes possible; needs ``coef_``, ``intercept_`` and ``classes_``."""

    classes_: AnyArray
    coef_: AnyArray
    intercept_: AnyArray

    def _samples(self, X: Any, method: str) -> AnyArray:
        """``X`` checked to be of the fit's library and features, in a dtype to compute in."""
        check_is_fitted(self)
        if on_device(X):
            lib, X = checked_samples(self, X, reset=False)
            self._check_where_fitted(lib, X, method)
            return X if X.dtype == self.coef_.dtype else lib.xp.astype(X, self.coef_.dtype)
        if not isinstance(self.coef_, np.ndarray):
            self._check_where_fitted(library(np.asarray(0.0), "X"), None, method)
        return validate_data(self, in_native_order(X), reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])

    def _logits(self, X: Any, method: str) -> AnyArray:
        return self._logits_of(self._samples(X, method))

    def _by_blocks(self, X: Any, method: str, function: Callable[[AnyArray], AnyArray]) -> AnyArray:
        """``function`` of the logits, made and dropped in blocks of samples."""
        X, lib = self._samples(X, method), library(self.coef_, "coef_")
        n, rows = X.shape[0], 0
        if not (is_lazy(lib) or is_abstract(lib, X)):
            rows = block_rows(n, self.coef_.shape[0], lib.xp.finfo(self.coef_.dtype).bits // 8, None)
        if not 0 < rows < n:
            return function(self._logits_of(X))
        cuts = [slice(i, min(i + rows, n)) for i in range(0, n, rows)]
        if not (lib.scalars or lib.has_device):  # such arrays cannot be written to
            return lib.xp.concat([function(self._logits_of(X[cut, ...])) for cut in cuts], axis=0)
        out: Any = None
        for cut in cuts:
            some = function(self._logits_of(X[cut, ...]))
            if out is None:
                out = lib.xp.empty((n, *some.shape[1:]), dtype=some.dtype, device=device_of(some))
            out[cut, ...] = some
            del some  # before the next block is made
        return out

    def _logits_of(self, X: AnyArray) -> AnyArray:
        if isinstance(self.coef_, np.ndarray):
            z = X @ self.coef_.T
            z += self.intercept_
            return z
        xp = library(self.coef_, "coef_").xp
        coef = xp.matrix_transpose(self.coef_)
        z = sparse_chunks.product(X, coef) if sparse_chunks.are_sparse(X) else product(xp, X, coef)
        return z + xp.expand_dims(self.intercept_, axis=0)

    def _check_where_fitted(self, lib: Library, X: Any, method: str) -> None:
        theirs = library(self.coef_, "coef_")
        if theirs.xp is not lib.xp or (lib.has_device and X.device != self.coef_.device):
            raise FittedElsewhereError(
                f"X passed to {type(self).__name__}.{method}() must use the same namespace and device as that passed "
                f"to fit(): got an array of {lib.name}{device_label(X)}, fitted on {theirs.name}"
                f"{device_label(self.coef_)}; model.to(X) is a copy of the model for X"
            )

    @without_fp_warnings
    def decision_function(self, X: Any) -> AnyArray:
        """Logits of each class.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes), or (n_samples,) with two classes
            With two classes the logit of the second less that of the first, as scikit-learn has it.
        """
        z = self._logits(X, "decision_function")
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    @without_fp_warnings
    def predict(self, X: Any) -> AnyArray:
        """The most probable class of each sample.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,)
            Labels, of the type that ``fit`` was given.
        """
        best = self._by_blocks(X, "predict", lambda z: library(z, "X").xp.argmax(z, axis=1))
        if isinstance(best, np.ndarray):
            return self.classes_[best]
        lib = library(best, "X")
        if isinstance(self.classes_, np.ndarray):
            return self.classes_[to_host(lib, best)[0]]
        return lib.xp.take(self.classes_, best, axis=0)

    @without_fp_warnings
    def predict_proba(self, X: Any) -> AnyArray:
        """Probability of each class.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return self._by_blocks(X, "predict_proba", softmax)

    @without_fp_warnings
    def predict_log_proba(self, X: Any) -> AnyArray:
        """Logarithm of the probability of each class, exact also where the probability is close to 0 or 1.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return self._by_blocks(X, "predict_log_proba", log_softmax)

    @without_fp_warnings
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the samples whose class is predicted, weighted.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            True labels; one that ``fit`` has not seen counts as missed.
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        float
        """
        if not on_device(X):
            return float(super().score(X, y, sample_weight))
        lib = library(X, "X")
        xp = lib.xp
        y = on_device_of(lib, X, y, "y")
        if tuple(y.shape) != (X.shape[0],):
            raise ValueError(f"y must have shape ({X.shape[0]},), got {tuple(y.shape)}")
        if isinstance(y, np.ndarray):
            return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))
        hit = self.predict(X) == y
        if sample_weight is None:
            return int(to_host(lib, xp.sum(xp.astype(hit, xp.int64)))[0]) / int(y.shape[0])
        hit = xp.astype(hit, self.coef_.dtype)
        weight = xp.astype(on_device_of(lib, X, sample_weight, "sample_weight"), hit.dtype)
        some, every = to_host(lib, xp.sum(hit * weight), xp.sum(weight))
        return float(some / every)
