import pytest

from analysis.reproduction.claim import Plan, Section, digest, verdict_of


@pytest.mark.parametrize("seeds", [(), (0,), (0, 1, 2)])
def test_too_few_seeds_are_refused(seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{len(seeds)} seeds .* expected 4 or more"):
        Plan(seeds=seeds)


def test_seeds_of_reference_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Seed 1000000 .* below 1,000,000"):
        Plan(seeds=(0, 1, 2, 1_000_000))


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*quick, full"):
        Plan(scale="huge")


def test_quick_scale_uses_few_digits_and_three_seeds_for_long_tasks() -> None:
    quick, full = Plan(), Plan(scale="full")
    assert (quick.dataset, quick.few_seeds) == ("mnist5k", (0, 1, 2))
    assert (full.dataset, full.few_seeds) == ("mnist", full.seeds)


def test_a_verdict_is_one_of_three() -> None:
    with pytest.raises(ValueError, match=r"'perhaps'.*holds, holds in part, does not"):
        Section(setting="", verdict="perhaps", findings=[], tables={})


@pytest.mark.parametrize(
    ("held", "verdict"),
    [([True, True], "holds"), ([False, True], "holds in part"), ([False, False], "does not hold")],
)
def test_a_claim_holds_in_part_if_some_conditions_hold(held: list[bool], verdict: str) -> None:
    assert verdict_of(held) == verdict


def test_another_version_has_other_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest({"x": 1})
    monkeypatch.setattr("repsim.__version__", "0.0.0")
    assert digest({"x": 1}) != before
