"""Someone follows the page on networks of their own: its module is trained, and its training loop runs."""

import re
from pathlib import Path

import pytest

from checkpoints import Run
from tests.conftest import Repsim

PAGE = (Path(__file__).parents[2] / "docs" / "own-networks.md").read_text(encoding="utf-8")
MODULE, LOOP = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_of_the_page_run(place: Path, repsim: Repsim) -> None:
    (place / "my.py").write_text(MODULE)
    command = re.search(r"^    repsim (train .+)$", PAGE, re.MULTILINE)
    assert command is not None
    assert repsim(f"{command[1]} --quiet").code == 0
    assert Run.open("runs/sg").config["boundaries"] == {"synthetic-gradient": [2]}


def test_the_loop_of_the_page_is_short_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = [line for line in LOOP.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(code) <= 12
    exec(LOOP, {})
    assert re.match(r"tensor\(\d\.\d+\) \{1: tensor", capsys.readouterr().out)
