"""What of the operators is called by name, without Triton being imported."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ..._options import LossArgs

#: Triton then runs kernels by NumPy, on tensors of a CPU: for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def loss_operator(x: Tensor, args: LossArgs, value: bool, gradient: bool) -> list[Tensor]:
    """The loss in float32, its gradient, or both."""
    out: list[Tensor] = torch.ops.softgrad.cross_entropy(
        x, args.labels, args.class_weight, args.sample_weight, args.logit_shift, args.where, args.axis, args.dense,
        args.softcap, args.temperature, args.label_smoothing, args.focal, args.ignore_index, args.z_loss,
        args.reduction, value, gradient,
    )  # fmt: skip
    return out
