"""The day a GPU is there: ``python tools/gpu.py [--json FILE]`` holds softgrad on it to its contract, and times it.

It needs softgrad and what the machine has of PyTorch, CuPy and JAX; a library that sees no GPU is named and left out,
and where none does nothing is run and the program fails. In turn: the contract on arrays of the device, the digits of
exp and log1p, the kernels under compute-sanitizer where that is installed, and times: of rows beside the library's own
functions and the peers that are installed, over those of a copy of the same bytes; of the linear model over those of
its three products alone. A table is printed, JSON written, and where matplotlib is installed a picture.
``--rehearse`` goes through it on the CPU, on small arrays, to see that the program works: no GPU is used, and no figure
means anything. The contract is left out there: the test suite holds it on a CPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpu_peers
import softgrad as sg
from softgrad.testing import check_backend

#: Rows and classes that are timed: short rows, rows in registers, a language model's.
SHAPES = ((1 << 20, 16), (1 << 17, 1024), (8192, 128256))
SMALL = ((64, 16), (16, 1024))
#: Rows, features and classes of the linear model.
LINEAR, SMALL_LINEAR = (4096, 4096, 128256), (32, 8, 500)
ROUNDS = 20
REHEARSAL = "REHEARSAL ON THE CPU: no GPU is used, and no figure below says anything of one"
#: Run under compute-sanitizer: every kernel of whole rows, short, in registers, in a loop and split over programs.
SANITIZED = """
import numpy as np, softgrad as sg, importlib
lib = importlib.import_module({library!r})
put = (lambda a: lib.from_numpy(a).cuda()) if {library!r} == "torch" else lib.asarray
for k in (5, 70, 72, 1024, 9001, 40000):
    x = put(np.random.default_rng(0).standard_normal((33, k), np.float32))
    y = put(np.arange(33) % k)
    for call in (sg.softmax, sg.log_softmax, lambda x: sg.logsumexp(x, axis=-1)):
        call(x)
    sg.softmax_vjp(sg.softmax(x), x)
    sg.cross_entropy_value_and_grad(x, y, ignore_index=1)
    sg.cross_entropy_value_and_grad(x, y, label_smoothing=0.1, softcap=5.0, where=x < 3)
    sg.linear_cross_entropy_value_and_grad(x[:, :3], y, put(np.ones((k, 3), np.float32)), block_size=8)
"""


#: That each of compute-sanitizer's tools may take.
SECONDS = 600


class Device(NamedTuple):
    """A library and its device."""

    library: str
    device: Any
    name: str
    put: Callable[[np.ndarray], Any]
    get: Callable[[Any], np.ndarray]
    wait: Callable[[], None]


def _torch(rehearse: bool) -> Device:
    import torch

    if not rehearse and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    device = torch.device("cpu" if rehearse else "cuda")
    name = "the CPU" if rehearse else torch.cuda.get_device_name()
    wait = (lambda: None) if rehearse else torch.cuda.synchronize
    return Device(
        "torch", device, name, lambda a: torch.from_numpy(a).to(device), lambda a: a.double().cpu().numpy(), wait
    )


def _cupy(rehearse: bool) -> Device:
    import cupy

    if rehearse:
        raise RuntimeError("CuPy is rehearsed by its emulation, in the tests")
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return Device("cupy", None, name, cupy.asarray, cupy.asnumpy, lambda: cupy.cuda.Device().synchronize())


def _jax(rehearse: bool) -> Device:
    import jax

    device = jax.devices("cpu" if rehearse else "gpu")[0]
    return Device(
        "jax", device, device.device_kind, lambda a: jax.device_put(a, device), np.asarray,
        lambda: jax.effects_barrier(),
    )  # fmt: skip


def devices(rehearse: bool) -> Iterator[Device]:
    """What is there; the reason is printed where a library is not."""
    for name, find in (("torch", _torch), ("cupy", _cupy), ("jax", _jax)):
        try:
            yield find(rehearse)
        except Exception as error:  # noqa: BLE001 - each library has its own ways to say that there is no GPU
            print(f"{name}: left out: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def contract(device: Device) -> bool:
    """Whether the library's arrays on the device keep the whole contract."""
    report = check_backend(device.library, device=device.device, on_failure="return")
    return bool(report.ok)


