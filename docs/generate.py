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

## Predictive coding

`predictive-coding` is the variant with fixed predictions (Millidge, Tschantz and Buckley 2022): values v_k beside the
predictions μ_k = h_k descend ½ Σ ‖v_k − μ_k‖² plus the loss, all at once, while the Jacobians J and the predictions
stay those of the forward pass. The errors ε_k = μ_k − v_k then follow

    ε_k(t + 1) = (1 − η) ε_k(t) + η J_{k+1}ᵀ ε_{k+1}(t),   ε_k(0) = 0,   ε = e at the output,

and g_k = ε_k(T). With η = 1 and as many steps T as there are hidden layers, which are the defaults, this is backprop:
error by error what Song et al. (2020) show for updates that are made when the error first arrives (Z-IL). For other
settings ε_k(T) = P(B ≥ d) τ_k, where d is the number of segments above boundary k and B counts the successes of T
trials of probability η. This form, by which the rule is computed, is ours; a test compares it with inference step by
step. So with fixed predictions T and η change only how large g_k is at each boundary, never its direction, and an
optimizer that normalises gradients, such as Adam, nearly undoes the change; with `--optimizer sgd` it is a learning
rate for each layer. The variant in which predictions follow the values is not implemented.

## Rules that learn in a second forward pass

With `forward-forward` and `pepita` segment k learns in a second pass with another input, from a gradient at its output
h'_k in that pass; its input h'_{k−1} is fixed. The first pass is the network's own: it is evaluated and recorded,
updates running statistics, and trains the output segment with the true loss. These rules cannot be observed, and are
trained in one process ([decision 25](decisions/0025-segments-that-learn-in-a-second-pass.md)).

- `forward-forward` (Hinton 2022) runs each example with its label and with a wrong one, drawn uniformly at each update.
  With the goodness G = ‖h'_k‖² and d units, segment k descends log(1 + exp(θ d − G)) for the former (positive) and
  log(1 + exp(G − θ d)) for the latter (negative), summed over both and averaged over the batch. The label is one-hot in
  place of the first features (`labels=embedded`), or a fixed random pattern per class that is added to the input
  (`labels=added`); the latter equals further inputs whose weights are products of those of the first affine map. Ours
  are: the output segment, which reads the last hidden layer in the pass without a label; and that layers do not divide
  their input by its length. With batch norm, the default, hidden layers learn best here; with `--norm layer`, whose
  activations have nearly the same length for every input, they learn little.
- `pepita` (Dellaferrera and Kreiman 2022) sends x + e F through the network again, where e is the error of the first
  pass and F is fixed and uniform between ± `scale` · √(6 / number of inputs). Then ΔW_k = −η (h_k − h'_k)ᵀ h'_{k−1}:
  the difference stands for the gradient at the output of the affine map, without the derivatives of the norm and the
  nonlinearity. Ours are: gains and shifts of norms get the gradient of ⟨h_k − h'_k, h'_k⟩ with the difference fixed;
  max pooling is differentiated; and the output segment learns in the first pass, where the authors' code uses the error
  and the activations of the second. Segments must be sequences of affine maps, norms, nonlinearities and
  pooling, or residual blocks of these; the blocks of transformers are refused.

## Equilibrium propagation

`equilibrium-propagation` (Scellier and Bengio 2017) turns a perceptron into a network with symmetric couplings: each
layer also acts on the layer below, through the transposed weights. Its states s_1 … s_K, of which s_K is the output,
are a stationary point of the energy

    E = Σ_k (ρ*(s_k) − ⟨s_k, W_k s_{k−1} + b_k⟩),   so that   s_k = φ(W_k s_{k−1} + b_k + W_{k+1}ᵀ s_{k+1}),

where φ is the nonlinearity (the identity at the output) and the derivative of ρ* its inverse. This form of the energy,
and updates by φ, follow Ernoult et al. (2019). Layers are updated one after the other, `sweeps` times. These states are
what is evaluated, recorded and analyzed, as `hidden.k`. In training, β ℓ is added to E, and with s⁺ = s(β), s⁻ = s(−β)
and span 2 β (or s⁻ = s(0) and span β with `symmetric=false`)

    ΔW_k = η / span · (s⁺_k s⁺_{k−1}ᵀ − s⁻_k s⁻_{k−1}ᵀ),   g_k = (s⁻_k − s⁺_k) / span,

of which the first tends to the gradient of ℓ at s(0) as β → 0, with an error in proportion to β² (or β); a test shows
both. g_k tends to the gradient with respect to what is added to the input of layer k, which is the true gradient of
diagnoses and recorded gradients here. The rule needs all boundaries, the network `mlp` without norms, tanh or sigmoid
units and the squared error, and cannot be cut into stages:

    repsim train runs/ep --rule equilibrium-propagation --depth 1 --norm none --activation sigmoid --loss mse

Ours are: the nudge by any differentiable ℓ, of which the squared error is allowed, because with the log loss outputs
and with them the feedback grow until no equilibrium is reached; a linear output; and the default options
([decision 26](decisions/0026-equilibria-are-a-network-of-their-own.md)).

## Unbiased and least-error mixtures

Both rules mix a synthetic gradient S with t_k, from which S learns as in `synthetic-gradient`.

- `control-variate` is unbiased: g_k = S + (z / p) (t_k − S), where z is 1 with probability p and 0 otherwise, for each
  example or for each batch as one. Its expectation over z is t_k; and as pull-backs are linear and the z of different
  boundaries independent, the expected gradient of every weight is that of backprop. The price is variance: the draws
  add (1 − p) / p · ‖t_k − S‖² for each example, so the logged loss of S times (1 − p) / p is the mean of this variance
  over examples. `gradient_bias_variance` measures bias and variance in the gradients of weights. Read: the abstract and
  the beginning of Ciosek, Felicioni and Elenter Litwin (2025, arXiv 2511.05187), who make updates from predicted
  gradients unbiased by control variates, to save backward passes, with a linear predictor of the gradients of all
  weights. The estimator above is ours, and plainly unbiased. What does not fit a chain of segments is their predictor,
  which acts on weights rather than at boundaries. Nothing is saved here, as one step runs all backward passes: where z
  is 0 for a batch, the segments below would not have to wait for those above.
- `least-error-mixture` is BP(λ) with the λ of least estimated mean squared error. T and Ŝ are the gradients, from t_k
  and from S, with respect to a vector per class added to h_k. With the variances v of T and w of Ŝ over batches, their
  covariance c and the squared bias b² = ‖E Ŝ − E T‖², the error of the mixture as an estimate of E T is

      (1 − λ)² (b² + w) + λ² v + 2 λ (1 − λ) c,   least at   λ = (b² + w − c) / (b² + w + v − 2 c), clipped to [0, 1].

  Running averages over `memory` updates estimate the four; until there are two batches λ = 1. Read: the abstract and
  the beginning of Zhang, Tang and Koyejo (2026, arXiv 2605.27946), who ask when synthetic gradients estimate a gradient
  with a lower mean squared error than backprop, on computational graphs with feedback at the end that may be noisy, as
  rewards are. The mixture, its statistics and their estimates are ours. What does not fit a chain of segments is noisy
  feedback: where nothing above a boundary is random, t_k is a function of the batch, so only the choice of the batch is
  noise, of which T and Ŝ share a part; the covariance takes it into account.

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
