"""A small call of every public function, and what it gives: what any array library can be asked to do."""

import functools

import numpy as np

import softgrad as sg
from softgrad import backends, calibration, identity, parallel, partial, statistics

LOGITS = np.asarray([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0], [2.0, 2.0, -4.0]])
LOG_PROBS = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
MASK = np.asarray([[True, False, True], [True, True, False], [False, True, True]])
LABELS = np.asarray([2, 0, 1])
SEVERAL = np.asarray([[2, 0], [0, 0], [1, 2]])
TARGETS = np.asarray([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
FEATURES = np.asarray([[1.0, 2.0], [0.0, -1.0], [0.5, 0.5]])
WEIGHTS = np.asarray([[0.1, 0.2], [0.3, 0.4], [0.0, -0.5], [1.0, 1.0]])
#: The only process holds all classes.
ALONE = {"first_class": 0, "reduce": lambda array, op: array}
BIAS = np.asarray([0.0, 0.1, 0.2, 0.3])


def linear(function, **options):
    return lambda a: function(a(FEATURES), a(LABELS), a(WEIGHTS, samples=False), a(BIAS, samples=False), **options)


def linear_divergence(function):
    """Of two models of different features, with the classes of the first one's."""
    return lambda a: function(
        a(FEATURES), a(WEIGHTS, samples=False), a(LOGITS), a(np.outer(BIAS, [1.0, 2.0, -3.0]), samples=False)
    )


def few_classes(a):
    """Log-probabilities of two classes a sample, and which they are."""
    return a(TARGETS[:, :2] - 3.0), a(np.asarray([[0, 2], [2, 1], [1, 0]]))


def wanted(found):
    """What a call gives, without what it was not asked for."""
    return tuple(a for a in found if a is not None)


def directions(a):
    return a(WEIGHTS, samples=False), a(BIAS, samples=False)


def shares(a):
    W, _ = directions(a)
    return [partial.linear_partial(a(X), a(y), W) for X, y in ((FEATURES[:2], LABELS[:2]), (FEATURES[2:], LABELS[2:]))]


def classes_in_shares(a):
    labels = a(LABELS)
    parts = [a(LOGITS[:, :2]), a(LOGITS[:, 2:])]
    merged = partial.merge(*(partial.cross_entropy_partial(part, labels, offset=2 * i) for i, part in enumerate(parts)))
    return parts[0], labels, merged


def columns(a):
    X, Y, W = FEATURES.T, np.eye(4)[:, LABELS], WEIGHTS.T
    return a(X, samples=False), a(Y, samples=False), a(W, samples=False)


def bound(a):
    return sg.LinearCrossEntropy(a(FEATURES), a(LABELS))


def coefficients(a):
    return tuple(statistics.coefficient_statistics(a(FEATURES), a(WEIGHTS, samples=False)))


def fitted(a):
    """The estimator as a fit leaves it."""
    model = sg.SoftmaxRegression()
    model.coef_, model.intercept_ = directions(a)
    model.classes_, model.n_features_in_ = a(np.arange(4), samples=False), 2
    return model


def fit(a):
    """The classes 0, 1 and 2, each seen once."""
    model = sg.SoftmaxRegression(solver="newton-cg", tol=1e-7).fit(a(FEATURES), a(LABELS))
    return model.coef_, model.intercept_, model.classes_


def all_options(a):
    logits, labels = a(LOGITS.T.copy(), samples=False), a(LABELS, samples=False)
    weight = a(np.asarray([1.0, 0.5, 2.0]), samples=False)
    class_weight = a(np.asarray([1.0, 2.0, 0.5]), samples=False)
    loss = sg.CrossEntropy(axis=0, class_weight=class_weight, label_smoothing=0.1, z_loss=0.01, ignore_index=0)
    return loss.value_and_grad(logits, labels, sample_weight=weight)


def all_options_of_a_divergence(a):
    weight = a(np.asarray([1.0, 0.5, 2.0]))
    options = {"direction": "reverse", "where": a(MASK), "temperature": 2.0, "sample_weight": weight}
    return sg.kl_divergence_value_and_grad(a(LOGITS), a(TARGETS), wrt=("logits", "target_logits"), **options)


#: A call of each function; its argument makes an array, ``samples`` telling whether the first axis counts the samples.
CALLS = {
    "softmax": lambda a: sg.softmax(a(LOGITS)),
    "log_softmax": lambda a: sg.log_softmax(a(LOGITS)),
    "logsumexp": lambda a: sg.logsumexp(a(LOGITS), axis=-1),
    "softmax_vjp": lambda a: sg.softmax_vjp(a(TARGETS), a(LOGITS)),
    "softmax_jvp": lambda a: sg.softmax_jvp(a(TARGETS), a(LOGITS)),
    "log_softmax_vjp": lambda a: sg.log_softmax_vjp(a(LOG_PROBS), a(TARGETS)),
    "log_softmax_jvp": lambda a: sg.log_softmax_jvp(a(LOG_PROBS), a(TARGETS)),
    "log_probs": lambda a: sg.log_probs(a(LOGITS), a(LABELS)),
    "log_probs_vjp": lambda a: sg.log_probs_vjp(a(LOGITS), a(LABELS), a(TARGETS[:, 0])),
    "entropy": lambda a: sg.entropy(a(LOGITS)),
    "entropy_vjp": lambda a: sg.entropy_vjp(a(LOGITS), a(TARGETS[:, 0])),
    "cross_entropy": lambda a: sg.cross_entropy(a(LOGITS), a(LABELS)),
    "cross_entropy_grad": lambda a: sg.cross_entropy_grad(a(LOGITS), a(LABELS)),
    "cross_entropy_value_and_grad": lambda a: sg.cross_entropy_value_and_grad(a(LOGITS), a(LABELS)),
    "cross_entropy_hvp": lambda a: sg.cross_entropy_hvp(a(LOGITS), a(LABELS), a(TARGETS)),
    "CrossEntropy.hessian_diag": lambda a: sg.CrossEntropy().hessian_diag(a(LOGITS), a(LABELS)),
    "CrossEntropy.total_weight": lambda a: sg.CrossEntropy(class_weight=[1.0, 2.0, 3.0]).total_weight(
        a(LOGITS), a(LABELS)
    ),
    "kl_divergence": lambda a: sg.kl_divergence(a(LOGITS), a(TARGETS)),
    "kl_divergence_grad": lambda a: sg.kl_divergence_grad(a(LOGITS), a(TARGETS)),
    "kl_divergence_value_and_grad": lambda a: sg.kl_divergence_value_and_grad(a(LOGITS), a(TARGETS)),
    "js_divergence": lambda a: sg.js_divergence(a(LOGITS), a(TARGETS)),
    "js_divergence_grad": lambda a: sg.js_divergence_grad(a(LOGITS), a(TARGETS)),
    "js_divergence_value_and_grad": lambda a: sg.js_divergence_value_and_grad(a(LOGITS), a(TARGETS)),
    "top_k_kl_divergence": lambda a: sg.top_k_kl_divergence(a(LOGITS), *few_classes(a)),
    "top_k_kl_divergence_grad": lambda a: sg.top_k_kl_divergence_grad(a(LOGITS), *few_classes(a)),
    "top_k_kl_divergence_value_and_grad": lambda a: sg.top_k_kl_divergence_value_and_grad(a(LOGITS), *few_classes(a)),
    "linear_top_k_kl_divergence": lambda a: sg.linear_top_k_kl_divergence(
        a(FEATURES), a(WEIGHTS, samples=False), *few_classes(a), a(BIAS, samples=False)
    ),
    "linear_top_k_kl_divergence_value_and_grad": lambda a: sg.linear_top_k_kl_divergence_value_and_grad(
        a(FEATURES), a(WEIGHTS, samples=False), *few_classes(a), wrt=("W", "X"), rest="renormalize"
    ),
    "linear_cross_entropy": linear(sg.linear_cross_entropy),
    "linear_cross_entropy_grad": linear(sg.linear_cross_entropy_grad),
    "linear_cross_entropy_value_and_grad": linear(sg.linear_cross_entropy_value_and_grad),
    "linear_cross_entropy_hvp": lambda a: sg.linear_cross_entropy_hvp(
        a(FEATURES), a(LABELS), a(WEIGHTS, samples=False), directions(a), a(BIAS, samples=False)
    ),
    "linear_cross_entropy_hessian": linear(sg.linear_cross_entropy_hessian),
    "linear_kl_divergence": linear_divergence(sg.linear_kl_divergence),
    "linear_kl_divergence_value_and_grad": linear_divergence(sg.linear_kl_divergence_value_and_grad),
    "linear_js_divergence": linear_divergence(sg.linear_js_divergence),
    "linear_js_divergence_value_and_grad": linear_divergence(sg.linear_js_divergence_value_and_grad),
    "linear_log_probs": lambda a: wanted(linear(sg.linear_log_probs)(a)),
    "linear_log_probs_vjp": lambda a: sg.linear_log_probs_vjp(
        a(FEATURES), a(LABELS), a(WEIGHTS, samples=False), None, (a(TARGETS[:, 0]), a(TARGETS[:, 1])), wrt=("W", "X")
    ),
    "partial.logsumexp_partial": lambda a: partial.logsumexp_partial(a(LOGITS)),
    "partial.cross_entropy_partial": lambda a: partial.cross_entropy_partial(a(LOGITS), a(LABELS)),
    "partial.cross_entropy_shard_grad": lambda a: partial.cross_entropy_shard_grad(*classes_in_shares(a)),
    "partial.linear_partial": linear(partial.linear_partial),
    "partial.merge": lambda a: partial.merge(*shares(a)),
    "partial.finish": lambda a: partial.finish(partial.merge(*shares(a)), W=directions(a)[0], l2=0.1),
    "parallel.cross_entropy": lambda a: parallel.cross_entropy(a(LOGITS), a(LABELS), **ALONE),
    "parallel.cross_entropy_value_and_grad": lambda a: parallel.cross_entropy_value_and_grad(
        a(LOGITS), a(LABELS), where=a(MASK), **ALONE
    ),
    "parallel.linear_cross_entropy": linear(parallel.linear_cross_entropy, **ALONE),
    "parallel.linear_cross_entropy_value_and_grad": linear(
        parallel.linear_cross_entropy_value_and_grad, label_smoothing=0.1, **ALONE
    ),
    "statistics.hessian_diag": lambda a: statistics.hessian_diag(bound(a), *directions(a)),
    "statistics.linear_cross_entropy_hessian_diag": linear(statistics.linear_cross_entropy_hessian_diag),
    "statistics.coefficient_statistics": coefficients,
    "calibration.temperature": lambda a: a(
        np.asarray(calibration.temperature(a(LOGITS), a(LABELS)).temperature), samples=False
    ),
    "identity.loss_from_probabilities": lambda a: identity.loss_from_probabilities(*columns(a)),
    "identity.loss_from_normalizer": lambda a: identity.loss_from_normalizer(*columns(a)),
    "identity.gradient_column": lambda a: identity.gradient_column(*columns(a), 1),
    "identity.gradient_product": lambda a: identity.gradient_product(*columns(a)),
    "identity.slipped_gradient_column": lambda a: identity.slipped_gradient_column(*columns(a), 1),
    "SoftmaxRegression.fit": fit,
    "SoftmaxRegression.predict": lambda a: fitted(a).predict(a(FEATURES)),
    "SoftmaxRegression.predict_proba": lambda a: fitted(a).predict_proba(a(FEATURES)),
    "softmax, several axes": lambda a: sg.softmax(a(LOGITS), axis=(0, 1)),
    "softmax, where": lambda a: sg.softmax(a(LOGITS), where=a(MASK)),
    "softmax, precision high": lambda a: sg.softmax(a(LOGITS), precision="high"),
    "softmax, float16": lambda a: sg.softmax(a(LOGITS, "float16")),
    "softmax, bfloat16": lambda a: sg.softmax(a(LOGITS, "bfloat16")),
    "logsumexp, b": lambda a: sg.logsumexp(a(LOGITS), axis=-1, b=a(TARGETS), return_sign=True),
    "logsumexp, complex": lambda a: sg.logsumexp(a(LOGITS + 1j * TARGETS), axis=-1),
    "log_probs, several labels": lambda a: sg.log_probs(a(LOGITS), a(SEVERAL), temperature=0.5, softcap=20.0),
    "entropy, where": lambda a: sg.entropy(a(LOGITS), where=a(MASK), temperature=2.0),
    "cross_entropy, where": lambda a: sg.cross_entropy(a(LOGITS), a(LABELS), where=a(MASK)),
    "cross_entropy, weights by class": lambda a: sg.cross_entropy(a(LOGITS), a(TARGETS)),
    "cross_entropy, class_weight a list": lambda a: sg.cross_entropy(
        a(LOGITS), a(LABELS), class_weight=[1.0, 2.0, 3.0], label_smoothing=0.1
    ),
    "cross_entropy, validate": lambda a: sg.cross_entropy(a(LOGITS), a(LABELS), validate=True),
    "cross_entropy_value_and_grad, all options": all_options,
    "kl_divergence, all options": all_options_of_a_divergence,
    "linear_log_probs, entropy and top_k": linear(sg.linear_log_probs, entropy=True, top_k=2, temperature=0.5),
    "linear_cross_entropy, reduction none": linear(sg.linear_cross_entropy, reduction="none"),
    "linear_cross_entropy_grad, l2": linear(sg.linear_cross_entropy_grad, l2=0.3, precision="high"),
    "linear_cross_entropy_grad, classes": linear(sg.linear_cross_entropy_grad, classes=[2, 0]),
    "linear_cross_entropy_grad, block_size": linear(sg.linear_cross_entropy_grad, block_size=2),
}


@functools.cache
def expected(name):
    """What the generic kernels give of NumPy arrays."""

    def asarray(host, dtype=None, samples=True):
        return np.asarray(host, "float32" if dtype == "bfloat16" else dtype)

    with backends.use("generic"):
        return [np.asarray(a) for a in flat(CALLS[name](asarray))]


def flat(result):
    return [a for part in result for a in flat(part)] if isinstance(result, tuple) else [result]
