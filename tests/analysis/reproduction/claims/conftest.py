"""What the tests of experiments share: a section must be fit to be shown."""

from collections.abc import Callable

import pytest

from analysis.reproduction.claims import Section


@pytest.fixture(scope="session")
def check_section() -> Callable[[Section], None]:
    def check(section: Section) -> None:
        assert section.findings
        assert all(sentence.endswith(".") for sentence in (section.setting, *section.findings))
        assert "nan" not in " ".join(section.findings)
        assert section.drawings
        for drawing in section.drawings:
            assert drawing.heading, drawing.name
            assert drawing.caption.endswith("."), drawing.name
            assert "n = " in drawing.figure.get_supxlabel(), drawing.name
            shown = [ax for ax in drawing.figure.axes if ax.has_data() and ax.axison]
            assert any(ax.get_xlabel() for ax in shown) or drawing.figure.get_suptitle(), drawing.name
            assert any(ax.get_ylabel() for ax in shown), drawing.name

    return check
