"""The CPU emulation that the suite runs CuPy on where there is no GPU: it has to be right itself."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import cupy_on_cpu
from cupy_on_cpu import _compile, _entry_points, agreement

TESTS = str(Path(__file__).parents[2])
pytestmark = [
    pytest.mark.libraries("cupy"),
    pytest.mark.skipif(not cupy_on_cpu.installed(), reason="CuPy does not run on the CPU emulation in this session"),
]


def rng():
    return np.random.default_rng(20260)


def run_python(code, cache=None, **environment):
    """Run a program in a process of its own, with ``cupy_on_cpu`` on its path, on this session's cache or another."""
    where = {"PYTHONPATH": TESTS} | ({} if cache is None else {"SOFTGRAD_CUPY_CACHE": str(cache)})
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **where, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# ---- agreement with NumPy ----


def test_functions_agree_with_numpy_in_value_and_dtype(cupy):
    # 37 shares no factor with the numbers of functions, dtypes and shapes, so that every one of them is met;
    # "python -m cupy_on_cpu" goes through all cases
    checked, differing = agreement.disagreements(cupy, every=37)
    assert checked > 200
    assert differing == []


MATRICES = {
    "C": lambda a: a,
    "Fortran": lambda a: a.copy(order="F"),
    "transposed": lambda a: a.swapaxes(-1, -2).copy().swapaxes(-1, -2),
    "strided": lambda a: a.repeat(2, axis=-1)[..., ::2],
    "reversed": lambda a: a[..., ::-1, :].copy()[..., ::-1, :],
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128", "int32", "bool"])
def test_matmul_of_all_layouts(dtype, cupy):
    left, right = (agreement.sample(shape, dtype, seed) for seed, shape in enumerate([(2, 9, 5), (2, 5, 7)]))
    for first, second in itertools.product(MATRICES.values(), repeat=2):
        for a, b in [(left, right), (left[0], right[0]), (left[:1], right), (left[0], right[0, :, 0])]:
            if b.ndim == 1:
                expected, ours = first(a) @ b, first(cupy.asarray(a)) @ cupy.asarray(b)
            else:
                expected, ours = first(a) @ second(b), first(cupy.asarray(a)) @ second(cupy.asarray(b))
            assert agreement.same(ours, expected, dtype, size=100.0)


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int64"])
def test_other_products(dtype, cupy):
    a, b = agreement.sample((6, 4), dtype, 1), agreement.sample((4,), dtype, 2)
    x, y = cupy.asarray(a), cupy.asarray(b)
    pairs = {
        "symmetric": (x @ x.T, a @ a.T),
        "vector by matrix": (y @ x.T, b @ a.T),
        "dot": (cupy.dot(y, y), np.dot(b, b)),
        "vdot": (cupy.vdot(y, y), np.vdot(b, b)),
        "outer": (cupy.outer(y, y), np.outer(b, b)),
        "tensordot": (cupy.tensordot(x, x, axes=([0], [0])), np.tensordot(a, a, axes=([0], [0]))),
        "einsum": (cupy.einsum("ij,kj->ik", x, x), np.einsum("ij,kj->ik", a, a)),
        "adjoint": (x.conj().T @ x, a.conj().T @ a),
        "nothing to add": (x[:, :0] @ x[:, :0].T, a[:, :0] @ a[:, :0].T),
        "no rows": (x[:0] @ x.T, a[:0] @ a.T),
    }
    assert {
        name for name, (ours, expected) in pairs.items() if not agreement.same(ours, expected, dtype, 100.0)
    } == set()


def test_matmul_of_bfloat16(cupy):
    dtypes = pytest.importorskip("ml_dtypes")
    a = rng().standard_normal((5, 8)).astype(dtypes.bfloat16)
    x = cupy.asarray(a)
    expected = a.astype("float64") @ a.T.astype("float64")
    np.testing.assert_allclose((x @ x.T).get().astype("float64"), expected, rtol=2**-8, atol=0.05)
    np.testing.assert_allclose(cupy.exp(x).get().astype("float64"), np.exp(a.astype("float64")), rtol=2**-8)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "float32", "float64", "complex128"])
