"""Learners: a network, the estimators and synthetic inputs at its boundaries, and the optimizer of all."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from repsim.learning.config import OF_NETWORK, TrainingConfig
from repsim.learning.estimators import Estimator, Site
from repsim.learning.estimators.passes.equilibrium_propagation import network_for
from repsim.learning.inputs import SyntheticInput
from repsim.learning.line_search import LineSearch, refuse_unsearchable
from repsim.learning.networks import CELLS, NETWORKS, Chain, RecurrentNetwork, recurrent_net
from repsim.learning.optimizers import optimizer_of
from repsim.learning.recurrent import WindowTape, check_online, check_without_inputs, shared_estimator
from repsim.learning.rules import InputRule, Rule, parse_inputs, parse_rules
from repsim.learning.stacking import stack
from repsim.learning.step import Outcome, compute_gradients, run_forward
from repsim.learning.streams import stream
from repsim.learning.tape import Tape

__all__ = ["Learner", "build_learner", "build_optimizer", "draws_numbers", "site_of"]


class Learner(nn.Module):
    """A network, and the estimators and synthetic inputs at its boundaries, as one module with one ``state_dict``.

    Parameters
    ----------
    network : Chain
    estimators : mapping of int to Estimator, default empty
        Estimators by boundary. Boundaries without an estimator use backprop.
    synthetic_inputs : mapping of int to SyntheticInput, default empty
        By boundary; see ``compute_gradients``. ``forward`` does not use them.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    together : bool, default True
        Whether estimators of equal kind, shape and options that need nothing from the backward pass are stacked and
        evaluated together. The ``state_dict`` then holds them as one entry named by their boundaries, such as
        ``estimators.1_2_3``.
    started : mapping of int to int, default empty
        Number of updates made before the estimator at a boundary was added, where that is not 0. Only estimators that
        started together are stacked, as the optimizer counts the updates of a stack as one.
    online : bool, default False
        Whether ``train`` updates a recurrent network after every window, rather than after every batch of sequences.

    Raises
    ------
    ValueError
        If the network does not have the boundary of an estimator or of a synthetic input, if there is a synthetic input
        in a recurrent network or beside a rule that learns in a second forward pass, or if the network cannot be
        updated after every window.
    """

    stacks_by_parts = True

    def __init__(
        self,
        network: Chain,
        estimators: Mapping[int, Estimator] | None = None,
        *,
        synthetic_inputs: Mapping[int, SyntheticInput] | None = None,
        loss: str = "log_loss",
        together: bool = True,
        started: Mapping[int, int] | None = None,
        online: bool = False,
    ) -> None:
        super().__init__()
        estimators = dict(sorted((estimators or {}).items()))
        modules = dict(sorted((synthetic_inputs or {}).items()))
        for k in (*estimators, *modules):
            network.check_boundary(k)
        check_without_inputs(network, modules)
        if modules and any(estimator.learns_again for estimator in estimators.values()):
            raise ValueError(
                "A synthetic input replaces the activations of one forward pass, but a rule here compares two passes. "
                "Leave out the synthetic input, or use another rule."
            )
        if online:
            check_online(network, list(estimators.values()))
        self.network, self.loss, self.online = network, loss, online
        alone = {(k,): [estimator] for k, estimator in estimators.items()}
        groups = _group_alike(estimators, started or {}) if together else alone
        self.estimators = nn.ModuleDict(
            {
                "_".join(map(str, ks)): several[0] if len(several) == 1 else stack(several)
                for ks, several in groups.items()
            }
        )
        self.synthetic_inputs = nn.ModuleDict({str(k): module for k, module in modules.items()})

    @classmethod
    def with_rule(cls, network: Chain, rule: str, *, loss: str = "log_loss", seed: int = 0) -> Learner:
        """Return a measured network, such as ``Chain.of(net, example=X[:2])``, with a rule at its boundaries.

        It has the shapes at its boundaries and its number of outputs, so that nothing else is needed to train it: call
        ``compute_gradients`` in a loop of your own, then ``step`` of any torch optimizer of its ``parameters()``.

        Parameters
        ----------
        network : Chain
        rule : str
            As in ``TrainingConfig.rule``, such as ``"synthetic-gradient@2"``.
        loss : str, default "log_loss"
            A key of ``LOSSES``.
        seed : int, default 0
            Seed of the rule's own initial values and draws.

        Raises
        ------
        ValueError
            If the network was not measured, or the rule cannot be used in it.

        Examples
        --------
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> learner = Learner.with_rule(Chain.of(net, example=torch.zeros(2, 6)), "synthetic-gradient@1")
        >>> learner.compute_gradients(torch.ones(4, 6), torch.tensor([0, 1, 2, 0])).logits.shape
        torch.Size([4, 3])
        """
        estimators = build_estimators(_rules_in(network, rule), network, network.n_outputs, loss=loss, seed=seed)
        placed = parse_inputs(rule, None, len(network.hidden))
        if placed and network.n_features is None:
            raise ValueError("The number of inputs is unknown; give Chain.of an example, such as X[:2].")
        modules = build_inputs(placed, network, network.n_features or 0, network.n_outputs, seed=seed)
        return cls(network_for(network, estimators), estimators, synthetic_inputs=modules, loss=loss)

    def forward(self, X: Tensor) -> Tensor:
        """Return the network's logits (N, n_outputs)."""
        return self.network(X)

    def compute_gradients(self, X: Tensor, y: Tensor, *, watch: bool = False, again: bool = False) -> Outcome:
        """Add the gradients of one batch to ``.grad`` of every parameter; see the function ``compute_gradients``."""
        modules = self.placed_inputs()
        return compute_gradients(
            self.network, self.placed(), X, y, synthetic_inputs=modules, loss=self.loss, watch=watch, again=again
        )

    def run_forward(self, X: Tensor, y: Tensor, *, watch: bool = False) -> Tape | WindowTape:
        """Return the forward pass of one batch, ready for the backward pass; see the function ``run_forward``."""
        return run_forward(self.network, self.placed(), X, y, synthetic_inputs=self.placed_inputs(), watch=watch)

    def placed(self) -> dict[tuple[int, ...], Estimator]:
        """Return the estimators, keyed by the tuple of boundaries that each serves."""
        return {
            tuple(map(int, name.split("_"))): cast(Estimator, estimator) for name, estimator in self.estimators.items()
        }

    def placed_inputs(self) -> dict[int, SyntheticInput]:
        """Return the synthetic inputs by boundary."""
        return {int(k): cast(SyntheticInput, module) for k, module in self.synthetic_inputs.items()}


