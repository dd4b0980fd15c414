"""What works on which kind of array: the one declaration that the tests hold to and the documentation shows.

``python docs/_capabilities.py`` prints it as Markdown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from softgrad._array.libraries import known

Status: TypeAlias = Literal["works", "lazy", "refuses", "unsupported"]


class Capability(NamedTuple):
    """How a call goes.

    Attributes
    ----------
    status : {"works", "lazy", "refuses", "unsupported"}
        ``"works"`` gives numbers at once, ``"lazy"`` gives a graph of which nothing was computed, ``"refuses"`` raises
        a TypeError that says the reason, ``"unsupported"`` fails in the array library.
    reason : str
        Why it refuses, or is not supported.
    """

    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of array.

    Attributes
    ----------
    library : str
        The library that the tests take it from.
    usual : Capability
        What holds of all that ``but`` does not name.
    but : mapping of str to Capability
        The exceptions, by function or option; dtypes that the library does not have are known.
    variant : str, default ""
        What the table adds to the library's name.
    """

    library: str
    usual: Capability
    but: Mapping[str, Capability] = field(default_factory=dict)
    variant: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.but) - {*FUNCTIONS, *OPTIONS})
        if unknown:
            raise ValueError(f"{self.name}: no function or option is called {unknown[0]!r}")

    @property
    def name(self) -> str:
        """What the table calls it."""
        return known(self.library).title + self.variant

    def capability(self, name: str) -> Capability:
        """What is declared of a function or option."""
        missing = _missing(self.library) if self.usual.status != "refuses" else {}
        return {**missing, **self.but}.get(name, self.usual)


_DENSE = ("softmax", "log_softmax", "logsumexp")
_DERIVATIVES = ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp")
_LOG_PROBS = ("log_probs", "log_probs_vjp")
_ENTROPY = ("entropy", "entropy_vjp")
_LOSS = (
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_value_and_grad",
    "cross_entropy_hvp",
    "CrossEntropy.hessian_diag",
    "CrossEntropy.total_weight",
)
_DIVERGENCE = (
    "kl_divergence",
    "kl_divergence_grad",
    "kl_divergence_value_and_grad",
    "js_divergence",
    "js_divergence_grad",
    "js_divergence_value_and_grad",
    "top_k_kl_divergence",
    "top_k_kl_divergence_grad",
    "top_k_kl_divergence_value_and_grad",
)
_LINEAR_DIVERGENCE = (
    "linear_kl_divergence",
    "linear_kl_divergence_value_and_grad",
    "linear_js_divergence",
    "linear_js_divergence_value_and_grad",
    "linear_top_k_kl_divergence",
    "linear_top_k_kl_divergence_value_and_grad",
)
_LINEAR = (
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "linear_cross_entropy_value_and_grad",
    "linear_cross_entropy_hvp",
    "linear_cross_entropy_hessian",
)
_LINEAR_LOG_PROBS = ("linear_log_probs", "linear_log_probs_vjp")
_PARTIAL_OF_CLASSES = (
    "partial.logsumexp_partial",
    "partial.cross_entropy_partial",
    "partial.cross_entropy_shard_grad",
)
_PARTIAL_OF_SAMPLES = ("partial.linear_partial", "partial.merge", "partial.finish")
_PARALLEL = (
    "parallel.cross_entropy",
    "parallel.cross_entropy_value_and_grad",
    "parallel.linear_cross_entropy",
    "parallel.linear_cross_entropy_value_and_grad",
)
_CURVATURE = (
    "statistics.hessian_diag",
    "statistics.linear_cross_entropy_hessian_diag",
    "statistics.coefficient_statistics",
)
_CALIBRATION = ("calibration.temperature",)
_ESTIMATOR = ("SoftmaxRegression.fit", "SoftmaxRegression.predict", "SoftmaxRegression.predict_proba")
_IDENTITY = (
    "identity.loss_from_probabilities",
    "identity.loss_from_normalizer",
    "identity.gradient_column",
    "identity.gradient_product",
    "identity.slipped_gradient_column",
)

#: The public functions and methods.
FUNCTIONS = (
    *_DENSE,
    *_DERIVATIVES,
    *_LOG_PROBS,
    *_ENTROPY,
    *_LOSS,
    *_DIVERGENCE,
    *_LINEAR,
    *_LINEAR_DIVERGENCE,
    *_LINEAR_LOG_PROBS,
    *_PARTIAL_OF_CLASSES,
    *_PARTIAL_OF_SAMPLES,
    *_PARALLEL,
    *_CURVATURE,
    *_CALIBRATION,
    *_IDENTITY,
    *_ESTIMATOR,
)
#: What an option, or a dtype, may change.
OPTIONS = (
    "softmax, several axes",
    "softmax, where",
    "softmax, precision high",
    "softmax, float16",
    "softmax, bfloat16",
    "logsumexp, b",
    "logsumexp, complex",
    "log_probs, several labels",
    "entropy, where",
    "cross_entropy, where",
    "cross_entropy, weights by class",
    "cross_entropy, class_weight a list",
    "cross_entropy, validate",
    "cross_entropy_value_and_grad, all options",
    "kl_divergence, all options",
    "linear_log_probs, entropy and top_k",
    "linear_cross_entropy, reduction none",
    "linear_cross_entropy_grad, l2",
    "linear_cross_entropy_grad, classes",
    "linear_cross_entropy_grad, block_size",
)

