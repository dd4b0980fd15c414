"""NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..typing import AnyArray, NDArray
from .declaration import ArrayLibrary

_REFUSED = {
    "matrix": "np.matrix is always two-dimensional: pass np.asarray(x)",
    "MaskedArray": "a masked array's mask would be lost: pass x.filled() and where=~x.mask",
}


def _make(xp: Any, host: NDArray, dtype: str, device: Any) -> AnyArray:
    return np.array(host, dtype=getattr(np, dtype))


def _scatter(a: AnyArray, index: AnyArray, values: AnyArray, axis: int) -> AnyArray:
    out = np.array(a)
    np.put_along_axis(out, index, values, axis)
    return out


def _refuses(cls: type) -> str | None:
    names = (base.__name__ for base in cls.__mro__ if base.__module__.partition(".")[0] == "numpy")
    return next((_REFUSED[name] for name in names if name in _REFUSED), None)


LIBRARY = ArrayLibrary(
    "numpy",
    "numpy",
    "NumPy",
    types=("numpy:ndarray", "numpy:generic"),
    compat="numpy",
    formats=("float16",),
    warns=True,
    scalars=True,
    make=_make,
    read=lambda xp, array: np.asarray(array),
    device_label=lambda array: "cpu",
    scatter=_scatter,
    refuses=_refuses,
)