def _rules_in(network: Chain, rule: str) -> dict[int, Rule]:
    """Return the rule at each boundary of a network that a text without boundaries names."""
    if not isinstance(network, RecurrentNetwork):
        return parse_rules(rule, None, len(network.boundaries))
    boundaries = ",".join(map(str, network.boundaries))
    return parse_rules(rule, boundaries, network.length) if boundaries else {}


_AVAILABLE_BEFORE_BACKWARD = frozenset({"activation", "labels", "error", "true_gradient"})


def _group_alike(
    estimators: Mapping[int, Estimator], started: Mapping[int, int]
) -> dict[tuple[int, ...], list[Estimator]]:
    """Return the estimators in groups that can be evaluated together before the backward pass.

    Those of users are alone, as they may take the axis of boundaries for that of examples.
    """
    groups: dict[Any, dict[int, Estimator]] = {}
    for k, estimator in estimators.items():
        alike = (type(estimator), estimator.site.shape, estimator.options, started.get(k, 0))
        is_ours = type(estimator).__module__.startswith("repsim.")
        key = alike if is_ours and estimator.needs <= _AVAILABLE_BEFORE_BACKWARD else k
        groups.setdefault(key, {})[k] = estimator
    return {tuple(group): list(group.values()) for group in groups.values()}


def draws_numbers(learner: Learner, X: Tensor, y: Tensor) -> bool:
    """Return whether parts of the user draw from torch's global generator, as dropout does, from a batch of a copy."""
    trial = copy.deepcopy(learner).train()
    with torch.random.fork_rng([X.device] if X.is_cuda else []):
        before = torch.get_rng_state()
        trial.compute_gradients(X, y)
        return not torch.equal(before, torch.get_rng_state())


def site_of(network: Chain, k: int, *, loss: str = "log_loss", seed: int = 0, n_outputs: int) -> Site:
    """Return the site of an estimator at boundary k of a network.

    Parameters
    ----------
    network : Chain
    k : int
        Boundary, 1 or more; boundary k lies after hidden segment k.
    loss : str, default "log_loss"
        A key of ``LOSSES``.
    seed : int, default 0
        Seed of the run.
    n_outputs : int
        Number of outputs of the network.
    """
    segments, shapes = network.segments, network.shapes
    above = () if k == len(shapes) else shapes[k]
    return Site(shapes[k - 1], n_outputs, k, segments[k], above, loss, seed, len(segments) - k, network.n_features)


