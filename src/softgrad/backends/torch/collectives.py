"""``reduce`` by ``torch.distributed``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from torch import Tensor
from torch import distributed as dist


def all_reduce(x: Tensor, op: str, group: Any, timeout: float | None) -> Tensor:
    """The maximum or the sum of a tensor of every process, element by element."""
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("torch.distributed has not been initialized: call torch.distributed.init_process_group")
    if dist.get_rank(group) < 0:
        raise RuntimeError("this process is not in the group that the classes are split over")
    out = x.detach().clone()
    try:
        work = dist.all_reduce(out, dist.ReduceOp.MAX if op == "max" else dist.ReduceOp.SUM, group, async_op=True)
        if timeout is None:
            work.wait()
        else:
            work.wait(timedelta(seconds=timeout))
    except RuntimeError as error:
        limit = "the group's timeout" if timeout is None else f"{timeout:g} s"
        raise RuntimeError(
            f"the {op} over {dist.get_world_size(group)} processes failed (limit: {limit}): a process has ended, did "
            f"not make the same calls, or was too slow. torch.distributed says: {error}"
        ) from error
    return out
