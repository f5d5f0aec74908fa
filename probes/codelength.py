"""Information of a layer about labels, in bits: length of the online code, and V-information."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from probes.controls import class_rates
from probes.estimators.base import checked_rows, class_codes
from probes.estimators.logistic import LogisticProbe
from probes.stimulus_order import ByStimulus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)  # Voita and Titov's
PSEUDO_COUNT = 0.5
PROBES = (LogisticProbe(0.1, solver="lbfgs"),)


@dataclass(frozen=True, kw_only=True)
class CodeBlock:
    """Consecutive examples that one probe codes. The first block has no probe: C and gap are NaN."""

    n_before: int  # examples that the probe is fitted on
    n_block: int
    bits: float
    C: float = np.nan
    relative_gap: float = np.nan
    converged: bool = True


@dataclass(frozen=True, kw_only=True)
class OnlineCode:
    """The online code of labels, block by block; see `online_codelength`."""

    n_classes: int
    blocks: tuple[CodeBlock, ...]

    @property
    def codelength(self) -> float:
        """Bits of all blocks, > 0."""
        return sum(block.bits for block in self.blocks)

    @property
    def uniform_codelength(self) -> float:
        """Bits of the labels without features: n log2 K."""
        return sum(block.n_block for block in self.blocks) * float(np.log2(self.n_classes))

    @property
    def compression(self) -> float:
        """Uniform codelength over codelength, > 0; about 1 or less if features hold no information about labels."""
        return self.uniform_codelength / self.codelength

    @property
    def converged(self) -> bool:
        """Whether every probe converged. If not, the code is valid but may be longer than necessary."""
        return all(block.converged for block in self.blocks)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the bits per example of each block, and of a uniform code, and return the axes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw on; those of a new figure by default.
        """
        from probes.code_plot import plot_code

        sizes, bits = [block.n_block for block in self.blocks], [block.bits for block in self.blocks]
        return plot_code(sizes, bits, self.n_classes, ax)

    def _repr_html_(self) -> str:
        """Show the length, and one row per block, in a notebook."""
        title = f"Online code of {self.codelength:.1f} bits; compression {self.compression:.3f}"
        return f"<b>{title}</b>{self.frame().to_html(index=False, float_format='{:.4g}'.format)}"

    def frame(self) -> pd.DataFrame:
        """Return one row per block: `n_before`, `n_block`, `bits`, `C`, `relative_gap` and `converged`."""
        return pd.DataFrame([asdict(block) for block in self.blocks])


def online_codelength(
    X: ArrayLike,
    y: ByStimulus,
    *,
    probes: Sequence[LogisticProbe] = PROBES,
    fractions: Sequence[float] = FRACTIONS,
    seed: int,
) -> OnlineCode:
    r"""Return the online (prequential) code of labels given features.

    Examples are put in a random order and coded in blocks that end at :math:`n_1 < n_2 < \dots < n_B = n`. The first
    block is coded uniformly, each later one with a probe fitted on all examples before it:

    .. math:: L = n_1 \log_2 K - \sum_{b=1}^{B-1} \sum_{i=n_b+1}^{n_{b+1}} \log_2 q_b(y_i \mid x_i), \qquad
        q_b(k \mid x) = \frac{n_b\, p_b(k \mid x) + 1/2}{n_b + K / 2} .

    Here :math:`p_b` is the probability that the probe gives; it is zero for classes that the probe was not trained on,
    and one if it was trained on a single class. The half count mixes it with the uniform distribution, with weight
    :math:`K / (2 n_b + K)`: q sums to one over all K classes and is never zero, so nothing is clipped, a class that is
    new to the probe costs :math:`\log_2 (2 n_b + K)` bits, and a block no longer than all blocks before it pays 0.73 K
    bits for the mixture at most. Without features q is the Krichevsky-Trofimov estimator. Decoding needs the features
    and the names of the K classes.

    With several probes, such as several C, each has a code of its own, and each block is taken from the probe whose
    code of the blocks before is shortest (the first on a tie, and at the start). No choice depends on labels still to
    be coded.

    L depends on the order of examples; report its mean over several seeds.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Features, finite.
    y : array-like, shape (n,), of int or str, or by stimulus
        Labels of K >= 2 classes. For a recorded layer also a mapping of stimulus id to label, a Series with the ids as
        its index, or the ``stimuli`` of a run; an array is taken by position.
    probes : sequence of LogisticProbe, default one probe with C = 0.1
        Probes to choose from; each is copied and fitted to the examples before a block, standardised by their own mean
        and scale.
    fractions : sequence of float, in (0, 1], rising to 1
        Ends of the blocks, as shares of n, rounded to the nearest example; the first block has at least one. Blocks
        without examples are left out. If the number of examples doubles from block to block, all fits together cost
        about as much as two fits on all examples.
    seed : int, >= 0
        Seed of the order of examples.

    Returns
    -------
    OnlineCode
        `codelength` and `uniform_codelength` in bits, their `compression`, the `blocks` and a `frame()` of them.

    Raises
    ------
    ValueError
        If X is not (n, d) with the n of y or does not hold real and finite numbers, y has one class or is continuous,
        `probes` is empty, or a parameter is out of range.

    References
    ----------
    Voita and Titov (2020). Information-theoretic probing with minimum description length. EMNLP, section 2.2.2.
    Krichevsky and Trofimov (1981). The performance of universal encoding. IEEE Trans. Inf. Theory 27, 199-207.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> code = online_codelength(X, y, probes=[LogisticProbe(1.0)], fractions=(0.1, 0.2, 0.5, 1.0), seed=0)
    >>> print(code.frame()[["n_before", "n_block", "converged"]].to_string())
       n_before  n_block  converged
    0         0       15       True
    1        15       15       True
    2        30       45       True
    3        75       75       True
    >>> code.compression > 2
    True
    """
    features, labels = checked_rows(LogisticProbe(), X, y)
    classes, labels = class_codes(labels)
    ends = _block_ends(fractions, len(labels))
    if not len(probes):
        raise ValueError("probes is empty; give one or more, such as [LogisticProbe(0.1)].")
    order = np.random.default_rng(seed).permutation(len(labels))
    features, labels = features[order], labels[order]
    n_classes = len(classes)
    blocks = [CodeBlock(n_before=0, n_block=ends[0], bits=ends[0] * float(np.log2(n_classes)))]
    spent = np.zeros(len(probes))  # bits of each probe so far
    for start, end in pairwise(ends):
        coded = [_coded(probe, features[:end], labels[:end], start, n_classes) for probe in probes]
        blocks.append(coded[np.argmin(spent)])
        spent += [block.bits for block in coded]
    return OnlineCode(n_classes=n_classes, blocks=tuple(blocks))


