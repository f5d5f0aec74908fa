"""Replicas: learners that differ in their seeds only, trained at once as one stack, each as if it were alone."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from repsim.learning.checks import check_choice
from repsim.learning.learner import Learner
from repsim.learning.parallel.memory import Footprint, available_memory, measure_footprint
from repsim.learning.schedules import SCHEDULES
from repsim.learning.stacking import stack
from repsim.learning.training import Diverged, Step, batches, count_steps, propagate, set_rates, train

__all__ = ["Choice", "ReplicaTraining", "Replicas", "train_replicas"]


class Replicas:
    """Learners as one stack, with one optimizer that takes over where theirs are.

    Parameters
    ----------
    learners : sequence of Learner
        Of one structure; they are copied, and change at ``write_back`` only.
    optimizers : sequence of torch.optim.Optimizer
        One over the parameters of each learner, elementwise (Adam, SGD), with equal settings and updates made.

    Attributes
    ----------
    stacked : Learner
        Its parameters have a first axis, the replica.
    optimizer : torch.optim.Optimizer

    Raises
    ------
    ValueError
        If learners or optimizers differ in more than values.
    """

    def __init__(self, learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._learners, self._optimizers = list(learners), list(optimizers)
        self.stacked: Any = stack(self._learners)
        of_stack: dict[str, Tensor] = dict(self.stacked.named_parameters())
        self._places: list[dict[Tensor, Tensor]] = [  # of each optimizer: from a parameter of the stack to its own
            {of_stack[name]: p for name, p in learner.named_parameters()} for learner in self._learners
        ]
        self.optimizer = self._stack_optimizers()

    def __len__(self) -> int:
        """Return the number of replicas."""
        return len(self._learners)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy weights, buffers and the optimizer's state to the learners and optimizers that these were made of."""
        tensors = _tensors(self.stacked)
        for i, (learner, optimizer) in enumerate(zip(self._learners, self._optimizers, strict=True)):
            own = _tensors(learner)
            for name, values in tensors.items():
                own[name].copy_(values[i])
            for group, settings in zip(optimizer.param_groups, self.optimizer.param_groups, strict=True):
                group.update(_without_params(settings))
            for parameter, state in self.optimizer.state.items():
                of_one = {name: _one_of(name, value, i) for name, value in state.items()}
                optimizer.state[self._places[i][parameter]] = of_one

    def without(self, lost: Container[int]) -> Replicas:
        """Write back, and return the stack of the other replicas with the gradients that they have."""
        self.write_back()
        kept = [i for i in range(len(self)) if i not in lost]
        rest = Replicas([self._learners[i] for i in kept], [self._optimizers[i] for i in kept])
        for ours, theirs in zip(self.stacked.parameters(), rest.stacked.parameters(), strict=True):
            theirs.grad = None if ours.grad is None else ours.grad[kept]
        return rest

    def _stack_optimizers(self) -> torch.optim.Optimizer:
        first, *others = self._optimizers
        settings = [_without_params(group) for group in first.param_groups]
        for other in others:
            if type(other) is not type(first) or [_without_params(group) for group in other.param_groups] != settings:
                raise ValueError("Only learners whose optimizers have equal settings can be trained as one.")
        optimizer = copy.copy(first)
        places = {id(ours): of_stack for of_stack, ours in self._places[0].items()}
        optimizer.param_groups = [
            group | {"params": [places[id(p)] for p in group["params"]]} for group in first.param_groups
        ]
        optimizer.state = defaultdict(dict)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                pairs = zip(self._optimizers, self._places, strict=True)
                states = [one.state.get(place[parameter], {}) for one, place in pairs]
                if any(states):
                    optimizer.state[parameter] = _stack_states(states)
        return optimizer


def _tensors(learner: Learner) -> dict[str, Tensor]:
    return dict(learner.named_parameters()) | dict(learner.named_buffers())


