"""Settings of a comparison of arms, and the sentence that answers a wrong one."""

from typing import Any

import pytest

from analysis.config.comparison_design import DesignConfig
from repsim.settings import UnknownChoice


def test_similarity_stands_for_every_measure_that_is_not_named() -> None:
    config = DesignConfig(smallest_effects=("similarity=0.1", "rsa = 0.2", "accuracy=0.03"))
    assert config.smallest_of(["cka", "rsa"]) == {"cka": 0.1, "rsa": 0.2, "accuracy": 0.03}


def test_only_quantities_with_a_smallest_effect_are_compared() -> None:
    config = DesignConfig(smallest_effects=("rsa=0.2", "log_dimension=0.1"))
    assert config.smallest_of(["cka", "rsa"]) == {"rsa": 0.2, "log_dimension": 0.1}


def test_a_distance_is_compared_only_if_it_is_named() -> None:
    """A size in units of similarity says nothing about a distance."""
    assert DesignConfig().smallest_of(["cka", "procrustes"]).keys() == {"cka", "class_structure", "accuracy"}
    assert DesignConfig(smallest_effects=("procrustes=0.1",)).smallest_of(["procrustes"]) == {"procrustes": 0.1}


@pytest.mark.parametrize("name", ["weight_norm", "rsa", "ckax"])
def test_unknown_quantities_are_refused_with_the_known_ones(name: str) -> None:
    config = DesignConfig(smallest_effects=(f"{name}=0.1",))
    with pytest.raises(ValueError, match=r"Unknown quantity '.*Choose one of: cka, similarity, class_structure, ") as e:
        config.smallest_of(["cka"])
    assert "measures have to be among --measures" in str(e.value)


def test_controls_are_a_role_a_method_and_runs() -> None:
    config = DesignConfig(controls=("decoupled=runs/greedy/*", " truncated@sg = a=b "))
    assert config.control_patterns == (("decoupled", "", "runs/greedy/*"), ("truncated", "sg", "a=b"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"smallest_effects": ("cka",)}, r"smallest effect is 'cka'; expected QUANTITY=SIZE with a size above 0"),
        ({"smallest_effects": ("=0.1",)}, "smallest effect is '=0.1'"),
        ({"smallest_effects": ("cka=0",)}, "smallest effect is 'cka=0'; expected QUANTITY=SIZE with a size above 0"),
        ({"smallest_effects": ("cka=-1",)}, "smallest effect is 'cka=-1'"),
        ({"smallest_effects": ("cka=nan",)}, "smallest effect is 'cka=nan'"),
        ({"smallest_effects": ("cka=inf",)}, "smallest effect is 'cka=inf'"),
        ({"smallest_effects": ("cka=little",)}, "smallest effect is 'cka=little'"),
        ({"smallest_effects": ("cka=0.1", "cka=0.2")}, "smallest_effects name cka twice"),
        ({"smallest_effects": ()}, "No smallest_effects were given; expected one or more, such as similarity=0.05"),
        ({"smallest_effects": (0.1,)}, r"smallest_effects is 0\.1; expected text"),
        ({"controls": ("runs/greedy/*",)}, r"control is 'runs/greedy/\*'; expected ROLE=RUNS"),
        ({"controls": ("decoupled=",)}, "control is 'decoupled='; expected ROLE=RUNS"),
        ({"controls": ("=runs",)}, "control is '=runs'; expected ROLE=RUNS"),
        ({"controls": ("placebo=runs",)}, "Unknown role 'placebo' of a control. Choose one of: schedule-matched"),
        ({"controls": ("reference=runs",)}, "Unknown role 'reference' of a control"),
        ({"controls": ("method@sg=runs",)}, "Unknown role 'method' of a control"),
        ({"align": 3}, "align is 3; expected text"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        DesignConfig(**settings)
    assert "\n" not in str(caught.value)


def test_an_unknown_alignment_is_answered_by_the_known_ones() -> None:
    with pytest.raises(UnknownChoice, match=r"Unknown align 'loss'\. Choose one of: fraction, step, epoch, accuracy"):
        DesignConfig(align="loss")
