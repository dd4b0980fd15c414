"""PyTorch's own kernels: the same numbers as the generic ones, digits kept, memory bounded, under every transform."""

import itertools

import numpy as np
import pytest

import softgrad as sg
from kernel_cases import doubled, generic, loss_case

pytestmark = pytest.mark.usefixtures("torch", "usual_kernels")

# sizes on both sides of every threshold: few classes, sums of more than 256
SHAPES = [
    ((5,), 0),
    ((300, 2), 1),
    ((4000, 7), 1),
    ((500, 15), -1),
    ((300, 21), 1),
    ((200, 100), 1),
    ((40, 1000), 1),
    ((3, 3000), 1),
    ((2, 5, 40), -1),
    ((4, 7, 90), 1),
    ((70, 40, 3), 0),
    ((2, 1500, 70), 1),
    ((4, 1), 1),
    ((0, 4), 1),
    ((3, 5, 0), 1),
]
BOUND = {"float32": 70, "float64": 500, "float16": 1, "bfloat16": 1}
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def runs(place, function, *args, **options):
    """Whether the kernels of that place take a call."""
    return (sg.backends.explain(function, *args, **options).backend == "torch") == (place == "torch")


def close(got, expected, dtype, to_numpy, what=""):
    """Within the promised error of the float64 reference; where that cancels, of the size of its terms."""
    got, expected = to_numpy(got).astype(np.float64), to_numpy(expected)
    assert got.shape == expected.shape, what
    tolerance = max(20, min(BOUND[dtype], 70)) * EPS[dtype]
    # a log-sum-exp near 0 is the difference of its maximum and a logarithm
    least = 4 * EPS[dtype] if what.startswith("logsumexp") else 20 * EPS[dtype] ** 1.5
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=least, err_msg=what)


def ulps(got, exact, dtype):
    """The largest distance from a long double reference, in units of its last place in ``dtype``."""
    unit = EPS[dtype] * 2.0 ** np.floor(np.log2(np.abs(exact)))
    return np.max(np.abs(got.astype(np.longdouble) - exact) / unit)


def logits(rng, shape, scale, asarray, dtype):
    return asarray(rng.normal(size=shape) * scale, dtype)


# --- dense


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_dense_kernels_agree_with_the_generic_ones(shape, axis, dtype, place, asarray, to_numpy, torch, rng):
    for scale, masked in itertools.product((0.5, 20.0), (False, True)):
        x = logits(rng, shape, scale, asarray, dtype)
        where = asarray(rng.random(shape) > 0.3, "bool") if masked else None
        before = x.clone(), x._version
        for name in ("softmax", "log_softmax", "logsumexp"):
            function = getattr(sg, name)
            got = function(x, axis=axis, where=where)
            assert got.dtype == x.dtype
            assert runs(place, name, x, axis=axis)
            close(got, generic(function, x.double(), axis=axis, where=where), dtype, to_numpy, f"{name} {scale}")
        assert x._version == before[1]
        assert torch.equal(x, before[0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_derivatives_of_the_softmax(shape, axis, dtype, place, asarray, to_numpy, rng):
    wide = np.longdouble
    for scale in (0.5, 20.0):
        x, c = logits(rng, shape, scale, asarray, "float64"), logits(rng, shape, 1.0, asarray, dtype)
        cotangent = to_numpy(c).astype(wide)

        def total(a):
            return np.sum(a, axis=axis, keepdims=True)

        for name, values in (
            ("softmax", generic(sg.softmax, x, axis=axis)),
            ("log_softmax", sg.log_softmax(x, axis=axis)),
        ):
            a = asarray(to_numpy(values), dtype)
            given = to_numpy(a).astype(wide)
            # of what is given, which is rounded: the probabilities' sum is not 1
            p = given if name == "softmax" else np.exp(given)
            exact = p * (cotangent - total(p * cotangent)) if name == "softmax" else cotangent - p * total(cotangent)
            terms = (p if name == "softmax" else 1) * np.abs(cotangent) + p * total(
                np.abs(cotangent) * (p if name == "softmax" else 1)
            )
            for function in ("softmax_vjp", "softmax_jvp") if name == "softmax" else ("log_softmax_vjp",):
                got = getattr(sg, function)(a, c, axis=axis)
                assert got.dtype == c.dtype
                if got.numel():
                    told = sg.backends.explain(function, a, c, axis=axis).backend
                    assert (told == "generic") == (place == "torch")
                off = np.abs(to_numpy(got).astype(wide) - exact)
                assert np.all(off <= 40 * EPS[dtype] * terms + 2.0**-24), function


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_sure_class_pulls_back_what_the_others_do(name, place, asarray, to_numpy, torch, rng):
    x = np.zeros((3, 40))
    x[:, 7] = 30.0
    # no term of a sum cancels another
    c = rng.uniform(1, 2, x.shape)
    c[:, 7] = 5.0
    p = np.exp(x - 30.0) / (1 + 39 * np.exp(-30.0))
    others = np.sum(np.delete(p * (c - c[:, 7:8]) if name == "softmax" else c, 7, axis=1), axis=1)
    rest = 39 * np.exp(-30.0)
    exact = -others if name == "softmax" else c[:, 7] * rest - others
    leaf, cotangent = asarray(x, "float32").requires_grad_(True), asarray(c, "float32")
    values = getattr(sg, name)(leaf)
    got = torch.autograd.grad(values, leaf, cotangent)[0]
    np.testing.assert_allclose(to_numpy(got)[:, 7], exact, rtol=1e-5)
    if place == "torch_cpu":
        got = getattr(sg, f"{name}_vjp")(values.detach(), cotangent)
        np.testing.assert_allclose(to_numpy(got)[:, 7], exact, rtol=1e-5)


@pytest.mark.parametrize("order", ["transposed", "every other row", "every other class", "expanded", "reversed axes"])
def test_strides_do_not_matter(order, place, asarray, to_numpy, rng):
    x = logits(rng, (60, 40), 3.0, asarray, "float64")
    x = {
        "transposed": lambda: x.T,
        "every other row": lambda: x[::2],
        "every other class": lambda: x[:, ::2],
        "expanded": lambda: x[:1].expand(60, 40),
        "reversed axes": lambda: x.reshape(4, 15, 40).permute(2, 1, 0),
    }[order]()
    labels = asarray(rng.integers(0, x.shape[-1], x.shape[:-1]), "int64")
    for axis in range(x.ndim):
        for name in ("softmax", "log_softmax", "logsumexp"):
            function = getattr(sg, name)
            expected = generic(function, x.contiguous(), axis=axis)
            np.testing.assert_allclose(to_numpy(function(x, axis=axis)), to_numpy(expected), rtol=1e-13)
    for one, other in zip(
        sg.cross_entropy_value_and_grad(x, labels),
        generic(sg.cross_entropy_value_and_grad, x.contiguous(), labels),
        strict=True,
    ):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), rtol=1e-12, atol=1e-17)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 7, 15, 16, 20, 33, 100, 1000, 1500])
