"""PyTorch's own kernels under autograd and its transforms, compiled, on tensors without values, and cast."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import oracle
import softgrad as sg
from marks import full
from torch_second_order import second_order_holds

pytestmark = pytest.mark.usefixtures("torch", "usual_kernels")
raised_inside_torch = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


# --- under autograd, to second order

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
    x, labels, where = (a[:2] for a in arguments)
    x = x.requires_grad_(True)

    def function(x):
        return FUNCTIONS[name](x, labels, where)

    assert torch.autograd.gradcheck(function, (x,), check_forward_ad=True, check_batched_grad=True)
    assert second_order_holds(function, (x,), check_fwd_over_rev=True)


def test_gradients_of_the_linear_loss_to_second_order(arguments, asarray, torch, rng):
    _, labels, _ = arguments
    X, W, bias = (asarray(rng.normal(size=s)).requires_grad_(True) for s in ((3, 2), (4, 2), (4,)))
    for options in ({}, {"reduction": "none", "z_loss": 0.1}, {"reduction": "sum", "block_size": 2}):

        def function(X, W, bias, options=options):
            return sg.linear_cross_entropy(X, labels, W, bias, **options)

        assert torch.autograd.gradcheck(function, (X, W, bias))
        assert second_order_holds(function, (X, W, bias))

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
    assert second_order_holds(function, leaves)


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


HIGH = {
    "softmax": lambda a, b: sg.softmax(a, precision="high"),
    "divergence": lambda a, b: sg.kl_divergence(a, b, precision="high"),
}


@raised_inside_torch
@pytest.mark.parametrize(
    ("kernels", "name"),
    [("generic", "divergence"), ("torch", "softmax"), *full(("generic", "softmax"), ("torch", "divergence"))],
)
def test_rows_that_cannot_be_looked_at_are_compiled_in_high_precision(kernels, name, asarray, torch):
    x, y = asarray([[2.0, 0.0, -1.0]], "float16"), asarray([[0.5, 1.0, 3.0]], "float16")
    torch._dynamo.reset()
    with sg.backends.use(kernels):
        compiled = torch.compile(HIGH[name], fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, y), HIGH[name](x, y))


#: What is compiled: a function whose gradient is recorded, or one that takes its gradient.
COMPILED = [("loss, options", "recorded"), ("loss, smoothed", "taken")]


@raised_inside_torch
@pytest.mark.parametrize(
    ("name", "gradient"),
    [*COMPILED, *full(*(case for case in itertools.product(FUNCTIONS, ("recorded", "taken")) if case not in COMPILED))],
)
def test_one_graph_with_its_gradient(name, gradient, arguments, torch, to_numpy):
    x, labels, where = arguments
    torch._dynamo.reset()

    def function(x):
        return (FUNCTIONS[name](x, labels, where) ** 2).sum()

    if gradient == "recorded":
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        leaf = x.clone().requires_grad_(True)
        (got,) = torch.autograd.grad(compiled(leaf), leaf)
    else:
        got = torch.compile(torch.func.grad(function), fullgraph=True, backend="aot_eager")(x)
    np.testing.assert_allclose(to_numpy(got), to_numpy(torch.func.grad(function)(x)), rtol=1e-12, atol=1e-15)


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


NUMBERS = ("softcap", "temperature", "label_smoothing", "focal", "z_loss")


@raised_inside_torch
@pytest.mark.parametrize("options", [NUMBERS, *full(*(((name,),) for name in NUMBERS))], ids=str)
def test_numbers_may_come_to_a_compiled_function(options, asarray, torch):
    torch._dynamo.reset()
    x, labels = asarray([[2.0, 0.0, -1.0]]), asarray([1], "int64")

    def function(number):
        return sg.cross_entropy(x, labels, **dict.fromkeys(options, number))

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
