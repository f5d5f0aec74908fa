"""
A measure of similarity of your own
===================================

A measure takes two representations of the same stimuli, X of shape (n, d₁) and Y of shape (n, d₂), and returns a
number. ``pairwise`` takes any function of two arrays. A ``Measure`` is the same with what one should know of it: its
range, whether it grows or falls with likeness, and which changes of a representation it does not see.
"""

import matplotlib.pyplot as plt
import numpy as np

from repsim import pairwise
from repsim.similarity import Measure, shape_distance

# %%
# Something to compare
# --------------------
#
# Three "networks" of three layers that look at the same 120 stimuli of six classes. The third differs from the second
# by a rotation of each layer only.


def layers_of(seed):
    """Return random tanh layers of the stimuli, by name."""
    rng, layers, h = np.random.default_rng(seed), {}, stimuli
    for depth in (1, 2, 3):
        h = np.tanh(h @ rng.normal(size=(h.shape[1], 24)) / 3)
        layers[f"{depth}"] = h
    return layers


rng = np.random.default_rng(0)
classes = np.repeat(np.arange(6), 20)
stimuli = rng.normal(size=(6, 10))[classes] + rng.normal(size=(120, 10))
rotation = np.linalg.qr(rng.normal(size=(24, 24)))[0]
networks = {"a": layers_of(1), "b": layers_of(2)}
networks["b rotated"] = {name: X @ rotation for name, X in networks["b"].items()}
layers = {f"{network}.{layer}": X for network, each in networks.items() for layer, X in each.items()}

# %%
# A plain function
# ----------------
#
# RV coefficient without centring, say: how far the matrices of inner products of stimuli point the same way.
#
# .. math:: s(X, Y) = \frac{\operatorname{tr}(X X^T Y Y^T)}{\lVert X X^T \rVert_F \, \lVert Y Y^T \rVert_F}
#
# With the trick :math:`\operatorname{tr}(X X^T Y Y^T) = \lVert X^T Y \rVert_F^2` nothing of size n × n is made.


def inner_products(X, Y):
    """Return the cosine of X Xᵀ and Y Yᵀ, from 0 to 1."""
    return np.sum((X.T @ Y) ** 2) / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y)


table = pairwise(layers, measure=inner_products)
print(table.frame().head(3).round(3))

# %%
# ``pairwise`` has checked that all layers are finite matrices of equally many stimuli, and gives arrays of float64 to
# the function. It asks for both orders of each pair, since it does not know that the function is symmetric; and it
# cannot know what X and Y have in common, so that for each pair everything is computed anew. A ``Measure`` says both.
#
# What does it ignore?
# --------------------
#
# Before a number between two layers means anything, one should know which differences it does not see. So take a
# representation and a changed one, and look whether the value against a third stays.


def changes(X, rng):
    """Return changes of a representation, by name."""
    d = X.shape[1]
    return {
        "permutation": X[:, rng.permutation(d)],
        "orthogonal": X @ np.linalg.qr(rng.normal(size=(d, d)))[0],
        "isotropic scaling": 3.7 * X,
        "invertible linear": X @ (np.eye(d) + rng.normal(size=(d, d)) / 4),
        "translation": X + rng.normal(size=d),
    }


def invariances(function, X, Y, seed=0):
    """Return which changes of X leave function(X, Y) as it is, up to rounding."""
    before = function(X, Y)
    after = {name: function(Z, Y) for name, Z in changes(X, np.random.default_rng(seed)).items()}
    return {name: bool(np.isclose(value, before, rtol=1e-9, atol=1e-12)) for name, value in after.items()}


X, Y = networks["a"]["2"], networks["b"]["2"]
for name, ignored in invariances(inner_products, X, Y).items():
    print(f"{name:18} {'ignored' if ignored else 'seen'}")

# %%
# It sees translation: two layers whose units all have a large mean would look alike for that reason alone. That is why
# linear CKA centres first. A test like this shows an invariance that is *not* there with one example, while one that is
# there it can only fail to refute; the proof is the algebra: a rotation Q of X cancels in X Q Qᵀ Xᵀ.
#
# A Measure, prepared once
# ------------------------
#
# Centring mends it. A ``Measure`` has two halves. ``prepare`` is given each representation once and does all that needs
# it alone; ``compare`` is given two prepared ones. ``prepare`` returns None where the measure is not defined (a
# constant layer); ``pairwise`` then warns with the layer's name and gives NaN, never a made-up number.


def prepare(X, name):
    """Return X centred, and scaled so that its matrix of inner products has norm 1."""
    X = X - X.mean(axis=0)
    norm = np.linalg.norm(X.T @ X)
    return X / np.sqrt(norm) if norm > 1e-12 else None


def compare(x, y):
    """Return the angle between two prepared representations, in radians."""
    return np.arccos(np.clip(np.sum((x.T @ y) ** 2), 0.0, 1.0))


def angle(X, Y):
    """Return the angle of centred X Xᵀ and Y Yᵀ, in radians."""
    return compare(prepare(np.asarray(X), "X"), prepare(np.asarray(Y), "Y"))


cka_angle = Measure(
    name="cka_angle",
    function=angle,
    prepare=prepare,
    compare=compare,
    formula="arccos tr(XXᵀYYᵀ) / (|XXᵀ| |YYᵀ|), centred columns",
    range=(0.0, np.pi / 2),
    direction="distance",
    is_metric=True,
    invariances=frozenset({"permutation", "orthogonal", "isotropic scaling", "translation"}),
    cost="n d²",
    use="where a distance is needed that obeys the triangle inequality",
    reference="the angle of two vectors; CKA is its cosine: Kornblith et al. (2019), section 3",
)

found = {name for name, ignored in invariances(angle, X, Y).items() if ignored}
print("declared and found agree:", found == cka_angle.invariances)

# %%
# The declaration is checked when it is made, for contradictions: what is invariant to rotations must be so to
# permutations. To add the measure to the package, put it into a file of ``repsim/similarity/measures/`` and list that
# file's ``FAMILY`` in its ``__init__.py``. The tests then hold it to every word: range, symmetry, triangle
# inequality, each invariance both ways.
#
# Use it
# ------
#
# Layer b.k and its rotation are at distance 0. To :func:`~repsim.similarity.shape_distance`, half-way between CCA and
# Procrustes, too; but a measure that matches single units would see the rotation. Which of them is right depends on
# what will read the layer.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for ax, measure in zip(axes, (cka_angle, "shape", "permutation_procrustes"), strict=True):
    distances = pairwise(layers, measure=measure)
    image = ax.imshow(distances.values, vmin=0, vmax=1.4, cmap="magma_r")
    ax.set_xticks(range(len(layers)), list(layers), rotation=90, fontsize=8)
    ax.set_yticks(range(len(layers)), list(layers) if ax is axes[0] else [""] * len(layers), fontsize=8)
    ax.set_title(distances.measure, fontsize=10)
figure.colorbar(image, ax=axes, label="distance")

a, rotated = layers["b.2"], layers["b rotated.2"]
print(f"b.2 to its rotation: {angle(a, rotated):.6f} (cka_angle), {shape_distance(a, rotated):.6f} (shape)")
plt.show()
