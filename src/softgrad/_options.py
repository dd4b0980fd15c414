"""The options of a loss, each declared once: its default, its check and its documentation.

The classes of losses inherit them; signatures, docstrings, what the kernels are given and tests are made from them.
"""

from __future__ import annotations

import inspect
import math
from collections import namedtuple
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from ._array.scalars import integer, number, one_of
from ._array.typing import AnyArray, ArrayIfAsked, Precision, Reduction

REDUCTIONS = ("none", "sum", "mean")


def option(default: Any, check: Callable[[Any, str], Any], kind: str, text: str, *, by_class: bool = False) -> Any:
    """Declare an option of a loss.

    ``check(value, name)`` raises, or gives the value as the kernels take it; ``kind`` and ``text`` are its entry in a
    docstring; ``by_class`` marks one number a class, which is brought into form when the number of classes is known.
    """
    return field(default=default, metadata={"check": check, "kind": kind, "text": text, "by_class": by_class})


def _unchecked(value: Any, name: str) -> Any:
    return value


_fraction = partial(number, low=0.0, high=1.0)
_not_negative = partial(number, low=0.0)
_reduction = partial(one_of, known=REDUCTIONS)


def _finite(value: Any, name: str) -> float:
    result = number(value, name, 0.0)
    if result == math.inf:
        raise ValueError(f"{name} must be finite, got {value!r}")
    return result


def _scale(value: Any, name: str) -> float:
    """A number to divide by, in single precision too."""
    result = number(value, name, -math.inf)
    if not 2.0**-126 <= result < 2.0**128:
        raise ValueError(f"{name} must be positive and finite, and in float32's range, got {value!r}")
    return result


def _optional(check: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """``check``, or None as it is."""
    return lambda value, name: None if value is None else check(value, name)


_label = _optional(partial(integer, what="an int or None"))
_precision = _optional(partial(one_of, known=("high", "default")))


@dataclass(frozen=True, kw_only=True, eq=False)
class LossOptions:
    """The options of every cross-entropy, checked."""

    softcap: float | None = option(
        None,
        _optional(_scale),
        "float, optional",
        "Bounds the logits x, before all else: ``softcap * tanh(x / softcap)``.",
    )
    temperature: float = option(
        1.0, _scale, "float, default 1.0", "Divides the logits, after ``softcap``; a small one makes the softmax sharp."
    )
    logit_shift: Any = option(
        None,
        _unchecked,
        "array, list of numbers, optional",
        "One number per class, added to the logits last; -inf takes a class out.",
        by_class=True,
    )
    label_smoothing: float = option(
        0.0,
        _fraction,
        "float, default 0.0",
        "Fraction of the target, from 0 to 1, spread evenly over all classes (those that ``where`` keeps).",
    )
    class_weight: Any = option(
        None,
        _unchecked,
        "array, list of numbers, optional",
        "One weight per class; multiplies that class's term of the loss, as in PyTorch.",
        by_class=True,
    )
    focal: float = option(
        0.0,
        _finite,
        "float, default 0.0",
        "Exponent of the focal loss: the term of a class of probability p is multiplied by ``(1 - p)**focal``.",
    )
    ignore_index: int | None = option(None, _label, "int, optional", "Samples with this label count for nothing.")
    z_loss: float = option(
        0.0,
        _not_negative,
        "float, default 0.0",
        "Factor of ``logsumexp(x)**2`` of the scaled logits, added to each sample's loss.",
    )
    reduction: Reduction = option(
        "mean",
        _reduction,
        '{"mean", "sum", "none"}, default "mean"',
        "The mean divides by the sum of sample weight times class weight.",
    )
    precision: Precision = option(None, _precision, '{"high", "default"}, optional', "See :func:`softgrad.precision`.")

    def __post_init__(self) -> None:
        for name, default, check in _CHECKS:
            value = getattr(self, name)
            if value is not default:
                # a NumPy scalar here would lift another library's dtype, or be refused by it
                object.__setattr__(self, name, check(value, name))
        object.__setattr__(self, "_values", tuple([getattr(self, name) for name in _NAMES]))

    if TYPE_CHECKING:
        #: The options in their order, as ``LossArgs`` ends with them.
        _values: tuple[Any, ...] = field(init=False)


class LossKeywords(TypedDict, total=False):
    """The same as keywords, for type checkers; a test holds the two equal."""

    softcap: float | None
    temperature: float
    logit_shift: Any
    label_smoothing: float
    class_weight: Any
    focal: float
    ignore_index: int | None
    z_loss: float
    reduction: Reduction
    precision: Precision


def only_known(options: Iterable[str], known: Iterable[str], function: str) -> None:
    """Raise where a keyword is no option of a function."""
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"{function} has no option {unknown[0]!r}; it has {sorted(known)}")


