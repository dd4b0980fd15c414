"""What the NumPy kernels share: layout, blocks, scratch memory and sums.

Every array is seen as (outer, class, inner), a view wherever its strides allow. A block is worked on either as rows
(samples, classes) or, where rows are short or lie apart in memory, class first as (classes, samples).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from .. import _threads

#: Numbers whose copies stay in the nearest cache.
AT_A_TIME = 1 << 13
Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Block: TypeAlias = tuple[int, int, int, int]
T = TypeVar("T")

#: Bytes of a block: of two arrays, both stay in a core's cache.
CACHE_BYTES = 1 << 20
#: Samples of a block of data that stand class first, so that lines and pages of memory are used whole: at least, and
#: wanted as far as the block stays within these bytes.
FEWEST_COLUMNS, WANTED_COLUMNS, WIDE_BYTES = 64, 2048, 4 << 20
#: A row of at least this many classes is worked on in place, and NumPy's buffer for operands that are broadcast over
#: a row made this small: filling it costs twice what the row's own work does.
UNBUFFERED = 256
#: Elements that are worth a thread, and up to which there is one block.
THREAD_ELEMENTS, SMALL = 1 << 17, 1 << 13
#: Terms of one sum of a row, and of one along a strided axis, before a sum goes up a level.
TERMS, LEVEL = 1024, 16
#: NumPy's own sums of rows; those of BLAS depend on how many rows there are.
_einsum: Callable[..., Any] = np.einsum
#: Given their arguments by position, which a small array's call takes half as long for.
_sum: Callable[..., Any] = np.add.reduce
_min: Callable[..., Any] = np.minimum.reduce
_NO_STARTS = np.empty(0, np.intp)
#: Numbers that are looked at sooner as a list.
AS_LIST = 32


#: Numbers below this round to half precision without an overflow that is not infinity's own bits.
HALF_LIMIT = 65536.0


class View(NamedTuple):
    """An array as (outer, class, inner), and the order of axes that made it so."""

    x: Floats
    axis: int
    order: tuple[int, ...]

    def _sample_order(self) -> tuple[int, ...]:
        return tuple(i - (i > self.axis) for i in self.order if i != self.axis)

    def samples(self, a: Floats) -> Floats:
        """An array of the samples' shape as (outer, inner)."""
        return a.transpose(self._sample_order()).reshape(self.x.shape[0], self.x.shape[2])

    def logits(self, a: Floats) -> Floats:
        """Another array of the logits' shape as (outer, class, inner)."""
        return a.transpose(self.order).reshape(self.x.shape)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Floats, Floats]:
        """A new array of the logits' shape in their order of memory, and its (outer, class, inner)."""
        base = np.empty([shape[i] for i in self.order], dtype)
        return base.transpose(_inverse(self.order)), base.reshape(self.x.shape)

    def empty_samples(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Floats, Floats]:
        """A new array of the samples' shape, and its (outer, inner)."""
        order = self._sample_order()
        base = np.empty([shape[i] for i in order], dtype)
        return base.transpose(_inverse(order)), base.reshape(self.x.shape[0], self.x.shape[2])


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def memory_order(x: Floats) -> tuple[int, ...]:
    """The axes in the order of memory."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    return tuple(sorted(range(x.ndim), key=lambda i: (-abs(x.strides[i]), i)))


def view(x: Floats, axis: int) -> View:
    """See ``x`` as (outer, class, inner), its axes in the order of memory."""
    order = memory_order(x)
    at = order.index(axis)
    ordered = [x.shape[i] for i in order]
    shape = (math.prod(ordered[:at]), x.shape[axis], math.prod(ordered[at + 1 :]))
    return View(np.asarray(x).transpose(order).reshape(shape), axis, order)


def in_rows(a: Floats, axis: int) -> Floats:
    """The axis last and the whole contiguous: NumPy takes sums in an order that the layout of memory decides."""
    if axis == a.ndim - 1 and a.flags.c_contiguous:
        return a
    return np.ascontiguousarray(np.moveaxis(a, axis, -1))


def over_blocks(
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    make: Callable[[Memory], Callable[[Block], T]],
    block_bytes: int | None = None,
) -> list[T]:
    """Cut (outer, class, inner) into blocks, give them to the workers, return what came, in order.

    ``make(scratch memory)`` gives the function of a block, for one thread at a time.
    """
    outer, k, inner = shape
    if outer * k * inner <= SMALL:
        # of warnings the caller takes care
        return [make(Memory(dtype))((0, outer, 0, inner))]
    itemsize = dtype.itemsize
    elements = max(1, (block_bytes or CACHE_BYTES) // itemsize)
    split_inner = k * inner > elements and inner > FEWEST_COLUMNS
    n = inner if split_inner else outer
    each = k if split_inner else k * inner
    size = max(1, elements // max(1, each))
    if split_inner:
        size = max(size, min(WANTED_COLUMNS, WIDE_BYTES // (k * itemsize)), FEWEST_COLUMNS)
    parts = threads_for(outer * k * inner)
    size = _even(n, size, 1 if split_inner and outer > 1 else parts)
    if size * inner * itemsize % 1024 == 0 and size < n:
        size += 3  # classes a power of two apart would fall on one another in the cache
    pieces = [(i, min(i + size, n)) for i in range(0, n, size)]
    if split_inner:
        blocks = [(o, o + 1, *piece) for o in range(outer) for piece in pieces]
    else:
        blocks = [(*piece, 0, inner) for piece in pieces]
    spare: list[tuple[Memory, Callable[[Block], T]]] = []

    def task(start: int, stop: int) -> list[T]:
        try:
            memory, work = spare.pop()
            memory.free = True
        except IndexError:
            memory = Memory(dtype)
            work = make(memory)
        with np.errstate(all="ignore"):  # which bounds the life of the buffer's size too
            if k >= UNBUFFERED:
                np.setbufsize(UNBUFFERED)
            out = [work(block) for block in blocks[start:stop]]
        spare.append((memory, work))
        return out

    return [result for results in _threads.run(task, len(blocks), parts) for result in results]


def threads_for(elements: int, each: int | None = None) -> int:
    """How many threads that much work is worth, ``each`` elements a thread."""
    least = each or THREAD_ELEMENTS
    return min(_threads.count(), elements // least) if elements >= 2 * least else 1


def _even(n: int, size: int, parts: int) -> int:
    """A size near ``size`` that makes equal blocks, and as many for each thread."""
    count = -(-n // size)
    if parts > 1:
        count = -(-count // parts) * parts
    return max(1, -(-n // max(1, count)))


class Memory:
    """Scratch memory of one thread: arrays that are asked for by number and grow to the largest shape."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        #: Whether blocks are tried without a shift; the first that cannot be ends it, for its piece of the call.
        self.free = True
        self._buffers: dict[int, Floats] = {}
        self._starts = _NO_STARTS
        self._step = 0

    def __call__(self, number: int, shape: tuple[int, ...]) -> Floats:
        """Scratch array ``number``, with anything in it."""
        buffer = self._buffers.get(number)
        if buffer is not None and buffer.shape == shape:
            return buffer
        if buffer is None or buffer.size < (size := math.prod(shape)):
            buffer = self._buffers[number] = np.empty(shape, self.dtype)
            return buffer
        return buffer.reshape(-1)[:size].reshape(shape)

    def starts(self, n: int, step: int) -> Floats:
        """0, step, 2 step, ... (n of them): where rows begin in flat memory."""
        if self._step != step or self._starts.size < n:
            self._step, self._starts = step, np.arange(0, n * step, step)
        return self._starts[:n]

    def row_sums(self, e: Floats, out: Floats) -> Floats:
        """Sum of each row of a contiguous array, whose order depends on the number of classes alone."""
        n, k = e.shape
        whole = k // TERMS * TERMS
        if whole <= TERMS and whole in (0, k):
            return _einsum("ij->i", e, out=out)
        np.add.reduce(_einsum("ijk->ij", e[:, :whole].reshape(n, -1, TERMS)), axis=1, out=out)
        if whole < k:
            out += _einsum("ij->i", e[:, whole:])
        return out


def row_dots(e: Floats, v: Floats) -> Floats:
    """Dot product of each row with ``v``, in pieces of a bounded number of terms."""
    n, k = e.shape
    whole = k // TERMS * TERMS
    axes = "j" if v.ndim == 1 else "ij"
    if whole <= TERMS and whole in (0, k):
        return _einsum(f"ij,{axes}->i", e, v)
    pieces = v[..., :whole].reshape(*v.shape[:-1], -1, TERMS)
    parts = _einsum(f"ijk,{axes}k->ij", e[:, :whole].reshape(n, -1, TERMS), pieces)
    total: Floats = np.add.reduce(parts, axis=1)
    return total + _einsum(f"ij,{axes}->i", e[:, whole:], v[..., whole:]) if whole < k else total


def all_finite(a: Floats) -> bool:
    """Whether all numbers of a one-dimensional array are finite."""
    return (a.size <= AS_LIST and math.isfinite(sum(a.tolist()))) or bool(np.logical_and.reduce(np.isfinite(a)))


def least(a: Floats) -> float:
    """The smallest number of a one-dimensional array, or any or NaN where one of them is NaN."""
    return float(min(a.tolist()) if a.size <= AS_LIST else _min(a))


def column_sums(z: Floats, out: Floats) -> Floats:
    """Sum over the first axis, in levels."""
    k = z.shape[0]
    if z.size == k <= 2 * LEVEL:
        # NumPy adds up one column as a row, in another order
        out[...] = np.add.accumulate(z, axis=0)[-1]
        return out
    while k > 2 * LEVEL:
        whole = k // LEVEL
        sums = np.add.reduce(z[: whole * LEVEL].reshape(whole, LEVEL, -1), axis=1)
        if whole * LEVEL < k:
            sums = np.concatenate([sums, np.add.reduce(z[whole * LEVEL :], axis=0, keepdims=True)])
        z, k = sums, len(sums)
    return _sum(z, 0, None, out)


def column_rests(e: Floats, whole: Floats, out: Floats) -> Floats:
    """Sum over the first axis less one, where the largest of each column is 1; ``e`` is lost.

    What is 1 is taken off before the sum, which then has nothing to cancel, and its ties are counted.
    """
    if len(e) == 2:
        return np.minimum(e[0], e[1], out=out)
    np.floor(e, out=whole)
    ones = np.count_nonzero(whole if e.size <= SMALL else e == 1)
    np.subtract(e, whole, out=e)
    column_sums(e, out)
    # a column that is hidden whole or NaN holds no 1, and would make up for a tie in the count
    if ones != e.shape[1] or not _min(out) > 0:
        out += column_sums(whole, np.empty_like(out)) - 1
    return out


def narrow(wide: Floats, out: Floats) -> None:
    """Write ``wide`` to ``out`` in its dtype; nothing to do if they are one."""
    if out is wide:
        return
    if out.dtype.char == "e":
        wide = _odd(wide) if wide.dtype.char == "d" else np.ascontiguousarray(wide, np.float32)
        if wide.size and np.abs(wide).max() < HALF_LIMIT:
            out.view(np.uint16)[...] = _half_bits(wide)
            return
    np.copyto(out, wide, casting="same_kind")


def _odd(wide: Floats) -> Floats:
    """Float64 in float32, to an odd number where it is none: rounded again, it is as if it had been rounded once."""
    single = np.ascontiguousarray(wide, np.float32)
    bits = single.view(np.int32)
    back = single.astype(np.float64)
    bits -= np.abs(back) > np.abs(wide)
    bits |= back != wide
    return single


def unsure(wide: Floats, share: float, dtype: np.dtype[Any], axis: int, more: float = 0.0) -> Floats:
    """The numbers of the samples, ``axis`` left out, with a result that may be rounded either way.

    A result may be off by ``share`` of itself and of ``more``.
    """
    if not more and dtype.char == "f" and wide.flags.c_contiguous and _all_sure(wide.reshape(-1), share):
        return np.empty(0, np.intp)
    near = _near_ties_of_half(wide) if dtype.char == "e" and not more else None
    some = wide if near is None else wide[near]
    size = (np.abs(some) + more) * share
    low, high = np.empty(some.shape, dtype), np.empty(some.shape, dtype)
    narrow(some - size, low)
    narrow(some + size, high)
    apart = (low != high) & np.isfinite(some)
    if near is not None:
        near[near] = apart
        apart = near
    return np.flatnonzero(apart.any(axis) if wide.ndim > 1 else apart)


def _near_ties_of_half(wide: Floats) -> Floats:
    """Numbers that are ties of half precision once they are rounded to single precision, as all that are near one."""
    bits = np.abs(wide.astype(np.float32)).view(np.uint32)
    ties = (bits & np.uint32(0x1FFF)) == np.uint32(0x1000)
    # below 2**-14 numbers of half precision are 2**-24 apart, as those of single precision from 1/2 to 1
    size = bits.view(np.float32)
    off = size - ((size + np.float32(0.5)) - np.float32(0.5))
    return np.where(size < np.float32(2.0**-14), np.abs(off) == np.float32(2.0**-25), ties)


def _all_sure(flat: Floats, share: float) -> bool:
    """Whether numbers are rounded to the same ones of float32 if a share of them is added or taken."""
    moved, low, high = (np.empty(AT_A_TIME, dtype) for dtype in (np.float64, np.float32, np.float32))
    for start in range(0, flat.size, AT_A_TIME):
        some = flat[start : start + AT_A_TIME]
        n = some.size
        np.copyto(low[:n], np.multiply(some, 1 - share, out=moved[:n]), casting="same_kind")
        np.copyto(high[:n], np.multiply(some, 1 + share, out=moved[:n]), casting="same_kind")
        if not np.array_equal(low[:n], high[:n]):
            return False
    return True


def _half_bits(wide: Floats) -> Floats:
    """Bits of numbers rounded to half precision, ties to even; NumPy's own way raises a flag for each tiny one."""
    bits = wide.view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    # tiny: adding 1/2 leaves what half precision keeps in the lowest bits
    tiny = np.add(size.view(np.float32), np.float32(0.5)).view(np.uint32) - np.uint32(0x3F000000)
    usual = size + (((size >> np.uint32(13)) & np.uint32(1)) + np.uint32(0xC8000FFF))
    usual >>= np.uint32(13)
    half = np.where(size < np.uint32(0x38800000), tiny, usual)
    half |= (bits >> np.uint32(16)) & np.uint32(0x8000)
    return half


def hide(x: Floats, mask: Floats) -> Floats:
    """-inf where ``mask`` is False, else ``x``; by bits, where choosing would guess each branch."""
    word = np.int32 if x.dtype.char == "f" else np.int64
    keep = np.negative(mask.view(np.int8), dtype=word)
    bits = np.bitwise_and(x.view(word), keep)
    np.invert(keep, out=keep)
    np.bitwise_and(keep, np.asarray(-np.inf, x.dtype).view(word), out=keep)
    bits |= keep
    return bits.view(x.dtype)