def test_a_dominant_class_keeps_its_digits(classes, dtype, place, asarray, to_numpy, torch, rng):
    gaps = np.array([3.0, 4.5, 8.0, 15.0, 30.0, 60.0, 80.0])
    rows = np.where(rng.random((len(gaps), classes)) < 0.5, 0.0, rng.normal(size=(len(gaps), classes)))
    label = classes // 2
    rows[:, label] = rows.max(axis=1) + gaps
    # many rows beside the few, so that no kernel takes the way for a small array
    many = np.concatenate([rng.normal(size=(4096 // classes + 1, classes)), rows])
    x = asarray(many, dtype)
    exact = to_numpy(x[-len(gaps) :]).astype(np.longdouble)
    labels = asarray(np.full(len(many), label), "int64")
    bound, last = BOUND[dtype], slice(-len(gaps), None)
    apart = exact - exact[:, [label]]
    rest = np.delete(np.exp(apart), label, axis=1).sum(axis=1)
    top, others, lse = -np.log1p(rest), -rest / (1 + rest), exact[:, label] + np.log1p(rest)
    assert ulps(to_numpy(sg.log_softmax(x))[last, label], top, dtype) <= bound
    loss = sg.CrossEntropy(reduction="none")
    value, gradient = (to_numpy(a)[last] for a in loss.value_and_grad(x, labels))
    assert ulps(value, -top, dtype) <= bound
    assert ulps(to_numpy(loss(x, labels))[last], -top, dtype) <= bound
    assert ulps(gradient[:, label], others, dtype) <= bound
    assert ulps(to_numpy(sg.logsumexp(x, axis=-1))[last], lse, dtype) <= 2
    recorded = x.clone().requires_grad_(True)
    recorded_loss = loss(recorded, labels)
    (through,) = torch.autograd.grad(recorded_loss.sum(), recorded)
    assert ulps(to_numpy(recorded_loss)[last], -top, dtype) <= bound
    assert ulps(to_numpy(through)[last, label], others, dtype) <= bound


@pytest.mark.parametrize("classes", [16, 64, 700, 1000])
def test_terms_that_round_alike_do_not_add_up(classes, asarray, to_numpy, rng):
    # every term loses the same part of its digits beside a sum near 1, in the worst direction
    gaps = np.linspace(5.0, 14.0, 64)
    rows = np.zeros((64, classes))
    rows[:, 0] = gaps
    x = asarray(np.concatenate([rows, rng.normal(size=(4096 // classes + 200, classes)) * 0.1]), "float32")
    exact = to_numpy(x[:64]).astype(np.longdouble)
    top = -np.log1p(np.exp(exact[:, 1:] - exact[:, :1]).sum(axis=1))
    assert ulps(to_numpy(sg.log_softmax(x))[:64, 0], top, "float32") <= 70
    labels = asarray(np.zeros(len(x)), "int64")
    losses = to_numpy(sg.cross_entropy(x, labels, reduction="none"))[:64]
    assert ulps(losses, -top, "float32") <= 70


@pytest.mark.parametrize("axis", [0, 1])
def test_a_long_axis_loses_nothing(axis, asarray, to_numpy):
    x = np.full((1, 300_000), -0.1, dtype=np.float32)
    x[0, ::3] = 0.7
    x[0, 5] = 3.3
    total = float(np.sum(np.exp(x.astype(np.longdouble))))
    x = asarray(x if axis else x.T.repeat(2, axis=1), "float32")
    top = to_numpy(sg.softmax(x, axis=axis)).max()
    assert abs(top * total / np.exp(np.float64(np.float32(3.3))) - 1) < 8 * EPS["float32"]
    lse = to_numpy(sg.logsumexp(x, axis=axis)).ravel()[0]
    assert abs(lse / np.log(total) - 1) < 2 * EPS["float32"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [5, 20, 100, 2000])
def test_one_bad_row_leaves_the_others_alone(classes, dtype, place, asarray, to_numpy, rng):
    rows = rng.normal(size=(50, classes))
    labels = rng.integers(0, classes, 50)
    bad = rows.copy()
    bad[3, 1], bad[17, 2], bad[30] = np.nan, np.inf, -np.inf
    good = np.setdiff1d(np.arange(50), [3, 17, 30])
    x, clean, y = asarray(bad, dtype), asarray(rows, dtype), asarray(labels, "int64")
    for function in (sg.softmax, sg.log_softmax, lambda x: sg.logsumexp(x, axis=-1)):
        got, expected = to_numpy(function(x)), to_numpy(function(clean))
        np.testing.assert_allclose(got[good], expected[good], rtol=100 * EPS[dtype])
        assert np.isnan(got[3]).all()
    assert np.isnan(to_numpy(sg.softmax(x))[[17, 30]]).all()
    np.testing.assert_array_equal(to_numpy(sg.logsumexp(x, axis=-1))[[17, 30]], [np.inf, -np.inf])
    for target in (y, asarray(np.eye(classes)[labels], dtype)):
        for got, expected in zip(
            sg.CrossEntropy(reduction="none").value_and_grad(x, target),
            generic(sg.CrossEntropy(reduction="none").value_and_grad, x.double(), target),
            strict=True,
        ):
            tolerance = {"rtol": 100 * EPS[dtype], "atol": EPS[dtype] ** 1.5}
            np.testing.assert_allclose(to_numpy(got), to_numpy(expected), **tolerance)


def test_equal_largest_logits(place, asarray, to_numpy, rng):
    for classes, ties in ((4, 4), (20, 3), (40, 40), (500, 2), (1500, 1500)):
        rows = rng.normal(size=(64, classes)) - 30
        rows[:, :ties] = 1.5
        x = asarray(rows, "float64")
        tie = -np.log(np.exp(rows[0] - 1.5).sum())
        np.testing.assert_allclose(to_numpy(sg.log_softmax(x))[0], rows[0] - 1.5 + tie, rtol=1e-14)
        value, gradient = sg.CrossEntropy(reduction="sum").value_and_grad(x, asarray(np.zeros(64), "int64"))
        np.testing.assert_allclose(to_numpy(value), -64 * tie, rtol=1e-11)
        np.testing.assert_allclose(to_numpy(gradient)[0, 0], np.expm1(tie), rtol=1e-14)


# --- the loss


OPTIONS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"z_loss": 0.3},
    {"class_weight": True},
    {"sample_weight": True},
    {"sample_weight": True, "class_weight": True, "ignore_index": -100, "z_loss": 0.1},
    {"ignore_index": -100, "reduction": "none"},
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.2, "class_weight": True, "ignore_index": -100, "sample_weight": True},
    {"where": True},
    {"dense": True},
    {"dense": True, "class_weight": True, "sample_weight": True, "z_loss": 0.2, "label_smoothing": 0.1},
    {"dense": True, "where": True, "reduction": "none"},
    {"out_of_range": True},
    {"out_of_range": True, "class_weight": True, "ignore_index": -100},
]


_REFERENCES = {}


def generic_in_double(case, loss, x, target, arguments):
    """Value and gradient by the generic kernel, computed once for both places."""
    case = str(case)
    if (found := _REFERENCES.pop(case, None)) is None:
        weight = doubled(loss.class_weight)
        names = ("axis", "label_smoothing", "ignore_index", "z_loss", "reduction")
        loss = sg.CrossEntropy(class_weight=weight, **{name: getattr(loss, name) for name in names})
        arguments = {name: doubled(value) for name, value in arguments.items()}
        found = generic(loss.value_and_grad, x.double(), doubled(target), **arguments)
        _REFERENCES[case] = found
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_loss_kernels_agree_with_the_generic_ones(shape, axis, dtype, place, asarray, to_numpy):
    for options in OPTIONS:
        if np.prod(shape) < 6 * shape[axis] and "out_of_range" in options:
            continue  # no label would be left
        loss, x, target, arguments = loss_case(options, shape, axis, dtype, asarray)
        told = sg.backends.explain("cross_entropy_value_and_grad", x, target, axis=axis, **arguments).backend
        assert (told in ("torch", "generic")) == (place == "torch")
        expected = generic_in_double((shape, axis, options, dtype), loss, x, target, arguments)
        got = loss.value_and_grad(x, target, **arguments)
        tolerance = {"rtol": {"float32": 3e-5, "float64": 1e-12, "bfloat16": 2e-2}[dtype]}
        for one, other in zip((*got, loss(x, target, **arguments)), (*expected, expected[0]), strict=True):
            assert one.dtype == x.dtype
            finite = to_numpy(other)[np.isfinite(to_numpy(other))]
            scale = np.abs(finite).max(initial=0.0)
            np.testing.assert_allclose(
                to_numpy(one).astype(np.float64),
                to_numpy(other),
                atol=tolerance["rtol"] * scale,
                err_msg=str(options),
                **tolerance,
            )


@pytest.mark.parametrize("classes", [3, 20, 60])
def test_targets_with_an_infinite_cost(classes, place, asarray, to_numpy, rng):
    rows = rng.normal(size=(40, classes))
    rows[:, 1] = -np.inf
    soft = rng.random((40, classes))
    soft[:30, 1] = 0
    for target in (asarray(soft, "float64"), asarray(rng.integers(0, 3, 40), "int64")):
        for got, expected in zip(
            sg.CrossEntropy(reduction="none").value_and_grad(asarray(rows), target),
            generic(sg.CrossEntropy(reduction="none").value_and_grad, asarray(rows), target),
            strict=True,
        ):
            # a probability and a soft target cancel to their rounding
            np.testing.assert_allclose(to_numpy(got), to_numpy(expected), rtol=1e-12, atol=1e-15)


def test_a_label_far_below_the_top(asarray, to_numpy, rng):
    # its probability underflows, its loss does not
    for classes in (20, 40):
        rows = rng.normal(size=(300, classes))
        rows[::7, 3] = -150.0
        x = asarray(rows, "float32")
        for reduction in ("none", "sum"):
            loss = sg.CrossEntropy(reduction=reduction)
            labels = asarray(np.full(300, 3), "int64")
            expected = to_numpy(generic(loss, x.double(), labels))
            np.testing.assert_allclose(to_numpy(loss(x, labels)), expected, rtol=3e-6)
            np.testing.assert_allclose(to_numpy(loss.value_and_grad(x, labels)[0]), expected, rtol=3e-6)


def test_why_a_kernel_declines(asarray, torch, rng):
    x, labels = asarray(rng.normal(size=(3, 4))), asarray([0, 1, 2], "int64")
    leaf = x.clone().requires_grad_(True)
    explained = sg.backends.explain("cross_entropy_grad", leaf, labels)
    assert explained.backend == "generic"
    assert "gradient" in dict(explained.declined)["torch"]
    with sg.backends.use("torch"):
        explained = sg.backends.explain("cross_entropy_grad", x, labels, precision="high")
    assert "high" in dict(explained.declined)["torch"]
    with torch.no_grad():
        assert sg.backends.explain("cross_entropy_grad", leaf, labels).backend in ("numpy", "numba")
    p = asarray(rng.dirichlet(np.ones(10), 5000))
    assert sg.backends.explain("softmax_vjp", p, p).backend in ("numpy", "numba")
    explained = sg.backends.explain("softmax_vjp", p, p.clone().requires_grad_(True))
    assert explained.backend == "generic"
    assert "gradient" in dict(explained.declined)["torch_cpu"]
