from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repsim.learning import ESTIMATORS, InputRule, Observed, Rule, Site, choose_boundaries, parse_inputs, parse_rules

derandomized = settings(derandomize=True, database=None, deadline=None, max_examples=200)
DFA, SG = "direct-feedback-alignment", "synthetic-gradient"
GREEDY, DTP = "decoupled-greedy", "target-propagation"


# Rules


def test_a_name_alone_is_a_rule_with_default_options_and_boundaries() -> None:
    assert parse_rules(SG, None, 4) == {2: Rule(SG, {})}
    assert parse_rules("noise", None, 3) == dict.fromkeys((1, 2, 3), Rule("noise", {}))
    assert parse_rules("noise", "1,3", 3) == dict.fromkeys((1, 3), Rule("noise", {}))


def test_a_synthetic_input_combines_with_any_rule_at_its_boundary() -> None:
    text = f"synthetic-input@1,2 + {SG}@2 + synthetic-input:hidden_layers=1,label_conditioned=true@2"
    assert parse_rules(text, None, 3) == {2: Rule(SG, {})}
    options = {"hidden_layers": 1, "label_conditioned": True}
    assert parse_inputs(text, None, 3) == {1: InputRule({}), 2: InputRule(options)}
    assert list(parse_inputs("synthetic-input + noise", None, 6)) == [3]
    assert list(parse_inputs("synthetic-input + noise@1", "2,5", 6)) == [2, 5]
    assert parse_inputs("noise", None, 6) == {}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_rule_is_found_by_its_name(name: str) -> None:
    rules = parse_rules(name, "2", 3)
    assert rules == ({} if name == "backprop" else {2: Rule(name, {})})


def test_options_are_read_with_their_types() -> None:
    (rule,) = parse_rules(
        f"{SG}:hidden_layers=2,hidden_width=7,label_conditioned=False,kernel_size=5", None, 2
    ).values()
    assert rule.options == {"hidden_layers": 2, "hidden_width": 7, "label_conditioned": False, "kernel_size": 5}
    (rule,) = parse_rules(f"{SG}: hidden_width = none , label_conditioned=TRUE", None, 2).values()
    assert rule.options == {"hidden_width": None, "label_conditioned": True}
    assert parse_rules("bp-lambda:lam=0.25", "1", 2)[1].options == {"lam": 0.25}
    assert type(parse_rules("bp-lambda:lam=1", "1", 2)[1].options["lam"]) is float
    assert parse_rules("noise:scale=none", "1", 2)[1].options == {"scale": None}
    assert parse_rules("kickback:error=sum", "1", 2)[1].options == {"error": "sum"}


def test_rules_are_mixed_and_the_later_one_wins() -> None:
    text = f"{DFA}@1-4 + {SG}:hidden_layers=1@2,6 + noise:scale=2@4 + backprop@3"
    assert parse_rules(text, None, 6) == {
        1: Rule(DFA, {}),
        2: Rule(SG, {"hidden_layers": 1}),
        4: Rule("noise", {"scale": 2.0}),
        6: Rule(SG, {"hidden_layers": 1}),
    }
    assert list(parse_rules(f"{SG}@5 + noise@1", None, 6)) == [1, 5]  # ascending, whatever the text


def test_the_boundaries_setting_applies_to_rules_without_boundaries() -> None:
    assert parse_rules(f"noise + {SG}@2", "1-3", 4) == {1: Rule("noise", {}), 2: Rule(SG, {}), 3: Rule("noise", {})}


