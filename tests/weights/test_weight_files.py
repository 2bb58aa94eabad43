import gzip
import hashlib
import io
import json
import resource
import tarfile
import zipfile
import zlib
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from avsc_jax import weights
from avsc_jax.weights import h5_files, weight_files

GOLDENS = Path(__file__).parent / 'goldens'
STATE = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.float16([1, 2])}
SUFFIXES = ['.npz', '.safetensors', '.h5', '.h5.gz']


def write(path, state=STATE):
    if path.suffix == '.npz':
        np.savez(path, **state)
    elif path.suffix == '.safetensors':
        safetensors.numpy.save_file(state, path)
    else:
        with h5py.File(path, 'w') as file:
            for name, value in state.items():
                file[name] = value
        if path.suffix == '.gz':
            path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_what_was_written_is_read(tmp_path, suffix):
    state = weights.read(write(tmp_path / f'w{suffix}'))
    assert state.keys() == STATE.keys()
    for name, value in STATE.items():
        np.testing.assert_array_equal(state[name], value, strict=True)


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('kept', [0, 5, 100])
def test_a_truncated_file_is_one_sentence(tmp_path, suffix, kept):
    path = write(tmp_path / f'w{suffix}')
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf'w{suffix} cannot be read as {suffix} weights: .*\Z'):
        weights.read(path)


