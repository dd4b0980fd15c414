"""The types that the package speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

#: An array of any library of the standard; its type is known only to that library.
Array: TypeAlias = Any
#: A namespace of the array API standard.
Namespace: TypeAlias = Any
#: What ``array.device`` gives.
Device: TypeAlias = Any
#: What ``array.dtype`` gives.
DType: TypeAlias = Any

#: The array type that goes in and comes out again.
ArrayT = TypeVar("ArrayT")

Axis: TypeAlias = int | tuple[int, ...] | None
Precision: TypeAlias = Literal["high", "default"] | None
Reduction: TypeAlias = Literal["none", "sum", "mean"]
Parameters: TypeAlias = Literal["W", "bias", "X"]
Wrt: TypeAlias = Parameters | Iterable[Parameters] | None


class LossArgs(NamedTuple):
    """What a loss kernel is given beside the logits: checked, on their device, in their dtype, float32 at least."""

    axis: int
    #: Integers of the logits' shape without ``axis``, or weights of the logits' shape (in half precision if those are).
    labels: Array
    #: Whether ``labels`` holds a weight for each class.
    dense: bool
    label_smoothing: float = 0.0
    #: One weight a class, or None.
    class_weight: Array = None
    #: One weight a sample, broadcast to the samples' shape, or None.
    sample_weight: Array = None
    ignore_index: int | None = None
    z_loss: float = 0.0
    #: True keeps; broadcastable to the logits, or None.
    where: Array = None
    reduction: str = "mean"
    #: None or "high".
    precision: str | None = None

    @property
    def options(self) -> frozenset[str]:
        """The options of this call that are not at their defaults, by name."""
        values = ((name, getattr(self, name)) for name in OPTIONS)
        return frozenset(name for name, v in values if not (v is None or (isinstance(v, float) and v == 0.0)))

    @property
    def plain(self) -> bool:
        """Whether the labels are class indices, and each costs the logarithm of its probability and nothing more."""
        return not (self.dense or self.label_smoothing or self.z_loss or self.class_weight is not None)


#: The options of a loss that a kernel may or may not take; ``Backend.options`` names those that it does.
OPTIONS = ("label_smoothing", "class_weight", "sample_weight", "ignore_index", "z_loss", "where", "precision")
