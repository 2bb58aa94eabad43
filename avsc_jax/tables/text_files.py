"""Reads text files of clips: their columns, rows and names."""

import contextlib
import csv
import pathlib
from collections.abc import Iterator

NAMES = ('filename', 'filename_audio', 'filename_video', 'filename_audio_video', 'aid')
MEDIA = ('.wav', '.flac', '.mp3', '.ogg', '.m4a', '.mp4', '.mkv', '.mov', '.avi', '.webm')


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Adds the file's name to a ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def existing(path: str | pathlib.Path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; give the path of an existing table')
    return path


def parse(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """Reads header and rows of a tab or comma separated file with any line ends."""
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    if not lines:
        raise ValueError('the file is empty; it must start with a line of column names')
    header, *rows = csv.reader(lines, delimiter='\t' if '\t' in lines[0] else ',')
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f'data row {number} has {len(row)} fields for {len(header)} columns; '
                'every row must be complete'
            )
    return header, rows


def name_column(header: list[str]) -> int:
    columns = [index for index, name in enumerate(header) if name in NAMES]
    if not columns:
        raise ValueError(
            f'the columns are {" ".join(header)}; name the clips in one of {" ".join(NAMES)}'
        )
    return columns[0]


def clip_id_of(name: str) -> str:
    """'audio/airport-lisbon-1175-44106.wav' -> 'airport-lisbon-1175-44106'."""
    path = pathlib.PurePosixPath(name.strip().replace('\\', '/'))
    return path.stem if path.suffix.lower() in MEDIA else path.name
