"""What softgrad promises: the most units in the last place that a result may be off."""

from __future__ import annotations

from ._formats import Format

#: A gap x - max is rounded to 24 or 53 bits, which exp multiplies by up to 64 (gaps to 128) or 512 (to 1024) units;
#: six are left to the rest.
DEFAULT = {"float32": 64 + 6.0, "float64": 512 + 6.0}
#: The formats that are computed in single precision, or for high in double precision.
ROUNDED = 0.51
DEFAULT_HALF = {"float16": 0.53, "bfloat16": 0.51}
HIGH = 6.0
LOGSUMEXP = 2.0


def bound(function: str, form: Format, precision: str | None, wide: bool) -> float:
    """The bound for a function; of logsumexp, in units of the larger of its result and what it is made of."""
    half = form.name in DEFAULT_HALF
    if precision == "high" and wide and form.name != "float64":
        return ROUNDED
    if half:
        return DEFAULT_HALF[form.name]
    if function == "logsumexp":
        return LOGSUMEXP
    return HIGH if precision == "high" else DEFAULT[form.name]
