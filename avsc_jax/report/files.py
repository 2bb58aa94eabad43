"""Writes the files of a report."""

from collections.abc import Mapping
from pathlib import Path

from avsc_jax.runtime.files import write_text


def write(folder: str | Path, contents: Mapping[str, str]) -> None:
    """Writes texts into a folder, which is made if missing: file name -> text."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_text(folder / name, content)
