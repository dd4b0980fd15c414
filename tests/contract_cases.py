"""Small arrays for every function, and what is looked at in each."""

import re

import numpy as np

import softgrad as sg

LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
LABELS = np.array([2, 0, 3])
VECTOR = np.array([[1.0, -0.5, 0.25, 2.0], [0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 1.0, 0.0]])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])

ORDERS = ["value", "grad", "value of value_and_grad", "grad of value_and_grad", "hvp", "hessian_diag"]
REDUCTIONS = ["none", "sum", "mean"]
DENSE = [sg.softmax, sg.log_softmax, sg.logsumexp]
HIDDEN = np.array([[True, False, True, True], [True, True, False, True], [False, True, True, True]])
SOFT = np.array([[0.5, 0.0, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])


def says(*words):
    """A pattern that holds when each word is in the message, in any order; a single letter stands alone."""
    patterns = (rf"\b{word}\b" if len(word) == 1 and word.isalpha() else re.escape(word) for word in words)
    return "(?s)" + "".join(f"(?=.*{pattern})" for pattern in patterns)
