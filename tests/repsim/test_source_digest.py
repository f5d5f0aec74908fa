from pathlib import Path

import pytest

from repsim.source_digest import digest_of_module, digest_of_source


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("changed", ["parts", "helper", "deeper", "package__in__inner"])
def test_the_digest_changes_with_each_file_that_is_imported(tmp_path: Path, changed: str) -> None:
    write(
        tmp_path,
        parts="import numpy\nfrom helper import f\nfrom package import inner\nimport repsim",
        helper="def f():\n    import deeper",
        deeper="",
        package__in____init__="",
        package__in__inner="",
        other="",
        repsim="",
    )
    before = digest_of_source(tmp_path / "parts.py")
    assert [path.name for path in before.files] == ["deeper.py", "helper.py", "__init__.py", "inner.py", "parts.py"]
    write(tmp_path, other="1", repsim="1")
    assert digest_of_source(tmp_path / "parts.py") == before
    write(tmp_path, **{changed: (tmp_path / f"{changed.replace('__in__', '/')}.py").read_text() + "\n# changed"})
    assert digest_of_source(tmp_path / "parts.py").sha256 != before.sha256


def test_a_package_consists_of_its_own_files_wherever_it_lies(tmp_path: Path) -> None:
    for place in ("site-packages", "elsewhere"):
        write(
            tmp_path / place,
            mine__in____init__="",
            mine__in__parts="from . import helper\nfrom .helper import f\nimport other",
            mine__in__helper="f = 1",
            mine__in__unused="",
            other="",
        )
    found = [digest_of_source(tmp_path / place / "mine/parts.py") for place in ("site-packages", "elsewhere")]
    assert [path.name for path in found[0].files] == ["__init__.py", "helper.py", "parts.py"]
    assert found[0].sha256 == found[1].sha256


def test_a_file_that_is_no_python_has_a_digest(tmp_path: Path) -> None:
    write(tmp_path, parts="def (")
    assert digest_of_source(tmp_path / "parts.py").files == (tmp_path / "parts.py",)


def test_modules_have_the_digest_of_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, mine__in____init__="raise RuntimeError", mine__in__parts="", single="")
    monkeypatch.syspath_prepend(tmp_path)
    assert digest_of_module("mine.parts") == digest_of_source(tmp_path / "mine/parts.py")
    assert digest_of_module("single") == digest_of_source(tmp_path / "single.py")
    for name in ("mine.missing", "missing_module", "math"):
        assert digest_of_module(name) is None
