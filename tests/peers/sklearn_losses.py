"""A pytest plugin that puts softgrad under scikit-learn's own tests of its multinomial loss."""

import numpy as np
import pytest
from differences import Differences
from sklearn._loss import loss as losses

import softgrad as sg

LOSS = sg.CrossEntropy(reduction="none")

DIFFERENCES = Differences(
    "scikit-learn",
    {
        r"test_multinomial_cy_gradient": "calls the Cython loss itself, whose place is taken",
    },
)


class Multinomial:
    """What scikit-learn's HalfMultinomialLoss asks of its Cython loss: results written where it says."""

    def loss(self, y_true, raw_prediction, sample_weight, loss_out, n_threads=1):
        loss_out[...] = LOSS(raw_prediction, y_true.astype(np.int64), sample_weight=sample_weight)

    def gradient(self, y_true, raw_prediction, sample_weight, gradient_out, n_threads=1):
        gradient_out[...] = LOSS.grad(raw_prediction, y_true.astype(np.int64), sample_weight=sample_weight)

    def loss_gradient(self, y_true, raw_prediction, sample_weight, loss_out, gradient_out, n_threads=1):
        loss_out[...], gradient_out[...] = LOSS.value_and_grad(
            raw_prediction, y_true.astype(np.int64), sample_weight=sample_weight
        )

    def gradient_hessian(self, y_true, raw_prediction, sample_weight, gradient_out, hessian_out, n_threads=1):
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out)
        hessian_out[...] = LOSS.hessian_diag(raw_prediction, y_true.astype(np.int64), sample_weight=sample_weight)

    def gradient_proba(self, y_true, raw_prediction, sample_weight, gradient_out, proba_out, n_threads=1):
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out)
        proba_out[...] = sg.softmax(raw_prediction)


def compute_loss(self, y_true, raw_prediction, sample_weight=None):
    return LOSS(raw_prediction, self.xp.astype(y_true, self.xp.int64), sample_weight=sample_weight)


def compute_gradient(self, y_true, raw_prediction, sample_weight=None):
    return LOSS.grad(raw_prediction, self.xp.astype(y_true, self.xp.int64), sample_weight=sample_weight)


def pytest_configure():
    for name in ("CyHalfMultinomialLoss", "HalfMultinomialLossArrayAPI"):
        assert hasattr(losses, name), f"scikit-learn has no {name} any more"
    losses.CyHalfMultinomialLoss = Multinomial
    losses.HalfMultinomialLossArrayAPI._compute_loss = compute_loss
    losses.HalfMultinomialLossArrayAPI._compute_gradient = compute_gradient


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    DIFFERENCES.expect(items)


def pytest_terminal_summary(terminalreporter):
    DIFFERENCES.report(terminalreporter)