_DECLARED = fields(LossOptions)
_NAMES = tuple(each.name for each in _DECLARED)
_CHECKS = tuple((each.name, each.default, each.metadata["check"]) for each in _DECLARED)
#: Place in ``LossOptions._values`` and name of what has one number for each class.
BY_CLASS = tuple((i, each.name) for i, each in enumerate(_DECLARED) if each.metadata["by_class"])


def _entries(names: Iterable[str]) -> str:
    declared = {each.name: each.metadata for each in _DECLARED}
    return "\n".join(f"{name} : {declared[name]['kind']}\n    {declared[name]['text']}" for name in names)


if LossOptions.__doc__:  # python -OO drops them
    LossOptions.__doc__ += f"\n\nParameters\n----------\n{_entries(_NAMES)}\n"

if TYPE_CHECKING:

    @dataclass(frozen=True)
    class _Args(LossOptions):
        axis: int
        # of the library's own type: back ends read them too
        labels: AnyArray
        dense: bool
        sample_weight: AnyArray | None = None
        where: AnyArray | None = None
        reduction: Any = field(default="mean", kw_only=True)
        precision: Any = field(default=None, kw_only=True)

        _fields: ClassVar[tuple[str, ...]]
        _field_defaults: ClassVar[dict[str, Any]]

        def __getitem__(self, index: int) -> Any: ...

        def __iter__(self) -> Iterator[Any]: ...

        @classmethod
        def _make(cls, iterable: Iterable[Any]) -> LossArgs: ...

        def _replace(self, **changes: Any) -> LossArgs: ...

else:
    _OWN = ("axis", "labels", "dense", "sample_weight", "where")
    _DEFAULTS = (None, None, *(each.default for each in _DECLARED))
    _Args = namedtuple("_Args", (*_OWN, *_NAMES), defaults=_DEFAULTS)


class LossArgs(_Args):
    """What a loss kernel is given beside the logits: checked, on their device, in their dtype, float32 at least.

    Attributes
    ----------
    axis : int
        The class axis, counted from the front.
    labels : array
        Integers of the logits' shape without ``axis``, or weights of the logits' shape (in half precision if those
        are).
    dense : bool
        Whether ``labels`` holds a weight for each class.
    sample_weight : array or None
        One weight a sample, broadcast to the samples' shape.
    where : array or None
        True keeps; broadcastable to the logits.
    """

    __slots__ = ()

    def beyond(self, taken: Container[str]) -> list[str]:
        """The options of this call that are not at their defaults, but for those ``taken``."""
        return given(self, _PLACES, taken)

    @property
    def arrays(self) -> tuple[ArrayIfAsked, ...]:
        """The arrays, or None in their places, as ``ARRAYS`` names them."""
        return tuple([getattr(self, name) for name in ARRAYS])


#: The options of a loss that a kernel may or may not take; ``Backend.options`` names those that it does.
OPTIONS = (*(name for name in _NAMES if name != "reduction"), "sample_weight", "where")
#: The fields of ``LossArgs`` that hold arrays.
ARRAYS = ("labels", "sample_weight", "where", *(name for _, name in BY_CLASS))


def places(names: Iterable[str]) -> tuple[tuple[int, str, Any], ...]:
    """(Place in ``LossArgs``, name, default) of some options."""
    defaults = LossArgs._field_defaults
    return tuple((LossArgs._fields.index(name), name, defaults[name]) for name in names)


def given(args: LossArgs, among: tuple[tuple[int, str, Any], ...], but: Container[str] = ()) -> list[str]:
    """Which options, of those whose ``places`` are given, are not at their defaults."""
    found = []
    for place, name, default in among:
        value = args[place]
        if value is not default and name not in but and not (isinstance(default, float) and value == default):
            found.append(name)
    return found


_PLACES = places(OPTIONS)

if LossArgs.__doc__:
    LossArgs.__doc__ = f"{inspect.cleandoc(LossArgs.__doc__)}\n{_entries(_NAMES)}"
