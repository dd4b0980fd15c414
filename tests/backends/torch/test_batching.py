"""Batches of torch's: vmap over losses, over their gradients, and over backward passes that are already recorded."""

import warnings

import pytest

import softgrad as sg
from torch_second_order import second_order_holds

OPTIONS = {
    "plain": {},
    "class weights": {"class_weight": [1.0, 2.0, 0.5]},
    "smoothing": {"label_smoothing": 0.1, "z_loss": 0.2},
    "ignored": {"class_weight": [1.0, 2.0, 0.5], "ignore_index": 1},
}
pytestmark = [
    pytest.mark.parametrize("options", OPTIONS),
    pytest.mark.parametrize("reduction", ["none", "sum", "mean"]),
]


@pytest.fixture
def torch(backend):
    if backend != "torch":
        pytest.skip("a transform of torch")
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield torch


@pytest.fixture
def loss(options, reduction):
    return sg.CrossEntropy(reduction=reduction, **OPTIONS[options])


@pytest.fixture
def linear(torch, options, reduction):
    """(a function of X, W and bias; these)."""
    labels = torch.tensor([0, 1, 2, 1, 0])
    parameters = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 4), (3, 4), (3,))]
    model = {"reduction": reduction, "block_size": 3, **OPTIONS[options]}
    return lambda X, W, bias: sg.linear_cross_entropy(X, labels, W, bias, **model), parameters


def rows_alike(torch, batched, rows):
    for i, row in enumerate(rows):
        for got, expected in zip(batched, row, strict=True):
            torch.testing.assert_close(got[i], expected)


def test_a_batch_of_losses_is_a_batch(torch, loss):
    logits, labels = torch.randn(7, 5, 3, dtype=torch.float64), torch.randint(0, 3, (7, 5))
    rows = torch.stack([loss(x, y) for x, y in zip(logits, labels, strict=True)])
    torch.testing.assert_close(torch.func.vmap(loss)(logits, labels), rows)


def test_a_batch_of_pullbacks_is_a_batch(torch, loss):
    def slope(x, y):
        value, pull = torch.func.vjp(lambda x: loss(x, y), x)
        return pull(torch.ones_like(value))

    logits, labels = torch.randn(7, 5, 3, dtype=torch.float64), torch.randint(0, 3, (7, 5))
    rows = [slope(x, y) for x, y in zip(logits, labels, strict=True)]
    rows_alike(torch, torch.func.vmap(slope)(logits, labels), rows)


@pytest.mark.parametrize("how", ["is_grads_batched", "create_graph", "vmap"])
def test_a_batch_of_cotangents_goes_back_through_the_linear_loss(how, torch, linear):
    function, parameters = linear
    value = function(*parameters)
    cotangents = torch.randn(6, *value.shape, dtype=torch.float64)

    def back(c, **options):
        return torch.autograd.grad(value, parameters, c, retain_graph=True, **options)

    if how == "vmap":
        batched = torch.func.vmap(back)(cotangents)
    else:
        batched = back(cotangents, is_grads_batched=True, create_graph=how == "create_graph")
    rows_alike(torch, batched, [back(c) for c in cotangents])


def test_derivatives_of_the_linear_loss_hold_in_batches(torch, linear):
    function, parameters = linear
    assert torch.autograd.gradcheck(function, parameters, check_batched_grad=True)
    assert second_order_holds(function, parameters, check_batched_grad=True)
