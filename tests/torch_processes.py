"""One process of those that the classes are split over: ``python torch_processes.py TASK,TASK RANK COUNT STORE``."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as dist

import parallel_cases as cases
from softgrad import parallel

CUTS = {2: (0, 3, 11), 3: (0, 2, 9, 11)}
CALLS = []


def counted(function):
    def all_reduce(*args, **kwargs):
        CALLS.append(args[1])
        return function(*args, **kwargs)

    return all_reduce


def tensor(host, dtype):
    return torch.from_numpy(np.array(host)).to(getattr(torch, dtype))


def close(result, expected, rtol=1e-12):
    np.testing.assert_allclose(result.detach().numpy(), expected, rtol=rtol, atol=1e-14)


def leaf(host):
    return tensor(host, "float64").requires_grad_()


def agree(rank, count, store):
    """Value and derivatives, explicit and by autograd, with every option."""
    part = cases.shares(CUTS[count])[rank]
    meet = {"first_class": part.start, "reduce": parallel.torch_distributed(timeout=20.0)}
    for options in cases.OPTIONS.values():
        labels, given = cases.of_share(options, part, tensor)
        each = options.get("reduction") == "none"
        (value, grad), (linear, grads) = cases.whole(options)

        CALLS.clear()
        logits = leaf(cases.LOGITS[:, part])
        loss = parallel.cross_entropy(logits, labels, **meet, **given)
        wanted = [getattr(dist.ReduceOp, op.upper()) for op in cases.collectives(options)]
        assert wanted == CALLS
        loss.sum().backward()
        assert wanted == CALLS
        close(loss, value)
        close(logits.grad, grad[:, part])
        loss, slope = parallel.cross_entropy_value_and_grad(logits, labels, **meet, **given)
        assert not loss.requires_grad
        assert not slope.requires_grad
        close(loss, value)
        close(slope, grad[:, part])

        CALLS.clear()
        X, W, bias = leaf(cases.X), leaf(cases.W[part]), leaf(cases.BIAS[part])
        loss = parallel.linear_cross_entropy(X, labels, W, bias, block_size=4, **meet, **given)
        close(loss, linear)
        if not each:
            loss.backward()
            assert [*wanted, dist.ReduceOp.SUM] == CALLS
            close(W.grad, grads[0][part])
            close(bias.grad, grads[1][part])
            close(X.grad, grads[2])
    weight = leaf(cases.WEIGHT)
    labels = tensor(cases.LABELS, "int64")
    logits = leaf(cases.LOGITS[:, part])
    loss = parallel.cross_entropy(logits, labels, sample_weight=weight, reduction="sum", **meet)
    each = parallel.cross_entropy(logits.detach(), labels, reduction="none", **meet)
    close(torch.autograd.grad(loss, weight)[0], np.where(cases.WEIGHT == 0, 0.0, each.numpy()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = parallel.linear_cross_entropy(X, labels, W, bias, **meet)
    close(loss, cases.whole({})[1][0])


def ended(rank, count, store):
    """One process ends, and the other says so."""
    if rank == 0:
        expect_failure(parallel.torch_distributed(), "the group's timeout")
    os._exit(0)


def late(rank, count, store):
    """One process does not come in time, and the other says so."""
    told = Path(f"{store}.told")
    if rank == 0:
        expect_failure(parallel.torch_distributed(timeout=0.5), "0.5 s")
        told.touch()
    while not told.exists():
        time.sleep(0.05)
    # what is left of the group would wait for processes that are gone
    os._exit(0)


def expect_failure(reduce, limit):
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=rf"\(limit: {limit}\): a process has ended"):
        parallel.cross_entropy(logits, labels, first_class=0, reduce=reduce)


def outsiders(rank, count, store):
    """A group of some processes."""
    group = dist.new_group([0])
    reduce = parallel.torch_distributed(group)
    logits, labels = tensor(cases.LOGITS, "float64"), tensor(cases.LABELS, "int64")
    if rank == 0:
        close(parallel.cross_entropy(logits, labels, first_class=0, reduce=reduce), cases.whole({})[0][0])
        return
    with pytest.raises(RuntimeError, match="not in the group"):
        parallel.cross_entropy(logits, labels, first_class=0, reduce=reduce)


def main(tasks, rank, count, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(count))
    dist.all_reduce = counted(dist.all_reduce)
    for task in tasks.split(","):
        globals()[task](int(rank), int(count), store)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
