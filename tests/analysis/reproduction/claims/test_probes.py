"""The claim on probes, on networks so small that they train in a moment."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from analysis.reproduction.claim import Results
from analysis.reproduction.claims.probes import CLAIM


@pytest.fixture
def results(on_tiny_networks: dict[str, Results]) -> Results:
    return on_tiny_networks["probes"]


@pytest.mark.parametrize(
    ("verdict", "claim"), [("different", "holds"), ("equivalent", "does not hold"), ("undecided", "undecided")]
)
def test_the_verdict_follows_from_the_accuracies(results: Results, verdict: str, claim: str) -> None:
    table = results["attribution"]
    table = table.assign(verdict=table["verdict"].where(table["quantity"] != "accuracy", verdict))
    assert CLAIM.conclude(replace(results, tables=results.tables | {"attribution": table})).verdict == claim


def test_means_of_all_arms_are_written(results: Results) -> None:
    section = CLAIM.conclude(results)
    means, layers = section.tables["accuracy"], results["layers"]
    first = means.iloc[0]
    chosen = (layers["arm"] == first["arm"]) & (layers["at"] == first["at"]) & (layers["depth"] == first["depth"])
    assert first["mean"] == pytest.approx(layers.loc[chosen, "accuracy"].mean())
    assert first["n_seeds"] == chosen.sum() == 3


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))