def digits(device: Device) -> dict[str, float]:
    """Worst error in units in the last place: of exp, in a softmax of two classes; of log1p, in their loss."""
    d = np.linspace(-85, 0, 20001, dtype=np.float32)
    x = np.stack([np.zeros_like(d), d], axis=1)
    e = np.exp(d.astype(np.float64))
    results = {
        "exp": (device.get(sg.softmax(device.put(x)))[:, 1], e / (1 + e)),
        "log1p": (device.get(sg.cross_entropy(device.put(x), device.put(np.zeros(len(d), np.int64)),
                                              reduction="none")), np.log1p(e)),
    }  # fmt: skip
    eps = np.finfo(np.float32).eps
    return {name: float(np.max(np.abs(got - want) / (want * eps))) for name, (got, want) in results.items()}


def sanitized(device: Device) -> dict[str, str]:
    """What compute-sanitizer says of races and accesses out of bounds; nothing where it is not installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None or device.library == "jax":
        return {}
    out = {}
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, "-c"]
        command.append(SANITIZED.format(library=device.library))
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            out[check] = f"not done in {SECONDS} s"
            continue
        lines = (run.stdout + run.stderr).strip().splitlines()
        out[check] = "clean" if run.returncode == 0 else f"exit {run.returncode}: {lines[-1] if lines else ''}"
    return out


def unchecked(device: Device) -> str:
    """Why nothing ran under compute-sanitizer."""
    if device.library == "jax":
        return "not run: XLA's kernels are not softgrad's"
    return "not run, in a rehearsal" if shutil.which("compute-sanitizer") else "not run: it is not installed"


def milliseconds(device: Device, calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median time of each, the contenders taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}

    def run(call: Callable[[], Any]) -> float:
        device.wait()
        start = time.perf_counter()
        result = call()
        if device.library == "jax":
            import jax

            jax.block_until_ready(result)
        device.wait()
        return 1e3 * (time.perf_counter() - start)

    for name, call in list(calls.items()):
        try:
            run(call), run(call)  # compiles, and finds memory
        except Exception as error:
            if name in ("softgrad", "copy", "products"):
                raise
            # a peer of another version than this was written for
            print(f"{name}: left out: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            del calls[name], times[name]
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(run(call))
    return {name: statistics.median(each) for name, each in times.items()}


def timings(device: Device, rehearse: bool) -> Iterator[dict[str, Any]]:
    """Times of every function and shape, with that of a copy of the logits."""
    for n, k in SMALL if rehearse else SHAPES:
        rng = np.random.default_rng(0)
        x = device.put((4 * rng.standard_normal((n, k), np.float32)).astype(np.float32))
        y = device.put(rng.integers(0, k, n))
        for dtype in ("float32", "bfloat16"):
            if dtype == "bfloat16":
                if device.library == "cupy":
                    continue
                x = x.bfloat16() if device.library == "torch" else x.astype("bfloat16")
            rounds = 2 if rehearse else ROUNDS
            copy = milliseconds(device, {"copy": lambda x=x: x * 1}, rounds)["copy"]
            for function, calls in gpu_peers.dense(device.library, x, y).items():
                found = milliseconds(device, calls, rounds)
                yield {"function": function, "rows": n, "classes": k, "dtype": dtype, "copy": copy, "ms": found}


def linear_timings(device: Device, rehearse: bool) -> dict[str, Any]:
    """Times of the linear model in half precision, with those of its three products alone."""
    n, m, k = SMALL_LINEAR if rehearse else LINEAR
    rng = np.random.default_rng(0)
    dtype = "float16" if device.library == "cupy" else "bfloat16"
    X, W = (device.put(rng.standard_normal(shape, np.float32) / 8) for shape in ((n, m), (k, m)))
    X, W = (a.bfloat16() if device.library == "torch" else a.astype(dtype) for a in (X, W))
    y = device.put(rng.integers(0, k, n))

    def products() -> Any:
        z = X @ W.T
        return z @ W, z.T @ X

    rounds = 2 if rehearse else 5
    found = milliseconds(device, {"products": products}, rounds)
    rate = 6 * n * m * k / found["products"] / 1e9
    calls = gpu_peers.linear(device.library, X, y, W)
    return {
        "function": "linear model", "rows": n, "features": m, "classes": k, "dtype": dtype,
        "products": found["products"], "teraflops": rate, "ms": milliseconds(device, calls, rounds),
    }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    beside = row.get("copy", row.get("products"))
    times = "  ".join(f"{name} {ms:.3f} ms ({ms / beside:.2f})" for name, ms in row["ms"].items())
    return f"{row['function']:<19} {row['rows']:>8} × {row['classes']:<7} {row['dtype']:<9} {times}"


def picture(results: list[dict[str, Any]], rehearse: bool, path: Path) -> bool:
    """Bars of times over that of a copy, or of the products alone; nothing where matplotlib is missing."""
    try:
        import matplotlib.figure
    except ImportError:
        return False
    bars = [
        (f"{each['library']}: {row['function']}, {row['rows']} × {row['classes']}, {row['dtype']}: {name}",
         ms / row.get("copy", row.get("products")), name == "softgrad")
        for each in results for row in each["times"] for name, ms in row["ms"].items()
    ]  # fmt: skip
    figure = matplotlib.figure.Figure(figsize=(10, 1 + 0.16 * len(bars)), layout="constrained")
    axes = figure.subplots()
    labels, values, ours = zip(*bars[::-1], strict=True)
    axes.barh(range(len(bars)), values, color=["tab:blue" if own else "tab:gray" for own in ours])
    axes.set_yticks(range(len(bars)), labels, fontsize=6)
    axes.set(
        xscale="log", xlabel="time over that of a copy; of the linear model, over its products", ylim=(-1, len(bars))
    )
    axes.set_title(REHEARSAL if rehearse else ", ".join(sorted({each["device"] for each in results})), fontsize=8)
    figure.savefig(path, dpi=120)
    return True


def main() -> None:
    """Run all, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where to write the results (gpu.json)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, on small arrays: the figures say nothing")
    options = parser.parse_args()
    found = list(devices(options.rehearse))
    if not found:
        sys.exit("no GPU: neither PyTorch nor CuPy nor JAX sees one here; nothing was run")
    if options.rehearse:
        print(f"\n*** {REHEARSAL} ***")
    missing = gpu_peers.missing()
    if missing:
        print(f"peers that are not installed, and so not timed: {', '.join(missing)}")
    results, kept = [], True
    for device in found:
        print(f"\n{device.library} on {device.name}")
        ok = None if options.rehearse else contract(device)
        kept = kept and ok is not False
        worst = digits(device)
        print("worst error in units in the last place:", ", ".join(f"{name} {u:.2f}" for name, u in worst.items()))
        checked = {} if options.rehearse else sanitized(device)
        kept = kept and all(each == "clean" for each in checked.values())
        print("compute-sanitizer:", ", ".join(f"{name} {each}" for name, each in checked.items()) or unchecked(device))
        rows = []
        for row in timings(device, options.rehearse):
            print(line(row), flush=True)
            rows.append(row)
        rows.append(linear_timings(device, options.rehearse))
        print(line(rows[-1]), f"products at {rows[-1]['teraflops']:.3g} Tflop/s", flush=True)
        results.append(
            {"library": device.library, "device": device.name, "contract": ok, "sanitizer": checked, "ulp": worst,
             "times": rows}
        )  # fmt: skip
    print("\nIn brackets: the time over that of reading and writing the logits once; of the linear model, over that of")
    print("its three products alone.")
    if options.rehearse:
        print(f"*** {REHEARSAL} ***")
    note = {"note": REHEARSAL} if options.rehearse else {}
    options.json.write_text(json.dumps({"rehearsal": options.rehearse, **note, "results": results}, indent=1) + "\n")
    if picture(results, options.rehearse, options.json.with_suffix(".png")):
        print(f"{options.json} and {options.json.with_suffix('.png')} are written")
    if not kept:
        sys.exit("the contract is broken, or an access of a kernel's: see above")


if __name__ == "__main__":
    main()
