"""Choice between training replicas together and one by one."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from repsim.learning.learner import Learner, draws_numbers
from repsim.learning.losses import LOSSES
from repsim.learning.parallel.replica_setup import Learners, Optimizers, ReplicaSetup, gather
from repsim.learning.parallel.replica_stack import Replicas
from repsim.learning.parallel.training_memory import Footprint, available_memory, measure_footprint
from repsim.learning.stacking import stack
from repsim.learning.training import propagate

__all__ = ["Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """Whether replicas are trained together or one by one, and why.

    Attributes
    ----------
    how : str
        ``"stacked"``: together, as one stack. ``"loop"``: one by one.
    reason : str
        Reason for the choice, as a sentence without a full stop.
    stacked_seconds, loop_seconds : float or None
        Time of one update of all replicas, if it was measured.
    """

    how: str
    reason: str
    stacked_seconds: float | None = None
    loop_seconds: float | None = None


def choose(how: str, learners: Learners, optimizers: Optimizers, setup: ReplicaSetup) -> Choice:
    """Return how to train replicas: as requested, or, if ``how`` is ``"auto"``, the faster way that fits in memory."""
    X, y = setup.data[0]
    with torch.random.fork_rng([X.device] if X.is_cuda else []):
        needed = _needed(measure_footprint(learners[0], optimizers[0], X, y, setup.batch_size), len(learners))
        available = available_memory(X.device)
        short = {
            name: _too_large(name, len(learners), needed, available)
            for name in needed
            if available is not None and needed[name] > available
        }
        if how != "loop" and len(learners) > 1 and (reason := _why_not_together(learners, optimizers, setup)):
            if how == "stacked":
                raise ValueError(f"These networks cannot be trained together: {reason}. Use how='loop'.")
            return Choice("loop", f"they cannot be trained together: {reason}")
        if (least := "loop" if how == "auto" else how) in short:
            raise ValueError(short[least])
        if how != "auto":
            return Choice(how, "as requested")
        if len(learners) == 1:
            return Choice("loop", "there is one replica")
        return Choice("loop", short["stacked"]) if "stacked" in short else _choose_faster(learners, optimizers, setup)


def _needed(footprint: Footprint, n: int) -> dict[str, int]:
    """Return the bytes that n replicas need each way, in addition to their existing weights."""
    each = footprint.gradients + footprint.moments
    return {
        "stacked": n * (footprint.total + footprint.moments),  # moments twice: write_back copies them to each
        "loop": n * each + footprint.batch,
    }


def _too_large(how: str, n: int, needed: Mapping[str, int], available: int) -> str:
    way, advice = {"stacked": ("together", "how='loop', "), "loop": ("one by one", "")}[how]
    return (
        f"Training {n} replicas {way} needs about {needed[how] / 1e9:.2g} GB of memory, and {available / 1e9:.2g} GB "
        f"is available. Use {advice}fewer replicas or a smaller batch_size."
    )


def _choose_faster(learners: Learners, optimizers: Optimizers, setup: ReplicaSetup) -> Choice:
    """Return the faster way to train, measured by a few updates of copies."""
    rows = [torch.arange(setup.batch_size)] * len(learners)
    loop = _seconds(_loop_trial(learners, optimizers, setup, rows))
    try:
        stacked = _seconds(_stacked_trial(learners, optimizers, setup, rows))
    except (ValueError, RuntimeError) as error:  # from stack, from torch.vmap, or from a lack of memory
        return Choice("loop", f"they cannot be trained together: {error}", None, loop)
    reason = f"batched: {1e3 * stacked:.3g} ms per update; one by one: {1e3 * loop:.3g} ms"
    return Choice("stacked" if stacked < loop else "loop", reason, stacked, loop)


def _why_not_together(learners: Learners, optimizers: Optimizers, setup: ReplicaSetup) -> str:
    """Return why a stack of networks with parts of the user would not train like each network; nothing if it would.

    One batch goes through copies, as a part may treat the axis of replicas in another way than the axis of examples.
    """
    if (kind := type(optimizers[0])) not in _ELEMENTWISE:
        return f"{kind.__name__} is not known to update every number by itself, as Adam and SGD do"
    if learners[0].online:
        return "their parameters are updated after each window, which is done for one network at a time"
    if not _has_parts_of_the_user(learners[0]):
        return ""
    rows = [torch.arange(setup.batch_size)] * len(learners)
    if draws_numbers(learners[0], *(each[: setup.batch_size] for each in setup.data[0])):
        return "their blocks draw random numbers, such as those of dropout"
    alone = [copy.deepcopy(learner).train() for learner in learners]
    for learner, (X, y), chosen in zip(alone, setup.data, rows, strict=True):
        learner.compute_gradients(X[chosen], y[chosen])
    try:
        together: Any = stack(learners)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # the trial measures the time itself
            together.train().compute_gradients(*gather(setup.data, rows))
    except (ValueError, RuntimeError, TypeError, AssertionError, IndexError) as error:  # from blocks that are stacked
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    of_each = [dict(learner.named_parameters()) for learner in alone]
    for name, stacked in together.named_parameters():
        own = [each[name].grad for each in of_each]
        if (stacked.grad is None) is not (own[0] is None) or not _is_close(stacked.grad, own):
            return f"the gradient of {name} is another one in a stack"
    return ""


_ELEMENTWISE = {torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad}


def _has_parts_of_the_user(learner: Learner) -> bool:
    """Return whether a network, its rule or its loss consists of anything but modules of torch and of this package."""
    parts = [*map(type, learner.modules()), LOSSES[learner.loss]]
    is_ours = (str(getattr(part, "__module__", "")).startswith(("torch.", "repsim.")) for part in parts)
    return learner.network.is_own or not all(is_ours)


def _is_close(stacked: Tensor | None, own: Sequence[Tensor | None]) -> bool:
    """Return whether gradients agree up to rounding, relative to their largest entry."""
    if stacked is None:
        return True
    expected = torch.stack([each for each in own if each is not None])
    return bool((stacked - expected).abs().max() <= 1e-3 * expected.abs().max() + 1e-6)


def _loop_trial(
    learners: Learners,
    optimizers: Optimizers,
    setup: ReplicaSetup,
    rows: Sequence[Tensor],
) -> Callable[[], None]:
    copies = copy.deepcopy(list(zip(learners, optimizers, strict=True)))

    def update() -> None:
        for (learner, optimizer), (X, y), chosen in zip(copies, setup.data, rows, strict=True):
            propagate(learner.train(), optimizer, X[chosen], y[chosen], 1, 1)
            optimizer.step()

    return update


def _stacked_trial(
    learners: Learners,
    optimizers: Optimizers,
    setup: ReplicaSetup,
    rows: Sequence[Tensor],
) -> Callable[[], None]:
    replicas = Replicas(learners, optimizers)
    replicas.stacked.train()

    def update() -> None:
        propagate(replicas.stacked, replicas.optimizer, *gather(setup.data, rows), 1, 1)
        replicas.optimizer.step()

    return update


def _seconds(update: Callable[[], None]) -> float:
    """Return the shortest time of three updates, after two warm-up updates."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        update()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[2:])
