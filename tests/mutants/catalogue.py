"""The portability bugs that are injected, each by an exact replacement in one source file."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


class StaleMutantError(Exception):
    """A mutant whose source text is no longer there, or there more than once."""


@dataclass(frozen=True)
class Mutant:
    """A bug: ``old`` stands once in ``file`` and becomes ``new``."""

    name: str
    file: str
    old: str
    new: str

    def mutate(self, package: Path) -> None:
        """Inject the bug into a copy of the package."""
        path = package / self.file
        source = path.read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise StaleMutantError(f"{self.name}: {self.old!r} stands {source.count(self.old)} times in {self.file}")
        changed = source.replace(self.old, self.new)
        ast.parse(changed)
        path.write_text(changed, encoding="utf-8")


KERNELS, LOSS, LINEAR = "_kernels/dense.py", "_kernels/loss.py", "_kernels/linear.py"
TARGETS = "_kernels/targets.py"
NUMPY = '__import__("numpy")'

MUTANTS = (
    Mutant(
        "np.asarray on the input",
        KERNELS,
        "    row = shift(xp, y, axis, compensated)\n    p = row.e",
        f"    row = shift(xp, {NUMPY}.asarray(y), axis, compensated)\n    p = row.e",
    ),
    Mutant("NumPy's function on any array", KERNELS, "    e = xp.exp(d)\n", f"    e = {NUMPY}.exp(d)\n"),
    Mutant(
        "float() of an array",
        LOSS,
        "    none = by == 0\n",
        "    none = by == 0\n    if float(xp.astype(none, a.dtype)):\n        return xp.zeros_like(a)\n",
    ),
    Mutant(
        "bool() of an array",
        KERNELS,
        "    top = d == 0\n    zero",
        "    if not xp.all(xp.isfinite(m)):\n        e = xp.exp(d)\n    top = d == 0\n    zero",
    ),
    Mutant(
        "int() of an array",
        TARGETS,
        "    labels = xp.expand_dims(index_labels(",
        "    if int(xp.max(args.labels)) >= x.shape[axis]:\n"
        "            pass\n"
        "        labels = xp.expand_dims(index_labels(",
    ),
    Mutant(
        ".item() of an array",
        LOSS,
        "    return sum_all(xp, scaled(xp, ones, kept, weight))\n",
        "    mass = sum_all(xp, scaled(xp, ones, kept, weight)).item()\n"
        '    return xp.asarray(mass, dtype=x.dtype, device=getattr(x, "device", None))\n',
    ),
    Mutant(
        "arange without device",
        KERNELS,
        "xp.arange(x.shape[axis], dtype=dtype, device=device_of(x))",
        "xp.arange(x.shape[axis], dtype=dtype)",
    ),
    Mutant(
        "zeros without device",
        LINEAR,
        "(1, 1), dtype=self.wide, device=device_of(self.given))",
        "(1, 1), dtype=self.wide)",
    ),
    Mutant(
        "a list to an array without device",
        "_array/namespace.py",
        "        return as_like(xp, xp.asarray(value, dtype=dtype, device=device), x)\n",
        "        return xp.asarray(value, dtype=dtype)\n",
    ),
    Mutant(
        "x.device, which not every array has",
        KERNELS,
        "xp.arange(x.shape[axis], dtype=dtype, device=device_of(x))",
        "xp.arange(x.shape[axis], dtype=dtype, device=x.device)",
    ),
    Mutant(
        "constant in the default dtype",
        "linear/penalty.py",
        "grad + l2 * narrow(xp, W, grad.dtype)",
        "grad + xp.asarray(l2) * narrow(xp, W, grad.dtype)",
    ),
    Mutant(
        "np.float64 lifts float32",
        "_array/scalars.py",
        "    result = float(value)\n",
        f"    result = {NUMPY}.float64(value)\n",
    ),
    Mutant(
        "float64 where the device has none",
        LINEAR,
        "self.xp.zeros((1, 1), dtype=self.wide",
        "self.xp.zeros((1, 1), dtype=self.xp.float64",
    ),
    Mutant(
        "NumPy's dtype object",
        KERNELS,
        "    return x if x.dtype == dtype else xp.astype(x, dtype)\n",
        f'    return x if x.dtype == dtype else xp.astype(x, {NUMPY}.dtype(str(dtype).split(".")[-1]))\n',
    ),
    Mutant(
        "write to the input",
        KERNELS,
        "    d = difference(xp, x, m)\n",
        "    d = x\n    d -= m\n",
    ),
    Mutant(
        "write to an own temporary",
        KERNELS,
        "    p = row.e / (1 + row.sum_ex_max)\n",
        "    p = row.e\n    p /= 1 + row.sum_ex_max\n",
    ),
    Mutant(
        "write through a mask",
        KERNELS,
        "        p = xp.where(visible, p, xp.zeros_like(p))\n",
        "        p[xp.logical_not(visible)] = 0\n",
    ),
    Mutant(
        "read through a mask",
        LOSS,
        "    return xp.sum(xp.where(r.onehot, a, xp.zeros_like(r.s)), axis=axis, keepdims=True, dtype=a.dtype)\n",
        "    return xp.reshape(a[r.onehot], r.s.shape)\n",
    ),
    Mutant(
        "shape taken from the data",
        TARGETS,
        "        onehot = iota(xp, x, axis, labels.dtype) == labels\n",
        "        onehot = iota(xp, x, axis, labels.dtype) == labels\n"
        "        if xp.nonzero(xp.reshape(labels < 0, (-1,)))[0].shape[0]:\n"
        "            onehot = xp.logical_and(onehot, labels >= 0)\n",
    ),
    Mutant(
        "index by a list",
        LINEAR,
        "    return xp.concat([g[:, i : i + 1] for i in classes], axis=1)\n",
        "    return g[:, list(classes)]\n",
    ),
    Mutant(
        "NumPy's keyword",
        KERNELS,
        "    m = xp.max(x, axis=axis, keepdims=True)\n    d",
        "    m = xp.max(x, axis=axis, keepdims=True, initial=-math.inf)\n    d",
    ),
    Mutant(
        "NumPy's name",
        KERNELS,
        "    m = xp.max(x, axis=axis, keepdims=True)\n    d",
        "    m = xp.amax(x, axis=axis, keepdims=True)\n    d",
    ),
    Mutant(
        "method .sum",
        KERNELS,
        "    return xp.sum(v, axis=axis, keepdims=True, dtype=v.dtype)\n",
        "    return v.sum(axis=axis, keepdims=True, dtype=v.dtype)\n",
    ),
    Mutant(
        "method .astype",
        KERNELS,
        "    return x if x.dtype == dtype else xp.astype(x, dtype)\n",
        "    return x if x.dtype == dtype else x.astype(dtype)\n",
    ),
    Mutant(
        "method .dot",
        LINEAR,
        "    z = product(xp, x, W.T) if multiply is None else multiply(x, W.T)\n",
        "    z = x.dot(W.T)\n",
    ),
    Mutant(
        "squeeze without axis",
        KERNELS,
        "    return narrow(xp, xp.squeeze(r, axis=axis), x.dtype)\n",
        "    return narrow(xp, xp.squeeze(r), x.dtype)\n",
    ),
    Mutant(
        "arithmetic of booleans",
        TARGETS,
        "        q = xp.astype(onehot, x.dtype)\n",
        "        q = onehot * 1.0\n",
    ),
    Mutant(
        "sum of booleans",
        LOSS,
        "    count = xp.sum(xp.astype(row.top, u.dtype), axis=axis, keepdims=True, dtype=u.dtype)\n",
        "    count = xp.sum(row.top, axis=axis, keepdims=True)\n",
    ),
    Mutant(
        "missing keepdims",
        KERNELS,
        "    m = xp.max(x, axis=axis, keepdims=True)\n    d",
        "    m = xp.max(x, axis=axis)\n    d",
    ),
    Mutant(
        "the last axis for any",
        KERNELS,
        "    others = total(xp, xp.where(top, zero, e), axis, compensated)\n",
        "    others = total(xp, xp.where(top, zero, e), x.ndim - 1, compensated)\n",
    ),
    Mutant("terms left over by the blocks of a sum", KERNELS, "        if whole * LEVEL < n:\n", "        if False:\n"),
    Mutant(
        "label wrapped into range",
        TARGETS,
        "        labels = xp.expand_dims(index_labels(xp, args.labels, x), axis=axis)\n",
        "        labels = xp.expand_dims(index_labels(xp, args.labels, x), axis=axis) % x.shape[axis]\n",
    ),
    Mutant(
        "labels kept on the loss",
        "_cross_entropy.py",
        '        labels, dense = sample_labels(lib, x, labels, x.ndim, "logits")\n',
        '        if "_seen" not in self.__dict__:\n'
        '            object.__setattr__(self, "_seen", sample_labels(lib, x, labels, x.ndim, "logits"))\n'
        '        labels, dense = self.__dict__["_seen"]\n',
    ),
    Mutant(
        "labels in their own dtype",
        TARGETS,
        "    return narrow(xp, labels, index_dtype(xp, x))\n",
        "    return labels\n",
    ),
    Mutant(
        "by way of a list on the host",
        "_array/namespace.py",
        "            return value if value.dtype == dtype else xp.astype(value, dtype)\n        value",
        '            value = value.detach() if hasattr(value, "detach") else value\n        value',
    ),
)
