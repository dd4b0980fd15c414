"""A back end that another package brings: softmax of contiguous float64 rows, summed by ``einsum``.

It shares NumPy's array type with softgrad's own back end, so it runs only where it is asked for:
``with softgrad.backends.use("einsum"): ...``
"""

from softgrad.backends import Backend

BACKEND = Backend(
    name="einsum",
    types=("numpy:ndarray",),
    functions={"softmax": "softgrad_plugin.kernels:softmax"},
    should_run="softgrad_plugin.kernels:should_run",
)
