"""What a program asked of the device: the recorder, and contexts that read it or forbid some of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class HostTransferError(RuntimeError):
    """A copy to the host, or a wait for the device, where :func:`forbid_host_copies` forbids them."""


@dataclass
class Record:
    """Counts of what was asked of the device.

    Attributes
    ----------
    launches : list of str
        Name of each kernel launched, cuBLAS and Thrust calls included, in order.
    d2h, h2d, d2d : int
        Copies from device to host, from host to device, and within the device.
    memsets : int
        Fills of device memory.
    syncs : int
        Waits of the host for the device.
    compiled : int
        Kernel modules that g++ compiled, the cache not having had them.
    peak_bytes : int
        Most device memory in use at one time. In a record of :func:`count`: above what was in use at its start.
    """

    launches: list[str] = field(default_factory=list)
    d2h: int = 0
    h2d: int = 0
    d2d: int = 0
    memsets: int = 0
    syncs: int = 0
    compiled: int = 0
    peak_bytes: int = 0


class Source(NamedTuple):
    """What CuPy would give NVRTC: the CUDA source, the options and the instances of templates that it asks for."""

    text: str
    options: tuple[str, ...]
    name_expressions: tuple[str, ...]


class Log(Record):
    """The record of the whole process, with the memory in use now and every source that was to be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[Source, None] = {}
        self.bytes_in_use = 0
        self._forbidden = 0
        self.runs = True

    def to_host(self, what: str) -> None:
        """Refuse a transfer to the host or a wait for the device, if they are forbidden now."""
        if self._forbidden:
            raise HostTransferError(f"{what}, inside forbid_host_copies()")

    def allocated(self, size: int) -> None:
        self.bytes_in_use += size
        self.peak_bytes = max(self.peak_bytes, self.bytes_in_use)


log = Log()


@contextlib.contextmanager
def forbid_host_copies() -> Iterator[None]:
    """Raise :class:`HostTransferError` at every copy to the host, and every wait for the device, inside.

    Examples
    --------
    >>> with forbid_host_copies():
    ...     total = x.sum()  # stays on the device
    ...     float(total)
    Traceback (most recent call last):
    HostTransferError: a copy of 8 bytes from the device to the host, inside forbid_host_copies()
    """
    log._forbidden += 1
    try:
        yield
    finally:
        log._forbidden -= 1


@contextlib.contextmanager
def sources_alone() -> Iterator[None]:
    """Keep what would be compiled, but compile and run nothing: arrays hold anything, here and in the process after."""
    log.runs = False
    try:
        yield
    finally:
        log.runs = True


@contextlib.contextmanager
def count() -> Iterator[Record]:
    """Record what is asked of the device inside; the record is complete when the context ends.

    Examples
    --------
    >>> with count() as record:
    ...     y = cupy.exp(x)
    >>> record.launches
    ['cupy_exp__float64_float64']
    """
    counters = ("d2h", "h2d", "d2d", "memsets", "syncs", "compiled")
    before = {name: getattr(log, name) for name in counters}
    launched, in_use, peak = len(log.launches), log.bytes_in_use, log.peak_bytes
    log.peak_bytes = in_use
    record = Record()
    try:
        yield record
    finally:
        record.launches = log.launches[launched:]
        for name in counters:
            setattr(record, name, getattr(log, name) - before[name])
        record.peak_bytes = log.peak_bytes - in_use
        log.peak_bytes = max(peak, log.peak_bytes)
