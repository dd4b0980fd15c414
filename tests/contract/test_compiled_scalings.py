"""Digits inside a compiler, which may contract what made the logits with the difference from their maximum."""

import numpy as np
import pytest

import softgrad as sg
from marks import full
from softgrad import partial

RNG = np.random.default_rng(11)
ROWS, CLASSES = 64, 10
LABELS = RNG.integers(0, CLASSES, ROWS)
#: Near 0 but at the label, so that a loss is small, and the digits of the other logits reach 1e-6 of it.
SMALL = (RNG.normal(size=(ROWS, CLASSES)) * 0.05).astype(np.float32)
SMALL[np.arange(ROWS), LABELS] = RNG.uniform(0.25, 0.31, ROWS)
SOFT = np.eye(CLASSES)[LABELS]
VECTOR = RNG.integers(-3, 4, SMALL.shape)
FACTORS = RNG.integers(1, 8, SMALL.shape) / 4
SHOWN = RNG.random(SMALL.shape) < 0.8
SHOWN[np.arange(ROWS), LABELS] = True
WEIGHTS = (0.3, 1.7, 0.7, 1.1, 0.9, 0.6, 1.3, 0.4, 1.9, 0.8)
SHIFT = (0.25, -1.5, 0.5, 2.0, -0.75, 1.25, 0.0, -0.5, 3.0, -2.0)
MIX = (np.eye(CLASSES) + RNG.normal(size=(CLASSES, CLASSES)) * 0.01).astype(np.float32)
#: What the kernels promise of float32: 70 units in the last place.
TOLERANCE = 70 * 2.0**-23

#: What makes the logits of an array, with a library's tanh and a matrix of it.
SCALINGS = {
    "temperature": lambda a, tanh, mix: a / 0.0123,
    "factor": lambda a, tanh, mix: a * 81.3,
    "softcap": lambda a, tanh, mix: 30 * tanh(a * (160 / 30)),
    "product": lambda a, tanh, mix: (a @ mix) * 81.3,
    "factor and constant": lambda a, tanh, mix: a * 81.3 + 3.1,
    # half a rounding more than the maximum has no exponential
    "huge factor": lambda a, tanh, mix: a * 3e11,
}


def each(**options):
    return sg.CrossEntropy(reduction="none", **options)


#: Of logits, labels, weights by class, a vector, factors and a mask; the same on any library.
FUNCTIONS = {
    "softmax": lambda x, y, q, u, b, w: sg.softmax(x),
    "log_softmax": lambda x, y, q, u, b, w: sg.log_softmax(x),
    "log_softmax, where": lambda x, y, q, u, b, w: sg.log_softmax(x, where=w),
    "logsumexp": lambda x, y, q, u, b, w: sg.logsumexp(x, axis=-1),
    "logsumexp, b": lambda x, y, q, u, b, w: sg.logsumexp(x, axis=-1, b=b),
    "loss": lambda x, y, q, u, b, w: each()(x, y),
    "loss, where": lambda x, y, q, u, b, w: each()(x, y, where=w),
    "loss, high": lambda x, y, q, u, b, w: each(precision="high")(x, y),
    "loss, scaled": lambda x, y, q, u, b, w: each(softcap=50.0, temperature=1.3, logit_shift=SHIFT)(x, y),
    "loss, focal": lambda x, y, q, u, b, w: each(temperature=0.7, focal=2.0).value_and_grad(x, y, where=w),
    "hvp, scaled": lambda x, y, q, u, b, w: each(softcap=50.0, temperature=1.3, logit_shift=SHIFT).hvp(x, y, u),
    "loss, dense": lambda x, y, q, u, b, w: each()(x, q * 0.7),
    "gradient": lambda x, y, q, u, b, w: each().grad(x, y),
    "gradient, dense": lambda x, y, q, u, b, w: each(class_weight=WEIGHTS).grad(x, q * 0.7),
    "value and gradient": lambda x, y, q, u, b, w: each(label_smoothing=0.1).value_and_grad(x, y),
    "hvp": lambda x, y, q, u, b, w: each().hvp(x, y, u),
    "hessian_diag": lambda x, y, q, u, b, w: each().hessian_diag(x, y),
    "partial": lambda x, y, q, u, b, w: partial.finish(partial.cross_entropy_partial(x, y)),
}


