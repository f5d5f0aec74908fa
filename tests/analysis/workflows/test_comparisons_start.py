"""What the process that plans a comparison imports: nothing that takes seconds."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis import AnalysisConfig, ExecutionConfig, compare_runs

Paths = Mapping[str, tuple[Path, ...]]

SCRIPT = """
import sys
from analysis import AnalysisConfig, ExecutionConfig, compare_runs
from analysis.execution.processes import _ProcessPool

heavy = {"torch", "pandas", "sklearn", "scipy", "matplotlib"}

def submit(pool, task):
    raise SystemExit("planned with " + (", ".join(sorted(heavy & set(sys.modules))) or "nothing"))

_ProcessPool.submit = submit
settings = AnalysisConfig(layers=("hidden.2",), Cs=(1.0,))
compare_runs(sys.argv[2:], config=settings, output=sys.argv[1], execution=ExecutionConfig(executor="processes"))
sys.exit("read with " + (", ".join(sorted(heavy & set(sys.modules))) or "nothing"))
"""


@pytest.mark.usefixtures("blank_figures")
def test_planning_a_comparison_and_reading_a_finished_one_import_nothing_heavy(arm_runs: Paths, tmp_path: Path) -> None:
    runs = [*arm_runs["bp"], *arm_runs["sg"]]

    def imported() -> str:
        call = [sys.executable, "-c", SCRIPT, tmp_path / "o", *runs]
        return subprocess.run(call, capture_output=True, text=True).stderr.strip().splitlines()[-1]

    assert imported() == "planned with nothing"
    settings = AnalysisConfig(layers=("hidden.2",), Cs=(1.0,))
    compare_runs(runs, config=settings, output=tmp_path / "o", execution=ExecutionConfig(executor="serial"))
    assert imported() == "read with nothing"
