"""Triton's kernels in compiled graphs and under autograd, by the interpreter on CPU tensors."""

from __future__ import annotations

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._functorch.aot_autograd import aot_module_simplified

import softgrad as sg
from marks import some
from softgrad import backends
from triton_cases import DENSE, drawn

pytestmark = pytest.mark.libraries("torch")
LABELS = torch.tensor([0, 3, 39, -100, 7])
WEIGHT = torch.linspace(0.5, 2, 40)
SHOWN = (torch.arange(40) != 5) & (torch.arange(5)[:, None] != 4) | (torch.arange(40) % 8 == 7)
FUNCTIONS = {
    "softmax": lambda x: sg.softmax(x, axis=-1),
    "log_softmax": lambda x: sg.log_softmax(x, axis=-1),
    "logsumexp": lambda x: sg.logsumexp(x, axis=-1),
    "loss": lambda x: sg.cross_entropy(x, LABELS, ignore_index=-100),
    "each": lambda x: sg.cross_entropy(x, LABELS.clamp_min(0), reduction="none"),
    "options": lambda x: sg.cross_entropy(
        x, LABELS, ignore_index=-100, label_smoothing=0.1, z_loss=0.01, class_weight=WEIGHT, sample_weight=WEIGHT[:5]
    ),
    "masked": lambda x: sg.log_softmax(x, axis=-1, where=SHOWN),
    "scaled": lambda x: sg.cross_entropy(
        x, LABELS, ignore_index=-100, where=SHOWN, softcap=5.0, temperature=0.5, logit_shift=WEIGHT, focal=1.5
    ),
    "targets": lambda x: sg.cross_entropy(x, torch.ones(5, 40) / 40, class_weight=WEIGHT),
}


@pytest.fixture(autouse=True)
def compiled_anew():
    torch._dynamo.reset()


def logits(dtype=torch.float32):
    return drawn((5, 40), dtype)


def compiled(function, graphs):
    """A function in one graph, whose operations are noted, and those of its gradient."""

    def note(module, _):
        graphs.append([str(node.target) for node in module.graph.nodes if node.op == "call_function"])
        return make_boxed_func(module.forward)

    def backend(module, inputs):
        return aot_module_simplified(module, inputs, fw_compiler=note)

    return torch.compile(function, fullgraph=True, backend=backend)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", some(FUNCTIONS, "softmax", "logsumexp", "options", "scaled", "targets"))
def test_one_graph_holds_the_kernels_of_value_and_gradient(name, dtype):
    graphs = []
    function = compiled(FUNCTIONS[name], graphs)
    x, eager = logits(dtype).requires_grad_(), logits(dtype).requires_grad_()
    got, want = function(x), FUNCTIONS[name](eager)
    assert torch.equal(got, want)
    assert got.dtype is want.dtype
    got.float().square().sum().backward()
    want.float().square().sum().backward()
    # a compiler may take cotangents in another order of operations
    torch.testing.assert_close(x.grad, eager.grad)
    assert len(graphs) == 2
    for graph in graphs:
        assert sum(each.startswith("softgrad.") for each in graph) == 1, graph
        assert not any(word in each for each in graph for word in ("aten.exp.", "aten.amax", "softmax")), graph


