"""Classes split over processes: the cases, and what each must give, for threads, processes and devices alike."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import softgrad as sg

RNG = np.random.default_rng(7)
N, M, K = 9, 3, 11
LOGITS = RNG.normal(size=(N, K)) * 3
LOGITS[0] = 0.0  # ties over all shares
LOGITS[1, 2] = 40.0  # a label that is sure: its loss is 1e-17
LOGITS[2, 5] = 40.0  # a label that is wrong for sure
LOGITS[3, 9] = -np.inf
LABELS = np.asarray([10, 2, 0, 3, 4, 10, 6, 1, 7])
SOFT = RNG.dirichlet(np.ones(K), size=N)
SOFT[3, 9] = 0.0
X, W, BIAS = RNG.normal(size=(N, M)), RNG.normal(size=(K, M)), RNG.normal(size=K)
WEIGHT = np.where(np.arange(N) == 5, 0.0, RNG.random(N) + 0.5)
CLASS_WEIGHT = RNG.random(K) + 0.5
CLASS_WEIGHT[4] = 0.0
SHOWN = RNG.random((N, K)) < 0.7
SHOWN[np.arange(N), LABELS] = True
SHOWN[4] = False  # nothing is shown of this sample
SHOWN[6, :6] = False  # and here nothing of the first shares
SHOWN[:, 3:5] = False  # and nothing of any sample in a share of these
SHOWN[3, 3] = True
SHIFT = RNG.normal(size=K) * 2
SHIFT[7:9] = 4.0  # ties in one share, and over two
TAKEN_OUT = np.where(np.arange(K) == 5, -np.inf, SHIFT)  # the class that one sample is wrongly sure of

#: By name: options of the loss; those of PER_CLASS are given by share.
OPTIONS = {
    "plain": {},
    "mean of weighted": {"sample_weight": WEIGHT, "class_weight": CLASS_WEIGHT},
    "smoothed": {"label_smoothing": 0.2, "class_weight": CLASS_WEIGHT},
    "ignored": {"ignore_index": 3, "reduction": "sum"},
    "z_loss": {"z_loss": 0.1, "reduction": "none"},
    "hidden": {"where": SHOWN},
    "high": {"precision": "high", "reduction": "none"},
    "all": {
        "where": SHOWN,
        "label_smoothing": 0.1,
        "class_weight": CLASS_WEIGHT,
        "sample_weight": WEIGHT,
        "z_loss": 0.1,
        "ignore_index": 6,
        "precision": "high",
    },
    "temperature": {"temperature": 0.3, "reduction": "none"},
    "softcap": {"softcap": 5.0, "where": SHOWN, "z_loss": 0.1},
    "logit_shift": {"logit_shift": TAKEN_OUT, "reduction": "none"},
    "focal": {"focal": 1.5, "class_weight": CLASS_WEIGHT, "z_loss": 0.1, "reduction": "sum"},
    "scaled": {
        "softcap": 5.0,
        "temperature": 0.3,
        "logit_shift": SHIFT,
        "label_smoothing": 0.1,
        "class_weight": CLASS_WEIGHT,
        "where": SHOWN,
        "z_loss": 0.1,
    },
    "scaled, focal": {"temperature": 0.7, "logit_shift": TAKEN_OUT, "focal": 2.0, "precision": "high"},
    "smoothed, focal": {"focal": 1.5, "label_smoothing": 0.1, "where": SHOWN, "sample_weight": WEIGHT, "z_loss": 0.1},
    "distribution, focal": {"labels": SOFT, "focal": 0.5, "logit_shift": SHIFT, "class_weight": CLASS_WEIGHT},
    "distribution": {"labels": SOFT, "class_weight": CLASS_WEIGHT},
    "distribution, all": {"labels": SOFT, "where": SHOWN, "label_smoothing": 0.1, "z_loss": 0.1, "reduction": "sum"},
}
PER_CLASS = ("class_weight", "where", "logit_shift")
CUTS = {"one": (0, 11), "uneven": (0, 2, 11), "three": (0, 3, 5, 11), "ones": (0, 1, 2, 9, 10, 11)}


def shares(cuts):
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def of_share(options, part, asarray):
    """(labels, options) for one share of the classes."""
    given = dict(options)
    labels = given.pop("labels", LABELS)
    labels = asarray(labels, "int64") if labels.ndim == 1 else asarray(labels[:, part], "float64")
    for name in ("class_weight", "sample_weight", "where", "logit_shift"):
        if name in given:
            value = given[name][..., part] if name in PER_CLASS else given[name]
            given[name] = asarray(value, "bool" if name == "where" else "float64")
    return labels, given


def collectives(options):
    """What the value asks for; factors of several classes of a sample wait for the normalizer."""
    several = "focal" in options and ("labels" in options or "label_smoothing" in options)
    return ["max", "sum"] + ["sum"] * several


def whole(options):
    """(value, gradient) of the undivided loss, and of the linear model without and with X; None where it has none."""
    given = dict(options)
    labels = given.pop("labels", LABELS)
    dense = sg.cross_entropy_value_and_grad(LOGITS, labels, **given)
    if given.get("reduction") == "none":
        return dense, (sg.linear_cross_entropy(X, labels, W, BIAS, **given), None)
    return dense, sg.linear_cross_entropy_value_and_grad(X, labels, W, BIAS, wrt=("W", "bias", "X"), **given)


class Threads:
    """Threads in the place of processes: ``reduce(rank)`` is what each is given."""

    def __init__(self, count, maximum, add):
        self.barrier, self.given, self.calls = threading.Barrier(count, timeout=20), [None] * count, []
        self.combine = {"max": maximum, "sum": add}
        self.count = count

    def reduce(self, rank):
        def meet(array, op):
            self.given[rank] = array
            self.barrier.wait()
            result = self.given[0]
            for other in self.given[1:]:
                result = self.combine[op](result, other)
            if rank == 0:
                self.calls.append((op, tuple(array.shape)))
            self.barrier.wait()
            return result

        return meet

    def run(self, function):
        """``function(rank, reduce)`` in every thread, and what each gives."""

        def guarded(rank):
            try:
                return function(rank, self.reduce(rank))
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(guarded, range(self.count)))
