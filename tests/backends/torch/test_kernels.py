"""PyTorch's own kernels: the same numbers as the generic ones, digits kept, memory bounded, under every transform."""

import itertools
import os
import subprocess
import sys
import textwrap
import threading
import zlib

import numpy as np
import pytest

import oracle
import softgrad as sg
from kernel_cases import loss_case
from marks import some

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
raised_inside_torch = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture
def rng(request):
    """Draws of a test's own, whatever ran before it."""
    return np.random.default_rng(zlib.crc32(request.node.originalname.encode()))


@pytest.fixture(params=["torch", "torch_cpu"])
def place(request):
    """Run what is for all devices, and what is for a CPU."""
    with sg.backends.use(request.param):
        yield request.param


def runs(place, function, *args, **options):
    """Whether the kernels of that place take a call."""
    return (sg.backends.explain(function, *args, **options).backend == "torch") == (place == "torch")


def generic(function, *args, **kwargs):
    with sg.backends.use("generic"):
        return function(*args, **kwargs)


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


def doubled(value):
    return value.double() if hasattr(value, "double") and value.is_floating_point() else value


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


# --- the linear model


def linear_case(n, features, classes, dtype, asarray, torch):
    rng = np.random.default_rng(3)
    X, W, bias = (asarray(rng.normal(size=s), dtype) for s in ((n, features), (classes, features), (classes,)))
    return X, asarray(rng.integers(0, classes, n), "int64"), W, bias


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("n", "features", "classes"), [(50, 4, 3), (3000, 6, 5), (70, 8, 40), (0, 3, 4), (5, 0, 4)])
def test_linear_kernels_agree_with_the_generic_ones(n, features, classes, dtype, place, asarray, to_numpy, torch, rng):
    X, labels, W, bias = linear_case(n, features, classes, dtype, asarray, torch)
    soft = asarray(np.random.default_rng(1).random((n, classes)), dtype)
    ignoring = torch.where(torch.arange(n) % 3 == 0, -1, labels)
    lost = torch.where((torch.arange(n) % 3 == 0).unsqueeze(1), torch.nan, X)
    where = asarray(np.random.default_rng(2).random((n, classes)) > 0.3, "bool")
    weight = asarray(np.arange(n) % 4, dtype)
    cases = [
        (X, labels, None, {}),
        (X, labels, bias, {"wrt": ("X", "bias", "W"), "reduction": "sum"}),
        (X, labels, bias, {"sample_weight": weight, "z_loss": 0.1, "block_size": 7}),
        (lost, ignoring, bias, {"ignore_index": -1, "class_weight": asarray(np.arange(1, classes + 1), dtype)}),
        (lost, ignoring, bias, {"ignore_index": -1, "where": where, "wrt": ("W", "X")}),
        (X, soft, bias, {"label_smoothing": 0.1, "l2": 0.5}),
        (X, labels, bias, {"classes": [2, 0, 2]}),
    ]
    tolerance = {"float32": 5e-5, "float64": 1e-12, "bfloat16": 3e-2}[dtype]
    for data, target, offset, options in cases:
        value, grads = sg.linear_cross_entropy_value_and_grad(data, target, W, offset, **options)
        with sg.backends.use("generic"):
            expected, exact = sg.linear_cross_entropy_value_and_grad(
                data.double(),
                doubled(target),
                W.double(),
                doubled(offset),
                **{name: doubled(option) for name, option in options.items()},
            )
        pairs = [(value, expected)]
        pairs += zip(*((g if isinstance(g, tuple) else (g,)) for g in (grads, exact)), strict=True)
        names = {name: option for name, option in options.items() if name not in ("wrt", "classes")}
        pairs.append((sg.linear_cross_entropy(data, target, W, offset, **names), expected))
        for one, other in pairs:
            assert one.dtype == X.dtype
            one, other = to_numpy(one).astype(np.float64), to_numpy(other)
            scale = np.abs(other).max(initial=0.0)
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale, err_msg=str(options))


