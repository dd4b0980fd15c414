"""The ceilings themselves: a figure above one fails, and so does a ceiling lowered by a tenth."""

from __future__ import annotations

import check_cupy
import check_torch
import check_triton
import check_xla
import pytest
from ceilings import within

#: One of each kind.
KINDS = {
    "registers of Triton's kernels": dict(
        zip(check_triton.cases_of("softmax_vjp"), check_triton.CEILINGS["softmax_vjp"], strict=True)
    ),
    "registers of CuPy's kernels": check_cupy.MOST,
    "launches and passes": dict(zip(("launches", "passes"), check_torch.CEILINGS["with options"][0], strict=True)),
    "blocks, launches and GB of the linear model": dict(enumerate(check_torch.LINEAR["bfloat16", 42, False])),
    "kernels and temporaries of XLA's programs": dict(enumerate(check_xla.CEILINGS["logsumexp", "bfloat16"])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_ceiling_lowered_by_a_tenth_fails_with_the_figure(kind):
    ceilings = KINDS[kind]
    within(ceilings, ceilings)
    for name, figure in ceilings.items():
        with pytest.raises(AssertionError, match=f"{figure:.4g} for at most {0.9 * figure:.4g}"):
            within(ceilings | {name: 0.9 * figure}, ceilings)
        # one that could be lowered by a tenth guards nothing: every figure is within a tenth of its ceiling
        with pytest.raises(AssertionError, match=f"{0.9 * figure:.4g} for at most {figure:.4g}"):
            within(ceilings, ceilings | {name: 0.9 * figure})
