"""JAX's own kernels under every transform, to second order."""

import numpy as np
import pytest

import softgrad as sg
from kernel_cases import close
from marks import full

pytestmark = pytest.mark.usefixtures("jax", "usual_kernels")

RNG = np.random.default_rng(21)
FUNCTIONS = {
    "softmax": lambda x, y, w: sg.softmax(x),
    "softmax, where": lambda x, y, w: sg.softmax(x, where=w),
    "softmax, high": lambda x, y, w: sg.softmax(x, precision="high"),
    "log_softmax, first axis": lambda x, y, w: sg.log_softmax(x, axis=0),
    "logsumexp": lambda x, y, w: sg.logsumexp(x, axis=-1),
    "logsumexp, where": lambda x, y, w: sg.logsumexp(x, axis=-1, where=w),
    "loss": lambda x, y, w: sg.cross_entropy(x, y),
    "loss, options": lambda x, y, w: sg.cross_entropy(
        x, y, z_loss=0.2, class_weight=(1.0, 2.0, 0.5, 3.0), ignore_index=0, sample_weight=0.5
    ),
    "loss, where": lambda x, y, w: sg.cross_entropy(x, y, where=w, z_loss=0.1),
    "loss, smoothed": lambda x, y, w: sg.cross_entropy(x, y, label_smoothing=0.1, where=w, reduction="none"),
    "loss, soft": lambda x, y, w: sg.cross_entropy(x, (0.25 * w).astype(x.dtype), reduction="sum"),
    "loss, high": lambda x, y, w: sg.cross_entropy(x, y, precision="high"),
    "gradient": lambda x, y, w: sg.cross_entropy_grad(x, y, label_smoothing=0.1),
    "linear": lambda x, y, w: sg.linear_cross_entropy(x, y, 0.5 * x[:, :3].T @ x, block_size=2),
    "linear, weighted": lambda x, y, w: sg.linear_cross_entropy(x, y, x[:2], sample_weight=x[:, 0] ** 2, block_size=2),
    "linear, each": lambda x, y, w: sg.linear_cross_entropy(x, y, x, x[:, 0], reduction="none", block_size=2),
}


@pytest.fixture
def arguments(asarray):
    x = asarray([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
    where = asarray([[True, False, True, True], [True, True, False, True], [False, True, True, True]], "bool")
    return x, asarray([2, 0, 1], "int64"), where


#: The orders of two derivatives: the one that is asked for most, and the others in turn.
ORDERS = [("jacfwd", "jacrev"), ("jacrev", "jacfwd"), ("jacrev", "jacrev"), ("jacfwd", "jacfwd")]
CHOSEN = list(FUNCTIONS)[::4]


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        *((name, (ORDERS[0], ORDERS[1 + i % 3])) for i, name in enumerate(CHOSEN)),
        *full(*((name, ORDERS) for name in FUNCTIONS)),
    ],
)
def test_every_order_of_transforms(name, orders, arguments, jax, to_numpy):
    x, labels, where = arguments
    jit = jax.jit

    def function(x):
        return (FUNCTIONS[name](x, labels, where) ** 2).sum()

    def reference(x):
        with sg.backends.use("generic"):
            return function(x)

    gradient = jit(jax.grad(reference))
    first, second = gradient(x), jit(jax.hessian(reference))(x)
    close(jit(jax.grad(jit(function)))(x), first, 1e-11, to_numpy)
    close(jit(jax.jacfwd(function))(x), first, 1e-11, to_numpy)
    for outer, inner in orders:
        both = getattr(jax, outer)(getattr(jax, inner)(function))
        close(jit(both)(x), second, 1e-11, to_numpy, f"{outer} {inner}")
    many = jax.numpy.stack([x, x * 0.5])
    expected = jax.numpy.stack([first, gradient(x * 0.5)])
    close(jit(jax.vmap(jax.grad(function)))(many), expected, 1e-11, to_numpy)
    along = jax.grad(lambda x: jax.vmap(lambda row: sg.logsumexp(row))(x).sum())
    close(along(x), sg.softmax(x), 1e-13, to_numpy)