def test_bfloat16_becomes_float32(tmp_path):
    path = write(tmp_path / 'w.safetensors', {'a': np.array([1.5, -3], ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(weights.read(path)['a'], np.float32([1.5, -3]), strict=True)


def test_weights_of_keras_have_their_places_as_names(tmp_path):
    with h5py.File(tmp_path / 'w.h5', 'w') as file:
        layer = file.create_group('conv')
        layer.attrs['weight_names'] = [b'conv/kernel:0', b'conv/bias:0']
        layer['conv/kernel:0'] = np.ones((3, 3, 1, 2))
        layer['conv/bias:0'] = np.float32(7)
        file.create_group('flatten')
    state = weights.read(tmp_path / 'w.h5')
    assert {name: value.shape for name, value in state.items()} == {
        'conv/conv/bias:0': (),
        'conv/conv/kernel:0': (3, 3, 1, 2),
    }


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / 'w.npz', a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r'w\.npz cannot be read'):
        weights.read(tmp_path / 'w.npz')


def h5_that_claims_much(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('a', (2**40,), np.float32, chunks=(1024,))  # no chunk is there


def h5_that_shrinks_well(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('a', data=np.zeros(1 << 23, np.float32), compression='gzip')


def gz_that_grows(path):
    path.write_bytes(gzip.compress(bytes(1 << 25)))


def npz_that_grows(path):
    np.savez_compressed(path, a=np.zeros(1 << 23, np.float32))


@pytest.mark.parametrize(
    ('suffix', 'make'),
    [
        ('.h5', h5_that_claims_much),
        ('.h5', h5_that_shrinks_well),
        ('.h5.gz', gz_that_grows),
        ('.npz', npz_that_grows),
    ],
)
def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path, suffix, make):
    path = tmp_path / f'w{suffix}'
    make(path)
    with pytest.raises(ValueError, match=r'it unpacks to [\d,]+ bytes or more, over 16 times'):
        weights.read(path)


def h5_in_groups(path, levels, width):
    with h5py.File(path, 'w') as file:
        group = file
        for _ in range(levels):
            for name in range(1, width):
                group.create_group(f'{name}')
            group = group.create_group('0')
        group['a'] = np.zeros(3)


def h5_in_a_circle(path):
    with h5py.File(path, 'w') as file:
        file['a/b'] = np.zeros(3)
        file['a/c'] = file['a']


def h5_of_a_large_chunk(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('a', (3,), 'f4', maxshape=(None,), chunks=(1 << 26,))


def h5_of_a_chunk_that_grows(path):
    with h5py.File(path, 'w') as file:
        made = file.create_dataset('a', (9,), 'u1', chunks=(9,), compression='gzip')
        made.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 22)))


def h5_of_another_filter(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('a', data=np.zeros(9), compression='lzf')


H5 = {
    'deep': (lambda path: h5_in_groups(path, 40, 1), 'groups on more than 32 levels'),
    'wide': (lambda path: h5_in_groups(path, 1, 60), 'or more than 50 things in them'),
    'a large chunk': (h5_of_a_large_chunk, r'unpacks to 268,435,456 bytes or more'),
    'a chunk that grows': (h5_of_a_chunk_that_grows, "chunk of its 'a' unpacks to more than the 9"),
    'another filter': (
        h5_of_another_filter,
        "its 'a' is packed in 1 chunks by filters .32000.; save",
    ),
}


@pytest.mark.parametrize('kind', H5)
def test_hostile_h5_is_one_sentence_and_takes_no_memory(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(h5_files, 'MAX_ITEMS', 50)
    make, said = H5[kind]
    make(tmp_path / 'w.h5')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf'w\.h5 cannot be read as \.h5 weights: .*{said}.*\Z'):
        weights.read(tmp_path / 'w.h5')
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB


def test_h5_whose_groups_are_a_circle_has_each_array_once(tmp_path):
    h5_in_a_circle(tmp_path / 'w.h5')
    assert list(weights.read(tmp_path / 'w.h5')) == ['a/b']


@pytest.mark.parametrize('options', [{'compression': 'gzip'}, {'shuffle': True}])
def test_h5_that_is_packed_by_gzip_is_read(tmp_path, options):
    with h5py.File(tmp_path / 'w.h5', 'w') as file:
        file.create_dataset('a', data=np.arange(50.0), chunks=(9,), **{'compression': 1, **options})
    assert weights.read(tmp_path / 'w.h5')['a'].tolist() == np.arange(50.0).tolist()


def test_a_safetensors_header_without_end_is_one_sentence(tmp_path):
    path = tmp_path / 'w.safetensors'
    path.write_bytes((1 << 25).to_bytes(8, 'little') + b'{')
    with pytest.raises(ValueError, match=r'its header claims 33,554,432 bytes; at most 16,777,216'):
        weights.read(path)
    assert not weight_files.is_converted(path)


def test_an_array_larger_than_any_memory_is_one_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / 'w.npz', 'w') as archive, archive.open('a.npy', 'w') as file:
        header = {'descr': '<f4', 'fortran_order': False, 'shape': (2**50,)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ValueError, match=r'w\.npz cannot be read as \.npz weights: .*\Z'):
        weights.read(tmp_path / 'w.npz')


def test_h5_reads_no_other_file(tmp_path):
    write(tmp_path / 'other.h5')
    (tmp_path / 'secret').write_bytes(bytes(12))
    with h5py.File(tmp_path / 'w.h5', 'w') as file:
        file['a'] = np.ones(3)
        file['link'] = h5py.ExternalLink('other.h5', '/b')
    assert list(weights.read(tmp_path / 'w.h5')) == ['a']
    with h5py.File(tmp_path / 'external.h5', 'w') as file:
        file.create_dataset('a', (3,), np.float32, external=[(tmp_path / 'secret', 0, 12)])
    layout = h5py.VirtualLayout((2,), np.float16)
    layout[:] = h5py.VirtualSource(tmp_path / 'other.h5', 'b', (2,))
    with h5py.File(tmp_path / 'virtual.h5', 'w') as file:
        file.create_virtual_dataset('a', layout)
    for name in ('external', 'virtual'):
        with pytest.raises(ValueError, match="its 'a' lies in another file"):
            weights.read(tmp_path / f'{name}.h5')


def test_text_in_h5_is_no_weight(tmp_path):
    with h5py.File(tmp_path / 'w.h5', 'w') as file:
        file['a'] = 'text'
    with pytest.raises(ValueError, match="its 'a' is of object, not of numbers"):
        weights.read(tmp_path / 'w.h5')


@pytest.mark.parametrize('name', ['w', 'w.bin', 'w.ckpt', 'w.pth.tar', 'w.PTH', 'w.npz', 'w.h5'])
@pytest.mark.parametrize(
    'source', [*SUFFIXES, 'zip.pth', 'stream.pth', 'script.pt'], ids=lambda source: f'from {source}'
)
def test_a_file_is_read_by_its_content_whatever_it_is_called(tmp_path, source, name):
    path = GOLDENS / source if '.p' in source else write(tmp_path / f'source{source}')
    (tmp_path / name).write_bytes(path.read_bytes())
    expected, state = weights.read(path), weights.read(tmp_path / name)
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(state[key], value, strict=True)


@pytest.mark.parametrize('content', [b'', b'text', bytes(600), b'\0' * 257 + b'ustar' + bytes(300)])
def test_content_of_no_kind_or_a_missing_file_is_one_sentence(tmp_path, content):
    (tmp_path / 'w.tar').write_bytes(content)
    with pytest.raises(ValueError, match=r'w\.tar holds no weights: its content is not that of'):
        weights.read(tmp_path / 'w.tar')
    with pytest.raises(FileNotFoundError, match='there is no weights file'):
        weights.read(tmp_path / 'w.bin')


def tar(first, mode='w:'):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo(first))
    return file.getvalue()


