"""The files of a report."""

from collections.abc import Mapping
from pathlib import Path

from avsc_jax.runtime.files import write_text


def write(folder: str | Path, contents: Mapping[str, str]) -> None:
    """Writes texts by file name into a folder, which is made; each whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_text(folder / name, content)
