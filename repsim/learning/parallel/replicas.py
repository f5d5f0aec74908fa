"""Training of replicas: learners that differ only in their seeds, side by side."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import torch
from torch import Tensor

from repsim.learning.checks import check_choice
from repsim.learning.config import TrainingConfig
from repsim.learning.learner import Learner
from repsim.learning.optimizers import clip_gradients
from repsim.learning.parallel.replica_choice import Choice, choose
from repsim.learning.parallel.replica_setup import ReplicaSetup, gather
from repsim.learning.parallel.replica_stack import Replicas, enumerate_in_words
from repsim.learning.training import Diverged, Step, propagate, set_rates, with_spreads

__all__ = ["ReplicaTraining", "train_replicas"]


def train_replicas(
    learners: Sequence[Learner],
    optimizers: Sequence[torch.optim.Optimizer],
    data: Sequence[tuple[Tensor, Tensor]],
    configs: Sequence[TrainingConfig],
    *,
    start: int = 0,
    diagnosed: Container[int] = (),
    diagnosis_batches: int = 0,
    how: str = "auto",
) -> ReplicaTraining:
    """Train several learners side by side, each as ``train`` would train it alone.

    Each replica sees the batches of its own seed. Trained together, a replica differs from its single run by rounding
    errors only; trained one by one, not at all. A replica that diverges stays in the state in which its single run
    would have stopped, and the others continue.

    Parameters
    ----------
    learners : sequence of Learner
        Learners of equal structure.
    optimizers : sequence of torch.optim.Optimizer
        One optimizer per learner.
    data : sequence of (X, y)
        Training examples of each learner, equally many, on the device of the learners.
    configs : sequence of TrainingConfig
        One config per learner, as in ``train``, with equal ``epochs``, ``batch_size``, ``schedule``, ``warmup`` and
        ``clip_norm``. The gradients of each replica are clipped by themselves.
    start, diagnosed, diagnosis_batches
        As in ``train``; the same for all replicas.
    how : str, default "auto"
        ``"stacked"``: together, which doubles their memory. ``"loop"``: one by one at each step. ``"auto"``: the
        faster of the two, measured by a few updates of copies, or the loop if memory is short.

    Returns
    -------
    ReplicaTraining
        An iterator that yields, after each update, a list with one ``Step``, or ``Diverged``, per replica.

    Raises
    ------
    ValueError
        If there are not equally many learners, optimizers, data sets and configs, or not equally many examples; if
        configs differ in epochs, batch_size, schedule, warmup or clip_norm; if batch_size exceeds the number of
        examples; if the learners cannot be stacked; or if the available memory is not sufficient. It is raised at the
        call, before training starts.
    """
    check_choice("how", how, ("auto", "stacked", "loop"))
    counts = [len(learners), len(optimizers), len(data), len(configs)]
    if len(set(counts)) > 1 or not learners:
        names = " learners, ", " optimizers, ", " data sets and ", " configs"
        numbers = "".join(f"{count}{name}" for count, name in zip(counts, names, strict=True))
        raise ValueError(f"There are {numbers}; expected one of each per replica.")
    sizes = [len(y) for _, y in data]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"The replicas have {enumerate_in_words(sizes)} training examples; expected the same number for all."
        )
    for name in ("epochs", "batch_size", "schedule", "warmup", "clip_norm"):
        values = [getattr(config, name) for config in configs]
        if len(set(values)) > 1:
            raise ValueError(f"The configs have {name} {enumerate_in_words(values)}; expected the same for all.")
    setup = ReplicaSetup(list(data), list(configs), start, diagnosed, diagnosis_batches)
    _ = setup.n_steps  # raises if batch_size exceeds the number of examples
    choice = choose(how, learners, optimizers, setup)
    return ReplicaTraining(learners, optimizers, setup, choice)


class ReplicaTraining(Iterator[list[Step | Diverged]]):
    """Iterator that trains several learners side by side; see ``train_replicas``, which returns it.

    The original learners and optimizers are up to date after ``write_back``, and when the iterator is exhausted.

    Attributes
    ----------
    choice : Choice
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        optimizers: Sequence[torch.optim.Optimizer],
        setup: ReplicaSetup,
        choice: Choice,
    ) -> None:
        self.choice, self._setup = choice, setup
        self._replicas: Replicas | None = None
        if choice.how == "loop":
            runs = [setup.train(*pair, i) for i, pair in enumerate(zip(learners, optimizers, strict=True))]
            self._updates = self._loop(runs)
        else:
            self._replicas = Replicas(learners, optimizers)
            self._updates = self._stacked(self._replicas)

    def __next__(self) -> list[Step | Diverged]:
        """Make one update of every replica that has not diverged, and return one record per replica."""
        return next(self._updates)

    def write_back(self) -> None:
        """Bring the learners and optimizers up to date, so that each can be saved or evaluated."""
        if self._replicas is not None:
            self._replicas.write_back()

    def _loop(self, runs: Sequence[Iterator[Step]]) -> Iterator[list[Step | Diverged]]:
        ended: dict[int, Diverged] = {}
        for _ in range(self._setup.start, self._setup.n_steps):
            records = [ended.get(i) or _advance(run) for i, run in enumerate(runs)]
            ended = {i: each for i, each in enumerate(records) if isinstance(each, Diverged)}
            yield records
            if len(ended) == len(runs):
                return

    def _stacked(self, replicas: Replicas) -> Iterator[list[Step | Diverged]]:
        setup = self._setup
        alive, ended = list(range(len(replicas))), dict[int, Diverged]()
        replicas.stacked.train()
        for of_each in setup.batches():
            step, epoch, _, factor = of_each[0]
            set_rates(replicas.optimizer, factor)
            X, y = gather([setup.data[i] for i in alive], [of_each[i].rows for i in alive])
            records, _ = propagate(replicas.stacked, replicas.optimizer, X, y, step, epoch, step in setup.diagnosed)
            if step in setup.diagnosed and setup.diagnosis_batches:
                records = with_spreads(records, replicas.stacked, setup.diagnosis(step, alive), lead=1)
            by_replica = dict(zip(alive, records, strict=True))
            if lost := {i: each for i, each in by_replica.items() if isinstance(each, Diverged)}:
                ended |= lost
                if len(ended) == len(setup.data):
                    yield [ended[i] for i in sorted(ended)]
                    break
                replicas = self._replicas = replicas.without([alive.index(i) for i in lost])
                replicas.stacked.train()
                alive = [i for i in alive if i not in lost]
            clip_gradients(replicas.stacked.network, setup.configs[0].clip_norm, lead=1)
            replicas.optimizer.step()
            yield [ended.get(i) or by_replica[i] for i in range(len(setup.data))]
        self.write_back()


def _advance(run: Iterator[Step]) -> Step | Diverged:
    try:
        return next(run)
    except Diverged as diverged:
        return diverged
