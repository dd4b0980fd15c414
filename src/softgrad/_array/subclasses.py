"""Subclasses of a library's array that mix with no other: shares of a tensor, tensors without values."""

from __future__ import annotations

import importlib

from .typing import Array


def adopt_tensor(a: Array, x: Array) -> Array:
    """A new tensor of the kind of ``x``, beside which no plain one may stand; every device has all of it."""
    if hasattr(x, "device_mesh"):
        tensor = importlib.import_module("torch.distributed.tensor")
        return tensor.DTensor.from_local(a, x.device_mesh, [tensor.Replicate()] * x.device_mesh.ndim, run_check=False)
    return x.fake_mode.from_tensor(a) if hasattr(x, "fake_mode") else a


def are_strangers(x: Array, other: Array) -> bool:
    """Whether no operation takes both: two subclasses, or one that mixes with no other beside one that is none."""
    if any(hasattr(x, name) != hasattr(other, name) for name in ("device_mesh", "fake_mode")):
        return True
    return not (isinstance(x, type(other)) or isinstance(other, type(x)))
