"""How much memory the device of an array has, which the blocks of a linear model are cut by."""

from __future__ import annotations

import functools
import sys

from .typing import AnyArray

#: Bytes of a device whose library does not tell.
UNKNOWN = 16 << 30


@functools.cache
def _cuda_memory(index: int) -> int:
    torch = sys.modules["torch"]
    return int(torch.cuda.get_device_properties(index).total_memory) if torch.cuda.is_available() else UNKNOWN


def _of_cuda(index: int) -> int:
    return _cuda_memory(index)


# torch.compile runs what is marked so while it traces
vars(_of_cuda)["_dynamo_marked_constant"] = True


def torch_memory(x: AnyArray) -> int | None:
    """Bytes of a tensor's device; None on a CPU."""
    device = x.device
    if device.type in ("cpu", "meta"):
        return None
    return _of_cuda(device.index or 0) if device.type == "cuda" else UNKNOWN


def cupy_memory(x: AnyArray) -> int:
    """Bytes of a CuPy array's device."""
    return int(x.device.mem_info[1])


@functools.cache
def _jax_memory() -> int | None:
    device = sys.modules["jax"].devices()[0]
    if device.platform == "cpu":
        return None
    return int((device.memory_stats() or {}).get("bytes_limit", UNKNOWN))


def jax_memory(x: AnyArray) -> int | None:
    """Bytes of JAX's default device, since a traced array has none; None on a CPU."""
    return _jax_memory()
