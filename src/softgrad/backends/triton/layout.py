"""How Triton's kernels are launched: an array as (outer, classes, inner), and how many rows a program takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..._options import LossArgs

#: Classes that fit in registers, and elements that a program of short rows has.
TILE, SHORT = 8192, 2048
#: Classes of a turn where they do not fit.
BLOCK = 4096
#: Rows up to which each of their chunks has a program of its own, where it has at least so many: more rows fill a GPU,
#: and the second reading of one finds it in the cache where its program has just read it. Of more chunks than the last,
#: each of which reads what all have found, the programs would be slower than one; and a grid has 65,535 at most.
SPLIT_ROWS, SPLIT_PARTS, SPLIT_MOST = 128, 8, 1024
#: The same where classes are not next to each other, and the rows whose elements of a class are.
APART_TILE, APART_ELEMENTS, APART_BLOCK, APART_ROWS = 256, 4096, 128, 32


#: What a kernel is handed through before it is launched.
Wrap: TypeAlias = Callable[[Any], Any]


class Launch(NamedTuple):
    """The kernel to take, its grid and its shape."""

    #: Whether rows stay in registers.
    tile: bool
    grid: tuple[int, int]
    rows: int
    block: int
    warps: int
    #: Chunks of a row, where each goes to a program; otherwise 0.
    parts: int

    def scratch(self, x: Tensor, numbers: int = 4) -> Tensor | None:
        """For what is found in the chunks of a row, so many numbers each, on the device of ``x``."""
        size = self.grid[0], self.parts, numbers
        return torch.empty(size, dtype=torch.float32, device=x.device) if self.parts else None


def power_of_two(n: int) -> int:
    """The lowest that is at least ``n``."""
    return 1 << max(0, n - 1).bit_length()


def launch(n: int, k: int, together: bool, may_split: bool = False, heavy: bool = False) -> Launch:
    """For ``n`` rows of ``k`` classes, which are next to each other or not; a row's order of sums depends on ``k``.

    What is ``heavy`` has half the elements a thread: it needs their registers.
    """
    block = power_of_two(k)
    tile = block <= (TILE if together else APART_TILE) // (2 if heavy else 1)
    if together:
        rows = max(1, SHORT // block) if tile else 1
        block = block if tile else BLOCK
    else:
        rows = APART_ELEMENTS // block if tile else APART_ROWS
        block = block if tile else APART_BLOCK
    rows = min(rows, 256)
    warps = min(16, max(4, rows * block // (256 if heavy else 512)))
    parts = -(-k // block)
    if not may_split or tile or not together or n > SPLIT_ROWS or not SPLIT_PARTS <= parts <= SPLIT_MOST:
        parts = 0
    return Launch(tile, (-(-n // rows), max(1, parts)), rows, block, warps, parts)


def strides(a: Tensor | None) -> tuple[int, int, int]:
    """Elements from one to the next of outer, inner, classes; ``a`` is (rows, classes) or (outer, classes, inner)."""
    if a is None:
        return 0, 0, 0
    return (a.stride(0), a.stride(2), a.stride(1)) if a.ndim == 3 else (a.stride(0), 0, a.stride(1))


def together(a: Tensor) -> bool:
    """Whether the classes of a row are next to each other."""
    return a.stride(1) == 1 or a.shape[1] == 1


def how(where: Tensor | None, args: LossArgs | None = None) -> int:
    """What a kernel does to logits before it takes their exponentials, as ``scaling`` numbers it."""
    scaled = 0
    if args is not None:
        scaled = (args.softcap is not None) + 2 * (args.temperature != 1.0) + 4 * (args.logit_shift is not None)
    return scaled + 8 * (where is not None)


def on_device_of(x: Tensor) -> AbstractContextManager[None]:
    """Triton launches on the current device."""
    device: AbstractContextManager[None] = torch.cuda.device_of(x)
    return device


def as_it_is(kernel: Any) -> Any:
    """The kernel, launched at once."""
    return kernel


def seen_by_compilers(kernel: Any) -> Any:
    """The kernel, which a compiler that traces its launch puts into its graph."""
    wrap: Wrap = getattr(torch.library, "wrap_triton", as_it_is)
    return wrap(kernel)
