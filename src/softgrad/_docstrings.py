"""Signatures and docstrings of what passes its keywords on, completed from what it calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def passes_on_to(*sources: Any, without: tuple[str, ...] = (), raises: Any = None) -> Callable[[T], T]:
    """Complete a function or class from the ``sources`` that it hands its arguments to.

    Its ``**options`` become, for ``inspect.signature``, the optional parameters of the sources but for ``without``;
    and its docstring gets the sources' entry for every parameter that it has none of its own for, and what ``raises``
    raises before what it says of that itself.
    """

    def complete(thing: T) -> T:
        function: Any = thing.__init__ if inspect.isclass(thing) else thing
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        if len(parameters) < len(own.parameters):
            theirs = (p for source in sources for p in inspect.signature(source).parameters.values())
            known = {p.name for p in parameters} | set(without)
            more = {p.name: p for p in theirs if p.default is not p.empty and p.name not in known}
            parameters += [p.replace(kind=p.KEYWORD_ONLY) for p in more.values()]
            function.__signature__ = own.replace(parameters=parameters)
        if thing.__doc__:  # python -OO drops them
            entries: dict[str, str] = {}
            for source in (*reversed(sources), thing):
                entries |= _split(source.__doc__ or "")[1]
            doc = thing.__doc__ if raises is None else _raising(thing.__doc__, raises.__doc__)
            head, _, tail = _split(doc)
            # an entry that names several parameters comes once
            chosen = dict.fromkeys(entries[p.name] for p in parameters if p.name in entries)
            thing.__doc__ = "\n".join([head, "Parameters", "----------", *chosen, "", tail])
        return thing

    return complete


def _raising(doc: str, source: str) -> str:
    """``doc`` with the errors of ``source`` before its own, one entry for each type."""
    head, own, tail = _split(doc, "Raises")
    theirs = dict(_split(source, "Raises")[1])
    for name, entry in own.items():
        # below the type stands the text
        theirs[name] = f"{theirs[name]}\n{entry.partition(chr(10))[2]}" if name in theirs else entry
    if not own:
        # after what is returned, before the sections that follow it
        lines, heads = _lines(doc)
        at = next((i for i in heads if lines[i] in ("See Also", "Notes", "References", "Examples")), len(lines))
        head, tail = "\n".join(lines[:at]), "\n".join(lines[at:])
    return "\n".join([head.rstrip(), "", "Raises", "------", *dict.fromkeys(theirs.values()), "", tail])


def _lines(doc: str) -> tuple[list[str], list[int]]:
    """(the lines of a docstring, which of them are headings)."""
    lines = inspect.cleandoc(doc).splitlines()
    return lines, [i for i, line in enumerate(lines[1:]) if line and not line.strip("-")]


@functools.cache
def _split(doc: str, section: str = "Parameters") -> tuple[str, dict[str, str], str]:
    """(what comes before a section, the entry of each name in it, what comes after) of a numpydoc docstring."""
    lines, heads = _lines(doc)
    first = next((i for i in heads if lines[i] == section), None)
    if first is None:
        start = heads[0] if heads else len(lines)
        return "\n".join(lines[:start]), {}, "\n".join(lines[start:])
    end = next((i for i in heads if i > first), len(lines))
    entries: dict[str, str] = {}
    names: list[str] = []
    for line in lines[first + 2 : end]:
        if line and not line[0].isspace():
            names = [name.strip() for name in line.partition(":")[0].split(",")]
            entries |= dict.fromkeys(names, line)
        elif line:
            entries |= {name: f"{entries[name]}\n{line}" for name in names}
    return "\n".join(lines[:first]), entries, "\n".join(lines[end:])
