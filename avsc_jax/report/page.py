"""A report as one self-contained HTML page: inline CSS and SVG, no script, no network."""

from collections.abc import Iterable, Mapping
from typing import Any

from avsc_jax.report import html, plots


def page(report: Mapping[str, Any]) -> str:
    """The whole page. Everything that comes from names, files or configs is escaped."""
    return html.render('report.html', report=report, drawings=plots.draw(report))


def document(title: str, parts: Iterable[str], css: str = '') -> str:
    """A page with this title and these parts, which are HTML, in the style of all reports."""
    return html.render('document.html', title=title, parts=map(html.own, parts), css=html.own(css))
