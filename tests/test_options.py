"""The options of a loss: one declaration, and what is made of it; scaled and focal losses to their last digits."""

import ast
import inspect
import typing
from dataclasses import fields
from pathlib import Path

import mpmath
import numpy as np
import pytest

import oracle
import softgrad as sg
from softgrad import _options
from softgrad._options import OPTIONS, LossArgs, LossKeywords, LossOptions

NAMES = tuple(field.name for field in fields(LossOptions))
PUBLIC = {
    name: getattr(sg, name)
    for name in (
        "CrossEntropy",
        "cross_entropy",
        "cross_entropy_grad",
        "cross_entropy_value_and_grad",
        "cross_entropy_hvp",
        "LinearCrossEntropy",
        "linear_cross_entropy",
        "linear_cross_entropy_grad",
        "linear_cross_entropy_value_and_grad",
        "linear_cross_entropy_hvp",
        "linear_cross_entropy_hessian",
    )
}


# --- one declaration


def test_keywords_for_type_checkers_are_those_declared():
    assert typing.get_type_hints(LossKeywords) == {
        name: hint for name, hint in typing.get_type_hints(LossOptions).items() if name in NAMES
    }


def test_the_arguments_of_kernels_are_those_declared():
    assert LossArgs._fields[-len(NAMES) :] == NAMES
    assert {name: LossArgs._field_defaults[name] for name in NAMES} == {
        field.name: field.default for field in fields(LossOptions)
    }
    assert set(OPTIONS) == {*NAMES, "sample_weight", "where"} - {"reduction"}


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_and_docstrings_have_every_option(name):
    parameters = inspect.signature(PUBLIC[name]).parameters
    for field in fields(LossOptions):
        assert parameters[field.name].default == field.default
        assert parameters[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"{field.name} : {field.metadata['kind']}" in PUBLIC[name].__doc__


#: Back ends that pass every option on to the generic kernels, where no faster kernel of theirs takes it.
PASS_ON = ("numpy", "dask", "sparse", "jax", "torch")


def test_kernels_name_the_options_that_they_take():
    """Whoever imports the list of all takes a new option without knowing it."""
    folder = Path(_options.__file__).parent / "backends"
    for path in folder.rglob("*.py"):
        if path.name in ("_declaration.py", "_registry.py"):
            continue
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("_options")
            for alias in node.names
        }
        declares = path.name == "__init__.py" and path.parent.name in PASS_ON
        assert imported <= {"ARRAYS", "BY_CLASS", "LossArgs", *(["OPTIONS"] if declares else [])}, path


# --- checks


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature must be positive and finite.*got 0.0"),
        ({"temperature": -1}, ValueError, "temperature must be positive"),
        ({"temperature": float("inf")}, ValueError, "temperature must be positive and finite"),
        ({"temperature": float("nan")}, ValueError, "temperature must be"),
        ({"temperature": 1e-40}, ValueError, "float32's range"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number, got 'hot'"),
        ({"temperature": None}, TypeError, "temperature must be a number"),
        ({"softcap": 0}, ValueError, "softcap must be positive"),
        ({"softcap": True}, TypeError, "softcap must be a number"),
        ({"focal": -0.5}, ValueError, "focal must be between 0 and inf, got -0.5"),
        ({"focal": float("inf")}, ValueError, "focal must be finite"),
        ({"focal": float("nan")}, ValueError, "focal must be between"),
    ],
)
def test_options_out_of_range(options, error, message):
    for make in (sg.CrossEntropy, lambda **given: sg.LinearCrossEntropy(np.ones((1, 2)), np.asarray([0]), **given)):
        with pytest.raises(error, match=message):
            make(**options)


def test_a_shift_has_one_number_a_class(asarray):
    x, y = asarray(np.zeros((2, 3))), asarray([0, 1], "int64")
    for shift in ([1.0, 2.0], np.zeros((2, 3))):
        with pytest.raises(ValueError, match="logit_shift must have one number for each of the 3 classes, got shape"):
            sg.cross_entropy(x, y, logit_shift=shift)
        with pytest.raises(ValueError, match="logit_shift must have one number for each of the 3 classes"):
            sg.linear_cross_entropy(x, y, asarray(np.zeros((3, 3))), logit_shift=shift)


# --- digits


