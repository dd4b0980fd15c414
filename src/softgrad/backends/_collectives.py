"""The collectives of the libraries that have some, imported when first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._array.scalars import number
from .._array.typing import AnyArray


@dataclass(frozen=True)
class _Collective:
    """``reduce`` by a function of a back end."""

    function: str
    arguments: tuple[Any, ...]

    def __call__(self, array: AnyArray, op: str) -> AnyArray:
        module, _, name = self.function.partition(":")
        reduce: Callable[..., AnyArray] = getattr(importlib.import_module(module, __package__), name)
        return reduce(array, op, *self.arguments)


def torch_distributed(group: Any = None, *, timeout: float | None = None) -> Callable[[AnyArray, str], AnyArray]:
    """``reduce`` for PyTorch tensors by ``torch.distributed.all_reduce``.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        The processes among which the classes are split; None for all of them.
    timeout : float, optional
        Seconds to wait for the other processes. None leaves it to the group, whose own timeout is an argument of
        ``torch.distributed.init_process_group`` and ``new_group``. With NCCL the host waits for the device where a
        timeout is given, and does not without.

    Returns
    -------
    callable
        ``reduce(tensor, op)``.

    Raises
    ------
    TypeError, ValueError
        If ``timeout`` is no positive number.

    Notes
    -----
    A call raises RuntimeError if a process has ended, or does not come in time, if this one is not in the group, or
    if ``torch.distributed`` has not been initialized; the message says which, and carries the library's own. A group in
    which a call has failed cannot be used again.

    Examples
    --------
    >>> import softgrad as sg
    >>> reduce = sg.parallel.torch_distributed(timeout=60.0)
    """
    if timeout is not None and number(timeout, "timeout", 0.0) == 0.0:
        raise ValueError("timeout must be a positive number of seconds, got 0")
    return _Collective(".torch.collectives:all_reduce", (group, None if timeout is None else float(timeout)))


def jax_axis(name: Any) -> Callable[[AnyArray, str], AnyArray]:
    """``reduce`` for JAX arrays over an axis of a mesh, inside ``jax.shard_map``.

    Parameters
    ----------
    name : str or tuple of str
        The axis that the classes are split over, as ``jax.lax.psum`` takes it.

    Returns
    -------
    callable
        ``reduce(array, op)``.

    Raises
    ------
    TypeError
        If ``name`` is no string and no tuple of strings.

    Examples
    --------
    >>> import softgrad as sg
    >>> reduce = sg.parallel.jax_axis("classes")
    """
    names = name if isinstance(name, tuple) else (name,)
    if not names or not all(isinstance(each, str) for each in names):
        raise TypeError(f"name must be the name of a mesh axis, or a tuple of names, got {name!r}")
    return _Collective(".jax.collectives:over_axis", (name,))
