"""Fits of RDMs by model RDMs: partial correlation, regression, and nonnegative weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from repsim.similarity import checks
from repsim.similarity.comparators import COMPARATORS, Comparator
from repsim.similarity.comparators.common_pairs import in_common
from repsim.similarity.comparators.correlations import Linear, deviations, inner
from repsim.similarity.comparators.ties import is_constant, ranks
from repsim.similarity.entries import choose
from repsim.similarity.precision import FloatArray, epsilon_of
from repsim.similarity.rdm import condensed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# The residual of a vector of length one is rounding error below the larger of this and so many machine epsilons of the
# RDMs, in units of their deviations.
NOTHING = 1e-8
EPSILONS = 4


def partial_rsa(
    target: ArrayLike, model: ArrayLike, controls: Mapping[str, ArrayLike], method: str = "pearson"
) -> float:
    r"""Correlate the residuals of two RDMs after regression on controls.

    .. math:: r(a - P a, \; b - P b)

    where P projects onto the controls and a constant. For spearman all RDMs are ranked first. Every control removes a
    dimension; if a single one remains, the correlation of any two RDMs is 1 or -1.

    Parameters
    ----------
    target, model : array-like (n * (n - 1) / 2,) or (n, n)
        RDMs of the same stimuli in the same order, NaN at the same pairs.
    controls : mapping from str to array-like
        The RDMs whose linear effect is removed.
    method : {"pearson", "spearman"}, default "pearson"
        Whether distances or their ranks are correlated.

    Returns
    -------
    float
        Within [-1, 1].

    Raises
    ------
    ValueError
        If one is not an RDM, or if the RDMs have different pairs of stimuli; if one is constant; if the controls are
        linearly dependent, if there are too many for the number of pairs, or if they explain all of the target or of
        the model; if the method is unknown.
    TypeError
        If the controls are not a mapping.

    Examples
    --------
    >>> round(partial_rsa([2, 4, 6, 4, 8, 2], [1, 2, 3, 2, 3, 1], {"class": [0, 1, 1, 1, 1, 0]}), 3)
    0.905
    """
    transform = checks.choice(method, _PARTIAL, "method")
    named = {"target": target, "model": model} | _named(controls, "controls")
    vectors = in_common(named)
    _check_not_constant(vectors)  # before ranks make differences of rounding
    vectors = {name: transform(vector) for name, vector in vectors.items()}
    (a, b, *others), lengths = _unit_deviations(vectors)
    _check_not_saturated(1 + len(others), len(a), "models, the controls among them,")
    rounding = _rounding(vectors, lengths)
    basis = _independent(np.stack(others, axis=1), "controls", rounding)[0]
    return inner(*(_residual(each, basis, name, rounding) for each, name in ((a, "target"), (b, "model"))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """Least-squares fit of a target RDM by a weighted sum of models and an intercept.

    Parameters
    ----------
    coefficients : dict from str to float
        Coefficient of each model, in units of the target per unit of the model.
    standardised : dict from str to float
        The same in standard deviations.
    intercept : float
    r2 : float
        Fraction of the variance of the target that all models explain, within [0, 1]; not adjusted for their number.
    unique : dict from str to float
        Decrease of r2 without each model, within [0, r2].
    """

    coefficients: dict[str, float]
    standardised: dict[str, float]
    intercept: float
    r2: float
    unique: dict[str, float]

    def frame(self) -> pd.DataFrame:
        """Return one row per model: ``model``, ``coefficient``, ``standardised`` and ``unique``."""
        import pandas as pd

        table = {"coefficient": self.coefficients, "standardised": self.standardised, "unique": self.unique}
        return pd.DataFrame({"model": list(self.unique), **{name: list(each.values()) for name, each in table.items()}})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the decrease of r2 without each model, and r2 of all models; on new axes by default."""
        from repsim.similarity.drawing.result_figures import bars

        ax = bars(list(self.unique), list(self.unique.values()), "fraction of the variance", ax)
        ax.axvline(self.r2, color="0.4", linestyle=":", linewidth=1, label="all models")
        ax.legend()
        return ax

    def _repr_html_(self) -> str:
        """Return a table with one row per model, for notebooks."""
        from repsim.similarity.drawing.notebook import titled

        return titled(f"Regression of an RDM on {len(self.unique)} models; r2 {self.r2:.4g}", self.frame())


