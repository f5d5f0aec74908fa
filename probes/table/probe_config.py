"""Settings of a table of probes: the grid of C, the solver, controls and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from probes.checks import check_positive, check_positive_integer
from probes.grids import AUTO, MOST_DECADES
from probes.solvers.path import CS
from probes.solvers.solver_settings import SolverSettings


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(SolverSettings):
    """Settings of a table of probes, checked when they are made.

    Parameters
    ----------
    Cs : "auto" or sequence of float, > 0, default "auto"
        Weights of the data against the penalty to choose from. "auto" is the grid (0.001, 0.01, 0.1, 1.0, 10.0), which
        is extended a decade at a time, by 6 decades at most, while the validation loss still falls by more than 1e-4
        nats at its edge: upwards for classes that are separable, downwards for layers that hold no information about
        the labels. Where the loss levels off at large C, the smallest C within 1e-4 nats is chosen. Numbers are used
        as given, and a single number is used without a choice.
    solver, tol, max_iter, device
        As in `LogisticProbe`.
    controls : int, >= 0, default 0
        Number of random labelings (`random_labels`) that are fitted at the chosen C, to measure the capacity of the
        probe.
    codelength : bool, default False
        Whether to measure the online code of the training labels (`online_codelength`) at the chosen C, which takes
        about as long as two fits.
    memory : int, >= 1, default 1 GiB
        Bytes up to which layers are held in double precision; a larger layer is held in single precision (sums are in
        double precision all the same).

    Raises
    ------
    ValueError
        If `Cs` is empty, the solver is unknown, torch cannot use the device, or a number is out of range.

    Examples
    --------
    >>> ProbeConfig(Cs=[1.0, 0.1]).grid, ProbeConfig().grid
    ((0.1, 1.0), (0.001, 0.01, 0.1, 1.0, 10.0))
    """

    Cs: Sequence[float] | str = AUTO
    controls: int = 0
    codelength: bool = False
    memory: int = 2**30

    def __post_init__(self) -> None:
        """Raise a ValueError that names the first setting out of range."""
        super().__post_init__()
        if not self.is_automatic and (isinstance(self.Cs, str | Real) or not len(self.Cs)):
            raise ValueError(
                f"Cs is {self.Cs!r}; expected one or more positive numbers, such as (0.01, 0.1, 1.0), or 'auto'."
            )
        for C in self.grid:
            check_positive(C, "C")
        if not isinstance(self.controls, Integral) or self.controls < 0:
            raise ValueError(f"controls is {self.controls!r}; expected a number of random labelings, 0 or more.")
        check_positive_integer(self.memory, "memory")

    @property
    def is_automatic(self) -> bool:
        """Whether the grid is the default one, which is extended."""
        return isinstance(self.Cs, str) and self.Cs == AUTO

    @property
    def grid(self) -> tuple[float, ...]:
        """The values of C before any extension, ascending."""
        return CS if self.is_automatic else tuple(sorted({float(C) for C in self.Cs}))

    @property
    def most_decades(self) -> int:
        """Number of decades by which the grid may be extended."""
        return MOST_DECADES if self.is_automatic else 0
