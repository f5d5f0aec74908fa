"""What results of probes look like in a notebook."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from probes import SOLVERS, OnlineCode, online_codelength
from probes.codelength import CodeBlock


@pytest.fixture
def code() -> OnlineCode:
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    return online_codelength(generator.normal(size=(60, 4)) + y[:, None], y, fractions=(0.2, 0.5, 1.0), seed=0)


def test_a_code_is_drawn_block_by_block(code: OnlineCode) -> None:
    ax = code.plot()
    (steps,) = ax.patches
    values, edges, _ = steps.get_data()
    assert edges.tolist() == [0, 12, 30, 60]
    assert values.tolist() == [block.bits / block.n_block for block in code.blocks]
    assert ax.lines[0].get_ydata()[0] == np.log2(3)
    assert ax._repr_png_().startswith(b"\x89PNG")
    own = Figure().add_subplot()
    assert code.plot(own) is own


def test_a_code_shows_its_length_and_blocks(code: OnlineCode) -> None:
    html = code._repr_html_()
    assert f"<b>Online code of {code.codelength:.1f} bits" in html
    assert html.count("<tr") == 1 + len(code.blocks)


def test_a_code_of_one_block_can_be_drawn() -> None:
    assert OnlineCode(n_classes=2, blocks=(CodeBlock(n_before=0, n_block=5, bits=5.0),)).plot().patches


def test_a_fit_shows_its_certificate() -> None:
    generator = np.random.default_rng(0)
    y = np.arange(30) % 3
    fit = SOLVERS["lbfgs"](generator.normal(size=(30, 2)), y, C=1.0, tol=1e-6, max_iter=100)
    html = fit._repr_html_()
    assert "<td>3 × 2</td>" in html
    assert f"<td>{fit.objective:.6g}</td>" in html
    assert "<td>True</td>" in html
