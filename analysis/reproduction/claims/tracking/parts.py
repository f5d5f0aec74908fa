"""Tasks: descend small problems, disturb the synthetic gradient on purpose, and train a deep network on digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from analysis.execution import Task
from analysis.reproduction.claim import Frames, Plan, claim_task
from analysis.reproduction.kit.in_memory import InMemoryTraining
from analysis.training.setup import using_threads
from analysis.workflows.demo import DEMO_RUNS
from repsim.learning import (
    LOSSES,
    Learner,
    Signals,
    Site,
    SyntheticGradient,
    TrainingConfig,
    count_steps,
    evaluate,
    mlp,
    site_of,
    stream,
)
from repsim.learning.losses import targets_of
from repsim.theory import Tracking, track, tracked

__all__ = ["parts"]

BACKPROP = "backprop"
FIXED = "bias of fixed size"
TOLERANCE = 1e-5  # a descent has converged when the true gradient has fallen to this share of the first
PACES = {BACKPROP: 0, **{f"SG, module steps: {n:,}": n for n in (1, 30, 1000)}}  # module steps per step
SIZES = {"below": (0.5, 0.9), "beyond": (1.1, 2.0, 8.0, 16.0), "fixed": (0.01, 0.1, 0.5)}  # of disturbances, in r
RATES = {("linear", "mse"): 0.05, ("tanh", "mse"): 1.0, ("linear", "log_loss"): 0.3, ("tanh", "log_loss"): 0.5}
MODULE_RATE = 0.3
STEPS = {"mse": 1000, "log_loss": 400}
DENSE, _EVERY = 150, 10
_DISTURBED_STEPS = {"below": 2000, "beyond": 400, "fixed": 250}
_DENSE_DISTURBED, _EVERY_DISTURBED = {"below": 1, "beyond": 1, "fixed": 40}, 20


def parts(plan: Plan) -> list[Task]:
    """Return one task per small problem, per kind and range of disturbances, and per deep network."""
    kinds = [(kind, span) for kind in KINDS if kind != FIXED for span in ("below", "beyond")]
    return [
        *(_small_problem(network, loss, plan) for network, loss in RATES),
        *(_disturbance(kind, span, plan) for kind, span in (*kinds, (FIXED, "fixed"))),
        *(_deep_network(plan, seed) for seed in plan.few_seeds),
    ]


def _small_problem(network: str, loss: str, plan: Plan) -> Task:
    problem = NoisyProblem(network=network, loss=loss)
    descents = {
        method: _descent(problem, module_steps=module_steps, n_steps=STEPS[loss], dense=DENSE, every=_EVERY)
        for method, module_steps in PACES.items()
    }
    return claim_task(
        f"tracking-{network}-{loss.replace('_', '-')}",
        descend,
        cost=4.0 * len(plan.seeds),
        problem=problem,
        descents=descents,
        seeds=plan.seeds,
    )


def _disturbance(kind: str, span: str, plan: Plan) -> Task:
    problem = NoisyProblem(network="tanh", loss="mse")
    looks = {"dense": _DENSE_DISTURBED[span], "every": _EVERY_DISTURBED}
    return claim_task(
        f"tracking-{kind.replace(' ', '-')}-{span}",
        disturb,
        cost=0.8 * len(plan.few_seeds) * len(SIZES[span]),
        problem=problem,
        descent=_descent(problem, module_steps=1000, n_steps=_DISTURBED_STEPS[span], **looks),
        kind=kind,
        sizes=SIZES[span],
        seeds=plan.few_seeds,
    )


def _descent(problem: NoisyProblem, **steps: int) -> Descent:
    return Descent(rate=RATES[problem.network, problem.loss], **steps)


def _deep_network(plan: Plan, seed: int) -> Task:
    training = replace(DEMO_RUNS["sg-middle"], seed=seed)
    if plan.is_full:
        training = replace(training, data="mnist", device=plan.device, epochs=training.epochs // 4)
    return claim_task(
        f"tracking-practice-seed-{seed}",
        practise,
        cost=30.0,
        training=training,
        n_looks=40 if plan.is_full else 12,
        data_dir=plan.data_dir,
    )


class Disturbed(SyntheticGradient):
    """g_k = S(h_k, y) + e with an error e that is set before each step; the loss of S leaves e out."""

    formula = "S_k(h_k, y) + e"
    regresses = False  # the gradient is S plus an error
    error: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, generator=generator, **options)
        self.register_buffer("error", torch.zeros(()))

    def gradient(self, signals: Signals) -> Tensor:
        """Return S(h, y) + e."""
        return super().gradient(signals) + self.error

    def loss(self, gradient: Tensor, signals: Signals) -> Tensor:
        """Return the mean over examples of ‖S(h, y) − t‖², shape (*lead)."""
        return super().loss(gradient - self.error, signals)


@dataclass(frozen=True, kw_only=True)
class NoisyProblem:
    """A small network on noisy labels of standard normal examples in two dimensions, in double precision.

    The network is "linear" (two hidden layers of four linear units and a linear output) or "tanh" (one tanh unit, and
    a fixed read-out that makes the logits ∓ ``read_out`` times the unit); the boundary is below the output. The loss is
    "mse", to targets of ±1, or "log_loss". With u a random direction, the class of x is "1" with probability
    (1 + share · tanh(slope · u · x)) / 2.
    """

    network: str
    loss: str
    n_examples: int = 100
    slope: float = 1.2
    share: float = 0.9
    read_out: float = 2.0

    def place(self, method: str, size: float, seed: int) -> dict[str, Any]:
        """Return the columns that identify a descent."""
        named = {"network": self.network, "loss": self.loss, "n_examples": self.n_examples}
        return {**named, "method": method, "size": size, "seed": seed}

    def examples(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return X (N, 2) and classes (N,), or for the squared error targets (N, 1)."""
        generator = stream(seed, "examples")
        u = torch.randn(2, generator=generator, dtype=torch.float64)
        X = torch.randn(self.n_examples, 2, generator=generator, dtype=torch.float64)
        chance = (1 + self.share * torch.tanh(self.slope * X @ u / u.norm())) / 2
        y = (torch.rand(self.n_examples, generator=generator, dtype=torch.float64) < chance).long()
        return X, 2.0 * y.double()[:, None] - 1.0 if self.loss == "mse" else y

    def learner(self, seed: int, estimator: type[SyntheticGradient] | None) -> Learner:
        """Return the network, with a linear label-conditioned module below its output, or by backprop."""
        depth, width = (2, 4) if self.network == "linear" else (1, 1)
        n_outputs = 1 if self.loss == "mse" else 2
        network = mlp(
            2,
            n_outputs,
            depth=depth,
            width=width,
            norm="none",
            activation=self.network,
            generator=stream(seed, "weights"),
        )
        if self.network == "tanh":
            signs = [1.0] if self.loss == "mse" else [-self.read_out, self.read_out]
            read_out: Any = network.output.requires_grad_(False)
            read_out.weight.copy_(torch.tensor(signs)[:, None])
        site = site_of(network, depth, loss=self.loss, seed=seed, n_outputs=n_outputs)
        return Learner(network, {} if estimator is None else {depth: estimator(site)}, loss=self.loss).double()


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Learning rates and numbers of steps of gradient descent on all examples.

    ``module_rate`` is a share of the largest rate with which the module converges. The module takes ``module_steps``
    before each step of the network. The network takes at most ``n_steps``, until the true gradient has fallen to
    ``tolerance`` times the first. The condition is measured before each of the first ``dense`` steps, and then at
    multiples of ``every``.
    """

    rate: float
    module_steps: int
    n_steps: int
    dense: int
    every: int
    module_rate: float = MODULE_RATE
    tolerance: float = TOLERANCE

    def looks_at(self, step: int) -> bool:
        """Return whether the condition is measured before a step, counted from 0."""
        return step < self.dense or step % self.every == 0


def descend(folder: Path, *, problem: NoisyProblem, descents: Mapping[str, Descent], seeds: Sequence[int]) -> Frames:
    """Return ``looks``: measurements in descents by backprop and with synthetic gradients, by method."""
    rows: list[dict[str, Any]] = []
    for method, descent in descents.items():
        for seed in seeds:
            place = problem.place(method, 0.0, seed)
            learner = problem.learner(seed, None if method == BACKPROP else SyntheticGradient)
            rows += [{**place, **row} for row in _descend(learner, *problem.examples(seed), descent)]
    return {"looks": pd.DataFrame(rows)}


def disturb(
    folder: Path, *, problem: NoisyProblem, descent: Descent, kind: str, sizes: Sequence[float], seeds: Sequence[int]
) -> Frames:
    """Return ``disturbed``: descents of the tanh unit with disturbed synthetic gradients of several sizes."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for seed in seeds:
            place = problem.place(kind, size, seed)
            X, y = problem.examples(seed)
            set_error = _ErrorSetter(kind, size, seed, X)
            rows += [{**place, **row} for row in _descend(problem.learner(seed, Disturbed), X, y, descent, set_error)]
    return {"disturbed": pd.DataFrame(rows)}


