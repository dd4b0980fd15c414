"""Every example of the pages is run: ``python`` blocks, and ``console`` blocks from their ``$`` lines on."""

import doctest
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
from sybil import Region, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
HOME = Path.cwd()


def run_console(example):
    """Run the commands of a block, each followed by what it prints."""
    for part in textwrap.dedent(str(example.parsed)).split("$ ")[1:]:
        command, _, expected = part.partition("\n")
        words = [sys.executable if word == "python" else word for word in shlex.split(command)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        printed = done.stdout + done.stderr
        if not doctest.OutputChecker().check_output(expected.rstrip() + "\n", printed.rstrip() + "\n", FLAGS):
            raise AssertionError(f"{command}\nexpected:\n{expected}\nprinted:\n{printed}")


def rows(document):
    """The rows of tables that have softgrad's call in their second column, and another library's in the first."""
    head = r"^\|[^|\n]+\| (?:softgrad|SoftmaxRegression) \|[^|\n]*\|\n\|[- |]+\n((?:\|.*\n)+)"
    for table in re.finditer(head, document.text, re.MULTILINE):
        for line in re.finditer(r".+", table[1]):
            calls = re.fullmatch(r"\| `(.+?)` \| `(.+?)` \| (.*)\|", line[0])
            if calls is None:
                raise ValueError(f"no row of two calls: {line[0]}")
            yield Region(table.start(1) + line.start(), table.start(1) + line.end(), calls.groups(), same_numbers)


def same_numbers(example):
    """Evaluate both calls of a row: they agree, unless the row says that they differ."""
    theirs, ours, note = example.parsed
    expected, found = (as_numpy(eval(code, example.namespace)) for code in (theirs, ours))
    agree = len(expected) == len(found) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=2e-5, atol=1e-6 if a.size > 1 else 0, equal_nan=True)
        for a, b in zip(expected, found, strict=True)
    )
    if agree == note.startswith("differs"):
        raise AssertionError(f"{theirs}\n{expected}\n{ours}\n{found}")


def as_numpy(value):
    return [np.asarray(each) for each in (value if isinstance(value, tuple) else (value,))]


def no_cupy():
    """Whether CuPy is missing, or has no GPU to run on."""
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() == 0
    except Exception:  # noqa: BLE001 - a CuPy without its libraries fails in many ways
        return True


def move_to_a_folder_of_its_own(namespace):
    namespace["_folder"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)
    namespace["no_cupy"] = no_cupy


def move_back(namespace):
    os.chdir(HOME)
    namespace["_folder"].cleanup()


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(doctest_optionflags=FLAGS),
        CodeBlockParser(language="console", evaluator=run_console),
        SkipParser(),
        rows,
    ],
    patterns=["*.md"],
    # its examples are about the test suite, and run there
    excludes=["cupy_on_cpu.md", "_generated/*", "_static/*"],
    setup=move_to_a_folder_of_its_own,
    teardown=move_back,
).pytest()
