"""Settings of figures: what they are for, their width, and whether they show single seeds."""

from dataclasses import dataclass

from repsim.settings import Settings, setting

__all__ = ["FORMATS_OF_FIGURES", "STYLES_OF_FIGURES", "WIDTHS", "FigureConfig", "FigureFilesConfig"]

STYLES_OF_FIGURES = ("screen", "paper")
WIDTHS = ("column", "page")
FORMATS_OF_FIGURES = ("pdf", "svg", "png")


@dataclass(frozen=True, kw_only=True)
class FigureConfig(Settings):
    """How figures look.

    Raises
    ------
    ValueError
        If a setting has the wrong type or is unknown; the message names it.
    """

    style: str = setting(
        "screen",
        help="paper (text of 7 to 9 points that stays text, and a fixed width) or screen.",
        choices=STYLES_OF_FIGURES,
        shown={"figures": "paper"},
    )
    width: str = setting(
        "page", help="Width in the style paper: column (3.25 inches) or page (6.75 inches).", choices=WIDTHS
    )
    seeds: bool = setting(False, help="Draw every seed, in place of the mean of a method with a band.")

    def check_choices(self) -> None:
        """Raise ValueError if a setting is none of its choices, or a width is given for figures of a free width."""
        super().check_choices()
        if self.style == "screen" and self.width == "column":
            raise ValueError(
                "The width column belongs to the style paper, and the style is screen. Choose one of them."
            )


@dataclass(frozen=True, kw_only=True)
class FigureFilesConfig(Settings):
    """Which figures are written, and in which formats.

    Raises
    ------
    ValueError
        If a setting has the wrong type or is unknown; the message names it.
    """

    only: tuple[str, ...] = setting((), help="Name of a figure to write, such as cka.", singular="figure", shown="all")
    formats: tuple[str, ...] = setting(
        ("pdf", "svg"),
        help="Formats: pdf, svg and png.",
        choices=FORMATS_OF_FIGURES,
        singular="format",
        unique=True,
        commas=True,
        flags=("--format", "--formats"),
    )
