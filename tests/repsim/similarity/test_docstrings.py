import inspect
from collections.abc import Callable

import pytest

from repsim import similarity
from repsim.similarity import STATISTICS, linear_cka, linear_regression, neural_collapse, pls
from repsim.similarity.docstrings import complete_docstring

FUNCTIONS = [
    *(each for each in vars(similarity).values() if "similarity.measures" in getattr(each, "__module__", "")),
    *(statistic.function for statistic in STATISTICS.values()),
]
FUNCTIONS = [function for function in FUNCTIONS if inspect.isfunction(function)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_help_lists_parameters_range_errors_and_source_in_this_order(function: Callable) -> None:
    text, names = inspect.getdoc(function), inspect.signature(function).parameters
    sections = ["Parameters", "Returns", "Raises", "References", "Examples"]
    places = [text.index(f"\n{section}\n{'-' * len(section)}\n") for section in sections]
    assert places == sorted(places)
    assert all(f"\n{name} : " in text[places[0] : places[1]] for name in names)


def test_errors_follow_from_conditions_labels_and_options() -> None:
    cka, regression, alone, labelled = (
        " ".join(inspect.getdoc(function).split()) for function in (linear_cka, linear_regression, pls, neural_collapse)
    )
    assert "X : array-like (n, d1) n >= 4, or n >= 2 if biased. Y : array-like (n, d2) The same stimuli" in cka
    assert "if X or Y does not meet its condition, or if an option is unknown or out of its range." in cka
    assert "X : array-like (n, d1) The predictors." in regression
    assert "if their numbers or ids of stimuli differ, or if X or Y does not meet its condition." in regression
    assert "If X or Y is not a finite real matrix, or if their numbers or ids of stimuli differ." in alone
    assert "If X is not a finite real matrix, if there is not one label per stimulus, if labels are missing" in labelled


def test_a_function_without_a_docstring_stays_without() -> None:
    def function(X: object) -> None: ...

    assert complete_docstring("n >= 3.")(function).__doc__ is None
