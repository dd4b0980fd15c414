"""A small array library without ``__array_namespace__``: its arrays wrap those of NumPy."""

import array_api_compat.numpy as standard
import numpy as np


class Tiny:
    """An array that knows what the standard asks of one, but not its namespace."""

    def __init__(self, host):
        self.host = np.asarray(host)

    shape = property(lambda self: self.host.shape)
    ndim = property(lambda self: self.host.ndim)
    dtype = property(lambda self: self.host.dtype)
    T = property(lambda self: Tiny(self.host.T))

    def __array__(self, dtype=None, copy=None):
        return np.array(self.host, dtype=dtype)

    def __getitem__(self, index):
        return Tiny(self.host[_unwrapped(index)])

    def __bool__(self):
        return bool(self.host)

    def __int__(self):
        return int(self.host)


def _unwrapped(value):
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrapped, value))
    return value.host if isinstance(value, Tiny) else value


def _wrapped(value):
    if isinstance(value, tuple):
        return tuple(map(_wrapped, value))
    return Tiny(value) if isinstance(value, np.ndarray | np.generic) else value


def _on_tiny(function):
    def call(*args, device=None, **kwargs):
        named = {name: _unwrapped(value) for name, value in kwargs.items()}
        return _wrapped(function(*_unwrapped(args), **named))

    return call


_OPERATORS = (
    "add sub mul truediv pow matmul and or xor radd rsub rmul rtruediv rpow rmatmul lt le gt ge eq ne neg invert"
)
for _name in _OPERATORS.split():
    setattr(Tiny, f"__{_name}__", _on_tiny(getattr(np.ndarray, f"__{_name}__")))


def __getattr__(name):
    """Each function of the standard, on Tiny arrays; dtypes and constants are NumPy's."""
    found = getattr(standard, name)
    return found if isinstance(found, type) or not callable(found) or "info" in name else _on_tiny(found)
