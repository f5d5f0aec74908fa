"""Evaluation of model RDMs with resampled stimuli and networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity import checks
from repsim.similarity.comparators import COMPARATORS, Comparator
from repsim.similarity.comparators.resampled import Counts, Resampled
from repsim.similarity.entries import choose
from repsim.similarity.inference.evaluation import Draws, ModelEvaluation
from repsim.similarity.inference.permutation import permuted_values
from repsim.similarity.inference.rdm_stack import first_equal, stacked_rdms
from repsim.similarity.inference.resampling import LEAST_STIMULI, compare_with_ceilings, resampled_values
from repsim.similarity.precision import FloatArray
from repsim.similarity.rdm import n_stimuli


def evaluate_models(
    models: Mapping[str, ArrayLike],
    data: Mapping[str, ArrayLike],
    *,
    method: str | Comparator | Callable[[FloatArray, FloatArray], float] = "pearson",
    over: str = "stimuli",
    n_samples: int = 1000,
    n_permutations: int = 1000,
    ceilings: bool = True,
    seed: int = 0,
) -> ModelEvaluation:
    """Compare model RDMs with data RDMs; standard errors are from resampling, chance is from permutations.

    Resampling stimuli generalises to other stimuli of the same kind, resampling networks to other networks. For
    comparators with a weighted form (pearson, cosine, spearman and rho-a), stimuli are bootstrapped: pairs are weighted
    by how often they were drawn, and copies of one stimulus form no pair. For the others, each stimulus is left out in
    turn (jackknife).

    Parameters
    ----------
    models, data : mapping from str to array-like (n * (n - 1) / 2,) or (n, n)
        RDMs of the same stimuli in the same order, without NaN. Data are, for example, one RDM per seed.
    method : str, Comparator or callable, default "pearson"
        As in `compare_rdms`.
    over : {"stimuli", "networks", "both", "none"}, default "stimuli"
        What is resampled. "stimuli" and "both" need at least 4 stimuli. "networks" and "both" need several data RDMs;
        intervals are wide with fewer than five.
    n_samples : int, default 1000
        Number of samples of stimuli, networks or both.
    n_permutations : int, default 1000
        Number of permutations of the stimuli for the tests against chance. All permutations are enumerated if there are
        no more than that, or if there are at most 6 stimuli.
    ceilings : bool, default True
        Whether to compute noise ceilings, also for every sample; otherwise they are NaN. They take most of the time for
        rank correlations and for bures.
    seed : int, default 0
        Seed of samples and permutations.

    Raises
    ------
    ValueError
        If there are no models or data, if an RDM is invalid or contains NaN, if the method is not defined for it, if
        the numbers of stimuli differ, if there are too few stimuli or data RDMs to resample, or if a choice is unknown.

    Warns
    -----
    RuntimeWarning
        If samples are left out because too few distinct stimuli were drawn, or if the noise ceiling is undefined in
        some samples. The warning states the number of samples.

    References
    ----------
    Nili et al. (2014). A toolbox for representational similarity analysis. PLOS Computational Biology 10 (ceilings).
    Schutt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12
    (bootstrap over both).

    Examples
    --------
    >>> from repsim import rdm
    >>> X = np.random.default_rng(0).normal(size=(20, 5))
    >>> result = evaluate_models({"itself": rdm(X)}, {"data": rdm(X)}, n_samples=100)
    >>> result.means.round(6), result.samples.shape
    (array([1.]), (100, 1))
    """
    comparator = choose(method, COMPARATORS, Comparator, "method")
    checks.choice(over, dict.fromkeys(("stimuli", "networks", "both", "none")), "resampling")
    checks.whole_number(n_samples, "n_samples", 2)
    checks.whole_number(n_permutations, "n_permutations", 1)
    stacked = {side: stacked_rdms(rdms, side, comparator) for side, rdms in (("models", models), ("data", data))}
    checks.same_stimuli({side: n_stimuli(rdms[0]) for side, rdms in stacked.items()})
    n = n_stimuli(stacked["data"][0])
    _check_enough(over, n, len(data))
    # Models that the comparator cannot distinguish are evaluated once, so that their difference is exactly zero.
    different, place = np.unique(first_equal(stacked["models"], comparator), return_inverse=True)
    rdms = stacked["models"][different], stacked["data"]
    values, lower, upper = compare_with_ceilings(comparator, *rdms, ceilings=ceilings)
    observed = Resampled(values[None], lower[None], upper[None])
    generator = np.random.default_rng(seed)
    permutations = generator.spawn(1)[0]  # so that they do not depend on what is resampled
    resample = partial(resampled_values, *rdms, comparator=comparator, ceilings=ceilings)
    drawn = _draw(resample, observed, comparator, over, n_samples, n, generator)
    draws = {name: _with_values(each) for name, each in drawn.items()}
    n_left_out = _report_left_out(draws, n_samples, n, comparator)
    n_without_ceiling = _report_ceilings(draws.get(over), lower) if ceilings else 0
    chance = permuted_values(comparator, *rdms, n_permutations, permutations) if over != "none" else None
    return ModelEvaluation(
        models=tuple(models),
        data=tuple(data),
        comparator=comparator,
        over=over,
        values=values[place],
        ceilings=np.stack([lower, upper]),
        draws={name: (means[:, place], ceilings) for name, (means, ceilings) in draws.items()},
        null=np.empty((0, len(models))) if chance is None else chance.null[:, place],
        is_exact_null=chance is not None and chance.exact,
        n_stimuli=n,
        n_left_out=n_left_out,
        n_without_ceiling=n_without_ceiling,
    )


def _check_enough(over: str, n: int, k: int) -> None:
    if over in ("networks", "both") and k < 2:
        raise ValueError(f"Resampling networks needs at least 2 data RDMs; there is {k}. Resample stimuli.")
    if over in ("stimuli", "both") and n <= LEAST_STIMULI:
        raise ValueError(
            f"Resampling stimuli needs at least {LEAST_STIMULI + 1} of them; there are {n}. Resample networks."
        )


def _draw(
    resample: Callable[[Counts], Resampled],
    observed: Resampled,
    comparator: Comparator,
    over: str,
    n_samples: int,
    n: int,
    generator: np.random.Generator,
) -> dict[str, Draws]:
    """Return means over data of values and ceilings of all samples, by what was resampled."""
    q = observed.values.shape[-1]
    draws: dict[str, Draws] = {}
    if over in ("stimuli", "both"):
        resampled = resample(_drawn_stimuli(n, n_samples, comparator, generator))
        if comparator.weighted is None:
            resampled = _jackknifed(observed, resampled, n)
        draws["stimuli"] = _means(resampled, np.ones((n_samples, q)))
    if over in ("networks", "both"):
        networks = generator.multinomial(q, np.full(q, 1 / q), size=n_samples)
        draws["networks"] = _means(observed, networks)
        if over == "both":
            draws["both"] = _means(resampled, networks)
    return draws


def _drawn_stimuli(n: int, n_samples: int, comparator: Comparator, generator: np.random.Generator) -> Counts:
    """Return the count of each stimulus in each sample, (n_samples, n): bootstrap, or all but one."""
    if comparator.weighted is not None:
        return generator.multinomial(n, np.full(n, 1 / n), size=n_samples)
    left_out = np.resize(generator.permutation(n), n_samples)  # each as often as any other
    return (left_out[:, None] != np.arange(n)).astype(np.int64)


def _jackknifed(observed: Resampled, left_out: Resampled, n: int) -> Resampled:
    """Scale the deviations of values without one stimulus so that their variance is that of the jackknife."""
    # v + sqrt(n - 1) (v_i - mean v), whose variance over i is (n - 1) / n sum_i (v_i - mean v)^2.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of NaN alone
        spread = (
            whole + np.sqrt(n - 1) * (each - np.nanmean(each, axis=0))
            for whole, each in zip(vars(observed).values(), vars(left_out).values(), strict=True)
        )
        return Resampled(*spread)


def _means(resampled: Resampled, counts: Counts | FloatArray) -> Draws:
    """Return weighted means over data RDMs."""
    # Each network enters the ceilings twice: as the one that is predicted, and in the pools that predict the others. So
    # the weighted ceilings deviate twice as far from their plain mean.
    weights = counts / counts.sum(axis=1, keepdims=True)
    n_samples = len(weights)
    values = np.broadcast_to(resampled.values, (n_samples, *resampled.values.shape[1:]))
    means = (values @ weights[:, :, None])[:, :, 0]
    ceilings = [2 * (each * weights).sum(axis=1) - each.mean(axis=1) for each in (resampled.lower, resampled.upper)]
    return means, np.stack(ceilings, axis=1)


def _with_values(draws: Draws) -> Draws:
    """Leave out the samples in which a value is undefined."""
    means, ceilings = draws
    known = ~np.isnan(means).any(axis=1)
    return means[known], ceilings[known]


def _report_left_out(draws: Mapping[str, Draws], n_samples: int, n: int, comparator: Comparator) -> int:
    """Return the number of samples without a value, and warn if there are any."""
    lost = max((n_samples - len(means) for means, _ in draws.values()), default=0)
    if lost > n_samples - 2:
        raise ValueError(
            f"{lost} of {n_samples} samples of {n} stimuli have no value; expected at least 2 that have one. "
            "Compare RDMs of more stimuli."
        )
    if lost:
        kind = "jackknife" if comparator.weighted is None else "bootstrap"
        warnings.warn(
            f"{lost} of {n_samples} {kind} samples of {n} stimuli have no value and are left out: {comparator.name} "
            "is not defined for the distinct stimuli in them.",
            RuntimeWarning,
            stacklevel=3,
        )
    return lost


def _report_ceilings(draws: Draws | None, lower: FloatArray) -> int:
    """Return in how many samples the lower noise ceiling is undefined, and warn if there are any."""
    if draws is None or len(lower) == 1:  # a single data RDM has no lower ceiling
        return 0 if draws is None else len(draws[0])
    undefined = int(np.isnan(draws[1][:, 0]).sum())
    if np.isnan(lower).any():
        what = f"for {np.isnan(lower).sum()} of {len(lower)} data RDMs; p_below_ceiling is NaN"
    elif undefined:
        what = f"in {undefined} of {len(draws[0])} samples, which are left out of p_below_ceiling"
    else:
        return 0
    warnings.warn(
        f"The lower noise ceiling is undefined {what}: the other data RDMs cancel each other to a constant RDM.",
        RuntimeWarning,
        stacklevel=3,
    )
    return undefined
