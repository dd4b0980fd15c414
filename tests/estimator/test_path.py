"""The penalty of SoftmaxRegression chosen among several: against LogisticRegressionCV, on every library."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold

from marks import late_on_jax
from softgrad import SoftmaxRegression

X, LABELS = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
CS = (0.01, 0.1, 1.0, 10.0)
WEIGHT = np.random.default_rng(0).uniform(0.5, 2, len(X))


def theirs(**options):
    """scikit-learn's path; to version 1.7 its attributes are by class, all the same."""
    if "use_legacy_attributes" in inspect.signature(LogisticRegressionCV).parameters:
        options |= {"use_legacy_attributes": False, "l1_ratios": (0,)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return LogisticRegressionCV(Cs=CS, tol=1e-8, max_iter=1000, cv=3, **options)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_it_is_the_choice_of_scikit_learn(scoring, class_weight):
    mine = SoftmaxRegression(CS, tol=1e-8, max_iter=1000, cv=3, scoring=scoring, class_weight=class_weight)
    mine.fit(X, LABELS, sample_weight=WEIGHT)
    other = theirs(scoring=scoring or "accuracy", class_weight=class_weight)
    other.fit(X, LABELS, sample_weight=WEIGHT)
    scores = next(iter(other.scores_.values())) if isinstance(other.scores_, dict) else other.scores_
    assert np.ravel(other.C_)[0] == mine.C_
    assert mine.scores_.shape == (3, 4)
    np.testing.assert_allclose(mine.scores_, scores.reshape(3, 4), rtol=1e-4)
    np.testing.assert_allclose(mine.predict_proba(X), other.predict_proba(X), rtol=1e-3, atol=1e-5)
    assert np.array_equal(mine.Cs_, CS)


def test_the_paths_are_the_fits_of_the_folds():
    folds = StratifiedKFold(3)
    model = SoftmaxRegression(CS, tol=1e-7, cv=folds, max_iter=500).fit(X, LABELS)
    assert model.coefs_paths_.shape == (3, 4, 3, 5)
    for i, (train, test) in enumerate(folds.split(X, LABELS)):
        for j, C in enumerate(CS):
            one = SoftmaxRegression(C, tol=1e-7, max_iter=500).fit(X[train], LABELS[train])
            np.testing.assert_allclose(model.coefs_paths_[i, j, :, :4], one.coef_, atol=2e-4)
            assert model.scores_[i, j] == one.score(X[test], LABELS[test])
    whole = SoftmaxRegression(model.C_, tol=1e-7, max_iter=500).fit(X, LABELS)
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=2e-4)


@pytest.mark.full
def test_a_warm_start_takes_fewer_steps(capsys):
    Cs = list(np.logspace(-1, 1, 20))
    folds = StratifiedKFold(2)
    SoftmaxRegression(Cs, tol=1e-5, cv=folds, verbose=1, max_iter=500).fit(X, LABELS)
    warm = len(capsys.readouterr().out.splitlines())
    for train, _ in folds.split(X, LABELS):
        for C in Cs:
            SoftmaxRegression(C, tol=1e-5, verbose=1, max_iter=500).fit(X[train], LABELS[train])
    assert warm < len(capsys.readouterr().out.splitlines())


def test_a_fold_may_lack_a_class():
    model = SoftmaxRegression((0.1, 1.0), cv=KFold(3), scoring=_log_likelihood).fit(X, LABELS)
    assert model.coefs_paths_.shape == (3, 2, 3, 5)
    assert np.isfinite(model.scores_).all()


def _log_likelihood(model, X, y):
    return -log_loss(y, model.predict_proba(X), labels=model.classes_)


@late_on_jax
def test_a_path_on_the_arrays_of_a_library(asarray, to_numpy):
    given = {"tol": 1e-6, "cv": 2, "max_iter": 500}
    host = SoftmaxRegression((0.01, 1.0), **given).fit(X, LABELS)
    model = SoftmaxRegression((0.01, 1.0), **given).fit(asarray(X), asarray(LABELS, "int64"))
    assert model.C_ == host.C_
    np.testing.assert_allclose(model.scores_, host.scores_)
    np.testing.assert_allclose(to_numpy(model.coef_), host.coef_, atol=1e-3)


def test_labels_that_are_strings_and_sparse_samples():
    sparse = pytest.importorskip("scipy.sparse")
    names = np.asarray(["setosa", "versicolor", "virginica"])[LABELS]
    model = SoftmaxRegression([0.1, 1.0], cv=2).fit(sparse.csr_matrix(X), names)
    assert model.score(X, names) > 0.9
    again = model.set_params(C=0.5).fit(X, names)
    assert again.C_ == 0.5
    assert not hasattr(again, "scores_")


def test_fits_that_do_not_converge_are_told_once():
    with pytest.warns(ConvergenceWarning) as told:
        SoftmaxRegression([1.0, 10.0], cv=2, max_iter=1).fit(X, LABELS)
    assert str(told[0].message).startswith("4 of the 4 fits of the validation did not converge")
    assert len(told) == 2


@pytest.mark.parametrize("C", [[], [1.0, -1.0], [1.0, "2"], [True, 1.0]])
def test_a_sequence_that_is_wrong_is_refused(C):
    with pytest.raises(ValueError, match="C must"):
        SoftmaxRegression(C).fit(X, LABELS)
