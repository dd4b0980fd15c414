"""A call of every public function on device arrays, over the options that change which kernels run."""

import numpy as np

import softgrad as sg


def data(dtype="float64", classes=5):
    """Every array of the calls by name, on the host."""
    rng = np.random.default_rng(4)
    n, features = 6, 3
    arrays = {
        "x": rng.standard_normal((n, classes)),
        "other": rng.standard_normal((n, classes)),
        "labels": rng.integers(0, classes, n),
        "several": rng.integers(0, classes, (n, 2)),
        "soft": rng.dirichlet(np.ones(classes), n),
        "where": np.arange(n * classes).reshape(n, classes) % 4 > 0,
        "class_weight": rng.uniform(0.5, 2, classes),
        "sample_weight": rng.uniform(0.5, 2, n),
        "X": rng.standard_normal((n, features)),
        "W": rng.standard_normal((classes, features)),
        "V": rng.standard_normal((classes, features)),
        "bias": rng.standard_normal(classes),
    }
    return {name: each.astype(dtype) if each.dtype == "float64" else each for name, each in arrays.items()}


def loss_options(d):
    return {
        "plain": {},
        "smoothed": {"label_smoothing": 0.1},
        "weighted": {"class_weight": d["class_weight"], "sample_weight": d["sample_weight"]},
        "ignoring": {"ignore_index": 2, "z_loss": 0.01},
        "one loss a sample": {"reduction": "none"},
        "high": {"precision": "high"},
    }


def calls(d):
    """Yield a name and a public call on device arrays, over all functions and the options that change their code."""
    x, other, y, X, W = (d[name] for name in ("x", "other", "labels", "X", "W"))
    for name in ("softmax", "log_softmax", "logsumexp"):
        function = getattr(sg, name)
        for precision in (None, "high"):
            yield f"{name} {precision}", lambda f=function, p=precision: f(x, axis=-1, precision=p)
        yield f"{name} of halves", lambda f=function: f(x.astype("float16"), axis=0)
        yield f"{name} of integers", lambda f=function: f(y, axis=0)
        yield f"{name} of all", lambda f=function: f(x, axis=(0, 1))
        yield f"{name} where", lambda f=function: f(x, axis=-1, where=d["where"])
    yield "logsumexp with factors", lambda: sg.logsumexp(x, axis=1, b=other, return_sign=True)
    for name in ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"):
        yield name, lambda n=name: getattr(sg, n)(x, other)
    for precision in (None, "high"):
        for scaled, more in (("", {}), (" scaled", {"temperature": 0.5, "softcap": 9.0})):
            given = {"precision": precision, **more}
            words = f"{precision}{scaled}"
            yield f"entropy {words}", lambda g=given: sg.entropy(x, **g)
            yield f"entropy_vjp {words}", lambda g=given: sg.entropy_vjp(x, d["sample_weight"], **g)
            yield f"log_probs {words}", lambda g=given: sg.log_probs(x, y, **g)
            yield f"log_probs of several {words}", lambda g=given: sg.log_probs(x, d["several"], where=d["where"], **g)
            yield f"log_probs_vjp {words}", lambda g=given: sg.log_probs_vjp(x, y, d["sample_weight"], **g)
    for words, more in (("", {}), (" high", {"precision": "high"}), (" scaled", {"temperature": 0.5, "softcap": 9.0})):
        yield (
            f"linear_log_probs{words}",
            lambda m=more: sg.linear_log_probs(X, y, W, d["bias"], entropy=True, top_k=2, block_size=4, **m),
        )
        yield (
            f"linear_log_probs_vjp{words}",
            lambda m=more: sg.linear_log_probs_vjp(
                X, d["several"], W, None, (other[:, :2], d["sample_weight"]), wrt=("W", "X"), block_size=4, **m
            ),
        )
    yield "log_probs_vjp of several", lambda: sg.log_probs_vjp(x, d["several"], other[:, :2])
    for label, options in loss_options(d).items():
        at_call = {key: options[key] for key in options if key == "sample_weight"}
        loss = sg.CrossEntropy(**{key: options[key] for key in options if key not in at_call})
        for labels in ("labels", "soft"):
            if labels == "soft" and "ignore_index" in options:
                continue
            t = d[labels]
            for method, more in [(loss, ()), (loss.grad, ()), (loss.value_and_grad, ()), (loss.hvp, (other,))]:
                name = getattr(method, "__name__", "value")
                yield f"loss {name} {label} {labels}", lambda f=method, t=t, m=more, a=at_call: f(x, t, *m, **a)
            yield f"loss diagonal {label} {labels}", lambda f=loss.hessian_diag, t=t, a=at_call: f(x, t, **a)
        alone = {"first_class": 0, "reduce": lambda array, op: array, **options}
        yield f"share of logits {label}", lambda o=alone: sg.parallel.cross_entropy_value_and_grad(x, y, **o)
        if options.get("reduction") == "none":
            continue
        yield (
            f"share of a linear model {label}",
            lambda o=alone: sg.parallel.linear_cross_entropy_value_and_grad(X, y, W, d["bias"], block_size=4, **o),
        )
        linear = sg.LinearCrossEntropy(X, y, **options, block_size=4)
        yield f"linear value {label}", lambda f=linear.value: f(W, d["bias"])
        yield f"linear gradient {label}", lambda f=linear.value_and_grad: f(W, d["bias"], wrt=("W", "bias", "X"))
        yield f"linear product {label}", lambda f=linear.hvp: f(W, (d["V"], d["bias"]), d["bias"])
        yield f"linear classes {label}", lambda f=linear.grad: f(W, classes=[1, 3])
        yield f"linear hessian {label}", lambda f=linear.hessian: f(W)
    for reduction in ("none", "sum", "mean"):
        options = {"reduction": reduction, "where": d["where"], "sample_weight": d["sample_weight"], "temperature": 2.0}
        for function in (sg.kl_divergence, sg.js_divergence):
            yield f"{function.__name__} {reduction}", lambda f=function, o=options: f(x, other, **o)
        for function in (sg.kl_divergence_grad, sg.js_divergence_value_and_grad):
            yield (
                f"{function.__name__} {reduction}",
                lambda f=function, o=options: f(x, other, wrt="target_logits", **o),
            )
    for function in (sg.linear_kl_divergence_value_and_grad, sg.linear_js_divergence_value_and_grad):
        yield function.__name__, lambda f=function: f(X, W, X, d["V"], d["bias"], wrt=("W", "bias", "X"), block_size=4)
    for rest in ("lump", "renormalize"):
        few = other[:, :2] - 9, d["several"]
        yield f"some classes, {rest}", lambda f=few, r=rest: sg.top_k_kl_divergence_grad(x, *f, rest=r, temperature=2.0)
    yield (
        "some classes of a linear model",
        lambda f=few: sg.linear_top_k_kl_divergence_value_and_grad(X, W, *f, wrt=("W", "X"), block_size=4),
    )
    yield "seed's layout", lambda: sg.linear_cross_entropy_value_and_grad(X.T, y, W.T, sample_axis=1, l2=0.1)
