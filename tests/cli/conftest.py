"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softgrad import _cli, backends
from softgrad.backends import ArrayLibrary
from softgrad.testing import _libraries

FRAMEWORKS = [name for name in _libraries.LIBRARIES if name != "numpy"]


@pytest.fixture
def call(capsys):
    """``call(*words)``: (exit code, stdout, stderr) of the command run in this process."""

    def run(*words):
        try:
            code = _cli.main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def numpy_alone(monkeypatch):
    """Only NumPy can be found."""
    for name in FRAMEWORKS:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def plug_in(tmp_path, monkeypatch, usual_kernels):
    """``plug_in(source, *kernels)``: a back end for NumPy arrays with these functions of a module."""
    added = []

    def add(source, *kernels):
        name = f"plug_in_{len(added)}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        backends.register(backends.Backend(name, ("numpy:ndarray",), {k: f"{name}:{k}" for k in kernels}, priority=100))
        added.append(name)
        return name

    yield add
    for name in added:
        backends.unregister(name)


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """``fake_library(name, source)``: an array library of that name whose module holds ``source``."""

    def add(name, source):
        module = f"{name}_of_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(_libraries.LIBRARIES, name, ArrayLibrary(name, module))

    return add


def environment(**variables):
    """The environment, without what steers a terminal."""
    steering = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONDEVMODE")
    return {name: value for name, value in os.environ.items() if name not in steering} | variables


@pytest.fixture
def command():
    """``command(*words)``: the command run as a program; its output is text."""

    def run(*words, **options):
        options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 300} | options
        options = {"cwd": Path(__file__).parent, "env": environment(), "check": False} | options
        return subprocess.run([sys.executable, "-W", "error::UserWarning", "-m", "softgrad", *words], **options)

    return run


@pytest.fixture
def data(tmp_path):
    """``data(name)``: a file of that name with sixty samples of three classes."""

    def write(name="data.csv", m=3, k=3, classes=None, columns=None):
        X = np.random.default_rng(0).normal(size=(60, m))
        names = columns or [f"a{i}" for i in range(m)]
        labels = [(classes or list(map(str, range(k))))[i % k] for i in range(60)]
        rows = [",".join(f'"{name}"' for name in [*names, "label"])]
        rows += [",".join([*map(str, x), f'"{label}"']) for x, label in zip(X.tolist(), labels, strict=True)]
        (tmp_path / name).write_text("\n".join(rows), encoding="utf-8")
        return tmp_path / name

    return write