def test_pieces_run_on_torchs_threads(torch):
    from softgrad.backends import _threads
    from softgrad.backends.torch import threads as torch_threads

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = threading.Barrier(3)

        def task(start, stop):
            # three threads are in here at once, or nobody leaves
            together.wait(60)
            return list(range(start, stop)), _threads.count()

        with _threads.workers(3), torch_threads.shared():
            pieces = _threads.run(task, 3, 3)
            assert [i for some, _ in pieces for i in some] == [0, 1, 2]
            # no task of several starts threads of its own
            assert {count for _, count in pieces} == {1}
            with pytest.raises(ZeroDivisionError):
                _threads.run(lambda start, stop: 1 // start, 9, 3)
        with torch_threads.shared():
            assert _threads.count() <= 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own():
    program = """
        import os
        import torch
        import softgrad as sg
        torch.set_num_threads(2)
        x = torch.randn(70000, 16)
        with sg.backends.workers(2):
            ours = sg.log_softmax(x).numpy()
            child = os.fork()
            if child == 0:
                # torch's own operations may wait for the parent's threads here
                os._exit(0 if (sg.log_softmax(x).numpy() == ours).all() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=120)


def test_a_fit_far_apart_keeps_its_gradient(asarray, to_numpy):
    for dtype, bound in (("float32", 1e-4), ("float64", 1e-13)):
        for classes in (3, 40):
            rng = np.random.default_rng(8)
            labels = rng.integers(0, classes, 400)
            X = np.eye(classes)[labels] + rng.normal(size=(400, classes)) * 0.05
            W = np.eye(classes) * (30.0 if dtype == "float64" else 15.0)
            X, W = asarray(X, dtype), asarray(W, dtype)
            z = X @ W.T
            reference = oracle.cross_entropy(to_numpy(z).astype(np.float64)[:20], labels[:20], orders=("grad",))
            slope = to_numpy(sg.CrossEntropy(reduction="none").grad(z[:20], asarray(labels[:20], "int64")))
            exact = oracle.rounded(reference.grad("none"))
            assert np.linalg.norm(slope - exact) <= bound * np.linalg.norm(exact)
            got = to_numpy(sg.linear_cross_entropy_grad(X[:20], asarray(labels[:20], "int64"), W, reduction="sum"))
            product = exact.T @ to_numpy(X[:20]).astype(np.float64)
            assert np.linalg.norm(got - product) <= 10 * bound * np.linalg.norm(product)


def test_nothing_of_the_logits_size_is_kept_for_the_backward_pass(asarray, torch):
    X, labels, W, bias = linear_case(2000, 8, 500, "float32", asarray, torch)
    leaves = [a.requires_grad_(True) for a in (X, W, bias)]
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = sg.linear_cross_entropy(X, labels, W, bias)
    assert sum(kept.values()) <= 2 * sum(a.numel() for a in leaves)
    value.backward()
    expected = generic(sg.linear_cross_entropy_grad, X.detach(), labels, W.detach(), bias.detach(), wrt=("X", "W"))
    torch.testing.assert_close((X.grad, W.grad), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("recorded", some([False, True], True))
def test_memory_of_the_linear_loss_is_bounded(recorded, torch):
    # 2048 x 32000 logits in float32 take 262 MB
    program = f"""
        import resource, torch
        import softgrad as sg
        torch.set_num_threads(1)
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        X, W = torch.randn(2048, 16), torch.randn(32000, 16)
        y = torch.randint(0, 32000, (2048,))
        warm = [torch.randn(64, 16), torch.randn(1000, 16)]
        if {recorded}:
            for a in (W, X, *warm):
                a.requires_grad_(True)
            sg.linear_cross_entropy(warm[0], y[:64] % 1000, warm[1]).backward()
            before = peak()
            sg.linear_cross_entropy(X, y, W).backward()
        else:
            sg.linear_cross_entropy_value_and_grad(warm[0], y[:64] % 1000, warm[1])
            before = peak()
            sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("W", "X"))
        print(peak() - before)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 80