@pytest.mark.parametrize("name", some(FUNCTIONS, "log_softmax", "loss", "masked", "scaled"))
def test_a_call_that_nothing_records_is_one_operator(name):
    graphs = []
    x = logits()
    assert torch.equal(compiled(FUNCTIONS[name], graphs)(x), FUNCTIONS[name](x))
    assert sum(each.startswith("softgrad.") for graph in graphs for each in graph) == 1


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "loss"])
def test_what_is_transformed_or_exported_is_of_pytorchs_operations(name):
    graphs, x = [], logits()
    want = torch.func.vmap(FUNCTIONS[name])(x.expand(2, 5, 40).clone())
    torch.testing.assert_close(compiled(torch.func.vmap(FUNCTIONS[name]), graphs)(x.expand(2, 5, 40).clone()), want)
    assert not any(each.startswith("softgrad.") for graph in graphs for each in graph)
    if name == "loss":
        return  # its labels are no argument, and so no tensor of what is exported

    class Model(torch.nn.Module):
        def forward(self, x):
            return FUNCTIONS[name](x)

    program = torch.export.export(Model(), (x,))
    assert not any("softgrad" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), FUNCTIONS[name](x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_recorded_losses_have_every_derivative(name):
    def derivatives(x):
        (first,) = torch.autograd.grad(FUNCTIONS[name](x).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return first, second

    got = derivatives(logits().requires_grad_())
    with backends.use("generic"):
        want = derivatives(logits().double().requires_grad_())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=1e-6)


def test_a_cotangent_at_a_hidden_class_leaves_no_trace():
    x, c = logits().requires_grad_(), torch.ones(5, requires_grad=True)
    shown = torch.arange(40) != 5
    each = sg.cross_entropy(x, LABELS, ignore_index=-100, where=shown, reduction="none")
    (slope,) = torch.autograd.grad((each * c).sum(), x, create_graph=True)
    for got in torch.autograd.grad(slope, (x, c), torch.ones(5, 40).masked_fill_(~shown, float("nan"))):
        assert got.isfinite().all()


def test_weights_of_samples_have_derivatives():
    weight = WEIGHT[:5].clone().requires_grad_()
    x = logits().requires_grad_()
    value = sg.cross_entropy(x, LABELS, ignore_index=-100, sample_weight=weight)
    by_x, by_weight = torch.autograd.grad(value, (x, weight), create_graph=True)
    again = torch.autograd.grad(by_x.square().sum() + by_weight.square().sum(), (x, weight))
    with backends.use("generic"):
        w, z = weight.detach().double().requires_grad_(), logits().double().requires_grad_()
        value = sg.cross_entropy(z, LABELS, ignore_index=-100, sample_weight=w)
        wide = torch.autograd.grad(value, (z, w), create_graph=True)
        wide_again = torch.autograd.grad(wide[0].square().sum() + wide[1].square().sum(), (z, w))
    for a, b in zip((by_x, by_weight, *again), (*wide, *wide_again), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-7)


def test_autocast_has_the_loss_in_float32_and_the_gradient_as_the_logits():
    x = logits(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = sg.cross_entropy(x, LABELS, ignore_index=-100)
        graphs = []
        again = compiled(FUNCTIONS["loss"], graphs)(x)
    assert value.dtype is again.dtype is torch.float32
    torch.testing.assert_close(value, again)
    exact = torch.nn.functional.cross_entropy(x.detach().double(), LABELS, ignore_index=-100)
    torch.testing.assert_close(value.detach().double(), exact, rtol=1e-6, atol=0)
    value.backward()
    assert x.grad.dtype is torch.bfloat16


def test_an_ignored_row_of_nan_leaves_no_trace():
    x = logits()
    x[3] = float("nan")
    x.requires_grad_()
    FUNCTIONS["options"](x).backward()
    assert x.grad.isfinite().all()
    assert not x.grad[3].any()


def test_batched_cotangents():
    x = logits().requires_grad_()
    each = FUNCTIONS["each"](x)
    got = torch.autograd.grad(each, x, torch.eye(5), retain_graph=True, is_grads_batched=True)[0]
    want = torch.stack([torch.autograd.grad(each, x, one, retain_graph=True)[0] for one in torch.eye(5)])
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_operators_tell_a_compiler_the_layout_of_what_they_give(axis, order):
    x = drawn((2, 3, 4)).permute(order)
    labels = torch.zeros(sg.logsumexp(x, axis=axis).shape, dtype=torch.int64)
    plain = (*[None] * 4, axis, False, None, 1.0, 0.0, 0.0, None, 0.0, "none", True, True)
    for name, *arguments in (
        *(("dense", x, function, axis, None) for function in DENSE),
        ("vjp", x, x.contiguous(), axis, True),
        ("cross_entropy", x, labels, *plain),
    ):
        operator = getattr(torch.ops.softgrad, name)
        torch.library.opcheck(operator, tuple(arguments), test_utils=("test_faketensor",))
