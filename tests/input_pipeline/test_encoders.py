"""Sound and pictures of clips through OpenL3's networks; CLIP's and timm's: test_feature_cache."""

import os
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import models, weights
from avsc_jax.audio.frontends import openl3_mel256
from avsc_jax.audio.openl3 import openl3_views, openl3_windows
from avsc_jax.data import media
from avsc_jax.input_pipeline import encoders
from avsc_jax.input_pipeline.encoders import Encoder, EncoderSpec

SOUND = EncoderSpec(
    'openl3_audio', {'widths': (2, 2, 2, 3), 'embedding_size': 3, 'max_windows': 8}, 'random:0'
)
PICTURES = EncoderSpec(
    'openl3_image',
    {'widths': (2, 2, 2, 3), 'embedding_size': 3, 'input_shape': (64, 64, 3), 'frames': 'clip12'},
    'random:0',
)


@pytest.fixture(scope='module')
def of_sound():
    return Encoder(SOUND, Path('none'), jax.devices()[:1])


def noise(seconds, rate=48000, channels=2):
    draw = np.random.default_rng(0)
    return draw.normal(0, 0.1, (int(seconds * rate), channels)).astype(np.float32)


def by_hand(spec, x):
    model = models.create_model(spec.name, **spec.network)
    # without optimisation by LLVM, which takes most of the time
    apply = jax.jit(model.apply, compiler_options={'xla_backend_optimization_level': 0})
    return apply(weights.random_variables(model, 0), x)[0]


def test_options_are_of_the_network_or_of_reading():
    assert SOUND.network == {'widths': (2, 2, 2, 3), 'embedding_size': 3}
    expected = {'version': '0.3.1', 'hop_s': 0.1, 'centre': True, 'max_windows': 8}
    assert SOUND.reading == expected
    assert EncoderSpec(**SOUND.to_json()).key('data') == SOUND.key('data')
    assert (SOUND.takes, PICTURES.takes) == ('audio', 'media')
    stored = EncoderSpec('openl3_image', PICTURES.network, 'random:0')
    assert stored.takes == EncoderSpec('clip_rn101', {}, 'random:0').takes == 'frames'


@pytest.mark.parametrize(
    'other', [{'version': '0.4-kapre'}, {'hop_s': 0.5}, {'centre': False}, {'max_windows': None}]
)
def test_each_way_of_reading_has_features_of_its_own(other):
    changed = EncoderSpec(SOUND.name, {**SOUND.options, **other}, SOUND.weights)
    assert changed.key('data') != SOUND.key('data')
    default = EncoderSpec(SOUND.name, {'version': '0.3.1', **SOUND.options}, SOUND.weights)
    assert default.key('data') == SOUND.key('data')


def test_windows_on_the_host_are_those_on_the_device_and_take_no_memory():
    sound = noise(1.23)
    for options in ({}, {'hop_s': 0.31, 'centre': False}, {'hop_s': 2.0, 'centre': False}):
        found = openl3_views(sound.mean(axis=1), **options)
        expected = openl3_windows(sound, sample_rate_hz=48000, **options)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-7)
    found = openl3_views(sound.mean(axis=1), hop_s=0.001, most=500)
    assert len(found) == 500 and found.base is not None and np.shares_memory(found[0], found[499])


def test_sound_is_windows_front_end_and_network(of_sound, monkeypatch):
    monkeypatch.setattr(encoders, 'WINDOWS_PER_CALL', 4)
    audio = noise(1.5)
    items = of_sound.items({'audio': audio, 'sample_rate': 48000})
    windows = openl3_windows(audio, sample_rate_hz=48000)
    assert len(windows) == 11 and len(items) == 8  # max_windows
    x = openl3_mel256(windows[:8], sample_rate_hz=48000)
    found = of_sound(items)
    np.testing.assert_allclose(found, by_hand(SOUND, x), rtol=1e-4, atol=1e-5)
    assert found.std(axis=0).min() > 0
    times = of_sound.times_s({'audio': audio}, len(items))
    np.testing.assert_allclose(times, np.arange(8) / 10)


@pytest.mark.parametrize('rate', [8000, 44100])
def test_another_rate_is_resampled_and_told(of_sound, rate):
    audio = noise(1.1, rate)
    record = {'audio': audio, 'sample_rate': rate}
    assert of_sound.notes(record) == [f'sound of {rate} Hz is resampled to 48000 Hz']
    expected = librosa.resample(audio.mean(axis=1), orig_sr=rate, target_sr=48000)
    items = of_sound.items(record)
    assert len(items) == 7  # 1.1 s
    np.testing.assert_allclose(items[5][:, 0], expected[:48000], atol=1e-6)


@pytest.mark.parametrize(
    ('audio', 'channels', 'note'),
    [
        (noise(1)[:1], 2, 'sound of less than a second is completed by zeros'),
        (np.zeros((48000, 2), np.float32), 2, 'the sound is silent'),
        (noise(1), 6, '6 channels are mixed down to one'),
    ],
)
def test_poor_sound_is_told_and_has_finite_embeddings(of_sound, audio, channels, note):
    record = {'audio': audio, 'sample_rate': 48000, 'channels': channels}
    assert of_sound.notes(record) == [note]
    items = of_sound.items(record)
    assert len(items) == (1 if len(audio) == 1 else 6)
    assert np.isfinite(of_sound(items[:1])).all()
    assert of_sound.notes({**record, 'audio': noise(1), 'channels': 2}) == []


