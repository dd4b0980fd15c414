"""Every function on JAX arrays over two devices, compared with NumPy's: ``python jax_devices.py rows``."""

import os
import sys

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import softgrad as sg
from softgrad import partial, statistics

jax.config.update("jax_enable_x64", True)
RNG = np.random.default_rng(3)
MESH = Mesh(np.asarray(jax.devices()), ("i",))
LOGITS, FEATURES = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
LABELS = np.asarray([0, 1, 2, 3, 1, 0, 3, 2])
WEIGHTS, BIAS, SOFT = RNG.normal(size=(4, 2)), RNG.normal(size=4), RNG.random((8, 4))
SHOWN = np.ones((8, 4), bool)
SHOWN[:, 3] = LABELS == 3
OPTIONS = {"class_weight": [1.0, 2.0, 3.0, 0.5], "label_smoothing": 0.1, "z_loss": 0.1, "ignore_index": 1}
CALLS = {
    "dense": lambda a: (sg.softmax(a(LOGITS)), sg.log_softmax(a(LOGITS), where=a(SHOWN))),
    "logsumexp": lambda a: sg.logsumexp(a(LOGITS), axis=-1, b=a(SOFT - 0.5), return_sign=True),
    "loss": lambda a: sg.CrossEntropy(**OPTIONS).value_and_grad(a(LOGITS), a(LABELS), sample_weight=0.5),
    "soft": lambda a: sg.cross_entropy_value_and_grad(a(LOGITS), a(SOFT), where=a(SHOWN)),
    "checked": lambda a: sg.cross_entropy(a(LOGITS), a(LABELS), validate=True, precision="high"),
    "second": lambda a: (
        sg.cross_entropy_hvp(a(LOGITS), a(LABELS), a(SOFT)),
        sg.CrossEntropy(class_weight=OPTIONS["class_weight"]).hessian_diag(a(LOGITS), a(LABELS)),
        sg.CrossEntropy(class_weight=OPTIONS["class_weight"]).total_weight(a(LOGITS), a(LABELS)),
    ),
    "linear": lambda a: sg.linear_cross_entropy_value_and_grad(
        a(FEATURES), a(LABELS), a(WEIGHTS), a(BIAS), l2=0.1, block_size=3, sample_weight=2.0
    ),
    "hessian": lambda a: (
        sg.linear_cross_entropy_hessian(a(FEATURES), a(LABELS), a(WEIGHTS), a(BIAS), l2=0.1),
        statistics.linear_cross_entropy_hessian_diag(a(FEATURES), a(LABELS), a(WEIGHTS), a(BIAS)),
    ),
    "statistics": lambda a: tuple(statistics.coefficient_statistics(a(FEATURES), a(WEIGHTS)))[:2],
    "partial": lambda a: partial.finish(partial.cross_entropy_partial(a(LOGITS), a(LABELS))),
    "linear partial": lambda a: partial.finish(partial.linear_partial(a(FEATURES), a(LABELS), a(WEIGHTS))),
    **{f"fit, {solver}": lambda a, solver=solver: fit(a, solver) for solver in ("lbfgs", "newton-cg")},
}


def fit(a, solver):
    model = sg.SoftmaxRegression(solver=solver, tol=1e-9, class_weight={0: 2.0, 1: 1.0, 2: 1.0, 3: 0.5})
    model.fit(a(FEATURES), a(LABELS), sample_weight=a(np.linspace(0.5, 1.5, 8)))
    return model.coef_, model.predict_proba(a(FEATURES)), model.predict(a(FEATURES))


def flat(result):
    return [a for part in result for a in flat(part)] if isinstance(result, tuple) else [result]


def put(host):
    """On both devices: whole, in shares of the first axis, or of the last."""
    spec = {"replicated": [], "rows": ["i"], "classes": [*[None] * (host.ndim - 1), "i"]}[sys.argv[1]]
    return jax.device_put(host, NamedSharding(MESH, PartitionSpec(*spec)))


for name, call in CALLS.items():
    for got, expected in zip(flat(call(put)), flat(call(np.asarray)), strict=True):
        # two fits end where the gradient is small, not at the same bits
        np.testing.assert_allclose(
            np.asarray(got), np.asarray(expected), rtol=1e-5 if "fit" in name else 1e-11, err_msg=name
        )
