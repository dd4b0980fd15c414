"""The automatic differentiation of the libraries that have one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .._array.namespace import library
from .._array.typing import AnyArray


class NotDifferentiableError(TypeError):
    """The library, or the function as it is written, has no automatic derivative."""


def derivative(function: Callable[[AnyArray], AnyArray], x: AnyArray) -> AnyArray:
    """The gradient of a scalar ``function`` at ``x`` by the library's automatic differentiation.

    Raises
    ------
    NotDifferentiableError
        If the library has none, or the way from ``x`` to the result is broken.
    """
    name = library(x, "x").name
    if name not in _DERIVATIVES:
        raise NotDifferentiableError(f"{name} has no automatic differentiation")
    return _DERIVATIVES[name](function, x)


def _torch(function: Callable[[AnyArray], AnyArray], x: AnyArray) -> AnyArray:
    torch: Any = importlib.import_module("torch")
    leaf = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        value = function(leaf)
    if not getattr(value, "requires_grad", False):
        raise NotDifferentiableError("the result does not depend on x through differentiable operations")
    (result,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return torch.zeros_like(leaf) if result is None else result.detach()


def _jax(function: Callable[[AnyArray], AnyArray], x: AnyArray) -> AnyArray:
    jax: Any = importlib.import_module("jax")
    try:
        return jax.grad(function)(x)
    except jax.errors.JAXTypeError as error:
        raise NotDifferentiableError(f"the function reads values: {type(error).__name__}") from error


_DERIVATIVES: dict[str, Callable[[Callable[[AnyArray], AnyArray], AnyArray], AnyArray]] = {"torch": _torch, "jax": _jax}