def _without_params(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _stack_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what optimizers remember of one parameter each as what one remembers of their stack."""
    stacked: dict[str, Any] = {}
    for name in dict.fromkeys(name for state in states for name in state):  # in an order that no hash decides
        values: list[Any] = [state.get(name) for state in states]
        if name != "step" and isinstance(values[0], Tensor):
            stacked[name] = torch.stack(values)
        elif any(value != values[0] for value in values):
            raise ValueError(
                f"The optimizers differ in {name}: {_list(list(map(_show, values)))}; only learners that have made "
                "equally many updates can be trained as one. Use how='loop'."
            )
        else:
            stacked[name] = copy.deepcopy(values[0])
    return stacked


def _show(value: Any) -> str:
    return f"{float(value):g}" if isinstance(value, Tensor) else str(value)


def _one_of(name: str, value: Any, index: int) -> Any:
    if isinstance(value, Tensor):
        return value.clone() if name == "step" else value[index].clone()
    return copy.deepcopy(value)


@dataclass(frozen=True)
class Choice:
    """How replicas are trained, and why.

    Attributes
    ----------
    how : str
        ``"stacked"``, all at once, or ``"loop"``, one after the other.
    reason : str
        In words.
    stacked_seconds, loop_seconds : float or None
        Of one update of all replicas, where it was timed.
    """

    how: str
    reason: str
    stacked_seconds: float | None = None
    loop_seconds: float | None = None


def train_replicas(
    learners: Sequence[Learner],
    optimizers: Sequence[torch.optim.Optimizer],
    data: Sequence[tuple[Tensor, Tensor]],
    *,
    epochs: int,
    batch_size: int,
    seeds: Sequence[int],
    schedule: str = "constant",
    start: int = 0,
    diagnosed: Container[int] = (),
    how: str = "auto",
) -> ReplicaTraining:
    """Train several learners side by side, each as ``train`` would train it alone.

    Each sees the batches of its own seed. Trained as one, a replica differs from its single run by rounding only; in a
    loop by nothing. A replica that diverges keeps the state in which its single run would have stopped, and the others
    go on.

    Parameters
    ----------
    learners : sequence of Learner
        Of one structure.
    optimizers : sequence of torch.optim.Optimizer
        Over the parameters of each.
    data : sequence of (X, y)
        Of each, with equally many examples; on the learners' device.
    epochs, batch_size, schedule, start, diagnosed
        As in ``train``; the same for all.
    seeds : sequence of int
        Of the orders of the examples.
    how : str, default "auto"
        ``"stacked"``: all as one, which takes their memory once more. ``"loop"``: one after the other at each step.
        ``"auto"``: what a few updates of copies show to be faster, or the loop if memory is short.

    Returns
    -------
    ReplicaTraining
        An iterator; each update yields a list with the ``Step`` of each replica, or its ``Diverged``.

    Raises
    ------
    ValueError
        At the call: if the numbers of learners, optimizers, data and seeds, or of examples, differ, not even one batch
        can be filled, the learners cannot be stacked, or memory will not do.
    """
    check_choice("how", how, ("auto", "stacked", "loop"))
    counts = [len(learners), len(optimizers), len(data), len(seeds)]
    if len(set(counts)) > 1 or not learners:
        names = " learners, ", " optimizers, ", " data sets and ", " seeds"
        told = "".join(f"{count}{name}" for count, name in zip(counts, names, strict=True))
        raise ValueError(f"There are {told}; expected one of each for every replica.")
    sizes = [len(y) for _, y in data]
    if len(set(sizes)) > 1:
        raise ValueError(f"The replicas have {_list(sizes)} training examples; expected equally many for all.")
    count_steps(sizes[0], batch_size, epochs)  # raises if there is no batch
    plan = _Plan(list(data), list(seeds), epochs, batch_size, schedule, start, diagnosed)
    choice = _choose(how, learners, optimizers, plan)
    return ReplicaTraining(learners, optimizers, plan, choice)


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"


@dataclass(frozen=True)
class _Plan:
    """What ``train_replicas`` was asked for, but for the learners."""

    data: list[tuple[Tensor, Tensor]]
    seeds: list[int]
    epochs: int
    batch_size: int
    schedule: str
    start: int
    diagnosed: Container[int]

    @property
    def n_steps(self) -> int:
        return count_steps(len(self.data[0][1]), self.batch_size, self.epochs)

    def batches(self) -> Iterator[tuple[int, int, list[Tensor]]]:
        """Yield the number of each update, its epoch and the examples in the batch of each replica."""
        n, start = len(self.data[0][1]), self.start
        of_each = [
            batches(n, epochs=self.epochs, batch_size=self.batch_size, seed=seed, start=start) for seed in self.seeds
        ]
        for several in zip(*of_each, strict=True):
            step, epoch, _ = several[0]
            yield step, epoch, [rows for _, _, rows in several]

    def train(self, learner: Learner, optimizer: torch.optim.Optimizer, i: int) -> Iterator[Step]:
        """Train replica i alone."""
        return train(
            learner,
            optimizer,
            *self.data[i],
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seeds[i],
            schedule=self.schedule,
            start=self.start,
            diagnosed=self.diagnosed,
        )


class ReplicaTraining(Iterator[list[Step | Diverged]]):
    """Several trainings side by side; see ``train_replicas``, which returns it.

    The learners and optimizers it was given are up to date after ``write_back``, and when the iterator is exhausted.

    Attributes
    ----------
    choice : Choice
    """

    def __init__(
        self, learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer], plan: _Plan, choice: Choice
    ) -> None:
        self.choice, self._plan = choice, plan
        self._replicas: Replicas | None = None
        if choice.how == "loop":
            runs = [plan.train(*pair, i) for i, pair in enumerate(zip(learners, optimizers, strict=True))]
            self._updates = self._loop(runs)
        else:
            self._replicas = Replicas(learners, optimizers)
            self._updates = self._stacked(self._replicas)

    def __next__(self) -> list[Step | Diverged]:
        """Make one update of every replica that has not diverged, and return what was seen."""
        return next(self._updates)

    def write_back(self) -> None:
        """Bring the learners and optimizers up to date, so that each can be saved or evaluated as a run of its own."""
        if self._replicas is not None:
            self._replicas.write_back()

    def _loop(self, runs: Sequence[Iterator[Step]]) -> Iterator[list[Step | Diverged]]:
        ended: dict[int, Diverged] = {}
        for _ in range(self._plan.start, self._plan.n_steps):
            seen = [ended.get(i) or _advance(run) for i, run in enumerate(runs)]
            ended = {i: each for i, each in enumerate(seen) if isinstance(each, Diverged)}
            yield seen
            if len(ended) == len(runs):
                return

    def _stacked(self, replicas: Replicas) -> Iterator[list[Step | Diverged]]:
        plan = self._plan
        alive, ended = list(range(len(replicas))), dict[int, Diverged]()
        replicas.stacked.train()
        for step, epoch, rows in plan.batches():
            set_rates(replicas.optimizer, SCHEDULES[plan.schedule]((step - 1) / plan.n_steps))
            batch = _gather([plan.data[i] for i in alive], [rows[i] for i in alive])
            records = propagate(replicas.stacked, replicas.optimizer, *batch, step, epoch, step in plan.diagnosed)
            seen = dict(zip(alive, records, strict=True))
            if lost := {i: each for i, each in seen.items() if isinstance(each, Diverged)}:
                ended |= lost
                if len(ended) == len(plan.data):
                    yield [ended[i] for i in sorted(ended)]
                    break
                replicas = self._replicas = replicas.without([alive.index(i) for i in lost])
                replicas.stacked.train()
                alive = [i for i in alive if i not in lost]
            replicas.optimizer.step()
            yield [ended.get(i) or seen[i] for i in range(len(plan.data))]
        self.write_back()


def _advance(run: Iterator[Step]) -> Step | Diverged:
    try:
        return next(run)
    except Diverged as diverged:
        return diverged


def _gather(data: Sequence[tuple[Tensor, Tensor]], rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the chosen rows of each data set, X (R, N, n_features) and y (R, N)."""
    X, y = data[0]
    batch = X.new_empty(len(rows), len(rows[0]), *X.shape[1:]), y.new_empty(len(rows), len(rows[0]), *y.shape[1:])
    for i, chosen in enumerate(rows):
        for values, into in zip(data[i], batch, strict=True):
            torch.index_select(values, 0, chosen.to(values.device), out=into[i])
    return batch


def _choose(how: str, learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer], plan: _Plan) -> Choice:
    """Return how to train, having seen that memory will do.

    Raises
    ------
    ValueError
        If it will not.
    """
    X, y = plan.data[0]
    with torch.random.fork_rng([X.device] if X.is_cuda else []):
        needed = _needed(measure_footprint(learners[0], optimizers[0], X, y, plan.batch_size), len(learners))
        available = available_memory(X.device)
        short = {
            name: _too_large(name, len(learners), needed, available)
            for name in needed
            if available is not None and needed[name] > available
        }
        if (least := "loop" if how == "auto" else how) in short:
            raise ValueError(short[least])
        if how != "auto":
            return Choice(how, "as asked for")
        if len(learners) == 1:
            return Choice("loop", "there is one replica")
        return Choice("loop", short["stacked"]) if "stacked" in short else _faster(learners, optimizers, plan)


