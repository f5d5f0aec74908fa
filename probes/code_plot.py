"""Plot of an online code. Importing this module imports matplotlib; importing `probes` does not.

Figures are not registered with pyplot. Axes made here show themselves at the end of a notebook cell.
"""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class NotebookAxes(Axes):
    """Axes that a notebook displays as an image of their figure."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        figure = self.get_figure(root=True)
        assert figure is not None
        figure.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


def plot_code(sizes: Sequence[int], bits: Sequence[float], n_classes: int, ax: Axes | None = None) -> Axes:
    """Draw the bits per example of each block of a code, and of a uniform code, and return the axes."""
    if ax is None:
        ax = Figure(figsize=(5.6, 4.0), layout="constrained").add_subplot(axes_class=NotebookAxes)
    ax.stairs(np.divide(bits, sizes), [0, *np.cumsum(sizes)], label="online code")
    ax.axhline(np.log2(n_classes), color="0.4", linestyle=":", linewidth=1, label="uniform code")
    ax.set_xlabel("examples coded")
    ax.set_ylabel("bits per example")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax
