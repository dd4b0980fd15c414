"""Classes split over processes: every share gives the loss of the whole, and its own part of the gradient."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import oracle
import parallel_cases as cases
import softgrad as sg
from marks import full, late, late_on_jax
from softgrad import parallel
from softgrad.parallel import arguments

every_option = pytest.mark.parametrize("options", cases.OPTIONS)
# Dask would compute the shares of all threads again in each of them, JAX compile every operation for every shape: the
# tests below try them, and those of JAX's devices take all options
eager = pytest.mark.libraries("numpy", "torch", "cupy", "array_api_strict")
every_cut = pytest.mark.parametrize("cuts", cases.CUTS)


def threads(xp, cuts):
    return cases.Threads(len(cuts) - 1, xp.maximum, lambda a, b: a + b)


def alone(array, op):
    return array


def close(result, expected, rtol=1e-13, atol=1e-15):
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol)


@eager
@every_cut
@every_option
def test_shares_of_logits_give_the_loss_of_the_whole(cuts, options, xp, asarray, to_numpy):
    cuts, options = cases.CUTS[cuts], cases.OPTIONS[options]
    meeting, parts = threads(xp, cuts), cases.shares(cuts)

    def one(rank, reduce):
        labels, given = cases.of_share(options, parts[rank], asarray)
        x, first = asarray(cases.LOGITS[:, parts[rank]]), cuts[rank]
        value, grad = parallel.cross_entropy_value_and_grad(x, labels, first_class=first, reduce=reduce, **given)
        again = parallel.cross_entropy(x, labels, first_class=first, reduce=reduce, **given)
        return to_numpy(value), to_numpy(again), to_numpy(grad)

    (value, grad), _ = cases.whole(options)
    for part, (found, again, slope) in zip(parts, meeting.run(one), strict=True):
        close(found, value)
        close(again, value)
        close(slope, grad[:, part])
    assert [op for op, _ in meeting.calls] == cases.collectives(options) * 2


@eager
@every_cut
@every_option
@pytest.mark.parametrize("block_size", [late(None, "array_api_strict"), 4])
def test_shares_of_the_linear_model_give_the_loss_of_the_whole(cuts, options, block_size, xp, asarray, to_numpy):
    cuts, options = cases.CUTS[cuts], cases.OPTIONS[options]
    meeting, parts = threads(xp, cuts), cases.shares(cuts)
    each = options.get("reduction") == "none"

    def one(rank, reduce):
        labels, given = cases.of_share(options, parts[rank], asarray)
        arguments = asarray(cases.X), labels, asarray(cases.W[parts[rank]]), asarray(cases.BIAS[parts[rank]])
        given |= {"first_class": cuts[rank], "reduce": reduce, "block_size": block_size and block_size + rank}
        if each:
            return (to_numpy(parallel.linear_cross_entropy(*arguments, **given)),)
        value, grads = parallel.linear_cross_entropy_value_and_grad(*arguments, wrt=("W", "bias", "X"), **given)
        return to_numpy(value), *(to_numpy(g) for g in grads)

    _, (value, grads) = cases.whole(options)
    for part, (found, *slopes) in zip(parts, meeting.run(one), strict=True):
        close(found, value)
        if not each:
            close(slopes[0], grads[0][part], 1e-12, 1e-14)
            close(slopes[1], grads[1][part], 1e-12, 1e-14)
            close(slopes[2], grads[2], 1e-12, 1e-14)
    assert [op for op, _ in meeting.calls] == cases.collectives(options) + ["sum"] * (not each)


def test_the_closed_forms_are_kept(xp, asarray, to_numpy):
    logits = np.asarray([[50.0, 0.0, 1.0], [0.0, 1.0, 60.0]])
    meeting = threads(xp, (0, 1, 3))

    def one(rank, reduce):
        part = slice(0, 1) if rank == 0 else slice(1, 3)
        value, grad = parallel.cross_entropy_value_and_grad(
            asarray(logits[:, part]), asarray([0, 2], "int64"), first_class=rank, reduce=reduce, reduction="none"
        )
        return to_numpy(value), to_numpy(grad)

    (value, left), (_, right) = meeting.run(one)
    want = [oracle.rounded(a) for a in (exact_losses(logits, [0, 2]), exact_slopes(logits, [0, 2]))]
    close(value, want[0], 1e-15, 0)
    close(np.concatenate([left, right], axis=1), want[1], 1e-15, 0)


SCALED = {
    "temperature": {"temperature": 1 / 32},
    "softcap": {"softcap": 2.0**19, "temperature": 1 / 32},
    "logit_shift": {"logit_shift": np.asarray([30.0, 0.0, -3.5, 1.0, -np.inf]), "focal": 2.0},
    "smoothed": {"logit_shift": np.asarray([30.0, 0.0, -3.5, 1.0, 2.0]), "softcap": 2.0**19, "label_smoothing": 0.1},
}


@eager
@pytest.mark.parametrize("options", SCALED)
def test_scaled_shares_keep_the_digits_of_differences(options, xp, asarray, to_numpy):
    options = SCALED[options]
    # large logits with one of them ahead; the last class of all, and is taken out, or behind once it is shifted
    logits = 2.0**20 + np.asarray([[1.0, 0.0, -0.5, 2.0, 40.0], [0.0, 0.5, 0.25, -1.0, 1.0]])
    labels, cuts = np.asarray([0, 0]), (0, 1, 3, 5)
    want = oracle.cross_entropy(logits, labels, **options)
    meeting, parts = threads(xp, cuts), cases.shares(cuts)

    def one(rank, reduce):
        given = {**options, "first_class": cuts[rank], "reduce": reduce, "reduction": "none"}
        if "logit_shift" in given:
            given["logit_shift"] = asarray(given["logit_shift"][parts[rank]])
        x, index = asarray(logits[:, parts[rank]]), asarray(labels, "int64")
        return [to_numpy(a) for a in parallel.cross_entropy_value_and_grad(x, index, **given)]

    found = meeting.run(one)
    for value, _ in found:
        close(value, oracle.rounded(want.value("none")), 2e-13, 0)
    close(np.concatenate([grad for _, grad in found], axis=1), oracle.rounded(want.grad("none")), 2e-13, 0)


def exact_losses(logits, labels):
    return np.asarray([oracle.logsumexp(row - row[y], axis=None)[()] for row, y in zip(logits, labels, strict=True)])


def exact_slopes(logits, labels):
    with oracle.mpmath.workdps(oracle.DIGITS):
        out = np.asarray([[oracle.mpmath.exp(a) for a in row] for row in oracle.exact(logits)])
        out = out / out.sum(axis=1, keepdims=True)
        for row, y in zip(out, labels, strict=True):
            row[y] = -sum(p for j, p in enumerate(row) if j != y)
    return out


@late_on_jax
def test_other_axes_and_layouts(xp, asarray, to_numpy):
    logits = np.arange(24.0).reshape(2, 4, 3) % 5
    labels = np.asarray([[3, 0, 1], [2, 2, 3]])
    meeting = threads(xp, (0, 1, 4))

    def one(rank, reduce):
        part = slice(0, 1) if rank == 0 else slice(1, 4)
        options = {"first_class": rank, "reduce": reduce}
        value, grad = parallel.cross_entropy_value_and_grad(
            asarray(logits[:, part]), asarray(labels, "int64"), axis=1, **options
        )
        X, W = asarray(cases.X.T), asarray(cases.W[:4][part].T)
        linear, slope = parallel.linear_cross_entropy_value_and_grad(
            X, asarray(cases.LABELS % 4, "int64"), W, sample_axis=1, **options
        )
        return [to_numpy(a) for a in (value, grad, linear, slope)]

    value, grad = sg.cross_entropy_value_and_grad(logits, labels, axis=1)
    linear, slope = sg.linear_cross_entropy_value_and_grad(cases.X, cases.LABELS % 4, cases.W[:4])
    found = meeting.run(one)
    for mine in found:
        close(mine[0], value)
        close(mine[2], linear)
    close(np.concatenate([mine[1] for mine in found], axis=1), grad)
    close(np.concatenate([mine[3] for mine in found], axis=1), slope.T)


@late_on_jax
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_narrow_formats_are_summed_in_float32(dtype, xp, asarray, to_numpy, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype}")
    meeting, seen = threads(xp, (0, 4, 11)), []

    def one(rank, reduce):
        def watched(array, op):
            seen.append(str(array.dtype).rpartition(".")[2])
            return reduce(array, op)

        part = slice(0, 4) if rank == 0 else slice(4, 11)
        value, grad = parallel.cross_entropy_value_and_grad(
            asarray(cases.LOGITS[:, part], dtype), asarray(cases.LABELS, "int64"), first_class=4 * rank, reduce=watched
        )
        assert value.dtype == grad.dtype == asarray(0.0, dtype).dtype
        return to_numpy(value)

    found = meeting.run(one)
    want = sg.cross_entropy(np.asarray(cases.LOGITS, dtype), cases.LABELS)
    close(found, [want, want], 2e-3 if dtype == "float16" else 1e-6)
    assert set(seen) == {"float32"}


@late_on_jax
def test_a_label_that_nobody_holds_gives_nan(asarray, to_numpy):
    labels = asarray([0, 3, -1], "int64")
    value, grad = parallel.cross_entropy_value_and_grad(
        asarray(np.zeros((3, 3))), labels, first_class=0, reduce=alone, reduction="none"
    )
    assert np.isnan(to_numpy(value)).tolist() == [False, True, True]
    assert np.isnan(to_numpy(grad)).all(axis=1).tolist() == [False, True, True]


@late_on_jax
def test_samples_that_do_not_count_may_hold_anything(asarray, to_numpy):
    logits, weight = np.zeros((3, 2)), np.asarray([1.0, 0.0, 1.0])
    logits[1] = np.nan
    value, grad = parallel.cross_entropy_value_and_grad(
        asarray(logits), asarray([0, 1, 1], "int64"), first_class=0, reduce=alone, sample_weight=asarray(weight)
    )
    close(to_numpy(value), np.log(2.0))
    close(to_numpy(grad), np.asarray([[-0.25, 0.25], [0.0, 0.0], [0.25, -0.25]]))
    value, grad = parallel.cross_entropy_value_and_grad(
        asarray(logits), asarray([0, 1, 1], "int64"), first_class=0, reduce=alone, sample_weight=asarray(weight * 0)
    )
    assert not to_numpy(value).any()
    assert not to_numpy(grad).any()


BAD = {
    "first_class must be at least 0, got -1": {"first_class": -1},
    "first_class must be an int, got 0.5": {"first_class": 0.5},
    "reduce must be a function of an array and 'sum' or 'max', got str": {"reduce": "sum"},
    "reduce must give an array, got NoneType for 'max'": {"reduce": lambda array, op: None},
    "reduce must keep shape and dtype: given": {"reduce": lambda array, op: array[:1, ...]},
    "has no option 'validate'": {"validate": True},
    "has no option 'dim'": {"dim": 1},
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_named(message, asarray):
    given = {"first_class": 0, "reduce": alone, **BAD[message]}
    X, labels = asarray(cases.X), asarray(cases.LABELS, "int64")
    with pytest.raises((TypeError, ValueError), match=message):
        parallel.cross_entropy(asarray(cases.LOGITS), labels, **given)
    with pytest.raises((TypeError, ValueError), match=message):
        parallel.linear_cross_entropy(X, labels, asarray(cases.W), **given)


def test_the_linear_model_refuses_what_it_cannot_split(asarray):
    X, labels, W = asarray(cases.X), asarray(cases.LABELS, "int64"), asarray(cases.W)
    with pytest.raises(TypeError, match="has no option 'l2'"):
        parallel.linear_cross_entropy(X, labels, W, first_class=0, reduce=alone, l2=0.1)
    with pytest.raises(ValueError, match="reduction='none'"):
        parallel.linear_cross_entropy_value_and_grad(X, labels, W, first_class=0, reduce=alone, reduction="none")


def test_an_option_that_shares_cannot_be_merged_with_is_refused(asarray, monkeypatch):
    monkeypatch.setattr(arguments, "TAKES", ("sample_weight",))
    x, labels = asarray(cases.LOGITS), asarray(cases.LABELS, "int64")
    with pytest.raises(TypeError, match=r"parallel\.cross_entropy does not take label_smoothing, z_loss"):
        parallel.cross_entropy(x, labels, first_class=0, reduce=alone, z_loss=0.1, label_smoothing=0.1)


def test_collectives_check_their_arguments():
    with pytest.raises(TypeError, match="name of a mesh axis"):
        parallel.jax_axis(3)
    with pytest.raises(ValueError, match="timeout"):
        parallel.torch_distributed(timeout=0)
    with pytest.raises(TypeError, match="timeout"):
        parallel.torch_distributed(timeout="long")


def together(commands):
    """Run programs of the tests' folder at the same time; what went wrong in the first that failed."""
    tests = Path(__file__).parents[1]
    running = [
        subprocess.Popen([sys.executable, *map(str, command)], cwd=tests, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    failed = [error for process, error in zip(running, errors, strict=True) if process.returncode]
    assert not failed, failed[0]


@pytest.mark.parametrize(
    ("tasks", "count"), [("agree,ended", 2), *full(("agree", 3), ("ended", 2), ("late", 2), ("outsiders", 2))]
)
def test_processes_of_torch_distributed(tasks, count, torch, tmp_path):
    together([["torch_processes.py", tasks, rank, count, tmp_path / "store"] for rank in range(count)])


def test_torch_distributed_has_to_be_initialized(torch):
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="init_process_group"):
        parallel.cross_entropy(logits, labels, first_class=0, reduce=parallel.torch_distributed())


def test_a_transform_of_torch_differentiates_it(torch):
    labels, options = torch.from_numpy(cases.LABELS), {"first_class": 0, "reduce": alone}
    logits = torch.from_numpy(cases.LOGITS)
    grad = torch.func.grad(lambda x: parallel.cross_entropy(x, labels, **options))(logits)
    close(grad.numpy(), cases.whole({})[0][1])


def test_what_has_no_derivative_says_so(torch):
    logits = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    labels, weight = torch.zeros(2, dtype=torch.int64), torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="class_weight requires a gradient"):
        parallel.cross_entropy(logits, labels, class_weight=weight, first_class=0, reduce=alone)
    loss = parallel.cross_entropy(logits, labels, first_class=0, reduce=alone)
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        (grad.sum() + loss).backward()
    X = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    loss = parallel.linear_cross_entropy(X, labels, logits[:, :1], first_class=0, reduce=alone)
    (grad,) = torch.autograd.grad(loss, X, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (4, ("all", "scaled, focal", "distribution, all")),
        *full((2, ("plain", "hidden", "softcap", "scaled, focal")), (4, ("z_loss", "smoothed, focal"))),
    ],
)
def test_devices_of_jax(count, options, jax):
    together([["jax_shards.py", count, *options]])
