"""The back end of Triton's kernels for PyTorch tensors on a GPU: a row is read once, and once more where it is long.

Half and single precision, computed in single. What is not named here (``precision="high"``, float64) is left to
PyTorch's operations.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from ..._options import LossArgs
from .._declaration import Backend
from .._registry import asked_for
from .graphs import INTERPRETED

DENSE = ("softmax", "log_softmax", "logsumexp")
PULLS = ("softmax_vjp", "softmax_jvp", "log_softmax_vjp")
LOSSES = ("cross_entropy", "cross_entropy_grad", "cross_entropy_value_and_grad")
#: Of a loss, that the kernels take.
OPTIONS = (
    *("softcap", "temperature", "logit_shift", "label_smoothing", "class_weight", "focal", "ignore_index", "z_loss"),
    *("sample_weight", "where"),
)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
#: Of labels that a kernel reads as they are.
_LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _why_not_loss(x: Tensor, args: LossArgs) -> str | None:
    """What a loss asks for that has no kernel."""
    others = args.beyond(OPTIONS)
    if others:
        return f"{', '.join(others)} has no kernel"
    if args.focal and (args.dense or args.label_smoothing):
        return "a focal factor of weights by class has no kernel"
    if not args.dense and args.labels.dtype not in _LABELS:
        return f"labels of {args.labels.dtype} have no kernel"
    if not -(1 << 63) <= (args.ignore_index or 0) < 1 << 63:
        return "ignore_index is not of int64's range"
    return None


def in_graphs() -> bool:
    """Whether a compiler that traces the call may have the kernels, as operators, in its graph.

    Not inside a transform of ``torch.func``, nor in what is exported, which has to run without softgrad.
    """
    exporting = getattr(torch.compiler, "is_exporting", lambda: False)
    if BACKEND is None or torch._C._functorch.peek_interpreter_stack() is not None or exporting():
        return False
    importlib.import_module(".operators", __package__)
    return True


# torch.compile runs what is marked so while it traces
vars(in_graphs)["_dynamo_marked_constant"] = True


def fits(function: str, x: Tensor, *rest: Any) -> bool | str:
    """Whether a kernel takes these tensors, which nothing records; or why not."""
    if not (x.is_cuda or (INTERPRETED and asked_for() == "triton")):
        return "not on a GPU that Triton knows"
    if x.dtype not in _DTYPES:
        return f"no kernel for {x.dtype}"
    if not x.numel():
        return "nothing to compute"
    # beside a compiler the negation comes before an operator
    if not torch.compiler.is_compiling() and any(a.is_neg() for a in (x, *rest) if isinstance(a, Tensor)):
        return "a tensor is yet to be negated"
    if function in LOSSES:
        return _why_not_loss(x, rest[0]) or True
    if function in PULLS:
        return True if rest[0].dtype is x.dtype else "the cotangent is of another dtype"
    return True if rest[2] is None else "precision='high' has no kernel"


def should_run(function: str, xp: Any, x: Tensor, *rest: Any) -> bool | str:
    """Decline what a kernel cannot do, and what is recorded: PyTorch's operations call the kernels themselves."""
    if torch.compiler.is_compiling():
        if not in_graphs():
            return "a compiler traces a transformed or exported call"
        arrays = rest[0].arrays if function in LOSSES else rest
        if torch.is_grad_enabled() and any(a.requires_grad for a in (x, *arrays) if isinstance(a, Tensor)):
            return "a gradient is recorded"
        return fits(function, x, *rest)
    verdict = fits(function, x, *rest)
    if verdict is not True:
        return verdict
    blocks = importlib.import_module("..torch.blocks", __package__)
    arrays = [each for each in rest if isinstance(each, Tensor)]
    if function in LOSSES:
        arrays = list(rest[0].arrays)
        if x.dtype is not torch.float32 and blocks.autocast(x):
            return "autocast has the loss of half precision in float32"
    return blocks.why_not_eager(x, *arrays) or True


BACKEND = (
    Backend(
        name="triton",
        types=("torch:Tensor",),
        functions={
            **{name: f"{__name__}.rows:{name}" for name in (*DENSE, *PULLS)},
            **{name: f"{__name__}.loss:{name}" for name in LOSSES},
        },
        priority=1,
        should_run=f"{__name__}:should_run",
        options=OPTIONS,
    )
    if importlib.util.find_spec("triton") and (torch.version.cuda or torch.version.hip or INTERPRETED)
    else None
)
