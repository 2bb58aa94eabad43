"""The vectors of classes are kept from one start of a command to the next."""

import sys

import jax
import numpy as np
import pytest

from avsc_jax.predict import kept_texts, zero_shot
from avsc_jax.runtime import compiled_programs

TINY = 'width=16,layers=1,patch_size=16,image_size=32,text_width=16,text_layers=1'
ENCODER = f'clip_vit_b32:{TINY}'
CACHE = ('jax_compilation_cache_dir', 'jax_compilation_cache_max_size')
CACHE += ('jax_persistent_cache_min_compile_time_secs',)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of class vectors of a home in which programs are kept."""
    before = {name: getattr(jax.config, name) for name in CACHE}
    monkeypatch.setenv('HOME', str(tmp_path))
    jax.config.update('jax_compilation_cache_dir', None)
    compiled_programs.keep()
    yield compiled_programs.beside('texts')
    for name, value in before.items():
        jax.config.update(name, value)


def test_vectors_are_made_once_for_the_same_facts_and_again_if_their_file_is_damaged(folder):
    made = []

    def make():
        made.append(np.full((2, 3), len(made), np.float32))
        return made[-1]

    assert folder.stat().st_mode & 0o777 == 0o700
    for facts, count in ((['a'], 1), (['a'], 1), (['b'], 2)):
        found = kept_texts.kept(facts, make)
        assert len(made) == count
        np.testing.assert_array_equal(found, made[-1])
    for path in folder.glob('*.npz'):
        path.write_bytes(path.read_bytes()[:-70])
    assert kept_texts.kept(['a'], make)[0, 0] == 2 and len(made) == 3
    assert kept_texts.kept(['a'], make)[0, 0] == 2 and len(made) == 3


def test_the_folder_of_vectors_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(kept_texts, 'MOST_BYTES', 3000)
    for k in range(10):
        kept_texts.kept(k, lambda: np.zeros((10, 20), np.float32))
    assert 1 <= len([*folder.iterdir()]) <= 3
    kept_texts.kept('large', lambda: np.zeros((20, 20), np.float32))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3000


def test_nothing_is_kept_where_no_programs_are(folder):
    jax.config.update('jax_compilation_cache_dir', None)
    assert compiled_programs.beside('texts') is None
    kept_texts.kept('facts', lambda: np.ones((2, 2), np.float32))
    assert not [*folder.iterdir()]


def test_a_second_start_answers_the_same_without_the_text_tower(folder, monkeypatch):
    record = {'frames': [np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)] * 2}
    record['frame_times'] = np.arange(2.0)
    given = {'encoder': ENCODER, 'origin': 'random:0'}
    classes = ['beach', 'forest']
    (first,) = zero_shot(classes, **given).answers([record])
    module = sys.modules['avsc_jax.predict.zero_shot']  # its name is the function's
    monkeypatch.setattr(module, '_encoded', lambda *_: pytest.fail('the text tower ran'))
    (second,) = zero_shot(classes, **given).answers([record])
    np.testing.assert_array_equal(first.probs, second.probs)
    for other in (['forest', 'beach'], ['beach', 'office']):
        with pytest.raises(BaseException, match='the text tower ran'):
            zero_shot(other, **given)
    with pytest.raises(BaseException, match='the text tower ran'):
        zero_shot(classes, **given | {'origin': 'random:1'})
