"""Networks from text: a factory with literal arguments; nothing else in the text is evaluated."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from analysis.training.user_networks.model_spec import build_model

MODULE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, *args, **options):
        super().__init__()
        self.args, self.options = args, options
        self.layer = nn.Linear(2, 2)

class zoo:
    Net = staticmethod(Net)

ready = Net()
number = 3
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a package of somebody's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "nets.py").write_text(MODULE)
    yield tmp_path
    for name in ("theirs", "theirs.nets"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "args", "options"),
    [
        ("Net", (), {}),
        ("Net()", (), {}),
        ("zoo.Net(3)", (3,), {}),
        ('Net(width=64, name="a:b, c")', (), {"width": 64, "name": "a:b, c"}),
        (" Net( 'resnet18', (1, -2), sizes=[1, {'a': None}], on=True, rate=1e-3 )", ("resnet18", (1, -2)), None),
    ],
)
def test_a_factory_is_called_with_literal_arguments(text: str, args: Any, options: Any) -> None:
    model = build_model(f"theirs.nets:{text}")
    assert model.args == args
    assert model.options == ({"sizes": [1, {"a": None}], "on": True, "rate": 1e-3} if options is None else options)


def test_a_network_is_taken_as_it_is() -> None:
    assert build_model("theirs.nets:ready") is sys.modules["theirs.nets"].ready
    assert torch.equal(build_model("theirs.nets:Net()").layer.weight, build_model("theirs.nets:Net").layer.weight)
    assert isinstance(build_model("torch.nn:Linear(3, out_features=2)"), nn.Linear)


NO_LITERAL = {
    "Net(width=n)": "Argument n of",
    "Net(open('x'))": r"Argument open\('x'\) of",
    "Net(width=2 * 32)": r"Argument 2 \* 32 of",
    "Net(*[1])": r"Argument \*\[1\] of",
    "Net(**{'a': 1})": r"Argument \*\*\{'a': 1\} of",
    "Net(f'{1}')": "Argument f'.*' of",
    "Net(x=lambda: 1)": "Argument lambda: 1 of",
}


@pytest.mark.parametrize(("text", "message"), NO_LITERAL.items())
def test_an_argument_that_is_no_literal_is_refused(text: str, message: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{message} model 'theirs\.nets:.*' is no literal; give numbers, quoted texts"
    ):
        build_model(f"theirs.nets:{text}")
    assert "theirs.nets" not in sys.modules


@pytest.mark.parametrize(
    "spec",
    [
        *("", "theirs.nets", ":Net", "theirs.nets:", "theirs nets:Net", "theirs..nets:Net", "theirs.nets:Net(", "a:1"),
        *(
            "theirs.nets:Net()()",
            "theirs.nets:Net().layer",
            "theirs.nets:zoo['Net']",
            "theirs.nets:Net; 1",
            "a:" + "(" * 999,
        ),
    ],
)
def test_other_text_is_not_understood(spec: str) -> None:
    with pytest.raises(ValueError, match=r"is not understood; expected module:factory, such as .*or with arguments"):
        build_model(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ready()", r"could not be built \(TypeError: it is ready already; leave the parentheses out\)"),
        ("number()", r"could not be built \(TypeError: 'int' object is not callable\)"),
        ("zoo()", "is a zoo; expected a torch.nn.Module"),
        ("Nett()", r"has no attribute 'Nett'\)\. Choose one of: (\w+, )*Net(, \w+)*\.$"),
    ],
)
def test_what_builds_no_network_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(f"theirs.nets:{text}")


@pytest.mark.parametrize("module", ["nowhere", "theirs.nets.py"])
def test_a_module_that_does_not_exist_is_named_with_the_folder(module: str) -> None:
    expected = (
        rf"could not be built \(ModuleNotFoundError.*\. There is no such module in {re.escape(str(Path.cwd()))}, and"
    )
    with pytest.raises(ValueError, match=expected):
        build_model(f"{module}:net")
