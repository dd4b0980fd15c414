"""What Triton's kernels take on GPUs that are not there: registers, nothing spilled, 128-bit loads of whole rows."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aot
import pytest
from ceilings import within

from softgrad.backends.triton import dense_kernels, layout, loss_kernels, scaling

#: A dtype, the classes of rows that share a program, fill one or are long, and A100, H100 and H200 or B200. What holds
#: of a dtype and a shape on one is looked at on the others for long rows.
CASES = {
    "short": ("bf16", 64, 90),
    "whole": ("bf16", 8192, 90),
    "whole, float32": ("fp32", 8192, 90),
    "long": ("bf16", 128256, 90),
    "long, float32": ("fp32", 128256, 90),
    "long, A100": ("bf16", 128256, 80),
    "long, B200": ("bf16", 128256, 100),
}
FEW = {each: CASES[each] for each in ("whole", "long", "long, A100", "long, B200")}
#: Registers of a thread at most, by function and case, and those of the two kernels of a long row that is split: the
#: multiprocessor has 65,536 for up to 512 threads of a program.
CEILINGS = {
    "softmax": (32, 32, 38, 32, 40, 32, 32, 32, 32),
    "log_softmax": (32, 32, 32, 32, 40, 32, 32, 32, 32),
    "logsumexp": (32, 40, 32, 47, 48, 48, 32, 40, 32),
    "softmax_vjp": (45, 58, 62, 69, 74, 70, 71, 59, 32),
    "log_softmax_vjp": (43, 56, 64, 32, 40, 34, 47, 32, 36),
    "index": (60, 59, 61, 32, 40, 32, 32, 32, 32),
    "index, weighted": (72, 64, 64, 40, 62, 40, 40, 32, 32),
    "every option": (93, 88, 86, 80, 80, 80, 77, 48, 48),
    "softmax, masked": (55, 48, 48, 54, 31, 44),
    "index, masked": (74, 76, 72, 77, 32, 48),
    "index, temperature": (60, 32, 32, 40, 32, 32),
    "index, shift": (87, 102, 109, 99, 70, 42),
    "index, scaled": (102, 86, 100, 88, 90, 64),
    "targets, everything": (109, 112, 116, 109, 102, 92),
}
_LAST = {"inner": 1} | {f"{name}_{part}": one for name in "xyacgw" for part, one in (("inner", 0), ("class", 1))}
_LAST |= {"out_inner": 0, "out_class": 1}
_WEIGHTED = dict.fromkeys(("WEIGHTED", "BALANCED", "DIVIDED", "IGNORES", "Z"), True)
_SOFT = {"SOFT": True, "SMOOTH": True}
_SCALED = scaling.SCALED.value
#: What the losses are told, beside "index".
LOSSES = {
    "index": {},
    "index, weighted": _WEIGHTED,
    "every option": _WEIGHTED | _SOFT,
    "index, masked": {"WEIGHTED": True, "HOW": scaling.MASKED.value},
    "index, temperature": {"HOW": scaling.TEMPERED.value},
    "index, shift": {"HOW": scaling.SHIFTED.value},
    "index, scaled": {"HOW": _SCALED, "FOCAL": True},
    "targets, everything": _WEIGHTED | _SOFT | {"DENSE": True, "HOW": _SCALED + scaling.MASKED.value},
}


def is_heavy(name: str) -> bool:
    """Whether a function has half the elements a thread."""
    return bool(LOSSES.get(name, {}).get("HOW", 0) & scaling.CAPPED.value)


def kernel(name: str, dtype: str, k: int, part: str = "") -> tuple:
    """(kernel, types of its arguments, its constants, warps) of a function on many or, in parts, few rows."""
    shape = layout.launch(1 if part else 1 << 16, k, True, bool(part), is_heavy(name))
    kind = "tile" if shape.tile else "loop"
    assert (shape.parts > 0) == bool(part)
    pointer = f"*{dtype}"
    types = {f"{each}_ptr": pointer for each in ("x", "out", "a", "c", "grad")} | {"parts_ptr": "*fp32"}
    types |= {f"{each}_outer": "i32" for each in ("x", "out", "a", "c", "y", "g", "w")} | {"n": "i32", "k": "i32"}
    types |= {"where_ptr": "*i1", "shift_ptr": "*fp32"}
    more: dict[str, Any] = {"HOW": 0}
    if name in LOSSES:
        module, stem = loss_kernels, "loss"
        types |= {f"{each}_ptr": "*fp32" for each in ("class", "weight", "divisor", "value")}
        types |= {"y_ptr": "*i64", "ignored": "i32"}
        types |= dict.fromkeys(("scale", "smoothing", "z", "cap", "temperature", "focal"), "fp32")
        more |= dict.fromkeys((*_WEIGHTED, *_SOFT, "DENSE", "FOCAL"), False) | {"VALUE": True, "GRAD": True}
        more |= LOSSES[name]
        if more["DENSE"]:
            types["y_ptr"] = pointer
    elif name.endswith("vjp"):
        module, stem = dense_kernels, "vjp"
        more |= {"LOG": name.startswith("log")}
    else:
        module, stem = dense_kernels, "dense"
        of, _, masked = name.partition(", ")
        more = {"MODE": ("softmax", "log_softmax", "logsumexp").index(of), "HOW": scaling.MASKED.value * bool(masked)}
    found = getattr(module, f"{stem}_{'parts' if part == 'parts' else kind}")
    more |= {"ROWS": shape.rows, "BLOCK": shape.block, "SPLIT": bool(part)}
    constants = {each: one for each, one in (_LAST | more).items() if each in found.arg_names}
    return found, types, constants, shape.warps


@cache
def compiled(name: str, dtype: str, k: int, capability: int, part: str = "", **options: bool) -> aot.Compiled:
    """A kernel of a function; each once."""
    found, types, constants, warps = kernel(name, dtype, k, part)
    with TemporaryDirectory() as folder:
        return aot.compile_kernel(found, types, constants, capability, Path(folder), num_warps=warps, **options)


def cases_of(name: str) -> dict[str, tuple]:
    """The cases that a function's ceilings are of, by name."""
    count = len(CEILINGS[name])
    # with masks and scaled logits those of bfloat16, of rows that fill a program or are long
    cases = dict(CASES if count >= len(CASES) else FEW)
    if is_heavy(name):
        cases["whole"] = ("bf16", 4096, 90)
    if count > len(cases):
        cases = cases | {"parts": (*CASES["long"], "parts"), "merge": (*CASES["long"], "merge")}
    return cases


