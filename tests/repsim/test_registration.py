"""Names in registries: what is added, replaced and refused."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from repsim import registration
from repsim.registration import RegistryKind, add_entry, add_installed, adopt, forget, own_parts
from repsim.similarity import DISTANCES, MEASURES, rdm, register_measure

REGISTRY: dict[str, Any] = {"ours": len}


def entry(name: str, given: Any, *, scale: float = 1.0) -> Any:
    return given, scale


KIND = RegistryKind("things", "thing", f"{__name__}:REGISTRY", f"{__name__}:entry")
OF_CLASS = RegistryKind("paths", "path", f"{__name__}:REGISTRY", "pathlib:PurePath")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(REGISTRY=REGISTRY, entry=entry, __file__=__file__))
    yield
    for name in set(REGISTRY) - {"ours"}:
        del REGISTRY[name]


def first() -> None:
    """A function."""


def second() -> None:
    """Another function."""


def test_an_entry_is_made_and_its_module_remembered() -> None:
    add_entry(KIND, "mine", first, {"scale": 2.0})
    assert REGISTRY["mine"] == (first, 2.0)
    (part,) = [part for part in own_parts() if part.kind is KIND]
    assert (part.name, part.source, part.module.path) == ("mine", f"{__file__}:first", Path(__file__))
    assert len(part.module.sha256) == 64
    del REGISTRY["mine"]
    assert KIND not in [part.kind for part in own_parts()]


def test_the_same_function_replaces_itself_and_another_is_refused() -> None:
    add_entry(KIND, "mine", first)
    add_entry(KIND, "mine", first, {"scale": 3.0})
    assert REGISTRY["mine"] == (first, 3.0)
    with pytest.raises(ValueError, match=r"^The name 'mine' is taken by the thing of .*test_registration\.py; "):
        add_entry(KIND, "mine", second)
    with pytest.raises(ValueError, match=r"^The name 'ours' is taken by the thing of the package; register yours"):
        add_entry(KIND, "ours", second)


@pytest.mark.parametrize("name", ["", "a,b", "a b", "2nd", "a@1", 3, None])
def test_names_that_commands_cannot_take_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^The thing cannot be named .*; use letters, digits, dots, hyphens"):
        add_entry(KIND, name, first)


def test_a_kind_may_be_a_class() -> None:
    add_entry(OF_CLASS, "here", Path("here"))
    assert REGISTRY["here"] == Path("here")
    for given, declared in (("text", {}), (Path("x"), {"scale": 1})):
        with pytest.raises(TypeError, match=r"^The path 'other' is .*; expected a PurePath, and nothing declared\.$"):
            add_entry(OF_CLASS, "other", given, declared)


def test_the_parts_of_a_module_can_be_forgotten_and_adopted() -> None:
    add_entry(KIND, "mine", first)
    (part,) = [part for part in own_parts() if part.kind is KIND]
    forget(part.module.name)
    assert "mine" not in REGISTRY
    adopt(part)
    assert REGISTRY["mine"] == part.entry


@pytest.mark.usefixtures("own")
def test_a_module_without_a_file_has_no_digest() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "register_measure": register_measure}
    exec("@register_measure('gap')\ndef gap(X, Y): return X.mean() - Y.mean()", names)
    (part,) = [part for part in own_parts() if part.name == "gap"]
    assert (part.module.path, part.module.sha256) == (None, "")
    exec("@register_measure('gap')\ndef gap(X, Y): return 2.0", names)  # the cell of a notebook, run again
    assert MEASURES["gap"]([[1], [2]], [[3], [5]]) == 2.0


# Other packages

MINE = """
from dataclasses import replace

import numpy as np
from repsim.similarity import COMPARATORS, Measure, Statistic, register_measure

gap = Measure(name="gap", prepare=lambda X, name: X.mean(), compare=lambda x, y: abs(x - y), direction="distance")
top = Statistic.from_function("top", np.max)
near = replace(COMPARATORS["cosine"], name="near")


def farthest(x, y):
    return float(np.abs(x - y).max())


@register_measure("sum")
def total(X, Y):
    return float(X.sum() + Y.sum())
"""
POINTS = """
[repsim.measures]
gap = beside_mine:gap
sum = beside_mine:total
cka = beside_mine:total
broken = nowhere:gap
[repsim.distances]
farthest = beside_mine:farthest
[repsim.comparators]
near = beside_mine:near
[repsim.statistics]
top = beside_mine:top
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make an installed package that offers entries of several kinds, one of them broken and one with a taken name."""
    (tmp_path / "mine-1.0.dist-info").mkdir()
    (tmp_path / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (tmp_path / "mine-1.0.dist-info/entry_points.txt").write_text(POINTS)
    (tmp_path / "beside_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    registration._all_points.cache_clear()
    yield
    registration._all_points.cache_clear()


@pytest.mark.usefixtures("own", "package")
def test_entry_points_of_other_packages_are_added_by_name() -> None:
    from repsim.registry_kinds import KINDS

    with pytest.warns(
        RuntimeWarning, match=r"^(broken|cka) of repsim\.measures cannot be loaded \((No mod|The name)"
    ) as caught:
        add_installed(KINDS["measures"])
    assert len(caught) == 2
    for kind in ("distances", "comparators", "statistics"):
        add_installed(KINDS[kind])
    added = {(part.kind.name, part.name) for part in own_parts()}
    assert added == {
        ("measures", "gap"),
        ("measures", "sum"),
        ("distances", "farthest"),
        ("comparators", "near"),
        ("statistics", "top"),
    }
    X = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_allclose(rdm(X, DISTANCES["farthest"]), rdm(X, "chebyshev"))
