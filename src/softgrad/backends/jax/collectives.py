"""``reduce`` over an axis of a mesh."""

from __future__ import annotations

from typing import Any

import jax

from ..._array.typing import AnyArray


def over_axis(x: AnyArray, op: str, name: Any) -> AnyArray:
    """The maximum or the sum of an array of every device along the axis, element by element."""
    return (jax.lax.pmax if op == "max" else jax.lax.psum)(x, name)
