"""Code blocks of README.md and of the guide, and running them from top to bottom in one folder.

``python -m tests.docs.blocks README.md`` (``make readme``) runs them at full size, measures each, and fails if one does
not run, or takes another time than it states. The tests run them at a small size (tests/docs/test_pages.py).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
LANGUAGES = {"python": "python", "py": "python", "toml": "toml"} | dict.fromkeys(
    ("sh", "bash", "shell", "console"), "sh"
)

_COMMAND = re.compile(r"(repsim|python3?|make|pip|git|dask|cd) ")  # begins an indented block of commands
_MARK = re.compile(r"<!-- not run: (.+?) -->\s*")
_FILE = re.compile(r"# ([\w./-]+\.(?:toml|py))\n")
_DURATION = re.compile(r"# (?:about ([\d.]+) (s|minutes?|hours?)|several minutes)\b")
_SECONDS = {"s": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}
_SEVERAL_MINUTES = 240  # in seconds; right from two to eight minutes, as others to a factor of two
_NEGLIGIBLE = 5  # seconds by which a duration may be off, whatever it is


class BlockError(Exception):
    """A block that does not run, or that is written in a way that cannot be run."""


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    page: Path
    line: int  # of its first line of code, from 1
    language: str  # python, sh or toml
    code: str
    skipped: str = ""  # why it is not run

    @property
    def place(self) -> str:
        """Return the page and the line, as editors and terminals link them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """Return the name of the file that the block shows, from its first line, or nothing if it is to be run."""
        found = _FILE.match(self.code)
        return found[1] if found else ""

    @property
    def takes_time(self) -> bool:
        """Return whether the block is run, and not only a file or settings."""
        return self.language != "toml" and not self.file

    @property
    def stated(self) -> float | None:
        """Return the duration that its first line states, in seconds."""
        found = _DURATION.match(self.code)
        if found and not found[1]:
            return _SEVERAL_MINUTES
        return float(found[1]) * _SECONDS[found[2]] if found else None

    @property
    def advice(self) -> str:
        """Return what the author of a block that does not run can do."""
        preamble = f"tests/docs/preambles/{self.page.stem}.py"
        return (
            f"Mend the block; or let {preamble}, which runs before the first block of the page, make the names and "
            "files that it needs; or write <!-- not run: REASON --> in the line before it."
        )


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are Python, shell commands or TOML, from top to bottom."""
    mark = ""
    for token in MarkdownIt().parse(page.read_text()):
        block = _block_of(page, token, mark)
        if mark and not block:
            raise BlockError(f"{page}: '<!-- not run: {mark} -->' must stand before a block of python, sh or toml.")
        found = _MARK.fullmatch(token.content) if token.type == "html_block" else None
        mark = found[1] if found else ""
        if block:
            yield block


def _block_of(page: Path, token: Token, mark: str) -> Block | None:
    """Return a block of code, or nothing if a token is another thing."""
    if token.type == "fence":
        language = LANGUAGES.get(token.info.strip())
    else:
        language = "sh" if token.type == "code_block" and _COMMAND.match(token.content) else None
    if language is None or token.map is None:
        return None
    return Block(page, token.map[0] + (2 if token.type == "fence" else 1), language, token.content, mark)


def run_block(block: Block, names: dict[str, Any], shell: Callable[[str], object]) -> None:
    """Run a block in the working directory, as its reader would.

    A block that begins with the name of a file is written to that file. Python blocks share ``names``; ``shell`` runs
    commands.

    Raises
    ------
    BlockError
        If the block fails.
    """
    try:
        if block.language == "toml":
            tomllib.loads(block.code)
        if block.file:
            Path(block.file).write_text(block.code)
        elif block.language == "python":
            # Tracebacks then show the lines of the page.
            exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec", dont_inherit=True), names)
        elif block.language == "sh":
            shell(block.code)
    except Exception as error:
        raise BlockError(f"{block.place}: {type(error).__name__}: {error}\n{block.advice}") from error


def run_commands(code: str) -> None:
    """Run shell commands with the programs of this installation, and stop at the first that fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", code], env=os.environ | {"PATH": path}, check=True)


def has_right_duration(stated: float, measured: float) -> bool:
    """Return whether a duration in seconds is right to a factor of two, or to a few seconds."""
    return abs(stated - measured) < _NEGLIGIBLE or stated / 2 <= measured <= 2 * stated


def main(page: Path) -> list[str]:
    """Run a page at full size in a temporary folder, print how long each block takes, and return what is wrong."""
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = list(read_blocks(page.resolve()))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        wrong = [_run_and_time(block, names) for block in blocks]
        os.chdir(ROOT)
    return [complaint for complaint in wrong if complaint]


def _run_and_time(block: Block, names: dict[str, Any]) -> str:
    """Run a block, print how long it takes, and return what is wrong with the duration that it states."""
    if block.skipped:
        print(f"--- {block.place}: not run: {block.skipped}", flush=True)
        return ""
    start = time.monotonic()
    run_block(block, names, run_commands)
    seconds = time.monotonic() - start
    if not block.takes_time:
        return ""
    print(f"--- {block.place}: {seconds:.1f} s, stated: {block.stated or 'nothing'}", flush=True)
    if block.stated and has_right_duration(block.stated, seconds):
        return ""
    return f"{block.place} takes {seconds:.0f} s. Write this in its first line: # {_in_words(seconds)}"


def _in_words(seconds: float) -> str:
    if seconds >= _SEVERAL_MINUTES / 2:
        return "several minutes"
    return f"about {seconds:.0f} s" if seconds < 100 else "about 2 minutes"


if __name__ == "__main__":
    complaints = [complaint for path in sys.argv[1:] for complaint in main(Path(path))]
    print("\n".join(complaints) or "Every block runs, in the time that it states.")
    sys.exit(bool(complaints))
