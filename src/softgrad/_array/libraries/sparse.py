"""The library sparse: known so that its arrays are refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..typing import AnyArray, NDArray
from .declaration import ArrayLibrary


def _make(xp: Any, host: NDArray, dtype: str, device: Any) -> AnyArray:
    return xp.COO.from_numpy(np.array(host, dtype=getattr(np, dtype)))


LIBRARY = ArrayLibrary(
    "sparse",
    "sparse",
    make=_make,
    read=lambda xp, array: array.todense(),
    refuses=lambda cls: "exp(0) is 1, so that nothing stays sparse; pass its .todense()",
)
