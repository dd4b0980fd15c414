"""What the tests of Triton's kernels run on."""

import pytest

from softgrad import backends


@pytest.fixture(autouse=True)
def chosen():
    """Run Triton's kernels, which nothing else chooses for CPU tensors."""
    with backends.use("triton"):
        yield