def test_observe_is_an_option_of_rules_that_choose_a_gradient() -> None:
    assert parse_rules(f"{DFA}:scale=2,observe=true@1", None, 2) == {1: Rule(DFA, {"scale": 2.0}, observe=True)}
    assert parse_rules(f"{DFA}:observe=false@1", None, 2) == {1: Rule(DFA, {})}
    site = Site((3,), 2, shape_above=(3,))
    built = Rule(DFA, {"scale": 2.0}, observe=True).build(site)
    assert isinstance(built, Observed)
    assert built.watched.options.scale == 2.0
    assert not isinstance(Rule(DFA, {}).build(site), Observed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sg", "Unknown rule 'sg'. Choose one of: " + ", ".join([*ESTIMATORS, "synthetic-input"]) + "."),
        ("", "Unknown rule ''. Choose one of: " + ", ".join([*ESTIMATORS, "synthetic-input"]) + "."),
        ("Backprop", "Unknown rule 'Backprop'. Choose one of: " + ", ".join([*ESTIMATORS, "synthetic-input"]) + "."),
        ("noise + ", "Unknown rule ''. Choose one of: " + ", ".join([*ESTIMATORS, "synthetic-input"]) + "."),
        (
            "noise+kickback",
            "Unknown rule 'noise+kickback'. Choose one of: " + ", ".join([*ESTIMATORS, "synthetic-input"]) + ".",
        ),
        ("noise:", "Rule 'noise:' is not understood at ''; expected NAME:option=value,option=value."),
        ("noise:scale", "Rule 'noise:scale' is not understood at 'scale'; expected NAME:option=value,option=value."),
        ("noise:scale=", "Rule 'noise:scale=' is not understood at 'scale='; expected NAME:option=value,option=value."),
        ("noise:scale=1,", "Rule 'noise:scale=1,' is not understood at ''; expected NAME:option=value,option=value."),
        ("noise:size=1", "Rule noise has no option 'size'. Choose one of: scale, observe."),
        ("backprop:scale=1", "Rule backprop has no option 'scale'. Choose one of: observe."),
        ("noise:scale=1,scale=2", "Rule 'noise:scale=1,scale=2' sets scale twice."),
        (f"{SG}:hidden_layers=1.5", f"{SG}: hidden_layers is '1.5'; expected a whole number."),
        (f"{SG}:hidden_width=wide", f"{SG}: hidden_width is 'wide'; expected a whole number or none."),
        (f"{SG}:label_conditioned=1", f"{SG}: label_conditioned is '1'; expected true or false."),
        ("noise:scale=loud", "noise: scale is 'loud'; expected a number or none."),
        ("noise:observe=maybe", "noise: observe is 'maybe'; expected true or false."),
        ("noise:scale=-1", "noise: scale is -1.0; expected a number of 0 or more."),
        ("noise:scale=nan", "noise: scale is nan; expected a number of 0 or more."),
        ("noise:scale=inf", "noise: scale is inf; expected a number of 0 or more."),
        ("disturbed-gradient:angle=181", "disturbed-gradient: angle is 181.0; expected a number from 0 to 180."),
        ("disturbed-gradient:norm=-1", "disturbed-gradient: norm is -1.0; expected a number of 0 or more."),
        ("bp-lambda:lam=2", "bp-lambda: lam is 2.0; expected a number from 0 to 1."),
        ("bp-lambda:lam=-0.1", "bp-lambda: lam is -0.1; expected a number from 0 to 1."),
        ("bp-lambda:kernel_size=4", "bp-lambda: kernel_size is 4; expected an odd number."),
        (f"{SG}:kernel_size=0", f"{SG}: kernel_size is 0; expected a whole number of 1 or more."),
        (f"{SG}:hidden_layers=-1", f"{SG}: hidden_layers is -1; expected a whole number of 0 or more."),
        (f"{SG}:hidden_width=0", f"{SG}: hidden_width is 0; expected a whole number of 1 or more."),
        (f"{GREEDY}:hidden_layers=-1", f"{GREEDY}: hidden_layers is -1; expected a whole number of 0 or more."),
        (f"{GREEDY}:hidden_width=0", f"{GREEDY}: hidden_width is 0; expected a whole number of 1 or more."),
        (f"{GREEDY}:pool=0", f"{GREEDY}: pool is 0; expected a whole number of 1 or more."),
        (f"{DTP}:step=0", f"{DTP}: step is 0.0; expected a number above 0."),
        (f"{DTP}:noise=-1", f"{DTP}: noise is -1.0; expected a number above 0."),
        (f"{DTP}:hidden_layers=-1", f"{DTP}: hidden_layers is -1; expected a whole number of 0 or more."),
        (f"{DFA}:scale=-0.5", f"{DFA}: scale is -0.5; expected a number of 0 or more."),
        ("sign-symmetric:scale=-1", "sign-symmetric: scale is -1.0; expected a number of 0 or more."),
        (
            "sign-symmetric:magnitude=big",
            "sign-symmetric: Unknown magnitude 'big'. Choose one of: uniform, fixed, resampled.",
        ),
        (
            "synthetic-input:observe=true@1",
            "Rule synthetic-input has no option 'observe'. Choose one of: hidden_layers, hidden_width, "
            "label_conditioned.",
        ),
        (
            "synthetic-input:hidden_layers=-1@1",
            "synthetic-input: hidden_layers is -1; expected a whole number of 0 or more.",
        ),
        ("kickback:error=mean", "kickback: Unknown error 'mean'. Choose one of: true-class, sum."),
    ],
)
def test_errors_of_rules_name_the_value_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_rules(text, None, 4)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "boundaries", "named"), [("noise@", None, ""), ("noise", "", ""), ("noise@9 + noise@1", None, "9")]
)
def test_boundaries_of_a_rule_are_checked(text: str, boundaries: str | None, named: str) -> None:
    with pytest.raises(ValueError, match=rf"^boundaries '{named}' "):
        parse_rules(text, boundaries, 4)


@derandomized
@given(st.text(alphabet="noise:scale=1,@2+ -.", max_size=20), st.integers(1, 5))
def test_any_text_is_parsed_or_refused_with_a_message(text: str, depth: int) -> None:
    try:
        rules: dict[int, Any] = parse_rules(text, None, depth)
    except ValueError as error:
        assert str(error).endswith((".", "hidden layer k)."))
    else:
        assert set(rules) <= set(range(1, depth + 1))


# Boundaries


@pytest.mark.parametrize(
    ("text", "depth", "expected"),
    [
        ("middle", 20, (10,)),
        ("middle", 2, (1,)),
        ("middle", 5, (2,)),
        ("every:5", 20, (5, 10, 15)),
        ("every:1", 3, (1, 2)),
        ("every:2", 3, (2,)),
        ("inner", 4, (1, 2, 3)),
        ("inner", 2, (1,)),
        ("all", 1, (1,)),
        ("all", 3, (1, 2, 3)),
        ("4", 4, (4,)),
        ("8, 4,8", 20, (4, 8)),
        ("4,8-12", 20, (4, 8, 9, 10, 11, 12)),
        ("2-4,3-5", 20, (2, 3, 4, 5)),
        ("3-3", 3, (3,)),
        (" 2 - 3 ", 4, (2, 3)),
    ],
)
def test_boundaries_are_chosen_by_name_or_number(text: str, depth: int, expected: tuple[int, ...]) -> None:
    assert choose_boundaries(text, depth) == expected


@pytest.mark.parametrize(
    ("text", "depth", "what"),
    [
        ("inner", 1, "names no boundary"),
        ("every:0", 20, "names no boundary"),
        ("every:-2", 20, "names no boundary"),
        ("every:20", 20, "names no boundary"),
        ("0", 20, "names boundary 0"),
        ("-1", 20, "names boundary -1"),
        ("4,21", 20, "names boundary 21"),
        ("0-3", 20, "names boundary 0"),
        ("18-21", 20, "names boundary 21"),
        ("1-99999999999999", 20, "names boundary 99999999999999"),  # without counting up to it
    ],
)
def test_boundaries_outside_the_network_are_refused(text: str, depth: int, what: str) -> None:
    message = (
        rf"^boundaries '{text}' {what}; a network with {depth} hidden layers has boundaries 1 to {depth} \(boundary"
    )
    with pytest.raises(ValueError, match=message):
        choose_boundaries(text, depth)


@pytest.mark.parametrize("text", ["5-4", "1,5-4"])
def test_ranges_that_count_down_are_refused(text: str) -> None:
    message = rf"^boundaries '{text}' counts down from 5 to 4; write the smaller number first\.$"
    with pytest.raises(ValueError, match=message):
        choose_boundaries(text, 20)


@pytest.mark.parametrize(
    "text", ["", "centre", "4,,8", "4;8", "every:", "every:two", "every:1.5", "1.0", "4-", "a-b", "1-2-3", "Middle"]
)
def test_boundaries_that_are_not_understood_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^boundaries '{text}' is not understood\. Use middle, inner, all, every:N or"
    ):
        choose_boundaries(text, 20)


@derandomized
@given(st.text(alphabet="0123456789,-: evrymidlna", max_size=9) | st.text(max_size=5), st.integers(1, 12))
def test_any_text_names_boundaries_of_the_network_or_is_refused(text: str, depth: int) -> None:
    try:
        chosen = choose_boundaries(text, depth)
    except ValueError as error:
        assert str(error).startswith(f"boundaries '{text}' ")
    else:
        assert chosen
        assert list(chosen) == sorted(set(chosen) & set(range(1, depth + 1)))


def test_boundaries_that_apply_to_no_rule_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^boundaries is 'middle', but every rule of 'noise@1' names its boundaries"):
        parse_rules("noise@1", "middle", 2)


def test_backprop_cannot_be_observed_beside_itself() -> None:
    with pytest.raises(ValueError, match="backprop cannot be observed beside backprop"):
        parse_rules("backprop:observe=true", None, 2)
