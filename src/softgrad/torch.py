"""The loss by PyTorch's names and conventions: a replacement for ``torch.nn.CrossEntropyLoss``."""

from __future__ import annotations

from typing import Any

import torch

from ._cross_entropy import CrossEntropy
from ._docstrings import passes_on_to

__all__ = ["CrossEntropyLoss", "cross_entropy"]


def cross_entropy(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """``torch.nn.functional.cross_entropy`` by softgrad's kernels: same arguments, same result and gradient.

    Parameters
    ----------
    input : Tensor
        Logits ``(C,)``, ``(N, C)`` or ``(N, C, d1, ..., dk)``: the classes are axis 1.
    target : Tensor
        Class indices of input's shape without the classes, or probabilities of input's shape, in a floating dtype.
    weight : Tensor, optional
        One weight for each class, ``(C,)``.
    ignore_index : int, default -100
        The class index of samples that count for nothing; without meaning where target holds probabilities.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the weight of the classes of the samples that count; by the number of samples where target
        holds probabilities.
    label_smoothing : float, default 0.0
        Fraction of the target, from 0 to 1, spread evenly over all classes.

    Returns
    -------
    Tensor
        0-d, or of input's shape without the classes for ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        If a tensor is of a wrong dtype, shape or device, or an option is out of its range.
    IndexError
        If a class index is out of range, in eager code on a CPU. Elsewhere the sample's loss and gradient are NaN.

    Notes
    -----
    Two results differ from PyTorch's: small losses and gradients keep all their digits, and a mean over no sample (all
    ignored, or of weight 0) is 0 with a gradient of 0 instead of NaN.

    Examples
    --------
    >>> import torch
    >>> from softgrad.torch import cross_entropy
    >>> logits, target = torch.tensor([[20.0, 0.0], [1.0, 2.0]]), torch.tensor([0, -100])
    >>> print(f"{cross_entropy(logits, target):.6g}")
    2.06115e-09
    """
    axis = 1 if input.ndim > 1 else 0
    options: dict[str, Any] = {"axis": axis, "class_weight": weight, "label_smoothing": label_smoothing}
    if target.shape != input.shape:
        # reading a value waits for a device, and has no place in a trace
        eager = type(target) is torch.Tensor and not torch.compiler.is_compiling()
        validate = eager and target.device.type == "cpu" and torch._C._functorch.peek_interpreter_stack() is None
        loss = CrossEntropy(ignore_index=ignore_index, reduction=reduction, **options)  # type: ignore[arg-type]
        return loss(input, target, validate=validate)
    if not target.is_floating_point():
        raise TypeError(
            f"target has the shape {tuple(input.shape)} of input, and so holds probabilities, which must be floating "
            f"numbers: got dtype {target.dtype}"
        )
    # of unnormalised targets PyTorch smooths with a sum of 1, and its mean counts samples
    if label_smoothing:
        CrossEntropy(label_smoothing=label_smoothing)
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    options["label_smoothing"] = 0.0
    if reduction != "mean":
        return CrossEntropy(reduction=reduction, **options)(input, target)  # type: ignore[arg-type]
    return CrossEntropy(reduction="none", **options)(input, target).mean()


@passes_on_to(cross_entropy)
class CrossEntropyLoss(torch.nn.CrossEntropyLoss):  # type: ignore[misc]
    """``torch.nn.CrossEntropyLoss`` by softgrad's kernels: a criterion with the same arguments and defaults.

    It is a subclass of PyTorch's: ``weight`` is a buffer that moves with the module and is saved with its state, and
    ``isinstance`` holds. What it computes is :func:`cross_entropy`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        Deprecated by PyTorch in favour of ``reduction``.

    Examples
    --------
    >>> import torch
    >>> from softgrad.torch import CrossEntropyLoss
    >>> criterion = CrossEntropyLoss(label_smoothing=0.1)
    >>> logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    >>> loss = criterion(logits, torch.zeros(2, 4, 4, dtype=torch.int64))
    >>> loss.backward()
    >>> print(f"{loss.item():.6f}", tuple(logits.grad.shape))
    1.098612 (2, 3, 4, 4)
    """

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss.

        Parameters
        ----------
        input : Tensor
            Logits, with the classes along axis 1.
        target : Tensor
            Class indices, or probabilities of input's shape.

        Returns
        -------
        Tensor
            0-d, or of input's shape without the classes for ``reduction="none"``.
        """
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
