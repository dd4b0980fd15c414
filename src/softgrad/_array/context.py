"""Settings scoped to a block of code, a thread and an async task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class Override(Generic[T]):
    """A value for the current context.

    A compiled graph breaks on ``ContextVar.get``, so it is read only while somebody has set one.
    """

    def __init__(self, name: str) -> None:
        self._var: ContextVar[T | None] = ContextVar(name, default=None)
        self._lock = threading.Lock()
        self.users = 0

    def get(self) -> T | None:
        """The value set by the innermost block, or None."""
        return self._var.get() if self.users else None

    @contextmanager
    def set(self, value: T) -> Iterator[None]:
        """Set ``value`` inside the block."""
        with self._lock:
            self.users += 1
        token = self._var.set(value)
        try:
            yield
        finally:
            self._var.reset(token)
            with self._lock:
                self.users -= 1
