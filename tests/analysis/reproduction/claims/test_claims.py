"""What holds for every claim: its name, its statement and its tasks."""

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.execution import Cache
from analysis.reproduction.claim import Claim, Plan
from analysis.reproduction.claims import CLAIMS, load_claim, load_claims

QUICK = {  # seconds on one core at quick scale: of the longest task, of all tasks except shared networks
    "critical-points": (45, 330),
    "artificial": (45, 1100),
    "tracking": (60, 240),
    "depth": (50, 200),
    "rdm": (120, 400),
    "probes": (120, 400),
    "implied-loss": (60, 310),
    "rules": (60, 660),
    "value-gradients": (60, 360),
}


@pytest.fixture(params=CLAIMS)
def claim(request: pytest.FixtureRequest) -> Claim:
    return load_claim(request.param)


def test_claims_have_a_name_a_title_and_a_statement_with_its_source(claim: Claim) -> None:
    assert load_claim(claim.name) is claim
    assert re.match(r"\[[SM]\] .+\.$", claim.statement, re.DOTALL)
    assert claim.title


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_tasks_are_unique_ordered_and_can_be_pickled(claim: Claim, scale: str, tmp_path: Path) -> None:
    tasks = claim.tasks(Plan(scale=scale), Cache(tmp_path))
    assert len(tasks) == len(claim.parts(Plan(scale=scale)))
    for task in tasks:
        assert re.fullmatch(r"[a-z0-9._-]+", task.key), task.key
        assert pickle.loads(pickle.dumps(task)).key == task.key
        assert task.cost > 0


def test_plans_with_other_seeds_share_no_task(claim: Claim) -> None:
    few, others = ({task.key for task in claim.parts(Plan(seeds=seeds))} for seeds in ((0, 1, 2, 3), (10, 11, 12, 13)))
    assert not few & others


def test_costs_at_quick_scale_are_limited(claim: Claim) -> None:
    tasks = claim.parts(Plan())
    longest, total = QUICK[claim.name]
    assert max(task.cost for task in tasks) <= longest
    assert sum(task.cost for task in tasks if not task.name.startswith("networks")) <= total


def test_listing_the_claims_imports_none_of_them() -> None:
    code = (
        "import sys; from analysis.reproduction.claims import CLAIMS; assert 'rdm' in CLAIMS; "
        "heavy = {'torch', 'pandas', 'matplotlib', 'analysis.reproduction.claims.rdm'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_claims_are_loaded_in_the_order_of_the_registry_with_own_claims_last() -> None:
    own = replace(load_claim("tracking"), name="own")
    names = [each.name for each in load_claims([own, "rdm", "depth", load_claim("depth")])]
    assert names == ["depth", "rdm", "own"]
    assert [each.name for each in load_claims(["all"])] == list(CLAIMS)


def test_an_unknown_claim_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"Unknown claim 'rmd'.*rdm.*all"):
        load_claims(["rmd"])
