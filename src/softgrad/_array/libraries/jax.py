"""JAX."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..memory import jax_memory
from ..typing import AnyArray, NDArray
from .declaration import ArrayLibrary, read_array


def _jax() -> Any:
    return importlib.import_module("jax")


def _make(xp: Any, host: NDArray, dtype: str, device: Any) -> AnyArray:
    host = np.array(host, dtype=None if dtype == "bfloat16" else dtype)
    # without x64, to ask for 64 bits would warn
    return xp.asarray(host, dtype=xp.bfloat16 if dtype == "bfloat16" else None, device=device)


def _is_abstract(array: AnyArray) -> bool:
    return isinstance(array, _jax().core.Tracer)


def _read(xp: Any, array: AnyArray) -> NDArray:
    if _is_abstract(array):
        raise TypeError("a traced array was given where values are wanted: call this outside of jit, grad and vmap")
    return np.asarray(array) if array.dtype != "bfloat16" else read_array(xp, array)


def _product(a: AnyArray, b: AnyArray) -> AnyArray:
    """The product; of float32 in float32 on every device, unless the user has set another precision."""
    jax = sys.modules["jax"]
    single = jax.numpy.result_type(a, b) == "float32" and jax.config.jax_default_matmul_precision is None
    return jax.numpy.matmul(a, b, precision="highest" if single else None)


@contextlib.contextmanager
def _session() -> Iterator[None]:
    jax = _jax()
    # older ones have it among the experiments alone
    module = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    # on an accelerator JAX multiplies float32 matrices in fewer bits unless told otherwise
    with module.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    # eagerly, JAX compiles every operation by itself: ten times as long
    compiled: Callable[..., Any] = _jax().jit(function)
    return compiled


def _gradient(X: AnyArray, labels: AnyArray, W: AnyArray) -> AnyArray:
    jax = _jax()

    def loss(W: AnyArray) -> AnyArray:
        logits = W.T @ X
        chosen = jax.numpy.take_along_axis(logits, labels[None, :], axis=0)[0]
        return jax.numpy.sum(jax.nn.logsumexp(logits, axis=0) - chosen)

    return jax.jit(jax.grad(loss))(W)


LIBRARY = ArrayLibrary(
    "jax",
    "jax.numpy",
    "JAX",
    formats=("float16", "bfloat16"),
    make=_make,
    read=_read,
    synchronize=lambda results: _jax().block_until_ready(results),
    device_label=lambda array: f"{array.device.platform}:{array.device.id}",
    is_abstract=_is_abstract,
    can_branch=lambda array: False,
    fuses=lambda: True,
    product=_product,
    scatter=lambda a, index, values, axis: _jax().numpy.put_along_axis(a, index, values, axis, inplace=False),
    memory=jax_memory,
    compile=_compile,
    session=_session,
    flushes=lambda: _jax().default_backend() == "cpu",
    autograd="jax.grad",
    gradient=_gradient,
)