def test_gradients_of_weights_and_soft_targets(arguments, jax, asarray, to_numpy):
    x, labels, _ = arguments
    leaves = (x, asarray(RNG.random((3, 4))), asarray([0.5, 1.0, 2.0]), asarray([1.0, 2.0, 0.5, 3.0]))

    def function(x, q, w, c):
        loss = sg.CrossEntropy(label_smoothing=0.1, z_loss=0.1, class_weight=c)
        model = sg.linear_cross_entropy(x, q[:, :2], x[:2], sample_weight=w, class_weight=c[:2], block_size=2)
        return loss(x, q, sample_weight=w) + sg.CrossEntropy(class_weight=c)(x, labels, sample_weight=w) + model

    from jax.test_util import check_grads

    # in reverse JAX takes the transpose of what it has forward
    for order, mode in ((1, "fwd"), (2, "rev")):
        check_grads(jax.jit(function), leaves, order=order, modes=(mode,), atol=1e-5, rtol=1e-5)


def test_junk_that_does_not_count_reaches_no_derivative(jax, asarray, to_numpy):
    x = asarray([[np.nan, 1.0], [np.inf, -np.inf], [1.0, 2.0]])
    labels, weight = asarray([-100, 7, 1], "int64"), asarray([1.0, 0.0, 2.0])

    def function(x, w):
        return sg.cross_entropy(x, labels, sample_weight=w, ignore_index=-100, z_loss=0.1, reduction="sum")

    for transform in (jax.grad, lambda f, **kw: jax.jit(jax.jacfwd(f, **kw))):
        by_x, by_weight = transform(function, argnums=(0, 1))(x, weight)
        np.testing.assert_array_equal(to_numpy(by_x)[:2], 0.0)
        np.testing.assert_array_equal(to_numpy(by_weight)[:2], 0.0)
        assert np.isfinite(to_numpy(by_x)).all()
        assert to_numpy(by_weight)[2] > 0


def test_rows_hidden_whole_have_no_gradient(jax, asarray, to_numpy):
    x = asarray([[-np.inf, -np.inf], [np.nan, 1.0], [1.0, 2.0]])
    where = asarray([[False, False], [False, False], [True, True]], "bool")
    labels, soft = asarray([0, 1, 1], "int64"), asarray([[0.5, 0.5]] * 3)
    for function in (
        lambda x: sg.softmax(x, where=where)[:, 0].sum(),
        lambda x: jax.numpy.where(where, sg.log_softmax(x, where=where), 0.0)[:, 0].sum(),
        lambda x: sg.logsumexp(x, axis=-1, where=where)[2],
        lambda x: sg.cross_entropy(x, labels, where=where, z_loss=0.1),
        lambda x: sg.cross_entropy(x, soft, where=where, label_smoothing=0.1),
    ):
        gradient = to_numpy(jax.grad(function)(x))
        np.testing.assert_array_equal(gradient[:2], 0.0)
        assert np.isfinite(gradient).all()
        assert gradient[2].any()


def test_vmap_over_whatever_is_batched(arguments, jax, asarray, to_numpy):
    x, labels, where = arguments
    many, masks = jax.numpy.stack([x, x + 1, x * 2], axis=1), jax.numpy.stack([where, ~where, where], axis=2)
    for in_axes, args in (((1, None), (many, where)), ((None, 2), (x, masks)), ((1, 2), (many, masks))):
        for name in ("softmax", "log_softmax", "logsumexp"):

            def function(x, w, name=name):
                return getattr(sg, name)(x, axis=-1, where=w)

            pairs = list(zip(args, in_axes, strict=True))
            expected = [
                function(*(a if d is None else jax.numpy.take(a, i, axis=d) for a, d in pairs)) for i in range(3)
            ]
            close(jax.vmap(function, in_axes)(*args), jax.numpy.stack(expected), 1e-13, to_numpy)
    targets = jax.numpy.stack([labels, labels[::-1]])
    got = jax.vmap(lambda y: jax.grad(lambda x: sg.cross_entropy(x, y))(x))(targets)
    close(got, jax.numpy.stack([sg.cross_entropy_grad(x, y) for y in targets]), 1e-13, to_numpy)
