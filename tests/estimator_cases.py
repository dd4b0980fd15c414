"""Data of the tests of the estimator."""

import numpy as np
import pytest
from sklearn.datasets import make_classification

from softgrad.estimator.solvers import SOLVERS

N, M, K = 240, 6, 3
X, LABELS = make_classification(N, M, n_informative=4, n_classes=K, class_sep=0.7, random_state=3)
X = X * np.logspace(-1, 1, M) + 1.0
NAMES = np.array(["ash", "birch", "cedar"])
SAMPLE_WEIGHT = np.random.default_rng(2).random(N) + 0.1
CLASS_WEIGHT = {0: 1.0, 1: 3.0, 2: 0.5}

every_solver = pytest.mark.parametrize("solver", list(SOLVERS))


def data(asarray, classes=K, dtype="float64"):
    rows = classes > LABELS
    return asarray(X[rows], dtype), asarray(LABELS[rows], "int64")
