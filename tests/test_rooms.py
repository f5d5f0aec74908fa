"""Structure of the packages: folders, names, tests beside what they test, light imports, plain titles."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("repsim", "probes", "checkpoints", "analysis")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [path for path in SOURCES if not path.stem.startswith("__")]
FOLDERS = sorted({path.parent for path in SOURCES})
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()

MOST_MODULES = 14  # in a folder; small files of one protocol, listed in a registry, may be more
REGISTRIES = {"repsim/similarity/measures", "analysis/cli"}
MOST_TERMS = 25
MOST_PARAMETERS = 8  # of a function; settings that belong together are one dataclass

# Names that several modules have on purpose.
SHARED_MODULES = {
    "checks": "checks of arguments, one file per package that imports no other",
    "parts": "one file of this name per claim",
    "conclude": "one file of this name per claim",
    "figures": "one file of this name per claim",
}
SHARED_CLASSES = {"RecordActivations": "one callback per training framework"}

# Tests of a behaviour that no single module has.
TOPICS = {
    "tests/analysis/test_fuzz.py",
    "tests/checkpoints/test_cuda.py",
    "tests/checkpoints/test_faults.py",
    "tests/checkpoints/test_golden.py",
    "tests/checkpoints/test_hostile.py",
    "tests/checkpoints/test_readers.py",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Functions


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_have_few_parameters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert len([name for name in names if name not in ("self", "cls")]) <= MOST_PARAMETERS, node.name


# Folders


def test_analysis_has_no_module_beside_its_folders() -> None:
    assert {path.name for path in (ROOT / "analysis").glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_a_folder_can_be_taken_in_at_a_look(folder: Path) -> None:
    modules = [path for path in folder.glob("*.py") if path in MODULES]
    assert len(modules) <= MOST_MODULES or relative(folder) in REGISTRIES
    assert (folder / "__init__.py").is_file()


# Names


def classes() -> Iterator[tuple[str, str]]:
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                yield node.name, relative(path)


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for name, path in classes():
        places[name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SHARED_CLASSES} == {}


def test_no_two_modules_share_a_name() -> None:
    places = defaultdict(list)
    for path in MODULES:
        if path.parent.name != "cli":  # a command has the name of the function behind it
            places[path.stem].append(relative(path))
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SHARED_MODULES} == {}


def glossary() -> list[tuple[str, str]]:
    section = re.search(r"^## Glossary\n(.*?)(?=^## |\Z)", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert section
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", section[1], re.MULTILINE)
    return [row for row in rows if row[0] != "term" and not set(row[0]) <= {"-"}]


def test_the_glossary_is_short_and_names_each_term_once() -> None:
    terms = [term for term, _ in glossary()]
    assert 10 < len(terms) <= MOST_TERMS
    assert len(set(terms)) == len(terms)


def test_names_in_backticks_of_the_architecture_exist() -> None:
    paths = re.findall(r"`((?:repsim|probes|checkpoints|analysis|tests|examples|docs)/[\w/.-]*)`", ARCHITECTURE)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


# Tests mirror the packages


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*/**/test_*.py")), ids=relative)
def test_a_test_lies_where_its_module_lies(path: Path) -> None:
    package = path.relative_to(ROOT / "tests").parts[0]
    if package not in PACKAGES or relative(path) in TOPICS:
        return
    folder = ROOT / path.relative_to(ROOT / "tests").parent
    assert folder.is_dir()
    subject = path.stem.removeprefix("test_")
    known = {each.stem for each in folder.iterdir()} | {folder.name}
    assert any(subject == name or subject.startswith(f"{name}_") for name in known)


# Imports


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_nothing_slow(package: str) -> None:
    slow = ("torch", "pandas", "numpy", "scipy", "sklearn", "matplotlib", "h5py")
    script = f"import sys, {package}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_public_names(package: str) -> None:
    module = importlib.import_module(package)
    listed = set(re.findall(r"import \w+ as (\w+)", (ROOT / package / "__init__.pyi").read_text()))
    assert listed == set(module.__all__)
    assert all(getattr(module, name) is not None for name in listed)


# English


def titles() -> Iterator[tuple[str, str]]:
    for path in SOURCES:
        yield relative(path), (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def test_titles_of_modules_are_noun_phrases() -> None:
    questions = re.compile(r"(What|How|Where|Which|Whose|Who|When|Why)\b")
    assert [place for place, title in titles() if not title or questions.match(title)] == []


def raises() -> Iterator[tuple[str, str]]:
    """Yield the conditions that docstrings give under Raises and Warns, with their places."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            text = ast.get_docstring(node) or ""
            for section in re.findall(r"^(?:Raises|Warns)\n-+\n(.*?)(?=^\w.*\n-{3,}|\Z)", text, re.M | re.S):
                for condition in re.findall(r"^\w.*\n    (\S.*)", section, re.M):
                    yield f"{relative(path)}:{node.lineno}", condition


def test_raises_names_the_condition() -> None:
    conditions = list(raises())
    assert len(conditions) > 100
    begins = re.compile(r"(If|As|After|When|On)\b")
    assert [place for place, condition in conditions if not begins.match(condition)] == []


def test_raises_and_titles_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "module.py"
    docstring = "Return.\n\n    Raises\n    ------\n    ValueError\n        Sometimes.\n    "
    path.write_text(f'"""What it is."""\n\n\ndef f():\n    """{docstring}"""\n')
    monkeypatch.setattr(sys.modules[__name__], "SOURCES", [path])
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert list(titles()) == [("module.py", "What it is.")]
    assert list(raises()) == [("module.py:4", "Sometimes.")]
