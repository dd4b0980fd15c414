"""The mathematics of the linear softmax model: blocks of rows through the loss, two matrix products each.

Arrays are X (n, m), W (k, m), bias (k,); nothing is checked, nothing is converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from . import loss as loss_kernels
from .dense import MEMORY, along, as_like, device_of, iota, joined, narrow, product, total, wide_dtype, widen
from .targets import target

#: Bytes of logits that a block holds, and rows that it has at least.
BLOCK_BYTES = 32 << 20
BLOCK_ROWS = 128
#: On an accelerator: the part of its memory that a block may hold, and rows of long ones at least and at most.
DEVICE_PART = 256
DEVICE_ROWS = (512, 2048)


def memory_of(xp: Namespace, x: Array) -> int | None:
    """Bytes of the accelerator that ``x`` is on, or None."""
    return MEMORY[xp.__name__](x) if xp.__name__ in MEMORY else None


def block_rows(n: int, k: int, itemsize: int, block_size: int | None, memory: int | None = None) -> int:
    """Rows of a block, all blocks of about the same size; W is read, and its gradient written, once a block."""
    if block_size is not None:
        return block_size
    row = max(1, k * itemsize)
    most = max(BLOCK_ROWS, BLOCK_BYTES // row)
    if memory is not None:
        least, limit = DEVICE_ROWS
        most = max(BLOCK_BYTES // row, min(limit, max(least, memory // DEVICE_PART // row)))
    count = max(1, -(-n // most))
    return max(1, -(-n // count))


def copied_rows(n: int, k: int, width: int, itemsize: int) -> int:
    """Rows of a block whose logits stay bounded, and copies of whose samples, with ``width`` numbers each."""
    return min(block_rows(n, k, itemsize, None), max(BLOCK_ROWS, BLOCK_BYTES // (max(1, width) * itemsize)))


def some_rows(args: Any, start: int, stop: int, n: int) -> Any:
    """The arguments of a loss or a divergence with the mask and the weights of some of its ``n`` samples."""
    where, weight = args.where, args.sample_weight
    if where is not None and where.ndim == 2 and where.shape[0] == n:
        where = where[start:stop, ...]
    return args._replace(where=where, sample_weight=None if weight is None else weight[start:stop])


def part(args: LossArgs, start: int, stop: int, n: int) -> LossArgs:
    """The arguments of rows ``start`` to ``stop``, of a sum."""
    if start == 0 and stop == n:
        return args._replace(reduction="sum")
    some: LossArgs = some_rows(args, start, stop, n)
    return some._replace(labels=args.labels[start:stop, ...], reduction="sum")


def zero_ignored(xp: Namespace, x: Array, args: LossArgs) -> Array:
    """Rows of X or of its gradient, zero where the sample does not count: no product may make NaN of 0 times it."""
    kept, _ = loss_kernels.keep(xp, args, x)
    return x if kept is None else xp.where(kept, x, xp.zeros_like(x))


def logits_of(xp: Namespace, x: Array, W: Array, bias: Array | None, multiply: Any = None) -> Array:
    """``x W^T + bias``; the product may be another than the library's."""
    z = product(xp, x, W.T) if multiply is None else multiply(x, W.T)
    return z if bias is None else z + along(xp, bias, z, 1)