# --- under autograd, to second order


CLASSES = 4
FUNCTIONS = {
    "softmax": lambda x, y, w: sg.softmax(x),
    "softmax, where": lambda x, y, w: sg.softmax(x, where=w),
    "softmax, high": lambda x, y, w: sg.softmax(x, precision="high"),
    "log_softmax, first axis": lambda x, y, w: sg.log_softmax(x, axis=0),
    "log_softmax, where": lambda x, y, w: sg.log_softmax(x, where=w).nan_to_num(neginf=0.0),
    "logsumexp": lambda x, y, w: sg.logsumexp(x, axis=-1),
    "logsumexp, where": lambda x, y, w: sg.logsumexp(x, axis=-1, where=w),
    "loss": lambda x, y, w: sg.cross_entropy(x, y),
    "loss, options": lambda x, y, w: sg.cross_entropy(
        x, y, z_loss=0.2, class_weight=(1.0, 2.0, 0.5, 3.0), ignore_index=1, sample_weight=0.5
    ),
    "loss, smoothed": lambda x, y, w: sg.cross_entropy(x, y, label_smoothing=0.1, where=w, reduction="none"),
    "loss, soft": lambda x, y, w: sg.cross_entropy(x, (0.25 * w).to(x.dtype), reduction="sum"),
    "loss, high": lambda x, y, w: sg.cross_entropy(x, y, precision="high"),
}


