"""How the condition of convergence is looked at: small problems by gradient descent, disturbances, and real digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from analysis.reproduction.claim import Tables
from analysis.training.setup import using_threads
from repsim.learning import (
    LOSSES,
    Learner,
    Signals,
    Site,
    SyntheticGradient,
    TrainingConfig,
    build_learner,
    build_optimizer,
    count_steps,
    evaluate,
    load_dataset,
    mlp,
    site_of,
    split_dataset,
    stream,
    train,
)
from repsim.learning.losses import targets_of
from repsim.theory import Tracking, track, tracked

__all__ = ["BACKPROP", "FIXED", "KINDS", "Disturbed", "Problem", "Schedule", "descend", "disturb", "practise"]

BACKPROP = "backprop"
FIXED = "bias of fixed size"
_ALONE = {"head_start": 0, "module_steps": 0}  # of the module, with backprop


class Disturbed(SyntheticGradient):
    """g_k = S(h_k, y) + e with an error e that is set before each step; S learns from its own answer."""

    formula = "S_k(h_k, y) + e"
    regresses = False  # what it returns is more than S
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
class Problem:
    """A small network on noisy labels, in double precision.

    Attributes
    ----------
    network : {"linear", "tanh"}
        Two hidden layers of four linear units below a linear output; or one tanh unit whose read-out does not learn.
        The boundary lies below the output.
    loss : str
        "mse", to targets of ±1, or "log_loss".
    n_examples : int
        Standard normal in two dimensions.
    slope, share : float
        The class of x is "1" with probability (1 + share · tanh(slope · u · x)) / 2, u a random direction.
    read_out : float
        Of the tanh unit: the logits under the log loss are ∓ this, times the unit. Under the squared error it is 1.
    """

    network: str
    loss: str
    n_examples: int
    slope: float
    share: float
    read_out: float

    def place(self, method: str, size: float, seed: int) -> dict[str, Any]:
        """Return the columns that name a run."""
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
class Schedule:
    """How a problem is descended.

    Attributes
    ----------
    rate : float
        Of gradient descent on all examples, for the network.
    module_rate : float
        For the module, as a share of the largest rate that its own descent bears, 0 to 1.
    head_start : int
        Steps of the module before the network moves at all.
    module_steps : int
        Steps of the module before each of the network; 0 with backprop.
    n_steps : int
        Of the network, at the most.
    tolerance : float
        The descent ends when the true gradient has fallen to this share of the first.
    dense, every : int
        The condition is looked at before each of the first so many steps, and before every so many of the later.
    """

    rate: float
    module_rate: float
    head_start: int
    module_steps: int
    n_steps: int
    tolerance: float
    dense: int
    every: int

    def looks_at(self, step: int) -> bool:
        """Return whether the condition is looked at before a step, counted from 0."""
        return step < self.dense or step % self.every == 0


def descend(
    folder: Path,
    *,
    problem: Mapping[str, Any],
    schedule: Mapping[str, Any],
    paces: Mapping[str, Mapping[str, int]],
    seeds: Sequence[int],
) -> Tables:
    """Return ``looks``: one problem by backprop, and with a synthetic gradient whose module learns at several paces."""
    posed = Problem(**problem)
    rows: list[dict[str, Any]] = []
    for method, pace in {BACKPROP: _ALONE, **paces}.items():
        for seed in seeds:
            place = posed.place(method, 0.0, seed)
            learner = posed.learner(seed, None if method == BACKPROP else SyntheticGradient)
            steps = _descend(learner, *posed.examples(seed), Schedule(**schedule, **pace))
            rows += [{**place, **row} for row in steps]
    return {"looks": pd.DataFrame(rows)}


def disturb(
    folder: Path,
    *,
    problem: Mapping[str, Any],
    schedule: Mapping[str, Any],
    kind: str,
    sizes: Sequence[float],
    seeds: Sequence[int],
) -> Tables:
    """Return ``disturbed``: the tanh unit under squared error, its synthetic gradient disturbed at several sizes."""
    posed = Problem(**problem)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for seed in seeds:
            place = posed.place(kind, size, seed)
            X, y = posed.examples(seed)
            spoil = _Spoiler(kind, size, seed, X)
            rows += [
                {**place, **row} for row in _descend(posed.learner(seed, Disturbed), X, y, Schedule(**schedule), spoil)
            ]
    return {"disturbed": pd.DataFrame(rows)}


def practise(folder: Path, *, training: Mapping[str, Any], n_looks: int, data_dir: str | None) -> Tables:
    """Return ``practice``: a network as people train it, looked at on one batch of examples, in training mode."""
    config = TrainingConfig.from_dict(dict(training))
    dataset = load_dataset(config.data, data_dir)
    split = split_dataset(dataset, config.split_seed)
    parts = {
        name: (torch.from_numpy(dataset.X[rows]), torch.from_numpy(dataset.y[rows])) for name, rows in split.items()
    }
    (X, y), held_out = (tuple(each.to(config.device) for each in parts[name]) for name in ("train", "validation"))
    learner = build_learner(config, dataset.shape, len(dataset.classes)).to(config.device)
    rows = torch.randperm(len(y), generator=stream(config.seed, "looks"))[: config.batch_size].to(X.device)
    batch = X[rows], y[rows]
    n_steps = count_steps(len(y), config.batch_size, config.epochs)
    with using_threads(config.threads):
        seen = [_practical_row(0, track(learner, *batch), learner, *held_out)]
        steps = train(
            learner,
            build_optimizer(learner, config),
            X,
            y,
            epochs=config.epochs,
            batch_size=config.batch_size,
            seed=config.seed,
            schedule=config.schedule,
        )
        for step, tracking in tracked(steps, learner, *batch, every=max(1, n_steps // n_looks)):
            if tracking:
                seen.append(_practical_row(step.step, tracking, learner, *held_out))
    n_classes = len(batch[1].unique())
    table = pd.DataFrame(seen).assign(seed=config.seed, n_steps=n_steps, n_batch=len(rows), n_classes=n_classes)
    return {"practice": table}


def _practical_row(step: int, seen: Mapping[int, Tracking], learner: Learner, X: Tensor, y: Tensor) -> dict[str, Any]:
    (tracking,) = seen.values()
    accuracy = evaluate(learner.network, X, y, loss=learner.loss).accuracy
    return {"step": step, "validation_accuracy": accuracy, "n_validation": len(y), **_numbers(tracking)}


def _numbers(tracking: Tracking) -> dict[str, float]:
    kept = ("epsilon", "jacobian_bound", "gradient_norm", "error_norm")
    numbers = {name: value for name, value in asdict(tracking).items() if name in kept}
    return {**numbers, "error_bound": tracking.error_bound, "ratio": tracking.ratio}


Spoil = Callable[[Learner, Tensor, int], None]


def _descend(
    learner: Learner, X: Tensor, y: Tensor, schedule: Schedule, spoil: Spoil | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what is seen before each step that is looked at, and at the end: the loss, the true gradient, r.

    A descent that diverges ends with its last look.
    """
    optimizer = torch.optim.SGD([p for p in learner.network.parameters() if p.requires_grad], lr=schedule.rate)
    first = math.inf
    for step in range(schedule.n_steps + 1):
        if learner.placed():
            t, h = _at_boundary(learner, X, y)
            teach(learner, h, y, t, schedule.module_rate, schedule.module_steps + (0 if step else schedule.head_start))
            if spoil is not None:
                spoil(learner, t, step)
        value, slope = _true_slope(learner, X, y)
        if not math.isfinite(slope):
            return
        first = slope if step == 0 else first
        is_last = slope <= schedule.tolerance * first or step == schedule.n_steps
        if is_last or schedule.looks_at(step):
            seen = [_numbers(tracking) for tracking in track(learner, X, y).values()]
            yield {"step": step, "value": value, "slope": slope, "slope_share": slope / first} | dict(*seen)
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
    """Make steps of gradient descent on the module's own loss, mean ‖S(h, y) − t‖², while the network stands still.

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
    """Return the loss, and the norm of its gradient by all that learns in the network."""
    learning = [parameter for parameter in learner.network.parameters() if parameter.requires_grad]
    value = LOSSES[learner.loss](learner.network(X), y).mean()
    slopes = torch.autograd.grad(value, learning)
    return float(value.detach()), float(torch.cat([slope.flatten() for slope in slopes]).norm())


class _Spoiler:
    """Sets the error of a ``Disturbed`` estimator above one tanh unit, so that ε C is a multiple of ‖∂L/∂θ‖."""

    def __init__(self, kind: str, size: float, seed: int, X: Tensor) -> None:
        self._kind, self._size, self._seed = kind, size, seed
        self._inputs = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
        self._first: float | None = None

    @torch.no_grad()
    def __call__(self, learner: Learner, t: Tensor, step: int) -> None:
        """Set the error of a step; in proportion to the true gradient, or if its size is fixed to the first one."""
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
