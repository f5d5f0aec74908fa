"""The page on own networks: its module is trained, and its training loop runs."""

import re
import sys
from pathlib import Path

import pytest

from analysis.cli import main
from checkpoints import Run

PAGE = (Path(__file__).parents[2] / "docs" / "own-networks.md").read_text(encoding="utf-8")
MODULE, LOOP = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    command = re.search(r"^    repsim (train .+)$", PAGE, re.MULTILINE)
    assert command is not None
    monkeypatch.setattr(sys, "argv", ["repsim", *command[1].split(), "--quiet"])
    with pytest.raises(SystemExit) as end:
        main()
    sys.modules.pop("my", None)
    assert not end.value.code
    assert Run.open("runs/sg").config["boundaries"] == {"synthetic-gradient": [2]}


def test_the_loop_of_the_page_is_short_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = [line for line in LOOP.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(code) <= 12
    exec(LOOP, {})
    assert re.match(r"tensor\(\d\.\d+\) \{1: tensor", capsys.readouterr().out)
