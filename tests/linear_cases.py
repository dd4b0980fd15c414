"""A problem of the linear model with its reference, and options of the loss."""

from typing import Any

import numpy as np

import oracle

N, M, K = 7, 3, 4
RNG = np.random.default_rng(31)
X = RNG.normal(size=(N, M))
W = RNG.normal(size=(K, M))
BIAS = RNG.normal(size=K)
LABELS = np.array([0, 3, 1, 2, 2, 0, 3])
SOFT = RNG.dirichlet(np.ones(K), size=N)
SAMPLE_WEIGHT = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, 0.25])
CLASS_WEIGHT = (0.5, 2.0, 1.0, 3.0)
DIRECTIONS = {"W": RNG.normal(size=(K, M)), "bias": RNG.normal(size=K), "X": RNG.normal(size=(N, M))}

OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "l2": {"l2": 0.7},
    "sample_weight": {"sample_weight": SAMPLE_WEIGHT},
    "class_weight": {"class_weight": CLASS_WEIGHT},
    "label_smoothing": {"label_smoothing": 0.2},
    "z_loss": {"z_loss": 0.3},
    "ignore_index": {"ignore_index": 2},
    "high": {"precision": "high"},
    "scaled": {"softcap": 2.5, "temperature": 0.7, "logit_shift": (0.5, -1.0, 0.25, 2.0)},
    "focal": {"focal": 2.0},
    "every one": {
        "softcap": 2.5,
        "temperature": 0.7,
        "logit_shift": (0.5, -1.0, 0.25, 2.0),
        "focal": 1.5,
        "sample_weight": SAMPLE_WEIGHT,
        "class_weight": CLASS_WEIGHT,
        "label_smoothing": 0.2,
        "z_loss": 0.3,
        "ignore_index": 1,
    },
    "all": {
        "reduction": "mean",
        "l2": 0.7,
        "sample_weight": SAMPLE_WEIGHT,
        "class_weight": CLASS_WEIGHT,
        "label_smoothing": 0.2,
        "z_loss": 0.3,
        "ignore_index": 1,
    },
}


#: References by what they depend on: each is asked for in both layouts, and by several tests.
_known: dict[tuple[str, ...], Any] = {}


class Problem:
    """One problem in one layout: its arrays on the library under test, and its reference."""

    def __init__(self, asarray, options, *, bias=True, sample_axis=0, labels=LABELS):
        labels = np.asarray(labels)
        self.sample_axis, self.options = sample_axis, options
        self.host = {"X": X, "W": W} | ({"bias": BIAS} if bias else {})
        self.samples_first = self.host, labels
        self.host_labels = labels
        if sample_axis == 1:
            self.host = {name: array.T for name, array in self.host.items()}
            self.host_labels = labels.T
        self.arguments = (
            asarray(self.host["X"]),
            asarray(self.host_labels, "int64" if labels.ndim == 1 else "float64"),
            asarray(self.host["W"]),
            *([asarray(BIAS)] if bias else []),
        )
        self.keywords = {name: asarray(value) if name == "sample_weight" else value for name, value in options.items()}
        if sample_axis:
            self.keywords["sample_axis"] = sample_axis

    def value(self, **moved):
        options = {name: value for name, value in self.options.items() if name != "precision"}
        return oracle.linear(labels=self.host_labels, sample_axis=self.sample_axis, **options, **moved)

    def _derivative(self, name, directions=None):
        """The reference with samples first, turned to this layout."""
        host, labels = self.samples_first
        key = name, repr(self.options), repr(labels), "-".join(host), repr(directions)
        if key not in _known:
            options = {name: value for name, value in self.options.items() if name != "precision"}

            def value(**moved):
                return oracle.linear(labels=labels, **options, **moved)

            _known[key] = oracle.rounded(oracle.derivative(value, host, name, directions))
        return _known[key].T if self.sample_axis else _known[key]

    def grad(self, name):
        return self._derivative(name)

    def hvp(self, name, directions):
        turned = {key: array.T if self.sample_axis else array for key, array in directions.items()}
        return self._derivative(name, turned)

    def directions(self, names):
        return {name: DIRECTIONS[name].T if self.sample_axis else DIRECTIONS[name] for name in names}


def close(result, expected, **keywords):
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, **{"rtol": 1e-11, "atol": 1e-14, **keywords})


WHERE = RNG.random((N, K)) < 0.6
WHERE[np.arange(N), LABELS] = True
