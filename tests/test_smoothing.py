"""Label smoothing at its ends: all of a label's weight smoothed away, and losses that are nearly 0."""

import numpy as np
import pytest

import softgrad as sg
from softgrad.testing._autodiff import derivative

ALL = {"label_smoothing": 1.0, "reduction": "none"}


@pytest.mark.parametrize("samples", [1, 3000])
def test_a_class_of_no_probability_has_an_infinite_cost_if_it_has_any_weight(samples, asarray, to_numpy):
    x, y = asarray([[0.0, -np.inf, 1.0]] * samples), asarray([1] * samples, "int64")
    np.testing.assert_array_equal(to_numpy(sg.cross_entropy(x, y, **ALL)), np.inf)
    # 0 times infinity is nothing lost
    losses = to_numpy(sg.cross_entropy(x, y, class_weight=[1.0, 0.0, 1.0], **ALL))
    np.testing.assert_allclose(losses, (2 * np.log1p(np.exp(-1.0)) + 1.0) / 3, rtol=1e-13)


@pytest.mark.parametrize("samples", [1, 3000])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_what_smoothing_leaves_of_a_sure_class_keeps_its_digits(samples, smoothing, asarray, to_numpy):
    """Only the label has a weight: the loss is a part of log1p of the others."""
    x, y = asarray([[0.0, -600.0, -601.0]] * samples), asarray([0] * samples, "int64")
    options = {**ALL, "label_smoothing": smoothing, "class_weight": [1.0, 0.0, 0.0]}
    expected = (1 - smoothing + smoothing / 3) * (np.exp(-600.0) + np.exp(-601.0))
    np.testing.assert_allclose(to_numpy(sg.cross_entropy(x, y, **options)), expected, rtol=1e-12)
    value, _ = sg.cross_entropy_value_and_grad(x, y, **{**options, "reduction": "mean"})
    np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-12)


@pytest.mark.libraries("torch", "jax")
def test_a_smoothed_gradient_is_differentiated_at_ties(asarray, to_numpy):
    x, y = asarray([[0.5, 0.5, -1.0], [1.0, 1.0, 1.0]]), asarray([0, 2], "int64")
    loss, u = sg.CrossEntropy(label_smoothing=0.1), asarray([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
    got = derivative(lambda x: (loss.grad(x, y) * u).sum(), x)
    np.testing.assert_allclose(to_numpy(got), to_numpy(loss.hvp(x, y, u)), rtol=1e-12, atol=1e-15)
