"""The command line, ``python -m softgrad``.

A subcommand is a module here with ``add_parser(subparsers)``, which sets ``run`` as the parser's default, and
``run(args)``, which returns the exit code and raises ``UsageError`` for what the user can mend.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from .._version import __version__
from . import bench, check, info
from ._errors import UsageError

_COMMANDS = (check, info, bench)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0: all is well, 1: something disagrees or is missing, 2: wrong use."""
    parser = argparse.ArgumentParser(
        prog="python -m softgrad",
        description="Softmax, its losses and their gradients, for any array library.",
    )
    parser.add_argument("--version", action="version", version=f"softgrad {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a terminal that cannot write ∇ shall not end the run
        sys.stdout.reconfigure(errors="replace")
    try:
        return int(args.run(args))
    except UsageError as error:
        print(f"softgrad: error: {error}", file=sys.stderr)
        return 2
