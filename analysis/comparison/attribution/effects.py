"""Effects of methods and controls on layers, with simultaneous bands and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.attribution.contrasts import LEAST_SEEDS, Contrast, Member
from analysis.comparison.attribution.effect_bands import simultaneous_bands
from repsim.similarity import MEASURES, group_effect

__all__ = ["ArmLayers", "EffectFamily", "effect_family"]

Array = NDArray[np.float64]

_LEAST_ROOM = 1e-6  # between a similarity and 1


@dataclass(frozen=True, eq=False)
class ArmLayers:
    """What was measured of the layers of all networks, at every aligned step.

    Attributes
    ----------
    members : sequence of Member
        The networks, n in all.
    at : sequence of str
        Names of the aligned steps, such as "25 %".
    layers : sequence of str
    similarities : dict of str to array (n_steps, n_layers, n, n)
        Values of each measure; NaN where a network lacks the layer, and between networks of different splits.
    quantities : dict of str to array (n_steps, n_layers, n)
        Numbers that describe one layer of one network, such as its class structure.
    undefined : dict of (position of the step, layer, member) to str
        Why values are NaN although the network has the layer.
    """

    members: Sequence[Member]
    at: Sequence[str]
    layers: Sequence[str]
    similarities: Mapping[str, Array]
    quantities: Mapping[str, Array]
    undefined: Mapping[tuple[int, str, int], str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Effects:
    """Effects of one contrast on one quantity, at several places (step, layer)."""

    contrast: Contrast
    quantity: str
    places: NDArray[np.int64]  # (n_places, 2): positions of step and layer
    table: dict[str, Array]  # columns, (n_places,)
    influences: dict[Any, Array]  # by unit of replication, (n_places,)
    n_seeds: int
    degrees_of_freedom: int


@dataclass(frozen=True, eq=False)
class EffectFamily:
    """Effects that are reported together, with what their errors follow from.

    Attributes
    ----------
    rows : DataFrame
        One row per effect: the columns of ``EffectFamily.table`` that need no band, and ``degrees_of_freedom``.
    influences : array (n_units, n_rows)
        Contribution of each unit of replication to the error of each effect.
    """

    rows: pd.DataFrame
    influences: Array

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """Whether a row has a value and repeats no earlier row, as a control of several methods does, (n_rows,)."""
        repeats = self.rows.duplicated(["arm", "base", "quantity", "at", "layer"]).to_numpy()
        return np.isfinite(self.rows["difference"].to_numpy()) & ~repeats

    @property
    def kinds(self) -> list[str]:
        """Name of the effects whose variances are alike, of each row: one contrast and quantity."""
        return (self.rows["arm"] + "/" + self.rows["base"] + "/" + self.rows["quantity"]).tolist()

    @property
    def trend(self) -> Array:
        """What the variance of each row depends on: the distance from the largest similarity, or the mean of the arms.

        For a similarity this is the logarithm of 1 less the mean within the arms, for a distance that of this mean.
        """
        found = ((self.rows["value"] + self.rows["base_value"]) / 2).to_numpy(dtype=np.float64)
        is_pairwise = self.rows["between"].notna().to_numpy()
        is_distance = (self.rows["quantity"].map(_direction) == "distance").to_numpy()
        room = np.where(is_distance, found, 1 - found)
        return np.where(is_pairwise, np.log(np.maximum(room, _LEAST_ROOM)), found)

    def table(self, *, level: float = 0.95, n_samples: int = 5000, rng_seed: int = 0) -> pd.DataFrame:
        """Return one row per effect, with an interval, a band that covers all rows at once, and a verdict.

        ``verdict`` is "different" if the band lies beyond the smallest difference of interest, "equivalent" if it lies
        within, "undecided" otherwise, and empty if the effect is not defined.
        """
        rows = self.rows
        if rows.empty:
            return pd.DataFrame(columns=COLUMNS)
        chosen = self.is_new
        bands = simultaneous_bands(
            self.influences[:, chosen],
            rows["degrees_of_freedom"].to_numpy()[chosen],
            [kind for kind, is_chosen in zip(self.kinds, chosen, strict=True) if is_chosen],
            trend=self.trend[chosen],
            level=level,
            n_samples=n_samples,
            rng_seed=rng_seed,
        )
        keys = ["arm", "base", "quantity", "at", "layer"]
        errors = rows.loc[chosen, keys].assign(
            standard_error=bands.standard_errors, interval=bands.half_intervals, band=bands.half_bands
        )
        table = rows.merge(errors, how="left", on=keys)
        for half, low, high in (("interval", "low", "high"), ("band", "band_low", "band_high")):
            table[low], table[high] = table["difference"] - table[half], table["difference"] + table[half]
        return table.assign(verdict=_verdicts(table))[COLUMNS]


def effect_family(measured: ArmLayers, contrasts: Sequence[Contrast], smallest: Mapping[str, float]) -> EffectFamily:
    """Return the effects of all contrasts on all quantities, at every step and layer that both arms have.

    For a measure of similarity, ``difference`` is the similarity that is lost between the arms: the mean within the two
    arms minus that between them, see ``repsim.similarity.group_effect``; for a distance it is the distance that is
    gained, between minus within. For other quantities it is that of ``arm`` minus that of ``base``.

    Parameters
    ----------
    measured : ArmLayers
    contrasts : sequence of Contrast
    smallest : mapping of str to float
        Smallest difference of interest of each quantity, above 0.

    Raises
    ------
    ValueError
        If an arm has fewer than three networks.
    """
    found = [
        effects
        for contrast in contrasts
        for quantity in (*measured.similarities, *measured.quantities)
        if (effects := _effects(measured, contrast, quantity)) is not None
    ]
    if not found:
        return EffectFamily(pd.DataFrame(columns=[*COLUMNS, "degrees_of_freedom"]), np.zeros((0, 0)))
    rows = [_rows(measured, effects, smallest[effects.quantity]) for effects in found]
    return EffectFamily(pd.concat(rows, ignore_index=True), _stacked(found))


COLUMNS = [
    *("method", "contrast", "control", "arm", "base", "quantity", "at", "layer", "depth", "n_seeds"),
    *("value", "base_value", "between", "difference", "standard_error", "low", "high", "band_low", "band_high"),
    *("smallest", "verdict", "split_low", "split_high", "status", "message"),
]


def _effects(measured: ArmLayers, contrast: Contrast, quantity: str) -> _Effects | None:
    """Return the effects at all places that both arms have; None if there are none."""
    is_similarity = quantity in measured.similarities
    values = (measured.similarities if is_similarity else measured.quantities)[quantity]
    per_network = values.diagonal(axis1=2, axis2=3) if is_similarity else values  # (n_steps, n_layers, n)
    has_layer = np.isfinite(per_network) | _is_undefined(measured)
    splits = sorted({member.split for member in measured.members if member.arm in (contrast.arm, contrast.base)})
    sides = {split: _sides(measured.members, contrast, split) for split in splits}
    used = np.concatenate([side for pair in sides.values() for side in pair])
    places = np.argwhere(has_layer[:, :, used].all(axis=2))
    if not len(places):
        return None
    effects = partial(_similarity_effects, direction=_direction(quantity)) if is_similarity else _mean_effects
    parts = {
        split: effects(values[places[:, 0], places[:, 1]], arm, base, measured.members)
        for split, (arm, base) in sides.items()
    }
    differences = np.stack([part["difference"] for part, _, _ in parts.values()])
    table = {name: np.mean([part[name] for part, _, _ in parts.values()], axis=0) for name in _MEANS}
    table |= {"split_low": differences.min(axis=0), "split_high": differences.max(axis=0)}
    influences = {
        (split, unit): row / len(parts) for split, (_, units, _) in parts.items() for unit, row in units.items()
    }
    sizes = [n for _, _, n in parts.values()]
    return _Effects(contrast, quantity, places, table, influences, sum(sizes), sum(n - 1 for n in sizes))


def _direction(measure: str) -> str:
    return MEASURES[measure].direction if measure in MEASURES else "similarity"


_MEANS = ("value", "base_value", "between", "difference")


def _is_undefined(measured: ArmLayers) -> NDArray[np.bool_]:
    is_undefined = np.zeros((len(measured.at), len(measured.layers), len(measured.members)), dtype=bool)
    for step, layer, member in measured.undefined:
        is_undefined[step, measured.layers.index(layer), member] = True
    return is_undefined


def _sides(members: Sequence[Member], contrast: Contrast, split: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the networks of the two arms in one split."""
    sides = [
        np.array([k for k, member in enumerate(members) if (member.arm, member.split) == (name, split)], dtype=np.int64)
        for name in (contrast.arm, contrast.base)
    ]
    for name, side in zip((contrast.arm, contrast.base), sides, strict=True):
        if len(side) < LEAST_SEEDS:
            where = f" in split {split}" if len({member.split for member in members}) > 1 else ""
            networks = "1 network" if len(side) == 1 else f"{len(side)} networks"
            raise ValueError(
                f"Arm '{name}' has {networks}{where}; an effect needs {LEAST_SEEDS} seeds or more per arm. "
                "Train more seeds."
            )
    return sides[0], sides[1]


