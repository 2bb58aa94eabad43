"""Adds to setup.cfg the description with whole links, and the addresses of the project.

Package indexes show the README, in which relative links lead nowhere.
"""

import ast
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|mailto:)([^)\s]+)\)')


def description(readme: str, address: str) -> str:
    """Returns the README with whole links; without an address, with plain text and no pictures.

    Args:
      readme: Markdown with links relative to the root of the tree.
      address: of the tree at this version, such as https://github.com/OWNER/avsc_jax/blob/v1.0;
        pictures are taken from the same address with `raw` in the place of `blob`.
    """

    def whole(link: re.Match) -> str:
        picture, text, path = link.groups()
        if not address:
            return '' if picture else text
        place = address.replace('/blob/', '/raw/') if picture else address
        return f'{picture}[{text}]({place}/{path})'

    return LINK.sub(whole, readme)


def addresses(repository: str) -> dict[str, str]:
    """Returns the links that a package index shows beside the description."""
    if not repository:
        return {}
    return {
        'Source': repository,
        'Documentation': f'{repository}/blob/main/docs/index.md',
        'Changelog': f'{repository}/blob/main/CHANGELOG.md',
        'Issues': f'{repository}/issues',
    }


def constants() -> dict[str, str]:
    """Returns the constants of avsc_jax/__init__.py, without importing it."""
    tree = ast.parse((ROOT / 'avsc_jax/__init__.py').read_text(encoding='utf-8'))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}


if __name__ == '__main__':
    known = constants()
    repository = known['REPOSITORY'].rstrip('/')
    blob = f'{repository}/blob/v{known["__version__"]}' if repository else ''
    setup(
        long_description=description((ROOT / 'README.md').read_text(encoding='utf-8'), blob),
        project_urls=addresses(repository),
    )
