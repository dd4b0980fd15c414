"""The day a GPU is there: ``python tools/gpu.py [--json FILE]`` holds softgrad on it to its contract, and times it.

It needs softgrad and what the machine has of PyTorch, CuPy and JAX; a library that sees no GPU is named and left out,
and where none does nothing is run and the program fails. In turn: the contract on arrays of the device, the digits of
exp and log1p, times beside the library's own functions as shares of what a copy of the same bytes takes.
``--rehearse`` goes through all of it on the CPU, on small arrays, to see that the program works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import softgrad as sg
from softgrad.testing import check_backend

#: Rows and classes that are timed: short rows, rows in registers, a language model's.
SHAPES = ((1 << 20, 16), (1 << 17, 1024), (8192, 128256))
SMALL = ((64, 16), (16, 1024))
ROUNDS = 20


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


def contenders(device: Device, x: Any, y: Any) -> dict[str, dict[str, Callable[[], Any]]]:
    """By function: softgrad, and the library's own where it has one."""
    out: dict[str, dict[str, Callable[[], Any]]] = {
        "softmax": {"softgrad": lambda: sg.softmax(x)},
        "log_softmax": {"softgrad": lambda: sg.log_softmax(x)},
        "logsumexp": {"softgrad": lambda: sg.logsumexp(x, axis=-1)},
        "loss and gradient": {"softgrad": lambda: sg.cross_entropy_value_and_grad(x, y)},
    }
    if device.library == "torch":
        import torch

        def loss(x: Any) -> Any:
            x = x.detach().requires_grad_()
            value = torch.nn.functional.cross_entropy(x, y)
            return value, torch.autograd.grad(value, x)[0]

        own = {
            "softmax": lambda x: torch.softmax(x, -1),
            "log_softmax": lambda x: torch.log_softmax(x, -1),
            "logsumexp": lambda x: torch.logsumexp(x, -1),
        }
        for name, function in own.items():
            out[name] |= {"torch": partial(function, x), "torch.compile": partial(torch.compile(function), x)}
        out["loss and gradient"]["torch"] = partial(loss, x)
    elif device.library == "jax":
        import jax

        def mean(x: Any) -> Any:
            return -jax.numpy.mean(jax.numpy.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1))

        for name in ("softmax", "log_softmax", "logsumexp"):
            out[name]["jax.nn"] = partial(jax.jit(partial(getattr(jax.nn, name), axis=-1)), x)
        out["loss and gradient"]["jax.nn"] = partial(jax.jit(jax.value_and_grad(mean)), x)
    else:
        import cupyx.scipy.special as special

        for name in ("softmax", "log_softmax", "logsumexp"):
            out[name]["cupyx"] = partial(getattr(special, name), x, axis=-1)
    return out


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

    for call in calls.values():
        run(call), run(call)  # compiles, and finds memory
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
            for function, calls in contenders(device, x, y).items():
                found = milliseconds(device, calls, rounds)
                yield {"function": function, "rows": n, "classes": k, "dtype": dtype, "copy": copy, "ms": found}


def main() -> None:
    """Run all, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where to write the results (gpu.json)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, on small arrays: the figures say nothing")
    options = parser.parse_args()
    found = list(devices(options.rehearse))
    if not found:
        sys.exit("no GPU: neither PyTorch nor CuPy nor JAX sees one here; nothing was run")
    results, kept = [], True
    for device in found:
        print(f"\n{device.library} on {device.name}")
        ok = contract(device)
        kept = kept and ok
        worst = digits(device)
        print("worst error in units in the last place:", ", ".join(f"{name} {u:.2f}" for name, u in worst.items()))
        rows = []
        for row in timings(device, options.rehearse):
            times = "  ".join(f"{name} {ms:.3f} ms ({ms / row['copy']:.2f})" for name, ms in row["ms"].items())
            print(f"{row['function']:<18} {row['rows']:>8} × {row['classes']:<7} {row['dtype']:<9} {times}", flush=True)
            rows.append(row)
        results.append({"library": device.library, "device": device.name, "contract": ok, "ulp": worst, "times": rows})
    print("\nIn brackets: the time over that of reading and writing the logits once.")
    options.json.write_text(json.dumps({"rehearsal": options.rehearse, "results": results}, indent=1) + "\n")
    if not kept:
        sys.exit("the contract is broken: see the table above")


if __name__ == "__main__":
    main()
