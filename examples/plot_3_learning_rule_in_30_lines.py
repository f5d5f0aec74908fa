"""
A learning rule in thirty lines
===============================

A network is a chain of segments, and boundary k lies between segment k and segment k + 1. A learning rule chooses the
vector g_k that is used there in place of the gradient of the loss with respect to the activation h_k. Everything else,
the chain rule inside the segments and the update, is the same for all rules.

A rule is therefore a small class, a subclass of ``Estimator``. This example writes a new one.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn

from analysis.plots import plot_lines
from repsim.learning import (
    Estimator,
    TrainingConfig,
    build_learner,
    build_optimizer,
    count_steps,
    evaluate,
    load_dataset,
    locks,
    register_rule,
    split_dataset,
    train,
)

# %%
# The idea
# --------
#
# Direct feedback alignment sends the error e at the output to every layer through a fixed random matrix: g_k = e B_k.
# The network adapts to B. Here B adapts to the network instead: it learns by least squares to predict the gradient t_k
# from the segment above, like the module of a synthetic gradient:
#
# .. math:: g_k = e B_k, \qquad \min_{B_k} \; \operatorname{E} \lVert e B_k - t_k \rVert^2
#
# The class
# ---------
#
# ``gradient`` receives ``Signals``, the detached tensors that are available at this boundary in this step. An estimator
# lists in ``needs`` the signals that ``gradient`` reads, and must not read others; its locks follow from this list. The
# signals that ``loss`` reads are not listed, because all signals are available when it is called.
#
# Gradients are per example, N · ∂L/∂h_k for a mean loss L, so that no rule depends on the batch size. Shapes are
# (\*lead, N, \*shape): boundaries, or seeds, may be stacked along leading axes. A rule supports this by counting axes
# from the last.


@register_rule("learned-feedback")
class LearnedFeedback(Estimator):
    """g_k = e B_k, where B_k learns to predict the gradient from above."""

    formula = "e B_k"
    learns = "B: ‖e B_k − t_k‖²"
    reference = "an example in the documentation of repsim"
    needs = frozenset({"error"})

    def __init__(self, site, *, generator=None, **options):
        super().__init__(site, **options)
        self.feedback = nn.Parameter(torch.zeros(site.n_outputs, site.size))

    def gradient(self, signals):
        """Return e B_k."""
        return (signals.error @ self.feedback).view(signals.activation.shape)

    def loss(self, gradient, signals):
        """Return the mean over examples of ‖e B_k − t_k‖²."""
        residual = (gradient - signals.target).flatten(-len(self.site.shape))
        return residual.square().sum(dim=-1).mean(dim=-1)


# %%
# The rule is complete. Learned quantities are parameters, so that they are saved with the network and have their own
# learning rate, ``estimator_learning_rate``; random but fixed quantities are buffers, drawn from ``generator``. A rule
# with options has a frozen dataclass ``Options``, a subclass of ``RuleOptions`` whose fields are made by
# ``repsim.settings.setting(default, help=...)``.
#
# ``register_rule`` tries the rule on random signals. From here on ``TrainingConfig`` accepts its name. In a file
# that is given as ``--import my_rules.py``, the commands know it too, and ``repsim rules`` lists it.
#
# Train with it
# -------------
#
# Train a network of four hidden layers with the rule at all boundaries, and with the two rules that it combines.
# ``train`` yields a record after each update; at the steps in ``diagnosed`` the record also compares the chosen
# gradients with the true ones.

digits = load_dataset("digits")
split = split_dataset(digits, seed=0)
X, y = torch.from_numpy(digits.X), torch.from_numpy(digits.y)


def trained(rule):
    """Train a network by a rule, and return the learner and a table of angles to the true gradient, in degrees."""
    config = TrainingConfig(
        data="digits",
        depth=4,
        width=48,
        rule=rule,
        boundaries="all",
        epochs=15,
        batch_size=64,
        estimator_learning_rate=0.003,
    )
    learner = build_learner(config, digits.shape, len(digits.classes))
    steps = train(
        learner,
        build_optimizer(learner, config),
        X[split["train"]],
        y[split["train"]],
        config,
        diagnosed=range(10, count_steps(len(split["train"]), config) + 1, 15),
    )
    angles = [
        {"rule": rule, "step": step.step, "boundary": k, "angle": diagnosis.angle}
        for step in steps
        for k, diagnosis in step.diagnoses.items()
    ]
    return learner, pd.DataFrame(angles)


names = ["direct-feedback-alignment", "learned-feedback", "synthetic-gradient"]
learners, tables = zip(*map(trained, names), strict=True)
for name, learner in zip(names, learners, strict=True):
    estimator = next(iter(learner.placed().values()))
    score = evaluate(learner.network, X[split["test"]], y[split["test"]])
    print(f"{name:26} test accuracy {score.accuracy:.3f}, locks: {', '.join(sorted(locks(estimator))) or 'none'}")

# %%
# The new rule is update locked, like direct feedback alignment: a layer must wait for the error of the output, but not
# for a backward pass. This follows from ``needs``.
#
# Compare the angles
# ------------------
#
# A small step along -g_k lowers the loss if the angle between g_k and the true gradient is below 90°.

table = pd.concat(tables)
figure, axes = plt.subplots(1, 4, figsize=(11, 3), sharey=True, layout="constrained")
for ax, (boundary, rows) in zip(axes, table.groupby("boundary"), strict=True):
    plot_lines(rows, "step", "angle", curve="rule", legend=boundary == 1, ax=ax)
    ax.set_ylabel("")
    ax.set_title(f"boundary {boundary}", fontsize=10)
    ax.axhline(90, color="0.5", linestyle=":", linewidth=1)
    ax.set_ylim(0, 105)
axes[0].set_ylabel("angle to the true gradient (°)")

# %%
# Boundary 4 is a test of the rule. The output segment above it is linear, h W + b, so that the true gradient there is
# e Wᵀ, a linear function of the error. The rule can express this function, and its angle falls towards zero while B
# follows the changing W. At lower boundaries relus transmit a different part of the error for each example, so that no
# single matrix is exact, and the angles remain larger. The synthetic gradient has larger angles, because it has to
# predict the error from the activation and the label; in return, it does not wait for the output.

feedback = learners[1].estimators["4"].feedback.detach()
weight = learners[1].network.segments[-1].weight.detach()  # W transposed, (n_outputs, width)
centred = feedback - feedback.mean(dim=0), weight - weight.mean(dim=0)  # errors of a softmax sum to 0 over classes
print(f"correlation of B with W: {torch.corrcoef(torch.stack([each.flatten() for each in centred]))[0, 1]:.3f}")

# %%
# The tests of a rule in this package use such a theorem, an oracle, or a number with its source. In addition, every
# rule is tested for its declarations: changes of signals that it does not need must not change its gradient.

plt.show()
