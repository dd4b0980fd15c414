"""PyTorch."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from ..memory import torch_memory
from ..typing import AnyArray, NDArray
from .declaration import ArrayLibrary


def _make(xp: Any, host: NDArray, dtype: str, device: Any) -> AnyArray:
    torch: Any = importlib.import_module("torch")
    device = torch.get_default_device() if device is None else device
    return torch.asarray(np.array(host), dtype=getattr(torch, dtype), device=device)


def _read(xp: Any, array: AnyArray) -> NDArray:
    if hasattr(array, "device_mesh"):
        raise TypeError("a DTensor is split over processes: pass its full_tensor(), or merge the processes' results")
    if _is_abstract(array):
        raise TypeError("a tensor without values (meta, fake) was given where values are wanted")
    array = array.detach().cpu()
    return np.asarray((array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy())


def _synchronize(results: Any) -> None:
    torch: Any = importlib.import_module("torch")
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _is_abstract(array: AnyArray) -> bool:
    return bool(array.is_meta) or hasattr(array, "fake_mode")


def _refuses(cls: type) -> str | None:
    masked = cls.__module__.startswith("torch.masked")
    return "a masked tensor's mask would be lost: pass its data and where=" if masked else None


def _refuses_array(x: AnyArray) -> str | None:
    if x.is_nested:
        return "is a nested tensor: pad it and pass where="
    return None if str(x.layout) == "torch.strided" else f"is a sparse tensor ({x.layout}): pass x.to_dense()"


def _can_branch(array: AnyArray) -> bool:
    # as torch.compile can follow, unlike an import
    torch: Any = sys.modules["torch"]
    # in a trace, or where a function is transformed, there may be no values
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    recorded = array.requires_grad and torch.is_grad_enabled()
    return not (recorded or _is_abstract(array) or hasattr(array, "device_mesh"))


def _as_like(a: AnyArray, x: AnyArray) -> AnyArray:
    if hasattr(x, "device_mesh"):
        tensor = importlib.import_module("torch.distributed.tensor")
        # every device has all of it
        return tensor.DTensor.from_local(a, x.device_mesh, [tensor.Replicate()] * x.device_mesh.ndim, run_check=False)
    return x.fake_mode.from_tensor(a) if hasattr(x, "fake_mode") else a


def _incompatible(x: AnyArray, other: AnyArray) -> bool:
    """Two subclasses, or one that mixes with no other beside one that is none."""
    if any(hasattr(x, name) != hasattr(other, name) for name in ("device_mesh", "fake_mode")):
        return True
    return not (isinstance(x, type(other)) or isinstance(other, type(x)))


def _gradient(X: AnyArray, labels: AnyArray, W: AnyArray) -> AnyArray:
    torch: Any = importlib.import_module("torch")
    W = W.detach().clone().requires_grad_()
    logits = W.T @ X
    chosen = logits.gather(0, labels.unsqueeze(0)).squeeze(0)
    loss = (torch.logsumexp(logits, 0) - chosen).sum()
    return torch.autograd.grad(loss, W)[0]


LIBRARY = ArrayLibrary(
    "torch",
    "torch",
    "PyTorch",
    types=("torch:Tensor",),
    compat="torch",
    formats=("float16", "bfloat16"),
    has_device=True,
    waits=True,
    make=_make,
    read=_read,
    synchronize=_synchronize,
    is_abstract=_is_abstract,
    refuses=_refuses,
    refuses_array=_refuses_array,
    incompatible=_incompatible,
    as_like=_as_like,
    can_branch=_can_branch,
    fuses=lambda: sys.modules["torch"].compiler.is_compiling(),
    scatter=lambda a, index, values, axis: a.scatter(axis, index.long(), values),
    memory=torch_memory,
    autograd="torch autograd",
    gradient=_gradient,
)
