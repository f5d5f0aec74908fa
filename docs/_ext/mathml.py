"""Equations as MathML, which browsers draw themselves: nothing runs in the page, and nothing is fetched."""

import html
import re
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging


def setup(app):
    """Make it a way to show mathematics."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_math(translator, node):
    """Write an equation in the line."""
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_math_block(translator, node):
    """Write an equation of its own; one that is too wide for the page can be pushed sideways."""
    translator.body.append(f'<div class="math-block">{mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def mathml(node, as_block):
    """Return an equation as MathML, or warn, which stops the build, where docutils cannot read its TeX."""
    tex = re.sub(r"\\dots(?![a-z])", r"\\ldots", node.astext())
    try:
        text = latex2mathml.tex2mathml(tex, as_block=as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("equation %r: %s", tex, error, location=node)
        return ""
    tree = ElementTree.fromstring(re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda entity: html.unescape(entity[0]), text))
    lower_indices(tree)
    return ElementTree.tostring(tree, encoding="unicode", default_namespace=None)


def lower_indices(tree):
    """Put the index of an accented letter at its side, which docutils puts below the letter."""
    for parent in list(tree.iter()):
        if parent.tag == f"{MATHML}munderover" and parent[2].text in ACCENTS and not list(parent[2]):
            letter, index, accent = parent
            accented = ElementTree.Element(f"{MATHML}mover", accent="true")
            accented.extend([letter, accent])
            parent.tag = f"{MATHML}msub"
            parent[:] = [accented, index]


MATHML = "{http://www.w3.org/1998/Math/MathML}"
ACCENTS = set("ˉ~ˆ˜¯^")
ElementTree.register_namespace("", MATHML.strip("{}"))
