"""softgrad against torch's functions, value and gradient, on the sample inputs that torch tests them with."""

import math

import pytest
import torch
from differences import Differences
from torch.testing._internal.common_methods_invocations import op_db

import softgrad as sg

DIFFERENCES = Differences(
    "torch",
    {
        r"cross_entropy (?!.* W of [3-9]).* labels by class (?!.*'reduction': '(none|sum)')": (
            "the mean divides by the sum of the weights by class, as it does with class indices; torch by the samples"
        ),
        r"linear_cross_entropy .* W of [3-9] dims": "the weights of the linear model are a matrix",
        r"\[logsumexp  complex64 .*#([5-9]|1[0-4])\]": "torch's gradient loses digits far from 0; ours keeps them",
        r"masked.logsumexp  int64": "integers give the default float; torch rounds the result to an integer",
    },
)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
#: Differentiated in the wide dtypes alone: torch rounds each step of the narrow ones.
WIDE = (torch.float32, torch.float64, *COMPLEX)


def softmax(x, dim, dtype=None, mask=None):
    return sg.softmax(x, axis=dim, dtype=dtype, where=mask)


def safe_softmax(x, dim, dtype=None):
    return sg.softmax(x, axis=dim, dtype=dtype, where=x > -math.inf)


def log_softmax(x, dim, dtype=None, mask=None):
    return sg.log_softmax(x, axis=dim, dtype=dtype, where=mask)


def logsumexp(x, dim=None, keepdim=False, dtype=None, mask=None):
    return sg.logsumexp(x, axis=dim or None if isinstance(dim, tuple) else dim, keepdims=keepdim, where=mask)


def cross_entropy(x, target, weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    return sg.cross_entropy(
        x,
        target,
        axis=0 if x.ndim == 1 else 1,
        class_weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def linear_cross_entropy(
    x, W, target, linear_bias=None, weight=None, reduction="mean", ignore_index=None, label_smoothing=0.0, options=None
):
    one = x.ndim == 1
    loss = sg.linear_cross_entropy(
        x[None] if one else x,
        target[None] if one else target,
        W,
        linear_bias,
        class_weight=weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        block_size=getattr(options, "batch_chunk_size", None),
    )
    return loss[0] if one and reduction == "none" else loss


OURS = {
    "softmax": (softmax, FLOATS),
    "log_softmax": (log_softmax, FLOATS),
    "logsumexp": (logsumexp, (torch.int32, torch.uint8, *FLOATS, *COMPLEX)),
    "masked.softmax": (softmax, FLOATS),
    "masked.log_softmax": (log_softmax, FLOATS),
    "masked.logsumexp": (logsumexp, (torch.int64, *FLOATS, *COMPLEX)),
    "torch.ops.aten._safe_softmax.default": (safe_softmax, FLOATS),
    "nn.functional.cross_entropy": (cross_entropy, FLOATS),
    "nn.functional.linear_cross_entropy": (linear_cross_entropy, FLOATS),
}


def describe(op, dtype, sample):
    """The name of a case: its function, its dtype, its shapes and its options."""
    words = [f"{op.name} {op.variant_test_name} {str(dtype).removeprefix('torch.')}", str(tuple(sample.input.shape))]
    if "cross_entropy" in op.name:
        if "linear" in op.name:
            words.append(f"W of {sample.args[0].ndim} dims")
        words.append("labels by class" if sample.args[-1].is_floating_point() else "class indices")
    else:
        words += [str(argument) for argument in sample.args]
    options = {k: tuple(v.shape) if isinstance(v, torch.Tensor) else v for k, v in sample.kwargs.items()}
    options.pop("options", None)
    return " ".join([*words, str(options)])


def cases():
    missing = set(OURS) - {op.name for op in op_db}
    assert not missing, f"torch has no samples of {missing} any more"
    for op in op_db:
        ours, dtypes = OURS.get(op.name, (None, ()))
        for dtype in dtypes:
            for i, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=dtype in WIDE)):
                yield pytest.param(ours, op, dtype, sample, id=f"{describe(op, dtype, sample)} #{i}")


@pytest.mark.parametrize(("ours", "op", "dtype", "sample"), list(cases()))
def test_sample(ours, op, dtype, sample):
    expected = op(sample.input, *sample.args, **sample.kwargs)
    result = ours(sample.input, *sample.args, **sample.kwargs)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    mask = sample.kwargs.get("mask")
    if mask is not None and result.shape == sample.input.shape:
        # what torch gives at a masked element is not defined
        shown = mask.expand(result.shape)
        expected, result = (torch.where(shown, a, torch.zeros_like(a)) for a in (expected, result))
    rtol, atol = {torch.float16: (2e-3, 2e-3), torch.bfloat16: (2e-2, 2e-2)}.get(dtype, (None, None))
    torch.testing.assert_close(result, expected, rtol=rtol, atol=atol, equal_nan=True)
    if dtype in WIDE and result.numel():
        cotangent = torch.randn(result.shape, dtype=result.dtype, generator=torch.Generator().manual_seed(1))
        wrt = [a for a in (sample.input, *sample.args) if isinstance(a, torch.Tensor) and a.requires_grad]
        theirs = torch.autograd.grad(expected, wrt, cotangent)
        for mine, other in zip(torch.autograd.grad(result, wrt, cotangent), theirs, strict=True):
            torch.testing.assert_close(mine, other, equal_nan=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    DIFFERENCES.expect(items)


def pytest_terminal_summary(terminalreporter):
    DIFFERENCES.report(terminalreporter)
