"""What holds for every claim: its name, its statement and its tasks."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from analysis.reproduction.claim import Claim, Plan
from analysis.reproduction.claims import CLAIMS, load_claim, load_claims

QUICK = {  # seconds on one core at quick scale: of the longest task, of all tasks except shared networks
    "critical-points": (10, 150),
    "artificial": (45, 510),
    "tracking": (60, 240),
    "depth": (50, 0),
    "rdm": (70, 120),
    "probes": (70, 180),
    "implied-loss": (60, 240),
    "rules": (60, 480),
    "value-gradients": (60, 360),
}


@pytest.fixture(params=CLAIMS)
def claim(request: pytest.FixtureRequest) -> Claim:
    return load_claim(request.param)


def test_every_claim_has_its_name_and_states_its_source(claim: Claim) -> None:
    assert load_claim(claim.name) is claim
    assert re.match(r"\[[SM]\] .+\.$", claim.statement, re.DOTALL)
    assert claim.title


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_tasks_have_unique_keys_settings_that_json_keeps_and_functions_of_a_module(claim: Claim, scale: str) -> None:
    tasks = claim.parts(Plan(scale=scale))
    assert len({task.key for task in tasks}) == len(tasks)
    for task in tasks:
        assert json.loads(json.dumps(task.settings)) == task.settings, task.key
        assert re.fullmatch(r"[a-z-]+/[a-z0-9._-]+", task.key), task.key
        assert pickle.loads(pickle.dumps(task.function)) is task.function
        assert task.cost > 0


def test_tasks_come_after_those_that_they_need(claim: Claim) -> None:
    earlier: set[str] = set()
    for task in claim.parts(Plan()):
        assert earlier.issuperset(task.after), task.key
        earlier.add(task.key)


def test_other_seeds_are_other_tasks(claim: Claim) -> None:
    few, others = ({task.key for task in claim.parts(Plan(seeds=seeds))} for seeds in ((0, 1, 2, 3), (10, 11, 12, 13)))
    assert not few & others


def test_quick_scale_is_quick(claim: Claim) -> None:
    tasks = claim.parts(Plan())
    longest, total = QUICK[claim.name]
    assert max(task.cost for task in tasks) <= longest
    assert sum(task.cost for task in tasks if task.group == claim.name) <= total


def test_names_are_known_without_importing_a_claim() -> None:
    code = (
        "import sys; from analysis.reproduction.claims import CLAIMS; assert 'rdm' in CLAIMS; "
        "heavy = {'torch', 'pandas', 'matplotlib', 'analysis.reproduction.claims.rdm'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_claims_keep_the_order_of_the_registry_and_own_claims_come_last() -> None:
    own = replace(load_claim("tracking"), name="own")
    names = [each.name for each in load_claims([own, "rdm", "depth", load_claim("depth")])]
    assert names == ["depth", "rdm", "own"]
    assert [each.name for each in load_claims(["all"])] == list(CLAIMS)


def test_an_unknown_claim_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown claim 'rmd'.*rdm.*all"):
        load_claims(["rmd"])
