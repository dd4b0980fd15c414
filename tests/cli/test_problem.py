"""The experiment: what is drawn, what every dtype is given, and how far a difference may be off."""

from __future__ import annotations

import json

import numpy as np
import pytest

from softgrad._cli import _problem
from softgrad._cli._errors import UsageError
from softgrad._data import load_digits


def problem_of(X, y, **options):
    names = tuple(map(str, range(int(y.max()) + 1)))
    return _problem.make_problem(X, y, names, **({"seed": 0, "samples": 0} | options))


def test_samples_are_drawn_with_the_seed(call):
    words = ("check", "--backend", "numpy", "--json", "--samples", 100)
    first, again, other = (json.loads(call(*words, "--seed", seed)[1]) for seed in (1, 1, 2))
    assert first["data"]["samples"] == 100
    assert first["data"]["of_samples"] == 1797
    assert first["reference"] == again["reference"] != other["reference"]
    assert "100 samples (drawn from 1,797 with seed 1)" in call(*words[:3], "--samples", 100, "--seed", 1)[1]
    assert json.loads(call(*words[:-1], 0)[1])["data"]["samples"] == 1797


def test_the_slipped_formula_is_told_apart(call):
    report = json.loads(call("check", "--backend", "numpy", "--json")[1])
    assert report["slipped_formula"]["error"] > 1
    X, y = load_digits()
    problem = problem_of(X, y)
    lost = problem.X @ (problem.S - problem.Y.sum(axis=0)).T
    np.testing.assert_allclose(problem.slipped_gradient, lost, rtol=1e-12)


def problems():
    X, y = load_digits()
    yield problem_of(X, y)
    rng = np.random.default_rng(5)
    yield problem_of(rng.normal(size=(50, 2)) * [1e-9, 1e12], rng.integers(3, size=50), seed=3)
    yield problem_of(rng.normal(size=(400, 300)), rng.integers(40, size=400), seed=4, samples=200)
    top = np.finfo(np.float64).max
    yield problem_of(np.asarray([[top, 5e-324], [-top / 3, 1e-323], [0, 5e-324]]), np.asarray([0, 1, 2]))


@pytest.mark.parametrize("problem", list(problems()), ids=["digits", "scales", "wide", "limits"])
def test_all_dtypes_are_given_the_same_problem(problem):
    for array in (problem.X, problem.W):
        np.testing.assert_array_equal(array, array.astype(np.float32))
    assert np.abs(problem.X).max() <= 1
    for probe in problem.probes:
        for step in _problem.STEPS:
            for h in (step, -step):
                shifted = problem.W + h * probe.direction
                np.testing.assert_array_equal(shifted, shifted.astype(np.float32))
                np.testing.assert_array_equal(shifted - problem.W, h * probe.direction)


@pytest.mark.parametrize("problem", list(problems()), ids=["digits", "scales", "wide", "limits"])
def test_truncation_is_bounded_by_the_third_cumulant(problem):
    for probe in problem.probes:
        along = probe.direction.T @ problem.X
        for h in (-0.25, 0.0, 0.25):
            logits = (problem.W + h * probe.direction).T @ problem.X
            p = np.exp(logits - logits.max(axis=0))
            p /= p.sum(axis=0)
            central = along - (p * along).sum(axis=0)
            assert abs((p * central**3).sum()) <= probe.third * (1 + 1e-12)


def test_attributes_at_the_limits_of_float64_keep_their_digits():
    top = np.finfo(np.float64).max
    X = np.asarray([[top, 5e-324], [-top / 3, 1e-323], [0, 5e-324]])
    problem = problem_of(X, np.asarray([0, 1, 2]))
    np.testing.assert_array_equal(problem.X, np.asarray([[1, -1 / 3, 0], [0.25, 0.5, 0.25]], dtype=np.float32))
    np.testing.assert_array_equal(np.ldexp(problem.X[1], problem.exponents[1]), X[:, 1])


def test_zeros_are_refused_also_where_they_are_drawn():
    X, y = np.zeros((300, 2)), np.arange(300) % 2
    with pytest.raises(UsageError, match="every attribute is zero in every sample"):
        problem_of(X, y)
    X[7] = 1
    with pytest.raises(UsageError, match="every attribute is zero in the 5 samples drawn"):
        problem_of(X, y, samples=5)
