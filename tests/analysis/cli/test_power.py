"""The number of seeds that a design needs, on the command line; mistakes are tested with those of repsim compare."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Repsim = Callable[..., Any]
LINE = "power bp/* sg/* --layers hidden.2 --smallest-effect cka=0.05 --output out --executor serial --quiet"


@pytest.fixture(autouse=True)
def place(arm_runs: Mapping[str, tuple[Path, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that has those of all arms."""
    monkeypatch.chdir(tmp_path)
    for name, runs in arm_runs.items():
        (tmp_path / name).symlink_to(runs[0].parent)


def test_the_number_of_seeds_is_said_for_each_contrast_and_quantity(repsim: Repsim) -> None:
    said = repsim(f"{LINE} --control decoupled=greedy/* --effect 3")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("An effect of 3 times the smallest of interest is called different, and no effect")
    assert [line.partition(":")[0] for line in lines[1:]] == ["sg in total, cka", "sg beyond greedy, cka"]


def test_chances_are_json_on_request(repsim: Repsim) -> None:
    found = json.loads(repsim(f"{LINE} --seeds 3,30 --effect 2.5 --json").out)
    assert found["effect"] == 2.5
    assert [row["n_seeds"] for row in found["power"]] == [3, 30]
    assert {row["quantity"] for row in found["power"]} == {"cka"}
    assert all(0 <= row[name] <= 1 for row in found["power"] for name in ("different", "equivalent"))
    assert found["power"][0]["different"] < found["power"][1]["different"]


@pytest.mark.usefixtures("blank_figures")
def test_what_a_pilot_measured_is_kept_for_the_comparison(repsim: Repsim) -> None:
    repsim(LINE)
    cached = {path.name for path in Path("out/cache").iterdir() if path.name.startswith("arms-")}
    assert len(cached) == 1
    compare = LINE.replace("power", "compare", 1)
    assert repsim(f"{compare} --Cs 1").code == 0
    assert {path.name for path in Path("out/cache").iterdir() if path.name.startswith("arms-")} == cached