def test_indexing_and_assembling(dtype, cupy):
    a = agreement.sample((5, 6), dtype)
    order, rows, mask = rng().permuted(np.tile(np.arange(6), (5, 1)), axis=1), np.array([4, 0, 0]), a.real > 0

    def results(xp, a):
        order_, rows_, mask_ = xp.asarray(order), xp.asarray(rows), xp.asarray(mask)
        written = a.copy()
        written[1:3, ::2] = a[0, 0]
        yield from (
            xp.take(a, rows_, axis=0),
            xp.take_along_axis(a, order_, axis=1),
            xp.where(mask_, a, a[0]),
            xp.concatenate([a, a[:1]]),
            xp.stack([a, a], axis=-1),
            xp.broadcast_to(a[:, :1], (5, 4)) == a[:, :1],
            xp.roll(a, 2, axis=1),
            xp.tril(a),
            xp.flip(a, axis=0),
            a[rows_],
            a[mask_],
            a[rows_, 1],
            written,
            xp.nonzero(mask_)[1],
            xp.sum(a, axis=1, where=mask_) if xp is np else xp.where(mask_, a, a.dtype.type(0)).sum(axis=1),
        )

    pairs = zip(results(cupy, cupy.asarray(a)), results(np, a), strict=True)
    assert [i for i, (ours, expected) in enumerate(pairs) if not agreement.same(ours, expected, dtype, 20.0)] == []


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_sorting(dtype, cupy):
    a = agreement.sample((3, 50), dtype)
    if a.dtype.kind == "f":
        a[1, 7], a[2, 3] = np.nan, -np.inf
    x = cupy.asarray(a)
    pairs = {
        "last axis": (cupy.sort(x), np.sort(a)),
        "first axis": (cupy.sort(x, axis=0), np.sort(a, axis=0)),
        "argsort": (cupy.argsort(x), np.argsort(a, kind="stable")),
        "unique": (cupy.unique(x[0]), np.unique(a[0])),
        "lexsort": (cupy.lexsort(x), np.lexsort(a)),
        "searchsorted": (cupy.searchsorted(cupy.sort(x[0]), x[1]), np.searchsorted(np.sort(a[0]), a[1])),
    }
    assert {name for name, (ours, expected) in pairs.items() if not agreement.same(ours, expected, dtype)} == set()
    np.testing.assert_array_equal(x.get(), a)


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1024, 1025, 5000])
def test_cumulative_sum_beyond_one_block(n, cupy):
    a = rng().integers(-9, 9, (n, 2))
    np.testing.assert_array_equal(cupy.cumsum(cupy.asarray(a), axis=0).get(), np.cumsum(a, axis=0))
    np.testing.assert_array_equal(cupy.cumsum(cupy.asarray(a[:, 0])).get(), np.cumsum(a[:, 0]))


def test_half_to_float_is_exact_for_every_half(cupy):
    halves = np.arange(2**16, dtype="uint16").view("float16")
    for dtype in ("float32", "float64"):
        np.testing.assert_array_equal(cupy.asarray(halves).astype(dtype).get(), halves.astype(dtype))


def test_rounding_to_half_is_to_nearest_even(cupy):
    halves = np.arange(2**16 - 1, dtype="uint16").view("float16").astype("float64")
    with np.errstate(all="ignore"):
        between = (halves + np.append(halves[1:], 0)) / 2
        near = np.concatenate([halves, between, np.nextafter(between, -np.inf), np.nextafter(between, np.inf)])
        values = np.concatenate([near, rng().standard_normal(1000) * 1e5, [65519.999, 65520, 2.0**-25, 5e-324, np.inf]])
        expected = values.astype("float16")
    np.testing.assert_array_equal(cupy.asarray(values).astype("float16").get(), expected)


def test_random_numbers_of_the_classic_generator(cupy):
    one, other = (cupy.random.RandomState(7) for _ in range(2))
    a = one.standard_normal((3, 400)).get()
    np.testing.assert_array_equal(a, other.standard_normal((3, 400)).get())
    assert abs(a.mean()) < 0.15
    assert abs(a.std() - 1) < 0.1
    assert sorted(one.permutation(9).tolist()) == list(range(9))
    uniform = one.random_sample(500, dtype="float32")
    assert 0 <= float(uniform.min()) < 0.1 < 0.9 < float(uniform.max()) < 1
    with pytest.raises(NotImplementedError, match="RandomState, not default_rng"):
        cupy.random.default_rng(0)


# ---- the record ----


def test_record_of_a_computation(cupy):
    x = cupy.arange(6.0)
    cupy.exp(x).sum()
    with cupy_on_cpu.count() as record:
        total = cupy.exp(x).sum()
    assert record.launches == ["cupy_exp__float64_float64", "cupy_sum"]
    assert (record.d2h, record.h2d, record.syncs, record.compiled) == (0, 0, 0, 0)
    assert record.peak_bytes == 6 * 8 + 8
    with cupy_on_cpu.count() as record:
        float(total)
        cupy.asarray(np.ones(3))
        x @ x
        cupy.cuda.Device().synchronize()
    assert (record.d2h, record.h2d) == (1, 1)
    assert record.syncs >= 2
    assert len([name for name in record.launches if name.startswith("cublas")]) <= 1


@pytest.mark.parametrize(
    "transfer",
    [
        lambda cupy, x: x.get(),
        lambda cupy, x: float(x[0]),
        lambda cupy, x: bool(cupy.any(x)),
        lambda cupy, x: x[0].item(),
        lambda cupy, x: cupy.asnumpy(x),
        lambda cupy, x: x[x > 1],
        lambda cupy, x: str(x),
        lambda cupy, x: cupy.cuda.Device().synchronize(),
        lambda cupy, x: cupy.cuda.get_current_stream().synchronize(),
    ],
)
def test_transfers_to_the_host_can_be_forbidden(transfer, cupy):
    x = cupy.arange(4.0)
    with (
        cupy_on_cpu.forbid_host_copies(),
        pytest.raises(cupy_on_cpu.HostTransferError, match="inside forbid_host_copies"),
    ):
        transfer(cupy, x)
    transfer(cupy, x)


