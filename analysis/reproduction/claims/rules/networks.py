"""What E7 trains: every learning rule on one network, with the step sizes found for it there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.reproduction.claim import Part, Plan
from analysis.reproduction.networks import Recipe
from repsim.learning import ESTIMATORS, Rule, TrainingConfig, build_learner, locks, site_of

__all__ = [
    "BACKPROP",
    "CONTROLS",
    "ENTRIES",
    "FAMILIES",
    "OUTPUT_ALONE",
    "SYNTHETIC",
    "UNTRAINED",
    "Entry",
    "Study",
    "describe",
    "study_of",
]

BACKPROP, SYNTHETIC = "backprop", "synthetic gradient"
OUTPUT_ALONE, UNTRAINED = "output layer alone", "untrained"
CONTROLS = "controls"
FAMILIES = (
    BACKPROP,
    "layer by layer",
    "direct feedback",
    "synthetic gradients",
    "scalar, local loss, targets",
    CONTROLS,
)
_LAYERED, _DIRECT, _PREDICTED, _OTHERS = FAMILIES[1:-1]


@dataclass(frozen=True)
class Entry:
    """A rule at every boundary, with the step sizes found for an MLP of 4 x 256.

    Attributes
    ----------
    name : str
        Of the method, in tables and figures.
    rule : str
        As in ``TrainingConfig``.
    family : str
        One of ``FAMILIES``.
    learning_rate, estimator_learning_rate : float
        Those with the best validation accuracy of a few, on a seed that no result is taken from.
    is_trained : bool
        Otherwise the network is looked at before its training.
    """

    name: str
    rule: str
    family: str
    learning_rate: float = 3e-3
    estimator_learning_rate: float = 1e-3
    is_trained: bool = True

    @property
    def network(self) -> str:
        """What its network parts are called; the untrained network is that of backprop, before training.

        Examples
        --------
        >>> Entry("BP(0.5)", "bp-lambda:lam=0.5@all", "synthetic gradients").network
        'rules-bp-0.5'
        """
        name = self.name if self.is_trained else BACKPROP
        return "rules-" + re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


ENTRIES = (
    Entry(BACKPROP, "backprop", BACKPROP),
    Entry("feedback alignment", "feedback-alignment", _LAYERED),
    Entry("sign-symmetric, uniform", "sign-symmetric", _LAYERED),
    Entry("sign-symmetric, fixed magnitude", "sign-symmetric:magnitude=fixed", _LAYERED),
    Entry("sign-symmetric, resampled", "sign-symmetric:magnitude=resampled", _LAYERED),
    Entry("adaptive random backprop", "adaptive-random-backprop", _LAYERED),
    Entry("direct feedback alignment", "direct-feedback-alignment", _DIRECT),
    Entry("adaptive skipped backprop", "adaptive-skipped-backprop", _DIRECT, 3e-3, 3e-3),
    Entry("direct random target", "direct-random-target", _DIRECT),
    Entry(SYNTHETIC, "synthetic-gradient@all", _PREDICTED),
    Entry("synthetic gradient, no labels", "synthetic-gradient:label_conditioned=false@all", _PREDICTED, 1e-3, 3e-3),
    Entry("SG + prop", "synthetic-gradient-prop@all", _PREDICTED, 3e-3, 3e-3),
    Entry("BP(0.5)", "bp-lambda:lam=0.5@all", _PREDICTED),
    Entry("Kickback", "kickback", _OTHERS, 3e-4, 1e-3),
    Entry("decoupled greedy", "decoupled-greedy", _OTHERS, 3e-4, 3e-3),
    Entry("target propagation", "target-propagation", _OTHERS),
    Entry("noise", "noise", CONTROLS),
    Entry(OUTPUT_ALONE, "noise:scale=0", CONTROLS),
    Entry(UNTRAINED, "backprop", CONTROLS, is_trained=False),
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Networks that differ in rule, step sizes and seed alone.

    Attributes
    ----------
    training : TrainingConfig
        What they share; rule, step sizes and seed in it are not used.
    recording : RecordingConfig
        The same for all, but that backprop's networks are also recorded before training.
    seeds : tuple of int
    entries : tuple of Entry, default ``ENTRIES``
    """

    training: TrainingConfig
    recording: RecordingConfig
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...] = ENTRIES

    def to_dict(self) -> dict[str, Any]:
        """Return the study as JSON-ready values."""
        return {
            "training": self.training.to_dict(),
            "recording": self.recording.to_dict(),
            "seeds": list(self.seeds),
            "entries": [asdict(entry) for entry in self.entries],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Study:
        """Return the study that ``to_dict`` wrote down."""
        return cls(
            training=TrainingConfig.from_dict(values["training"]),
            recording=RecordingConfig.from_dict(values["recording"]),
            seeds=tuple(values["seeds"]),
            entries=tuple(Entry(**entry) for entry in values["entries"]),
        )

    @property
    def depths(self) -> Sequence[int]:
        """The numbers of the hidden layers, and of the boundaries above them."""
        return range(1, self.training.depth + 1)

    def of(self, entry: Entry) -> Study:
        """Return the study of one rule alone."""
        return replace(self, entries=(entry,))

    def recipe(self, entry: Entry, seed: int) -> Recipe:
        """Return how a network is trained and recorded."""
        training = replace(
            self.training,
            rule=entry.rule,
            seed=seed,
            learning_rate=entry.learning_rate,
            estimator_learning_rate=entry.estimator_learning_rate,
        )
        recording = replace(self.recording, steps="first,last") if entry.rule == BACKPROP else self.recording
        return Recipe(name=entry.network, training=training, recording=recording)

    def parts(self, plan: Plan, cost: float) -> list[Part]:
        """Return the parts that train the networks."""
        return [
            self.recipe(entry, seed).part(plan, cost=cost)
            for entry in self.entries
            if entry.is_trained
            for seed in self.seeds
        ]

    def views(self, folder: Path) -> dict[tuple[str, int], View]:
        """Return by name and seed the networks at their end, without those whose training diverged."""
        found = {}
        for entry in self.entries:
            for seed in self.seeds:
                run = self.recipe(entry, seed).open(folder)
                if run.status["state"] == "finished":
                    step = run.recorded_steps[-1 if entry.is_trained else 0]
                    found[entry.name, seed] = View(f"{entry.name}, seed {seed}", run, step)
        return found


def study_of(plan: Plan) -> Study:
    """Return what is trained at the scale of a plan."""
    training = TrainingConfig(
        data="mnist" if plan.is_full else "mnist5k",
        depth=4,
        width=256,
        epochs=7 if plan.is_full else 30,  # of fifteen times as many examples
        schedule="cosine",
        device=plan.device,
    )
    recording = RecordingConfig(steps="last", n_train=1000, n_validation=250, n_test=500, diagnose="1,every:50,last")
    return Study(training=training, recording=recording, seeds=plan.seeds if plan.is_full else plan.seeds[:3])


def describe(rule: str, depth: int) -> dict[str, str]:
    """Return a rule in the one language of all: its g_k, what else learns, what it needs, and the locks that follow.

    Needs and locks are those of its estimators with its options, wherever in a network of ``depth`` hidden layers one
    stands.

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
        "options": _listed(f"{name}={value}" for name, value in at[1].options.items()),
        "learns": kind.learns,
        "needs": _listed(sorted(frozenset[str]().union(*(each.needs for each in estimators)))),
        "locks": _listed(sorted(frozenset[str]().union(*(locks(each) for each in estimators)))),
    }


def _listed(words: Any) -> str:
    return ", ".join(words) or "-"