def _block_ends(fractions: Sequence[float], n: int) -> list[int]:
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or not shares.size or shares[-1] != 1.0 or not np.all(np.diff(shares, prepend=0.0) > 0.0):
        raise ValueError(f"fractions is {fractions!r}; expected positive numbers that rise to 1, such as (0.5, 1.0).")
    ends = np.maximum(np.rint(shares * n), 1).astype(int)
    return np.unique(ends).tolist()


def _coded(probe: LogisticProbe, X: NDArray, y: NDArray[np.intp], start: int, n_classes: int) -> CodeBlock:
    """Code the examples from `start` on with a probe that is fitted to those before."""
    seen = np.unique(y[:start])
    p = np.zeros((len(y) - start, n_classes))
    fit: dict[str, Any] = {}
    if len(seen) == 1:
        p[:, seen] = 1.0
    else:
        fitted = _fitted(probe, X[:start], y[:start])
        p[:, seen] = fitted.predict_proba(X[start:])
        fit = {"C": float(probe.C), "relative_gap": fitted.relative_gap_, "converged": fitted.converged_}
    n_block = len(p)
    q = (start * p[np.arange(n_block), y[start:]] + PSEUDO_COUNT) / (start + PSEUDO_COUNT * n_classes)
    return CodeBlock(n_before=start, n_block=n_block, bits=-float(np.sum(np.log2(q))), **fit)


def _fitted(probe: LogisticProbe, X: NDArray, y: NDArray[np.intp]) -> LogisticProbe:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the block holds this; few examples may not vary
        return clone(probe).fit(X, y)


def v_information(log_loss: ArrayLike, labels_train: ArrayLike, labels_test: ArrayLike, *, unit: str = "bits") -> Any:
    r"""Return the V-information of a probe: by how much it reduces the uncertainty of labels on held-out rows.

    .. math:: I_V(X \to Y) = H_V(Y) - H_V(Y \mid X)

    :math:`H_V(Y)` is the loss of the best probe without features: the class rates of the *training* rows, scored on the
    test rows. :math:`H_V(Y \mid X)` is the loss of the probe on the same rows. This is an estimate from finite samples.
    It is *negative* if the probe does worse than the class rates, for example because it overfits; it then found no
    usable information. It is not Shannon's mutual information, and may grow when X is processed.

    Parameters
    ----------
    log_loss : float or array-like, >= 0
        Mean held-out log loss in nats of a probe, or of several: the column of `probe_layers`, or
        `sklearn.metrics.log_loss`. NaN, the loss of a layer that failed, stays NaN.
    labels_train : array-like, shape (n_train,), of int or str
        Labels that the probe was fitted to.
    labels_test : array-like, shape (n_test,), of int or str
        Labels that the probe was scored on.
    unit : {"bits", "nats"}
        Unit of the result.

    Returns
    -------
    float or array of the shape of log_loss
        Information per example, from minus infinity to :math:`H_V(Y)`.

    Raises
    ------
    ValueError
        If a log loss is negative, the unit is unknown, labels are not integers or strings, or a test label is absent
        from the training labels.

    References
    ----------
    Xu, Zhao, Song, Stewart and Ermon (2020). A theory of usable information under computational constraints. ICLR,
    definition 2.

    Examples
    --------
    >>> float(v_information(0.0, ["cat", "dog"], ["dog", "cat", "cat"]))
    1.0
    >>> v_information([0.25, 1.0], ["cat", "dog"], ["dog", "cat"], unit="nats").round(2).tolist()
    [0.44, -0.31]
    """
    if unit not in NATS:
        raise ValueError(f"Unknown unit {unit!r}. Choose one of: {', '.join(sorted(NATS))}.")
    losses = np.asarray(log_loss, dtype=np.float64)
    negative = losses[losses < 0.0]
    if negative.size:
        raise ValueError(f"log_loss has {negative[0]:g}; expected mean losses of 0 or more, in nats. Check the sign.")
    rates, test = class_rates(labels_train, labels_test)
    return (-np.mean(np.log(rates[test])) - losses) / NATS[unit]


NATS: dict[str, float] = {"bits": float(np.log(2.0)), "nats": 1.0}
