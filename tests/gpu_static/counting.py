"""Launches and bytes of PyTorch's calls on CUDA tensors without values, Triton's kernels among them."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import JITFunction

from softgrad.backends import triton
from softgrad.backends.torch import blocks
from softgrad.backends.triton import loss, rows

_NOTHING = ("empty", "detach", "alias", "resolve")


def _bytes(a: torch.Tensor) -> int:
    """Of the elements that there are: an expanded axis is one."""
    return math.prod(n for n, step in zip(a.shape, a.stride(), strict=True) if step) * a.element_size()


class Count(TorchDispatchMode):
    """What ran, and what it read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.bytes = 0

    def add(self, name: str, tensors: list[Any]) -> None:
        """One launch."""
        self.launches[name] += 1
        self.bytes += sum(_bytes(a) for a in tensors if isinstance(a, torch.Tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        views = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if func.namespace == "aten" and not views and not name.startswith(_NOTHING):
            written = tree_leaves(out)
            # what is written in place, or into an "out", is read only where the operation is in place
            given = {k: a for k, a in (kwargs or {}).items() if k != "out"}
            read = [a for a in tree_leaves((args, given)) if not (name in ("fill_", "copy_", "zero_") and a is args[0])]
            self.add(name, [*written, *read])
        return out


@contextlib.contextmanager
def counted(monkeypatch: Any) -> Iterator[Count]:
    """Count what the calls in the block launch on CUDA tensors that hold nothing."""
    count = Count()

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        name = self.__name__
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        writes = kwargs.get("GRAD") or kwargs.get("MODE", 2) != 2 or name == "vjp_loop"
        # the logits come first: a loop reads them again to write, and of a split row this is the second kernel
        readings = bool(writes) + (not kwargs.get("SPLIT")) if name.endswith("loop") else 1
        # as it does masks, and targets by class or cotangents
        second = kwargs.get("DENSE") or name.startswith("vjp")
        again = [a for i, a in enumerate(tensors) if i == 0 or a.dtype is torch.bool or (i == 1 and second)]
        once = [a for a in tensors if not any(a is each for each in again)]
        count.add(name, [*once, *again * readings])

    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setattr(blocks, "_modes", lambda: 0)
    monkeypatch.setattr(blocks, "_REAL", (*blocks._REAL, torch._subclasses.FakeTensor))
    for module in (rows, loss):
        monkeypatch.setattr(module, "on_device_of", lambda x: contextlib.nullcontext())
    assert triton.BACKEND is not None
    with FakeTensorMode(), count:
        yield count
