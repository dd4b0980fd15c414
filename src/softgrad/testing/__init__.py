"""What those who embed or extend softgrad import: checks of a back end, of a gradient, of digits."""

from __future__ import annotations

from ._backend import BackendReport, Check, ContractError, check_backend
from ._gradient import DerivativeCheck, check_gradient, check_hvp
from ._ulp import assert_close, ulp_distance

__all__ = [
    "BackendReport",
    "Check",
    "ContractError",
    "DerivativeCheck",
    "assert_close",
    "check_backend",
    "check_gradient",
    "check_hvp",
    "ulp_distance",
]
