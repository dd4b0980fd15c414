"""The Kullback-Leibler and Jensen-Shannon divergences: values and gradients against their formulas."""

import numpy as np
import pytest

import divergence_reference as reference
import softgrad as sg

BOTH = ("logits", "target_logits")
#: Name of a divergence: (value, gradient, both, their options, weight of the target in the mixture).
KINDS = {
    "forward": (sg.kl_divergence, sg.kl_divergence_grad, sg.kl_divergence_value_and_grad, {}, 0.0),
    "reverse": (
        sg.kl_divergence,
        sg.kl_divergence_grad,
        sg.kl_divergence_value_and_grad,
        {"direction": "reverse"},
        1.0,
    ),
    "js": (sg.js_divergence, sg.js_divergence_grad, sg.js_divergence_value_and_grad, {}, 0.5),
    "js, beta 0.125": (
        sg.js_divergence,
        sg.js_divergence_grad,
        sg.js_divergence_value_and_grad,
        {"beta": 0.125},
        0.125,
    ),
}
ULP = {"float32": 2.0**-23, "float64": 2.0**-52}


def pairs(dtype):
    """{name: (logits, target logits)}, three rows each, exact in ``dtype``, from equal to far apart."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 9)) * 3
    noise, tiny = rng.normal(size=(3, 9)), 1e-4 if dtype == "float32" else 1e-9
    sure = np.tile([30.0, 0, 1, 2, 0, 0, 0, 0, 0], (3, 1))
    cases = {
        "equal": (x, x),
        "close": (x, x + tiny * noise),
        "close but for a shift": (x, x + 5 + tiny * noise),
        "near": (x, x + 0.3 * noise),
        "apart": (x, 3 * noise),
        "far": (10 * x, 30 * noise),
        "sure": (sure, sure + np.array([-1.0, 0.5, 0, -0.5, 0, 0.25, 0, 0, 1])),
        "sure of the same": (sure, sure + 1e-3 * np.arange(9.0)),
        # divergences of 1e-32 and of 1e-17
        "surer of the same": (2 * sure, 2 * sure + 1e-3 * np.arange(9.0)),
        "surer, and less sure": (2 * sure, 2 * sure - 20.0 * np.eye(9)[0]),
        "sure of different classes": (sure, sure[:, ::-1]),
        "ties": (np.zeros((3, 9)), tiny * np.eye(9)[:3]),
    }
    return {name: tuple(np.asarray(a).astype(dtype) for a in pair) for name, pair in cases.items()}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_values_and_gradients(kind, temperature, dtype, asarray, to_numpy):
    cases, beta = pairs(dtype), kind[4]
    names = np.repeat(list(cases), 3)
    x, y = (np.concatenate(arrays) for arrays in zip(*cases.values(), strict=True))
    exact = reference.rows(x, y, beta=beta, temperature=temperature)
    arrays = (asarray(a, dtype) for a in (x, y))
    value, grads = kind[2](*arrays, wrt=BOTH, temperature=temperature, reduction="none", **kind[3])
    error = np.abs(to_numpy(value) - exact[0])
    assert (error <= 40 * ULP[dtype] * exact[0]).all(), dict(zip(names, error / ULP[dtype], strict=True))
    for grad, want, logits in zip(grads, exact[1:], (x, y), strict=True):
        size = np.abs(want).max(-1)
        if 0.0 < beta < 1.0:
            # where p and q are apart, log(p / m) is near a constant, which the gradient does not see
            size = size + np.sort(sg.softmax(logits.astype("float64") / temperature), -1)[:, :-1].sum(-1)
        error = np.abs(to_numpy(grad) - want).max(-1)
        assert (error <= 100 * ULP[dtype] * size).all(), (names, error / size / ULP[dtype])


def test_digits_where_the_two_nearly_agree(kind, asarray, to_numpy):
    """The promise: 1e-6 of a divergence of 1e-9 in single precision, here on a vocabulary of some size."""
    rng = np.random.default_rng(2)
    x = (3 * rng.normal(size=(6, 300))).astype("float32")
    size = np.array([[1e-2, 1e-3, 1e-4, 4.5e-5, 1e-5, 1e-6]]).T
    y = (x + size * rng.normal(size=x.shape)).astype("float32")
    value, grads = kind[2](asarray(x, "float32"), asarray(y, "float32"), wrt=BOTH, reduction="none", **kind[3])
    expected = reference.rows(x, y, beta=kind[4])
    np.testing.assert_allclose(to_numpy(value), expected[0], rtol=1e-6)
    for grad, exact in zip(grads, expected[1:], strict=True):
        assert (np.abs(to_numpy(grad) - exact).max(-1) < 3e-6 * np.abs(exact).max(-1)).all()


def test_torch_keeps_no_digit_of_a_divergence_of_1e_9(torch):
    rng = np.random.default_rng(3)
    x = (3 * rng.normal(size=(1, 300))).astype("float32")
    y = (x + 4.5e-5 * rng.normal(size=x.shape)).astype("float32")
    exact = reference.rows(x, y)[0][0]
    assert 5e-10 < exact < 2e-9
    log_p, log_q = (torch.log_softmax(torch.asarray(a), -1) for a in (x, y))
    theirs = torch.nn.functional.kl_div(log_p, log_q, log_target=True, reduction="sum").item()
    ours = sg.kl_divergence(torch.asarray(x), torch.asarray(y)).item()
    assert abs(ours / exact - 1) < 1e-6
    assert abs(theirs / exact - 1) > 0.1


def test_value_gradient_and_both_agree(kind, asarray, to_numpy):
    value, grad, both, options, _ = kind
    x, y = (asarray(a) for a in pairs("float64")["near"])
    (together, by_x), (_, by_y) = both(x, y, **options), both(x, y, wrt="target_logits", **options)
    np.testing.assert_array_equal(to_numpy(value(x, y, **options)), to_numpy(together))
    np.testing.assert_array_equal(to_numpy(grad(x, y, **options)), to_numpy(by_x))
    for got, each in zip(grad(x, y, wrt=BOTH[::-1], **options), (by_y, by_x), strict=True):
        np.testing.assert_array_equal(to_numpy(got), to_numpy(each))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_reductions_weights_axes_and_masks(reduction, kind, asarray, to_numpy):
    x, y = pairs("float64")["apart"]
    weight = np.array([0.5, 0.0, 2.0])
    where = np.ones(x.shape, bool)
    where[0, 2:5] = where[2, 0] = False
    exact = [np.zeros(3), np.zeros(x.shape), np.zeros(x.shape)]
    for i in range(3):
        some = where[i]
        row = reference.rows(x[i : i + 1, some], y[i : i + 1, some], beta=kind[4])
        exact[0][i] = weight[i] * row[0][0]
        for out, grad in zip(exact[1:], row[1:], strict=True):
            out[i, some] = weight[i] * grad[0]
    # of a sample of weight 0 and of a hidden class anything may be left
    x, y = np.where(where, x, np.nan), np.where(where, y, np.inf)
    x[1] = np.nan
    divisor = weight.sum() if reduction == "mean" else 1.0
    value, grads = kind[2](
        asarray(x.T.copy()),
        asarray(y.T.copy()),
        axis=0,
        wrt=BOTH,
        where=asarray(where.T.copy(), "bool"),
        sample_weight=asarray(weight),
        reduction=reduction,
        **kind[3],
    )
    expected = exact[0] if reduction == "none" else exact[0].sum() / divisor
    np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-13)
    for grad, each in zip(grads, exact[1:], strict=True):
        np.testing.assert_allclose(to_numpy(grad), each.T / divisor, rtol=1e-12, atol=1e-16)


def test_more_dimensions_and_a_row_hidden_whole(kind, asarray, to_numpy):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3))
    where = np.ones((2, 1, 3), bool)
    where[1, 0, 2] = False
    value, grad = kind[2](asarray(x), asarray(y), axis=1, where=asarray(where, "bool"), **kind[3])
    flat = [np.moveaxis(a, 1, -1).reshape(6, 4)[:5] for a in (x, y)]
    expected = reference.rows(*flat, beta=kind[4])
    np.testing.assert_allclose(to_numpy(value), expected[0].mean(), rtol=1e-13)
    by_row = np.moveaxis(to_numpy(grad), 1, -1).reshape(6, 4)
    np.testing.assert_allclose(by_row[:5], expected[1] / 5, rtol=1e-11, atol=1e-16)
    np.testing.assert_array_equal(by_row[5], 0)


def test_classes_without_mass(asarray, to_numpy):
    inf = np.inf
    x = asarray([[1.0, -inf, 0.0], [1.0, 2.0, 0.0], [1.0, -inf, 0.0]])
    y = asarray([[2.0, -inf, 0.0], [2.0, -inf, 0.0], [2.0, 1.0, 0.0]])
    two = reference.rows([[1.0, 0.0]], [[2.0, 0.0]])
    forward, grad = sg.kl_divergence_value_and_grad(x, y, reduction="none")
    shifted = np.log(np.exp([1.0, 2.0, 0.0]).sum() / np.exp([1.0, 0.0]).sum())
    np.testing.assert_allclose(to_numpy(forward), [two[0][0], two[0][0] + shifted, inf], rtol=1e-12)
    np.testing.assert_allclose(to_numpy(grad)[0], [two[1][0, 0], 0, two[1][0, 1]], rtol=1e-12)
    p = np.exp([1.0, 2.0, 0.0]) / np.exp([1.0, 2.0, 0.0]).sum()
    q = np.exp([2.0, -inf, 0.0]) / (np.exp(2.0) + 1)
    np.testing.assert_allclose(to_numpy(grad)[1], p - q, rtol=1e-12)
    back = to_numpy(sg.kl_divergence(x, y, direction="reverse", reduction="none"))
    assert np.isfinite(back[[0, 2]]).all()
    assert back[1] == inf
    js, slopes = sg.js_divergence_value_and_grad(x, y, wrt=BOTH, reduction="none")
    assert (to_numpy(js) <= np.log(2)).all()
    assert all(np.isfinite(to_numpy(slope)).all() for slope in slopes)


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("first", [True, False], ids=["logits", "target"])
def test_a_row_without_a_softmax_is_nan_alone(first, bad, kind, asarray, to_numpy):
    good = [[0.0, 1.0], [0.0, 1.0]]
    pair = [[bad, [0.0, 1.0]], good]
    x, y = pair if first else pair[::-1]
    value, grads = kind[2](asarray(x), asarray(y), wrt=BOTH, reduction="none", **kind[3])
    np.testing.assert_array_equal(to_numpy(value), [np.nan, 0.0])
    for grad in grads:
        np.testing.assert_array_equal(to_numpy(grad), [[np.nan, np.nan], [0.0, 0.0]])


def test_js_reaches_its_bound_and_its_limits(asarray, to_numpy):
    x, y = asarray([[0.0, 200.0]], "float32"), asarray([[200.0, 0.0]], "float32")
    for beta in (0.125, 0.5, 0.75):
        bound = -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)
        value, grad = sg.js_divergence_value_and_grad(x, y, beta=beta)
        np.testing.assert_allclose(to_numpy(value), bound, rtol=1e-6)
        np.testing.assert_allclose(to_numpy(grad), 0, atol=1e-30)
    x, y = (asarray(a) for a in pairs("float64")["apart"])
    for beta, direction in ((0.0, "forward"), (1.0, "reverse")):
        at_end, near = sg.kl_divergence(x, y, direction=direction), abs(beta - 1e-9)
        np.testing.assert_array_equal(to_numpy(sg.js_divergence(x, y, beta=beta)), to_numpy(at_end))
        limit = to_numpy(sg.js_divergence(x, y, beta=near)) / (near * (1 - near))
        np.testing.assert_allclose(limit, to_numpy(at_end), rtol=1e-6)


def test_dtypes(asarray, to_numpy, has_dtype):
    x, y = np.array([[0.5, -1.0, 2.0]]), np.array([[0.0, -1.5, 2.0]])
    exact = reference.rows(x, y)
    for dtype, rtol in (("float16", 2e-3), ("bfloat16", 2e-2)):
        if not has_dtype(dtype):
            continue
        for theirs in (dtype, "float32"):
            value, grads = sg.kl_divergence_value_and_grad(asarray(x, dtype), asarray(y, theirs), wrt=BOTH)
            assert [str(a.dtype).split(".")[-1] for a in (value, *grads)] == [dtype, dtype, theirs]
            np.testing.assert_allclose(to_numpy(value).astype("float64"), exact[0][0], rtol=rtol)
    value, grad = sg.kl_divergence_value_and_grad(asarray(x, "float32"), asarray(y), precision="high")
    assert str(value.dtype).endswith("float32")
    np.testing.assert_allclose(to_numpy(value), exact[0][0], rtol=1e-7)
    np.testing.assert_allclose(to_numpy(grad), exact[1], rtol=1e-7, atol=1e-9)


def test_many_rows_of_which_some_nearly_agree(kind, asarray, to_numpy):
    """Large arrays go in blocks, in which rows that need more digits are computed again."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(20_000, 4)).astype("float32")
    y = x + (np.where(np.arange(len(x)) % 2, 1e-3, 1.0)[:, None] * rng.normal(size=x.shape)).astype("float32")
    value, grad = kind[2](asarray(x, "float32"), asarray(y, "float32"), reduction="none", **kind[3])
    some = slice(-40, None)
    want, slope, _ = reference.rows(x[some], y[some], beta=kind[4])
    np.testing.assert_allclose(to_numpy(value)[some], want, rtol=2e-5)
    assert (np.abs(to_numpy(grad)[some] - slope).max(-1) < 1e-4 * np.abs(slope).max(-1)).all()
