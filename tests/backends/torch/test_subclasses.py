"""Subclasses of torch's tensors: shares of one, ones without values, two that know nothing of each other."""

import importlib

import numpy as np
import pytest

import softgrad as sg

RNG = np.random.default_rng(4)
LOGITS, FEATURES, WEIGHTS = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 3)), RNG.normal(size=(4, 3))
LABELS = np.asarray([0, 1, 2, 3, 1, 0])
CALLS = {
    "loss": lambda x, y, X, W: sg.cross_entropy(x, y, validate=True),
    "class_weight": lambda x, y, X, W: sg.cross_entropy(x, y, class_weight=[1.0, 2.0, 3.0, 0.5]),
    "smoothed gradient": lambda x, y, X, W: sg.cross_entropy_grad(x, y, label_smoothing=0.1, sample_weight=0.5),
    "hvp": lambda x, y, X, W: sg.cross_entropy_hvp(x, y, x),
    "linear": lambda x, y, X, W: sg.linear_cross_entropy(X, y, W, block_size=4),
    "linear gradient": lambda x, y, X, W: sg.linear_cross_entropy_grad(X, y, W),
}


@pytest.fixture
def tensors(torch):
    return [torch.tensor(a) for a in (LOGITS, LABELS, FEATURES, WEIGHTS)]


@pytest.fixture(scope="module")
def distribute(tmp_path_factory):
    """A function that shares the first axis out over the processes, of which there is one."""
    dist = importlib.import_module("torch.distributed")
    tensor = importlib.import_module("torch.distributed.tensor")
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    mesh = importlib.import_module("torch.distributed.device_mesh").init_device_mesh("cpu", (1,))
    yield lambda a: tensor.distribute_tensor(a, mesh, [tensor.Shard(0)])
    dist.destroy_process_group()


@pytest.mark.parametrize("name", CALLS)
def test_distributed(name, tensors, distribute):
    got = CALLS[name](*map(distribute, tensors))
    assert type(got).__name__ == "DTensor"
    np.testing.assert_allclose(got.full_tensor(), CALLS[name](*tensors), rtol=1e-12)


def test_distributed_under_autograd(tensors, distribute):
    x, labels, *_ = tensors
    logits = distribute(x).requires_grad_()
    sg.cross_entropy(logits, distribute(labels)).backward()
    np.testing.assert_allclose(logits.grad.full_tensor(), sg.cross_entropy_grad(x, labels), rtol=1e-12)


def test_distributed_beside_plain_is_refused_by_name(tensors, distribute):
    x, labels, *_ = tensors
    with pytest.raises(sg.MixedArraysError, match="labels is a Tensor, logits is a DTensor"):
        sg.cross_entropy(distribute(x), labels)
    with pytest.raises(sg.MixedArraysError, match="labels is a DTensor, logits is a Tensor"):
        sg.cross_entropy(x, distribute(labels))
    with pytest.raises(TypeError, match="full_tensor"):
        sg.SoftmaxRegression().fit(distribute(x), distribute(labels))


@pytest.mark.parametrize("name", ["smoothed gradient", "hvp", "linear", "linear gradient"])
def test_without_values(name, torch, tensors):
    mode = importlib.import_module("torch._subclasses").FakeTensorMode()
    got, expected = CALLS[name](*map(mode.from_tensor, tensors)), CALLS[name](*tensors)
    assert (type(got).__name__, got.shape, got.dtype) == ("FakeTensor", expected.shape, expected.dtype)


@pytest.mark.parametrize("given", ["class_weight", "sample_weight", "z_loss"])
def test_numbers_beside_tensors_without_values(given, torch, tensors):
    mode = importlib.import_module("torch._subclasses").FakeTensorMode()
    x, labels = map(mode.from_tensor, tensors[:2])
    value = {"class_weight": [1.0] * x.shape[-1], "sample_weight": 2.0, "z_loss": 0.1}[given]
    got = sg.cross_entropy(x, labels, **{given: value})
    assert (type(got).__name__, got.shape, got.dtype) == ("FakeTensor", (), x.dtype)


@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_a_fit_wants_values(kind, torch, tensors):
    mode = importlib.import_module("torch._subclasses").FakeTensorMode()
    x, labels = (a.to("meta") if kind == "meta" else mode.from_tensor(a) for a in tensors[:2])
    with pytest.raises(TypeError, match="without values"):
        sg.SoftmaxRegression().fit(x, labels)


def test_two_strangers_are_refused_by_name(torch, tensors):
    one, two = (type(name, (torch.Tensor,), {}) for name in ("One", "Two"))
    x, labels, *_ = tensors
    with pytest.raises(sg.MixedArraysError, match="labels is a Two, logits is a One"):
        sg.cross_entropy(x.as_subclass(one), labels.as_subclass(two))
    np.testing.assert_allclose(sg.cross_entropy(x.as_subclass(one), labels), sg.cross_entropy(x, labels), rtol=1e-12)
