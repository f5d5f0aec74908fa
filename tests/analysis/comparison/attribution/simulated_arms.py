"""Simulated layers of the networks of several arms, with planted effects."""

from collections.abc import Mapping

import numpy as np

from analysis.comparison.attribution.contrasts import Member
from analysis.comparison.attribution.effects import ArmLayers

SHAPE = (2, 8)  # steps and layers


def planted(size: float) -> np.ndarray:
    """An effect on the first half of the layers."""
    effect = np.zeros(SHAPE)
    effect[:, : SHAPE[1] // 2] = size
    return effect


def simulate_arms(
    rng: np.random.Generator, effects: Mapping[str, np.ndarray], n: int = 5, features: int = 40, shared: float = 0.5
) -> ArmLayers:
    """Arms of n seeds whose mean representations are apart by their effects, in ways of their own.

    ``cka`` is an inner product, so that the loss of similarity between two arms is half the squared distance of their
    means. ``accuracy`` differs by the same effects. Arms whose effects are the same array do not differ.
    """
    size = int(np.prod(SHAPE))
    mean = rng.standard_normal((size, features)) / np.sqrt(features)
    scale = 0.5 * np.exp(0.4 * rng.standard_normal((size, 1)))

    def noise() -> np.ndarray:
        e = rng.standard_normal((n, *SHAPE, features))
        for k in range(1, SHAPE[1]):
            e[:, :, k] = 0.8 * e[:, :, k - 1] + 0.6 * e[:, :, k]
        return e.reshape(n, size, features) / np.sqrt(features) * scale

    common, levels = noise(), 0.02 * rng.standard_normal((n, size))
    ways: dict[int, np.ndarray] = {}
    X, accuracy = [], []
    for effect in effects.values():
        way = ways.setdefault(id(effect), rng.standard_normal((size, features)))
        away = np.sqrt(2 * effect.reshape(-1, 1)) * way / np.linalg.norm(way, axis=1, keepdims=True)
        X.append(mean + away + shared * common + np.sqrt(1 - shared**2) * noise())
        accuracy.append(0.5 + effect.ravel() + levels + 0.02 * rng.standard_normal((n, size)))
    networks = np.concatenate(X)
    S = np.einsum("ilp,jlp->lij", networks, networks)
    return ArmLayers(
        members=[Member(arm, seed) for arm in effects for seed in range(n)],
        at=["50 %", "100 %"],
        layers=[f"hidden.{k}" for k in range(1, SHAPE[1] + 1)],
        similarities={"cka": S.reshape(*SHAPE, len(networks), len(networks))},
        quantities={"accuracy": np.concatenate(accuracy).T.reshape(*SHAPE, len(networks))},
    )
