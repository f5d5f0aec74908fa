"""The blocks of README.md and of the guide run from top to bottom, each page in one folder.

Commands run in this process, with the settings of ``SMALL`` as defaults of the project (``repsim.toml``): the same
commands as in the page, on less data. ``make readme`` runs those of README.md at full size. ``preambles/`` makes the
names and files that a page takes for granted.
"""

import importlib
import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import sklearn.datasets
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from analysis.cli import main
from analysis.config.toml_files import TABLES, merge, read_settings
from checkpoints import Run
from probes.table.columns import COLUMNS
from tests.docs.blocks import ROOT, Block, BlockError, has_right_duration, read_blocks, run_block

ROOMS = ("repsim", "probes", "checkpoints", "analysis")
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SMALL = """
[training]
data = "digits"
depth = 4
width = 16
activation = "tanh"
epochs = 1
batch_size = 32

[recording]
n_train = 60
n_validation = 20
n_test = 30

[analysis]
layers = ["hidden.1", "hidden.2"]
Cs = [0.1]

[execution]
executor = "serial"
"""


@contextmanager
def isolated(folder: Path) -> Iterator[None]:
    """Work in a folder with few digits, write no figures, and undo what blocks do to registries and imports."""
    kept = [(registry, dict(registry)) for registry in registries()]
    modules = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setattr(sklearn.datasets, "load_digits", few_digits)
        patch.setattr(Figure, "draw_without_rendering", lambda figure: None)
        patch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).write_bytes(b""))
        Path("repsim.toml").write_text(SMALL)
        try:
            yield
        finally:
            plt.close("all")
            for registry, entries in kept:
                registry.clear()
                registry.update(entries)
            for name in set(sys.modules) - modules:
                if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                    del sys.modules[name]


def few_digits(**options: Any) -> Any:
    """Return 500 of scikit-learn's digits, as images and labels."""
    digits = load_digits()
    X, y = digits.data[:500], digits.target[:500]
    return (X, y) if options.get("return_X_y") else Bunch(data=X, target=y)


def registries() -> list[dict[Any, Any]]:
    """Return the dicts that modules of the packages hold under names in capital letters.

    Callbacks, which hold none, would import Lightning and transformers.
    """
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("[!_]*.py") if "callbacks" not in path.parts]
    modules = [importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    found = [value for module in modules for name, value in vars(module).items() if name.isupper()]
    return list({id(value): value for value in found if isinstance(value, dict)}.values())


SHELL_FUNCTION = """
repsim() {{
  printf '%s\\0' "$@" > {command}
  echo run >&{ask}
  read -r code <&{answer}
  cat {output}
  return "$code"
}}
"""


def run_commands(code: str) -> None:
    """Run shell commands, and print what they print; a shell function hands commands of repsim to this process."""
    questions, ask = os.pipe()
    answer, answers = os.pipe()
    with TemporaryDirectory() as folder, TemporaryFile("w+") as printed:
        command, output = Path(folder, "command"), Path(folder, "output")
        function = SHELL_FUNCTION.format(command=command, output=output, ask=ask, answer=answer)
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", function + code],
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
            stdout=printed,
            pass_fds=(ask, answer),
        )
        os.close(ask)
        os.close(answer)
        errors = ""
        with os.fdopen(questions) as asked, os.fdopen(answers, "w") as answered:
            for _ in asked:
                Path("repsim.toml").write_text(SMALL)  # also if a block has written this file
                status, said, errors = run_repsim(command.read_text().split("\0")[:-1])
                output.write_text(said)
                print(status, file=answered, flush=True)
        shell.wait()
        printed.seek(0)
        print(printed.read())
    if shell.returncode:
        raise RuntimeError(f"The commands ended with exit code {shell.returncode}. {errors}")


