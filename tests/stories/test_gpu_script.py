"""Someone tries the script for GPUs on a machine without one."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu


@pytest.mark.parametrize("row", ["replicas", "sg", "probes", "cka", "rdm"])
def test_every_row_is_measured_on_the_cpu_in_small(script: ModuleType, row: str) -> None:
    found = script.measured(row, "cpu")
    assert found.status == ("not supported" if row == "rdm" else "ok"), found.message
    assert (found.figure is None) == (row == "rdm")


def test_a_row_that_fails_or_takes_too_long_stops_no_other(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    assert script.main(["--device", "nowhere", "--rows", "cka", "rdm", "--output", str(file)]) == 1
    cka, rdm = json.loads(file.read_text())
    assert (cka["row"], cka["status"], rdm["row"], rdm["status"]) == ("cka", "failed", "rdm", "not supported")
    assert cka["seconds"] > 0
    assert "Unknown or unavailable device 'nowhere'" in capsys.readouterr().out
    assert script.main(["--rows", "cka", "rdm", "--seconds", "0"]) == 1
    assert capsys.readouterr().out.count("out of time") == 2


def test_a_target_counts_on_a_gpu_only(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = script.Ratio("work", "other", [3.0], "<= 2")
    monkeypatch.setitem(script.ROWS, "replicas", (lambda _: slow, 1.0))
    assert [script.measured("replicas", device).status for device in ("cpu", "cuda")] == ["ok", "missed"]
