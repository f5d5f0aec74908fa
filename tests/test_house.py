"""What holds for the house as a whole: who imports whom, what is documented, what is never done."""

import ast
import importlib
import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from importlinter.cli import lint_imports

from checkpoints import Run, Stimuli

ROOT = Path(__file__).parents[1]
ROOMS = ("repsim", "probes", "checkpoints", "analysis")
FACES = (
    "repsim",
    "repsim.learning",
    "repsim.similarity",
    "probes",
    "checkpoints",
    "analysis",
    "analysis.plots",
)
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public(module: ModuleType) -> dict[str, object]:
    return {name: getattr(module, name) for name in module.__all__ if not name.startswith("_")}


FEW = 4  # arguments that may go without description, where their names and types say all

FUNCTIONS = {
    f"{face}.{name}": value
    for face in FACES
    for name, value in public(importlib.import_module(face)).items()
    if inspect.isfunction(value)
}


def test_there_is_a_house_to_look_at() -> None:
    assert len(SOURCES) > 40
    assert len(FUNCTIONS) > 15
    assert len(PAGES) > 5


def test_no_room_imports_what_it_must_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_a_forbidden_import_would_be_found(tmp_path: Path) -> None:
    """The contracts are not empty: a ground room that imports the roof breaks them."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("import analysis\n" if room == "probes" else "")
    for floor in ("learning", "similarity", "theory"):
        (tmp_path / "repsim" / f"{floor}.py").write_text("")
    contracts = (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")
    (tmp_path / "pyproject.toml").write_text("".join(contracts[1:]))
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "probes -> analysis" in done.stdout


def test_the_reference_pages_follow_from_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    runpy.run_path(str(ROOT / "docs" / "generate.py"), run_name="__main__")  # exits with what is out of date
    assert capsys.readouterr().out.endswith(" 0 changed\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert link.startswith(("https://", "http://")) or (page.parent / link).exists(), link


@pytest.mark.parametrize("name", FACES)
def test_public_names_are_there_and_say_what_they_are(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for label, value in public(module).items():
        if callable(value):
            assert inspect.getdoc(value), label


def test_reading_a_run_needs_no_torch(tmp_path: Path) -> None:
    """It takes a second to import, of which those who only ask what a run is should not wait."""
    script = """
import sys
from pathlib import Path
from analysis.cli.info import info
from checkpoints import Run, Stimuli
info(run=Path(sys.argv[1]), json=None)
Run.open(sys.argv[1]).verify("size")
sys.exit("torch" in sys.modules)
"""
    stimuli = Stimuli.of(["x", "y"], [0, 1], ["train", "test"], [[0.0], [1.0]])
    Run.create(tmp_path / "run", config={"a": 1}, stimuli=stimuli).close()
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a: 1" in done.stdout


def test_modules_list_names_that_they_have() -> None:
    modules = [importlib.import_module(module_name(path)) for path in SOURCES if path.name != "__main__.py"]
    listed = [(module, name) for module in modules for name in getattr(module, "__all__", ())]
    assert [(module.__name__, name) for module, name in listed if not hasattr(module, name)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_arguments_of_a_public_function_are_described(name: str) -> None:
    function = FUNCTIONS[name]
    signature = list(inspect.signature(function).parameters)
    described = parameters_in(inspect.getdoc(function))
    assert sorted(described) == sorted(signature) or (not described and len(signature) <= FEW)


def parameters_in(docstring: str) -> list[str]:
    section = re.search(r"^Parameters\n-{10}\n(.*?)(?=^\w[^\n]*\n-{3,}\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    lines = section[1].splitlines() if section else []
    names = [line.partition(" :")[0] for line in lines if re.match(r"[*\w]", line)]
    return [name.strip("* ") for listed in names for name in listed.split(",")]


# What is never done


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(), str(path)))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def called(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}


def test_imports_and_calls_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text("import pickle\nfrom torch import load\nload(open(1))\ntorch.load(2)\nprint(pickle.dumps(3))\n")
    assert imported(path) == {"pickle", "torch", "torch.load"}
    assert called(path) == {"load", "open", "torch.load", "print", "pickle.dumps"}


def breaches(found: Callable[[Path], set[str]], sources: list[Path] = SOURCES) -> dict[str, set[str]]:
    return {module_name(path): names for path in sources if (names := found(path))}


def test_nothing_is_unpickled() -> None:
    modules = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "torch.save", "numpy.load"}
    calls = {"torch.load", "torch.save", "np.load", "numpy.load", "pd.read_pickle", "eval", "exec"}
    found = breaches(lambda path: imported(path) & modules | called(path) & calls)
    assert found.pop("checkpoints.storage.pickled_files") <= {
        "pickle",
        "torch.load",
    }
    for module in (
        "processes",
        "shipping",
        "task",
        "worker",
    ):  # no file: what a process and those that it started tell each other
        assert found.pop(f"analysis.execution.{module}") == {"cloudpickle"}
    assert found == {}
    source = (ROOT / "checkpoints" / "storage" / "pickled_files.py").read_text()
    assert source.count(" torch.load(") == source.count("weights_only=True)") == 1


def test_only_commands_print_and_exit() -> None:
    calls = {"print", "exit", "sys.exit", "os._exit"}
    below = [path for path in SOURCES if "cli" not in path.parts]
    assert breaches(lambda path: called(path) & calls, below) == {}
    assert breaches(lambda path: called(path) & calls) != {}  # commands do


def test_nothing_draws_from_a_global_generator() -> None:
    calls = {"torch.manual_seed", "torch.seed", "torch.use_deterministic_algorithms"}
    draw = re.compile(r"np\.random\.(?!default_rng|SeedSequence|Generator)")
    sources = [path for path in SOURCES if module_name(path) != "checkpoints.generators"]  # which keeps them
    assert breaches(lambda path: called(path) & calls | imported(path) & {"random"}, sources) == {}
    assert breaches(lambda path: {name for name in called(path) if draw.match(name)}, sources) == {}
