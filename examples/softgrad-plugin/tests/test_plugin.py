"""The plug-in as a user has it: installed, found, asked for, and declining what it is not for."""

import numpy as np
import pytest

import softgrad as sg


def test_it_is_found_and_waits_to_be_asked():
    assert sg.backends.available()["einsum"].opt_in
    assert sg.backends.explain("softmax", np.zeros((2, 3))).backend != "einsum"


def test_it_runs_where_asked_for():
    x = np.random.default_rng(0).normal(size=(4, 5))
    with sg.backends.use("einsum"):
        assert sg.backends.explain("softmax", x).backend == "einsum"
        result = sg.softmax(x)
    np.testing.assert_allclose(result, sg.softmax(x), rtol=1e-14)


@pytest.mark.parametrize(("x", "reason"), [(np.zeros(3), "rows"), (np.zeros((2, 3), dtype=np.float32), "float64")])
def test_what_it_declines_runs_all_the_same(x, reason):
    with sg.backends.use("einsum"):
        explanation = sg.backends.explain("softmax", x)
        assert explanation.backend != "einsum"
        assert reason in dict(explanation.declined)["einsum"]
        np.testing.assert_allclose(sg.softmax(x), 1 / 3)
