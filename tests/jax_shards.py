"""Classes split over devices of JAX, with every option: ``python jax_shards.py COUNT``."""

import os
import sys

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={sys.argv[1]}"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

import parallel_cases as cases
from softgrad import parallel

try:
    from jax import shard_map
except ImportError:  # to JAX 0.5
    from jax.experimental.shard_map import shard_map

jax.config.update("jax_enable_x64", True)
COUNT = int(sys.argv[1])
# all devices hold as many classes: what is over is hidden
SHARE = -(-cases.K // COUNT)
SPARE = SHARE * COUNT - cases.K
SHARDED, SHARED = PartitionSpec(None, "classes"), PartitionSpec()
MESH = Mesh(np.asarray(jax.devices()), ("classes",))


def padded(a, value=0.0):
    return np.concatenate([a, np.full((*a.shape[:-1], SPARE), value, a.dtype)], axis=-1)


def close(result, expected):
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)


def meeting():
    return {"first_class": jax.lax.axis_index("classes") * SHARE, "reduce": parallel.jax_axis("classes")}


def held(a):
    """How an array lies on the devices: its last axis is that of the classes where it has as many as they."""
    if a.shape[-1] != SHARE * COUNT:
        return SHARED
    return PartitionSpec(*[None] * (a.ndim - 1), "classes")


def inputs(options):
    """(arrays, options that are numbers) of a case."""
    arrays = {"labels": cases.LABELS, "where": np.ones((cases.N, cases.K), bool), **options}
    plain = {name: arrays.pop(name) for name in list(arrays) if not isinstance(arrays[name], np.ndarray)}
    for name in arrays.keys() & {"where", "class_weight", "logit_shift"}:
        arrays[name] = padded(arrays[name], arrays[name].dtype.type(0))
    if arrays["labels"].ndim == 2:
        arrays["labels"] = padded(arrays["labels"])
    return arrays, plain


def over_devices(function, *arguments, out):
    specs = jax.tree.map(held, arguments)
    return jax.jit(shard_map(function, mesh=MESH, in_specs=specs, out_specs=out))


def dense(arrays, plain, value, grad):
    def call(logits, arrays):
        def loss(x):
            return parallel.cross_entropy(x, **arrays, **plain, **meeting())

        found, slope = parallel.cross_entropy_value_and_grad(logits, **arrays, **plain, **meeting())
        return found, slope, jax.grad(lambda x: jnp.sum(loss(x)))(logits)

    logits = padded(cases.LOGITS)
    run = over_devices(call, logits, arrays, out=(SHARED, SHARDED, SHARDED))
    found, *slopes = run(logits, arrays)
    close(found, value)
    for slope in slopes:
        close(slope[:, : cases.K], grad)
    return run.lower(logits, arrays).compile().as_text().count(" all-reduce(")


def linear(arrays, plain, value, grads):
    def call(X, W, bias, arrays):
        def loss(X, W, bias):
            return parallel.linear_cross_entropy(X, labels, W.T, bias, **rest, **plain, block_size=4, **meeting())

        rest = dict(arrays)
        labels = rest.pop("labels")
        if plain.get("reduction") == "none":
            return loss(X, W, bias)
        return jax.value_and_grad(loss, argnums=(1, 2, 0))(X, W, bias)

    given = cases.X, padded(cases.W.T), padded(cases.BIAS), arrays
    out = SHARED if grads is None else (SHARED, (SHARDED, PartitionSpec("classes"), SHARED))
    found = over_devices(call, *given, out=out)(*given)
    if grads is None:
        close(found, value)
        return
    close(found[0], value)
    for slope, grad in zip((found[1][0].T[: cases.K], found[1][1][: cases.K], found[1][2]), grads, strict=True):
        close(slope, grad)


assert len(jax.devices()) == COUNT
for name in sys.argv[2:]:
    chosen = cases.OPTIONS[name]
    collectives = dense(*inputs(chosen), *cases.whole(chosen)[0])
    # those of the explicit pair and of autodiff's forward pass, none of its backward pass: XLA makes one of equal ones
    least = len(cases.collectives(chosen))
    assert least <= collectives <= 2 * least, f"{name}: {collectives} collectives"
    linear(*inputs(chosen), *cases.whole(chosen)[1])