def regression_rsa(target: ArrayLike, models: Mapping[str, ArrayLike]) -> Regression:
    r"""Regress an RDM on several others, by ordinary least squares.

    .. math:: d \approx \beta_0 + \sum_k \beta_k m_k

    Coefficients may be negative; those of `fit_models` are not. As pairs of stimuli are not independent, no standard
    errors are computed. :math:`r^2` is not adjusted for the number of models: it never decreases when a model is added,
    and p unrelated models of m pairs explain about p / (m - 1).

    Parameters
    ----------
    target : array-like (n * (n - 1) / 2,) or (n, n)
    models : mapping from str to array-like
        RDMs of the same stimuli in the same order, NaN at the same pairs.

    Raises
    ------
    ValueError
        If one is not an RDM, or if the RDMs have different pairs of stimuli; if one is constant; if the models are
        linearly dependent, or so many that they fit any target.
    TypeError
        If the models are not a mapping.

    Examples
    --------
    >>> line, classes = [1, 2, 3, 1, 2, 1], [0, 1, 1, 1, 1, 0]
    >>> result = regression_rsa([1, 4, 5, 3, 4, 1], {"line": line, "class": classes})
    >>> {name: round(coefficient, 6) for name, coefficient in result.coefficients.items()}
    {'line': 1.0, 'class': 2.0}
    """
    vectors = in_common({"target": target} | _named(models, "models"))
    (y, *columns), (length, *lengths) = _unit_deviations(vectors)
    _check_not_saturated(len(columns), len(y), "models")
    rounding = _rounding(vectors, np.array([length, *lengths]))
    basis, R = _independent(np.stack(columns, axis=1), "models", rounding)
    explained = basis.T @ y
    inverse = np.linalg.inv(R)
    standardised = inverse @ explained
    coefficients = standardised * length / np.array(lengths)
    y_mean, *means = (vector.mean() for vector in vectors.values())
    # r2 decreases by what the residual of a model explains after regression on the others; its length is 1 / |row|.
    unique = np.square(standardised / np.linalg.norm(inverse, axis=1))
    r2 = float(np.clip(explained @ explained, 0.0, 1.0))
    return Regression(
        coefficients=_by_name(models, coefficients),
        standardised=_by_name(models, standardised),
        intercept=float(y_mean - coefficients @ np.array(means)),
        r2=r2,
        unique=_by_name(models, np.clip(unique, 0.0, r2)),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedModels:
    """Weighted sum of models with the largest mean value with one or several targets.

    Parameters
    ----------
    weights : dict from str to float
        Nonnegative weight of each model.
    offset : float
        Constant that is added to every distance; 0 for comparators that do not ignore an offset.
    rdm : array (n * (n - 1) / 2,)
        The weighted sum; NaN where the models are NaN.
    value : float
        Mean value of the comparator between the weighted sum and the targets.
    cross_validated : array (n_targets,) or None
        Value of each target with the weighted sum that is fitted to the other targets.
    method : str
        Name of the comparator.
    """

    weights: dict[str, float]
    offset: float
    rdm: FloatArray
    value: float
    cross_validated: FloatArray | None
    method: str

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the weights; on new axes by default."""
        from repsim.similarity.drawing.result_figures import bars

        return bars(list(self.weights), list(self.weights.values()), "weight", ax)

    def _repr_html_(self) -> str:
        """Return a table with one row per model, for notebooks."""
        import pandas as pd

        from repsim.similarity.drawing.notebook import titled

        table = pd.DataFrame({"model": list(self.weights), "weight": list(self.weights.values())})
        return titled(f"Weighted sum of models; {self.method} {self.value:.4g}", table)


def fit_models(
    targets: ArrayLike | Mapping[str, ArrayLike],
    models: Mapping[str, ArrayLike],
    *,
    method: str | Comparator = "cosine",
    cross_validated: bool = False,
) -> FittedModels:
    r"""Fit nonnegative weights of models that maximise the mean value of their sum with the targets.

    .. math:: \max_{w \ge 0} \; \mathrm{mean}_t \; s\left(d_t, \sum_k w_k m_k\right)

    for a comparator s that is the cosine after a linear map L. Its mean over targets is, up to a factor, the cosine
    with the mean of the :math:`L d_t / |L d_t|`. Nonnegative least squares maximises this exactly if the maximum is
    positive: the weights are those of the least-squares fit, after L, to the mean of the targets weighted by one over
    length (to the target itself if there is one). If no weights have a positive value, a single model is the best and
    gets all the weight.

    Parameters
    ----------
    targets : array-like (n * (n - 1) / 2,) or (n, n), or mapping from str to array-like
        One RDM, or several: subjects, seeds.
    models : mapping from str to array-like
        RDMs of the same stimuli in the same order, NaN at the same pairs.
    method : str or Comparator, default "cosine"
        Comparator whose value is maximised: "cosine", "pearson", "cosine_whitened", "pearson_whitened", or another that
        declares its linear map.
    cross_validated : bool, default False
        Whether to fit the models to all other targets and compare the fit with the target that was left out. The value
        of the fit itself is biased upwards, more so with more models.

    Raises
    ------
    ValueError
        If one is not an RDM, or if the RDMs have different pairs of stimuli; if one is constant (or, for cosines,
        zero); if the models are linearly dependent; if the comparator is not the cosine after a linear map; if there is
        only one target to cross-validate.
    TypeError
        If the models are not a mapping.

    References
    ----------
    Khaligh-Razavi & Kriegeskorte (2014). Deep supervised, but not unsupervised, models may explain IT cortical
    representation. PLoS Computational Biology 10(11).

    Examples
    --------
    >>> line, classes = [1, 2, 3, 1, 2, 1], [0, 1, 1, 1, 1, 0]
    >>> fit = fit_models([3, 5, 7, 3, 5, 3], {"line": line, "class": classes, "flat": [1] * 6})
    >>> {name: round(weight, 6) for name, weight in fit.weights.items()}
    {'line': 2.0, 'class': 0.0, 'flat': 1.0}
    """
    chosen = choose(method, COMPARATORS, Comparator, "method")
    if chosen.linear is None:
        raise ValueError(
            f"Models cannot be fitted with {chosen.name}, which is not a cosine after a linear map. Choose one of: "
            f"{', '.join(sorted(name for name, each in COMPARATORS.items() if each.linear is not None))}."
        )
    several = _named(targets, "targets") if isinstance(targets, Mapping) else {"target": targets}
    if cross_validated and len(several) < 2:
        raise ValueError(
            "There is 1 target; cross-validation needs at least 2. Pass several RDMs, or cross_validated=False."
        )
    named = _named(models, "models")
    vectors = in_common(several | named, whole=chosen.name if chosen.needs_all_pairs else None)
    units, lengths = _prepared(vectors, chosen, chosen.linear)
    k = len(several)
    basis, R = _independent(np.stack(units[k:], axis=1), "models", _rounding(vectors, lengths))
    projected = np.stack(units[:k]) @ basis  # (k, p): targets in the space of the models
    best = _best_weights(R, projected.mean(axis=0))
    weights = _in_units_of(best, lengths[:k], lengths[k:])
    total = weights @ np.stack([condensed(model) for model in models.values()])
    offset = _offset(list(vectors.values()), weights, lengths[:k]) if "offset" in chosen.ignores else 0.0
    return FittedModels(
        weights=_by_name(models, weights),
        offset=offset,
        rdm=total + offset,
        value=float(_values(R, best, projected).mean()),
        cross_validated=_left_out_values(R, projected) if cross_validated else None,
        method=chosen.name,
    )


def _named(rdms: Mapping[str, ArrayLike], side: str) -> dict[str, ArrayLike]:
    return checks.mapping(rdms, side, "RDMs", "Pass {name: RDM}, or compare two RDMs with compare_rdms.")


def _by_name(models: Mapping[str, ArrayLike], values: FloatArray) -> dict[str, float]:
    return dict(zip(models, values.tolist(), strict=True))


def _unit_deviations(vectors: Mapping[str, FloatArray]) -> tuple[list[FloatArray], FloatArray]:
    return _prepared(vectors, COMPARATORS["pearson"], deviations)


def _prepared(
    vectors: Mapping[str, FloatArray], chosen: Comparator, linear: Linear
) -> tuple[list[FloatArray], FloatArray]:
    """Return RDMs after the linear map of a comparator, scaled to length one, and their lengths before."""
    units, lengths = [], []
    for name, vector in vectors.items():
        prepared = chosen.prepare(vector) if vector.size else None
        if prepared is None:
            raise _uninformative(name, vector, chosen)
        units.append(prepared)
        largest = np.abs(vector).max()
        lengths.append(largest * np.linalg.norm(linear(vector / largest)))
    return units, np.array(lengths)


def _check_not_constant(vectors: Mapping[str, FloatArray]) -> None:
    for name, vector in vectors.items():
        if is_constant(vector):
            raise _uninformative(name, vector, COMPARATORS["pearson"])


def _uninformative(name: str, vector: FloatArray, chosen: Comparator) -> ValueError:
    return ValueError(
        f"{name} {chosen.undefined}, over {len(vector)} pairs; it cannot be fitted or correlated. Leave it out."
    )


def _check_not_saturated(p: int, m: int, what: str) -> None:
    """Check that p models and a constant leave residuals: m - 1 - p dimensions."""
    if p >= m - 1:
        raise ValueError(
            f"There are {p} {what} for {m} pairs, which fit any target exactly; expected at most {max(m - 2, 0)}. "
            "Leave some out, or use RDMs of more stimuli."
        )


def _rounding(vectors: Mapping[str, FloatArray], lengths: FloatArray) -> float:
    """Return the largest rounding error of an RDM that was scaled to length one after its linear map."""
    errors = [
        EPSILONS * epsilon_of(vector) * float(np.linalg.norm(vector / length))
        for vector, length in zip(vectors.values(), lengths, strict=True)
    ]
    return max(NOTHING, *errors)


def _independent(columns: FloatArray, what: str, rounding: float) -> tuple[FloatArray, FloatArray]:
    """Return the QR decomposition of columns of length one; raise an error if they are linearly dependent."""
    m, p = columns.shape
    basis, R = np.linalg.qr(columns)
    rank = int((np.linalg.svd(R, compute_uv=False) > rounding).sum())
    if rank < p:
        raise ValueError(
            f"The {p} {what} are linearly dependent: they have rank {rank} over {m} pairs, up to what the method "
            "ignores. Leave out those that follow from the others."
        )
    return basis, R


def _residual(vector: FloatArray, basis: FloatArray, name: str, rounding: float) -> FloatArray:
    """Subtract from a vector of length one its projection onto the basis; scale the residual to length one."""
    vector = vector - basis @ (basis.T @ vector)
    length = np.linalg.norm(vector)
    if length <= rounding:
        raise ValueError(
            f"The controls explain all of the {name}; no residual is left to correlate. Leave out the control that "
            "equals it."
        )
    return vector / length


def _best_weights(R: FloatArray, projected: FloatArray) -> FloatArray:
    """Return nonnegative weights of models of length one whose sum has the largest cosine with a target."""
    weights, _ = nnls(R, projected)
    if not weights.any():
        # If no value is positive, a single model is the best: -cosine is a linear function over a convex one, whose
        # minimum over a cone lies on an edge.
        weights[np.argmax(projected @ R)] = 1.0
    return weights


def _values(R: FloatArray, weights: FloatArray, projected: FloatArray) -> FloatArray:
    """Return the cosine of the weighted sum with each target, from their projections (k, p)."""
    total = R @ weights
    return np.clip(projected @ (total / np.linalg.norm(total)), -1.0, 1.0)


def _left_out_values(R: FloatArray, projected: FloatArray) -> FloatArray:
    others = projected.sum(axis=0) - projected
    pairs = zip(others, projected, strict=True)
    return np.array([_values(R, _best_weights(R, rest), left_out[None])[0] for rest, left_out in pairs])


def _in_units_of(weights: FloatArray, targets: FloatArray, models: FloatArray) -> FloatArray:
    """Return the weights of models in their own units, from those of models and targets of length one."""
    return weights / models / np.mean(1 / targets)


def _offset(vectors: list[FloatArray], weights: FloatArray, lengths: FloatArray) -> float:
    """Return the mean of the targets, weighted by one over length, minus the mean of the weighted sum of models."""
    means = np.array([vector.mean() for vector in vectors])
    k = len(lengths)
    return float(np.average(means[:k], weights=1 / lengths) - weights @ means[k:])


_PARTIAL: dict[str, Linear] = {"pearson": lambda distances: distances, "spearman": ranks}
