"""Tables of a comparison: their names, what one row is, and the meaning of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from checkpoints import Damaged

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMPARATORS_SHOWN", "TABLES", "Column", "TableSchema", "document_tables", "read_table"]


class Column(NamedTuple):
    """The meaning of a column, and whether it is text, which stays text where values look like numbers.

    A column of a probe without a meaning has that of ``probes.table.columns.COLUMNS``.
    """

    meaning: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class TableSchema:
    """What one row of a table is, its columns, and the columns whose names depend on the settings (``rest``)."""

    row: str
    columns: Mapping[str, Column]
    rest: str = ""


COMPARATORS_SHOWN = ("pearson", "spearman")  # entries of `COMPARATORS`; each is a column of rdm_similarity

_VIEW = {
    "view": Column("name of the network; with its step where one network is shown at several", is_text=True),
    "run": Column("absolute path of the run", is_text=True),
    "step": Column("recorded step"),
}
_LAYER = {
    "layer": Column("name of the layer", is_text=True),
    "depth": Column("position among the recorded layers, from 1"),
}
_METHOD = {"method": Column("networks that differ in nothing but their seed share one method", is_text=True)}
_STATUS = {
    "status": Column("ok, or why there is no value", is_text=True),
    "message": Column("the reason in a sentence; empty if the status is ok", is_text=True),
}
_OVER_SEEDS = {
    "standard_error": Column("standard error over seeds"),
    "low": Column("lower end of a 95 % interval for this layer alone"),
    "high": Column("upper end of the same interval"),
    "band_low": Column("lower end of a 95 % band that covers all layers of the method at once"),
    "band_high": Column("upper end of the same band"),
}
_PAIR = {
    f"{name}_{side}": column._replace(meaning=f"{column.meaning}, of layer {side}")
    for side in "ab"
    for name, column in {"view": _VIEW["view"], **_LAYER}.items()
}

_PROBED = (
    *("n_constant", "n_train", "n_validation", "n_test", "C", "C_at_edge", "C_extended", "accuracy"),
    *("balanced_accuracy", "log_loss", "train_accuracy", "validation_log_loss", "chance", "v_information"),
    *("relative_gap", "n_iter", "converged"),
)

TABLES: dict[str, TableSchema] = {
    "probes": TableSchema(
        "a view and layer",
        {
            **_VIEW,
            **_LAYER,
            "d": Column(),
            **_METHOD,
            "seed": Column("seed of the network; 0 if it is the only one of its method"),
            **dict.fromkeys(_PROBED, Column()),
            "C_extended": Column("decades by which the default grid was extended; empty if `--Cs` was given"),
            **_STATUS,
        },
    ),
    "probe_bands": TableSchema(
        "a method and layer",
        {
            **_METHOD,
            "layer": _LAYER["layer"],
            "n_seeds": Column("networks of the method"),
            "mean": Column("mean accuracy over seeds"),
            **_OVER_SEEDS,
            **_STATUS,
            "depth": _LAYER["depth"],
        },
    ),
    "probe_differences": TableSchema(
        "a method and layer, for methods that have the seeds of the first method (two or more)",
        {
            **_METHOD,
            **_LAYER,
            "n_seeds": Column("pairs of networks with equal seeds"),
            "difference": Column("accuracy minus that of the first method, mean over pairs of equal seeds"),
            **_OVER_SEEDS,
            "p_value": Column("p-value for this layer alone (paired t-test)"),
            "p_adjusted": Column("p-value adjusted for all layers (permutation test, max-T)"),
            "p_least": Column("smallest adjusted p-value that so few seeds can give"),
            **_STATUS,
        },
    ),
    "first_layers": TableSchema(
        "a view and fraction",
        {
            "view": _VIEW["view"],
            **_METHOD,
            "seed": Column("seed of the network"),
            "fraction": Column("fraction of the accuracy at the last layer"),
            "depth": Column("depth of the first layer whose accuracy reaches that fraction"),
            "layer": Column("name of this layer", is_text=True),
            "n_layers": Column("number of layers"),
            **_STATUS,
        },
    ),
    "class_structure": TableSchema(
        "a view and layer",
        {
            **_VIEW,
            **_LAYER,
            "class_structure": Column("mean distance between classes minus mean distance within classes"),
            "fraction_of_final": Column("the same, divided by that of the view's last layer"),
        },
    ),
    "similarity": TableSchema(
        "an ordered pair of layers",
        _PAIR,
        "one column per measure of `--measures` (`cka`, unbiased and linear, by default); of an asymmetric measure, "
        "the row is of layer a as X and layer b as Y ([measures.md](measures.md))",
    ),
    "rdm_similarity": TableSchema(
        "a view other than the reference, and layer",
        {
            **_VIEW,
            "reference": Column("the first view", is_text=True),
            **_LAYER,
            "pearson": Column("Pearson correlation of the RDM with that of the reference's layer of the same name"),
            "spearman": Column("Spearman correlation of the same RDMs"),
        },
    ),
    "undefined": TableSchema(
        "a layer of a view that lacks a result; no rows if every layer has every result",
        {
            **_VIEW,
            **_LAYER,
            "results": Column("missing ones of rdm, class_structure, rdm_similarity, probes, measures", is_text=True),
            "reason": Column("why the first of them is undefined", is_text=True),
        },
    ),
    "training": TableSchema(
        "a run and epoch",
        {
            "epoch": Column("epoch, from 1"),
            "loss": Column("mean training loss over the batches of the epoch (nats)"),
            "accuracy": Column("mean training accuracy over the batches of the epoch"),
            "validation_loss": Column("loss on the validation part at the end of the epoch (nats)"),
            "validation_accuracy": Column("accuracy on the validation part at the end of the epoch"),
            "view": Column("name of the network", is_text=True),
        },
        "of runs that were trained elsewhere, every number that they logged per epoch",
    ),
    "gradients": TableSchema(
        "a run, diagnosed step and boundary; of a rule that only observes, the gradient that it would have chosen",
        {
            "view": Column("name of the network", is_text=True),
            "step": Column("diagnosed step"),
            "boundary": Column("boundary of the network"),
            "rule": Column("rule that acts at the boundary; empty if the run does not record it", is_text=True),
            "norm": Column("norm of the chosen gradient g, root mean square over examples"),
            "true_norm": Column("norm of the true gradient t, root mean square over examples"),
            "relative_error": Column("‖g − t‖ / ‖t‖"),
            "cosine": Column("cosine between g and t"),
            "angle": Column("angle between g and t (degrees); empty if one of them is zero"),
            "estimator_loss": Column("loss that the estimator minimises; empty if the rule learns nothing"),
        },
    ),
}

_TEXTS = {name: str for table in TABLES.values() for name, column in table.columns.items() if column.is_text}


def read_table(path: Path) -> pd.DataFrame:
    """Return a table that was written as CSV, with exactly the written numbers; empty cells are NaN.

    Columns that are text in ``TABLES`` are read as text.
    """
    import pandas as pd

    # The nearest double is what pandas reads by default since version 3.
    exactly: dict[str, Any] = {} if int(pd.__version__.partition(".")[0]) >= 3 else {"float_precision": "round_trip"}
    try:
        return pd.read_csv(path, dtype=_TEXTS, keep_default_na=False, na_values=[""], **exactly)
    except ValueError as error:  # the base class of what pandas raises
        raise Damaged(f"{path} is not a table of comma-separated values ({str(error).strip()}).") from error


def document_tables() -> str:
    """Return a section of Markdown for each table: what one row is, and a list of the columns."""
    from probes.table.columns import COLUMNS  # imports torch, which reading needs not

    sections = []
    for name, table in TABLES.items():
        rows = [
            f"| `{column}` | {described.meaning or COLUMNS[column].meaning} |"
            for column, described in table.columns.items()
        ]
        rest = [f"\nFurther columns: {table.rest}."] if table.rest else []
        head = [f"## {name}.csv\n", f"One row is {table.row}.\n", "| column | meaning |", "|---|---|"]
        sections.append("\n".join([*head, *rows, *rest]) + "\n")
    return "\n".join(sections)