@pytest.fixture
def arguments(asarray):
    x = asarray([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
    where = asarray([[True, False, True, True], [True, True, False, True], [False, True, True, True]], "bool")
    return x, asarray([2, 0, 3], "int64"), where


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_to_second_order(name, arguments, torch):
    x, labels, where = arguments
    x = x.requires_grad_(True)

    def function(x):
        return FUNCTIONS[name](x, labels, where)

    assert torch.autograd.gradcheck(function, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, (x,), check_fwd_over_rev=True)


def test_gradients_of_the_linear_loss_to_second_order(arguments, asarray, torch, rng):
    _, labels, _ = arguments
    X, W, bias = (asarray(rng.normal(size=s)).requires_grad_(True) for s in ((3, 2), (4, 2), (4,)))
    for options in ({}, {"reduction": "none", "z_loss": 0.1}, {"reduction": "sum", "block_size": 2}):

        def function(X, W, bias, options=options):
            return sg.linear_cross_entropy(X, labels, W, bias, **options)

        assert torch.autograd.gradcheck(function, (X, W, bias))
        assert torch.autograd.gradgradcheck(function, (X, W, bias))

    weight = asarray([0.5, 1.0, 2.0]).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda w: sg.linear_cross_entropy(X, labels, W, sample_weight=w), (weight,))


def test_gradients_of_weights_and_soft_targets(arguments, asarray, torch, rng):
    x, labels, _ = arguments
    soft, weight = asarray(rng.random((3, 4))), asarray([0.5, 1.0, 2.0])
    by_class = asarray([1.0, 2.0, 0.5, 3.0])
    leaves = [a.requires_grad_(True) for a in (x, soft, weight, by_class)]

    def function(x, q, w, c):
        loss = sg.CrossEntropy(label_smoothing=0.1, z_loss=0.1, class_weight=c)
        return loss(x, q, sample_weight=w), sg.CrossEntropy(class_weight=c)(x, labels, sample_weight=w)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # raised inside torch
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_order_of_transforms(name, arguments, torch, to_numpy):
    x, labels, where = arguments
    func = torch.func

    def function(x):
        return (FUNCTIONS[name](x, labels, where) ** 2).sum()

    def reference(x):
        with sg.backends.use("generic"):
            return function(x)

    transforms = [
        func.grad,
        func.hessian,
        lambda f: func.jacrev(func.jacrev(f)),
        lambda f: func.jacrev(func.jacfwd(f)),
        lambda f: func.jacfwd(func.jacfwd(f)),
        lambda f: lambda x: func.jvp(f, (x,), (x,))[1],
        lambda f: lambda x: func.vmap(func.grad(f))(torch.stack([x, x * 0.5])),
    ]
    for transform in transforms:
        np.testing.assert_allclose(
            to_numpy(transform(function)(x)), to_numpy(transform(reference)(x)), rtol=1e-10, atol=1e-13
        )


def test_vmap_over_whatever_is_batched(arguments, asarray, torch, to_numpy):
    x, labels, where = arguments
    vmap = torch.func.vmap
    many = torch.stack([x, x + 1, x * 2], dim=1)
    masks = torch.stack([where, ~where, where], dim=2)
    for in_dims, args in (((1, None), (many, where)), ((None, 2), (x, masks)), ((1, 2), (many, masks))):
        for name in ("softmax", "log_softmax", "logsumexp"):

            def function(x, w, name=name):
                return getattr(sg, name)(x, axis=-1, where=w)

            pairs = list(zip(args, in_dims, strict=True))
            expected = [function(*(a if d is None else a.select(d, i) for a, d in pairs)) for i in range(3)]
            got = vmap(function, in_dims=in_dims)(*args)
            np.testing.assert_allclose(to_numpy(got), to_numpy(torch.stack(expected)), rtol=1e-13)
    targets = torch.stack([labels, labels.flip(0)])
    got = vmap(lambda y: torch.func.grad(lambda x: sg.cross_entropy(x, y))(x))(targets)
    expected = torch.stack([sg.cross_entropy_grad(x, y) for y in targets])
    np.testing.assert_allclose(to_numpy(got), to_numpy(expected), rtol=1e-13)


def test_digits_at_a_dominant_class_through_autograd(asarray, torch, to_numpy):
    x = asarray([[40.0, 0.0, -1.0]]).requires_grad_(True)
    p = oracle.rounded(oracle.softmax(np.array([40.0, 0.0, -1.0])))
    others = p[1] + p[2]
    direction = asarray([[1.0, 0.0, 0.0]])
    for function in (sg.softmax, sg.log_softmax):
        (row,) = torch.autograd.grad(function(x), x, direction, create_graph=True)
        np.testing.assert_allclose(to_numpy(row)[0], [others, -p[1], -p[2]], rtol=1e-13)
        np.testing.assert_allclose(to_numpy(torch.func.jacrev(function)(x.detach()))[0, 0, 0, 0], others, rtol=1e-13)
        np.testing.assert_allclose(
            to_numpy(torch.func.jvp(function, (x.detach(),), (direction,))[1])[0, 0], others, rtol=1e-13
        )
    loss = sg.cross_entropy(x, asarray([0], "int64"))
    (row,) = torch.autograd.grad(loss, x, create_graph=True)
    np.testing.assert_allclose(to_numpy(row)[0], [-others, p[1], p[2]], rtol=1e-13)
    (curvature,) = torch.autograd.grad(row, x, direction)
    np.testing.assert_allclose(to_numpy(curvature)[0], [others, -p[1], -p[2]], rtol=1e-13)


def test_rows_hidden_whole_have_no_gradient(asarray, torch, to_numpy):
    x = asarray([[-np.inf, -np.inf], [np.nan, 1.0], [1.0, 2.0]]).requires_grad_(True)
    where = asarray([[False, False], [False, False], [True, True]], "bool")
    labels = asarray([0, 1, 1], "int64")
    for result in (
        sg.softmax(x, where=where).sum(),
        torch.where(where, sg.log_softmax(x, where=where), 0.0).sum(),
        sg.logsumexp(x, axis=-1, where=where)[2],
        sg.cross_entropy(x, labels, where=where, z_loss=0.1),
    ):
        gradient = to_numpy(torch.autograd.grad(result, x)[0])
        np.testing.assert_array_equal(gradient[:2], 0.0)
        assert np.isfinite(gradient).all()


# --- compiled, fake, cast


@raised_inside_torch
@pytest.mark.parametrize("name", some(FUNCTIONS, *list(FUNCTIONS)[::3]))
def test_one_graph_with_its_gradient(name, arguments, torch, to_numpy):
    x, labels, where = arguments
    torch._dynamo.reset()

    def function(x):
        return (FUNCTIONS[name](x, labels, where) ** 2).sum()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    leaf = x.clone().requires_grad_(True)
    (got,) = torch.autograd.grad(compiled(leaf), leaf)
    np.testing.assert_allclose(to_numpy(got), to_numpy(torch.func.grad(function)(x)), rtol=1e-12, atol=1e-15)
    transformed = torch.compile(torch.func.grad(function), fullgraph=True, backend="aot_eager")
    np.testing.assert_allclose(to_numpy(transformed(x)), to_numpy(got), rtol=1e-11, atol=1e-14)


@raised_inside_torch
def test_a_compiled_gradient_keeps_the_digits(asarray, torch, to_numpy):
    torch._dynamo.reset()
    labels = asarray([0], "int64")
    compiled = torch.compile(lambda x: sg.cross_entropy(x, labels), fullgraph=True, backend="aot_eager")
    leaf = asarray([[50.0, 0.0]]).requires_grad_(True)
    (row,) = torch.autograd.grad(compiled(leaf), leaf)
    np.testing.assert_allclose(to_numpy(row)[0], [-np.exp(-50.0), np.exp(-50.0)], rtol=1e-13)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.1}, {"focal": 1.0}])
