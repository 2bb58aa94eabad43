"""Renders HTML pages from the templates of this folder; all values are escaped."""

import functools

import jinja2
from markupsafe import Markup

from avsc_jax.report import console
from avsc_jax.runtime.files import printable

# Functions of the console that templates use as filters, by name.
FILTERS = (
    console.number,
    console.percent,
    console.interval,
    console.spread,
    console.unscored,
    console.published,
    console.paper_level,
    console.paper_source,
)


def render(template: str, **values: object) -> str:
    """Renders a template of `templates/` with plain values, all of which are escaped."""
    return _environment().get_template(template).render(values)


def own(markup: str) -> Markup:
    """Marks markup that this package wrote itself as safe; nothing else may do so.

    Never for names, tables, configs and messages: templates, and `format` of the result, escape
    those.
    """
    return Markup(markup)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('avsc_jax.report'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {each.__name__: each for each in FILTERS}
    environment.filters['thousands'] = '{:,}'.format
    return environment


def _shown(value: object) -> str:
    """Removes control characters from a value of a template, before it is escaped."""
    return value if isinstance(value, Markup) else printable(value)