def run_repsim(arguments: list[str]) -> tuple[int, str, str]:
    """Run one command of repsim, and return its exit code, output and errors."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", ["repsim", *arguments])
        with redirect_stderr(io.StringIO()) as errors, warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            warnings.simplefilter("default")  # a command prints warnings; networks as small as ours cause some
            main()
    return int(stop.value.code or 0), said.getvalue(), errors.getvalue()


# What pages promise, with the names that their blocks make and what they print


def check_readme(names: dict[str, Any], said: str) -> None:
    assert Path("mine/comparison/report.html").is_file()
    assert names["similarity"].values.shape == (3, 3)


def check_similarity(names: dict[str, Any], said: str) -> None:
    assert names["table"].values.shape == (6, 6)


def check_theory(names: dict[str, Any], said: str) -> None:
    assert names["tracking"].ratio > 1
    assert names["backprop"].converged
    assert names["synthetic"].converged
    assert names["synthetic"].true_gradient_norm > 1e3 * names["backprop"].true_gradient_norm
    implied, h, y = (names[name] for name in ("implied", "h", "y"))
    assert names["steps"][-1].excess_cost < 1e-3 < 0.1 < names["steps"][0].excess_cost
    assert names["quadratic_fit"](implied[y == 3], h[y == 3]).relative_residual < 1e-4  # in single precision


def check_attribution(names: dict[str, Any], said: str) -> None:
    assert set(names["trained"].table["state"]) == {"finished"}
    assert set(names["table"]["verdict"]) <= {"different", "equivalent", "undecided"}
    assert len(names["two"].tables["attribution"]) == 27
    assert set(names["chances"]["n_seeds"]) == {3, 5, 10, 30}
    page = (ROOT / "docs" / "attribution.md").read_text()
    shown = re.findall(r"^# (sg .+? seeds\):|Brackets .+? differences)", page, flags=re.MULTILINE)
    assert len(shown) == 4
    assert all(each in said for each in shown)


def check_recurrent(names: dict[str, Any], said: str) -> None:
    signals = pd.read_csv("runs/comparison/signals.csv")
    assert list(signals["boundary"]) == [4] * len(signals)  # between the two windows
    assert signals["relative_error"].notna().any()
    assert list(names["chosen"]) == list(names["true"]) == [4]
    assert list(Run.open("runs/sg").last().activations) == [f"hidden.{t}" for t in range(1, 9)]


CHECKS = {
    "README.md": check_readme,
    "similarity.md": check_similarity,
    "theory.md": check_theory,
    "attribution.md": check_attribution,
    "recurrent.md": check_recurrent,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, blank_figures: None) -> None:
    blocks = [block for block in read_blocks(page) if not block.skipped]
    names: dict[str, Any] = {"__name__": "__main__"}
    with isolated(tmp_path), redirect_stdout(io.StringIO()) as said:
        for block in [*preamble(page), *blocks]:
            run_block(block, names, run_commands)
        if check := CHECKS.get(page.name):
            check(names, said.getvalue())


def preamble(page: Path) -> list[Block]:
    """Return what is run before the first block of a page."""
    path = Path(__file__).parent / "preambles" / f"{page.stem}.py"
    return [Block(path, 1, "python", path.read_text())] if path.exists() else []


def test_every_block_of_the_readme_states_how_long_it_takes() -> None:
    timed = [block for block in read_blocks(README) if block.takes_time]
    assert len(timed) > 5
    silent = [block.place for block in timed if not block.stated]
    assert silent == [], "Write the time on two cores in the first line, as # about 20 s; make readme measures it."


def test_your_own_network_takes_fifteen_lines_in_the_readme() -> None:
    code = re.search(r"in fifteen lines\n.*?```python\n# about .*?\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_defaults_that_a_page_shows_are_settings_that_exist(page: Path, tmp_path: Path) -> None:
    for block in read_blocks(page):
        if block.file == "repsim.toml":
            (tmp_path / "repsim.toml").write_text(block.code)
            file = read_settings(tmp_path / "repsim.toml", TABLES)
            for table in file.tables:
                assert merge(TABLES[table], [file], {}, check_choices=True)


# Reading and running


def page_of(text: str, folder: Path) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


def test_blocks_are_fenced_or_begin_with_a_command(tmp_path: Path) -> None:
    fences = "```python\nx = 1\n```\n\n```text\nrepsim\n```\n\n```toml\na = 1\n```\n"
    text = f"{fences}\n    repsim info run\n\nText.\n\n    runs/  a tree\n"
    found = [(block.line, block.language) for block in read_blocks(page_of(text, tmp_path))]
    assert found == [(2, "python"), (10, "toml"), (13, "sh")]


def test_a_mark_before_a_block_says_why_it_is_not_run(tmp_path: Path) -> None:
    text = "<!-- not run: hours -->\n```sh\n# about 2 hours\nrepsim reproduce all\n```\n\n```sh\nrepsim rules\n```\n"
    first, second = read_blocks(page_of(text, tmp_path))
    assert (first.skipped, first.stated) == ("hours", 7200)
    assert (second.skipped, second.stated) == ("", None)


def test_several_minutes_are_a_duration(tmp_path: Path) -> None:
    (block,) = read_blocks(page_of("```sh\n# several minutes\nrepsim rules\n```\n", tmp_path))
    assert [has_right_duration(block.stated, seconds) for seconds in (110, 130, 470, 490)] == [False, True, True, False]


def test_a_mark_without_a_block_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match="'<!-- not run: hours -->' must stand before a block of python, sh or toml"):
        list(read_blocks(page_of("<!-- not run: hours -->\n\nText.\n", tmp_path)))


@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("python", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("sh", "repsim rules\nrepsim inform runs\n", "(?s)exit code 2.*No such command 'inform'"),
        ("sh", "repsim rules | grep nothing-like-it\n", "exit code 1"),
        ("toml", "a = \n", "TOMLDecodeError"),
    ],
)
def test_a_block_that_fails_says_where_and_what_its_author_can_do(
    language: str, code: str, message: str, tmp_path: Path
) -> None:
    block = Block(ROOT / "docs" / "page.md", 7, language, code)
    with isolated(tmp_path), pytest.raises(BlockError, match=message) as failed:
        run_block(block, {}, run_commands)
    assert str(failed.value).startswith("docs/page.md:7: ")
    assert "tests/docs/preambles/page.py" in str(failed.value)
    assert "<!-- not run: REASON -->" in str(failed.value)


def test_a_block_that_begins_with_the_name_of_a_file_is_that_file(tmp_path: Path) -> None:
    with isolated(tmp_path):
        run_block(Block(README, 1, "python", "# mine.py\nx = 1 / 0\n"), {}, run_commands)
        assert Path("mine.py").read_text() == "# mine.py\nx = 1 / 0\n"


def test_commands_see_the_shell_and_print_into_it(tmp_path: Path) -> None:
    with isolated(tmp_path):
        run_commands("for word in 'backprop'; do repsim rules | grep $word > rules.txt; done")
        assert "backprop" in Path("rules.txt").read_text()


def test_what_blocks_register_is_forgotten(tmp_path: Path) -> None:
    with isolated(tmp_path):
        Path("mine.py").write_text("from probes.table.columns import COLUMNS\nCOLUMNS['mine'] = None\n")
        run_block(Block(README, 1, "python", "import mine\n"), {}, run_commands)
        assert "mine" in COLUMNS
    assert "mine" not in COLUMNS
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("stated", "measured", "right"), [(20, 39, True), (20, 41, False), (60, 29, False), (1, 5, True)]
)
def test_a_stated_duration_may_be_off_by_a_factor_of_two(stated: float, measured: float, right: bool) -> None:
    assert has_right_duration(stated, measured) == right
