import hashlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from avsc_jax import models, weights

STATE = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.float16([1, 2])}
NARROW = {'width': 8, 'layers': (1, 1, 1, 1), 'image_size': 32, 'output_dim': 4}


def write(path, state=STATE):
    if path.suffix == '.npz':
        np.savez(path, **state)
    else:
        safetensors.numpy.save_file(state, path)
    return path


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
def test_what_was_written_is_read(tmp_path, suffix):
    state = weights.read(write(tmp_path / f'w{suffix}'))
    assert state.keys() == STATE.keys()
    for name, value in STATE.items():
        np.testing.assert_array_equal(state[name], value)
        assert state[name].dtype == value.dtype


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
@pytest.mark.parametrize('kept', [0, 5, 100])
def test_a_truncated_file_is_one_sentence(tmp_path, suffix, kept):
    path = write(tmp_path / f'w{suffix}')
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f'w{suffix} cannot be read as {suffix} weights'):
        weights.read(path)


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / 'w.npz', a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r'w\.npz cannot be read'):
        weights.read(tmp_path / 'w.npz')


def test_another_suffix_or_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '.bin'; weights are read from .safetensors"):
        weights.read(tmp_path / 'w.bin')
    with pytest.raises(FileNotFoundError, match='there is no weights file'):
        weights.read(tmp_path / 'w.npz')


def test_the_fingerprint_is_the_sha256(tmp_path):
    (tmp_path / 'w').write_bytes(b'abc')
    assert weights.fingerprint(tmp_path / 'w') == hashlib.sha256(b'abc').hexdigest()


def test_a_file_is_found_by_name_and_checked_by_content(tmp_path):
    model = models.create_model('clip_rn101', **NARROW)
    with pytest.raises(FileNotFoundError, match=r'no weights of clip_rn101 in .*--weights=random'):
        weights.identify('clip_rn101', tmp_path)
    path = write(tmp_path / 'clip_rn101.npz')
    found = weights.identify('clip_rn101', tmp_path)
    assert found == weights.fingerprint(path)
    with pytest.raises(ValueError, match='not the weights of this network'):
        weights.load(model, 'clip_rn101', found, tmp_path)
    write(path, {'b': np.zeros(3)})
    with pytest.raises(ValueError, match=f'but {found} was asked for'):
        weights.load(model, 'clip_rn101', found, tmp_path)


def test_random_weights_are_loaded_by_their_seed(tmp_path):
    model = models.create_model('clip_rn101', **NARROW)
    loaded = weights.load(model, 'clip_rn101', 'random:7', tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded, weights.random_variables(model, 7))
