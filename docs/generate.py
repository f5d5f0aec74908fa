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
from repsim.learning import catalogue, input_entry, locks_of_boundary
from repsim.learning.rule_catalogue import CatalogueEntry
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
        "have run, and *backward locked* if it must also wait for their backward pass. The segments above are *forward "
        "locked* if they must wait for the activation from below, which they do under every rule, unless a "
        "[synthetic input](#synthetic-inputs) predicts it. "
        "`repsim train --rule NAME:option=value@BOUNDARIES` trains with a rule. Every rule that chooses its own "
        "gradient also has the option `observe=true`: it then learns while the network uses backprop.\n",
        "| rule | g_k | also learns | needs | locked | with `synthetic-input` |",
        "|---|---|---|---|---|---|",
    ]
    details = [
        "",
        "## Options\n",
        "| rule | options and their defaults | default boundaries | reference |",
        "|---|---|---|---|",
    ]
    for entry in catalogue():
        needs = ", ".join(entry.needs) or "-"
        locked = [", ".join(locks_of_boundary(entry, synthetic_input=each)) or "-" for each in (False, True)]
        cells = [f"`{entry.name}`", *map(_escaped, (entry.formula, entry.learns)), needs, *locked]
        table.append(f"| {' | '.join(cells)} |")
        details.append(_options_of(entry))
    details.append(_options_of(input_entry()))
    return "\n".join(table + details) + "\n" + _NOTES_ON_RULES


def _options_of(entry: CatalogueEntry) -> str:
    options = "<br>".join(
        f"`{name}={_as_typed(value)}`: {entry.meanings[name]}" for name, value in entry.options.items()
    )
    return f"| `{entry.name}` | {options or '-'} | {entry.places} | {entry.reference} |"


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

## Synthetic inputs

A rule chooses the gradient at a boundary; the part `synthetic-input` chooses the forward value there. It is joined to
any rule:

    repsim train runs/unlocked --rule "synthetic-gradient@2,4 + synthetic-input@2,4"

A module I_k predicts the activation h_k from the stimulus x, and on request from the label y. In training the segments
above boundary k get ĥ_k = I_k(x[, y]) in place of h_k; when h_k arrives, I_k descends on the mean over examples of
‖ĥ_k − h_k‖². With synthetic gradients at the same boundary nothing waits for anything: this is the complete unlocking
of Jaderberg et al. (2017), sections 2.1 and 3.3.

- Everything that comes from above, such as t_k or e, was computed at ĥ_k. The rule at boundary k itself sees h_k: the
  segments below learn from S_k(h_k[, y]), and S_k learns to predict from h_k the target that was computed at ĥ_k. With
  backprop at the boundary the segments below get the gradient at ĥ_k.
- Of several synthetic inputs, each learns from the activation that arrives at its boundary in training, which the next
  synthetic input below may have caused.
- Batch norms update their running statistics once per step, from the input on which they train, which is ĥ_k above the
  boundary.
- Evaluation, recorded activations and the true gradients beside which a rule is diagnosed use the true forward pass,
  without I_k. The log has the loss of I_k in `input_losses`, and at diagnosed steps its relative error
  ‖ĥ_k − h_k‖ / ‖h_k‖ as `input_error`.
- The loss and the accuracy that the log gives for a batch are those of the top of the network on predictions; those on
  the validation examples are the true network's, and may be much lower while predictions are poor.
- I_k reads all numbers of a stimulus as one vector and returns all units of h_k, also of feature maps. It does not
  serve stimuli that are whole numbers, such as tokens.
- A prediction that contains the label teaches the segments above to read the label from it, which h_k does not allow
  later; therefore `label_conditioned` is false by default.

## Diagnosed steps

At the steps of `--diagnose` the log compares, at each boundary k, g_k with τ_k (norms, relative error, cosine and
angle); the gradient of the parameters of segment k with backprop's (`update_cosine`, which is the alignment of the
updates under plain gradient descent); for feedback alignment and its variants the feedback weights B with the weights
that they replace (`weight_angle`, in degrees; 0 if they are parallel); and predicted with true inputs (`input_error`).
With `--diagnose-batches B` it also has squared bias and variance of the gradient of these parameters over B batches,
divided by the mean squared norm of a batch's true gradient.

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
