"""Clauses on the loss with its classes split over processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._array.typing import AnyArray
from .._options import BY_CLASS
from ..parallel import cross_entropy_value_and_grad
from . import _reference as reference
from ._contract import DERIVATIVE_ULP, LOGITS, SOFTMAX_ULP, Kit, clause
from ._contract_loss import CASES, place

_CUTS = (0, 1, 4)
_PER_CLASS = ("where", *(name for _, name in BY_CLASS))


class _Wait(Exception):  # noqa: N818 - not an error
    """The other process has not come yet."""


def _together(kit: Kit, processes: Sequence[Callable[[Any], Any]]) -> list[Any]:
    """What ``process(reduce)`` gives for each, one after the other; begun again when all have reached a collective."""
    met: list[AnyArray] = []
    while True:
        results, given = [], []
        for process in processes:
            before = iter(met)

            def reduce(array: AnyArray, op: str, before: Iterator[AnyArray] = before) -> AnyArray:
                for result in before:
                    return result
                given.append((array, op))  # noqa: B023 - called before the next round
                raise _Wait

            with contextlib.suppress(_Wait):
                results.append(process(reduce))
        if not given:
            return results
        (a, op), (b, _) = given
        met.append(kit.xp.maximum(a, b) if op == "max" else a + b)


def _share(kit: Kit, case: str, rank: int, reduce: Any) -> tuple[AnyArray, AnyArray]:
    options, labels, arguments = CASES[case]
    part = slice(_CUTS[rank], _CUTS[rank + 1])
    given = {
        name: np.asarray(value)[..., part].tolist() if name in _PER_CLASS and name != "where" else value
        for name, value in options.items()
    }
    beside = {name: value[..., part] if name in _PER_CLASS else value for name, value in arguments.items()}
    y, arrays = place(kit, labels if labels.ndim == 1 else labels[:, part], beside, kit.wide)
    meet = {"first_class": _CUTS[rank], "reduce": reduce}
    return cross_entropy_value_and_grad(kit.put(LOGITS[:, part]), y, **meet, **given, **arrays)


@clause("values", "the loss and its gradient are those of all classes where these are split over two processes")
def _split(kit: Kit) -> None:
    # one case: without a compiler around them, each operation of JAX is compiled by itself
    case = "scaled logits"
    options, labels, arguments = CASES[case]
    settings = reference.Options(**options, **arguments)
    each, total = reference.losses(LOGITS, labels, settings)

    def mean(z: Any) -> Any:
        losses, count = reference.losses(z, labels, settings)
        return sum(losses) / count

    slopes = np.asarray(reference.gradient(mean, LOGITS))
    found = _together(kit, [partial(_share, kit, case, rank) for rank in (0, 1)])
    for rank, (value, grad) in enumerate(found):
        kit.close(value, sum(each) / total, SOFTMAX_ULP, what=case)
        want = slopes[:, _CUTS[rank] : _CUTS[rank + 1]]
        kit.close(grad, want, 2 * DERIVATIVE_ULP, normwise=True, what=f"{case}, gradient")
