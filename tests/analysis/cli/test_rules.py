"""``repsim rules``, and what is said of a rule that cannot be used."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from repsim.learning import ESTIMATORS, catalogue, input_entry
from repsim.learning.rules import is_observable

Repsim = Callable[[str], tuple[int, str, str]]


def test_the_table_has_one_row_per_rule_with_locks_and_formula(repsim: Repsim) -> None:
    code, out, err = repsim("rules")
    assert (code, err) == (0, "")
    table, _, last = out.strip().partition("\n\n")
    assert last == (
        "Every rule is forward locked, unless synthetic-input is joined to it (NAME + synthetic-input):\n"
        f"{input_entry().formula}.\nOptions and references: repsim rules NAME"
    )
    header, *rows = (re.split(r"\s{2,}", line) for line in table.splitlines())
    assert header == ["rule", "locked", "g_k, in place of N · ∂L/∂h_k"]
    assert rows == [[entry.name, ", ".join(entry.locks) or "-", entry.formula] for entry in catalogue()]
    assert [row[0] for row in rows] == list(ESTIMATORS)


@pytest.mark.parametrize("name", [*ESTIMATORS, "synthetic-input"])
def test_one_rule_is_shown_with_its_options_and_reference(repsim: Repsim, name: str) -> None:
    (entry,) = (entry for entry in [*catalogue(), input_entry()] if entry.name == name)
    code, out, err = repsim(f"rules {name}")
    assert (code, err) == (0, "")
    facts = dict(line.split(": ", 1) for line in out.partition("\noptions:")[0].splitlines())
    assert (facts["name"], facts["formula"], facts["reference"]) == (name, entry.formula, entry.reference)
    assert facts["locks"] == (", ".join(entry.locks) or "-")
    shown = re.findall(r"^  (\w+)=(\S+): ", out.partition("\noptions:")[2], re.MULTILINE)
    assert [option for option, _ in shown] == [
        *entry.options,
        *(["observe"] if name in ESTIMATORS and is_observable(name) else []),
    ]


def test_a_rule_with_the_defaults_that_it_shows_is_the_rule(repsim: Repsim) -> None:
    from repsim.learning.rules import parse_rules

    for name, estimator in ESTIMATORS.items():
        shown = re.findall(r"^  (\w+=\S+): ", repsim(f"rules {name}")[1], re.MULTILINE)
        text = f"{name}:{','.join(shown)}" if shown else name
        for rule in parse_rules(text, "1", 1).values():
            assert estimator.Options(**rule.options) == estimator.Options()
            assert rule.observe is False


def test_rules_are_given_as_json(repsim: Repsim) -> None:
    entries = json.loads(repsim("rules --json")[1])
    assert [entry["name"] for entry in entries] == [*ESTIMATORS, "synthetic-input"]
    (entry,) = json.loads(repsim("rules bp-lambda --json")[1])
    assert (entry["name"], entry["locks"], entry["options"]["lam"]) == ("bp-lambda", ["backward", "update"], 0.5)


MISTAKES = {
    "unknown rule": (
        "rules hebb",
        f"Unknown rule 'hebb'. Choose one of: {', '.join([*ESTIMATORS, 'synthetic-input'])}.",
    ),
    "unknown rule, as JSON": ("rules hebb --json", "Unknown rule 'hebb'."),
    "a boundary that does not exist": (
        "train new --data digits --depth 3 --rule synthetic-input@4",
        "boundaries '4' names boundary 4; a network with 3 hidden layers has boundaries 1 to 3",
    ),
    "an option that synthetic inputs do not have": (
        "train new --data digits --rule synthetic-input:link=sigmoid",
        "Rule synthetic-input has no option 'link'. Choose one of: hidden_layers, hidden_width, label_conditioned.",
    ),
    "one batch has no variance": ("train new --data digits --diagnose-batches 1", "diagnose_batches is 1; a variance"),
    "maps of rows": (
        "train new --data rows.npz --batch-size 32 --network conv",
        "A convolutional network needs images, of shape (channels, height, width); these examples have shape (5,).",
    ),
    "unknown device": ("train new --data digits --device gpu", "There is no device 'gpu' here ("),
    "device without values": (
        "train new --data digits --device meta",
        "There is no device 'meta' here (Cannot copy out",
    ),
    "device of another machine": ("train new --data digits --device mps", "There is no device 'mps' here (Could not"),
    "device that is not here": ("train new --data digits --device cuda:99", "There is no device 'cuda:99' here ("),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    repsim: Repsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "rows.npz", X=np.random.default_rng(0).normal(size=(60, 5)), y=np.arange(60) % 3)
    line, words = MISTAKES[mistake]
    code, out, err = repsim(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("repsim: ")
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npz"]