def _needed(footprint: Footprint, n: int) -> dict[str, int]:
    """Return the bytes that n replicas take each way, besides the weights that they have."""
    each = footprint.gradients + footprint.moments
    return {
        "stacked": n * (footprint.total + footprint.moments),  # moments twice, as each gets its own when written back
        "loop": n * each + footprint.batch,
    }


def _too_large(how: str, n: int, needed: Mapping[str, int], available: int) -> str:
    way, advice = {"stacked": ("as one", "how='loop', "), "loop": ("one by one", "")}[how]
    return (
        f"Training {n} replicas {way} needs about {needed[how] / 1e9:.2g} GB of memory, and {available / 1e9:.2g} GB "
        f"is available. Use {advice}fewer replicas or a smaller batch_size."
    )


def _faster(learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer], plan: _Plan) -> Choice:
    """Time a few updates of copies each way."""
    rows = [torch.arange(plan.batch_size)] * len(learners)
    loop = _seconds(_loop_trial(learners, optimizers, plan, rows))
    try:
        stacked = _seconds(_stacked_trial(learners, optimizers, plan, rows))
    except (ValueError, RuntimeError) as error:  # of stack, of torch.vmap, or of a lack of memory
        return Choice("loop", f"they cannot be trained as one: {error}", None, loop)
    how, other = ("stacked", "loop") if stacked < loop else ("loop", "stacked")
    times = {"stacked": stacked, "loop": loop}
    reason = f"{1e3 * times[how]:.3g} ms an update of all, against {1e3 * times[other]:.3g} ms {other}"
    return Choice(how, reason, stacked, loop)


def _loop_trial(
    learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer], plan: _Plan, rows: Sequence[Tensor]
) -> Callable[[], None]:
    copies = copy.deepcopy(list(zip(learners, optimizers, strict=True)))

    def update() -> None:
        for (learner, optimizer), (X, y), chosen in zip(copies, plan.data, rows, strict=True):
            propagate(learner.train(), optimizer, X[chosen], y[chosen], 1, 1)
            optimizer.step()

    return update


def _stacked_trial(
    learners: Sequence[Learner], optimizers: Sequence[torch.optim.Optimizer], plan: _Plan, rows: Sequence[Tensor]
) -> Callable[[], None]:
    replicas = Replicas(learners, optimizers)
    replicas.stacked.train()

    def update() -> None:
        propagate(replicas.stacked, replicas.optimizer, *_gather(plan.data, rows), 1, 1)
        replicas.optimizer.step()

    return update


def _seconds(update: Callable[[], None]) -> float:
    """Return the shortest of three times of an update, after two that do not count."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        update()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[2:])
