"""A row's bits depend on the row alone: a selection of what ``nox -s same_bits`` compares."""

import numpy as np
import pytest

import same_bits
import softgrad as sg


@pytest.mark.libraries("numpy", "torch", "dask", "array_api_strict")
@pytest.mark.usefixtures("usual_kernels")
@pytest.mark.parametrize("group", same_bits.GROUPS)
@pytest.mark.parametrize("k", [3, 17, 300])
def test_a_row_has_the_same_bits_in_any_company(k, group, backend):
    case = same_bits.Case(backend, k, "float32", calm=False, largest=9000)
    with np.errstate(all="ignore"):
        found = [each for each in case.differences(group, threads=(1,)) if each[2]]
    assert not found


@pytest.mark.libraries("numpy")
def test_the_comparison_sees_a_bit():
    case = same_bits.Case("numpy", 3, "float32", calm=True, largest=100)
    call = case.call

    def with_a_bit_less(group, layout, rows):
        out = call(group, layout, rows)
        if isinstance(rows, slice) and rows.stop is not None:
            out["softmax"] = np.nextafter(out["softmax"], np.float32(0))
        return out

    case.call = with_a_bit_less
    found = {function for function, _, rows in case.differences("dense", threads=(1,)) if rows}
    assert found == {"softmax"}


@pytest.mark.usefixtures("usual_kernels")
def test_a_value_has_the_same_bits_where_autograd_records_it(torch):
    x, labels = torch.randn(50, 30), torch.arange(50) % 30
    recorded = x.clone().requires_grad_()
    for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
        assert torch.equal(function(recorded, axis=-1), function(x, axis=-1))
    loss = sg.cross_entropy(recorded, labels, reduction="none")
    assert torch.equal(loss, sg.cross_entropy(x, labels, reduction="none"))
    loss.sum().backward()
    assert torch.equal(recorded.grad, sg.cross_entropy_grad(x, labels, reduction="none"))
