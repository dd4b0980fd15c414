"""What XLA makes of JAX's functions on an H200 that is not there: kernels, temporaries, products of float32."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
import triton

DUMP = Path(tempfile.mkdtemp(prefix="softgrad-xla-"))
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0 --xla_gpu_cublas_fallback=true --xla_dump_to={DUMP}"
)
os.environ["PATH"] += f":{Path(triton.__file__).parent / 'backends/nvidia/bin'}"  # has ptxas

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from ceilings import within  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import softgrad as sg  # noqa: E402

H200 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 4800000000000 l2_cache_size: 62914560 clock_rate_ghz: 1.98
  device_memory_size: 150754820096 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 7 } runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H200\""""
ROWS, CLASSES = 8192, 128256
FUNCTIONS = {
    "softmax": lambda x, y: sg.softmax(x),
    "log_softmax": lambda x, y: sg.log_softmax(x),
    "logsumexp": lambda x, y: sg.logsumexp(x, axis=-1),
    "loss and gradient": lambda x, y: sg.cross_entropy_value_and_grad(x, y),
}
#: Fused kernels, those that read the logits (of a loss one looks up the labels'), and what is held beside arguments and
#: results in multiples of the logits' bytes.
CEILINGS = {
    ("softmax", "float32"): (8, 3, 0.00028),
    ("log_softmax", "float32"): (8, 3, 0.0165),
    ("logsumexp", "float32"): (6, 2, 0.033),
    ("loss and gradient", "float32"): (13, 4, 0.0003),
    ("softmax", "bfloat16"): (8, 3, 0.00057),
    ("log_softmax", "bfloat16"): (8, 3, 0.033),
    ("logsumexp", "bfloat16"): (6, 2, 0.065),
    ("loss and gradient", "bfloat16"): (13, 4, 0.0006),
}


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    """JAX's default device is a CPU here."""
    monkeypatch.setattr("softgrad._array.memory._jax_memory", lambda: 141 << 30)


@pytest.fixture(scope="session")
def place():
    topology = topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1")
    return NamedSharding(Mesh(np.array(topology.devices), ("d",)), PartitionSpec())


def compiled(place, function, *arguments):
    shapes = [jax.ShapeDtypeStruct(dims, dtype, sharding=place) for dims, dtype in arguments]
    return jax.jit(function, in_shardings=place, out_shardings=place).lower(*shapes).compile()


@pytest.mark.parametrize(("name", "dtype"), CEILINGS)
def test_functions_take_no_more_than_stated(name, dtype, place):
    program = compiled(place, FUNCTIONS[name], ((ROWS, CLASSES), dtype), ((ROWS,), "int32"))
    text = program.as_text()
    kernels = text.count(" fusion(")
    (logits,) = re.findall(rf"(%\S+) = \S+\[{ROWS},{CLASSES}\]\S* parameter\(0\), sharding", text)
    reads = len(re.findall(rf" fusion\([^)]*{re.escape(logits)}[,)]", text))
    held = program.memory_analysis().temp_size_in_bytes / (ROWS * CLASSES * jnp.dtype(dtype).itemsize)
    names = "kernels", "reads", "held"
    within(dict(zip(names, CEILINGS[name, dtype], strict=True)), dict(zip(names, (kernels, reads, held), strict=True)))


def _rounded(place):
    """How many kernels of a linear model's float32 gradient multiply in TF32."""
    before = set(DUMP.glob("*.ptx"))

    def linear(X, y, W):
        return sg.linear_cross_entropy_value_and_grad(X, y, W)

    compiled(place, linear, ((4096, 1024), "float32"), ((4096,), "int32"), ((32000, 1024), "float32"))
    made = [path.read_text() for path in set(DUMP.glob("*.ptx")) - before]
    assert made
    return sum("f32.tf32.tf32.f32" in text for text in made)


def test_products_of_float32_are_in_float32_unless_the_user_says_otherwise(place):
    assert _rounded(place) == 0
    with jax.default_matmul_precision("default"):
        assert _rounded(place) == 2


@pytest.mark.parametrize(("dtype", "most_held"), [("bfloat16", 0.9), ("float32", 0.6)])
def test_the_linear_model_walks_in_few_blocks_and_copies_no_weights(dtype, most_held, place):
    n, m = 4096, 4096

    def linear(X, y, W):
        return sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("W", "X"))

    program = compiled(place, linear, ((n, m), dtype), ((n,), "int32"), ((CLASSES, m), dtype))
    assert re.findall(r"known_trip_count\W+n\W+(\d+)", program.as_text()) == ["4"]
    # a block of logits in float32 is 0.53 GB; W is 1.05 GB in bfloat16
    within({dtype: most_held}, {dtype: program.memory_analysis().temp_size_in_bytes / 1e9})