def build_learner(
    config: TrainingConfig,
    shape: int | tuple[int, ...],
    n_outputs: int,
    *,
    network: Chain | None = None,
    together: bool = True,
    started: Mapping[int, int] | None = None,
    scored: Sequence[int] | None = None,
) -> Learner:
    """Return the network and estimators that a configuration describes, initialised from its seed.

    Networks of equal shape and seed start from equal weights for every rule.

    Parameters
    ----------
    config : TrainingConfig
    shape : int or tuple of int
        Shape of one example: the number of features, (channels, height, width), or (steps, features) of a sequence.
    n_outputs : int
        Number of classes, or of regression targets.
    network : Chain, optional
        The network that ``config.model`` describes, measured. It must be given if there is a model, and only then.
    together, started
        See ``Learner``.
    scored : sequence of int, optional
        Time steps with a target, for a recurrent network; see ``RecurrentNetwork``.

    Raises
    ------
    ValueError
        If the network cannot process examples of this shape, or if the rule cannot be used in the network.
    """
    if (network is None) is not (config.model is None):
        raise ValueError(
            f"model is {config.model!r} and a network was {'not ' if network is None else ''}given; give the network "
            "that the model describes, or neither."
        )
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    network = network or _built_in(config, shape, n_outputs, scored)
    depth = len(network.hidden)
    estimators = build_estimators(config.rules_at(depth), network, n_outputs, loss=config.loss, seed=config.seed)
    modules = build_inputs(config.synthetic_inputs_at(depth), network, math.prod(shape), n_outputs, seed=config.seed)
    return Learner(
        network_for(network, estimators),
        estimators,
        synthetic_inputs=modules,
        loss=config.loss,
        together=together,
        started=started,
        online=config.updates == "window",
    )


def _built_in(config: TrainingConfig, shape: tuple[int, ...], n_outputs: int, scored: Sequence[int] | None) -> Chain:
    generator = stream(config.seed, "weights")
    if config.network in CELLS:
        return recurrent_net(
            config.network,
            shape,
            n_outputs,
            width=config.width,
            scored=scored,
            window=config.window,
            generator=generator,
        )
    if scored is not None:
        raise ValueError(
            f"The data have targets at {len(scored)} time step(s) of a sequence, and network '{config.network}' has "
            f"one output per example. Use network {', '.join(CELLS)}."
        )
    return NETWORKS[config.network](
        shape,
        n_outputs,
        depth=config.depth,
        width=config.width,
        norm=config.norm,
        activation=config.activation,
        shift=config.shift,
        generator=generator,
        **{name: getattr(config, name) for name in OF_NETWORK.get(config.network, ())},
    )


def build_estimators(
    rules: Mapping[int, Rule], network: Chain, n_outputs: int, *, loss: str, seed: int
) -> dict[int, Estimator]:
    """Return the estimator at each boundary that has a rule; of a recurrent network, one for all boundaries.

    Raises
    ------
    ValueError
        If a rule cannot be used in the network.
    """
    if isinstance(network, RecurrentNetwork):
        return shared_estimator(rules, network, n_outputs, loss=loss, seed=seed)
    sites = {k: site_of(network, k, loss=loss, seed=seed, n_outputs=n_outputs) for k in rules}
    estimators = {k: rule.build(sites[k]) for k, rule in rules.items()}
    for k, estimator in estimators.items():
        estimator.check_segment(network.segments[k - 1])
    return estimators


def build_inputs(
    placed: Mapping[int, InputRule], network: Chain, n_inputs: int, n_outputs: int, *, seed: int
) -> dict[int, SyntheticInput]:
    """Return the synthetic input at each boundary that has one."""
    check_without_inputs(network, placed)
    return {k: each.build(site_of(network, k, seed=seed, n_outputs=n_outputs), n_inputs) for k, each in placed.items()}


def build_optimizer(learner: Learner, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer, with one parameter group for the network and one for estimators and synthetic inputs.

    Raises
    ------
    ValueError
        If nothing of the learner can be trained, if the optimizer has no weight decay or clipping and the configuration
        has, or if the optimizer is a line search and the network or the rule has no loss that can be compared.
    """
    of_rules = (*learner.estimators.parameters(), *learner.synthetic_inputs.parameters())
    optimizer = optimizer_of(config, learner.network.parameters(), of_rules)
    if optimizer is None:
        raise ValueError("The network has no parameters, so there is nothing to train.")
    if isinstance(optimizer, LineSearch):
        refuse_unsearchable(learner.network, learner.placed().values(), config.optimizer)
    return optimizer
