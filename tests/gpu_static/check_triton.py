"""What Triton's kernels take on GPUs that are not there: registers, nothing spilled, 128-bit loads of whole rows."""

from __future__ import annotations

import aot
import pytest

from softgrad.backends.triton import dense_kernels, loss_kernels

#: Classes of several rows a program, of a row in registers, of a row in a loop.
CLASSES = (64, 8192, 128256)
#: Registers of a thread at most: the multiprocessor has 65,536 for up to 512 threads of a program.
CEILINGS = {
    "softmax": 48,
    "log_softmax": 48,
    "logsumexp": 64,
    "softmax_vjp": 80,
    "log_softmax_vjp": 72,
    "index": 80,
    "every option": 112,
}
_LAST = {"inner": 1} | {f"{name}_{part}": one for name in "xyacg" for part, one in (("inner", 0), ("class", 1))}
_LAST |= {"out_inner": 0, "out_class": 1}


def kernel(name: str, dtype: str, k: int) -> tuple:
    """(kernel, types of its arguments, its constants, warps) of a function on rows of ``k`` classes."""
    shape = aot.shape_of(k)
    kind, more = "tile" if shape.pop("tile") else "loop", {}
    pointer = f"*{dtype}"
    types = {f"{each}_ptr": pointer for each in ("x", "out", "a", "c", "grad")}
    types |= {f"{each}_outer": "i32" for each in ("x", "out", "a", "c", "y", "g")} | {"n": "i32", "k": "i32"}
    warps = shape.pop("warps")
    if name in ("index", "every option"):
        every = name == "every option"
        found = getattr(loss_kernels, f"loss_{kind}")
        types |= {f"{each}_ptr": "*fp32" for each in ("class", "weight", "divisor", "value")}
        types |= {"y_ptr": "*i64", "ignored": "i32", "scale": "fp32", "smoothing": "fp32", "z": "fp32"}
        more = {"VALUE": True, "GRAD": True, "DENSE": False, "SOFT": every, "Z": every}
        more |= dict.fromkeys(("WEIGHTED", "BALANCED", "DIVIDED", "IGNORES"), every)
    elif name.endswith("vjp"):
        found = getattr(dense_kernels, f"pull_{kind}")
        more = {"LOG": name.startswith("log")}
    else:
        found = getattr(dense_kernels, f"dense_{kind}")
        more = {"MODE": ("softmax", "log_softmax", "logsumexp").index(name)}
    constants = {each: one for each, one in (_LAST | shape | more).items() if each in found.arg_names}
    return found, types, constants, warps


#: Every shape for one architecture, every architecture for long rows; float16 is bfloat16 with other conversions.
CASES = [
    *((dtype, k, 90) for dtype in ("bf16", "fp32") for k in CLASSES),
    *(
        (dtype, CLASSES[-1], capability)
        for dtype in ("bf16", "fp32")
        for capability in aot.CAPABILITIES
        if capability != 90
    ),
    ("fp16", CLASSES[-1], 90),
]


@pytest.mark.parametrize(("dtype", "k", "capability"), CASES)
@pytest.mark.parametrize("name", CEILINGS)
def test_kernels_stay_in_registers_and_read_by_128_bits(name, dtype, k, capability, tmp_path):
    found, types, constants, warps = kernel(name, dtype, k)
    used = aot.compile_kernel(found, types, constants, capability, warps, tmp_path)
    assert used.registers <= CEILINGS[name], used
    assert used.stack == used.local == 0, used
    # of the rows; labels, weights and what belongs to a row are read one by one
    assert max(used.loads) == 128, used
    wide = used.loads.count(128)
    assert wide >= (2 if dtype == "fp32" else 1) * (2 if name.endswith("vjp") else 1), used
    if name != "logsumexp":
        assert used.stores.count(128) >= 1, used


def test_a_kernel_that_spills_is_seen(tmp_path):
    found, types, constants, _ = kernel("every option", "fp32", 8192)
    assert aot.compile_kernel(found, types, constants, 90, 4, tmp_path).stack > 0
