"""Files and modules with the user's own parts: imported, imported again, and refused."""

import sys
from pathlib import Path

import pytest

import analysis
from analysis import import_parts
from analysis.own_parts import importing
from analysis.own_parts.importing import imported_by_request, imported_modules, load
from repsim.registration import PartModule, own_parts
from repsim.similarity import MEASURES

pytestmark = pytest.mark.usefixtures("own")

PARTS = """
from repsim.similarity import register_measure

@register_measure("gap")
def gap(X, Y):
    return {factor} * float(X.mean() - Y.mean())
"""


def value() -> float:
    return MEASURES["gap"]([[3], [5]], [[1], [2]])


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    path = tmp_path / "my_parts.py"
    path.write_text(PARTS.format(factor=1))
    return path


def test_a_file_is_imported_and_imported_again_when_it_changes(parts: Path) -> None:
    first = import_parts(parts)
    assert value() == 2.5
    assert import_parts(str(parts)) == first
    parts.write_text(PARTS.format(factor=2))  # of the same size and, mostly, the same second
    second = import_parts(parts)
    assert (value(), second.name, second.sha256 == first.sha256) == (5.0, first.name, False)
    assert imported_modules() == imported_by_request() == [second]


def test_a_changed_file_beside_it_is_read_again_too(parts: Path) -> None:
    helper = parts.with_name("beside_it.py")
    helper.write_text("FACTOR = 1")
    parts.write_text("from beside_it import FACTOR\n" + PARTS.format(factor="FACTOR"))
    import_parts(parts)
    helper.write_text("FACTOR = 3")
    import_parts(parts)
    assert value() == 7.5


def test_an_entry_that_a_file_no_longer_has_is_removed(parts: Path) -> None:
    import_parts(parts)
    parts.write_text("")
    import_parts(parts)
    assert "gap" not in MEASURES


@pytest.mark.parametrize("name", ["analysis.py", "probes.py", "numpy.py"])
def test_a_file_hides_no_module_of_its_name(parts: Path, name: str) -> None:
    path = parts.rename(parts.with_name(name))
    before = sys.modules[path.stem]
    import_parts(path)
    assert value() == 2.5
    assert sys.modules[path.stem] is before
    assert analysis.__file__ is not None


def test_a_module_is_imported_by_name_also_from_the_working_directory(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parts.rename(parts.with_name("beside_parts.py"))
    monkeypatch.chdir(parts.parent)
    assert import_parts("beside_parts").path == path
    assert value() == 2.5
    path.write_text(PARTS.format(factor=2))
    import_parts("beside_parts")
    assert value() == 5.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (", r"my_parts\.py cannot be imported: SyntaxError: "),
        ("raise SystemExit(3)", r"my_parts\.py cannot be imported: SystemExit: 3"),
        (
            "import nothing_here",
            r"my_parts\.py cannot be imported: ModuleNotFoundError: No module named 'nothing_here'",
        ),
        (
            PARTS.replace('"gap")', '"gap", range=(7, 8))').format(factor=1),
            r"my_parts\.py cannot be imported: The measure 'gap' is -?[\d.]+ for random data, outside its",
        ),
    ],
)
def test_a_file_that_fails_is_reported_in_one_sentence(parts: Path, text: str, message: str) -> None:
    parts.write_text(text)
    with pytest.raises(ValueError, match=message):
        import_parts(parts)
    assert own_parts() == imported_modules() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "missing.py",
            r"^There is no file .*missing\.py to import; give the path of a Python file, or the n",
        ),
        ("my parts", "^'my parts' is neither a Python file nor the name of a module; give a path that ends in .py"),
        ("nothing_here", "^nothing_here cannot be imported: ModuleNotFoundError: No module named 'nothing_here'"),
    ],
)
def test_what_cannot_be_imported_is_named(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_parts(given)


# Other processes


def forget_all(module: PartModule) -> None:
    """Return to the state of a new process."""
    importing._IMPORTED.clear()
    importing.forget(module.name)


def test_a_worker_imports_what_the_command_imported(parts: Path) -> None:
    module = import_parts(parts)
    forget_all(module)
    load([module])
    assert value() == 2.5
    load([module])  # a second task
    assert imported_modules() == [module]


def test_a_worker_refuses_a_file_that_has_changed_since(parts: Path) -> None:
    module = import_parts(parts)
    forget_all(module)
    parts.write_text(PARTS.format(factor=2))
    with pytest.raises(ValueError, match=r"my_parts\.py, or a file that it imports, has changed since the"):
        load([module])
    parts.unlink()
    with pytest.raises(ValueError, match=r"my_parts\.py, which the command imported, is not here\. Workers must"):
        load([module])


def test_a_file_that_changes_itself_is_refused(parts: Path) -> None:
    parts.write_text("from pathlib import Path\nPath(__file__).write_text('# changed')\n")
    with pytest.raises(ValueError, match=r"my_parts\.py was changed while it was imported\. Give the command again"):
        import_parts(parts)


def test_a_worker_finds_a_module_that_a_script_imported_without_being_told(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.rename(parts.with_name("beside_script.py"))
    monkeypatch.syspath_prepend(parts.parent)
    import beside_script  # type: ignore[import-not-found]

    (module,) = imported_modules()
    assert (module.name, str(module)) == (beside_script.__name__, beside_script.__file__)
    forget_all(module)
    sys.path.remove(str(parts.parent))  # a worker elsewhere
    del sys.modules["beside_script"]
    load([module])
    assert value() == 2.5
