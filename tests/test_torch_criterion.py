"""softgrad.torch: the value and gradient of PyTorch's own loss for the same arguments, and where the two differ."""

import copy
import inspect
import itertools
import pickle

import pytest

pytestmark = pytest.mark.usefixtures("torch")

SHAPES = [(4,), (6, 4), (2, 4, 5), (3, 4, 4, 4)]
OPTIONS = [
    dict(zip(("weighted", "reduction", "label_smoothing"), chosen, strict=True))
    for chosen in itertools.product([False, True], ["mean", "sum", "none"], [0.0, 0.3])
]


@pytest.fixture
def ours(torch):
    import softgrad.torch

    return softgrad.torch


def case(torch, shape, kind, dtype=None, *, weighted=False):
    """(input, target, weight); of indices, one in three is ignored."""
    torch.manual_seed(7)
    dtype = dtype or torch.float64
    axis = min(1, len(shape) - 1)
    logits = (3 * torch.randn(shape, dtype=torch.float64)).to(dtype).requires_grad_()
    samples = shape[:axis] + shape[axis + 1 :]
    if kind == "index":
        target = torch.randint(shape[axis], samples)
        if samples:
            target[torch.rand(samples) < 0.3] = -100
    else:
        target = torch.rand(shape, dtype=torch.float64).to(dtype)
        target = target if kind == "unnormalised" else target / target.sum(axis, keepdim=True)
    weight = torch.rand(shape[axis], dtype=torch.float64).to(dtype) if weighted else None
    return logits, target, weight


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("kind", ["index", "probabilities", "unnormalised"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradient_are_those_of_torch(shape, kind, options, torch, ours):
    keywords = dict(options)
    logits, target, weight = case(torch, shape, kind, weighted=keywords.pop("weighted"))
    found = ours.CrossEntropyLoss(weight, **keywords)(logits, target)
    expected = torch.nn.CrossEntropyLoss(weight, **keywords)(logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    towards = torch.rand_like(expected)
    slope, theirs = (torch.autograd.grad((y * towards).sum(), logits)[0] for y in (found, expected))
    torch.testing.assert_close(slope, theirs, rtol=1e-11, atol=1e-14)


def test_probabilities_have_a_gradient_too(torch, ours):
    logits, target, weight = case(torch, (6, 4), "probabilities", weighted=True)
    target.requires_grad_()
    for smoothing in (0.0, 0.2):
        found, expected = (
            torch.autograd.grad(f(logits, target, weight, label_smoothing=smoothing), (logits, target))
            for f in (ours.cross_entropy, torch.nn.functional.cross_entropy)
        )
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


def test_the_second_derivative_is_that_of_torch(torch, ours):
    logits, target, weight = case(torch, (6, 4), "index", weighted=True)
    found, expected = (
        torch.autograd.functional.hessian(lambda x, f=f: f(x, target, weight), logits.detach())
        for f in (ours.cross_entropy, torch.nn.functional.cross_entropy)
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["index", "probabilities"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes_are_those_of_torch(dtype, kind, torch, ours):
    logits, target, weight = case(torch, (50, 4), kind, getattr(torch, dtype), weighted=True)
    found, expected = (f(logits, target, weight) for f in (ours.cross_entropy, torch.nn.functional.cross_entropy))
    torch.testing.assert_close(found, expected)
    assert found.dtype == expected.dtype


def test_another_index_is_ignored(torch, ours):
    logits, target, _ = case(torch, (30, 4), "index")
    target = target.clamp(min=0)
    for ignore in (0, 2, -7):
        found, expected = (
            f(logits, target, ignore_index=ignore) for f in (ours.cross_entropy, torch.nn.functional.cross_entropy)
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["index", "probabilities"])
def test_under_compile_and_function_transforms(kind, torch, ours):
    logits, target, _ = case(torch, (6, 4), kind)
    criterion = ours.CrossEntropyLoss(label_smoothing=0.1)
    expected = criterion(logits, target)
    torch.testing.assert_close(torch.compile(criterion, fullgraph=True, backend="aot_eager")(logits, target), expected)
    slope = torch.func.grad(criterion)(logits.detach(), target)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, logits)[0])
    single = torch.func.vmap(ours.CrossEntropyLoss(label_smoothing=0.1))(logits.detach(), target)
    each = ours.CrossEntropyLoss(label_smoothing=0.1, reduction="none")(logits, target)
    torch.testing.assert_close(single, each.detach())


def test_autocast_computes_in_float32_as_torch_does(torch, ours):
    logits, target, _ = case(torch, (50, 4), "index", torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (f(logits, target) for f in (ours.cross_entropy, torch.nn.functional.cross_entropy))
    torch.testing.assert_close(found, expected)
    assert found.dtype == expected.dtype == torch.float32


def test_the_criterion_is_a_module_like_that_of_torch(torch, ours):
    weight = torch.tensor([1.0, 2.0, 3.0])
    mine, theirs = (
        c(weight, ignore_index=1, reduction="sum") for c in (ours.CrossEntropyLoss, torch.nn.CrossEntropyLoss)
    )
    assert isinstance(mine, torch.nn.CrossEntropyLoss)
    assert list(mine.state_dict()) == list(theirs.state_dict()) == ["weight"]
    mine.load_state_dict(theirs.state_dict())
    assert mine.double().weight.dtype == torch.float64
    for again in (pickle.loads(pickle.dumps(mine)), copy.deepcopy(mine)):
        assert (again.ignore_index, again.reduction) == (1, "sum")
        torch.testing.assert_close(again.weight, mine.weight)


def test_names_and_defaults_are_those_of_torch(torch, ours):
    for mine, theirs in (
        (ours.CrossEntropyLoss, torch.nn.CrossEntropyLoss),
        (ours.cross_entropy, torch.nn.functional.cross_entropy),
    ):
        given, expected = (
            {name: p.default for name, p in inspect.signature(f).parameters.items()} for f in (mine, theirs)
        )
        old = {"size_average", "reduce"}
        assert {k: v for k, v in given.items() if k not in old} == {k: v for k, v in expected.items() if k not in old}


# --- where the two differ


def test_digits_are_kept(torch, ours):
    logits = torch.tensor([[20.0, 0.0]], requires_grad=True)
    loss = ours.CrossEntropyLoss()(logits, torch.tensor([0]))
    loss.backward()
    exact = torch.tensor(2.0611536181902037e-09)
    torch.testing.assert_close(loss.detach(), exact, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(logits.grad, torch.stack([-exact, exact])[None], rtol=1e-6, atol=0.0)


def test_a_mean_over_nothing_is_zero(torch, ours):
    logits = torch.ones(2, 3, requires_grad=True)
    loss = ours.CrossEntropyLoss()(logits, torch.tensor([-100, -100]))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_wrong_targets_are_refused(torch, ours):
    criterion = ours.CrossEntropyLoss()
    with pytest.raises(IndexError, match=r"labels\[1\] is 3: there are 3 classes"):
        criterion(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(TypeError, match=r"target has the shape.*must be floating.*int64"):
        criterion(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="must be integers"):
        criterion(torch.zeros(2, 3), torch.zeros(2))
    for target in (torch.rand(2, 3), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="label_smoothing"):
            ours.cross_entropy(torch.zeros(2, 3), target, label_smoothing=1.5)
        with pytest.raises(ValueError, match="reduction"):
            ours.cross_entropy(torch.zeros(2, 3), target, reduction="average")