_Part = tuple[dict[str, Array], dict[Any, Array], int]


def _similarity_effects(
    values: Array, arm: NDArray[np.int64], base: NDArray[np.int64], members: Sequence[Member], direction: str
) -> _Part:
    """Return the columns, the influences by unit, and the number of seeds, of similarities (n_places, n, n)."""
    both = np.concatenate([base, arm])
    S = values[:, both][:, :, both]
    off = ~np.eye(len(both), dtype=bool)
    known = np.asarray(np.isfinite(S[:, off]).all(axis=1))
    empty = np.full(len(S), np.nan)
    columns = {name: empty.copy() for name in _MEANS}
    if not known.any():
        return columns, {}, min(len(arm), len(base))
    groups = ["base"] * len(base) + ["arm"] * len(arm)
    effect = group_effect(
        S[known], groups, reference="base", seeds=[members[k].seed for k in both], direction=direction
    )
    found = (effect.within_other, effect.within_reference, effect.between, effect.effects)
    for name, column in zip(_MEANS, found, strict=True):
        columns[name][known] = column
    influences = {}
    for unit, row in zip(effect.units, effect.influences, strict=True):
        influences[_unit(unit, arm, base, members)] = _spread_out(row, known)
    return columns, influences, effect.n_replicates


def _unit(unit: Any, arm: NDArray[np.int64], base: NDArray[np.int64], members: Sequence[Member]) -> Any:
    """Return a unit of ``group_effect`` under a name that all contrasts share: the seed, or arm and seed."""
    if not isinstance(unit, tuple):
        return unit
    group, seed = unit
    return members[(arm if group == "arm" else base)[0]].arm, seed


