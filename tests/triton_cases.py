"""What the tests of Triton's kernels share: numbers, the exact result, and rows cut into small chunks."""

from __future__ import annotations

from typing import Any

import torch

import softgrad as sg
from softgrad import backends
from softgrad.backends.triton import layout

DENSE = ("softmax", "log_softmax", "logsumexp")
#: Of ``layout``, so that few classes go through a loop over several chunks, next to each other in memory or apart.
_SMALL = {"TILE": 2, "BLOCK": 16, "APART_TILE": 2, "APART_BLOCK": 2, "APART_ROWS": 4}


def in_chunks(monkeypatch: Any, **more: int) -> None:
    """Rows do not fit; ``SPLIT_PARTS=2``: their chunks have programs of their own, to the bits of a loop over them."""
    for name, number in (_SMALL | more).items():
        monkeypatch.setattr(layout, name, number)


def drawn(shape: Any, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    """Normal numbers."""
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def wide(a: Any) -> Any:
    """A floating tensor in double precision; anything else as it is."""
    return a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a


def exact(function: str, *args: Any, **kwargs: Any) -> Any:
    """The generic kernels in double precision."""
    with backends.use("generic"):
        return getattr(sg, function)(*map(wide, args), **{name: wide(each) for name, each in kwargs.items()})


def assert_close(got: Any, want: Any, tolerance: float) -> None:
    """Each result within ``tolerance``, of its size or of 1."""
    for a, b in zip(*((each if isinstance(each, tuple) else (each,)) for each in (got, want)), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance, equal_nan=True)
