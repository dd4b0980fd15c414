"""Random arguments: shapes, values with special ones among them, formats, strides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

LD = np.longdouble
SMALLEST = {"float64": 5e-324, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
LARGEST = {"float64": 1.79e308, "float32": 3.4e38, "float16": 65504.0, "bfloat16": 3.38e38}
SIZES = (1, 1, 2, 2, 3, 4, 7, 8, 12, 17, 33, 50, 130)
#: Elements, and classes, of an array that kernels for large ones take.
LARGE, MANY = (17_000, 66_000, 66_000, 90_000), (8, 16, 17, 40, 100, 256, 1000, 5000)
#: All shapes where each is compiled for.
FEW = ((5,), (17,), (4, 3), (3, 20), (2, 3, 5))


@dataclass
class Call:
    """One random call: enough to make it again, and to say what it was."""

    seed: tuple[int, int]
    library: str
    function: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    #: How many of the arrays are large ones.
    large: float = 0.0

    def __str__(self) -> str:
        options = {k: v if np.ndim(v) == 0 else f"array{np.shape(v)}" for k, v in self.options.items()}
        return f"--seed {self.seed[0]} --only {self.seed[1]}: {self.library} {self.function} {self.note} {options}"


def shape_of(rng, call, least=0):
    if call.library == "jax":
        return FEW[int(rng.integers(len(FEW)))]
    if rng.random() < call.large:
        k = int(rng.choice(MANY))
        n = -(-int(rng.choice(LARGE)) // k)
        return (k, n) if rng.random() < 0.1 else (2, n // 2, k) if rng.random() < 0.1 else (n, k)
    ndim = int(rng.choice([1, 1, 2, 2, 2, 3, 4])) if least or rng.random() > 0.03 else 0
    shape = [int(rng.choice(SIZES)) for _ in range(max(ndim, least))]
    while np.prod(shape, dtype=int) > 4000:
        shape[int(np.argmax(shape))] //= 2
    if rng.random() < 0.02 and shape:
        shape[int(rng.integers(len(shape)))] = 600
    if rng.random() < 0.03 and len(shape) > 1:
        shape[0] = 0
    return tuple(shape)


def values_of(rng, shape, dtype):
    scale = rng.choice([1e-3, 1.0, 1.0, 10.0, 100.0, 700.0])
    x = rng.normal(size=shape) * scale
    if rng.random() < 0.15:
        x = x + rng.choice([-1, 1]) * rng.choice([60.0, 500.0, 1e4])
    if rng.random() < 0.1:
        x = np.round(x)
    if rng.random() < 0.3 and x.size:
        special = [np.nan, np.inf, -np.inf, -np.inf, -0.0, 0.0, LARGEST[dtype], -LARGEST[dtype], SMALLEST[dtype]]
        chosen = rng.choice(special, int(rng.integers(1, 3)))
        x = np.where(rng.random(shape) < rng.choice([0.02, 0.3]), rng.choice(chosen, shape), x)
    if rng.random() < 0.05:
        x = np.full(shape, rng.normal() * scale)
    return np.clip(x, -LARGEST[dtype], LARGEST[dtype]) if dtype in ("float16", "bfloat16") else x


def strided(rng, x):
    """The same values, another layout of memory."""
    kind = rng.integers(6)
    if kind == 1 and x.ndim > 1:
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if kind == 2 and x.ndim:
        wide = np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        wide[..., 1::2] = np.asarray(77, x.dtype)
        return wide[..., ::2]
    if kind == 3 and x.ndim and x.shape[0] > 0:
        return np.broadcast_to(x[:1], x.shape)
    return x


def in_any_order(rng, x):
    """The same values, now and then in the other byte order."""
    return x.astype(x.dtype.newbyteorder()) if rng.random() < 0.1 else x


def given(rng, library, x, dtype):
    """(the array of the library, the exact values it holds)."""
    x = strided(rng, np.asarray(x).astype(np.float32 if dtype == "bfloat16" else dtype))
    if library == "torch":
        import torch

        base, strides = np.array(x), x.strides
        tensor = torch.from_numpy(base)
        if any(s == 0 and n > 1 for s, n in zip(strides, x.shape, strict=True)):
            tensor = tensor[:1].clone().expand(x.shape)
        elif x.ndim > 1 and not x.flags.c_contiguous:
            order = tuple(np.argsort([-s for s in strides], kind="stable"))
            tensor = tensor.permute(order).contiguous().permute(tuple(np.argsort(order)))
        tensor = tensor.to(getattr(torch, dtype))
        return tensor, tensor.double().numpy().astype(LD)
    if library == "jax":
        import jax.numpy as jnp

        array = jnp.asarray(np.array(x), dtype=dtype)
        return array, np.asarray(array.astype("float64")).astype(LD)
    if rng.random() < 0.1 and x.ndim:
        x = np.flip(np.ascontiguousarray(np.flip(x, -1)), -1)
    x = in_any_order(rng, x)
    if isinstance(x, np.ndarray) and x.flags.owndata and rng.random() < 0.3:
        x.flags.writeable = False
    return x, x.astype(LD)


def like(library, a):
    if library == "torch":
        import torch

        return torch.from_numpy(np.array(a))
    if library == "jax":
        import jax.numpy as jnp

        return jnp.asarray(a)
    return np.asarray(a)


def host(a):
    if isinstance(a, tuple):
        return tuple(host(part) for part in a)
    if hasattr(a, "detach"):
        return a.detach().double().numpy()
    if str(getattr(a, "dtype", "")) == "bfloat16":
        a = a.astype("float32")
    return np.asarray(a, dtype=np.float64)