class BlockedLinear:
    """The parameters in the dtype to compute in, and the blocks of X with their arguments."""

    def __init__(
        self, xp: Namespace, X: Array, W: Array, bias: Array | None, args: LossArgs, block_size: int | None
    ) -> None:
        self.xp, self.X, self.args = xp, X, args
        memory = memory_of(xp, X)
        #: Whether products have operands in half precision, and sums in single: an accelerator's units are made for it.
        info = xp.finfo(W.dtype)
        # float16 has not the range that weights, or a mean over many samples, need
        self.half = memory is not None and args.precision is None and info.bits < 32 and float(info.max) > 1e30
        self.given = W
        self._W: Array | None = None
        self.bias = None if bias is None else widen(xp, bias, args.precision)[0]
        self.n, self.k, self.dtype = X.shape[0], W.shape[0], W.dtype
        self.wide = wide_dtype(xp, W, args.precision)
        self.rows = block_rows(self.n, self.k, xp.finfo(self.wide).bits // 8, block_size, memory)

    @property
    def W(self) -> Array:  # noqa: N802
        """The weights in the dtype to compute in, made when first asked for."""
        # by hand: functools.cached_property takes a lock, which torch.compile does not trace
        if self._W is None:
            self._W = narrow(self.xp, self.given, self.wide)
        return self._W

    @property
    def operand(self) -> Array:
        """The weights as products take them."""
        return self.given if self.half else self.W

    def product(self, a: Array, b: Array) -> Array:
        """``a @ b`` in the dtype to compute in."""
        if not self.half:
            return product(self.xp, a, b)
        a, b = (narrow(self.xp, each, self.dtype) for each in (a, b))
        return narrow(self.xp, product(self.xp, a, b), self.wide)

    def blocks(self) -> Iterator[tuple[int, int, Array, Array, LossArgs]]:
        """(start, stop, rows of X, their logits, their arguments)."""
        xp = self.xp
        for start in range(0, max(self.n, 1), self.rows):
            stop = min(start + self.rows, self.n)
            piece = part(self.args, start, stop, self.n)
            x = narrow(xp, self.take_rows(self.X, start, stop), self.dtype if self.half else self.wide)
            x = zero_ignored(xp, x, piece)
            yield start, stop, x, self.logits(x), piece

    def logits(self, x: Array) -> Array:
        """The logits of some rows of X."""
        return logits_of(self.xp, x, self.operand, self.bias, self.product)

    def take_rows(self, a: Array, start: int, stop: int) -> Array:
        """Rows of an array; all of them as it is, which some of torch's transforms cannot slice."""
        return a if stop - start == self.n else a[start:stop, :]

    def divisor(self) -> Array | None:
        """What the mean divides by, or None."""
        if self.args.reduction != "mean":
            return None
        like = self.logits_like()
        return loss_kernels.weight_sum(self.xp, like, self.args, self.weights(like))

    def logits_like(self) -> Array:
        """An array with the shape of the logits that holds no memory of its own where the library has views."""
        zero = self.xp.zeros((1, 1), dtype=self.wide, device=device_of(self.given))
        return self.xp.broadcast_to(as_like(self.xp, zero, self.given), (self.n, self.k))

    def weights(self, like: Array) -> Array | None:
        """Each sample's class weight, or None."""
        args = self.args
        if args.class_weight is None and not args.dense:
            return None
        pieces: list[ArrayIfAsked] = []
        for start in range(0, max(self.n, 1), self.rows):
            stop = min(start + self.rows, self.n)
            piece = part(args, start, stop, self.n)._replace(label_smoothing=0.0)
            pieces.append(target(self.xp, like[start:stop, :], piece, None)[3])
        return joined(self.xp, pieces)

    def scaled(self, a: Array, divisor: Array | None) -> Array:
        """``a`` divided by the total weight, in the dtype of the input."""
        a = a if divisor is None else loss_kernels.divided(self.xp, a, divisor)
        return narrow(self.xp, a, self.dtype)


def columns(xp: Namespace, g: Array, classes: tuple[int, ...] | None) -> Array:
    """The columns of ``g`` for the classes asked for."""
    if classes is None:
        return g
    return xp.concat([g[:, i : i + 1] for i in classes], axis=1)


def finite_parameters(xp: Namespace, W: Array, args: Any) -> Array:
    """Parameters that slopes are multiplied by: beside the slope 0 of a hidden class they may be anything."""
    return W if args.where is None else xp.where(xp.isfinite(W), W, xp.zeros_like(W))


def add(old: Array | None, new: Array) -> Array:
    """``old + new``, None being nothing yet."""
    return new if old is None else old + new


class Gradients:
    """The gradients by some of W, bias and X, added up from the slopes of blocks of logits."""

    def __init__(
        self,
        xp: Namespace,
        wrt: tuple[str, ...],
        W: Array,
        args: Any,
        product: Callable[[Array, Array], Array],
        zero_ignored: Callable[..., Array] = zero_ignored,
    ) -> None:
        self.xp, self.product, self.zero_ignored = xp, product, zero_ignored
        self.W: ArrayIfAsked = finite_parameters(xp, W, args) if "X" in wrt else None
        self.sums: dict[str, Any] = dict.fromkeys(wrt)
        self.rows: list[Array] = []

    def add(self, x: Array, g: Array, args: Any, classes: tuple[int, ...] | None = None) -> None:
        """Take in the slopes ``g`` of rows ``x``; by W and bias of some classes alone."""
        xp, sums = self.xp, self.sums
        some = columns(xp, g, classes)
        if "W" in sums:
            sums["W"] = add(sums["W"], self.product(some.T, x))
        if "bias" in sums:
            sums["bias"] = add(sums["bias"], xp.squeeze(total(xp, some, 0), axis=0))
        if "X" in sums:
            self.rows.append(self.zero_ignored(xp, self.product(g, self.W), args))

    def found(self) -> dict[str, Array]:
        """The gradients by name, in the order that they were asked for."""
        return self.sums | ({"X": joined(self.xp, self.rows)} if self.rows else {})


def linear_cross_entropy(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    block_size: int | None = None,
    loss: Callable[..., Any] = loss_kernels.cross_entropy,
) -> Array:
    """The loss, reduced."""
    model = BlockedLinear(xp, X, W, bias, args, block_size)
    if args.reduction == "none":
        each = [loss(xp, z, piece._replace(reduction="none")) for _, _, _, z, piece in model.blocks()]
        return narrow(xp, joined(xp, each), W.dtype)
    value: Any = None
    for _, _, _, z, piece in model.blocks():
        value = add(value, loss(xp, z, piece))
    return model.scaled(value, model.divisor())


def linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
    loss: Callable[..., Any] = loss_kernels.cross_entropy_value_and_grad,
) -> tuple[Array, tuple[Array, ...]]:
    """The loss and its gradients: (S - Y)T X, the sum of S - Y, (S - Y) W."""
    model = BlockedLinear(xp, X, W, bias, args, block_size)
    value: Any = None
    grads = Gradients(xp, wrt, model.operand, args, model.product)
    for _, _, x, z, piece in model.blocks():
        block, g = loss(xp, z, piece)
        value = add(value, block)
        grads.add(x, g, piece, classes)
    divisor = model.divisor()
    return model.scaled(value, divisor), tuple(model.scaled(g, divisor) for g in grads.found().values())


def linear_cross_entropy_hvp(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    vectors: tuple[Array, ...],
    block_size: int | None = None,
) -> tuple[Array, ...]:
    """Second derivative with respect to ``wrt``, times ``vectors`` (one for each name)."""
    model = BlockedLinear(xp, X, W, bias, args, block_size)
    given = {name: narrow(xp, v, model.operand.dtype) for name, v in zip(wrt, vectors, strict=True)}
    out: dict[str, Any] = dict.fromkeys(wrt)
    rows: list[Array] = []
    finite_W = finite_parameters(xp, model.operand, args)
    change: ArrayIfAsked = finite_parameters(xp, given["W"], args) if "W" in given else None
    for start, stop, x, z, piece in model.blocks():
        dx = zero_ignored(xp, model.take_rows(given["X"], start, stop), piece) if "X" in given else None
        dz: ArrayIfAsked = None
        if "W" in given:
            dz = model.product(x, given["W"].T)
        if "bias" in given:
            dz = (xp.zeros_like(z) if dz is None else dz) + narrow(xp, given["bias"], model.wide)
        if dx is not None:
            dz = add(dz, model.product(dx, model.operand.T))
        # the gradient is in the entries of the second derivative by W and X
        if "W" in given and "X" in given:
            h, g = loss_kernels.hvp_and_grad(xp, z, piece, dz)
        else:
            h = loss_kernels.cross_entropy_hvp(xp, z, piece, dz)
        if "W" in given:
            step = model.product(h.T, x)
            if dx is not None:
                step = step + model.product(g.T, dx)
            out["W"] = add(out["W"], step)
        if "bias" in given:
            out["bias"] = add(out["bias"], xp.squeeze(total(xp, h, 0), axis=0))
        if "X" in given:
            step = model.product(h, finite_W)
            step = step + model.product(g, change) if "W" in given else step
            rows.append(zero_ignored(xp, step, piece))
    if rows:
        out["X"] = joined(xp, rows)
    divisor = model.divisor()
    return tuple(model.scaled(out[name], divisor) for name in wrt)


def linear_cross_entropy_hessian(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    intercept: bool,
    block_size: int | None = None,
) -> Array:
    """The Hessian as (k, m, k, m), m one larger with ``intercept``: sum of (second derivative of a row) times x xT."""
    model = BlockedLinear(xp, X, W, bias, args, block_size)
    entries: list[list[Any]] = [[None] * model.k for _ in range(model.k)]
    for _, _, x, z, piece in model.blocks():
        x = narrow(xp, x, model.wide)
        if intercept:
            x = xp.concat([x, xp.ones_like(x[:, :1]) if x.shape[1] else xp.ones_like(z[:, :1])], axis=1)
        for j in range(model.k):
            unit = xp.astype(iota(xp, z, 1) == j, z.dtype)
            column = loss_kernels.cross_entropy_hvp(xp, z, piece, xp.broadcast_to(unit, z.shape))
            for i in range(j + 1):
                block = product(xp, (column[:, i : i + 1] * x).T, x)
                entries[i][j] = add(entries[i][j], block)
    # a row's second derivative is symmetric in its classes
    full = [xp.stack([entries[min(i, j)][max(i, j)] for j in range(model.k)], axis=1) for i in range(model.k)]
    return model.scaled(xp.stack(full, axis=0), model.divisor())
