"""How results of probes draw themselves; importing this imports matplotlib, which importing `probes` does not.

Figures are no part of pyplot's state. Axes made here show themselves where they are the last value of a cell.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class NotebookAxes(Axes):
    """Axes that a notebook shows as the picture of their figure."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        figure = self.get_figure(root=True)
        assert figure is not None
        figure.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


def plot_code(sizes: Sequence[int], bits: Sequence[float], n_classes: int, ax: Axes | None = None) -> Axes:
    """Draw bits an example of each block of a code, beside those of a uniform code.

    Parameters
    ----------
    sizes : sequence of int
        Examples in each block.
    bits : sequence of float
        Of each block.
    n_classes : int
    ax : Axes, optional
    """
    if ax is None:
        ax = Figure(figsize=(5.6, 4.0), layout="constrained").add_subplot(axes_class=NotebookAxes)
    ax.stairs(np.divide(bits, sizes), [0, *np.cumsum(sizes)], label="online code")
    ax.axhline(np.log2(n_classes), color="0.4", linestyle=":", linewidth=1, label="uniform code")
    ax.set_xlabel("examples coded")
    ax.set_ylabel("bits an example")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax
