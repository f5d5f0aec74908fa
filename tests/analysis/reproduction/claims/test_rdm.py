"""The claim on RDMs, on networks so small that they train in a moment."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.reproduction.claim import Results
from analysis.reproduction.claims.rdm import CLAIM


@pytest.fixture
def results(on_tiny_networks: dict[str, Results]) -> Results:
    return on_tiny_networks["rdm"]


def test_both_measures_and_class_structure_are_compared(results: Results) -> None:
    table = results["attribution"]
    assert set(table["quantity"]) == {"cka", "rsa", "class_structure", "accuracy"}
    assert (table["status"] == "ok").all()
    assert (table["between"].dropna() <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    ("verdict", "claim"), [("different", "holds"), ("equivalent", "does not hold"), ("undecided", "undecided")]
)
def test_the_verdict_follows_from_the_layers(results: Results, verdict: str, claim: str) -> None:
    table = results["attribution"]
    table = table.assign(verdict=np.where(table["quantity"].isin(["cka", "rsa"]), verdict, "undecided"))
    assert CLAIM.conclude(replace(results, tables=results.tables | {"attribution": table})).verdict == claim


def test_what_a_control_explains_is_not_counted(results: Results) -> None:
    """One method differs in total and beyond its controls, the other not beyond one of them."""
    table = results["attribution"]
    is_explained = table["control"].fillna("") == "greedy-middle"
    table = table.assign(verdict=np.where(is_explained, "equivalent", "different"))
    assert CLAIM.conclude(replace(results, tables=results.tables | {"attribution": table})).verdict == "holds in part"


def test_the_section_can_be_shown(results: Results, check_section: Callable[..., None]) -> None:
    check_section(CLAIM.section(results))