@pytest.mark.parametrize('name', ['w.pth.tar', 'w.pth', 'w.safetensors', 'w'])
@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (tar('sys_info'), r'an archive of PyTorch before 0\.2; .*torch\.save\(torch\.load\('),
        (tar('resnet.pth'), 'a tar archive; unpack it, and give the file of weights in it'),
        (b'version https://git-lfs.github.com/spec/v1', 'a pointer of Git LFS; fetch the file'),
        (b'<!DOCTYPE html><html>', 'a web page; download the file itself'),
        (b'GGUF\3', 'GGUF; get the weights as safetensors'),
        (tar('a', 'w:bz2'), 'a bzip2 archive; unpack it'),
    ],
)
def test_what_is_no_file_of_weights_is_called_what_it_is(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{name} holds no weights: .* but of {sentence}.*\Z'):
        weights.read(tmp_path / name)


def test_what_is_compressed_and_no_h5_is_to_be_unpacked(tmp_path):
    (tmp_path / 'w.pth').write_bytes(gzip.compress(tar('sys_info')))
    with pytest.raises(ValueError, match='it is compressed, and no h5 file; unpack it first'):
        weights.read(tmp_path / 'w.pth')


def test_an_array_of_npz_whose_header_asks_for_less_is_damaged(tmp_path):
    path = write(tmp_path / 'w.npz', {'a': np.ones((4, 2), np.float32)})
    path.write_bytes(path.read_bytes().replace(b"'shape': (4, 2)", b"'shape': (2, 2)"))
    with pytest.raises(ValueError, match=r'w\.npz cannot be read as \.npz weights: .*Bad CRC-32'):
        weights.read(path)


def test_only_files_of_pytorch_have_entries(tmp_path):
    with pytest.raises(ValueError, match="has no entry 'ema', as only files of PyTorch have some"):
        weights.read(write(tmp_path / 'w.npz'), entry='ema')


@pytest.mark.parametrize('kind', ['float8_e4m3fn', 'float8_e5m2'])
def test_floats_of_eight_bits_are_refused_by_name(tmp_path, kind):
    eight = np.ones(3).astype(getattr(ml_dtypes, kind))
    data = eight.tobytes()
    of_file = {'a.weight': {'dtype': {'float8_e4m3fn': 'F8_E4M3', 'float8_e5m2': 'F8_E5M2'}[kind]}}
    of_file['a.weight'] |= {'shape': [3], 'data_offsets': [0, 3]}
    header = json.dumps(of_file).encode()
    (tmp_path / 'w.bin').write_bytes(len(header).to_bytes(8, 'little') + header + data)
    with pytest.raises(ValueError, match=r"'a\.weight' is of F8_E\dM\d, whose scale no network"):
        weights.read(tmp_path / 'w.bin')


def test_the_fingerprint_is_the_sha256(tmp_path):
    (tmp_path / 'w').write_bytes(b'abc')
    assert weights.fingerprint(tmp_path / 'w') == hashlib.sha256(b'abc').hexdigest()


def test_what_is_written_has_paths_for_names_and_always_the_same_bytes(tmp_path):
    variables = {'params': {'a': {'kernel': np.ones((2, 3), np.float32)}, 'b': np.zeros(2)}}
    about = {'network': 'a', 'source': 'b.pt', 'sha256': 'c', 'version': '1'}
    for name in '1234':
        weights.write(variables, tmp_path / f'{name}.safetensors', about)
    assert len({weights.fingerprint(file) for file in tmp_path.iterdir()}) == 1
    state = weights.read(tmp_path / '1.safetensors')
    assert {name: value.shape for name, value in state.items()} == {
        'params/a/kernel': (2, 3),
        'params/b': (2,),
    }
    with safetensors.safe_open(tmp_path / '1.safetensors', 'numpy') as file:
        assert json.loads(file.metadata()['avsc_jax']) == about
    assert len(list(tmp_path.iterdir())) == 4  # nothing beside


def test_views_and_scalars_are_written_as_what_they_show(tmp_path):
    row = np.arange(6, dtype=np.float32)
    views = {'turned': row.reshape(2, 3).T, 'every_second': row[::2], 'scalar': np.float32(7)}
    weights.write({'params': views}, tmp_path / 'w.safetensors', {})
    state = weights.read(tmp_path / 'w.safetensors')
    for name, value in views.items():
        np.testing.assert_array_equal(state[f'params/{name}'], value)
        assert state[f'params/{name}'].shape == value.shape
