"""The files of a report, which appear whole or not at all."""

from collections.abc import Mapping
from pathlib import Path


def write(folder: str | Path, contents: Mapping[str, str]) -> None:
    """Writes texts by file name into a folder, which is made; each beside and then renamed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        beside = folder / f'{name}.part'
        beside.write_text(content, encoding='utf-8', newline='')
        beside.replace(folder / name)