def test_pictures_come_from_the_file_at_its_own_size(data_dir):
    file = min(data_dir.rglob('tfds_tau_demo*/video/*.mp4'))
    record = PICTURES.pictures(file)
    frames = media.read_frames(file, 'clip12')
    assert frames.images.shape[1:] == (144, 256, 3)
    x = media.openl3_pictures(frames.images, 64)
    np.testing.assert_array_equal(record['media_frames'], x)
    encoder = Encoder(PICTURES, Path('none'), jax.devices()[:1])
    found = encoder(encoder.items(record))
    np.testing.assert_allclose(found, by_hand(PICTURES, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(encoder.times_s(record, 12), frames.times_s)
    assert encoder.notes(record) == []
    stored = EncoderSpec('openl3_image', PICTURES.network, 'random:0')
    encoder = Encoder(stored, Path('none'), jax.devices()[:1])
    items = encoder.items({'frames': list(frames.images)})
    np.testing.assert_array_equal(items, x)


def test_pictures_smaller_than_the_network_s_are_one_sentence(data_dir):
    file = min(data_dir.rglob('tfds_tau_demo*/video/*.mp4'))
    spec = EncoderSpec('openl3_image', {'frames': 'clip12'}, 'random:0')
    with pytest.raises(ValueError, match='pictures are 256x144; OpenL3 needs sides of 224'):
        spec.pictures(file)


def test_what_cannot_be_read_so_is_one_sentence():
    spec = EncoderSpec(SOUND.name, {**SOUND.options, 'version': '0.4'}, 'random:0')
    with pytest.raises(ValueError, match=r"version is '0\.4'; it must be one of 0\.3\.1, 0\.4-k"):
        Encoder(spec, Path('none'))
    record = {'audio': noise(0.1), 'sample_rate': 48000}
    spec = EncoderSpec(SOUND.name, {**SOUND.options, 'hop_s': 0}, 'random:0')
    with pytest.raises(
        ValueError, match=r'windows every 0\.0 s: give one sample or more and a hop'
    ):
        Encoder(spec, Path('none')).items(record)
    with pytest.raises(ValueError, match='openl3_audio has no option hop; its options are'):
        Encoder(EncoderSpec('openl3_audio', {'hop': 1}, 'random:0'), Path('none'))


def test_a_weights_file_that_lacks_a_layer_is_one_sentence(tmp_path):
    h5py = pytest.importorskip('h5py')
    model = models.create_model(SOUND.name, **SOUND.network)
    names = {'scale': 'gamma', 'bias': 'beta', 'mean': 'moving_mean', 'var': 'moving_variance'}
    with h5py.File(tmp_path / 'openl3_audio.h5', 'w') as file:
        for path, value in traverse_util.flatten_dict(weights.random_variables(model, 0)).items():
            _, layer, leaf = path
            leaf = names[leaf] if layer.startswith('batch') else leaf
            if layer != 'conv2d_5':
                file[f'{layer}/{layer}/{leaf}:0'] = value
    origin = weights.identify('openl3_audio', tmp_path)
    with pytest.raises(ValueError, match=r'openl3_audio\.h5: (.|\n)*missing(.|\n)*conv2d_5'):
        Encoder(EncoderSpec(SOUND.name, SOUND.options, origin), tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ('name', 'options'), [('chirp_44k', {}), ('chirp_44k_linear', {'hop_s': 0.5, 'centre': False})]
)
def test_windows_lie_at_the_published_times(name, options):
    if not (folder := os.environ.get('AVSC_OPENL3_REGRESSION')):
        pytest.skip("AVSC_OPENL3_REGRESSION names no folder with openl3's audio/ and regression/")
    audio, rate = media.read_audio(Path(folder, 'audio/chirp_44k.wav'))
    spec = EncoderSpec(SOUND.name, {**SOUND.network, **options}, 'random:0')
    encoder = Encoder(spec, Path('none'))
    items = encoder.items({'audio': audio, 'sample_rate': rate})
    expected = np.load(Path(folder, 'regression', f'{name}.npz'))['timestamps']
    np.testing.assert_allclose(encoder.times_s({}, len(items)), expected, atol=1e-9)


def test_a_clip_s_first_call_finds_its_program_compiled():
    options = {'width': 16, 'layers': 1, 'patch_size': 16, 'image_size': 32}
    encoder = Encoder(EncoderSpec('clip_vit_b32', options, 'random:0'), Path('none'))
    encoder.compile_ahead()
    items = [np.full((32, 32, 3), 20 * k, np.uint8) for k in range(12)]
    encoder._ahead.result()
    compiled = encoder._encode.__wrapped__._cache_size()
    rows = encoder(items)
    assert encoder._encode.__wrapped__._cache_size() == compiled == 1
    assert encoder._ahead is None and rows.shape == (12, 512)
