"""The platform and the libraries that numbers depend on, recorded with what is kept for later."""

from collections.abc import Mapping
from functools import cache
from importlib import metadata

import jax

# They decode or resample; a patch release does not count.
LIBRARIES = ('av', 'soundfile', 'pillow', 'librosa', 'soxr')


@cache
def facts() -> Mapping[str, str]:
    """Returns the platform, the precision of matrix products, and major.minor of the libraries."""
    known = {'platform': jax.default_backend()}
    known['matmul precision'] = str(jax.config.values['jax_default_matmul_precision'] or 'default')
    return known | {name: _minor(name) for name in LIBRARIES}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Says what differs, such as 'av 15.0 (now 16.1)'; '' if nothing does."""
    return ', '.join(
        f'{name} {before.get(name, "unknown")} (now {now.get(name, "unknown")})'
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )


def _minor(name: str) -> str:
    """Returns '15.0' for version 15.0.1 of a package."""
    try:
        return '.'.join(metadata.version(name).split('.')[:2])
    except metadata.PackageNotFoundError:
        return 'missing'
