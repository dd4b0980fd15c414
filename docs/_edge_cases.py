"""What each edge case gives: the table of the documentation, and its test on every array library.

A call and a result are expressions over the names of ``names``; a result may also be ``raises SomeError``.
"""

import math
from typing import NamedTuple

import softgrad as sg


class Case(NamedTuple):
    what: str
    call: str
    gives: str
    #: Dtypes that the library must have.
    needs: str = ""


CASES = {
    "Infinities and NaN": [
        Case("a row of −∞ alone is 0/0", "sg.softmax(asarray([-inf, -inf]))", "[nan, nan]"),
        Case("", "sg.logsumexp(asarray([-inf, -inf]))", "-inf"),
        Case("+∞ in a row", "sg.softmax(asarray([inf, 0.0]))", "[nan, nan]"),
        Case("", "sg.logsumexp(asarray([inf, 0.0]))", "inf"),
        Case(
            "NaN spoils its own row alone", "sg.softmax(asarray([[nan, 0.0], [1.0, 1.0]]))", "[[nan, nan], [0.5, 0.5]]"
        ),
        Case("a class at −∞ is impossible", "sg.softmax(asarray([2.0, -inf]))", "[1.0, 0.0]"),
        Case("", "sg.log_softmax(asarray([2.0, -inf]))", "[0.0, -inf]"),
        Case("", 'sg.log_probs(asarray([2.0, -inf]), asarray([0, 1], "int64"))', "[0.0, -inf]"),
        Case(
            "it adds nothing to the entropy",
            "sg.entropy(asarray([[0.0, 0.0, -inf], [2.0, -inf, -inf]]))",
            "[log(2), 0.0]",
        ),
        Case("", "sg.entropy_vjp(asarray([2.0, -inf]), asarray(1.0))", "[0.0, 0.0]"),
        Case("the label is impossible", 'sg.cross_entropy(asarray([[2.0, -inf]]), asarray([1], "int64"))', "inf"),
        Case(
            "weight 0 of an impossible class",
            "sg.cross_entropy(asarray([[2.0, -inf]]), asarray([[1.0, 0.0]]))",
            "0.0",
        ),
        Case(
            "a factor 0 takes its term out",
            "sg.logsumexp(asarray([inf, 1.0]), b=asarray([0.0, 1.0]))",
            "1.0",
        ),
        Case("factors of 0 alone", "sg.logsumexp(asarray([3.0, 1.0]), b=asarray([0.0, 0.0]))", "-inf"),
        Case("the logarithm of a negative sum", "sg.logsumexp(asarray([1.0, 2.0]), b=asarray([1.0, -1.0]))", "nan"),
    ],
    "Masks": [
        Case(
            "a row hidden whole",
            'sg.softmax(asarray([3.0, 4.0]), where=asarray([False, False], "bool"))',
            "[0.0, 0.0]",
        ),
        Case(
            "",
            'sg.log_softmax(asarray([3.0, 4.0]), where=asarray([False, False], "bool"))',
            "[-inf, -inf]",
        ),
        Case("", 'sg.logsumexp(asarray([3.0, 4.0]), where=asarray([False, False], "bool"))', "-inf"),
        Case(
            "",
            'sg.cross_entropy_value_and_grad(asarray([[3.0, 4.0]]), asarray([0], "int64"), '
            'where=asarray([False, False], "bool"), reduction="sum")[0]',
            "0.0",
        ),
        Case(
            "",
            'sg.cross_entropy_grad(asarray([[3.0, 4.0]]), asarray([0], "int64"), '
            'where=asarray([False, False], "bool"))',
            "[[0.0, 0.0]]",
        ),
        Case("", 'sg.entropy(asarray([3.0, 4.0]), where=asarray([False, False], "bool"))', "0.0"),
        Case(
            "what is hidden may be anything",
            'sg.softmax(asarray([nan, 1.0, 1.0]), where=asarray([False, True, True], "bool"))',
            "[0.0, 0.5, 0.5]",
        ),
        Case(
            "",
            'sg.cross_entropy_grad(asarray([[inf, 1.0, 1.0]]), asarray([1], "int64"), '
            'where=asarray([False, True, True], "bool"))',
            "[[0.0, -0.5, 0.5]]",
        ),
        Case(
            "the label is hidden",
            'sg.cross_entropy(asarray([[1.0, 1.0]]), asarray([0], "int64"), where=asarray([False, True], "bool"))',
            "inf",
        ),
        Case(
            "",
            'sg.log_probs(asarray([1.0, 1.0]), asarray([0, 1], "int64"), where=asarray([False, True], "bool"))',
            "[-inf, 0.0]",
        ),
        Case(
            "a row hidden whole counts in no mean",
            'sg.cross_entropy(asarray([[0.0, 0.0], [3.0, 4.0]]), asarray([0, 0], "int64"), '
            'where=asarray([[True], [False]], "bool"))',
            "log(2)",
        ),
        Case(
            "",
            'sg.CrossEntropy().total_weight(asarray([[0.0, 0.0], [3.0, 4.0]]), asarray([0, 0], "int64"), '
            'where=asarray([[True], [False]], "bool"))',
            "1.0",
        ),
        Case(
            "smoothing spreads over what is shown",
            'sg.cross_entropy_grad(asarray([[0.0, 0.0, 5.0]]), asarray([0], "int64"), label_smoothing=0.5, '
            'where=asarray([True, True, False], "bool"))',
            "[[-0.25, 0.25, 0.0]]",
        ),
    ],
    "Labels": [
        Case(
            "a label that is no class",
            'sg.cross_entropy(asarray([[0.0, 0.0], [0.0, 0.0]]), asarray([0, 2], "int64"), reduction="none")',
            "[log(2), nan]",
        ),
        Case(
            "",
            'sg.cross_entropy_grad(asarray([[0.0, 0.0], [0.0, 0.0]]), asarray([0, 2], "int64"), reduction="none")',
            "[[-0.5, 0.5], [nan, nan]]",
        ),
        Case("", 'sg.log_probs(asarray([0.0, 0.0]), asarray([0, 2], "int64"))', "[-log(2), nan]"),
        Case(
            "in a mean it weighs 1",
            "sg.CrossEntropy(class_weight=asarray([3.0, 5.0])).total_weight(asarray([[0.0, 0.0], [0.0, 0.0]]), "
            'asarray([0, 2], "int64"))',
            "4.0",
        ),
        Case(
            "a negative one is not counted from the end",
            'sg.cross_entropy(asarray([[0.0, 9.0]]), asarray([-1], "int64"))',
            "nan",
        ),
        Case(
            "the same, validated",
            'sg.cross_entropy(asarray([[0.0, 0.0]]), asarray([2], "int64"), validate=True)',
            "raises LabelError",
        ),
        Case(
            "an ignored sample counts for nothing",
            'sg.cross_entropy(asarray([[0.0, 0.0], [nan, inf]]), asarray([0, -100], "int64"), ignore_index=-100)',
            "log(2)",
        ),
        Case(
            "every sample ignored",
            'sg.cross_entropy(asarray([[0.0, 1.0]]), asarray([-100], "int64"), ignore_index=-100)',
            "0.0",
        ),
        Case(
            "",
            'sg.cross_entropy_grad(asarray([[0.0, 1.0]]), asarray([-100], "int64"), ignore_index=-100)',
            "[[0.0, 0.0]]",
        ),
        Case("indices as floats", "sg.cross_entropy(asarray([[0.0, 1.0]]), asarray([1.0]))", "raises TypeError"),
        Case("booleans", 'sg.cross_entropy(asarray([[0.0, 1.0]]), asarray([True], "bool"))', "raises TypeError"),
        Case(
            "a shape that is neither",
            'sg.cross_entropy(asarray([[0.0, 1.0]]), asarray([[[1]]], "int64"))',
            "raises ValueError",
        ),
    ],
    "Weights and reductions": [
        Case(
            "the mean divides by the total weight",
            'sg.cross_entropy(asarray([[0.0, 0.0], [0.0, log(3)]]), asarray([0, 0], "int64"), '
            "sample_weight=asarray([3.0, 1.0]))",
            "(3 * log(2) + log(4)) / 4",
        ),
        Case(
            "class weights count in it",
            'sg.cross_entropy(asarray([[0.0, 0.0], [log(3), 0.0]]), asarray([0, 1], "int64"), class_weight=[3.0, 1.0])',
            "(3 * log(2) + log(4)) / 4",
        ),
        Case(
            "smoothed, every class has its own weight",
            'sg.cross_entropy_grad(asarray([[0.0, 0.0]]), asarray([0], "int64"), label_smoothing=0.5, '
            'class_weight=[4.0, 8.0], reduction="sum")',
            "[[-0.5, 0.5]]",
        ),
        Case(
            "weight 0 excludes a sample",
            'sg.cross_entropy(asarray([[0.0, 0.0], [nan, 0.0]]), asarray([0, 0], "int64"), '
            'sample_weight=asarray([1.0, 0.0]), reduction="sum")',
            "log(2)",
        ),
        Case(
            "a weight of booleans is a mask",
            'sg.cross_entropy(asarray([[0.0, 0.0], [3.0, 0.0]]), asarray([0, 0], "int64"), '
            'sample_weight=asarray([True, False], "bool"))',
            "log(2)",
        ),
        Case(
            "no samples at all",
            'sg.cross_entropy(asarray([[0.0, 1.0]])[:0, :], asarray([0], "int64")[:0])',
            "0.0",
        ),
    ],
    "Divergences": [
        Case(
            "a class of which the target knows nothing",
            "sg.kl_divergence(asarray([[0.0, 0.0]]), asarray([[0.0, -inf]]))",
            "log(2)",
        ),
        Case("", 'sg.kl_divergence(asarray([[0.0, 0.0]]), asarray([[0.0, -inf]]), direction="reverse")', "inf"),
        Case(
            "a class impossible in both",
            "sg.kl_divergence_value_and_grad(asarray([[0.0, -inf, 0.0]]), asarray([[0.0, -inf, 0.0]]))[1]",
            "[[0.0, 0.0, 0.0]]",
        ),
        Case(
            "a teacher of one class, certain of it",
            'sg.top_k_kl_divergence(asarray([[0.0, 0.0]]), asarray([[0.0]]), asarray([[0]], "int64"))',
            "log(2)",
        ),
        Case(
            "a label of the teacher that is no class",
            'sg.top_k_kl_divergence(asarray([[0.0, 0.0]]), asarray([[-1.0]]), asarray([[2]], "int64"))',
            "nan",
        ),
        Case(
            "distributions without a class in common",
            "sg.js_divergence(asarray([[0.0, -inf]]), asarray([[-inf, 0.0]]))",
            "log(2)",
        ),
        Case(
            "a row without a softmax is NaN alone",
            "sg.kl_divergence(asarray([[-inf, -inf], [0.0, 0.0]]), asarray([[0.0, 0.0], [0.0, 0.0]]), "
            'reduction="none")',
            "[nan, 0.0]",
        ),
        Case(
            "a row hidden whole counts in no mean",
            "sg.kl_divergence(asarray([[0.0, 0.0], [3.0, 4.0]]), asarray([[0.0, -inf], [4.0, 3.0]]), "
            'where=asarray([[True], [False]], "bool"))',
            "log(2)",
        ),
    ],
    "Shapes": [
        Case("an empty class axis", "sg.softmax(asarray([[], [], []]))", "[[], [], []]"),
        Case("", "sg.logsumexp(asarray([[], [], []]), axis=-1)", "[-inf, -inf, -inf]"),
        Case("", 'sg.cross_entropy(asarray([[]]), asarray([0], "int64"))', "raises ValueError"),
        Case("no dimensions: one element, any of its axes", "sg.softmax(asarray(7.0))", "1.0"),
        Case("", "sg.log_softmax(asarray(7.0), axis=0)", "0.0"),
        Case("", "sg.logsumexp(asarray(7.0))", "7.0"),
        Case(
            "several axes", "sg.softmax(asarray([[0.0, 0.0], [0.0, 0.0]]), axis=(0, 1))", "[[0.25, 0.25], [0.25, 0.25]]"
        ),
        Case("an axis that is not there", "sg.softmax(asarray([1.0, 2.0]), axis=1)", "raises AxisError"),
    ],
    "Dtypes": [
        Case("integers become the default float", 'sg.softmax(asarray([0, 0], "int64"))', "[0.5, 0.5]"),
        Case("booleans", 'sg.softmax(asarray([True, False], "bool"))', "raises TypeError"),
        Case("no array", "sg.softmax([0.0, 0.0])", "raises TypeError"),
        Case("complex numbers", 'sg.softmax(asarray([0j, 0j], "complex128"))', "raises TypeError", "complex128"),
        Case("", 'sg.logsumexp(asarray([0j, 0j], "complex128"))', "log(2) + 0j", "complex128"),
        Case(
            "half precision is summed in single",
            'sg.logsumexp(asarray([0.0] * 100_000, "float16"))',
            "11.516",
            "float16",
        ),
        Case("", 'sg.logsumexp(asarray([0.0] * 100_000, "bfloat16"))', "11.5", "bfloat16"),
        Case(
            "the logits decide the width",
            'sg.cross_entropy(asarray([[0.0, 0.0]], "float32"), asarray([[1.0, 0.0]], "float64")).dtype'
            ' == asarray(0.0, "float32").dtype',
            "True",
            "float32",
        ),
    ],
    "Small numbers": [
        Case(
            "the loss of a sure sample",
            'sg.cross_entropy(asarray([[20.0, 0.0]], "float32"), asarray([0], "int64"))',
            "2.0611536e-09",
            "float32",
        ),
        Case(
            "its gradient",
            'sg.cross_entropy_grad(asarray([[20.0, 0.0]], "float32"), asarray([0], "int64"))',
            "[[-2.0611536e-09, 2.0611536e-09]]",
            "float32",
        ),
        Case(
            "the logarithm of a sure class", "sg.log_softmax(asarray([40.0, 0.0]))", "[-4.248354255291589e-18, -40.0]"
        ),
        Case("the entropy of a sure sample", "sg.entropy(asarray([40.0, 0.0]))", "1.7418252446695552e-16"),
        Case(
            "two distributions that nearly agree",
            'sg.kl_divergence(asarray([[0.0, 0.0]], "float32"), asarray([[2.0**-14, 0.0]], "float32"))',
            "2.0**-31",
            "float32",
        ),
        Case(
            "the curvature at a tie",
            'sg.cross_entropy_hvp(asarray([[0.0, 0.0]]), asarray([0], "int64"), asarray([[1.0, 0.0]]))',
            "[[0.25, -0.25]]",
        ),
    ],
}


def names(asarray):
    """What an expression may speak of, for one array library."""
    return {"sg": sg, "asarray": asarray, "inf": math.inf, "nan": math.nan, "log": math.log}


def markdown():
    """The tables, one for each section."""
    out = []
    for title, cases in CASES.items():
        out += [f"## {title}", "", "| Case | Call | Gives |", "| --- | --- | --- |"]
        out += [f"| {case.what} | `{case.call}` | `{case.gives}` |" for case in cases]
        out.append("")
    return "\n".join(out)
