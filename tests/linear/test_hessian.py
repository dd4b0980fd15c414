"""Hessian-vector products of the linear model, and its Hessian."""

import numpy as np
import pytest

import softgrad as sg
from linear_cases import OPTIONS, Problem, close


@pytest.mark.parametrize("sample_axis", [0, 1])
@pytest.mark.parametrize("options", OPTIONS)
def test_hvp(options, sample_axis, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS[options], bias=False, sample_axis=sample_axis)
    directions = problem.directions(("W",))
    product = sg.linear_cross_entropy_hvp(*problem.arguments, asarray(directions["W"]), **problem.keywords)
    close(to_numpy(product), problem.hvp("W", directions))


@pytest.mark.parametrize(
    "wrt", ["W", "bias", "X", ("W", "bias"), ("W", "bias", "X"), ("X", "W")], ids=lambda w: "-".join(w)
)
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_hvp_takes_and_gives_what_wrt_says(sample_axis, wrt, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS["all"], sample_axis=sample_axis)
    names = (wrt,) if isinstance(wrt, str) else wrt
    directions = problem.directions(names)
    vectors = tuple(asarray(directions[name]) for name in names)
    result = sg.linear_cross_entropy_hvp(
        *problem.arguments[:3],
        vectors[0] if isinstance(wrt, str) else vectors,
        problem.arguments[3],
        wrt=wrt,
        **problem.keywords,
    )
    if isinstance(wrt, str):
        result = (result,)
    assert isinstance(result, tuple)
    for name, product in zip(names, result, strict=True):
        close(to_numpy(product), problem.hvp(name, directions), err_msg=name)


def test_hvp_defaults_to_the_pair_with_a_bias(asarray, to_numpy):
    problem = Problem(asarray, {})
    directions = problem.directions(("W", "bias"))
    vectors = tuple(asarray(d) for d in directions.values())
    result = sg.linear_cross_entropy_hvp(*problem.arguments[:3], vectors, problem.arguments[3])
    assert isinstance(result, tuple)
    for name, product in zip(("W", "bias"), result, strict=True):
        close(to_numpy(product), problem.hvp(name, directions), err_msg=name)


def _check_block(block, problem, row, column):
    """A block of the Hessian by its products with two directions in which no entry is small."""
    assert block.shape == problem.host[row].shape + problem.host[column].shape
    for turn in (1, -1):
        directions = {column: problem.directions((column,))[column][::turn]}
        product = np.tensordot(block, directions[column], problem.host[column].ndim)
        close(product, problem.hvp(row, directions), err_msg=f"{row} {column}")


@pytest.mark.parametrize("sample_axis", [0, 1])
@pytest.mark.parametrize("options", ["plain", "all"])
def test_hessian(options, sample_axis, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS[options], bias=False, sample_axis=sample_axis)
    hessian = to_numpy(sg.linear_cross_entropy_hessian(*problem.arguments, **problem.keywords))
    _check_block(hessian, problem, "W", "W")


@pytest.mark.full("jax")
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_hessian_of_a_pair_is_nested(sample_axis, asarray, to_numpy):
    problem, names = Problem(asarray, OPTIONS["all"], sample_axis=sample_axis), ("W", "bias")
    for keywords in ({}, {"wrt": names}, {"block_size": 2}):
        blocks = sg.linear_cross_entropy_hessian(*problem.arguments, **keywords, **problem.keywords)
        assert isinstance(blocks, tuple)
        assert all(isinstance(row, tuple) for row in blocks)
        for row, name in zip(blocks, names, strict=True):
            for block, other in zip(row, names, strict=True):
                _check_block(to_numpy(block), problem, name, other)


def test_hessian_of_the_bias_alone(asarray, to_numpy):
    problem = Problem(asarray, {})
    hessian = sg.linear_cross_entropy_hessian(*problem.arguments, wrt="bias")
    _check_block(to_numpy(hessian), problem, "bias", "bias")


def test_hessian_refuses_the_features(asarray):
    problem = Problem(asarray, {})
    for wrt in ("X", ("W", "X")):
        with pytest.raises(ValueError, match="wrt"):
            sg.linear_cross_entropy_hessian(*problem.arguments, wrt=wrt)
