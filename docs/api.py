"""Builds the API pages from the docstrings by pdoc (extra `docs`): python docs/api.py [FOLDER]."""

import sys
import typing
import warnings
from pathlib import Path

# What other programs may rely on; a package brings its modules, or what its __all__ names.
PUBLIC = (
    'avsc_jax.models',
    'avsc_jax.weights',
    'avsc_jax.audio',
    'avsc_jax.augment',
    'avsc_jax.losses',
    'avsc_jax.ensemble',
    'avsc_jax.metrics',
    'avsc_jax.label_metrics',
    'avsc_jax.tables',
    'avsc_jax.training',
    'avsc_jax.predict',
    'avsc_jax.scenes',
    'avsc_jax.types',
)


def main(folder: Path) -> None:
    """Writes a page for each module, and a search page; a warning is an error."""
    # Read by jaxtyping when it is imported: annotations are shown as Float[Array, 'B C'].
    typing.GENERATING_DOCUMENTATION = 'avsc_jax'
    import jaxtyping
    import pdoc

    from avsc_jax import ensemble, predict, training, types, weights

    types.Array = jaxtyping.Array  # one name in place of all kinds of arrays
    types.__all__ = []  # its docstring says it all
    # found on first use, where pdoc does not look for them
    weights.SOURCES = weights.SOURCES
    for package in (ensemble, predict, training):
        for name in package.__all__:
            setattr(package, name, getattr(package, name))
    warnings.simplefilter('error', UserWarning)
    pdoc.render.configure(
        docformat='google',
        footer_text='avsc_jax',
        show_source=False,
        template_directory=Path(__file__).parent / 'templates',
    )
    pdoc.pdoc(*PUBLIC, output_directory=folder)


if __name__ == '__main__':
    main(Path(*sys.argv[1:2] or ['build/api']))
