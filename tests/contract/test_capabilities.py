"""Every function on every kind of array, held to what is declared of it."""

import functools
import inspect

import numpy as np
import pytest

import _capabilities as declared
import arrays
import softgrad as sg
from calls import CALLS, expected, flat
from softgrad import identity, partial, statistics

# --- how each kind is run: results on the host (None: they have no values), and whether they were lazy


def eagerly(library, call):
    out = flat(call(lambda host, dtype=None, samples=True: library.asarray(host, dtype)))
    return [library.to_numpy(a) for a in out], False


def on_meta(library, call):
    import torch

    out = flat(call(lambda host, dtype=None, samples=True: library.asarray(host, dtype).to("meta")))
    assert all(a.device == torch.device("meta") for a in out)
    return [torch.zeros(a.shape, dtype=a.dtype) for a in out], None


def in_jit(library, call):
    import jax

    made = []

    def asarray(host, dtype=None, samples=True):
        made.append(library.asarray(host, dtype))
        return made[-1]

    call(asarray)

    def traced(*arrays):
        left = iter(arrays)
        return flat(call(lambda *_, **__: next(left)))

    return [library.to_numpy(a) for a in jax.jit(traced)(*made)], False


def with_dask(library, call, *, unknown=False):
    import dask
    import dask.array as da

    computed = []

    def schedule(graph, keys, **options):
        computed.append(keys)
        return dask.get(graph, keys, **options)

    def asarray(host, dtype=None, samples=True):
        array = library.asarray(host, dtype)
        return array[da.ones(len(host), dtype=bool, chunks=2)] if samples and unknown else array

    with dask.config.set(scheduler=schedule):
        out = flat(call(asarray))
        lazy = not computed
        return [np.asarray(a) for a in dask.compute(*out)], lazy


def under(*versions):
    def run(library, call):
        import array_api_strict as strict

        newest = strict.__array_api_version__
        for version in versions:
            if version > newest:
                continue
            with strict.ArrayAPIStrictFlags(api_version=version):
                results = eagerly(library, call)
        return results

    return run


def as_graph(library, call, *, unknown=False):
    import ndonnx
    import onnxruntime

    given, inputs = {}, {}

    def asarray(host, dtype=None, samples=True):
        name = f"input{len(given)}"
        host = given[name] = np.asarray(host, dtype)
        shape = ("samples", *host.shape[1:]) if samples and unknown else host.shape
        inputs[name] = ndonnx.argument(shape=shape, dtype=getattr(ndonnx, host.dtype.name))
        return inputs[name]

    out = flat(call(asarray))
    model = ndonnx.build(inputs, {f"output{i}": array for i, array in enumerate(out)})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given), not all(map(has_value, out))


def has_value(array):
    try:
        array.unwrap_numpy()
    except ValueError:
        return False
    return True


RUN = {
    "PyTorch, meta device": on_meta,
    "JAX, in jit": in_jit,
    "Dask": with_dask,
    "Dask, number of samples unknown": functools.partial(with_dask, unknown=True),
    "array-api-strict, 2023.12 to 2025.12": under("2023.12", "2024.12", "2025.12"),
    "array-api-strict, 2022.12": under("2022.12"),
    "ndonnx, as an ONNX graph": as_graph,
    "ndonnx, as an ONNX graph, number of samples unknown": functools.partial(as_graph, unknown=True),
}


#: Where more than the rounding of a few operations parts one library from another; the second derivatives end a fit.
# the last two stop an iteration, which sums in another order stop at another place
RTOL = {
    "softmax, float16": 2e-3,
    "softmax, bfloat16": 2e-2,
    "SoftmaxRegression.fit": 1e-7,
    "calibration.temperature": 1e-6,
}


def observed(kind, name, library):
    """How a call goes on a kind of array: its status, and the error if there was one."""
    try:
        results, lazy = RUN.get(kind.name, eagerly)(library, CALLS[name])
        for result, right in zip(results, expected(name), strict=True):
            assert result.shape == right.shape
            if lazy is not None:
                np.testing.assert_allclose(result.astype(right.dtype), right, rtol=RTOL.get(name, 1e-12), atol=1e-14)
    except Exception as error:  # noqa: BLE001 - a library raises what it likes for what it cannot do
        reason = kind.capability(name).reason
        return "refuses" if reason and isinstance(error, TypeError) and reason in str(error) else "unsupported", error
    return "lazy" if lazy else "works", None


@pytest.mark.full("jax")
@pytest.mark.parametrize("name", [*declared.FUNCTIONS, *declared.OPTIONS])
def test_what_is_declared_is_what_happens(name, backend, library):
    unsupported = []
    for kind in declared.KINDS:
        if kind.library == backend:
            capability = kind.capability(name)
            status, error = observed(kind, name, library)
            if status != capability.status:
                raise AssertionError(f"{kind.name} is declared: {capability}, and is found: {status}") from error
            if status == "unsupported":
                unsupported.append(f"{kind.name}: {capability.reason}")
    if unsupported:
        pytest.xfail("; ".join(unsupported))


def test_every_kind_has_a_library_to_take_it_from():
    assert {kind.library for kind in declared.KINDS} == set(arrays.LOADERS)
    assert set(RUN) <= {kind.name for kind in declared.KINDS}


def test_every_public_function_is_declared():
    functions = set()
    modules = {"": sg, "partial.": partial, "identity.": identity, "statistics.": statistics}
    for prefix, module in modules.items():
        functions |= {prefix + name for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    functions -= {"precision"}
    assert functions <= set(declared.FUNCTIONS)
    assert set(CALLS) == {*declared.FUNCTIONS, *declared.OPTIONS}


def test_table_holds_the_declaration():
    lines = declared.markdown().splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(declared.FUNCTIONS) + len(declared.OPTIONS)
    assert {len(row) for row in table} == {1 + len(declared.KINDS)}
    notes = {line.split(". ", 1)[0]: line.split(". ", 1)[1] for line in lines if line[:1].isdigit()}
    signs = {"yes": "works", "lazily": "lazy", "refused": "refuses", "no": "unsupported"}
    for row, name in zip(table[2:], [*declared.FUNCTIONS, *declared.OPTIONS], strict=True):
        for text, kind in zip(row[1:], declared.KINDS, strict=True):
            sign, _, note = text.strip().partition(" ")
            assert kind.capability(name) == (signs[sign], notes[note.strip("()")] if note else "")
