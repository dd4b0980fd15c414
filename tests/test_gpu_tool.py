"""What runs on the day a GPU is there, ``tools/gpu.py``, gone through without one: on CPU tensors and emulated CuPy."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

import cupy_on_cpu
import softgrad as sg

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The program, on arrays that are small, with the peers and the contract left out."""
    monkeypatch.syspath_prepend(str(TOOLS))
    gpu = importlib.import_module("gpu")
    for name, small in (("SHAPES", ((6, 5), (3, 70))), ("SMALL", ((4, 3),))):
        monkeypatch.setattr(gpu, name, small)
    for name in ("LINEAR", "SMALL_LINEAR"):
        monkeypatch.setattr(gpu, name, (6, 4, 5))
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(gpu, "contract", lambda device: True)
    monkeypatch.setattr(gpu.gpu_peers, "_torch_dense", lambda x, y: {"loss and gradient": {}})
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    return gpu


def run(gpu, monkeypatch, folder, *options):
    """What the program wrote."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(folder / "gpu.json"), *options])
    gpu.main()
    return json.loads((folder / "gpu.json").read_text())


def only(gpu, monkeypatch, library):
    """Leave the other libraries out, as where they see no GPU."""

    def none(rehearse):
        raise RuntimeError("no GPU")

    for name in {"torch", "cupy", "jax"} - {library}:
        monkeypatch.setattr(gpu, f"_{name}", none)


FUNCTIONS = {"softmax", "log_softmax", "logsumexp", "loss and gradient", "linear model"}


@pytest.mark.libraries("torch")
def test_a_rehearsal_goes_through_all_and_says_that_it_is_one(tool, monkeypatch, tmp_path, capsys):
    only(tool, monkeypatch, "torch")
    monkeypatch.setattr(tool, "picture", lambda *args: False)
    with sg.backends.use("generic"):
        written = run(tool, monkeypatch, tmp_path, "--rehearse")
    said = capsys.readouterr().out
    assert said.count(tool.REHEARSAL) == 2
    assert "compute-sanitizer: not run: it is not installed" in said
    assert "jax: left out: RuntimeError: no GPU" in said
    assert written["rehearsal"]
    (result,) = written["results"]
    assert (result["library"], result["contract"]) == ("torch", None)
    assert {row["function"] for row in result["times"]} == FUNCTIONS
    assert all(row["ms"]["softgrad"] > 0 for row in result["times"])
    assert max(result["ulp"].values()) < 4


@pytest.mark.libraries("torch")
def test_where_no_library_sees_a_gpu_it_fails(tool, monkeypatch, tmp_path):
    only(tool, monkeypatch, "none")
    with pytest.raises(SystemExit, match="no GPU"):
        run(tool, monkeypatch, tmp_path)


@pytest.mark.libraries("torch")
@pytest.mark.parametrize(("code", "word"), [(0, "clean"), (9, "exit 9: out of bounds")])
def test_what_compute_sanitizer_says_is_told(code, word, tool, monkeypatch, tmp_path):
    fake = tmp_path / "compute-sanitizer"
    fake.write_text(f"#!/bin/sh\necho out of bounds\nexit {code}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(tool.shutil, "which", lambda name: str(fake))
    device = tool._torch(True)
    assert tool.sanitized(device) == {"memcheck": word, "racecheck": word}
    assert tool.sanitized(device._replace(library="jax")) == {}
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(tool, "SECONDS", 0.1)
    assert set(tool.sanitized(device).values()) == {"not done in 0.1 s"}


@pytest.mark.libraries("torch")
def test_a_peer_that_fails_is_left_out_and_softgrad_is_not(tool, capsys):
    device = tool._torch(True)

    def fails():
        raise ValueError("another version")

    assert tool.milliseconds(device, {"softgrad": lambda: 1, "peer": fails}, 2).keys() == {"softgrad"}
    assert "peer: left out: ValueError: another version" in capsys.readouterr().out
    with pytest.raises(ValueError, match="another version"):
        tool.milliseconds(device, {"softgrad": fails}, 2)


@pytest.mark.libraries("torch")
def test_what_runs_under_compute_sanitizer_is_a_program_that_runs(tool, monkeypatch):
    import torch

    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    with sg.backends.use("generic"):
        exec(tool.SANITIZED.format(library="torch"), {})


@pytest.mark.libraries("cupy")
def test_the_day_of_the_gpu_on_an_emulated_one(tool, monkeypatch, tmp_path, capsys):
    if not cupy_on_cpu.installed():
        pytest.skip("the program itself is for a GPU")
    only(tool, monkeypatch, "cupy")
    written = run(tool, monkeypatch, tmp_path)
    assert "cupy on CPU emulation of one GPU" in capsys.readouterr().out
    (result,) = written["results"]
    assert result["contract"] is True
    assert {row["function"] for row in result["times"]} == FUNCTIONS
    for name, nothing in (
        ("contract", False),
        ("timings", ()),
        ("digits", {}),
        ("linear_timings", result["times"][-1]),
    ):
        monkeypatch.setattr(tool, name, lambda *args, nothing=nothing: nothing)
    with pytest.raises(SystemExit, match="the contract is broken"):
        run(tool, monkeypatch, tmp_path)
