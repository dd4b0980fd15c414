"""ndonnx: arrays with values, and nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..typing import AnyArray, NDArray
from .declaration import ArrayLibrary


def _make(xp: Any, host: NDArray, dtype: str, device: Any) -> AnyArray:
    return xp.asarray(np.array(host, dtype=getattr(np, dtype)))


def _is_abstract(array: AnyArray) -> bool:
    try:
        array.unwrap_numpy()
    except ValueError:
        return True
    return False


LIBRARY = ArrayLibrary(
    "ndonnx",
    "ndonnx",
    formats=("float16",),
    has_complex=False,
    make=_make,
    read=lambda xp, array: array.unwrap_numpy(),
    is_abstract=_is_abstract,
)
