"""Copies of a data set's sound and pictures in which one row's bytes can be read by themselves.

A record is packed whole: for one picture of a clip, TFDS reads and unpacks all of its 3 MB. So
large data sets get, beside each file of records, a file of the plain bytes of their sounds and
pictures, and an index of where each one lies. They are made once, when a training first reads rows,
and can be deleted at any time: the next training makes them again.
"""

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from array_record.python import array_record_module
from tqdm import tqdm

from avsc_jax.runtime import disk, files

FOLDER = 'rows'
BLOCK = 1 << 14  # bytes that have a sum of their own
RECORDS_PER_READ = 8
BUFFER = 1 << 17  # bytes read at once of a sound, whose second has about 200,000 at 24 bits
SPARE_BYTES = 1 << 28  # of the disk that stay free


class Damaged(ValueError):
    """A row file is not as it was written."""


class RowFile:
    """The sounds and pictures of one file of records; safe to read from several threads.

    Args:
      path: of the bytes; the index lies beside it.
      index: `sound [N, 2]` and `pictures [M, 2]`, first byte and length of each; `first [N + 1]`,
        the first of each record's pictures; `sums`, of the 64-bit words of each block.
    """

    def __init__(self, path: Path, index: Mapping[str, np.ndarray]):
        self._path, self._index = path, index
        self._file = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)

    def picture(self, record: int, number: int) -> bytes:
        """Returns the bytes of one picture of a record."""
        first, stop = self._index['first'][record : record + 2]
        if not 0 <= number < stop - first:
            raise IndexError(f'it has {stop - first} pictures, and none of number {number}')
        return self.bytes(*self._index['pictures'][first + number])

    @contextlib.contextmanager
    def sound(self, record: int) -> Iterator[io.BufferedReader]:
        """Yields the sound of a record as a file of which only what is read is fetched.

        Raises:
          Damaged: what was read is not as it was written; raised at the end of the block.
        """
        part = _Part(self, *self._index['sound'][record])
        try:
            yield io.BufferedReader(part, BUFFER)
        finally:
            if part.error:
                raise part.error

    def bytes(self, first: int, length: int) -> bytes:
        """Returns a range of the file's bytes.

        Raises:
          Damaged: the file is not as it was written.
        """
        first, length = int(first), int(length)
        block, last = first // BLOCK, -(-(first + length) // BLOCK)
        sums = self._index['sums'][block:last]
        data = os.pread(self._file, len(sums) * BLOCK, block * BLOCK) if first >= 0 else b''
        if len(data) != (last - block) * BLOCK or (_sums(data) != sums).any():
            raise Damaged(
                f'{self._path} is damaged; delete {self._path.parent}, which is made again'
            )
        return data[first - block * BLOCK :][:length]


class _Part(io.RawIOBase):
    """A range of a RowFile as a file that can be read and searched.

    Attributes:
      error: of the last read; decoders in C take an exception for the file's end.
    """

    error: Damaged | None = None

    def __init__(self, file: RowFile, first: int, length: int):
        self._rows, self._first, self._length, self._at = file, int(first), int(length), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence, self._length)
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        count = max(0, min(len(buffer), self._length - self._at))
        if not count:
            return 0
        try:
            buffer[:count] = self._rows.bytes(self._first + self._at, count)
        except Damaged as error:
            self.error = error
            return 0
        self._at += count
        return count


class SplitRows:
    """The sounds and pictures of a split's records, of several RowFiles after each other."""

    def __init__(self, opened: Sequence[RowFile], lengths: Sequence[int]):
        self._files, self._firsts = opened, np.cumsum([0, *lengths])

    def picture(self, record: int, number: int) -> bytes:
        """Returns the bytes of one picture of a record."""
        file, record = self._place(record)
        return file.picture(record, number)

    def sound(self, record: int) -> contextlib.AbstractContextManager[io.BufferedReader]:
        """Yields the sound of a record as a file; see RowFile.sound."""
        file, record = self._place(record)
        return file.sound(record)

    def _place(self, record: int) -> tuple[RowFile, int]:
        number = int(np.searchsorted(self._firsts, record, side='right')) - 1
        return self._files[number], record - int(self._firsts[number])


