"""An archive that unpacks to more than it may is refused before it fills the memory."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from avsc_jax.runtime import archives, files


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zeros(count):
    """An array that packs to a thousandth of its bytes."""
    return npy(np.zeros(count, np.uint8))


def header(shape, descr='<f4'):
    file = io.BytesIO()
    facts = {'descr': descr, 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue()


def packed(path, content, way, claims=None):
    """Writes an archive of one array, whose directory may claim another number of bytes."""
    with zipfile.ZipFile(path, 'w', way) as archive:
        archive.writestr('x.npy', content)
    if claims is not None:
        path.write_bytes(
            path.read_bytes().replace(
                len(content).to_bytes(4, 'little'), claims.to_bytes(4, 'little')
            )
        )
    return path


HOSTILE = {  # content, the way it is packed, and the number of bytes that the directory claims
    'deflate': lambda: (zeros(1 << 25), zipfile.ZIP_DEFLATED),
    'deflate that claims less': lambda: (zeros(1 << 23), zipfile.ZIP_DEFLATED, 200),
    'bzip2': lambda: (zeros(1 << 23), zipfile.ZIP_BZIP2),
    'bzip2 that claims less': lambda: (zeros(1 << 23), zipfile.ZIP_BZIP2, 200),
    'lzma that claims less': lambda: (zeros(1 << 23), zipfile.ZIP_LZMA, 200),
    'deflate that claims more': lambda: (zeros(9), zipfile.ZIP_DEFLATED, 1 << 31),
    'a header of more': lambda: (header((2**40,)), zipfile.ZIP_STORED),
    'a header of negative lengths': lambda: (header((-2, -2)) + bytes(16), zipfile.ZIP_STORED),
    'a million texts of no letters': lambda: (header((2**20,), '<U0'), zipfile.ZIP_STORED),
    'objects': lambda: (header((1,), '|O') + bytes(8), zipfile.ZIP_STORED),
    'no characters': lambda: (header((1,), '<U1') + b'\xff' * 4, zipfile.ZIP_STORED),
    'a header without end': lambda: (b'\x93NUMPY\2\0\xff\xff\xff\xff{', zipfile.ZIP_STORED),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_a_hostile_archive_is_a_sentence_and_takes_no_memory(tmp_path, kind):
    path = packed(tmp_path / 'x.npz', *HOSTILE[kind]())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r'x\.npz is (damaged \(.+\)|not read: .+)\Z'):
            files.read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * archives.PIECE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('way', archives.WAYS)
@pytest.mark.parametrize(
    'array',
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(3, dtype='>i2'),
        np.zeros((0, 3)),
        np.array('text'),
        np.array(['a', 'bü']),
        np.array([True]),
    ],
    ids=lambda array: f'{array.dtype} {array.shape}',
)
def test_arrays_come_back_as_they_were(tmp_path, array, way):
    read = files.read_arrays(packed(tmp_path / 'x.npz', npy(array), way))['x']
    np.testing.assert_array_equal(read, array, strict=True)
    assert read.flags.writeable


def test_an_archive_may_grow_by_its_size_and_a_stated_limit():
    free = archives.ALWAYS_ALLOWED_BYTES
    archives.check_unpacked(free, 0)
    archives.check_unpacked(free + 16 * 5, 5)
    with pytest.raises(archives.TooLarge, match=r'unpacks to 16,777,297 bytes.* is 16,777,296\)'):
        archives.check_unpacked(free + 16 * 5 + 1, 5)
    with pytest.raises(archives.TooLarge, match=r'over what its kind may \(the limit is 3\); get'):
        archives.check_unpacked(4, 100, limit=3)


def test_an_archive_of_very_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, 'MAX_MEMBERS', 2)
    np.savez(tmp_path / 'x.npz', a=1, b=2)
    assert len(files.read_arrays(tmp_path / 'x.npz')) == 2
    np.savez(tmp_path / 'x.npz', a=1, b=2, c=3)
    with pytest.raises(ValueError, match='it has 3 members; at most 2 are read'):
        files.read_arrays(tmp_path / 'x.npz')
