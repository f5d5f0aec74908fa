"""Linear centered kernel alignment (CKA)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.measures.hsic import hsic, normalised
from repsim.similarity.measures.hsic_pairs import Pairs, linear_hsic
from repsim.similarity.measures.measure import Measure, evaluate
from repsim.similarity.precision import FloatArray

# HSIC of a normalised representation with itself is about one over its number of dimensions; below this it is rounding.
NOTHING = 1e-12


def linear_cka(X: ArrayLike, Y: ArrayLike, *, unbiased: bool = True) -> float:
    r"""Linear centered kernel alignment of two representations.

    .. math:: \mathrm{CKA}(X, Y) = \frac{\mathrm{HSIC}(X, Y)}{\sqrt{\mathrm{HSIC}(X, X) \, \mathrm{HSIC}(Y, Y)}}

    with the Hilbert-Schmidt independence criterion of linear kernels. The biased estimator of HSIC lets every stimulus
    be similar to itself, so that biased CKA of unrelated representations grows with d / n: it is near 0.5 for n = d and
    near 1 for n << d. The unbiased one is near 0 there. (Its ratio is not exactly unbiased; each HSIC is.)

    Parameters
    ----------
    X : array-like (n, d1)
        n >= 4, or n >= 2 if biased.
    Y : array-like (n, d2)
        The same stimuli in the same order.
    unbiased : bool, default True
        Which estimator of HSIC.

    Returns
    -------
    float
        Within [0, 1] if biased. Within [-1, 1] if not, slightly negative for unrelated representations. 1 if Y is X up
        to rotation, isotropic scaling and translation. NaN if the HSIC of X or Y with itself is zero.

    Raises
    ------
    ValueError
        If X or Y is not a finite real matrix, if their numbers of rows differ, or if there are too few rows.

    Warns
    -----
    RuntimeWarning
        If the result is NaN: X or Y is constant, or (unbiased) no two of its stimuli are more alike than others.

    References
    ----------
    Kornblith, Norouzi, Lee & Hinton (2019). Similarity of neural network representations revisited. ICML, section 3.
    Song, Smola, Gretton, Bedo & Borgwardt (2012). Feature selection via dependence maximization. JMLR 13, eq. 5.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_cka(X, 2 * X[:, ::-1] + 1), 6)
    1.0
    """
    prepare, compare = partial(_prepare, unbiased=unbiased), partial(_compare, unbiased=unbiased)
    return evaluate(X, Y, prepare, compare, what="CKA", undefined=UNDEFINED)


UNDEFINED = "have zero HSIC with themselves: they are constant, or no two of their stimuli are more alike than others"


def _prepare(X: FloatArray, name: str, *, unbiased: bool) -> FloatArray:
    if unbiased and len(X) < 4:
        raise ValueError(
            f"{name} has {len(X)} stimuli; unbiased CKA needs at least 4. Record more stimuli, or take the biased "
            "estimator."
        )
    return normalised(X)


def _compare(x: FloatArray, y: FloatArray, *, unbiased: bool) -> float:
    cross, own_x, own_y = (hsic(a, b, unbiased=unbiased) for a, b in ((x, y), (x, x), (y, y)))
    return float(alignment(cross, own_x, own_y))


def _together(
    layers: Sequence[FloatArray], pairs: Pairs, *, unbiased: bool, memory: int, device: str | None
) -> FloatArray:
    values = linear_hsic(layers, pairs, unbiased=unbiased, memory=memory, device=device)
    own = np.diagonal(values)
    return alignment(values, own, own)


def alignment(cross: float | FloatArray, x: float | FloatArray, y: float | FloatArray) -> FloatArray:
    """CKA from HSIC.

    Parameters
    ----------
    cross : float or array (p, q)
        HSIC of each X with each Y, normalised representations.
    x, y : float or arrays (p,) and (q,)
        HSIC of each X, and of each Y, with itself.

    Returns
    -------
    array () or (p, q)
        Within [-1, 1], or NaN where x or y is zero up to rounding.

    Examples
    --------
    >>> float(alignment(0.1, 0.2, 0.2))
    0.5
    """
    x, y = np.where(x > NOTHING, x, np.nan), np.where(y > NOTHING, y, np.nan)
    return np.clip(cross / np.sqrt(np.multiply.outer(x, y)), -1.0, 1.0)


INVARIANCES = frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"})

UNBIASED = Measure(
    name="cka",
    label="CKA",
    function=linear_cka,
    prepare=partial(_prepare, unbiased=True),
    compare=partial(_compare, unbiased=True),
    together=partial(_together, unbiased=True),
    formula="HSIC(X, Y) / √(HSIC(X, X) HSIC(Y, Y)), unbiased HSIC",
    range=(-1.0, 1.0),
    direction="similarity",
    is_metric=False,
    invariances=INVARIANCES,
    undefined=UNDEFINED,
    cost="n d min(n, d)",
    use="the default: unrelated representations are near 0 whatever n and d",
    reference="Kornblith et al. (2019), section 3, with the estimator of Song et al. (2012), eq. 5",
)

BIASED = Measure(
    name="cka_biased",
    label="biased CKA",
    function=partial(linear_cka, unbiased=False),
    prepare=partial(_prepare, unbiased=False),
    compare=partial(_compare, unbiased=False),
    together=partial(_together, unbiased=False),
    formula="|XᵀY|² / (|XᵀX| |YᵀY|), Frobenius norms, centred columns",
    range=(0.0, 1.0),
    direction="similarity",
    is_metric=False,
    invariances=INVARIANCES,
    undefined=UNDEFINED,
    cost="n d min(n, d)",
    use="to compare with published values; grows with d / n",
    reference="Kornblith et al. (2019), section 3",
)

FAMILY = (UNBIASED, BIASED)
