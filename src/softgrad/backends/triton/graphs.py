"""What of the operators is called by name, without Triton being imported."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ..._options import LossArgs

#: Triton then runs kernels by NumPy, on tensors of a CPU: for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def loss_operator(x: Tensor, job: LossArgs, value: bool, gradient: bool) -> list[Tensor]:
    """The loss in float32, its gradient, or both."""
    out: list[Tensor] = torch.ops.softgrad.cross_entropy(
        x, job.labels, job.class_weight, job.sample_weight, job.logit_shift, job.where, job.axis, job.dense,
        job.softcap, job.temperature, job.label_smoothing, job.focal, job.ignore_index, job.z_loss, job.reduction,
        value, gradient,
    )  # fmt: skip
    return out