def test_the_recorded_gradient_of_a_label_out_of_range_is_nan(options, asarray, torch):
    leaf = asarray([[2.0, 0.0, -1.0]] * 3).requires_grad_(True)
    labels = asarray([1, -1, -100], "int64")
    value = sg.cross_entropy(leaf, labels, ignore_index=-100, reduction="none", **options)
    (row,) = torch.autograd.grad(value.sum(), leaf)
    assert row.isnan().all(1).tolist() == value.isnan().tolist() == [False, True, False]
    assert row[2].tolist() == [0, 0, 0]


@raised_inside_torch
@pytest.mark.parametrize("option", ["softcap", "temperature", "label_smoothing", "focal", "z_loss"])
def test_a_number_may_come_to_a_compiled_function(option, asarray, torch):
    torch._dynamo.reset()
    x, labels = asarray([[2.0, 0.0, -1.0]]), asarray([1], "int64")

    def function(number):
        return sg.cross_entropy(x, labels, **{option: number})

    compiled = torch.compile(function, fullgraph=True, backend="eager", dynamic=True)
    for number in (0.25, 0.75):
        torch.testing.assert_close(compiled(number), function(number))


@pytest.mark.full
@pytest.mark.parametrize("first", ["compiled", "eager"])
def test_the_first_call_may_be_a_compiled_one(first, torch):
    program = f"""
        import torch
        import softgrad as sg
        x, y = torch.randn(3, 4), torch.tensor([0, 1, 2])
        if {first == "eager"}:
            sg.softmax(x)
        for function in (lambda x: sg.softmax(x.bfloat16()), lambda x: sg.cross_entropy(x, y)):
            got = torch.compile(function, fullgraph=True, backend="eager")(x)
            torch.testing.assert_close(got, function(x))
        print("right")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "right", run.stderr[-2000:]


def test_fake_tensors_have_the_right_shapes(torch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, labels = torch.empty(6, 40), torch.zeros(6, dtype=torch.int64)
        X, W = torch.empty(6, 3), torch.empty(40, 3)
        assert sg.softmax(x).shape == sg.log_softmax(x).shape == (6, 40)
        assert sg.logsumexp(x, axis=0).shape == (40,)
        value, gradient = sg.cross_entropy_value_and_grad(x, labels, ignore_index=-1, label_smoothing=0.1)
        assert value.shape == ()
        assert gradient.shape == (6, 40)
        leaf = x.clone().requires_grad_(True)
        sg.cross_entropy(leaf, labels).backward()
        assert leaf.grad.shape == (6, 40)
        assert sg.linear_cross_entropy_grad(X, labels, W).shape == (40, 3)


def test_kernels_in_place_wait_for_no_device(torch):
    """Whatever reads a value raises on fake tensors, where there is none to read."""
    import array_api_compat.torch as xp
    from torch._subclasses.fake_tensor import FakeTensorMode

    from softgrad._options import LossArgs
    from softgrad.backends.torch import dense as torch_dense
    from softgrad.backends.torch import linear as torch_linear
    from softgrad.backends.torch import loss as torch_loss

    with FakeTensorMode(), sg.backends.use("torch"):
        for shape, axis in (((6, 40), 1), ((6, 5), 1), ((3, 2000, 4), 1), ((2, 3000), 1)):
            for dtype in (torch.float32, torch.float16):
                x = torch.empty(shape, dtype=dtype)
                samples = shape[:axis] + shape[axis + 1 :]
                for function in (torch_dense.softmax, torch_dense.log_softmax, torch_dense.logsumexp):
                    for precision in (None, "high"):
                        assert function(x, axis, precision).dtype is dtype
                labels = torch.empty(samples, dtype=torch.int64)
                all_args = [
                    LossArgs(axis, labels, False),
                    LossArgs(
                        axis,
                        labels,
                        False,
                        label_smoothing=0.1,
                        class_weight=torch.empty(shape[axis]),
                        sample_weight=torch.empty(samples),
                        ignore_index=-1,
                        z_loss=0.1,
                    ),
                    LossArgs(axis, torch.empty(shape), True, reduction="none"),
                ]
                for args in all_args:
                    value, gradient = torch_loss.in_place(xp, x, args, True, True)
                    assert gradient.shape == x.shape
                    assert value.shape == (samples if args.reduction == "none" else ())
        X, W, bias = torch.empty(500, 3), torch.empty(40, 3), torch.empty(40)
        args = LossArgs(1, torch.empty(500, dtype=torch.int64), False, ignore_index=3, sample_weight=torch.empty(500))
        wrt = ("W", "bias", "X")
        value, grads = torch_linear.value_and_grad(xp, X, W, bias, args, wrt, (1, 0), 64)
        assert [tuple(g.shape) for g in grads] == [(2, 3), (2,), (500, 3)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_takes_losses_in_single_precision(dtype, asarray, torch, to_numpy, rng):
    x, labels = asarray(rng.normal(size=(20, 6)), dtype), asarray(rng.integers(0, 6, 20), "int64")
    expected = to_numpy(sg.cross_entropy(x.double(), labels))
    assert sg.cross_entropy(x, labels).dtype == x.dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        leaf = x.clone().requires_grad_(True)
        for value in (sg.cross_entropy(x, labels), sg.cross_entropy(leaf, labels)):
            assert value.dtype == torch.float32
            np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-6)
        value.backward()
        assert leaf.grad.dtype == x.dtype
        X, W = asarray(rng.normal(size=(20, 3)), "float32"), asarray(rng.normal(size=(6, 3)), "float32")
        leaves = [X.requires_grad_(True), W.requires_grad_(True)]
        value = sg.linear_cross_entropy(X, labels, W)
        assert value.dtype == torch.float32
        grads = torch.autograd.grad(value, leaves)
        assert [g.dtype for g in grads] == [torch.float32, torch.float32]
    exact = sg.linear_cross_entropy(X.detach().double(), labels, W.detach().double())
    np.testing.assert_allclose(to_numpy(value), to_numpy(exact), rtol=2e-2)
    assert to_numpy(value) != to_numpy(sg.linear_cross_entropy(X.detach(), labels, W.detach()))
