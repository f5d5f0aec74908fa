"""Fields of settings: the checks, choices and conversions that follow from their declarations."""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repsim.settings import Settings, setting

derandomized = settings(derandomize=True, database=None, deadline=None, max_examples=300)
listed: list[str] = []


def colours() -> list[str]:
    listed.append("colours")
    return ["red", "blue"]


@dataclass(frozen=True, kw_only=True)
class Paint(Settings):
    name: str = setting("wall", help="Name.")
    note: str | None = setting(None, help="Note.")
    coats: int = setting(1, help="Coats.", lowest=1, highest=9)
    offset: int = setting(0, help="Any whole number.")
    area: float = setting(2.5, help="Area.", positive=True)
    shift: float = setting(0.0, help="Shift.")
    gloss: float = setting(0.5, help="Gloss.", lowest=0, highest=1)
    thickness: float | None = setting(None, help="Thickness.", lowest=0)
    dry: bool = setting(False, help="Whether it is dry.")
    finish: str = setting("matt", help="Finish.", choices=("matt", "gloss"))
    colour: str = setting("red", help="Colour.", choices=colours)
    accents: tuple[str, ...] = setting(("blue",), help="Accents.", choices=colours, singular="accent", unique=True)
    ratios: tuple[float, ...] = setting((0.5, 1.0), help="Ratios.", positive=True)
    tags: tuple[str, ...] = setting((), help="Tags, if any.")
    workers: object = None  # no setting


WRONG = {
    "name": [(4, "name is 4; expected text."), (None, "name is None; expected text."), (["a"], "expected text.")],
    "note": [(4, "note is 4; expected text.")],
    "coats": [
        *[(value, f"coats is {value!r}; expected a whole number of 1 or more.") for value in (0, -1, "3", True, None)],
        *[(value, f"coats is {value!r}; expected a whole number of 1 or more.") for value in (1.0, float("nan"))],
        (10, "coats is 10; expected a whole number of 9 or less."),
    ],
    "offset": [(0.5, "offset is 0.5; expected a whole number.")],
    "area": [
        *[(value, f"area is {value!r}; expected a number above 0.") for value in (0, -1e-3, "0.1", True, None)],
        *[(value, f"area is {value!r}; expected a number above 0.") for value in (float("nan"), float("inf"), 10**400)],
    ],
    "shift": [(value, f"shift is {value!r}; expected a finite number.") for value in (float("inf"), "1", False, None)],
    "gloss": [(value, f"gloss is {value!r}; expected a number from 0 to 1.") for value in (-0.1, 2, "1", float("nan"))],
    "thickness": [
        (value, f"thickness is {value!r}; expected a number of 0 or more.") for value in (-1e-9, float("inf"))
    ],
    "dry": [(1, "dry is 1; expected true or false.")],
    "finish": [
        ("Matt", "Unknown finish 'Matt'. Choose one of: matt, gloss."),
        (None, "finish is None; expected text."),
    ],
    "accents": [
        ([], "No accents were given; expected one or more, such as blue."),
        (["blue", "blue"], "accents are blue, blue; expected each once."),
        (["blue", 1], "accents is 1; expected text."),
    ],
    "ratios": [
        ([0.5, 0], "ratios is 0; expected a number above 0."),
        ((), "No ratios were given"),
        ("1", "ratios is '1'; expected a number above 0."),
    ],
    "tags": [({}, "tags is {}; expected text.")],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_with_what_was_expected(name: str) -> None:
    for value, words in WRONG[name]:
        with pytest.raises(ValueError, match=re.escape(words)):
            Paint.from_dict({name: value})


def test_lists_are_held_as_tuples_and_a_single_value_as_a_list_of_one() -> None:
    paint = Paint(accents="red", ratios=[1, 2], tags=["a"])  # type: ignore[arg-type]
    assert (paint.accents, paint.ratios, paint.tags) == (("red",), (1.0, 2.0), ("a",))
    assert all(isinstance(ratio, float) for ratio in paint.ratios)


def test_choices_that_have_to_be_imported_are_checked_when_asked_for() -> None:
    listed.clear()
    paint = Paint(colour="green", accents=("blue", "pink"))
    assert listed == []
    with pytest.raises(ValueError, match=r"^Unknown colour 'green'\. Choose one of: red, blue\.$"):
        paint.check_choices()
    with pytest.raises(ValueError, match=r"^Unknown accent 'pink'\. Choose one of: red, blue\.$"):
        dataclasses.replace(paint, colour="red").check_choices()
    Paint().check_choices()


def test_settings_survive_json_and_leave_out_what_is_none_of_them() -> None:
    paint = Paint(note="north", ratios=(0.25,), workers=object())
    values = json.loads(json.dumps(paint.to_dict()))
    assert list(values) == [each.name for each in Paint.settings()]
    assert "workers" not in values
    assert Paint.from_dict(values) == dataclasses.replace(paint, workers=None)


def test_an_unknown_key_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^Unknown setting 'size'\. Choose one of: name, note, coats, .*, tags\.$"):
        Paint.from_dict({"size": 1, "workers": 2})


def test_a_field_of_another_type_cannot_be_a_setting() -> None:
    broken = dataclasses.make_dataclass("Broken", [("size", dict, setting(None, help="Size."))], bases=(Settings,))
    with pytest.raises(TypeError, match=r"size is annotated as .*dict.*; expected str, int, float, bool or a tuple"):
        broken.settings()


def test_annotations_may_be_text() -> None:
    Later = dataclasses.make_dataclass(
        "Later",
        [("a", "int", setting(1, help="A.")), ("b", "str | None", setting(None, help="B."))],
        bases=(Settings,),
    )
    assert [(each.type, each.is_optional) for each in Later.settings()] == [(int, False), (str, True)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@derandomized
@given(st.sampled_from([each.name for each in Paint.settings()]), json_values)
def test_any_value_is_accepted_as_it_is_or_refused_with_the_name_of_the_setting(name: str, value: Any) -> None:
    try:
        paint = Paint.from_dict({name: value})
    except ValueError as error:
        assert name in str(error)
    else:
        held = getattr(paint, name)
        assert held is value or list(held) == (value if isinstance(value, list) else [value])
