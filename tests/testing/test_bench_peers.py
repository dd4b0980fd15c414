"""The benchmark's contenders on the library under test, its memory and its picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

from softgrad._cli import main
from softgrad.testing.bench import _cases, _contenders, _memory

CASES = [
    *(_cases.Case(operation, (20, 5)) for operation in _cases.DENSE),
    _cases.Case("softmax", (5, 20), axis=0),
    _cases.Case("loss+gradient", (5, 20), axis=0),
    _cases.Case("linear", (30, 4, 3)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.libraries("torch", "jax")
def test_the_library_under_test_computes_the_same(case, backend):
    peers = {"torch": ["torch", "softgrad on torch"], "jax": ["jax.jit", "softgrad on jax"]}
    everyone = _contenders.contenders(case, _cases.data(case, "float64"), compiled=False)
    expected = numbers(everyone["softgrad"]())
    for name in peers[backend]:
        np.testing.assert_allclose(numbers(everyone[name]()), expected, rtol=1e-6, atol=1e-8, err_msg=name)


def numbers(result):
    """The numbers of a result in order of size: a peer may lay out its gradient in its own way."""
    parts = result if isinstance(result, tuple) else (result,)
    return np.sort(np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts]))


@pytest.mark.full
@pytest.mark.usefixtures("usual_kernels")
def test_memory_is_that_of_one_call():
    # far below the logits, 115 MiB
    measured = _memory.peak(_cases.Case("linear", (500_000, 2, 30)), "float64", "softgrad")
    assert measured is not None
    assert 0 <= measured < 100
    assert _memory.peak(_cases.Case("linear", (64, 8, 4)), "float64", "nobody") is None


@pytest.mark.full
def test_the_command_draws(tmp_path, capsys):
    out = tmp_path / "bench.png"
    words = ["--group", "tiny", "--quick", "--rounds", "2", "--threads", "1", "--dtype", "float64"]
    assert main(["bench", *words, "--plot", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "softmax 3" in capsys.readouterr().out


def test_the_picture_shows_every_case_and_peer(tmp_path):
    from softgrad.testing.bench import _plot

    def row(operation, shape, axis, group, dtype, ratio):
        head = {"operation": operation, "shape": shape, "axis": axis, "group": group}
        return {**head, "dtype": dtype, "threads": 2, "ratio": ratio}

    rows = [
        row("softmax", [20, 5], -1, "dense", dtype, {"softgrad": 1.0, "scipy": 0.5, "torch": 0.9, "floor: exp": 2.0})
        for dtype in ("float32", "float64")
    ]
    rows.append(row("linear", [30, 4, 3], 0, "linear", "float32", {"softgrad": 1.0, "floor: two products": 1.5}))
    machine = {"processor": "a processor", "cores": 2, "date": "2026-11-24"}
    out = tmp_path / "bench.svg"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_plot.mpl.rcParams, "svg.fonttype", "none")
        _plot.draw(json.loads(json.dumps({"cases": rows, "machine": machine})), out)
    text = out.read_text(encoding="utf-8")
    for words in ("softmax  20×5", "linear  30×4×3 (axis 0)", "float64, 2 threads", "scipy", "torch", "a processor"):
        assert words in text, words
