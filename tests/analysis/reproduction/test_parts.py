from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.reproduction.claim import Tables, digest
from analysis.reproduction.claims import Part, Plan, Section
from analysis.reproduction.parts import Assignment, is_done, perform, read_results
from analysis.reproduction.summary import seed_intervals

CALLS: list[dict[str, Any]] = []
THIRD = 1 / 3


def work(folder: Path, **settings: Any) -> Tables:
    CALLS.append(settings)
    if settings.get("fails"):
        raise ArithmeticError("no")
    return {"numbers": pd.DataFrame({"x": [settings["x"], THIRD], "name": ["None", "NA"], "nothing": [np.nan, 1.0]})}


PART = Part(name="one", work=work, settings={"x": 0.1}, cost=1.0, group="tests")


@pytest.fixture(autouse=True)
def forget() -> None:
    CALLS.clear()


def test_a_part_is_done_once(tmp_path: Path) -> None:
    assert not is_done(PART, tmp_path)
    perform(Assignment(PART, tmp_path))
    assert is_done(PART, tmp_path)
    perform(Assignment(PART, tmp_path))
    assert CALLS == [{"x": 0.1}]


def test_what_a_part_found_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    perform(Assignment(PART, tmp_path))
    table = read_results([PART], Plan(), tmp_path)["numbers"]
    pd.testing.assert_frame_equal(table, work(tmp_path, x=0.1)["numbers"], check_exact=True)


def test_tables_of_parts_stand_one_below_the_other_in_the_order_of_the_parts(tmp_path: Path) -> None:
    parts = [replace(PART, settings={"x": x}) for x in (3.0, 1.0, 2.0)]
    for part in reversed(parts):
        perform(Assignment(part, tmp_path))
    assert read_results(parts, Plan(), tmp_path)["numbers"]["x"].tolist() == [3.0, THIRD, 1.0, THIRD, 2.0, THIRD]


def test_other_settings_are_another_part(tmp_path: Path) -> None:
    perform(Assignment(PART, tmp_path))
    assert not is_done(replace(PART, settings={"x": 0.2}), tmp_path)
    assert not is_done(replace(PART, group="others"), tmp_path)


def test_a_part_that_fails_leaves_nothing(tmp_path: Path) -> None:
    failing = replace(PART, settings={"fails": True})
    with pytest.raises(ArithmeticError):
        perform(Assignment(failing, tmp_path))
    assert not is_done(failing, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


def test_another_version_does_its_parts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest({"x": 1})
    monkeypatch.setattr("repsim.__version__", "0.0.0")
    assert digest({"x": 1}) != before


@pytest.mark.parametrize("seeds", [(), (0,), (0, 1, 2)])
def test_too_few_seeds_are_refused(seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{len(seeds)} seeds were given; expected 4 or more, as with fewer no test"):
        Plan(seeds=seeds)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*quick, full"):
        Plan(scale="huge")


def test_a_verdict_is_one_of_three() -> None:
    with pytest.raises(ValueError, match=r"^Unknown verdict 'perhaps'\. Choose one of: holds, holds in part, does not"):
        Section(setting="", verdict="perhaps", findings=[], drawings=[], tables={})


def test_the_interval_over_seeds_is_students() -> None:
    table = pd.DataFrame({"rule": ["a"] * 3 + ["b"], "value": [1.0, 2.0, 3.0, 5.0]})
    a, b = seed_intervals(table, ["rule"], "value").to_dict("records")
    half = 4.302652729911275 / np.sqrt(3)  # t of 2 degrees of freedom at 0.975, times the standard error
    assert (a["mean"], a["n_seeds"], a["least"], a["most"]) == (2.0, 3, 1.0, 3.0)
    np.testing.assert_allclose([a["low"], a["high"]], [2 - half, 2 + half])
    assert b["mean"] == 5.0
    assert np.isnan(b["low"])
