"""Rules as text: the estimators and synthetic inputs of a network, their options and their boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from repsim.learning.estimators import ESTIMATORS, Estimator, Observed, Site
from repsim.learning.inputs import SyntheticInput
from repsim.learning.streams import stream
from repsim.settings import Setting

__all__ = ["InputRule", "Rule", "choose_boundaries", "is_observable", "parse_inputs", "parse_rules"]


@dataclass(frozen=True)
class Rule:
    """The name of an estimator with its options.

    Attributes
    ----------
    name : str
        A key of ``ESTIMATORS``.
    options : dict
        Values of the estimator's ``Options`` that differ from their defaults, already checked.
    observe : bool
        Whether the estimator only learns while the network uses backprop.
    """

    name: str
    options: dict[str, Any]
    observe: bool = False

    def build(self, site: Site) -> Estimator:
        """Return the estimator for a site; its random numbers depend only on the seed and the boundary."""
        generator = stream(site.seed, "estimator", site.boundary)
        estimator = ESTIMATORS[self.name](site, generator=generator, **self.options)
        return Observed(estimator) if self.observe else estimator


@dataclass(frozen=True)
class InputRule:
    """The options of a synthetic input that differ from their defaults, already checked."""

    options: dict[str, Any]

    def build(self, site: Site, n_inputs: int) -> SyntheticInput:
        """Return the module for a site; its initial values depend only on the seed and the boundary."""
        generator = stream(site.seed, "synthetic input", site.boundary)
        return SyntheticInput(site, n_inputs, generator=generator, **self.options)


def parse_rules(text: str, boundaries: str | None, depth: int) -> dict[int, Rule]:
    """Return the rule at each boundary that a text names; all other boundaries use backprop.

    Parameters
    ----------
    text : str
        ``NAME[:option=value[,option=value]][@boundaries]``. Several rules are joined by " + "; where two of them name
        the same boundary, the later one applies. Every rule that chooses its own gradient also has the option
        ``observe=true``. The part ``synthetic-input`` chooses no gradient; ``parse_inputs`` reads it.
    boundaries : str or None
        Boundaries for rules given without @; see ``choose_boundaries``. With None each rule uses its own default:
        "middle" for synthetic gradients, "all" for the others.
    depth : int
        Number of hidden layers of the network.

    Returns
    -------
    dict of int to Rule
        Rules by boundary, in ascending order; boundaries that use backprop are left out.

    Raises
    ------
    ValueError
        If a name, an option, a value or a boundary is unknown or out of range.

    Examples
    --------
    >>> parse_rules("direct-feedback-alignment@1,2 + synthetic-gradient:hidden_layers=1@3", None, depth=4)[3]
    Rule(name='synthetic-gradient', options={'hidden_layers': 1}, observe=False)
    """
    at: dict[int, Rule] = {}
    for rule, chosen in _parts(text, boundaries, depth):
        if isinstance(rule, Rule):
            at |= dict.fromkeys(chosen, rule)
    return {k: rule for k, rule in sorted(at.items()) if rule.name != "backprop"}


def parse_inputs(text: str, boundaries: str | None, depth: int) -> dict[int, InputRule]:
    """Return the synthetic input at each boundary where a text places one, in ascending order.

    Parameters
    ----------
    text, boundaries, depth
        As for ``parse_rules``. A part ``synthetic-input[:option=value,...][@boundaries]`` combines with any rule at the
        same boundary; of two such parts the later one applies.

    Raises
    ------
    ValueError
        As for ``parse_rules``.

    Examples
    --------
    >>> parse_inputs("synthetic-gradient@2 + synthetic-input:hidden_layers=1@2", None, depth=4)
    {2: InputRule(options={'hidden_layers': 1})}
    """
    at: dict[int, InputRule] = {}
    for rule, chosen in _parts(text, boundaries, depth):
        if isinstance(rule, InputRule):
            at |= dict.fromkeys(chosen, rule)
    return dict(sorted(at.items()))


def _parts(text: str, boundaries: str | None, depth: int) -> Iterator[tuple[Rule | InputRule, tuple[int, ...]]]:
    """Yield each part of a text with its boundaries."""
    if boundaries is not None and all("@" in part for part in text.split(" + ")):
        raise ValueError(
            f"boundaries is '{boundaries}', but every rule of '{text}' names its boundaries after an @. Leave out "
            "either boundaries or the @."
        )
    for part in text.split(" + "):
        described, at_sign, where = part.strip().partition("@")
        rule, kind = _parse_part(described)
        by_default = kind.places if boundaries is None else boundaries
        yield rule, choose_boundaries(where if at_sign else by_default, depth)


def _parse_part(text: str) -> tuple[Rule | InputRule, type[Estimator] | type[SyntheticInput]]:
    name, colon, assignments = text.partition(":")
    kinds: dict[str, type[Estimator] | type[SyntheticInput]] = {**ESTIMATORS, SyntheticInput.name: SyntheticInput}
    if name not in kinds:
        raise ValueError(f"Unknown rule '{name}'. Choose one of: {', '.join(kinds)}.")
    of_all = (_OBSERVE,) if name in ESTIMATORS else ()
    known = {option.name: option for option in (*kinds[name].Options.settings(), *of_all)}
    options: dict[str, Any] = {}
    for assignment in assignments.split(",") if colon else ():
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals or not value:
            raise ValueError(
                f"Rule '{text}' is not understood at '{assignment}'; expected NAME:option=value,option=value."
            )
        if key not in known:
            raise ValueError(f"Rule {name} has no option '{key}'. Choose one of: {', '.join(known)}.")
        if key in options:
            raise ValueError(f"Rule '{text}' sets {key} twice.")
        options[key] = _parse_value(f"{name}: {key}", value, known[key])
    observe = options.pop("observe", False)
    if observe and not is_observable(name):
        how = (
            "its segments learn in a second forward pass"
            if ESTIMATORS[name].learns_again
            else "it uses or changes the backward pass through the segment above"
        )
        raise ValueError(f"{name} cannot be observed beside backprop: {how}. Remove observe=true.")
    try:
        kinds[name].Options(**options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return (Rule(name, options, observe) if name in ESTIMATORS else InputRule(options)), kinds[name]


def is_observable(name: str) -> bool:
    """Return whether a rule chooses its own gradient, so that it can learn while the network uses backprop."""
    rule = ESTIMATORS[name]
    return not rule.passes_target_unchanged and not rule.learns_again and rule.through is Estimator.through


def _parse_value(what: str, text: str, option: Setting) -> Any:
    if option.is_optional and text.lower() == "none":
        return None
    try:
        return _READERS[option.type](text)
    except (ValueError, KeyError):
        expected = _WORDS[option.type] + " or none" * option.is_optional
        raise ValueError(f"{what} is '{text}'; expected {expected}.") from None


def choose_boundaries(text: str, depth: int) -> tuple[int, ...]:
    """Return the boundaries that a text names in a network of ``depth`` hidden layers.

    Boundary k lies after hidden layer k.

    Parameters
    ----------
    text : str
        One of

        - ``"middle"``: boundary depth // 2, or 1 if the depth is 1;
        - ``"every:N"``: boundaries N, 2N, … below depth;
        - ``"inner"``: boundaries 1 … depth - 1, that is, all between hidden layers;
        - ``"all"``: boundaries 1 … depth, that is, also the one below the output layer;
        - numbers and ranges, such as ``"4,8-12"``.
    depth : int
        Number of hidden layers, 1 or more.

    Returns
    -------
    tuple of int
        In ascending order, without duplicates, never empty.

    Raises
    ------
    ValueError
        If the text has another form, names no boundary, or names a boundary outside 1 … depth.

    Examples
    --------
    >>> choose_boundaries("every:5", depth=20)
    (5, 10, 15)
    """
    if text == "all":
        return tuple(range(1, depth + 1))
    if text == "middle":
        chosen: Iterable[int] = [max(1, depth // 2)]
    elif text == "inner":
        chosen = range(1, depth)
    elif text.startswith("every:"):
        chosen = range(step, depth, step) if (step := _number(text.removeprefix("every:"), text)) > 0 else []
    else:
        chosen = [k for part in text.split(",") for k in _range(part, text, depth)]
    chosen = list(chosen)
    outside = [k for k in chosen if not 1 <= k <= depth]
    if outside or not chosen:
        what = f"names boundary {outside[0]}" if outside else "names no boundary"
        raise ValueError(
            f"boundaries '{text}' {what}; a network with {depth} hidden layers has boundaries 1 to {depth} "
            "(boundary k lies after hidden layer k)."
        )
    return tuple(sorted(set(chosen)))


def _range(part: str, text: str, depth: int) -> Iterable[int]:
    low, dash, high = part.strip().partition("-")
    if not dash or not low:
        return [_number(part, text)]
    first, last = _number(low, text), _number(high, text)
    if last < first:
        raise ValueError(f"boundaries '{text}' counts down from {first} to {last}; write the smaller number first.")
    return [first, last] if last > depth else range(first, last + 1)


def _number(part: str, text: str) -> int:
    try:
        return int(part)
    except ValueError:
        raise ValueError(
            f"boundaries '{text}' is not understood. Use middle, inner, all, every:N or numbers such as 4,8-12."
        ) from None


_READERS: dict[Any, Any] = {
    int: int,
    float: float,
    str: str,
    bool: lambda text: {"true": True, "false": False}[text.lower()],
}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}
_OBSERVE = Setting(  # an option of every rule
    name="observe",
    type=bool,
    is_list=False,
    is_optional=False,
    default=False,
    help="whether the rule only learns while the network uses backprop",
)
