"""Weights are read one by one, and only those that a network has."""

import jax
import numpy as np
import pytest

from avsc_jax.models.rules import Rule
from avsc_jax.weights import conversion, lazy, weight_files


def test_arrays_that_are_passed_over_are_never_read():
    read = []
    state = lazy.LazyArrays(
        ['visual.a', 'head.b', 'text.c'], lambda n: read.append(n) or np.ones(2)
    )
    kept = lazy.without(state, lambda name: name.startswith('head.'))
    leaves = conversion.apply([Rule(r'visual\.a', 'params/a')], [r'text\..*'], kept, None)
    assert {*read} == {'visual.a'} and [*leaves] == ['params/a']
    with pytest.raises(KeyError):
        kept['head.b']
    assert [*kept] == ['visual.a', 'text.c'] and len(kept) == 2


def test_names_and_shapes_are_told_before_values_that_are_not_finite():
    state = {'a': np.array([np.nan]), 'b': np.ones(3)}
    rules = [Rule('([ab])', r'params/\1')]
    with pytest.raises(ValueError, match='wrong shape: b'):
        conversion.apply(rules, [], state, {'params/a': (1,), 'params/b': (2,)})
    with pytest.raises(ValueError, match="'a' has 1 of 1 values that are not finite"):
        conversion.apply(rules, [], state, {'params/a': (1,), 'params/b': (3,)})


def test_jax_takes_over_the_memory_of_weights_on_a_cpu():
    value = np.arange(12, dtype=np.float16).reshape(3, 4).T
    copy = lazy.float32_copy(value)
    assert copy.dtype == np.float32 and copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, value)
    assert jax.device_put(copy).unsafe_buffer_pointer() == copy.ctypes.data


def test_a_large_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    hashed, real = [], weight_files._sha256
    monkeypatch.setattr(weight_files, '_sha256', lambda path: hashed.append(path) or real(path))
    monkeypatch.setattr(weight_files, 'REMEMBERED_BYTES', 0)
    path = tmp_path / 'file'
    path.write_bytes(b'one')
    assert weight_files.fingerprint(path) == weight_files.fingerprint(path)
    assert len(hashed) == 1
    path.write_bytes(b'other')
    assert weight_files.fingerprint(path) == real(path) and len(hashed) == 2