def opened(
    folder: Path, names: Sequence[str], content: Mapping[str, Mapping], features
) -> SplitRows | None:
    """Opens the row files of a split, and makes those that are missing or of other records.

    Args:
      folder: of the data set.
      names: its files of records, in the split's order.
      content: file name -> `sha256` and `count` of its records, and its `stamp`.
      features: of the records.

    Returns:
      None, after a note, where they cannot be written: rows are then read from whole records.
    """
    unique = list(dict.fromkeys(names))
    stale = [name for name in unique if _index_of(folder, name, content[name]) is None]
    if stale:
        try:
            _made(folder, stale, content, features)
        except disk.Unwritable as error:
            print(
                f'note: each row is read from its whole record, which takes longer: {error}',
                file=sys.stderr,
            )
            return None
    rows = {}
    for name in unique:
        index = _index_of(folder, name, content[name])
        if index is None:
            raise ValueError(f'{folder / FOLDER} was changed meanwhile; give the command again')
        rows[name] = RowFile(_path(folder, name), index)
    return SplitRows([rows[name] for name in names], [content[name]['count'] for name in names])


def _made(folder: Path, names: Sequence[str], content: Mapping, features) -> None:
    """Writes the row files of some files of records, one process at a time; shows progress."""
    needed = sum((folder / name).stat().st_size for name in names)
    with disk.writing(folder / FOLDER):
        (folder / FOLDER).mkdir(exist_ok=True)
        with files.locked(folder / FOLDER):
            _check_room(folder / FOLDER, needed)
            print(
                f'copying sound and pictures of {folder} to {FOLDER}/ once ({needed:,} bytes), so '
                'that a row is read by itself; the folder can be deleted at any time',
                file=sys.stderr,
            )
            for name in tqdm(names, 'row files', unit='file', leave=False):
                if _index_of(folder, name, content[name]) is None:
                    _write(_path(folder, name), folder / name, content[name], features)


def _check_room(folder: Path, needed: int) -> None:
    if (free := shutil.disk_usage(folder).free) < needed + SPARE_BYTES:
        raise disk.Unwritable(
            f'{folder} needs {needed:,} bytes, and {free:,} are free; make room, and give the same '
            'command again'
        )


def _write(path: Path, records: Path, content: Mapping, features) -> None:
    """Copies the sounds and pictures of a file of records, then writes their index."""
    sound, pictures, first, at = [], [], [0], 0
    with files.whole(path) as part:
        with part.open('wb') as out:
            for stored in _records(records, features):
                media = [stored['audio'], *stored['frames']]
                places = []
                for data in media:
                    out.write(data)
                    places.append((at, len(data)))
                    at += len(data)
                sound.append(places[0])
                pictures += places[1:]
                first.append(len(pictures))
            out.write(bytes(-at % BLOCK))
        sums = [_sums(data) for data in _blocks(part)]
    files.write_arrays(
        path.with_suffix('.npz'),
        sound=np.array(sound, np.int64).reshape(-1, 2),
        pictures=np.array(pictures, np.int64).reshape(-1, 2),
        first=np.array(first, np.int64),
        sums=np.concatenate([np.zeros(0, np.uint64), *sums]),
        content=np.array(content['sha256']),
    )


def _records(path: Path, features) -> Iterator[Mapping]:
    with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
        count = reader.num_records()
        for start in range(0, count, RECORDS_PER_READ):
            for record in reader.read([*range(start, min(start + RECORDS_PER_READ, count))]):
                yield features.deserialize_example_np(record)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open('rb') as file:
        while data := file.read(64 * BLOCK):
            yield data


def _sums(data: bytes) -> np.ndarray:
    """The sum of the 64-bit words of each block, which any flipped bit changes."""
    return np.frombuffer(data, '<u8').reshape(-1, BLOCK // 8).sum(axis=1, dtype=np.uint64)


def _index_of(folder: Path, name: str, content: Mapping) -> dict[str, np.ndarray] | None:
    """Returns the index of a whole row file of these records; None if there is none."""
    path = _path(folder, name)
    try:
        index = files.read_arrays(path.with_suffix('.npz'))
        size = path.stat().st_size
    except (OSError, ValueError):
        return None
    is_of_these = str(index.get('content')) == content['sha256']
    is_whole = len(index.get('sums', ())) * BLOCK == size
    return (
        index if is_of_these and is_whole and len(index['first']) == content['count'] + 1 else None
    )


def _path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f'{name}.rows'
