"""What a fitted softmax regression predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted, validate_data

from .._array.errors import MixedArraysError
from .._array.namespace import Library, library, quietly
from .._array.transfer import to_host
from .._array.typing import Array
from .._dense import log_softmax, softmax
from .._kernels.dense import product
from ..backends.sparse import chunks as sparse_chunks
from .data import beside, checked_samples, in_native_order, on_device, where_is


class FittedElsewhereError(MixedArraysError, ValueError):
    """A model fitted on the arrays of one library or device, used on those of another."""


class Predictions(ClassifierMixin):  # type: ignore[misc]
    """The methods that a fit makes possible; needs ``coef_``, ``intercept_`` and ``classes_``."""

    classes_: Array
    coef_: Array
    intercept_: Array

    def _samples(self, X: Any, method: str) -> Array:
        """``X`` checked to be of the fit's library and features, in a dtype to compute in."""
        check_is_fitted(self)
        if on_device(X):
            lib, X = checked_samples(self, X, reset=False)
            self._same_place(lib, X, method)
            return X if X.dtype == self.coef_.dtype else lib.xp.astype(X, self.coef_.dtype)
        if not isinstance(self.coef_, np.ndarray):
            self._same_place(library(np.asarray(0.0), "X"), None, method)
        return validate_data(self, in_native_order(X), reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])

    def _logits(self, X: Any, method: str) -> Array:
        X = self._samples(X, method)
        if isinstance(self.coef_, np.ndarray):
            return X @ self.coef_.T + self.intercept_
        xp = library(self.coef_, "coef_").xp
        coef = xp.matrix_transpose(self.coef_)
        z = sparse_chunks.product(X, coef) if sparse_chunks.are_sparse(X) else product(xp, X, coef)
        return z + xp.expand_dims(self.intercept_, axis=0)

    def _same_place(self, lib: Library, X: Array, method: str) -> None:
        theirs = library(self.coef_, "coef_")
        if theirs.xp is not lib.xp or (lib.has_device and X.device != self.coef_.device):
            raise FittedElsewhereError(
                f"X passed to {type(self).__name__}.{method}() must use the same namespace and device as that passed "
                f"to fit(): got an array of {lib.name}{where_is(X)}, fitted on {theirs.name}{where_is(self.coef_)}; "
                f"model.to(X) is a copy of the model for X"
            )

    @quietly
    def decision_function(self, X: Any) -> Array:
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

    @quietly
    def predict(self, X: Any) -> Array:
        """The most probable class of each sample.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,)
            Labels, of the type that ``fit`` was given.
        """
        z = self._logits(X, "predict")
        if isinstance(z, np.ndarray):
            return self.classes_[np.argmax(z, axis=1)]
        lib = library(z, "X")
        best = lib.xp.argmax(z, axis=1)
        if isinstance(self.classes_, np.ndarray):
            return self.classes_[to_host(lib, best)[0]]
        return lib.xp.take(self.classes_, best, axis=0)

    @quietly
    def predict_proba(self, X: Any) -> Array:
        """Probability of each class.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return softmax(self._logits(X, "predict_proba"))

    @quietly
    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of the probability of each class, exact also where the probability is close to 0 or 1.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return log_softmax(self._logits(X, "predict_log_proba"))

    @quietly
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
        y = beside(lib, X, y, "y")
        if tuple(y.shape) != (X.shape[0],):
            raise ValueError(f"y must have shape ({X.shape[0]},), got {tuple(y.shape)}")
        if isinstance(y, np.ndarray):
            return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))
        hit = self.predict(X) == y
        if sample_weight is None:
            return int(to_host(lib, xp.sum(xp.astype(hit, xp.int64)))[0]) / int(y.shape[0])
        hit = xp.astype(hit, self.coef_.dtype)
        weight = xp.astype(beside(lib, X, sample_weight, "sample_weight"), hit.dtype)
        some, every = to_host(lib, xp.sum(hit * weight), xp.sum(weight))
        return float(some / every)
