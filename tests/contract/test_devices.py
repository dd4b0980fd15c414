"""Results stay on the device of the input, and nothing needs its values to know their shape."""

import array_api_compat
import numpy as np
import pytest

import oracle
import softgrad as sg
from marks import full

LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
LABELS = np.array([2, 0, 3])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])
OPTIONS = {
    "plain": {},
    "all": {"label_smoothing": 0.1, "z_loss": 0.2, "class_weight": [1.0, 2.0, 0.5, 3.0], "ignore_index": 1},
}


def everything(put, signed=True):
    """Each public function called on arrays made by `put(data, kind)`: {name: (result, expected shape)}."""
    x, where = put(LOGITS, "float"), put(LOGITS > -1.5, "bool")
    results = {}
    for name, function in (("softmax", sg.softmax), ("log_softmax", sg.log_softmax)):
        results[name] = function(x), (3, 4)
        results[f"{name} where"] = function(x, where=where), (3, 4)
        results[f"{name} axes"] = function(x, axis=(0, 1)), (3, 4)
        results[f"{name} high"] = function(x, precision="high"), (3, 4)
        results[f"{name} of integers"] = function(put([[1, 2], [3, 4]], "int")), (2, 2)
        results[f"{name} of nothing"] = function(put(np.zeros((3, 0)), "float")), (3, 0)
        results[f"{name} without dimensions"] = function(put(1.5, "float")), ()
    results["logsumexp"] = sg.logsumexp(x, axis=-1), (3,)
    results["logsumexp where"] = sg.logsumexp(x, axis=0, where=where), (4,)
    results["logsumexp of nothing"] = sg.logsumexp(put(np.zeros((3, 0)), "float"), axis=-1), (3,)
    if signed:
        results["logsumexp b"] = sg.logsumexp(x, b=x, keepdims=True), (1, 1)
        results["logsumexp of a number b"] = sg.logsumexp(x, b=2.0), ()
        for i, result in enumerate(sg.logsumexp(x, axis=-1, b=x, return_sign=True)):
            results[f"logsumexp signed {i}"] = result, (3,)
    for function in (sg.softmax_vjp, sg.softmax_jvp):
        results[function.__name__] = function(sg.softmax(x), x), (3, 4)
    for function in (sg.log_softmax_vjp, sg.log_softmax_jvp):
        results[function.__name__] = function(sg.log_softmax(x), x), (3, 4)
    weights = put([0.5, 1.0, 2.0], "float")
    for dense, (given, options) in zip((True, False), OPTIONS.items(), strict=True):
        labels = put(np.eye(4)[LABELS], "float") if dense else put(LABELS, "int")
        loss = sg.CrossEntropy(reduction="none" if dense else "mean", **options)
        got = oracle.every_order(loss, x, labels, x, sample_weight=weights, where=where)
        for name, (result, kind) in got.items():
            value_shape = (3,) if dense else ()
            results[f"{name} {given} {dense}"] = result, value_shape if kind == "value" else (3, 4)
        results[f"total_weight {given} {dense}"] = loss.total_weight(x, labels), ()
    X, W, bias = put(FEATURES, "float"), put(WEIGHTS, "float"), put([0.5, 0.0, -0.5, 1.0], "float")
    labels = put(LABELS, "int")
    options = {**OPTIONS["all"], "l2": 0.5, "sample_weight": weights, "block_size": 2}
    value, gradients = sg.linear_cross_entropy_value_and_grad(X, labels, W, bias, wrt=("W", "bias", "X"), **options)
    results["linear value"] = value, ()
    for name, gradient, shape in zip(("W", "bias", "X"), gradients, ((4, 2), (4,), (3, 2)), strict=True):
        results[f"linear {name}"] = gradient, shape
    results["linear column"] = sg.linear_cross_entropy_grad(X, labels, W, classes=[1], **options), (1, 2)
    results["linear hvp"] = sg.linear_cross_entropy_hvp(X, labels, W, W, **options), (4, 2)
    results["linear hessian"] = sg.linear_cross_entropy_hessian(X, labels, W, **options), (4, 2, 4, 2)
    return results


def check(results, device, dtype, total_dtype=None):
    for name, (result, shape) in results.items():
        assert array_api_compat.device(result) == device, name
        assert result.dtype == (total_dtype if total_dtype and name.startswith("total_weight") else dtype), name
        assert tuple(result.shape) == shape, name


# JAX has one device on a CPU
@pytest.mark.full("jax")
def test_results_stay_on_the_device_of_the_input(backend, asarray):
    def put(data, kind):
        return asarray(data, {"float": "float64", "int": "int64", "bool": "bool"}[kind])

    x = put(LOGITS, "float")
    results = everything(put)
    integers = {name: result for name, result in results.items() if "integers" in name}
    assert integers
    check(
        {name: result for name, result in results.items() if name not in integers}, array_api_compat.device(x), x.dtype
    )
    for name, (result, _) in integers.items():
        assert array_api_compat.device(result) == array_api_compat.device(x), name


