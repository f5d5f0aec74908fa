"""Checks of the user's own measures, distances, comparators and statistics when they are registered."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from repsim.similarity import (
    COMPARATORS,
    DISTANCES,
    MEASURES,
    STATISTICS,
    About,
    Measure,
    compare_rdms,
    pairwise,
    rdm,
    register_comparator,
    register_distance,
    register_measure,
    register_statistic,
)

pytestmark = pytest.mark.usefixtures("own")

EVERYTHING = ("permutation", "orthogonal", "invertible linear", "isotropic scaling", "translation")


def gap(X: np.ndarray, Y: np.ndarray) -> float:
    return abs(float(X.mean() - Y.mean()))


def test_a_measure_keeps_what_is_declared_and_is_known_by_name() -> None:
    about = About(formula="|x̄ − ȳ|")
    assert register_measure("gap", label="gap of means", direction="distance", is_metric=True, about=about)(gap) is gap
    entry = MEASURES["gap"]
    assert (entry.label, entry.is_symmetric, entry.is_metric, entry.about) == ("gap of means", True, True, about)
    table = pairwise({"a": [[1.0], [2.0]], "b": [[3.0], [5.0]]}, measure="gap")
    assert table.values.tolist() == [[0.0, 2.5], [2.5, 0.0]]


@pytest.mark.parametrize("name", MEASURES)
def test_our_measures_pass_the_checks_of_yours(name: str) -> None:
    from repsim.similarity.own_entries import make_measure

    assert make_measure(name, MEASURES[name]) is MEASURES[name]


@pytest.mark.parametrize("name", COMPARATORS)
def test_our_comparators_pass_the_checks_of_yours(name: str) -> None:
    from repsim.similarity.own_entries import make_comparator

    assert make_comparator(name, COMPARATORS[name]) is COMPARATORS[name]


@pytest.mark.parametrize("name", STATISTICS)
def test_our_statistics_pass_the_checks_of_yours(name: str) -> None:
    from repsim.similarity.own_entries import make_statistic

    assert make_statistic(name, STATISTICS[name]) is STATISTICS[name]


@pytest.mark.parametrize("invariance", EVERYTHING)
def test_an_invariance_that_does_not_hold_is_refused(invariance: str) -> None:
    def first_unit(X: np.ndarray, Y: np.ndarray) -> float:
        return float(X[:, 0].sum() + 2 * X[0, 1] + Y[0, 0])

    implied = {
        "orthogonal": {"permutation"},
        "invertible linear": {"permutation", "orthogonal", "isotropic scaling"},
    }
    message = r"^The measure 'mine' is declared invariant to [\w ]+ but that changes its value for random data from"
    with pytest.raises(ValueError, match=message):
        register_measure("mine", invariances={invariance} | implied.get(invariance, set()))(first_unit)
    with pytest.raises(ValueError, match=r"^The statistic 'mine' is declared invariant to"):
        register_statistic("mine", invariances={invariance})(lambda X: float(X[:, 0].sum() + X[0, 1] ** 2))
    assert "mine" not in MEASURES


def test_a_measure_that_needs_equal_widths_is_taken() -> None:
    register_measure("equal")(lambda X, Y: float(np.abs(X - Y).mean()))
    assert MEASURES["equal"]([[1.0], [2.0]], [[2.0], [4.0]]) == 1.5


def fail(X: np.ndarray, Y: np.ndarray) -> float:
    raise KeyError("units")


@pytest.mark.parametrize(
    ("register", "function", "error", "message"),
    [
        (
            register_measure("x"),
            lambda X: 1.0,
            TypeError,
            r"^The measure 'x' is a function of \(X\); .* two arrays",
        ),
        (
            register_measure("x"),
            "gap",
            TypeError,
            r"^The measure 'x' is 'gap'; expected a function of two arrays",
        ),
        (
            register_measure("x"),
            fail,
            ValueError,
            r"^The measure 'x' fails on random data of 30 stimuli .KeyError: '",
        ),
        (register_measure("x"), lambda X, Y: X, TypeError, r"^The measure 'x' returned a ndarray; expected a float\.$"),
        (register_measure("x"), lambda X, Y: None, TypeError, "^The measure 'x' returned a NoneType; expected a float"),
        (register_measure("x"), lambda X, Y: True, TypeError, "^The measure 'x' returned a bool; expected a float"),
        (register_measure("x"), lambda X, Y: math.nan, ValueError, "^The measure 'x' is nan for random data of 30 sti"),
        (
            register_measure("x", range=(0, 1)),
            lambda X, Y: 1.5,
            ValueError,
            r"^The measure 'x' is 1\.5 for random data, outside its range of 0 to 1\.$",
        ),
        (
            register_measure("x", is_symmetric=True),
            lambda X, Y: float(X.sum() - Y.sum()),
            ValueError,
            "^The measure 'x' is declared symmetric but exchanging X and Y changes its value",
        ),
        (
            register_measure("x", is_metric=True),
            lambda X, Y: 1.0,
            ValueError,
            "^The measure 'x' is declared a metric, but the distance of X to itself is 1",
        ),
        (register_measure("x", invariances={"rotation"}), gap, ValueError, r"^Unknown invariances \['rotation'\]"),
        (register_measure("cka"), gap, ValueError, "^The name 'cka' is taken by the measure of the package"),
        (
            register_measure("x"),
            Measure(name="y", prepare=lambda X, name: X.mean(), compare=lambda x, y: abs(x - y)),
            ValueError,
            r"^A Measure declares its name and properties itself; this one is named 'y'\. Register it as 'y'",
        ),
        (
            register_distance("x"),
            lambda x, y: float(x[0] - y[0]),
            ValueError,
            "^The distance 'x' is declared symmetric, as all distances are, but exchanging the patterns changes",
        ),
        (
            register_distance("x"),
            lambda x: 1.0,
            TypeError,
            r"^The distance 'x' is a function of \(x\); .* patterns",
        ),
        (
            register_comparator("x"),
            lambda a, b: float(a[0] - b[0]),
            ValueError,
            "^The comparator 'x' is declared symmetric, as all comparators are, but exchanging the RDMs changes",
        ),
        (
            register_comparator("x", ignores={"scale"}),
            lambda a, b: float(a @ b),
            ValueError,
            "^The comparator 'x' is declared unchanged by scale but that changes its value",
        ),
        (register_statistic("x"), lambda X, y: 1.0, TypeError, r"^The statistic 'x' is a function of \(X, y\)"),
        (
            register_statistic("x", needs_labels=True),
            lambda X: 1.0,
            TypeError,
            r"^The statistic 'x' is a function of \(X\); expected one that can be called with an array, and labels",
        ),
    ],
)
def test_entries_that_are_not_as_declared_are_refused(
    register: Callable[..., Any], function: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        register(function)
    assert "x" not in {**MEASURES, **DISTANCES, **COMPARATORS, **STATISTICS}


def test_distances_comparators_and_statistics_are_known_by_name() -> None:
    register_distance("farthest", range=(0, np.inf))(lambda x, y: float(np.abs(x - y).max()))
    register_comparator("closeness", ignores=())(lambda a, b: -float(np.abs(a - b).mean()))
    register_statistic("largest", invariances={"permutation"})(lambda X: float(X.max()))
    X = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_allclose(rdm(X, "farthest"), rdm(X, "chebyshev"))
    assert compare_rdms([1, 2, 3], [1, 2, 6], method="closeness") == -1.0
    assert STATISTICS["largest"].function(X) == X.max()
