"""PyTorch's own kernels of the linear model: the generic ones' numbers, on torch's threads, memory bounded."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import oracle
import softgrad as sg
from kernel_cases import doubled, generic
from marks import some

pytestmark = pytest.mark.usefixtures("torch", "usual_kernels")


def linear_case(n, features, classes, dtype, asarray, torch):
    rng = np.random.default_rng(3)
    X, W, bias = (asarray(rng.normal(size=s), dtype) for s in ((n, features), (classes, features), (classes,)))
    return X, asarray(rng.integers(0, classes, n), "int64"), W, bias


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("n", "features", "classes"), [(50, 4, 3), (3000, 6, 5), (70, 8, 40), (0, 3, 4), (5, 0, 4)])
def test_linear_kernels_agree_with_the_generic_ones(n, features, classes, dtype, place, asarray, to_numpy, torch, rng):
    X, labels, W, bias = linear_case(n, features, classes, dtype, asarray, torch)
    soft = asarray(np.random.default_rng(1).random((n, classes)), dtype)
    ignoring = torch.where(torch.arange(n) % 3 == 0, -1, labels)
    lost = torch.where((torch.arange(n) % 3 == 0).unsqueeze(1), torch.nan, X)
    where = asarray(np.random.default_rng(2).random((n, classes)) > 0.3, "bool")
    weight = asarray(np.arange(n) % 4, dtype)
    cases = [
        (X, labels, None, {}),
        (X, labels, bias, {"wrt": ("X", "bias", "W"), "reduction": "sum"}),
        (X, labels, bias, {"sample_weight": weight, "z_loss": 0.1, "block_size": 7}),
        (lost, ignoring, bias, {"ignore_index": -1, "class_weight": asarray(np.arange(1, classes + 1), dtype)}),
        (lost, ignoring, bias, {"ignore_index": -1, "where": where, "wrt": ("W", "X")}),
        (X, soft, bias, {"label_smoothing": 0.1, "l2": 0.5}),
        (X, labels, bias, {"classes": [2, 0, 2]}),
    ]
    tolerance = {"float32": 5e-5, "float64": 1e-12, "bfloat16": 3e-2}[dtype]
    for data, target, offset, options in cases:
        value, grads = sg.linear_cross_entropy_value_and_grad(data, target, W, offset, **options)
        with sg.backends.use("generic"):
            expected, exact = sg.linear_cross_entropy_value_and_grad(
                data.double(),
                doubled(target),
                W.double(),
                doubled(offset),
                **{name: doubled(option) for name, option in options.items()},
            )
        pairs = [(value, expected)]
        pairs += zip(*((g if isinstance(g, tuple) else (g,)) for g in (grads, exact)), strict=True)
        names = {name: option for name, option in options.items() if name not in ("wrt", "classes")}
        pairs.append((sg.linear_cross_entropy(data, target, W, offset, **names), expected))
        for one, other in pairs:
            assert one.dtype == X.dtype
            one, other = to_numpy(one).astype(np.float64), to_numpy(other)
            scale = np.abs(other).max(initial=0.0)
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale, err_msg=str(options))


def test_pieces_run_on_torchs_threads(torch):
    from softgrad.backends import _threads
    from softgrad.backends.torch import threads as torch_threads

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = threading.Barrier(3)

        def task(start, stop):
            # three threads are in here at once, or nobody leaves
            together.wait(60)
            return list(range(start, stop)), _threads.count()

        with _threads.workers(3), torch_threads.shared():
            pieces = _threads.run(task, 3, 3)
            assert [i for some, _ in pieces for i in some] == [0, 1, 2]
            # no task of several starts threads of its own
            assert {count for _, count in pieces} == {1}
            with pytest.raises(ZeroDivisionError):
                _threads.run(lambda start, stop: 1 // start, 9, 3)
        with torch_threads.shared():
            assert _threads.count() <= 3
    finally:
        torch.set_num_threads(before)


def test_a_fit_far_apart_keeps_its_gradient(asarray, to_numpy):
    for dtype, bound in (("float32", 1e-4), ("float64", 1e-13)):
        for classes in (3, 40):
            rng = np.random.default_rng(8)
            labels = rng.integers(0, classes, 400)
            X = np.eye(classes)[labels] + rng.normal(size=(400, classes)) * 0.05
            W = np.eye(classes) * (30.0 if dtype == "float64" else 15.0)
            X, W = asarray(X, dtype), asarray(W, dtype)
            z = X @ W.T
            reference = oracle.cross_entropy(to_numpy(z).astype(np.float64)[:20], labels[:20], orders=("grad",))
            slope = to_numpy(sg.CrossEntropy(reduction="none").grad(z[:20], asarray(labels[:20], "int64")))
            exact = oracle.rounded(reference.grad("none"))
            assert np.linalg.norm(slope - exact) <= bound * np.linalg.norm(exact)
            got = to_numpy(sg.linear_cross_entropy_grad(X[:20], asarray(labels[:20], "int64"), W, reduction="sum"))
            product = exact.T @ to_numpy(X[:20]).astype(np.float64)
            assert np.linalg.norm(got - product) <= 10 * bound * np.linalg.norm(product)


def test_nothing_of_the_logits_size_is_kept_for_the_backward_pass(asarray, torch):
    X, labels, W, bias = linear_case(2000, 8, 500, "float32", asarray, torch)
    leaves = [a.requires_grad_(True) for a in (X, W, bias)]
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = sg.linear_cross_entropy(X, labels, W, bias)
    assert sum(kept.values()) <= 2 * sum(a.numel() for a in leaves)
    value.backward()
    expected = generic(sg.linear_cross_entropy_grad, X.detach(), labels, W.detach(), bias.detach(), wrt=("X", "W"))
    torch.testing.assert_close((X.grad, W.grad), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("recorded", some([False, True], True))
def test_memory_of_the_linear_loss_is_bounded_and_a_forked_child_has_threads_of_its_own(recorded, torch):
    # 2048 x 32000 logits in float32 take 262 MB
    program = f"""
        import os, resource, torch
        import softgrad as sg
        torch.set_num_threads(1)
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        X, W = torch.randn(2048, 16), torch.randn(32000, 16)
        y = torch.randint(0, 32000, (2048,))
        warm = [torch.randn(64, 16), torch.randn(1000, 16)]
        if {recorded}:
            for a in (W, X, *warm):
                a.requires_grad_(True)
            sg.linear_cross_entropy(warm[0], y[:64] % 1000, warm[1]).backward()
            before = peak()
            sg.linear_cross_entropy(X, y, W).backward()
        else:
            sg.linear_cross_entropy_value_and_grad(warm[0], y[:64] % 1000, warm[1])
            before = peak()
            sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("W", "X"))
        print(peak() - before)
        torch.set_num_threads(2)
        x = torch.randn(70000, 16)
        with sg.backends.workers(2):
            ours = sg.log_softmax(x).numpy()
            child = os.fork() if hasattr(os, "fork") else None
            if child == 0:
                # torch's own operations may wait for the parent's threads here
                os._exit(0 if (sg.log_softmax(x).numpy() == ours).all() else 1)
        assert child is None or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert float(run.stdout) < 80
