"""Reads text files of clips: their encoding, separator, columns and names."""

import codecs
import contextlib
import csv
import io
import pathlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from avsc_jax.runtime import nearest
from avsc_jax.tables.names import plain

NAMES = ('filename', 'filename_audio', 'filename_video', 'filename_audio_video', 'aid')
LISTED = (*NAMES, 'path', 'file', 'audio', 'video')  # in lists of one's own, too
LABELS = ('scene_label', 'label', 'class')
GROUPS = ('group', 'location', 'identifier')  # identifier is TAU's, in meta.csv
# A field takes up to 30 times its bytes in memory; all frames of TAU are 130 MB in 15 million.
MAX_BYTES, MAX_COLUMNS, MAX_FIELDS = 1 << 28, 10_000, 30_000_000
UNKNOWN_GROUPS = ('', 'nan', 'none', 'null', '<na>')  # as programs write an empty cell
SEPARATORS = '\t;,'


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Adds the file's name to a ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        named = str(error).startswith(str(path))
        raise ValueError(str(error) if named else f'{path}: {error}') from error


def existing(path: str | pathlib.Path, what: str = 'table') -> pathlib.Path:
    """Returns the path; raises FileNotFoundError, which names `what`, unless it is a file."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is not a file{nearest.path(path)}; give the path of an existing {what}'
        )
    return path


def decoded(path: pathlib.Path) -> str:
    """Reads a text file of UTF-8, or of UTF-16 that begins with its mark; letters are composed.

    Raises:
      ValueError: the file is no such text.
    """
    with path.open('rb') as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f'the file has more than {MAX_BYTES:,} bytes; cut it in several')
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode('utf-16' if is_wide else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'the file is no utf-8 text ({error}); save it as UTF-8') from error
    if '\0' in text:
        raise ValueError('the file holds zero bytes, as UTF-16 does; save it as UTF-8')
    return unicodedata.normalize('NFC', text)


def parse(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """Reads header and rows of a file separated by tabs, semicolons or commas; see `_separator`.

    Line ends may be any, fields may be quoted, and empty lines and columns are left out.

    Raises:
      ValueError: the file is empty or no text, a row is incomplete, or a column has no name.
    """
    text = decoded(path)
    if not text.strip():
        raise ValueError('the file is empty; it must start with a line of column names')
    lines = csv.reader(io.StringIO(text, newline=''), delimiter=_separator(text), strict=True)
    try:
        header, *rows = _counted(row for row in lines if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise ValueError(
            f'line {lines.line_num} cannot be read ({error}); a quote at the start of a field must '
            'be doubled inside it and closed at its end'
        ) from error
    header = [name.strip() for name in header]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f'data row {number} has {len(row)} fields for {len(header)} columns; every row '
                'must be complete, names that hold the separator quoted, and numbers with a point'
            )
    return _named_columns(header, rows)


def _named_columns(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Leaves out columns without a name, which must be empty."""
    kept = [place for place, name in enumerate(header) if name]
    if len(kept) == len(header):
        return header, rows
    for place in {*range(len(header))} - {*kept}:
        if any(row[place].strip() for row in rows):
            raise ValueError(
                f'column {place + 1} has no name in the header; name it, or leave it out (pandas '
                'writes its row numbers so, unless index=False)'
            )
    return [header[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _counted(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Yields rows until they hold more fields than memory has room for."""
    num_fields = 0
    for row in rows:
        num_fields += len(row)
        if len(row) > MAX_COLUMNS or num_fields > MAX_FIELDS:
            raise ValueError(
                f'a row has {len(row):,} fields and the file {num_fields:,} up to there; at most '
                f'{MAX_COLUMNS:,} and {MAX_FIELDS:,} are read: check the separator, or cut the file'
            )
        yield row


def _separator(text: str) -> str:
    """Finds the separator by which the header has a column of names; else the first one in it."""
    first = next(line for line in text.splitlines() if line.strip())
    for separator in SEPARATORS:
        with contextlib.suppress(csv.Error, StopIteration):
            cells = next(csv.reader([first], delimiter=separator))
            if len(cells) > 1 and {cell.strip() for cell in cells} & {*LISTED}:
                return separator
    return next((separator for separator in SEPARATORS if separator in first), ',')


def name_columns(header: Sequence[str], known: Sequence[str] = NAMES) -> list[int]:
    """Finds the columns that name the files of a clip.

    Raises:
      ValueError: none has one of the known names.
    """
    columns = [index for index, name in enumerate(header) if name in known]
    if not columns:
        raise ValueError(
            f'the columns are {" ".join(header)}; name the clips in one of {" ".join(known)}'
        )
    return columns


def column(header: Sequence[str], known: Sequence[str]) -> int | None:
    """Finds the column with the first of these names that the header has; None if it has none."""
    return next((header.index(name) for name in known if name in header), None)


def group_names(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    """Reads the group in each row; '' where it is unknown.

    Args:
      place: number of the column of groups.
    """
    groups = [row[place].strip() for row in rows]
    return ['' if group.lower() in UNKNOWN_GROUPS else group for group in groups]


def clip_names(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    """Reads the clip's name in each row, with its folders and ending.

    Args:
      place: number of the column of names.

    Raises:
      ValueError: a row names no clip.
    """
    clips = [plain(row[place]) for row in rows]
    if '' in clips:
        raise ValueError(f'data row {clips.index("") + 1} names no clip; give its file')
    return clips
