"""Rows of the table of probes: fits of neighbouring layers together, and the columns of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.estimators.ridge.validated_path import validated_path
from probes.features import layer_blocks, read_features
from probes.scores import log_losses
from probes.solvers import Fit
from probes.solvers.path import PenaltyPath, fit_paths
from probes.table.columns import COLUMNS, schema_version
from probes.table.network_layers import FitKey, NetworkLayers
from probes.table.probed_layer import Features, LayerTarget, ProbedLayer, TableSettings
from probes.table.row_cache import Row, RowCache, key_of
from probes.targets import Target


@dataclass(frozen=True, kw_only=True)
class RowComputation:
    """Computation of rows, with a cache of rows, or with the latest fits, from which searches start."""

    settings: TableSettings
    cache: RowCache | None = None
    fits: MutableMapping[FitKey, Fit] | None = None

    def rows(self, network: NetworkLayers, index: int, names: Sequence[str]) -> list[Row]:
        """Return the rows of neighbouring layers of equal width; `index` is the position of the first."""
        if self.cache is None or (key := self._key(network, index, names)) is None:
            return self._compute(network, index, names)[0]
        if (known := self.cache.rows(key)) is not None:
            return known
        rows, repeatable = self._compute(network, index, names)
        if repeatable:
            self.cache.add(key, rows)
        return rows

    def _key(self, network: NetworkLayers, index: int, names: Sequence[str]) -> str | None:
        """Return the key of the rows of some layers; None if a layer cannot be read."""
        try:
            contents = [_digest(network.layers[name]) for name in names]
        except Exception:  # the rows say what is wrong, and are computed again every time
            return None
        place = [network.network, network.seed, network.checkpoint, index, list(names)]
        parts = {"place": place, "contents": contents, **self.settings.key_parts()}
        return key_of(schema=schema_version(), **parts)

    def _compute(self, network: NetworkLayers, index: int, names: Sequence[str]) -> tuple[list[Row], bool]:
        """Return the rows, and whether they would be the same if they were computed again."""
        features, errors = dict[str, Features](), dict[str, PenaltyPath | Exception]()
        for name in names:
            try:
                features[name] = read_features(network.layers[name], self.settings.rows, self.settings.config.memory)
            except Exception as error:  # whatever is wrong with one layer, the others keep their rows
                errors[name] = error
        outcomes = {
            target_name: errors | fit_layers(features, target, self.settings, self._starts(network, names, target_name))
            for target_name, target in self.settings.targets.items()
        }
        rows, repeatable = list[Row](), True
        for position, name in enumerate(names, start=index):
            for target_name, target in self.settings.targets.items():
                place = LayerTarget(
                    network=network, layer=name, layer_index=position, target_name=target_name, target=target
                )
                outcome = outcomes[target_name][name]
                row, is_final = row_of(place, outcome, features.get(name), self.settings)
                rows.append(row)
                repeatable &= is_final
                if self.fits is not None and row["status"] == "ok" and isinstance(outcome, PenaltyPath):
                    self.fits[_fit_key(network, name, target_name)] = outcome.fit
        return rows, repeatable

    def _starts(self, network: NetworkLayers, names: Sequence[str], target_name: str) -> dict[str, Fit | None]:
        fits = self.fits or {}
        return {name: fits.get(_fit_key(network, name, target_name)) for name in names}


def _fit_key(network: NetworkLayers, layer: str, target_name: str) -> FitKey:
    return FitKey(network.network, network.seed, layer, target_name)


def _digest(layer: Any) -> str:
    digest = hashlib.sha256()
    for _, block in layer_blocks(layer):
        digest.update(f"{block.dtype} {block.shape}".encode())
        digest.update(block.tobytes())
    return digest.hexdigest()


def fit_layers(
    features: Mapping[str, Features], target: Target, settings: TableSettings, starts: Mapping[str, Fit | None]
) -> dict[str, PenaltyPath | Exception]:
    """Return the path of each layer, or what it raised; layers are fitted together, or one by one if that fails."""
    if target.kind == "continuous":
        return {name: _regression(X, target, settings) for name, X in features.items()}
    validation = target.labels_of("validation")
    n_outputs = 1 if len(target.classes) == 2 else len(target.classes)

    def judge(X: Features) -> Callable[[Fit], NDArray[np.float64]]:
        return lambda fit: log_losses(fit.logits(X["validation"]), validation)

    def start_of(name: str) -> Fit | None:
        fit = starts[name]
        return fit if fit is not None and fit.coef.shape == (n_outputs, features[name]["train"].shape[1]) else None

    try:
        paths = fit_paths(
            [X["train"] for X in features.values()],
            target.labels_of("train"),
            settings.config.grid,
            [judge(X) for X in features.values()],
            starts=[start_of(name) for name in features],
            most_decades=settings.config.most_decades,
            settings=settings.config,
        )
    except Exception as error:
        if len(features) == 1:
            return dict.fromkeys(features, error)
        alone = [fit_layers({name: X}, target, settings, starts) for name, X in features.items()]
        return {name: path for paths in alone for name, path in paths.items()}
    return dict(zip(features, paths, strict=True))


def _regression(features: Features, target: Target, settings: TableSettings) -> PenaltyPath | Exception:
    """Return the path of regressions of a continuous target, or what it raised."""
    train, validation = ((features[part], target.labels_of(part)) for part in ("train", "validation"))
    try:
        return validated_path(train, validation, settings.config.grid, most_decades=settings.config.most_decades)
    except Exception as error:  # whatever is wrong with one layer, the others keep their rows
        return error


def row_of(
    place: LayerTarget, outcome: PenaltyPath | Exception, features: Features | None, settings: TableSettings
) -> tuple[Row, bool]:
    """Return the row of a layer and a target, and whether it would be the same if it were computed again."""
    row = {name: _value(name, place) for name, column in COLUMNS.items() if column.stage == "place"}
    try:
        if isinstance(outcome, Exception):
            raise outcome
        assert features is not None
        probed = ProbedLayer(
            **vars(place), settings=settings, features=features, path=outcome, row=dict(row), notes=_unfinished(outcome)
        )
        return _probed_row(probed)
    except Exception as error:  # whatever is wrong with one layer, the others keep their rows
        failed = {name: column.failed for name, column in COLUMNS.items() if column.stage != "place"}
        message = f"{type(error).__name__}: {error}"
        return {**row, **failed, "status": "failed", "message": message}, type(error) is ValueError


def _probed_row(probed: ProbedLayer) -> tuple[Row, bool]:
    repeatable = True
    for name, column in COLUMNS.items():
        if probed.target.kind not in column.kinds and column.stage in ("probe", "control"):
            probed.row[name] = None
        elif column.stage == "probe":
            probed.row[name] = _value(name, probed)
        elif column.stage == "control":
            try:
                probed.row[name] = _value(name, probed)
            except Exception as error:  # the probe itself is as good as before
                probed.row[name], repeatable = None, False
                probed.notes.append(f"no {name}: {type(error).__name__}: {error}")
    return {**probed.row, "status": "ok", "message": "; ".join(probed.notes)}, repeatable


def _value(name: str, source: LayerTarget) -> Any:
    compute = COLUMNS[name].compute
    if compute is None:
        raise TypeError(f"Column {name!r} has no computation; give it a function of a {type(source).__name__}.")
    value = compute(source)
    return value.item() if isinstance(value, np.generic) else value


def _unfinished(path: PenaltyPath) -> list[str]:
    notes = [
        f"C={C:g} stopped after {fit.n_iter} iterations at relative gap {fit.relative_gap:.1e}"
        for C, fit in path.unfinished
    ]
    if path.side and path.n_extended:
        notes.append(f"C={path.Cs[path.best]:g} is where the extension of the grid ends; a better C may lie beyond it")
    return notes