def test_computing_is_not_forbidden(cupy):
    x = cupy.arange(4.0)
    with cupy_on_cpu.forbid_host_copies(), cupy_on_cpu.forbid_host_copies():
        y = cupy.where(x > 1, x, 0.5) @ cupy.exp(x)
        z = cupy.asarray([1.0, 2.0]).sum()
    assert float(y) == pytest.approx(0.5 * (1 + np.e) + 2 * np.exp(2) + 3 * np.exp(3))
    assert float(z) == 3.0


# ---- processes and installations ----


def test_process_ends_as_any_other():
    code = "import cupy_on_cpu; cupy = cupy_on_cpu.install(); x = cupy.arange(5.0); y = x.sum(); print(y)"
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10.0\n", "")
    assert run_python(f"{code}; raise SystemExit(3)").returncode == 3


@pytest.mark.full
def test_processes_share_the_cache_while_it_fills(tmp_path):
    code = "import cupy_on_cpu; cupy = cupy_on_cpu.install(); print(cupy.arange(700).get().sum())"
    environment = {**os.environ, "PYTHONPATH": TESTS, "SOFTGRAD_CUPY_CACHE": str(tmp_path / "new")}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=300)[0] for process in running] == ["244650\n"] * 2
    assert not list(tmp_path.rglob("building-*"))
    again = run_python(f"{code}; print(cupy_on_cpu.log.compiled)", tmp_path / "new")
    assert again.stdout == "244650\n0\n"


@pytest.mark.full
def test_threads_without_assembly_give_the_same(tmp_path):
    code = """
import cupy_on_cpu
build = cupy_on_cpu.shared_library
cupy_on_cpu.shared_library = lambda name, source: build(name, source, "-DEMULATOR_UCONTEXT")
cupy = cupy_on_cpu.install()
x = cupy.arange(3000)
print(int(x.sum()), int(cupy.cumsum(x)[-1]), int(cupy.exp(x * 0).sum()))
"""
    assert run_python(code, tmp_path).stdout == "4498500 4498500 3000\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.modules['cupy'] = sys", "has to run before anything imports cupy"),
        ("import os; os.environ['PATH'] = ''", r"there is no g\+\+ on PATH"),
        ("import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]", "there is no CuPy"),
    ],
)
def test_installation_that_cannot_work_says_why_in_one_line(code, message, tmp_path):
    done = run_python(f"import cupy_on_cpu\n{code}\ncupy_on_cpu.install()", tmp_path)
    assert done.returncode == 1
    assert re.search(f"EmulationError: .*{message}", done.stderr.strip().splitlines()[-1]), done.stderr


def capsule(signature):
    """Return what Cython stores for a C function, and keep the name alive."""
    name = ctypes.create_string_buffer(signature.encode())
    made = _entry_points._capsule_new(1, name, None)
    return made, name


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (None, "moved somewhere.malloc: there is no such function"),
        ("intptr_t (size_t, int, int __pyx_skip_dispatch)", "moved somewhere.malloc: expected 1 arguments, found"),
        ("intptr_t (struct Request, int __pyx_skip_dispatch)", "moved somewhere.malloc: its signature is"),
    ],
)
def test_moved_entry_point_fails_with_one_clear_line(signature, message, monkeypatch):
    class Stub:
        def malloc(self, size):
            return 0

    module = types.ModuleType("somewhere")
    kept = capsule(signature) if signature else None
    module.__pyx_capi__ = {"malloc": kept[0]} if kept else {}
    monkeypatch.setitem(sys.modules, "somewhere", module)
    with pytest.raises(ImportError, match=message) as caught:
        _entry_points.replace("somewhere", Stub())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"CuPy {_entry_points.cupy_version()} ")
    assert "the CPU emulation knows CuPy 14.x" in str(caught.value)


def test_moved_compiling_function_fails_with_one_clear_line():
    for compiler in (types.SimpleNamespace(), types.SimpleNamespace(_compile_module_with_cache=lambda source: None)):
        with pytest.raises(ImportError, match=r"CuPy \S+ moved cupy.cuda.compiler._compile_module_with_cache: .*14\.x"):
            _compile.install(compiler)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('#include <cupy/complex.cuh>\nextern "C" __global__ void first(int n) {}', ["first"]),
        ('extern "C" { __global__ void a() {} __global__ void b() {} }', ["a", "b"]),
        ("template <typename T> __global__ void generic(T* x) {}", []),
        ("// __global__ void gone() {}\n/* __global__ void too() {} */ __global__ void kept(int) {}", ["kept"]),
        ("__global__ void __launch_bounds__(128, 2) bounded(float* x) {}", ["bounded"]),
        ("__global__ __launch_bounds__(N) void early(float* x) {}", ["early"]),
    ],
)
def test_kernels_are_found_in_a_source(source, names):
    assert _compile.kernel_names(source) == names
