"""What a measure of similarity declares about itself; the tests hold it to every word."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

INVARIANCES = frozenset({"orthogonal", "isotropic scaling", "translation", "affine"})


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One way of comparing two representations of the same stimuli.

    Parameters
    ----------
    name : str
        Its key in `MEASURES`.
    function : callable
        Takes X (n, d1) and Y (n, d2), returns a float.
    range : (float, float)
        Smallest and largest value it can take.
    direction : {"similarity", "distance"}
        A similarity grows with likeness, a distance falls.
    is_metric : bool
        Whether it is zero for equals only, symmetric, and obeys the triangle inequality.
    invariances : frozenset of str
        The transformations of X alone that leave the value as it is, out of "orthogonal" (rotation and reflection of
        the features), "isotropic scaling", "translation" and "affine" (any invertible linear map and a translation).
        What is not named here does change it.
    reference : str
        The paper, with its equation.

    Raises
    ------
    ValueError
        If a range is empty, or an invariance or a direction is unknown.

    Examples
    --------
    >>> gap = Measure(name="gap", function=lambda X, Y: 0.0, range=(0, 1), direction="distance", is_metric=False,
    ...               invariances=frozenset({"translation"}), reference="none")
    >>> gap.direction
    'distance'
    """

    name: str
    function: Callable[..., float]
    range: tuple[float, float]
    direction: Literal["similarity", "distance"]
    is_metric: bool
    invariances: frozenset[str]
    reference: str

    def __post_init__(self) -> None:
        """Check the declaration."""
        if self.direction not in ("similarity", "distance"):
            raise ValueError(f"Unknown direction {self.direction!r}. Choose one of: distance, similarity.")
        if unknown := self.invariances - INVARIANCES:
            raise ValueError(f"Unknown invariances {sorted(unknown)}. Choose among: {', '.join(sorted(INVARIANCES))}.")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"The range {self.range} is empty; expected (smallest, largest).")
