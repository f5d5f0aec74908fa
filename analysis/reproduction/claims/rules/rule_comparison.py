"""Networks that the claim compares: one per rule and seed, at the rates that the rule was tuned to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.execution import Cache, Task
from analysis.reproduction.claim import Plan, claim_task
from analysis.reproduction.claims.rules.rule_entries import BACKPROP, ENTRIES, OUTPUT_ALONE, RuleEntry
from analysis.reproduction.kit.recipe import Recipe
from analysis.reproduction.kit.rule_tuning import RateGrid, TunedRates, choose_rates, tune_rule, with_rates
from repsim.learning import TrainingConfig

__all__ = ["FIRST_TUNING_SEED", "RuleComparison", "comparison_of"]

FIRST_TUNING_SEED = 2_000_000  # added to the seeds of the plan, which are all smaller
_TUNING_SEEDS = 2
_TUNING_EPOCHS = 12
_TUNING_COST = 20.0


@dataclass(frozen=True, kw_only=True)
class RuleComparison:
    """Networks that differ only in rule, learning rates and seed; those of ``training`` are not used.

    All are recorded alike, except that backprop networks are also recorded before training.

    Raises
    ------
    ValueError
        If a seed is used both to tune and to test.
    """

    training: TrainingConfig
    recording: RecordingConfig
    grid: RateGrid
    seeds: tuple[int, ...]
    entries: tuple[RuleEntry, ...] = ENTRIES
    data_dir: str | None = None

    def __post_init__(self) -> None:
        """Check that no seed is used twice."""
        if shared := sorted({*self.seeds} & {*self.grid.seeds}):
            raise ValueError(
                f"Seed {shared[0]} is used to tune and to test; expected other seeds for the tuning, so that the test "
                "accuracy is that of networks that had no part in the choice of rates."
            )

    @property
    def depths(self) -> Sequence[int]:
        """The numbers of the hidden layers, and of the boundaries above them."""
        return range(1, self.training.n_hidden + 1)

    @property
    def trained(self) -> list[RuleEntry]:
        """The entries whose networks are trained.

        Raises
        ------
        ValueError
            If backprop or the output layer alone is missing.
        """
        found = [entry for entry in self.entries if entry.is_trained]
        for needed in (BACKPROP, OUTPUT_ALONE):
            if needed not in {entry.name for entry in found}:
                raise ValueError(f"No entry has the name '{needed}', which all rules are compared with; add it.")
        return found

    def tuning(self, entry: RuleEntry) -> Task:
        """Return the task that tunes a rule."""
        return claim_task(
            entry.network.replace("rules-", "rules-tune-", 1),
            tune_rule,
            cost=_TUNING_COST,
            network=entry.network,
            training=replace(self.training, rule=entry.rule),
            learns=entry.learns,
            grid=self.grid,
            data_dir=self.data_dir,
        )

    def rates(self, entry: RuleEntry, folder: Path) -> TunedRates | None:
        """Return the rates that a rule was tuned to; None if it diverged at all of them."""
        return choose_rates(Cache(folder).read(self.tuning(entry).key).tables["tuning"])

    def recipe(self, entry: RuleEntry, seed: int, rates: TunedRates) -> Recipe:
        """Return the recipe of a network."""
        training = replace(with_rates(self.training, rates), rule=entry.rule, seed=seed)
        recording = replace(self.recording, steps="first,last") if entry.rule == BACKPROP else self.recording
        return Recipe(name=entry.network, training=training, recording=recording)

    def views(self, folder: Path) -> dict[tuple[str, int], View]:
        """Return the trained networks by name and seed, without those whose training diverged."""
        views = {}
        for entry in self.entries:
            if (rates := self.rates(entry, folder)) is None:
                continue
            for seed in self.seeds:
                run = self.recipe(entry, seed, rates).open(folder)
                if run.status["state"] == "finished":
                    step = run.recorded_steps[-1 if entry.is_trained else 0]
                    views[entry.name, seed] = View(f"{entry.name}, seed {seed}", run, step)
        return views


def comparison_of(plan: Plan) -> RuleComparison:
    """Return the comparison at the scale of a plan. At full scale rules are tuned by trainings of full length."""
    training = TrainingConfig(
        data=plan.dataset,
        depth=4,
        width=256,
        epochs=7 if plan.is_full else 30,  # of fifteen times as many examples
        schedule="cosine",
        device=plan.device,
    )
    recording = RecordingConfig(steps="last", n_train=1000, n_validation=250, n_test=500, diagnose="1,every:50,last")
    grid = RateGrid(
        seeds=tuple(FIRST_TUNING_SEED + seed for seed in plan.seeds[:_TUNING_SEEDS]),
        epochs=training.epochs if plan.is_full else _TUNING_EPOCHS,
    )
    return RuleComparison(training=training, recording=recording, grid=grid, seeds=plan.seeds, data_dir=plan.data_dir)
