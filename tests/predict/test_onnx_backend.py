"""Networks by ONNX Runtime answer as by JAX; their files are kept, checked and bounded."""

import os
import sys

import numpy as np
import pytest
import soundfile

from avsc_jax.predict import Predictor, onnx_backend, onnx_files
from avsc_jax.predict import __main__ as predict
from avsc_jax.runtime import cli

CLASSES = ['airport', 'bus', 'tram']
SMALL = dict(name='regnetx_002', group_width=8, layers=[1, 0, 0, 0], stem_width=8, widths=[8] * 4)
SOUND = {
    'items': 'second',
    'piece_s': 1.0,
    'front_end': {'name': 'hitachi_logmel', 'sample_rate_hz': 48000, 'lineage': False},
    'size': [32, 40],
}
STATS = {'mean': np.float32([-40, 0, 0]), 'std': np.float32([20, 1, 0.5])}
ENCODER = {
    'name': 'clip_vit_b32',
    'options': dict(width=16, layers=1, patch_size=16, image_size=32, output_dim=5),
    'weights': 'random:0',
}
FUSION = dict(name='clip_late_fusion', encoders={'clip_vit_b32': 5}, widths=[16, 8, 8])
FRAMES = {'items': 'frame', 'frames': 'clip12', 'short_side': 448, 'encoders': [ENCODER]}
AUDIO = np.random.default_rng(1).uniform(-0.3, 0.3, (100_000, 2)).astype(np.float32)
PICTURES = list(np.random.default_rng(2).integers(0, 256, (5, 40, 60, 3), np.uint8))
RECORD = {'audio': AUDIO, 'sample_rate': 48000, 'channels': 2}
RECORD |= {'frames': PICTURES, 'frame_times': np.arange(5.0)}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    return tmp_path / 'home/.cache/avsc_jax/onnx'


@pytest.fixture
def sound(tmp_path, write_run):
    return write_run(tmp_path / 'sound', SMALL, SOUND, classes=CLASSES, stats=STATS)


@pytest.fixture
def fusion(tmp_path, write_run):
    return write_run(tmp_path / 'fusion', FUSION, FRAMES, classes=CLASSES)


@pytest.mark.parity
@pytest.mark.parametrize(('run', 'networks'), [('sound', 1), ('fusion', 2)])
def test_answers_are_those_of_jax_and_files_are_kept(
    run, networks, home, request, monkeypatch, capfd
):
    folder = request.getfixturevalue(run)
    by_jax, by_onnx = Predictor.load(folder), Predictor.load(folder, backend='onnx')
    assert by_jax.content_hash != by_onnx.content_hash  # a journal does not mix them
    (expected,), (answer,) = (each.answers([RECORD]) for each in (by_jax, by_onnx))
    np.testing.assert_allclose(answer.probs, expected.probs, atol=onnx_files.TOLERANCE)
    np.testing.assert_allclose(answer.embedding, expected.embedding, atol=1e-4)
    assert capfd.readouterr().err.count('for ONNX Runtime ...') == networks
    assert len([*home.glob('*.onnx')]) == networks
    monkeypatch.setattr(onnx_files, 'as_onnx', None)  # a second start converts nothing
    again = Predictor.load(folder, backend='onnx').answers([RECORD])[0]
    np.testing.assert_array_equal(again.probs, answer.probs)


@pytest.mark.parity
def test_a_network_that_answers_otherwise_is_an_error_and_not_kept(sound, home, monkeypatch):
    def wrong(model, variables):
        params = variables['params']
        head = params['head'] | {'bias': np.float32([9, 0, 0])}
        return model, variables | {'params': params | {'head': head}}

    monkeypatch.setattr(onnx_backend, 'fold_batchnorm', wrong)
    with pytest.raises(ValueError, match=r'sound by ONNX Runtime differs from JAX by 0\.\d+, more'):
        Predictor.load(sound, backend='onnx').answers([RECORD])
    assert not [*home.glob('*')]


@pytest.mark.parity
def test_a_network_without_conversion_is_a_sentence(sound, monkeypatch):
    import jax2onnx

    def to_onnx(*args, **options):
        raise NotImplementedError('no such operator\nmore')

    monkeypatch.setattr(jax2onnx, 'to_onnx', to_onnx)
    sentence = r'sound cannot become ONNX: no such operator \(Not.*; leave --backend=onnx out$'
    with pytest.raises(ValueError, match=sentence):
        Predictor.load(sound, backend='onnx').answers([RECORD])


@pytest.mark.parity
def test_the_command_prints_what_it_prints_by_jax(sound, tmp_path, capsys):
    soundfile.write(tmp_path / 'clip.wav', AUDIO, 48000, 'FLOAT')
    printed = []
    for flags in ([], ['--backend=onnx']):
        line = [str(tmp_path / 'clip.wav'), f'--model={sound}', '--workers=1', *flags]
        assert predict.main(line) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ''


def test_what_the_backend_needs_or_cannot_do_is_a_sentence(sound, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'jax2onnx', None)
    with pytest.raises(ValueError, match=r"--backend=onnx needs jax2onnx: pip install 'avsc_jax\["):
        Predictor.load(sound, backend='onnx')
    with pytest.raises(ValueError, match=r"backend is 'onx'.*onnx"):
        Predictor.load(sound, backend='onx')
    flags = ['--backend=onnx', '--encoder=yamnet', f'--embeddings={tmp_path}/e.npz']
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path), *flags])
    assert cli.main(predict.main) != 0
    assert '--backend=onnx goes with systems that name scenes or tags, not with' in (
        capsys.readouterr().err
    )


def test_a_kept_file_that_was_changed_is_not_used(home):
    onnx_backend.keep('a', b'network', {'largest_difference': 0.0})
    assert onnx_backend.read('a') == b'network' and onnx_backend.read('b') is None
    assert home.stat().st_mode & 0o777 == 0o700
    (home / 'a.onnx').write_bytes(b'netw0rk')
    assert onnx_backend.read('a') is None
    onnx_backend.keep('a', b'network', {})
    home.chmod(0o777)  # anybody could have put it there
    assert onnx_backend.read('a') is None


def test_the_least_recently_used_files_are_deleted(home, monkeypatch):
    monkeypatch.setattr(onnx_backend, 'MOST_BYTES', 10)
    for age, key in enumerate('ab'):
        onnx_backend.keep(key, b'1234', {})
        os.utime(home / f'{key}.onnx', (age + 1, age + 1))
    assert onnx_backend.read('a')  # the older one is used
    onnx_backend.keep('c', b'1234', {})
    assert sorted(file.name for file in home.iterdir()) == ['a.json', 'a.onnx', 'c.json', 'c.onnx']
