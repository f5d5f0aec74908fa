"""Disturbed gradients: a control in which the true gradient is as wrong as another rule's gradient, but at random."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from repsim.learning.draws import Draws
from repsim.learning.estimators.estimator import Estimator, RuleOptions, Signals, Site
from repsim.settings import setting

__all__ = ["DisturbedGradient", "DisturbedGradientOptions"]


@dataclass(frozen=True, kw_only=True)
class DisturbedGradientOptions(RuleOptions):
    """Quality of the gradient: its angle to the true gradient and its norm."""

    angle: float = setting(45.0, help="angle α to the true gradient in degrees, from 0 to 180", lowest=0, highest=180)
    norm: float = setting(1.0, help="norm ρ, as a multiple of that of the true gradient", lowest=0)
    like: str | None = setting(
        None,
        help="run directory (or metrics.jsonl) with diagnosed gradients, whose angle and norm at this boundary and "
        "update are used; {seed} stands for the seed, as in runs/sg/seed-{seed}",
    )

    def __post_init__(self) -> None:
        """Check every field, and that angle and norm are given only once."""
        super().__post_init__()
        for name, default in (("angle", 45.0), ("norm", 1.0)):
            if self.like is not None and getattr(self, name) != default:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r} and like is '{self.like}', whose log has the angle and the "
                    f"norm. Leave out either {name} or like."
                )


class DisturbedGradient(Estimator):
    """g_k = ρ (cos α · τ_k + sin α · ‖τ_k‖ · n / ‖n‖), with the true gradient τ_k and noise n orthogonal to it.

    τ_k = N · ∂L/∂h_k is the true gradient of the whole network above, not the pull-back of a disturbed gradient, so
    that errors do not accumulate over boundaries. n is drawn from N(0, I) at each update, and its part along τ_k is
    removed. Products and norms are over all examples and units of a batch, so that ``diagnose`` finds the angle α and
    the ratio of norms ρ in every batch, up to rounding.

    With ``like``, α and ρ are those that another run logged for this boundary. Between diagnosed updates they are
    interpolated linearly over the number of the update, and outside they are constant. Where the logged gradient was
    zero, ρ is 0, and α is interpolated between the nearest updates at which it was defined. The network then learns
    from gradients as good as those of the other run, whose error is noise: a control that separates the quality of a
    gradient from its kind.
    """

    formula = "ρ (cos α · τ_k + sin α · ‖τ_k‖ · n / ‖n‖), n from N(0, I), n ⊥ τ_k"
    reference = "a control of this package"
    Options = DisturbedGradientOptions
    needs = frozenset({"true_gradient"})
    options: DisturbedGradientOptions
    steps: Tensor
    angles: Tensor
    norms: Tensor

    def __init__(self, site: Site, *, generator: Generator | None = None, **options: Any) -> None:
        super().__init__(site, **options)
        self.draws = Draws(site.seed, site.boundary)
        steps, angles, norms = self._schedule()
        self.register_buffer("steps", torch.tensor(steps))
        self.register_buffer("angles", torch.tensor(angles, dtype=torch.float64))
        self.register_buffer("norms", torch.tensor(norms, dtype=torch.float64))

    @torch.no_grad()
    def gradient(self, signals: Signals) -> Tensor:
        """Return the true gradient, turned by α towards the next draws and scaled by ρ."""
        assert signals.true_gradient is not None
        angle, norm = self._quality(self.draws.count + 1)  # (*lead, 1)
        t, n = (
            each.flatten(angle.ndim - 1).double()  # (*lead, N · size)
            for each in (signals.true_gradient, self.draws.normal_like(signals.true_gradient))
        )
        across = _orthogonal_direction(n, t) * t.norm(dim=-1, keepdim=True)
        g = norm * (angle.cos() * t + angle.sin() * across)
        return g.view(signals.true_gradient.shape).to(signals.true_gradient.dtype)

    def _schedule(self) -> tuple[list[int], list[float], list[float]]:
        """Return two updates or more, and the angle in degrees and the norm at each."""
        like, site = self.options.like, self.site
        if like is None:
            return [1, 2], [self.options.angle] * 2, [self.options.norm] * 2
        return _read_schedule(like.replace("{seed}", str(site.seed)), site.boundary)

    def _quality(self, update: Tensor) -> tuple[Tensor, Tensor]:
        """Return the angle in radians and the norm at an update (*lead), both (*lead, 1)."""
        update = update.unsqueeze(-1)
        right = torch.searchsorted(self.steps, update).clamp(1, self.steps.shape[-1] - 1)
        left = right - 1
        first, last = self.steps.gather(-1, left), self.steps.gather(-1, right)
        weight = ((update - first) / (last - first)).clamp(0, 1)
        angle, norm = (
            torch.lerp(values.gather(-1, left), values.gather(-1, right), weight.to(values.dtype))
            for values in (self.angles, self.norms)
        )
        return torch.deg2rad(angle), norm


def _orthogonal_direction(n: Tensor, t: Tensor) -> Tensor:
    """Return the direction of the part of n that is orthogonal to t, along the last axis."""
    tiny = torch.finfo(t.dtype).tiny  # where t is 0, so that nothing is removed
    unit = F.normalize(t, dim=-1, eps=tiny)
    return F.normalize(n - (n * unit).sum(dim=-1, keepdim=True) * unit, dim=-1, eps=tiny)


def _read_schedule(like: str, boundary: int) -> tuple[list[int], list[float], list[float]]:
    """Return two updates or more, and at each the angle in degrees and the relative norm that a log has at a boundary.

    Where the angle is not defined, that of the nearest diagnosed updates is interpolated.
    """
    found = _read_diagnoses(like)
    if missing := [each for each in found.values() if str(boundary) not in each]:
        raise ValueError(
            f"like is '{like}', whose log has no gradients at boundary {boundary}, only at {', '.join(missing[0])}. "
            f"Name the run of a network that has boundary {boundary}; record it with --diagnose."
        )
    steps = sorted(found)
    angles, norms = np.array([found[step][str(boundary)] for step in steps]).T
    known = ~np.isnan(angles)
    angles = np.interp(steps, np.array(steps)[known], angles[known]) if known.any() else np.zeros(len(steps))
    if len(steps) == 1:
        return [steps[0], steps[0] + 1], [*angles, *angles], [*norms, *norms]
    return steps, angles.tolist(), norms.tolist()


def _read_diagnoses(like: str) -> dict[int, dict[str, tuple[float, float]]]:
    """Return the angle in degrees and the relative norm that a log has at each diagnosed update, by boundary."""
    path = Path(like) / "metrics.jsonl" if Path(like).is_dir() else Path(like)
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line feed is an incomplete write
    except OSError as error:
        raise ValueError(
            f"like is '{like}', but {path} cannot be read ({error.strerror}). Name a run directory or a metrics.jsonl."
        ) from None
    try:
        records = [json.loads(line) for line in lines if b'"gradients"' in line]
        found = {
            int(record["step"]): {k: _angle_and_norm(values) for k, values in record["gradients"].items()}
            for record in records
        }
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        raise ValueError(f"like is '{like}', but {path} is not the log of a training by repsim.") from None
    if not found:
        raise ValueError(
            f"like is '{like}', whose log has no diagnosed gradients. Record it with --diagnose, such as "
            "--diagnose every:50."
        )
    return found


def _angle_and_norm(values: Mapping[str, Any]) -> tuple[float, float]:
    """Return the angle in degrees, and the norm relative to that of the true gradient; NaN and 0 without a cosine."""
    if values["cosine"] is None:
        return math.nan, 0.0
    return math.degrees(math.acos(values["cosine"])), values["norm"] / values["true_norm"]
