"""What the tests of the compiled loops need."""

import pytest

from kernel_cases import needs_numba


@pytest.fixture(autouse=True)
def _of_numba():
    needs_numba()
