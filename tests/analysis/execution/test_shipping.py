"""Own parts that travel with tasks, and keys of tasks that depend on their source."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from analysis import AnalysisConfig, ExecutionConfig, analyze_run, import_parts, train_run
from analysis.comparison.figures import FIGURES
from analysis.execution.cache import Cache
from analysis.execution.shipping import Shipment, own_digests, parts_identity
from analysis.execution.task import Task, pack, perform
from analysis.workflows.analyze import plan_run
from repsim import registration
from repsim.learning import TrainingConfig
from repsim.registration import own_parts
from repsim.similarity import MEASURES, Measure, register_measure

pytestmark = pytest.mark.usefixtures("own")

PARTS = """
from repsim.similarity import register_measure

@register_measure("gap")
def gap(X, Y):
    return {factor} * float(X.mean() - Y.mean())
"""


def measure(folder: Path, *, measure: str) -> Any:
    import pandas as pd

    return {"value": pd.DataFrame({"value": [MEASURES[measure]([[3], [5]], [[1], [2]])]})}


def define(code: str, **names: Any) -> Callable[..., Any]:
    """Define a measure "gap" as a notebook does: in a module without a file."""
    scope: dict[str, Any] = {"__name__": "__main__", "register_measure": register_measure, **names}
    exec(f"@register_measure('gap')\ndef gap(X, Y):\n    return {code}", scope)
    found: Callable[..., Any] = scope["gap"]
    return found


def task(folder: Path) -> Task:
    return Task("value", measure, {"measure": "gap"}, cache=Cache(folder))


def test_an_edited_file_makes_results_of_its_parts_stale_and_no_others(tmp_path: Path) -> None:
    others = Task("value", measure, {"measure": "cka"})
    parts, before = tmp_path / "parts.py", others.key
    keys, identities = set(), []
    for factor in (1, 2):
        parts.write_text(PARTS.format(factor=factor))
        import_parts(parts)
        each = task(tmp_path)
        each.run()
        assert each.result().tables["value"]["value"].tolist() == [2.5 * factor]
        keys.add(each.key)
        identities.append(parts_identity())
        assert Task("value", measure, {"measure": "cka"}).key == before
    assert len(keys) == 2
    assert identities[0] != identities[1]


def test_a_part_of_a_notebook_travels_by_value_with_what_it_uses(tmp_path: Path) -> None:
    define("scale * float(X.mean() - Y.mean())", scale=2)
    (part,), sent = own_parts(), task(tmp_path)
    packed, digests = pack(sent), own_digests('["gap"]')
    del MEASURES["gap"]
    perform(packed)
    assert sent.result().tables["value"]["value"].tolist() == [5.0]
    assert own_digests('["gap"]') == digests  # as in the process that sent it
    assert own_parts()[0].source == part.source


def test_a_part_of_a_notebook_that_changes_or_uses_something_else_is_computed_anew(tmp_path: Path) -> None:
    keys, identities = [], []
    for code, scale in (("scale * 1.0", 1), ("scale * 1.0", 1), ("scale * 1.0", 2), ("scale + 1.0", 1)):
        define(code, scale=scale)
        keys.append(task(tmp_path).key)
        identities.append(str(parts_identity()))
    assert len(set(keys)) == len(set(identities)) == 3
    assert keys[0] == keys[1]


def test_a_module_beside_the_main_script_counts_for_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "beside_main.py"
    helper.write_text("a = 1")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "script.py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    import beside_main  # type: ignore[import-not-found]  # noqa: F401

    define("1.0")
    before = task(tmp_path).key
    helper.write_text("a = 2")
    assert task(tmp_path).key != before


def test_what_cannot_be_sent_is_refused_with_advice(tmp_path: Path) -> None:
    define("float(len(str(lock)))", lock=sys._getframe())
    message = r"^The measure 'gap' is defined in a notebook or the main script, and cannot be sent to .*Put it into a"
    with pytest.raises(ValueError, match=message):
        pack(task(tmp_path))


def test_a_part_that_its_module_does_not_register_when_imported_is_refused(tmp_path: Path) -> None:
    late = "from repsim.similarity import register_measure\ndef add():\n    register_measure('gap')(gap)\n"
    (tmp_path / "parts.py").write_text(late + "def gap(X, Y): return 1.0\n")
    module = import_parts(tmp_path / "parts.py")
    sys.modules[module.name].add()
    shipment = Shipment.of_this_process()
    del MEASURES["gap"]
    with pytest.raises(ValueError, match=r"^The measure 'gap' is not registered when own_parts_\w+ is imported"):
        shipment.unpack()


def test_installed_packages_count_for_the_identity_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine-1.0.dist-info").mkdir()
    (tmp_path / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (tmp_path / "mine-1.0.dist-info/entry_points.txt").write_text("[repsim.figures]\nmine = beside_package:draw\n")
    (tmp_path / "beside_package.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    registration._all_points.cache_clear()
    try:
        ((kind, name, module, before),) = parts_identity()
        assert (kind, name, module) == ("figures", "mine", "beside_package")
        (tmp_path / "beside_package.py").write_text("")
        assert parts_identity()[0][3] != before
    finally:
        registration._all_points.cache_clear()


def test_without_own_parts_nothing_travels_and_keys_are_as_they_were() -> None:
    assert Shipment.of_this_process() == Shipment((), (), b"")
    assert own_digests('["cka"]') == parts_identity() == []
    assert cloudpickle.loads(cloudpickle.dumps(Shipment((), (), b""))).unpack() is None


def test_an_entry_that_was_assigned_directly_is_refused_where_results_are_stored(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AnalysisConfig(measures=("gap",), steps="last")
    message = r"^The measure 'gap' was put into MEASURES directly.* Register it instead: @analysis.register\(\"measures"
    with monkeypatch.context() as patched:
        patched.setitem(MEASURES, "gap", Measure.from_function("gap", lambda X, Y: 1.0))
        with pytest.raises(ValueError, match=message):
            analyze_run(runs["backprop"], config=config, output=tmp_path)
        with pytest.raises(ValueError, match=message):
            _ = task(tmp_path).key
        assert own_digests('["cka"]') == []
    with monkeypatch.context() as patched:
        patched.setitem(MEASURES, "cka", Measure.from_function("cka", lambda X, Y: 1.0))
        with pytest.raises(ValueError, match=r"^The measure 'cka' was put into MEASURES directly"):
            own_digests('["cka"]')
    assert not list(tmp_path.iterdir())


def test_a_figure_that_was_assigned_directly_is_refused_as_all_figures_are_drawn(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FIGURES, "mine", FIGURES["training"])
    with pytest.raises(ValueError, match=r"^The figure 'mine' was put into FIGURES directly"):
        analyze_run(runs["backprop"], output=tmp_path)


EDITED = """
from analysis import register
from probes.table.columns import ProbeColumn
from repsim.learning import Estimator, register_rule

@register_rule("part")
class Part(Estimator):
    formula, reference, needs = "t_k / n", "a test", frozenset({{"target"}})

    def gradient(self, signals):
        return signals.target / {n}

register("columns", "n")(ProbeColumn(dtype="float64", meaning="n", compute=lambda probed: float({n})))
"""


def test_an_edited_rule_or_column_changes_the_tables_that_use_it(tmp_path: Path, tiny: TrainingConfig) -> None:
    execution = ExecutionConfig(executor="serial")
    parts, keys = tmp_path / "parts.py", []
    for n in (2, 4):
        parts.write_text(EDITED.format(n=n))
        import_parts(parts)
        if n == 2:
            train_run(tmp_path / "run", replace(tiny, rule="part@1"))
        plan = plan_run(tmp_path / "run", AnalysisConfig(steps="last"))
        keys.append({task.name: task.key for task in plan.tasks})
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"probes", "gradient_quality"}
    tables = analyze_run(tmp_path / "run", config=AnalysisConfig(steps="last"), execution=execution).tables
    assert set(tables["probes"]["n"]) == {4.0}
    assert tables["signals"]["relative_error"][0] == pytest.approx(0.75)
