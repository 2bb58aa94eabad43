"""Unpacks untrusted archives within stated bounds: weights, tables, run folders, caches, media.

The directory of an archive may lie, and a small file may unpack to any size. So sizes are compared
with a limit before memory is taken, what is packed is read piece by piece and never further than
its claimed size, and an array must be as long as its header says. Reading takes the memory of the
arrays and PIECE_BYTES.
"""

import math
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import numpy as np

# Numbers shrink by a tenth when they are packed, made-up ones by more; 1,000 times is an attack.
MAX_EXPANSION, ALWAYS_ALLOWED_BYTES = 16, 1 << 24
MAX_MEMBERS = 100_000
PIECE_BYTES = 1 << 20
# Python's readers of the other ways, such as bzip2, unpack a whole piece whatever it grows to.
WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class TooLarge(ValueError):
    """A file claims, or unpacks to, more bytes than its kind may have."""


def most_bytes(file_bytes: int, limit: int | None = None) -> int:
    """Returns how many bytes a file of this size may unpack to.

    Args:
      limit: what files of its kind may unpack to, whatever their size.
    """
    allowed = MAX_EXPANSION * file_bytes + ALWAYS_ALLOWED_BYTES
    return allowed if limit is None else min(allowed, limit)


def check_unpacked(num_bytes: int, file_bytes: int, limit: int | None = None) -> None:
    """Raises TooLarge if a file unpacks to more bytes than it may; see `most_bytes`."""
    most = most_bytes(file_bytes, limit)
    if num_bytes <= most:
        return
    over = f'over {MAX_EXPANSION} times its size' if most != limit else 'over what its kind may'
    raise TooLarge(
        f'it unpacks to {num_bytes:,} bytes or more, {over} (the limit is {most:,}); get the file '
        'again, or save it uncompressed'
    )


def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Returns a member's bytes, never more than its directory claims; compare the claim before.

    Raises:
      ValueError: the member is packed in a way that cannot be counted.
      zipfile.BadZipFile: it is damaged.
    """
    with _opened(archive, info) as member:
        parts = iter(lambda: member.read(PIECE_BYTES), b'')
        return b''.join(parts)


def read_arrays(
    path: Path, only: Collection[str] = (), *, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Reads the arrays of numbers and text in an .npz archive by name.

    Args:
      only: names of the arrays to read; none: all.
      limit: see `most_bytes`.

    Raises:
      TooLarge: the arrays claim more bytes than the file may unpack to.
      Exception: the file is damaged, in one of a dozen ways.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(archive.infolist()) > MAX_MEMBERS:
            raise TooLarge(f'it has {len(members):,} members; at most {MAX_MEMBERS:,} are read')
        wanted = [f'{name}.npy' for name in only] or list(members)
        claimed = sum(members[name].file_size for name in wanted)
        check_unpacked(claimed, path.stat().st_size, limit)
        arrays = {}
        for name in wanted:
            with _opened(archive, members[name]) as member:
                arrays[name.removesuffix('.npy')] = _array(member, members[name].file_size)
    return arrays


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Opens a member that is stored or deflated, whose pieces are never longer than asked for."""
    if info.compress_type not in WAYS:
        raise ValueError(
            f'its member {info.filename[:80]!r} is packed by method {info.compress_type} of zip, '
            'whose bytes cannot be counted before they fill the memory; pack it by deflate, or '
            'not at all'
        )
    return archive.open(info)


def _array(member: IO[bytes], num_bytes: int) -> np.ndarray:
    """Reads an array from a member that claims this many bytes, to its checksum at the end."""
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f'an array is of format {version}; save it with numpy.savez')
    shape, is_fortran, dtype = _HEADERS[version](member)
    if dtype.kind not in 'biufcUS' or not dtype.itemsize:
        raise ValueError(f'an array is of {dtype}, not of numbers or text')
    claimed, present = dtype.itemsize * math.prod(shape), num_bytes - member.tell()
    if claimed != present or min(shape, default=0) < 0:
        while member.read(PIECE_BYTES):  # damage shows at the checksum behind the last byte
            pass
        raise ValueError(f'an array of {present:,} bytes has a header for {claimed:,}')
    data = np.empty(claimed, np.uint8)
    rest = memoryview(data)  # type: ignore[arg-type]  # numpy's annotations before 3.12
    while rest:
        piece = member.read(min(len(rest), PIECE_BYTES))
        if not piece:
            raise EOFError(f'it ends {len(rest):,} bytes early')
        rest[: len(piece)] = piece
        rest = rest[len(piece) :]
    if dtype.kind == 'U' and data.size:
        points = data.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if points.max() > 0x10FFFF:
            raise ValueError('an array of text holds numbers that are no characters')
    return data.view(dtype).reshape(shape, order='F' if is_fortran else 'C')


def check_statistics(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless all are finite floats, and deviations (`std...`) positive."""
    for name, array in arrays.items():
        if array.dtype.kind != 'f' or not np.isfinite(array).all():
            raise ValueError(f'{name} holds {array.dtype} that are not all finite numbers')
        if name.partition('_')[0] == 'std' and not (array > 0).all():
            raise ValueError(f'{name} holds a deviation that is not above 0')
