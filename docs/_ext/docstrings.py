"""What our docstrings take for granted, and Sphinx does not know."""

import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sphinx.util.typing import stringify_annotation


def setup(app):
    """Connect what is defined here; docstrings are mended before numpydoc reads them."""
    app.connect("autodoc-process-docstring", escape_plain, priority=400)
    app.connect("autodoc-process-docstring", separate_references, priority=401)
    app.connect("autodoc-process-signature", shorten_types)
    app.connect("autodoc-skip-member", skip_routing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def escape_plain(app, what, name, obj, options, lines):
    """Escape |x| and shapes such as (*lead, N), which docstrings mean as they stand and reStructuredText does not.

    Code and equations are left alone.
    """
    block = None  # the indent of the line that opened a literal block or an equation
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if line.lstrip().startswith(".. math::") or line.endswith("::"):
            block = indent
        if block is None and not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`+[^`]+`+)", line)
            parts[::2] = [PLAIN.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def separate_references(app, what, name, obj, options, lines):
    """Begin a paragraph after each full stop that ends a line of the references: one for each source."""
    separated, inside = [], False
    for line, below in zip(lines, [*lines[1:], ""], strict=False):
        if re.fullmatch(r"-{3,}", below.strip()):
            inside = line.strip() == "References"
        separated += [line, ""] if inside and line.endswith(".") else [line]
    lines[:] = separated


PLAIN = re.compile(r"\||(?<=[(, ])\*(?=[a-z]\w*(?:\{[^}]*\})?[,)])")


def shorten_types(app, what, name, obj, options, signature, returned):
    """Say ArrayLike where a signature has what NumPy means by it, and leave out what every array is."""

    def short(text):
        if text is None:
            return None
        for long, alias in TYPES.items():
            text = text.replace(long, alias)
        return text

    return short(signature), short(returned)


TYPES = {
    stringify_annotation(ArrayLike, "smart"): "ArrayLike",
    stringify_annotation(NDArray[np.float64], "smart"): "FloatArray",
    stringify_annotation(NDArray[Any], "smart"): "NDArray",
}


def skip_routing(app, what, name, obj, skip, options):
    """Leave out the methods by which scikit-learn routes metadata, which it writes into every estimator."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None