@pytest.mark.parametrize("name", ["CPU_DEVICE", "device1", "device2", "no_float64", "no_x64"])
@pytest.mark.libraries("array_api_strict")
def test_every_device_of_array_api_strict(name, backend, xp):
    if name not in {str(device).split("'")[1] for device in xp.__array_namespace_info__().devices()}:
        pytest.skip(f"this array-api-strict has no {name}")
    device = xp.Device(name)
    defaults = xp.__array_namespace_info__().default_dtypes(device=device)
    dtypes = {"float": defaults["real floating"], "int": defaults["integral"], "bool": xp.bool}

    def put(data, kind):
        return xp.asarray(data, dtype=dtypes[kind], device=device)

    # the argmax of array-api-strict is int64, on the device that has none too
    signed = name != "no_x64"
    results = everything(put, signed)
    check(results, device, defaults["real floating"])
    home = xp.Device("CPU_DEVICE")
    tolerance = 1e-5 if defaults["real floating"] == xp.float32 else 1e-12
    expected = everything(lambda data, kind: np.asarray(data, dtype={"float": float, "int": int, "bool": bool}[kind]))
    for key, (result, _) in results.items():
        np.testing.assert_allclose(
            np.asarray(xp.asarray(result).to_device(home)),
            expected[key][0],
            rtol=tolerance,
            atol=tolerance,
            err_msg=key,
        )


@pytest.mark.libraries("array_api_strict")
def test_narrow_results_of_a_device_without_float64(backend, xp):
    device = xp.Device("no_float64")
    x = xp.asarray(LOGITS, dtype=xp.float32, device=device)
    home = xp.Device("CPU_DEVICE")
    for precision in (None, "high"):
        result = np.asarray(sg.softmax(x, precision=precision).to_device(home))
        exact = oracle.softmax(LOGITS.astype(np.float32))
        assert oracle.ulps(result, exact, "float32") <= (6 if precision == "high" else 70)


@pytest.mark.parametrize("width", ["float16", "float32", *full("bfloat16", "float64")])
def test_torch_meta_gives_shapes_and_dtypes(width, torch):
    dtypes = {"float": getattr(torch, width), "int": torch.int64, "bool": torch.bool}

    def put(data, kind):
        return torch.as_tensor(np.asarray(data)).to(dtypes[kind]).to("meta")

    results = everything(put)
    for name in [name for name in results if "integers" in name]:
        result, shape = results.pop(name)
        check({name: (result, shape)}, torch.device("meta"), torch.get_default_dtype())
    check(results, torch.device("meta"), dtypes["float"], torch.promote_types(dtypes["float"], torch.float32))


def _index(tensor, key):
    """`tensor[key]` for basic keys, by the operators that indexing stands for."""
    import torch

    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis in key:
        at, named = key.index(Ellipsis), sum(k is not None for k in key) - 1
        key = (*key[:at], *[slice(None)] * (tensor.ndim - named), *key[at + 1 :])
    axis = 0
    for k in key:
        if k is None:
            tensor = torch.unsqueeze(tensor, axis)
        elif isinstance(k, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, k.start, k.stop, k.step or 1)
        elif isinstance(k, int):
            tensor = torch.select(tensor, axis, k)
            continue
        else:
            raise TypeError(f"an index that needs values: {k!r}")
        axis += 1
    return tensor


def _indexing_without_cuda():
    """A mode in which brackets work on a fake CUDA tensor, which in a build without CUDA they do not."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Indexing(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.Tensor.__getitem__:
                return _index(*args)
            if function is torch.Tensor.__setitem__ and getattr(args[1], "dtype", None) is torch.bool:
                return args[0].masked_fill_(args[1], args[2])
            return function(*args, **(kwargs or {}))

    return Indexing()


@pytest.mark.parametrize("width", ["bfloat16", "float32", *full("float64")])
def test_torch_fake_cuda_gives_shapes_and_dtypes(width, torch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    dtypes = {"float": getattr(torch, width), "int": torch.int64, "bool": torch.bool}
    with FakeTensorMode(), _indexing_without_cuda():

        def put(data, kind):
            return torch.empty(np.shape(data), dtype=dtypes[kind], device="cuda")

        results = everything(put)
        for name in [name for name in results if "integers" in name]:
            result, shape = results.pop(name)
            check({name: (result, shape)}, torch.device("cuda:0"), torch.get_default_dtype())
        check(results, torch.device("cuda:0"), dtypes["float"], torch.promote_types(dtypes["float"], torch.float32))
