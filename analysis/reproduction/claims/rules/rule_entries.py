"""Rules that the claim compares, the families that they belong to, and descriptions of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from analysis.reproduction.kit.numbers import listed
from repsim.learning import ESTIMATORS, Rule, TrainingConfig, build_learner, locks, parse_rules, site_of

__all__ = [
    "BACKPROP",
    "CONTROLS",
    "ENTRIES",
    "FAMILIES",
    "FAMILY_OF",
    "GREEDY",
    "OUTPUT_ALONE",
    "SYNTHETIC",
    "UNTRAINED",
    "RuleEntry",
    "describe",
]

BACKPROP, SYNTHETIC, GREEDY = "backprop", "synthetic gradient", "decoupled greedy"
OUTPUT_ALONE, UNTRAINED = "output layer alone", "untrained"
CONTROLS = "controls"
FAMILIES = {  # rules of a family share their idea and most of their code, so over rules the family is the unit
    BACKPROP: "the true gradient, also at another size at each layer",
    "feedback": "errors sent from layer to layer through matrices other than the transposed weights",
    "direct feedback": "the error of the output, or the label, sent to every layer, or to the input, through a matrix",
    "synthetic gradients": "gradients that a module predicts",
    "scalar feedback": "one number per example, sent to every layer",
    "local losses": "a loss at each layer",
    "target propagation": "targets for activations",
    CONTROLS: "noise, the true gradient turned towards noise, and no gradient at all",
}
_FEEDBACK, _DIRECT, _PREDICTED, _SCALAR, _LOCAL, _TARGETS = list(FAMILIES)[1:-1]


@dataclass(frozen=True)
class RuleEntry:
    """A rule at every boundary, and its family. A network that is not trained is that of backprop before training."""

    name: str
    rule: str
    family: str
    is_trained: bool = True

    @property
    def network(self) -> str:
        """The name of its networks; the untrained network is that of backprop, before training.

        Examples
        --------
        >>> RuleEntry("BP(0.5)", "bp-lambda:lam=0.5@all", "synthetic gradients").network
        'rules-bp-0.5'
        """
        name = self.name if self.is_trained else BACKPROP
        return "rules-" + re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")

    @property
    def learns(self) -> bool:
        """Whether the rule has parameters of its own, which are learned at a rate of their own.

        Examples
        --------
        >>> RuleEntry("noise", "noise", "controls").learns
        False
        """
        return any(ESTIMATORS[rule.name].learns != "-" for rule in parse_rules(self.rule, None, depth=1).values())


ENTRIES = (
    RuleEntry(BACKPROP, "backprop", BACKPROP),
    RuleEntry("predictive coding", "predictive-coding:rate=0.5", BACKPROP),
    RuleEntry("feedback alignment", "feedback-alignment", _FEEDBACK),
    RuleEntry("sign-symmetric, uniform", "sign-symmetric", _FEEDBACK),
    RuleEntry("sign-symmetric, fixed magnitude", "sign-symmetric:magnitude=fixed", _FEEDBACK),
    RuleEntry("sign-symmetric, resampled", "sign-symmetric:magnitude=resampled", _FEEDBACK),
    RuleEntry("adaptive random backprop", "adaptive-random-backprop", _FEEDBACK),
    RuleEntry("direct feedback alignment", "direct-feedback-alignment", _DIRECT),
    RuleEntry("adaptive skipped backprop", "adaptive-skipped-backprop", _DIRECT),
    RuleEntry("direct random target", "direct-random-target", _DIRECT),
    RuleEntry("PEPITA", "pepita", _DIRECT),
    RuleEntry(SYNTHETIC, "synthetic-gradient@all", _PREDICTED),
    RuleEntry("synthetic gradient, no labels", "synthetic-gradient:label_conditioned=false@all", _PREDICTED),
    RuleEntry("SG + prop", "synthetic-gradient-prop@all", _PREDICTED),
    RuleEntry("BP(0.5)", "bp-lambda:lam=0.5@all", _PREDICTED),
    RuleEntry("control variate", "control-variate@all", _PREDICTED),
    RuleEntry("least-error mixture", "least-error-mixture@all", _PREDICTED),
    RuleEntry("Kickback", "kickback", _SCALAR),
    RuleEntry(GREEDY, "decoupled-greedy", _LOCAL),
    RuleEntry("forward-forward", "forward-forward", _LOCAL),
    RuleEntry("target propagation", "target-propagation", _TARGETS),
    RuleEntry("noise", "noise", CONTROLS),
    RuleEntry("disturbed gradient", "disturbed-gradient@all", CONTROLS),
    RuleEntry(OUTPUT_ALONE, "noise:scale=0", CONTROLS),
    RuleEntry(UNTRAINED, "backprop", CONTROLS, is_trained=False),
)
FAMILY_OF = {entry.name: entry.family for entry in ENTRIES}


def describe(rule: str, depth: int) -> dict[str, str]:
    """Return the formula of g_k, the options, what else learns, what the rule needs, and its locks.

    Needs and locks are those of the estimators of the rule, with its options, at all boundaries of a network of
    ``depth`` hidden layers.

    Examples
    --------
    >>> describe("synthetic-gradient@all", depth=4)["locks"]
    '-'
    """
    config = TrainingConfig(depth=depth, width=4, rule=rule)
    network = build_learner(replace(config, rule=BACKPROP), 4, 2).network
    at = {k: config.rules.get(k, Rule(BACKPROP, {})) for k in range(1, depth + 1)}
    estimators = [each.build(site_of(network, k, n_outputs=2)) for k, each in at.items()]
    kind = ESTIMATORS[at[1].name]
    return {
        "g": kind.formula,
        "options": _words(f"{name}={value}" for name, value in at[1].options.items()),
        "learns": kind.learns,
        "needs": _words(sorted(frozenset[str]().union(*(each.needs for each in estimators)))),
        "locks": _words(sorted(frozenset[str]().union(*(locks(each) for each in estimators)))),
    }


def _words(values: Iterable[Any]) -> str:
    return listed(values) or "-"
