"""Every registry takes the user's own entries in the same way."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis import register
from analysis.comparison.figures import ComparisonFigure
from analysis.comparison.tables.schema import TABLES
from analysis.execution.task import Task, pack, perform
from analysis.export.formats import FORMATS
from analysis.own_parts.registries import KINDS
from analysis.report.charts import CHARTS
from analysis.report.sections import ReportTable
from checkpoints import REDUCTIONS, Reduction, parse_reduction
from probes.table.columns import COLUMNS
from repsim.learning import Estimator, Norm, mlp
from repsim.registration import own_parts

pytestmark = pytest.mark.usefixtures("own")


class Half(Estimator):
    """g_k = t_k / 2."""

    formula = "t_k / 2"
    reference = "a test"
    needs = frozenset({"target"})

    def gradient(self, signals: Any) -> Any:
        return signals.target / 2


class Elu(nn.ELU):
    """An activation."""


def gap(X: Any, Y: Any) -> float:
    return abs(float(X.mean() - Y.mean()))


def largest(X: Any) -> float:
    return float(X.max())


def network(shape: Any, n_outputs: int, **settings: Any) -> Any:
    return mlp(shape[0], n_outputs, **settings)


def loss(output: Any, y: Any) -> Any:
    return 1 - output.softmax(-1).gather(-1, y[..., None]).squeeze(-1)


def optimizer(groups: Any) -> Any:
    return torch.optim.SGD(groups, nesterov=True, momentum=0.9)


def schedule(progress: float) -> float:
    return 1 - progress


def dataset() -> Any:
    return np.eye(6), [0, 1] * 3


def first_half(values: Any) -> Any:
    return values[:, : values.shape[1] // 2]


def solver(X: Any, y: Any, C: float, **settings: Any) -> Any:
    raise NotImplementedError


def baseline(inputs: Any, widths: Any, *, seed: int) -> Any:
    return {"first": inputs[:, :1]}


def executor(execution: Any) -> Any:
    raise NotImplementedError


def figure(tables: Any) -> Any:
    """Two points."""
    return plt.figure()


def table(tables: Any) -> pd.DataFrame:
    return pd.DataFrame({"one": [1]})


OWN: dict[str, Any] = {
    "measures": gap,
    "distances": gap,
    "comparators": gap,
    "statistics": largest,
    "rules": Half,
    "networks": network,
    "norms": Norm(nn.BatchNorm1d, nn.BatchNorm2d),
    "activations": Elu,
    "losses": loss,
    "optimizers": optimizer,
    "schedules": schedule,
    "datasets": dataset,
    "reductions": first_half,
    "columns": COLUMNS["accuracy"],
    "solvers": solver,
    "baselines": baseline,
    "executors": executor,
    "tables": TABLES["undefined"],
    "figures": figure,
    "report_tables": table,
    "charts": CHARTS["structure"],
    "formats": FORMATS["csv"],
}


def other(*_: Any) -> Any:
    """A function that is not the registered one."""


def look(*, kind: str, name: str, path: Path) -> None:
    path.write_text(repr(name in KINDS[kind].registry))


def test_there_is_an_example_of_every_kind() -> None:
    assert set(OWN) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_registry_takes_own_entries_sends_them_to_workers_and_refuses_clashes(kind: str, tmp_path: Path) -> None:
    registry, given = KINDS[kind].registry, OWN[kind]
    assert register(kind, "mine")(given) is given
    register(kind, "mine")(given)  # a cell of a notebook that is run again
    entry = registry["mine"]
    (part,) = own_parts()
    assert (part.kind.name, part.name) == (kind, "mine")
    assert part.source.startswith(__file__)

    task = Task("look", look, {"kind": kind, "name": "mine", "path": tmp_path / "found"})
    packed = pack(task)
    del registry["mine"]
    with pytest.raises(ValueError, match=r"^The [\w ]+ 'mine' is not registered when .* is imported"):
        perform(packed)  # as its module has been imported, but does not register it again
    registry["mine"] = entry
    perform(packed)
    assert (tmp_path / "found").read_text() == "True"

    taken = next(name for name in registry if name.isidentifier())
    for name in {taken, "mine"} - ({"mine"} if not callable(given) or isinstance(given, Norm) else set()):
        with pytest.raises(ValueError, match=rf"^The name '{name}' is taken by the [\w ]+ of .*; register yours"):
            register(kind, name)(other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_registry_refuses_what_it_cannot_use(kind: str) -> None:
    with pytest.raises(TypeError, match=r"^The [\w ]+ 'mine' is 3; expected "):
        register(kind, "mine")(3)
    assert "mine" not in KINDS[kind].registry


def test_an_unknown_registry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^There is no registry 'measure'\. Choose one of: measures, distances,"):
        register("measure", "mine")


# Forms of entries


class Mean(Reduction):
    def __call__(self, values: Any, inputs: Any) -> Any:
        return values.flatten(1).mean(1, keepdim=True)


def test_a_reduction_is_a_class_or_a_function_and_is_parsed_by_name() -> None:
    register("reductions", "mean")(Mean)
    assert REDUCTIONS["mean"] is Mean
    register("reductions", "half")(first_half)
    half = parse_reduction("half")
    assert str(half) == "half"
    assert half(torch.ones(2, 6), torch.ones(2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("kind", "given", "error", "message"),
    [
        (
            "reductions",
            dict,
            TypeError,
            "^The reduction 'x' is <class 'dict'>; expected a subclass of Reduc",
        ),
        (
            "reductions",
            lambda values: values[:2],
            ValueError,
            r"^The reduction 'x' returned \(2, 6\) for",
        ),
        (
            "reductions",
            lambda: 0,
            TypeError,
            r"^The reduction 'x' is a function of \(\); expected one of \(",
        ),
        (
            "solvers",
            lambda X: 0,
            TypeError,
            r"^The probe solver 'x' is a function of \(X\); expected one of \(",
        ),
        (
            "baselines",
            lambda X: 0,
            TypeError,
            r"^The baseline 'x' is a function of \(X\); expected one of",
        ),
    ],
)
def test_entries_of_the_lower_packages_are_checked(kind: str, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        register(kind, "x")(given)


def test_a_figure_declares_its_heading_and_table() -> None:
    register("figures", "mine", heading="Mine", table="probes")(figure)
    made = KINDS["figures"].registry["mine"]
    assert isinstance(made, ComparisonFigure)
    assert (made.heading, made.table, made.caption(None)) == ("Mine", "probes", "Two points.")
    with pytest.raises(ValueError, match=r"^The figure 'x' shows the table 'none', which does not exist\. Choose"):
        register("figures", "x", table="none")(figure)


def test_a_report_table_declares_its_heading() -> None:
    register("report_tables", "mine", heading="Mine", words="Said above it.")(table)
    made = KINDS["report_tables"].registry["mine"]
    assert made == ReportTable(heading="Mine", link="Mine", build=table, words="Said above it.")
    register("report_tables", "whole")(made)
    assert KINDS["report_tables"].registry["whole"] is made
