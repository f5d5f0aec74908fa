"""Linear centered kernel alignment (CKA)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from repsim.similarity.docstrings import complete_docstring
from repsim.similarity.measures.hsic import hsic, normalised
from repsim.similarity.measures.hsic_pairs import Pairs, linear_hsic
from repsim.similarity.measures.measure import ISOMETRY, About, Measure, Streamed, evaluate
from repsim.similarity.measures.streamed import Sums
from repsim.similarity.precision import FloatArray

# HSIC of a normalised representation with itself is about one over its number of dimensions; less is rounding error.
NOTHING = 1e-12


@complete_docstring("n >= 4, or n >= 2 if biased.")
def linear_cka(X: ArrayLike, Y: ArrayLike, *, unbiased: bool = True) -> float:
    r"""Compute the linear centered kernel alignment of two representations.

    .. math:: \mathrm{CKA}(X, Y) = \frac{\mathrm{HSIC}(X, Y)}{\sqrt{\mathrm{HSIC}(X, X) \, \mathrm{HSIC}(Y, Y)}}

    with the Hilbert-Schmidt independence criterion of linear kernels. The biased estimator of HSIC lets every stimulus
    be similar to itself, so that biased CKA of unrelated representations grows with d / n: it is near 0.5 for n = d and
    near 1 for n << d. Unbiased CKA is near 0 there. (Each HSIC is unbiased; their ratio is not exactly.)

    Parameters
    ----------
    unbiased : bool, default True
        Whether to use the unbiased estimator of HSIC.

    Returns
    -------
    float
        Within [0, 1] if biased. Within [-1, 1] if unbiased; slightly negative values occur for unrelated
        representations. 1 if Y is X up to rotation, isotropic scaling and translation. NaN, with a warning, if the HSIC
        of X or Y with itself is zero: it is constant, or (unbiased) no two of its stimuli are more alike than others.

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
    return evaluate(UNBIASED if unbiased else BIASED, X, Y)


UNDEFINED = "have zero HSIC with themselves: they are constant, or no two of their stimuli are more alike than others"


def check_enough(X: FloatArray, name: str, *, unbiased: bool) -> None:
    """Check that there are enough stimuli for the estimator of HSIC."""
    if unbiased and len(X) < 4:
        raise ValueError(
            f"{name} has {len(X)} stimuli; unbiased CKA needs at least 4. Record more stimuli, or take the biased "
            "estimator."
        )


def _prepare(X: FloatArray, name: str, *, unbiased: bool) -> FloatArray:
    check_enough(X, name, unbiased=unbiased)
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
    """Compute CKA (p, q) from HSIC of X with Y, X with itself (p,) and Y with itself (q,); NaN where these are zero."""
    x, y = np.where(x > NOTHING, x, np.nan), np.where(y > NOTHING, y, np.nan)
    return np.clip(cross / np.sqrt(np.multiply.outer(x, y)), -1.0, 1.0)


def _from_sums(sums: Sums, *, unbiased: bool) -> FloatArray:
    hsic = sums.hsic(unbiased=unbiased)
    sizes = np.sqrt([np.trace(sums.products(i, i)) for i in range(len(sums.names))])
    with np.errstate(divide="ignore", invalid="ignore"):
        hsic = hsic * np.square(sums.n**0.5 / sizes)[:, None] * np.square(sums.n**0.5 / sizes)
    own = np.where(sizes > 0, np.diagonal(hsic), 0.0)
    return alignment(hsic, own, own)


UNBIASED = Measure(
    name="cka",
    label="CKA",
    prepare=partial(_prepare, unbiased=True),
    compare=partial(_compare, unbiased=True),
    together=partial(_together, unbiased=True),
    streamed=Streamed(from_sums=partial(_from_sums, unbiased=True), hsic="unbiased"),
    range=(-1.0, 1.0),
    invariances=ISOMETRY,
    undefined=UNDEFINED,
    about=About(
        formula="HSIC(X, Y) / √(HSIC(X, X) HSIC(Y, Y)), unbiased HSIC",
        cost="n d min(n, d)",
        use="the default: unrelated representations are near 0 for any n and d",
        reference="Kornblith et al. (2019), section 3, with the estimator of Song et al. (2012), eq. 5",
    ),
)

BIASED = Measure(
    name="cka_biased",
    label="biased CKA",
    prepare=partial(_prepare, unbiased=False),
    compare=partial(_compare, unbiased=False),
    together=partial(_together, unbiased=False),
    streamed=Streamed(from_sums=partial(_from_sums, unbiased=False), hsic="biased"),
    range=(0.0, 1.0),
    invariances=ISOMETRY,
    undefined=UNDEFINED,
    about=About(
        formula="|XᵀY|² / (|XᵀX| |YᵀY|), Frobenius norms, centred columns",
        cost="n d min(n, d)",
        use="to compare with published values; grows with d / n",
        reference="Kornblith et al. (2019), section 3",
    ),
)

FAMILY = (UNBIASED, BIASED)
