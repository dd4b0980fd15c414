"""Fixtures of the tests of PyTorch's own kernels."""

import zlib

import numpy as np
import pytest

import softgrad as sg


@pytest.fixture
def rng(request):
    """Draws of a test's own, whatever ran before it."""
    return np.random.default_rng(zlib.crc32(request.node.originalname.encode()))


@pytest.fixture(params=["torch", "torch_cpu"])
def place(request):
    """Run what is for all devices, and what is for a CPU."""
    with sg.backends.use(request.param):
        yield request.param
