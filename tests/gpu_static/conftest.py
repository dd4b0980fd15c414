"""PyTorch as built for CUDA, so that the back end of Triton's kernels is there."""

import torch

torch.version.cuda = torch.version.cuda or "12.8"
