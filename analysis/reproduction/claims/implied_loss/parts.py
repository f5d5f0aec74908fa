"""Tasks: implied losses of points on a line, and inside networks on digits."""

from __future__ import annotations

from analysis.execution import Task
from analysis.reproduction.claim import Plan, claim_task
from analysis.reproduction.claims.implied_loss.deep_network import Measurement, imply_in_a_network
from analysis.reproduction.claims.implied_loss.line import LINE_LOSSES, MODULES, LineGrid, LineTraining, imply_on_a_line
from repsim.learning import TrainingConfig

__all__ = ["parts"]

_GRIDS = {
    "mse": LineGrid(h_limit=4.0, w_limits=(-2.0, 4.0), b_limit=2.0),
    "log_loss": LineGrid(h_limit=10.0, w_limits=(-4.0, 12.0), b_limit=6.0),
}
RATES = (0.02, 0.03)  # learning rates of the model and the module, for points on a line
HIDDEN_WIDTH = 32  # of the module there
DEPTH, WIDTH = 5, 128
COMPONENTS = 3
SHARE = 0.9  # of the variance, in the subspace of the data
EPOCHS = (1, 3, 8, 20)


def parts(plan: Plan) -> list[Task]:
    """Return one task per loss and module on the line, and one per module and seed in a network."""
    lines = [_line(plan, loss, module) for loss in LINE_LOSSES for module in MODULES]
    return [*lines, *(_network(plan, hidden_layers, seed) for hidden_layers in (0, 1) for seed in plan.seeds)]


def _line(plan: Plan, loss: str, module: str) -> Task:
    training = LineTraining(
        loss=loss,
        module=module,
        n_points=256 if plan.is_full else 64,
        n_steps=8000 if plan.is_full else 2000,
        rates=RATES,
        hidden_width=HIDDEN_WIDTH,
    )
    return claim_task(
        f"implied-loss-line-{loss.replace('_', '-')}-{MODULES[module]}-hidden",
        imply_on_a_line,
        cost=60.0 if plan.is_full else 8.0,
        training=training,
        grid=_GRIDS[loss],
        seeds=plan.seeds,
    )


def _network(plan: Plan, hidden_layers: int, seed: int) -> Task:
    rule = f"synthetic-gradient:hidden_layers={hidden_layers}@all"
    training = TrainingConfig(data=plan.dataset, seed=seed, depth=DEPTH, width=WIDTH, rule=rule, epochs=EPOCHS[-1])
    measurement = Measurement(
        epochs=EPOCHS,
        n_points=500 if plan.is_full else 200,
        n_curls=128 if plan.is_full else 32,
        n_paths=64 if plan.is_full else 16,
        n_components=COMPONENTS,
        share=SHARE,
    )
    return claim_task(
        f"implied-loss-network-{hidden_layers}-hidden-seed-{seed}",
        imply_in_a_network,
        cost=400.0 if plan.is_full else 25.0,
        training=training,
        measurement=measurement,
        data_dir=plan.data_dir,
    )