def practise(folder: Path, *, training: TrainingConfig, n_looks: int, data_dir: str | None) -> Frames:
    """Return ``practice``: a deep network on digits, measured on one batch of examples in training mode."""
    setup = InMemoryTraining.of(training, data_dir)
    (X, y), held_out, learner = setup.examples("train"), setup.examples("validation"), setup.learner
    rows = torch.randperm(len(y), generator=stream(training.seed, "looks"))[: training.batch_size].to(X.device)
    batch = X[rows], y[rows]
    n_steps = count_steps(len(y), training)
    with using_threads(training.threads):
        looks = [_practical_row(0, track(learner, *batch), learner, *held_out)]
        for step, tracking in tracked(setup.steps(), learner, *batch, every=max(1, n_steps // n_looks)):
            if tracking:
                looks.append(_practical_row(step.step, tracking, learner, *held_out))
    n_classes = len(batch[1].unique())
    table = pd.DataFrame(looks).assign(seed=training.seed, n_steps=n_steps, n_batch=len(rows), n_classes=n_classes)
    return {"practice": table}


def _practical_row(step: int, look: Mapping[int, Tracking], learner: Learner, X: Tensor, y: Tensor) -> dict[str, Any]:
    (tracking,) = look.values()
    accuracy = evaluate(learner.network, X, y, loss=learner.loss).accuracy
    return {"step": step, "validation_accuracy": accuracy, "n_validation": len(y), **_numbers(tracking)}


def _numbers(tracking: Tracking) -> dict[str, float]:
    columns = ("epsilon", "jacobian_bound", "gradient_norm", "error_norm")
    numbers = {name: value for name, value in asdict(tracking).items() if name in columns}
    return {**numbers, "error_bound": tracking.error_bound, "ratio": tracking.ratio}


SetError = Callable[[Learner, Tensor, int], None]


def _descend(
    learner: Learner, X: Tensor, y: Tensor, descent: Descent, set_error: SetError | None = None
) -> Iterator[dict[str, Any]]:
    """Yield loss, true gradient and r before each step that the descent looks at, and at the end.

    A descent that diverges ends with its last look.
    """
    optimizer = torch.optim.SGD([p for p in learner.network.parameters() if p.requires_grad], lr=descent.rate)
    first = math.inf
    for step in range(descent.n_steps + 1):
        if learner.placed():
            t, h = _at_boundary(learner, X, y)
            teach(learner, h, y, t, descent.module_rate, descent.module_steps)
            if set_error is not None:
                set_error(learner, t, step)
        value, slope = _true_slope(learner, X, y)
        if not math.isfinite(slope):
            return
        first = slope if step == 0 else first
        is_last = slope <= descent.tolerance * first or step == descent.n_steps
        if is_last or descent.looks_at(step):
            numbers = [_numbers(tracking) for tracking in track(learner, X, y).values()]
            yield {"step": step, "value": value, "slope": slope, "slope_share": slope / first} | dict(*numbers)
        if is_last:
            return
        optimizer.zero_grad()
        learner.compute_gradients(X, y)
        optimizer.step()


def _at_boundary(learner: Learner, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return t and h, each (N, width), at the boundary below the output."""
    with torch.no_grad():
        h = X
        for segment in learner.network.hidden.values():
            h = segment(h)
    h.requires_grad_()
    total = LOSSES[learner.loss](learner.network.output(h), y).sum()
    return torch.autograd.grad(total, h)[0], h.detach()


@torch.no_grad()
def teach(learner: Learner, h: Tensor, y: Tensor, t: Tensor, rate: float, n_steps: int) -> None:
    """Take gradient steps on the module's own loss, mean ‖S(h, y) − t‖², while the network is fixed.

    The rate is a share of the largest that converges, 1 / λ with λ the largest eigenvalue of the mean of φ φᵀ over
    examples, φ = [h, y, 1]. A step is an affine map Θ ↦ (I − A) Θ + B of the module's parameters, and n of them are its
    n-th power.
    """
    module: Any = next(iter(learner.placed().values()))
    linear, vectors = module.layers[0], module.label_vectors.weight
    design = torch.cat([h, targets_of(y, h.new_empty(len(h), len(vectors))), h.new_ones(len(h), 1)], dim=1)
    theta = torch.cat([linear.weight.T, vectors, linear.bias[None]])
    largest = 1 / float(torch.linalg.matrix_norm(design, ord=2).square() / len(h))
    gram, moment = (2 * rate * largest / len(h) * (design.T @ each) for each in (design, t))
    still = torch.cat([torch.zeros_like(moment.T), torch.eye(t.shape[1], dtype=t.dtype)], dim=1)
    step = torch.cat([torch.cat([torch.eye(len(gram), dtype=t.dtype) - gram, moment], dim=1), still])
    theta = (torch.linalg.matrix_power(step, n_steps) @ torch.cat([theta, still[:, len(gram) :]]))[: len(gram)]
    weight, labels, bias = theta.split([h.shape[1], len(vectors), 1])
    linear.weight.copy_(weight.T)
    vectors.copy_(labels)
    linear.bias.copy_(bias[0])


def _true_slope(learner: Learner, X: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the loss, and the norm of its gradient with respect to the parameters that learn."""
    learning = [parameter for parameter in learner.network.parameters() if parameter.requires_grad]
    value = LOSSES[learner.loss](learner.network(X), y).mean()
    slopes = torch.autograd.grad(value, learning)
    return float(value.detach()), float(torch.cat([slope.flatten() for slope in slopes]).norm())


class _ErrorSetter:
    """Set the error of a ``Disturbed`` estimator above one tanh unit, so that ε C is a multiple of ‖∂L/∂θ‖."""

    def __init__(self, kind: str, size: float, seed: int, X: Tensor) -> None:
        self._kind, self._size, self._seed = kind, size, seed
        self._inputs = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
        self._first: float | None = None

    @torch.no_grad()
    def __call__(self, learner: Learner, t: Tensor, step: int) -> None:
        """Set the error of a step, in proportion to the true gradient of the step, or of the first step if fixed."""
        (estimator,) = learner.placed().values()
        h = learner.network.hidden["1"](self._inputs[:, :-1])
        J = (1 - h.square()) * self._inputs  # (N, 3)
        gradient = J.T @ t / len(t)
        C = float(torch.linalg.matrix_norm(J, ord=2)) / math.sqrt(len(t))
        norm = float(gradient.norm())
        self._first = norm if self._first is None else self._first
        direction = KINDS[self._kind](J, gradient, self._seed, step)
        rms = self._size * (self._first if self._kind == FIXED else norm) / C
        estimator.error = direction * (rms * math.sqrt(len(t)) / direction.norm())


def _against(J: Tensor, gradient: Tensor, seed: int, step: int) -> Tensor:
    return -J @ gradient


def _bias(J: Tensor, gradient: Tensor, seed: int, step: int) -> Tensor:
    return torch.randn((), generator=stream(seed, "bias"), dtype=J.dtype).sign() * J.new_ones(len(J), 1)


def _noise(J: Tensor, gradient: Tensor, seed: int, step: int) -> Tensor:
    return torch.randn(len(J), 1, generator=stream(seed, "noise", step), dtype=J.dtype)


KINDS: dict[str, Callable[[Tensor, Tensor, int, int], Tensor]] = {
    "against the gradient": _against,
    "bias": _bias,
    "noise": _noise,
    FIXED: _bias,
}
