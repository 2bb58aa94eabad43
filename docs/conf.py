"""The site by Sphinx (extra `docs`), from the root: sphinx-build -W -c docs . build/site.

The source is the whole tree, so that the links between README.md, docs/ and other pages hold on
the site as they do in the repository.
"""

import sys
import typing
from pathlib import Path

import avsc_jax

project, author = 'avsc_jax', 'The avsc_jax contributors'
copyright = author
version = release = avsc_jax.__version__
root_doc = 'docs/index'
include_patterns = [
    'docs/**.md', 'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'THIRD_PARTY.md',
    'benchmarks/NOTES.md', 'tfds_tau/README.md',
]  # fmt: skip
# not to be searched
exclude_patterns = ['.*', 'build', 'dist', 'runs', 'tests', 'avsc_jax', 'configs']
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']

html_theme = 'furo'
html_title = f'avsc_jax {release}'
html_extra_path = ['redirect']  # the address of the site leads to docs/index
html_show_sphinx = False
if avsc_jax.REPOSITORY:
    html_theme_options = {'source_repository': avsc_jax.REPOSITORY, 'source_branch': 'main'}

myst_heading_anchors = 4  # as GitHub names them
myst_enable_extensions = ['colon_fence', 'fieldlist']
# 'console' blocks hold what commands print
suppress_warnings = ['misc.highlighting_failure']
default_role = 'code'  # `name` in a docstring is a name of the code

napoleon_custom_sections = [('Source', 'notes_style')]
napoleon_use_ivar = True  # autodoc lists the fields themselves
napoleon_attr_annotations = False  # types stand where the fields are listed
napoleon_use_rtype = False
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'undoc-members': True, 'no-value': True}
autodoc_preserve_defaults = True


def setup(app) -> None:
    """Connects what makes pages of configs and docstrings."""
    sys.path.insert(0, str(Path(__file__).parent))
    # Read by jaxtyping when it is imported: annotations are shown as Float[Array, 'B C'].
    typing.GENERATING_DOCUMENTATION = 'avsc_jax'
    import jaxtyping
    import made_pages

    from avsc_jax import types

    types.Array = jaxtyping.Array  # one name in place of all kinds of arrays
    app.connect('source-read', made_pages.fill)
    app.connect('autodoc-process-docstring', made_pages.plain_docstring, priority=400)
    app.connect('autodoc-process-signature', made_pages.plain_signature)
    app.connect('autodoc-skip-member', made_pages.is_hidden)
