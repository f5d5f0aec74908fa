from collections.abc import Callable
from typing import Any

import pytest

from repsim.learning.checks import check_choice, check_integer, check_positive, check_range

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (lambda value: check_integer("n", value, 2), [2, 3, 10**30]),
        (lambda value: check_positive("n", value), [1e-300, 1, 1e300]),
        (lambda value: check_range("n", value, 0.0), [0, 0.0, -0.0, 1e300]),
        (lambda value: check_range("n", value, -1.0, 1.0), [-1, 0.5, 1]),
        (lambda value: check_choice("n", value, ("a", "b")), ["a", "b"]),
    ],
)
def test_settings_in_range_pass(check: Callable[[Any], None], good: list[Any]) -> None:
    for value in good:
        check(value)


@pytest.mark.parametrize(
    ("check", "expected", "bad"),
    [
        (lambda v: check_integer("n", v, 2), "a whole number of 2 or more", [1, -3, 2.0, True, "2", None, [2], NAN]),
        (lambda v: check_positive("n", v), "a number above 0", [0, -1, NAN, INF, -INF, True, "1", None, 1j]),
        (lambda v: check_range("n", v, 0.0), "a number of 0 or more", [-1e-9, NAN, INF, -INF, False, "1", None]),
        (lambda v: check_range("n", v, 0.0, 1.0), "a number from 0 to 1", [-0.1, 1.1, NAN, INF, -INF, True, "1", None]),
    ],
)
def test_the_message_names_setting_value_and_what_was_expected(
    check: Callable[[Any], None], expected: str, bad: list[Any]
) -> None:
    for value in bad:
        with pytest.raises(ValueError) as caught:
            check(value)
        assert str(caught.value) == f"n is {value!r}; expected {expected}."


@pytest.mark.parametrize("value", ["c", "", None, ["a"], 1])
def test_choices_are_listed(value: object) -> None:
    with pytest.raises(ValueError) as caught:
        check_choice("colour", value, {"a": 1, "b": 2})
    assert str(caught.value) == f"Unknown colour '{value}'. Choose one of: a, b."
