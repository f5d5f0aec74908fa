"""Reference pages written from the code: commands, settings files, learning rules, similarity measures.

``python docs/generate.py`` writes them; with ``--check`` it only lists those that are out of date, and fails.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from typer.core import TyperGroup

from analysis.cli import app
from analysis.comparison.tables.schema import document_tables
from analysis.config.json_schema import json_schema
from probes.table.column_schema import column_table
from repsim.learning import catalogue
from repsim.similarity import COMPARATORS, DISTANCES, MEASURES, STATISTICS

HERE = Path(__file__).parent
NOTE = "<!-- Written by `make docs` from the code; do not edit. -->\n\n"


def commands(app: typer.Typer = app) -> str:
    """Return the help of every command of an application."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    module = (
        "Also as `python -m analysis COMMAND`, from a folder without an `analysis.py`, which Python would run instead."
    )
    sections = [f"# Commands\n\n{module}\n\n{_SETTINGS_FILES}"]
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=None, resilient_parsing=True, terminal_width=80)
        context.info_name = f"repsim {name}"
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        sections.append(f"## repsim {name}\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


_SETTINGS_FILES = """\
Options can also be set in the file `repsim.toml` of the working directory: those of `train` in the tables `[training]`
and `[recording]`, those of `analyze` and `compare` in `[analysis]`, those that say how `compare` and `power` treat arms
in `[comparison]`, those that say how `record` captures a model in `[capture]`, and those that choose where tasks run in
`[execution]`. A key is the name of its option, with `_` for `-`; only `--record` is the key `steps` of `[recording]`,
`--control` and `--smallest-effect` are the lists `controls` and `smallest_effects`, and `--no-weights` is
`save_weights = false`. The list `import`, at the top of `repsim.toml`, names files with
[your own parts](own-parts.md), as `--import` does. Options on the command line override the file of
`--config`, which overrides `repsim.toml`.

An editor that knows JSON Schema (for example with the TOML language server Taplo) completes and checks these files, and
sweep files, if their first line is `#:schema PATH`, with the path of [repsim.schema.json](repsim.schema.json).
"""


def rules() -> str:
    """Return the table of learning rules, and their options."""
    table = [
        "# Learning rules\n",
        "A learning rule chooses g_k, the vector that is used in place of N · ∂L/∂h_k at boundary k. Its locks follow "
        "from the signals that it needs: a segment is *update locked* if it can learn only after the segments above "
        "have run, and *backward locked* if it must also wait for their backward pass. All rules are forward locked. "
        "`repsim train --rule NAME:option=value@BOUNDARIES` trains with a rule. Every rule that chooses its own "
        "gradient also has the option `observe=true`: it then learns while the network uses backprop.\n",
        "| rule | g_k | also learns | needs | locked |",
        "|---|---|---|---|---|",
    ]
    details = [
        "",
        "## Options\n",
        "| rule | options and their defaults | default boundaries | reference |",
        "|---|---|---|---|",
    ]
    for entry in catalogue():
        needs, locked = ", ".join(entry.needs) or "-", ", ".join(entry.locks) or "-"
        options = "<br>".join(
            f"`{name}={_as_typed(value)}`: {entry.meanings[name]}" for name, value in entry.options.items()
        )
        cells = [f"`{entry.name}`", *map(_escaped, (entry.formula, entry.learns)), needs, locked]
        table.append(f"| {' | '.join(cells)} |")
        details.append(f"| `{entry.name}` | {options or '-'} | {entry.places} | {entry.reference} |")
    return "\n".join(table + details) + "\n" + _NOTES_ON_RULES


def _as_typed(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _escaped(formula: str) -> str:
    return formula.replace("|", "\\|")


_NOTES_ON_RULES = """
## Notation

All quantities are per example: h_k is the activation at boundary k; t_k is the pull-back of g_{k+1} through segment
k + 1; τ_k is the true gradient N · ∂L/∂h_k, by exact backprop through all segments above, whatever rules act there;
δ_{k+1} is the pull-back of g_{k+1} to the output of an affine map of segment k + 1; e is the gradient of the loss with
respect to the output; y is the one-hot label.

## A control of gradient quality

`disturbed-gradient` uses the true gradient, turned by a given angle towards noise and scaled to a given norm. With
`like`, angle and norm are those that another run logged at that update and boundary, for example a run with synthetic
gradients:

    repsim train runs/sg --seeds 0-4 --rule synthetic-gradient --diagnose every:10
    repsim train runs/control --seeds 0-4 --rule "disturbed-gradient:like=runs/sg/seed-{seed}@middle"

The gradients of the two runs are then equally good by these two numbers, and their errors differ in kind: what a
synthetic gradient gets wrong may be the same for many examples, noise is independent. An effect of the synthetic
gradients that the control does not show is not explained by angle and norm. Noise averages out over the examples of a
batch in the gradients of weights; `gradient_bias_variance` measures what is left of an error there.

Angle and norm are over all examples and units of a batch, and are interpolated linearly between diagnosed updates. A
path in `like` must not contain a comma or an @. A relative path is relative to the working directory, also when a run
is resumed.

## Recurrent networks

Between the windows of a recurrent network one rule acts at all boundaries, and t is what the next window passes down;
[recurrent.md](recurrent.md) has the equations.

## Choices not specified in the literature

- Kickback is defined for one output. For several classes β is e at the true class; with `error=sum` it is the sum of e,
  which is 0 for the log loss.
- SG + prop adds the gradient of the module's regression loss to the gradient of the network. As that loss depends on
  t_k, the rule is backward locked. `synthetic-gradient@K` is a synthetic gradient at boundary K with backprop below it.
- The magnitudes of sign-symmetric feedback: `uniform` is the root mean square of the initial weights.
- Feedback alignment differentiates norms and nonlinearities exactly, and uses one B per affine map of a segment.
- For feature maps the B of direct feedback has a column for every unit.
- The standard deviation of noise is by default the root mean square of the first target, the size of a gradient.
"""


def measures() -> str:
    """Return the tables of measures, statistics, distances and comparators."""
    return "\n".join(
        [
            "# Measures\n",
            "n is the number of stimuli, d of features, m = n (n − 1) / 2 of pairs of stimuli. X and Y are "
            "representations with centred columns unless stated otherwise, x and y are patterns, a and b are RDMs.\n",
            *_table_of_measures(),
            *_table(
                "## Statistics of one representation",
                ("name", "formula", "range", "labels", "invariant to", "cost", "use", "reference"),
                [
                    (
                        f"`{name}`",
                        each.about.formula,
                        _range(each.range),
                        "yes" if each.needs_labels else "no",
                        ", ".join(sorted(each.invariances)) or "nothing",
                        each.about.cost,
                        each.about.use,
                        each.about.reference,
                    )
                    for name, each in STATISTICS.items()
                ],
            ),
            *_table(
                "## Distances between stimuli",
                ("name", "formula", "range", "needs", "reference"),
                [
                    (
                        f"`{name}`",
                        each.about.formula,
                        _range(each.range),
                        ", ".join(sorted(each.needs)) or "-",
                        each.about.reference,
                    )
                    for name, each in DISTANCES.items()
                ],
            ),
            *_table(
                "## Comparators of RDMs",
                ("name", "formula", "range", "ignores", "weighted", "best model", "cost", "use", "reference"),
                [
                    (
                        f"`{name}`",
                        each.about.formula,
                        _range(each.range),
                        ", ".join(sorted(each.ignores)) or "nothing",
                        "no" if each.weighted is None else "yes",
                        "exact" if each.is_exact_pool else "approximate",
                        each.about.cost,
                        each.about.use,
                        each.about.reference,
                    )
                    for name, each in COMPARATORS.items()
                ],
            ),
            _NOTES_ON_MEASURES,
        ]
    )


def _table_of_measures() -> list[str]:
    return _table(
        "## Measures between representations",
        ("name", "label", "formula", "range", "kind", "metric", "invariant to", "streams", "cost", "use", "reference"),
        [
            (
                f"`{name}`",
                each.label,
                each.about.formula,
                _range(each.range),
                each.direction if each.is_symmetric else f"{each.direction} (asymmetric)",
                "yes" if each.is_metric else "no",
                ", ".join(sorted(each.invariances)) or "nothing",
                "no" if each.streamed is None else "yes",
                each.about.cost,
                each.about.use,
                each.about.reference,
            )
            for name, each in MEASURES.items()
        ],
    )


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"{title}\n", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(map(_escaped, row))} |" for row in rows), ""]


def _range(bounds: tuple[float, float]) -> str:
    return " to ".join("∞" if bound == math.inf else "−∞" if bound == -math.inf else f"{bound:.4g}" for bound in bounds)


_NOTES_ON_MEASURES = """## Notes

- *Streams*: `streamed_pairwise` and `Moments` compute the measure in one pass over blocks of stimuli.
- *Weighted*: the comparator has a weighted form, so that stimuli are bootstrapped; otherwise the jackknife is used.
- *Best model*: whether the pooled RDM of a noise ceiling maximises the mean value of that comparator.
- `stochastic_procrustes` compares representations with trials (n, trials, d) and is therefore in no table.
- Not included: representation topology divergence (RTD) and the intrinsic multi-scale distance (IMD). No maintained
  package computes them (the projects `rtd` and `msid` of the Python Package Index are something else), and the code of
  their papers is not packaged.
"""


def schema() -> str:
    """Return the JSON Schema of settings files."""
    return json.dumps(json_schema(), indent=2) + "\n"


def tables() -> str:
    """Return the tables of a comparison and the meaning of their columns."""
    introduction = (
        "# Tables of a comparison\n\n`repsim analyze` and `repsim compare` write these tables as CSV. In Python, "
        "`result.tables` is a mapping with the same names, without `.csv`. A *view* is one network at one recorded "
        "step; the first view is the reference. All tables but the fits of probes, and the means over batches in "
        '`signals.csv`, use the held-out stimuli (split "test").\n\n'
    )
    return introduction + document_tables()


_FIRST, _LAST = "<!-- Columns, written by `make docs` from the code: -->\n\n", "\n<!-- End of columns. -->"


def probes() -> str:
    """Return the guide to probes with the current table of columns between its two marks."""
    before, _, rest = (HERE / "probes.md").read_text().partition(_FIRST)
    _, mark, after = rest.partition(_LAST)
    assert mark, f"probes.md has no marks {_FIRST.strip()} and {_LAST.strip()}"
    return f"{before}{_FIRST}{column_table()}{_LAST}{after}"


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": lambda: NOTE + commands(),
    "rules.md": lambda: NOTE + rules(),
    "measures.md": lambda: NOTE + measures(),
    "tables.md": lambda: NOTE + tables(),
    "probes.md": probes,
    "repsim.schema.json": schema,
}


def main() -> None:
    """Write or check the pages."""
    check = "--check" in sys.argv
    stale = []
    for name, page in PAGES.items():
        path, text = HERE / name, page()
        if not path.is_file() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run make docs")
    print(f"{len(PAGES)} pages, {len(stale)} changed")


if __name__ == "__main__":
    main()