def _mean_effects(values: Array, arm: NDArray[np.int64], base: NDArray[np.int64], members: Sequence[Member]) -> _Part:
    """Return the columns, the influences by unit, and the number of seeds, of numbers per network (n_places, n)."""
    of_arm, of_base = (_by_seed(values, side, members) for side in (arm, base))
    mean, base_mean = (np.mean(list(side.values()), axis=0) for side in (of_arm, of_base))
    n = min(len(of_arm), len(of_base))
    columns = {
        "value": mean,
        "base_value": base_mean,
        "between": np.full(len(values), np.nan),
        "difference": mean - base_mean,
    }
    if set(of_arm) == set(of_base):
        pairs = {seed: of_arm[seed] - of_base[seed] - columns["difference"] for seed in of_arm}
        return columns, {seed: each / np.sqrt(n * (n - 1)) for seed, each in pairs.items()}, n
    influences: dict[Any, Array] = {}
    for side, centre, sign, positions in ((of_arm, mean, 1.0, arm), (of_base, base_mean, -1.0, base)):
        scale = sign / np.sqrt(len(side) * (len(side) - 1))
        name = members[positions[0]].arm
        influences |= {(name, seed): scale * (value - centre) for seed, value in side.items()}
    return columns, influences, n


def _by_seed(values: Array, side: NDArray[np.int64], members: Sequence[Member]) -> dict[int, Array]:
    return {members[k].seed: values[:, k] for k in side}


def _spread_out(row: Array, known: NDArray[np.bool_]) -> Array:
    whole = np.zeros(len(known))
    whole[known] = row
    return whole


def _rows(measured: ArmLayers, effects: _Effects, smallest: float) -> pd.DataFrame:
    contrast, steps, layers = effects.contrast, effects.places[:, 0], effects.places[:, 1]
    table = pd.DataFrame(
        {
            "method": contrast.method,
            "contrast": contrast.kind,
            "control": contrast.control,
            "arm": contrast.arm,
            "base": contrast.base,
            "quantity": effects.quantity,
            "at": [measured.at[k] for k in steps],
            "layer": [measured.layers[k] for k in layers],
            "depth": layers + 1,
            "n_seeds": effects.n_seeds,
            **effects.table,
            "smallest": smallest,
            "degrees_of_freedom": effects.degrees_of_freedom,
        }
    )
    failed = ~np.isfinite(table["difference"])
    table["status"] = np.where(failed, "failed", "ok")
    table["message"] = [
        _reason(measured, effects, place) if bad else "" for place, bad in zip(effects.places, failed, strict=True)
    ]
    return table


def _reason(measured: ArmLayers, effects: _Effects, place: NDArray[np.int64]) -> str:
    arms = (effects.contrast.arm, effects.contrast.base)
    for k, member in enumerate(measured.members):
        reason = measured.undefined.get((int(place[0]), measured.layers[place[1]], k))
        if member.arm in arms and reason:
            return f"{member.arm}, seed {member.seed}: {reason}"
    return "the measure is not defined for some pair of networks"


def _stacked(found: Sequence[_Effects]) -> Array:
    """Return the influences of all effects, (n_units, n_rows), 0 where a unit has no part."""
    units = list(dict.fromkeys(unit for effects in found for unit in effects.influences))
    sizes = [len(effects.places) for effects in found]
    ends = np.cumsum(sizes)
    stacked = np.zeros((len(units), int(ends[-1])))
    for effects, end, size in zip(found, ends, sizes, strict=True):
        for unit, row in effects.influences.items():
            stacked[units.index(unit), end - size : end] = np.nan_to_num(row)
    return stacked


def _verdicts(table: pd.DataFrame) -> NDArray[np.str_]:
    smallest, low, high = table["smallest"], table["band_low"], table["band_high"]
    conditions = [table["status"] != "ok", (low > smallest) | (high < -smallest), (low > -smallest) & (high < smallest)]
    return np.select(conditions, ["", "different", "equivalent"], "undecided")
