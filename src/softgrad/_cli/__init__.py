"""The command line, ``python -m softgrad``.

A subcommand is a module here with ``add_parser(subparsers)``, which sets ``run`` as the parser's default, and
``run(args)``, which returns the exit code and raises ``UsageError`` for what the user can mend.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .._version import __version__
from ..testing._terminal import printable
from . import bench, check, info, warmup
from ._errors import UsageError

_COMMANDS = (check, info, bench, warmup)
#: A shell's exit status of a program that a signal ended: 128 plus the signal's number.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
#: EX_SOFTWARE of sysexits.h.
_BUG = 70


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own passes over what cannot be written
        stream = file or sys.stderr
        if message and stream is not None:
            stream.write(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0: all is well, 1: something disagrees or is missing, 2: wrong use, data that cannot be read, output that
        cannot be written; 130: interrupted, 141: the reader of the output is gone, 70: a bug.
    """
    # that numba took its time is nothing to act on here
    logging.getLogger("softgrad").setLevel(logging.ERROR)
    try:
        try:
            args = _parser().parse_args(argv)
            return int(args.run(args))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:
        _drop(sys.stdout)
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}" if str(error) else "not enough memory", 2)
    except OSError as error:
        _drop(sys.stdout)
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}", 2)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
        return _fail(f"this is a bug of softgrad, please report it: {words}; python -X dev shows its traceback", _BUG)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m softgrad",
        description="Softmax, its losses and their gradients, for any array library.",
        epilog="python -m softgrad COMMAND --help describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"softgrad {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def _fail(words: str, code: int) -> int:
    if sys.stderr is not None:
        try:
            print(f"softgrad: error: {printable(words)}", file=sys.stderr)
        except OSError:
            _drop(sys.stderr)
    return code


def _drop(stream: TextIO | None) -> None:
    """Send what is still buffered nowhere; Python would try it once more at its end, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
