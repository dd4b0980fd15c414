"""The floating formats that are measured: their limits, rounding to them, and errors in their last place."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Doubles: TypeAlias = npt.NDArray[np.float64]


class Format(NamedTuple):
    """A binary floating format."""

    name: str
    #: Bits of the significand, the leading one counted.
    digits: int
    #: Exponent of the smallest normal number.
    least: int
    #: The largest finite number.
    largest: float
    #: Gaps at which exp is still a normal number, and at which it is not yet 0.
    normal_gap: float
    last_gap: float

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return float(2.0**self.least)

    def round(self, a: Any) -> Doubles:
        """``a``, in float64, rounded to the format."""
        a = np.asarray(a, dtype=np.float64)
        if self.name == "float64":
            return a
        if self.name != "bfloat16":
            with np.errstate(over="ignore", under="ignore"):
                return a.astype(self.name).astype(np.float64)
        # to single precision first: what is measured is the rounded number, however it was rounded
        bits = a.astype(np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)


FORMATS = {
    f.name: f
    for f in (
        Format("float16", 11, -14, 65504.0, 9.7, 17.0),
        Format("bfloat16", 8, -126, (2 - 2.0**-7) * 2.0**127, 87.0, 92.0),
        Format("float32", 24, -126, (2 - 2.0**-23) * 2.0**127, 87.0, 103.5),
        Format("float64", 53, -1022, float(np.finfo(np.float64).max), 708.0, 744.0),
    )
}


class Exact(NamedTuple):
    """Numbers (high + low) 2**exponent, high 0 or in [1/2, 1), of more than 100 bits; or special ones, in high."""

    high: Doubles
    low: Doubles
    exponent: npt.NDArray[np.int64]

    def take(self, index: Any) -> Exact:
        """The numbers at ``index``."""
        return Exact(self.high[index], self.low[index], self.exponent[index])


def ulps(got: Any, exact: Exact, form: Format, scale: Exact | None = None, slack: float = 0.0) -> Doubles:
    """Distance of ``got`` from ``exact`` in units in the last place of the exact number.

    With ``scale``, in those of the larger of the two magnitudes; what is within ``slack`` counts for nothing.
    Infinity where one is finite and the other is not, or where 0 is exact and ``got`` is something else.
    """
    got = np.asarray(got, dtype=np.float64)
    if got.shape != exact.high.shape:
        raise ValueError(f"got has shape {got.shape}, the reference {exact.high.shape}")
    exponent = exact.exponent
    if scale is not None:
        exponent = np.maximum(exponent, np.where(scale.high == 0, -(1 << 20), scale.exponent))
    finite = np.isfinite(exact.high)
    # beyond the largest number by half a unit the result is to be infinite
    over = finite & (_ldexp(np.abs(exact.high), exact.exponent) >= form.largest)
    unit = np.maximum(exponent - form.digits, form.least - form.digits + 1)
    with np.errstate(all="ignore"):
        error = np.abs((_ldexp(got, -exact.exponent) - exact.high) - exact.low)
        if slack:
            error = np.maximum(error - _ldexp(np.full(error.shape, slack), -exact.exponent), 0.0)
        out = _ldexp(error, exact.exponent - unit)
    out = np.where(
        finite & ~np.isfinite(got), np.where(over & (got == np.copysign(np.inf, exact.high)), 0, np.inf), out
    )
    same = (got == exact.high) | (np.isnan(got) & np.isnan(exact.high))
    out = np.where(finite, out, np.where(same, 0.0, np.inf))
    return np.asarray(np.where(finite & (exact.high == 0), np.where(got == 0, 0.0, np.inf), out), dtype=np.float64)


def lost(got: Any, exact: Exact, form: Format, least: float = 0.0) -> npt.NDArray[np.bool_]:
    """Where ``got`` is 0, NaN or infinite though the exact result is a normal number, and larger than ``least``."""
    got = np.asarray(got, dtype=np.float64)
    size = _ldexp(np.abs(exact.high), exact.exponent)
    normal = np.isfinite(exact.high) & (size >= max(form.tiny, least)) & (size <= form.largest)
    return np.asarray(normal & ((got == 0) | ~np.isfinite(got)))


def _ldexp(a: Doubles, exponent: npt.NDArray[np.int64]) -> Doubles:
    # in two steps, each a normal power of two: the first may not lose what the second brings back
    with np.errstate(all="ignore"):
        whole = np.clip(exponent, -4200, 4200)
        half = whole // 2
        return np.asarray(np.ldexp(np.ldexp(a, half.astype(np.intc)), (whole - half).astype(np.intc)))