#: Logits whose scaled differences are small beside the scaled logits, or that a softcap brings together.
HARD = {
    "a low temperature": (np.array([[1000.125, 1000.0, 999.5, 1000.0]]), {"temperature": 0.004}),
    "a high temperature": (np.array([[3.0e6, -2.0e6, 1.0e6, 0.0]]), {"temperature": 1e5}),
    "a saturated softcap": (np.array([[90.0, 120.0, 150.0, -60.0]]), {"softcap": 10.0, "temperature": 1e-6}),
    "a large shift": (np.array([[-1e4 + 0.5, 1e4, 3.0, 0.25]]), {"logit_shift": (1e4, -1e4, -2.0, -20.0)}),
    "a sure label, focal": (np.array([[40.0, 0.0, 1.0, -2.0]]), {"focal": 2.0}),
    "a sure label, half": (np.array([[40.0, 0.0, 1.0, -2.0]]), {"focal": 0.5, "temperature": 0.5}),
}
VECTOR = np.array([[1.0, -0.5, 0.25, 2.0]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", HARD)
def test_small_losses_keep_their_digits(case, dtype, asarray, to_numpy, monkeypatch):
    x, options = HARD[case]
    x, labels = x.astype(dtype), np.array([0])
    options = {name: np.asarray(value).astype(dtype).tolist() for name, value in options.items()}
    # derivatives of 1e-50 by differences
    monkeypatch.setattr(oracle, "DIGITS", 300)
    monkeypatch.setattr(oracle, "STEP", mpmath.mpf("1e-80"))
    with mpmath.workdps(300):
        reference = oracle.cross_entropy(x, labels, vector=VECTOR, **options)
    got = oracle.every_order(
        sg.CrossEntropy(reduction="none", **options),
        asarray(x, dtype),
        asarray(labels, "int64"),
        asarray(VECTOR, dtype),
    )
    # an exponential of 100 has a hundred times the rounding of its argument
    tolerance = 400 * np.finfo(dtype).eps
    for name, (array, kind) in got.items():
        expected = oracle.rounded(getattr(reference, kind)("none"))
        smallest = np.finfo(dtype).tiny * 1e3 / np.finfo(dtype).eps
        size = np.abs(expected) + (np.abs(expected).max() if kind == "hvp" else 0)
        off = np.abs(to_numpy(array).astype(np.float64) - expected)
        assert (off <= tolerance * size + smallest).all(), (name, to_numpy(array), expected)


def test_a_focal_loss_of_a_certain_sample_is_zero(asarray, to_numpy):
    x, y = asarray([[2000.0, 0.0, 0.0]]), asarray([0], "int64")
    for focal in (0.5, 1.0, 2.0):
        loss = sg.CrossEntropy(focal=focal)
        value, grad = loss.value_and_grad(x, y)
        assert to_numpy(value) == 0
        for array in (grad, loss.hvp(x, y, asarray([[1.0, 2.0, 3.0]])), loss.hessian_diag(x, y)):
            np.testing.assert_array_equal(to_numpy(array), 0)


def test_infinite_logits(asarray, to_numpy):
    inf = float("inf")
    y = asarray([0], "int64")
    # the cap of an infinite logit is the cap itself
    capped = sg.CrossEntropy(softcap=3.0)
    value, grad = capped.value_and_grad(asarray([[1.0, -inf, inf]]), y)
    z = np.array([3 * np.tanh(1 / 3), -3.0, 3.0])
    p = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(to_numpy(value), -np.log(p[0]), rtol=1e-14)
    np.testing.assert_allclose(to_numpy(grad)[0, 0], (p[0] - 1) / np.cosh(1 / 3) ** 2, rtol=1e-13)
    np.testing.assert_array_equal(to_numpy(grad)[0, 1:], 0)
    # a class of prior 0 is taken out
    value, grad = sg.CrossEntropy(logit_shift=(0.0, -inf, 0.0)).value_and_grad(asarray([[1.0, 9.0, 2.0]]), y)
    np.testing.assert_allclose(to_numpy(value), np.log1p(np.e), rtol=1e-14)
    assert to_numpy(grad)[0, 1] == 0


# --- peers


@pytest.mark.libraries("torch")
def test_the_formulas_in_torch(torch, asarray):
    rng = np.random.default_rng(4)
    x, y, shift = (
        asarray(rng.normal(size=(6, 5)) * 3),
        asarray(rng.integers(0, 5, 6), "int64"),
        asarray(rng.normal(size=5)),
    )
    z = 4.0 * torch.tanh(x / 4.0) / 0.7 + shift
    log_p = torch.log_softmax(z, 1).gather(1, y[:, None])[:, 0]
    expected = -((1 - log_p.exp()) ** 1.5) * log_p
    found = sg.cross_entropy(x, y, softcap=4.0, temperature=0.7, logit_shift=shift, focal=1.5, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    # of what is learnt the shift has a derivative too
    moved = shift.clone().requires_grad_()
    (by_shift,) = torch.autograd.grad(sg.cross_entropy(x, y, softcap=4.0, logit_shift=moved), moved)
    probs = torch.softmax(4.0 * torch.tanh(x / 4.0) + shift, 1)
    torch.testing.assert_close(by_shift, (probs - torch.nn.functional.one_hot(y, 5)).mean(0), rtol=1e-12, atol=1e-14)


def test_two_classes_have_the_focal_loss_of_a_sigmoid(asarray, to_numpy):
    logits = np.random.default_rng(3).normal(size=20) * 3
    labels = np.arange(20) % 3 == 0
    log_p = -np.logaddexp(0.0, np.where(labels, -logits, logits))
    pairs = asarray(np.stack([np.zeros(20), logits], axis=1))
    ours = sg.cross_entropy(pairs, asarray(labels, "int64"), focal=2.0, reduction="none")
    np.testing.assert_allclose(to_numpy(ours), (1 - np.exp(log_p)) ** 2 * -log_p, rtol=1e-10)


@pytest.mark.libraries("jax")
def test_the_shift_has_a_derivative_in_jax(jax, asarray, to_numpy):
    rng = np.random.default_rng(4)
    x, y, shift = asarray(rng.normal(size=(6, 5))), asarray(rng.integers(0, 5, 6), "int64"), asarray(rng.normal(size=5))
    found = jax.grad(lambda s: sg.cross_entropy(x, y, logit_shift=s, focal=0.0))(shift)
    probs = to_numpy(jax.nn.softmax(x + shift, axis=1)) - np.eye(5)[to_numpy(y)]
    np.testing.assert_allclose(to_numpy(found), probs.mean(0), rtol=1e-10)
