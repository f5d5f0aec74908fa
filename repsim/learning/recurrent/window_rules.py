"""Rules between the windows of a recurrent network: one estimator for all boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repsim.learning.estimators import ESTIMATORS, Estimator, Site, locks
from repsim.learning.networks import Chain, RecurrentNetwork
from repsim.learning.rules import Rule

__all__ = ["check_online", "check_without_inputs", "shared_estimator"]

_AVAILABLE = frozenset({"activation", "target"})  # signals at a boundary between windows


def shared_estimator(
    rules: Mapping[int, Rule], network: RecurrentNetwork, n_outputs: int, *, loss: str, seed: int
) -> dict[int, Estimator]:
    """Return the estimator that serves all boundaries of a recurrent network, at the first of them.

    Parameters
    ----------
    rules : mapping of int to Rule
        The rule at each boundary; empty for backprop through the whole sequence.
    network : RecurrentNetwork
    n_outputs, loss, seed
        As for ``site_of``.

    Raises
    ------
    ValueError
        If the rules are not one and the same at all boundaries, or the rule needs what windows do not have.
    """
    if not rules:
        return {}
    if set(rules) != set(network.boundaries) or any(rule != rules[network.window] for rule in rules.values()):
        raise ValueError(
            "The windows of a recurrent network share their parameters, so one rule serves all boundaries between "
            "them. Give one rule without boundaries, and the length of a window as window."
        )
    rule = rules[network.window]
    site = Site(
        (network.state_size,), n_outputs, network.window, None, (network.state_size,), loss, seed, has_labels=False
    )
    if rule.options.get("label_conditioned"):
        raise ValueError(
            f"{rule.name}: label_conditioned is true, but the state between two windows of a sequence has no label. "
            "Leave label_conditioned out."
        )
    if reason := _why_not(rule, site):
        serving = ", ".join(name for name in ESTIMATORS if not _why_not(Rule(name, {}), site))
        raise ValueError(
            f"Rule {rule.name} cannot serve a recurrent network: {reason}. Choose one of: backprop, {serving}."
        )
    return {network.window: rule.build(site)}


def _why_not(rule: Rule, site: Site) -> str:
    """Return why a rule cannot act between windows; nothing if it can."""
    kind = ESTIMATORS[rule.name]
    if kind.through is not Estimator.through:
        return "it changes the backward pass of one segment, and all windows share their cell"
    if kind.learns_again:
        return "its segments learn in a second forward pass, and all windows share their cell"
    if kind.passes_target_unchanged:
        return "it passes every gradient on, as backprop does"
    try:
        estimator = rule.build(site)
    except ValueError as error:
        return str(error).rstrip(".")
    missing = sorted(estimator.needs - _AVAILABLE)
    return f"it needs {', '.join(missing)}, which a boundary between windows does not have" if missing else ""


def check_without_inputs(network: Chain, inputs: Mapping[int, object]) -> None:
    """Raise ValueError if there are synthetic inputs in a recurrent network."""
    if inputs and isinstance(network, RecurrentNetwork):
        raise ValueError(
            "A synthetic input predicts an activation from the whole stimulus, but the windows of a recurrent network "
            "share their parameters and each reads its own part of the sequence. Leave synthetic-input out."
        )


def check_online(network: Chain, estimators: Sequence[Estimator]) -> None:
    """Raise ValueError unless a network can be updated after each window, before later windows have run."""
    if not isinstance(network, RecurrentNetwork):
        raise ValueError("updates is 'window', but the network has no windows; expected 'sequence'.")
    waits = any("backward" in locks(estimator) for estimator in estimators)
    if network.boundaries and (not estimators or waits):
        raise ValueError(
            "updates is 'window', but the rule uses the gradient of later windows, which is known after the whole "
            "sequence. Use updates 'sequence', or a rule that is not backward locked, such as synthetic-gradient."
        )