def flat(results):
    return [leaf for part in results for leaf in flat(part)] if isinstance(results, tuple) else [results]


def check(name, logits, results, to_numpy):
    """Compare with float64, of the logits as float32 holds them."""
    x = np.asarray(logits, np.float64)
    expected = FUNCTIONS[name](x, LABELS, SOFT, VECTOR, FACTORS, SHOWN)
    for one, other in zip(flat(results), flat(expected), strict=True):
        atol = 0.0
        if name == "hvp, scaled":  # with a softcap, terms of the second derivative cancel
            atol = TOLERANCE * np.abs(other).max(axis=-1, keepdims=True)
        elif name == "loss, focal":  # a third power, which may be subnormal
            atol = 4 * np.finfo(np.float32).tiny
        assert np.isclose(to_numpy(one), other, rtol=TOLERANCE, atol=atol).all(), name


@pytest.fixture
def arrays(asarray):
    """What FUNCTIONS take beside the logits, and MIX."""
    beside = [
        asarray(LABELS, "int64"),
        *(asarray(a, "float32") for a in (SOFT, VECTOR, FACTORS)),
        asarray(SHOWN, "bool"),
    ]
    return beside, asarray(MIX, "float32")


@pytest.mark.parametrize("taken", ["in turn", *full("all")])
@pytest.mark.parametrize("kernels", ["jax", "generic"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_jax_jit(scaling, kernels, taken, jax, asarray, arrays, to_numpy):
    beside, mix = arrays
    a = asarray(SMALL, "float32")
    # every third, so that both kernels of each meet a scaling; most go wrong where the factor is huge
    every = taken == "all" or scaling == "huge factor"
    names = list(FUNCTIONS) if every else list(FUNCTIONS)[list(SCALINGS).index(scaling) % 3 :: 3]

    def scale(a):
        return SCALINGS[scaling](a, jax.numpy.tanh, mix)

    with sg.backends.use(kernels):
        logits = to_numpy(jax.jit(scale)(a))
        results = jax.jit(lambda a: {name: FUNCTIONS[name](scale(a), *beside) for name in names})(a)
    for name, result in results.items():
        check(name, logits, result, to_numpy)


def test_jax_transforms_around_a_compiled_call(jax, asarray, arrays, to_numpy):
    a, labels = asarray(SMALL, "float32"), arrays[0][0]

    def loss(row, label):
        return sg.cross_entropy(row * 64.0, label)

    def second(row, label):
        return jax.jvp(jax.grad(jax.jit(loss)), (row, label), (row, np.zeros((), jax.dtypes.float0)))[1]

    values, slopes = jax.vmap(jax.value_and_grad(jax.jit(loss)))(a, labels)
    logits = 64.0 * SMALL
    check("loss", logits, values, to_numpy)
    check("gradient", logits, slopes / 64, to_numpy)
    curvature = each().hvp(logits.astype(np.float64), LABELS, 64.0 * logits)
    np.testing.assert_allclose(to_numpy(jax.vmap(second)(a, labels)), curvature, rtol=1e-5)


def test_torch_compile(torch, asarray, arrays, to_numpy):
    beside, mix = arrays
    chosen = {"factor": ("log_softmax", "gradient, dense"), "softcap": ("loss", "hessian_diag")}

    def scale(a):
        return tuple(SCALINGS[name](a, torch.tanh, mix) for name in chosen)

    def function(a):
        scaled = zip(scale(a), chosen.values(), strict=True)
        return tuple(tuple(FUNCTIONS[name](x, *beside) for name in names) for x, names in scaled)

    # as on a GPU: for a CPU this compiler is told to contract nothing
    with torch._inductor.config.patch({"cpp.enable_floating_point_contract_flag": "fast"}):
        logits, results = (torch.compile(f, fullgraph=True)(asarray(SMALL, "float32")) for f in (scale, function))
    for x, names, found in zip(logits, chosen.values(), results, strict=True):
        for name, result in zip(names, found, strict=True):
            check(name, to_numpy(x), result, to_numpy)