_WORKS, _LAZY = Capability("works"), Capability("lazy")


def _unsupported(reason: str, *names: str) -> dict[str, Capability]:
    return dict.fromkeys(names, Capability("unsupported", reason))


def _missing(library: str) -> dict[str, Capability]:
    """What a library has no dtype for."""
    declared = known(library)
    absent = [f"softmax, {name}" for name in ("float16", "bfloat16") if name not in declared.formats]
    return _unsupported(
        "the library has no such dtype", *absent, *(() if declared.has_complex else ("logsumexp, complex",))
    )


_COMPUTED = ("calibration.temperature", "SoftmaxRegression.fit", "statistics.coefficient_statistics")
_NO_VALUES = {
    **_unsupported("`validate` reads the labels, which have no values yet", "cross_entropy, validate"),
    **_unsupported("it needs values on the host, and a traced array has none", *_COMPUTED),
}
_OF_INDICES = (
    *_LOG_PROBS,
    *_LOSS,
    *_LINEAR,
    *_LINEAR_LOG_PROBS,
    *(name for name in (*_DIVERGENCE, *_LINEAR_DIVERGENCE) if "top_k" in name),
    *_PARTIAL_OF_CLASSES[1:],
    *_PARTIAL_OF_SAMPLES,
    *_PARALLEL,
    *_CURVATURE,
    *_CALIBRATION,
    "SoftmaxRegression.fit",
    "log_probs, several labels",
    "linear_log_probs, entropy and top_k",
    *(name for name in OPTIONS if "cross_entropy" in name and "weights by class" not in name),
)

KINDS = (
    Kind("numpy", _WORKS),
    Kind("torch", _WORKS),
    Kind("torch", _WORKS, _NO_VALUES, variant=", meta device"),
    Kind("cupy", _WORKS),
    Kind("jax", _WORKS),
    Kind("jax", _WORKS, _NO_VALUES, variant=", in jit"),
    Kind("dask", _LAZY, {**dict.fromkeys((*_COMPUTED, "cross_entropy, validate"), _WORKS)}),
    Kind(
        "dask",
        _LAZY,
        {
            "cross_entropy, validate": _WORKS,
            "calibration.temperature": _WORKS,
            **_unsupported("a fit asks how many samples there are", *_COMPUTED[1:]),
            **_unsupported("the axes are made one, of a size not known", "softmax, several axes"),
            **_unsupported("shapes not known are not broadcast together", "logsumexp, b", "kl_divergence, all options"),
            **_unsupported(
                "a share is made by sizes that have to be known",
                *_PARTIAL_OF_CLASSES[1:],
                *_PARTIAL_OF_SAMPLES,
                *_PARALLEL,
            ),
        },
        variant=", number of samples unknown",
    ),
    Kind("array_api_strict", _WORKS, variant=", 2023.12 to 2025.12"),
    Kind(
        "array_api_strict",
        _WORKS,
        {
            **_unsupported("class indices need the inspection functions of the standard of 2023.12", *_OF_INDICES),
        },
        variant=", 2022.12",
    ),
    Kind("ndonnx", _WORKS),
    Kind("ndonnx", _LAZY, _NO_VALUES, variant=", as an ONNX graph"),
    Kind(
        "ndonnx",
        _LAZY,
        {
            **_unsupported(
                "the samples are cut into blocks by their number",
                *_LINEAR,
                *_LINEAR_DIVERGENCE,
                *_LINEAR_LOG_PROBS,
                *_PARTIAL_OF_SAMPLES,
                *_PARALLEL,
                *_CURVATURE,
                *(name for name in OPTIONS if name.startswith("linear")),
            ),
            **_unsupported(
                "shapes not known are not broadcast together",
                "partial.cross_entropy_shard_grad",
                "softmax, where",
                "cross_entropy, where",
                "kl_divergence, all options",
                "logsumexp, b",
            ),
            **_unsupported("the axes are made one, of a size not known", "softmax, several axes"),
            **_NO_VALUES,
        },
        variant=", as an ONNX graph, number of samples unknown",
    ),
    Kind("sparse", Capability("refuses", "exp(0) is 1, so that nothing stays sparse")),
)

_SIGNS: Mapping[Status, str] = {"works": "yes", "lazy": "lazily", "refuses": "refused", "unsupported": "no"}


def markdown(kinds: Iterable[Kind] = KINDS) -> str:
    """The declaration as a Markdown table, a line for each function or option, with a note for each reason.

    Parameters
    ----------
    kinds : iterable of Kind, optional
        The columns; all by default.

    Returns
    -------
    str
    """
    kinds = tuple(kinds)
    notes: list[str] = []

    def cell(capability: Capability) -> str:
        sign = _SIGNS[capability.status]
        if not capability.reason:
            return sign
        if capability.reason not in notes:
            notes.append(capability.reason)
        return f"{sign} ({notes.index(capability.reason) + 1})"

    lines = ["| | " + " | ".join(kind.name for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name in (*FUNCTIONS, *OPTIONS):
        function, _, option = name.partition(", ")
        title = f"`{function}`" + (f", {option}" if option else "")
        lines.append(f"| {title} | " + " | ".join(cell(kind.capability(name)) for kind in kinds) + " |")
    return "\n".join([*lines, "", *(f"{i}. {note}" for i, note in enumerate(notes, 1)), ""])


if __name__ == "__main__":
    print(markdown(), end="")
