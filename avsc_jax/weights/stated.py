"""Checks that options are stated for weights that look like the published ones, but are others."""

from collections.abc import Collection
from pathlib import Path

from avsc_jax.models import published_sources
from avsc_jax.weights import first_download
from avsc_jax.weights.weight_files import written_facts

# Options of `Source.unstated` -> values that a sentence shows: those of LAION's ViT-L/14.
UNSTATED = {
    'activation': 'gelu',
    'mean': '(0.5,0.5,0.5)',
    'std': '(0.5,0.5,0.5)',
}


def check(name: str, path: Path, sha256: str, options: Collection[str]) -> None:
    """Raises ValueError for a file that may not be the published one, if options are missing.

    Args:
      name: the network, whose `Source.unstated` are needed.
      path, sha256: its weights file.
      options: the names of the options that are given.
    """
    source = published_sources().get(name)
    missing = [] if source is None else [o for o in source.unstated if o not in options]
    if not missing or sha256 == source.sha256:
        return
    facts = written_facts(path) or {}
    if facts.get('network') == name and facts.get('sha256') == source.sha256:
        return
    if first_download.address(path, sha256) in source.addresses:
        return
    examples = [f'{option}={UNSTATED[option]}' for option in missing]
    raise ValueError(
        f'{path} (SHA-256 {sha256[:16]}...) is not the file that {source.publisher} publishes, and '
        f'others of the same shapes differ in {", ".join(missing)}: add these options as its own '
        f'publisher states them, such as {name}:{",".join(examples)}'
    )
