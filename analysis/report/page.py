"""HTML pages that hold all they need: no network, no files beside them."""

from __future__ import annotations

from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["as_html", "render"]


def render(template: str, **values: Any) -> str:
    """Return a template of this package, filled in; text is escaped unless the template says it is HTML."""
    environment = Environment(loader=PackageLoader("analysis.report"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**values)


def as_html(table: pd.DataFrame, *, index: bool = True) -> str:
    """Return a table as HTML, its texts escaped."""
    return table.to_html(border=0, escape=True, index=index)
