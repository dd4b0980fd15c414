"""Input is never written to, and no result shares its memory."""

import numpy as np
import pytest

import oracle
import softgrad as sg
from contract_cases import DENSE, FEATURES, LABELS, LOGITS, WEIGHTS


# JAX's arrays cannot be written to
@pytest.mark.full("jax")
def test_no_input_is_written_to(asarray, to_numpy):
    hosts = {
        "logits": (LOGITS, "float64"),
        "labels": (LABELS, "int64"),
        "soft": (np.eye(4)[LABELS], "float64"),
        "vector": (LOGITS[::-1], "float64"),
        "sample_weight": (np.array([1.0, 0.0, 2.0]), "float64"),
        "class_weight": (np.array([1.0, 2.0, 0.5, 3.0]), "float64"),
        "where": (LOGITS > -1.5, "bool"),
        "b": (LOGITS - 1, "float64"),
        "X": (FEATURES, "float64"),
        "W": (WEIGHTS, "float64"),
        "bias": (np.array([0.5, 0.0, -0.5, 1.0]), "float64"),
        "narrow": (LOGITS, "float32"),
    }
    given = {name: asarray(value, dtype) for name, (value, dtype) in hosts.items()}
    before = {name: to_numpy(array).tobytes() for name, array in given.items()}
    for x in (given["logits"], given["narrow"]):
        for axis in (0, -1, None):
            for function in DENSE:
                for precision in (None, "high"):
                    to_numpy(function(x, axis=axis, precision=precision))
                    to_numpy(function(x, axis=axis, where=given["where"], precision=precision))
            to_numpy(sg.logsumexp(x, axis=axis, b=given["b"], return_sign=True)[0])
    for function in (sg.softmax_vjp, sg.softmax_jvp, sg.log_softmax_vjp, sg.log_softmax_jvp):
        to_numpy(function(given["logits"], given["vector"]))
    several = asarray(np.stack([LABELS, LABELS[::-1]], axis=1), "int64")
    for options in ({}, {"where": given["where"], "temperature": 0.5}):
        to_numpy(sg.entropy(given["logits"], **options))
        to_numpy(sg.entropy_vjp(given["logits"], given["sample_weight"], **options))
        to_numpy(sg.log_probs(given["logits"], several, **options))
        to_numpy(sg.log_probs_vjp(given["logits"], several, given["vector"][:, :2], **options))
        to_numpy(sg.log_probs_vjp(given["logits"], given["labels"], given["sample_weight"], **options))
    loss = sg.CrossEntropy(label_smoothing=0.1, z_loss=0.2, class_weight=given["class_weight"], ignore_index=2)
    for labels in (given["labels"], given["soft"]):
        for arguments in ({}, {"sample_weight": given["sample_weight"], "where": given["where"]}):
            for array, _ in oracle.every_order(loss, given["logits"], labels, given["vector"], **arguments).values():
                to_numpy(array)
    X, labels, W, bias = (given[name] for name in ("X", "labels", "W", "bias"))
    pair = (given["sample_weight"], given["sample_weight"])
    for array in (
        *sg.linear_log_probs(X, labels, W, bias, entropy=True, top_k=2),
        *sg.linear_log_probs_vjp(X, labels, W, bias, pair, wrt=("W", "bias", "X")),
    ):
        to_numpy(array)
    for block_size in (None, 2):
        options = {"l2": 0.5, "block_size": block_size, "class_weight": given["class_weight"]}
        value, gradients = sg.linear_cross_entropy_value_and_grad(X, labels, W, bias, wrt=("W", "bias", "X"), **options)
        products = sg.linear_cross_entropy_hvp(X, labels, W, (W, bias), bias, **options)
        for array in (value, *gradients, *products, sg.linear_cross_entropy_hessian(X, labels, W, **options)):
            to_numpy(array)
    after = {name: to_numpy(array).tobytes() for name, array in given.items()}
    assert after == before


@pytest.mark.libraries("numpy")
def test_result_shares_no_memory_with_its_input(backend, asarray):
    x, one = asarray(LOGITS), asarray(LOGITS[:, :1])
    results = [sg.softmax(x), sg.log_softmax(x), sg.logsumexp(one, axis=-1), sg.cross_entropy_grad(x, LABELS)]
    for result in results:
        assert not np.shares_memory(result, x)
        assert not np.shares_memory(result, one)
        assert result.flags.writeable
