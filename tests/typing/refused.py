"""What a type checker has to refuse: each marked line holds one error, and only those do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import softgrad as sg
from softgrad.testing import check_backend

x: npt.NDArray[np.float64] = np.zeros((2, 3))
y = np.zeros(2, dtype=np.int64)

sg.softmax(x, axis="rows")  # wrong
sg.softmax(x=x)  # wrong
sg.softmax(x, precision="highest")  # wrong
sg.cross_entropy(x, y, reduction="average")  # wrong
sg.cross_entropy(x, y, smoothing=0.1)  # wrong
sg.CrossEntropy(reduction="average")  # wrong
sg.CrossEntropy().label_smoothing = 0.1  # wrong
sg.cross_entropy(x, y).backward()  # wrong
sg.LinearCrossEntropy(x, y).grad(x, wrt="b")  # wrong
check_backend("numpy", on_failure="ignore")  # wrong
