"""The table of threats in docs/run-format.md: every module in it exists, and it covers all of storage."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def modules_in_table() -> set[str]:
    section = (ROOT / "docs" / "run-format.md").read_text().partition("## Threats\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert all(len(row) == 3 for row in rows)
    return {name for row in rows[1:] for name in re.findall(r"`(checkpoints/[\w/]+\.py)`", row[2])}


def test_every_module_in_the_table_of_threats_exists() -> None:
    modules = modules_in_table()
    assert len(modules) > 15
    assert [name for name in sorted(modules) if not (ROOT / name).is_file()] == []


def test_every_module_of_storage_serves_a_threat() -> None:
    storage = {path.relative_to(ROOT).as_posix() for path in (ROOT / "checkpoints" / "storage").glob("[!_]*.py")}
    assert storage - modules_in_table() == set()
