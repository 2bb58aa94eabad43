"""Pages by the templates beside: single files, in which nothing from outside becomes markup."""

import functools

import jinja2
from markupsafe import Markup

from avsc_jax.report import console
from avsc_jax.runtime.files import printable

# How the console writes numbers and sentences, by their names there.
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
    """The page that a template of `templates/` makes of plain values, all of which are escaped."""
    return _environment().get_template(template).render(values)


def own(markup: str) -> Markup:
    """Marks what this package drew or wrote itself as safe: the only place that does.

    Names, tables, configs and messages never come here; templates, and `format` of what comes
    back, escape them.
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
    """Every value of a template goes through here before it is escaped."""
    return value if isinstance(value, Markup) else printable(value)