@pytest.mark.parametrize("name", CEILINGS)
def test_kernels_stay_in_registers_and_read_by_128_bits(name):
    cases = cases_of(name)
    used = {case: compiled(name, *arguments) for case, arguments in cases.items()}
    for case, each in used.items():
        assert each.stack == each.local == 0, (case, each)
        writes = case != "parts" and name != "logsumexp"
        # of the rows; labels, weights and what belongs to a row are read one by one
        if case != "merge" or writes:
            wide = sum(bits // 128 for bits in each.loads)
            least = (2 if "float32" in case else 1) * (2 if name.endswith("vjp") else 1)
            assert wide >= least, (case, each)
        if writes:
            assert max(each.stores) >= 128, (case, each)
    within(dict(zip(cases, CEILINGS[name], strict=True)), {case: each.registers for case, each in used.items()})


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product(["softmax", "logsumexp", "index"], ["bf16", "fp32"]),
        ("softmax_vjp", "bf16"),
        ("log_softmax_vjp", "bf16"),
        ("every option", "bf16"),
        ("index, masked", "bf16"),
        ("targets, everything", "bf16"),
    ],
)
def test_a_split_row_is_summed_as_a_whole_one(name, dtype):
    """In the same layout, and with no sum that a compiler may fuse with a product in one kernel and not in another."""
    loop, parts = (compiled(name, dtype, 128256, 90, part) for part in ("", "parts"))
    assert loop.sums
    assert set(loop.sums) == set(parts.sums)
    fused = {}
    for part in ("", "parts", "merge"):
        free = compiled(name, dtype, 128256, 90, part)
        bound = compiled(name, dtype, 128256, 90, part, enable_fp_fusion=False)
        fused[part] = bound.operations["add"] - free.operations["add"]
    # what options fuse comes after the chunks, in the kernel that both have
    assert fused["parts"] == 0
    assert fused[""] == fused["merge"]
    assert fused[""] == 0 or name in LOSSES


#: How the table of the documentation calls what is not a function's name.
_WORDS = {
    "index": "loss and gradient",
    "index, weighted": "loss and gradient with weights, `z_loss`, `ignore_index`",
    "every option": "the same with smoothing too",
    "softmax, masked": "`softmax` with a mask of its shape",
    "index, masked": "loss and gradient with a mask",
    "index, temperature": "the same with `temperature`",
    "index, shift": "the same with `logit_shift`",
    "index, scaled": "the same with `softcap`, `temperature`, `logit_shift`, `focal`",
    "targets, everything": "weights by class as targets, with every option but `focal`",
}


@pytest.mark.parametrize("name", CEILINGS)
def test_the_documentation_has_these_registers(name):
    used = dict(zip(cases_of(name), CEILINGS[name], strict=True))
    whole, long = (
        " / ".join(str(used[each]) for each in (case, f"{case}, float32") if each in used) for case in ("whole", "long")
    )
    text = (Path(__file__).parents[2] / "docs/performance.md").read_text()
    (line,) = (each for each in text.splitlines() if each.startswith(f"| {_WORDS.get(name, f'`{name}`')} |"))
    assert line.endswith(f"| {whole} | {long} |")


def test_a_kernel_that_spills_is_seen(tmp_path):
    found, types, constants, _ = kernel("every option", "fp32", 8192)
    assert aot.compile_kernel(found, types, constants, 90, tmp_path, num_warps=4).stack > 0
