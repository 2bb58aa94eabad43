"""Samples that are not finite, and samples beyond full scale: one rule for training and predict."""

import av
import numpy as np
import pytest
import soundfile

from avsc_jax.data import media, windows
from avsc_jax.data.builder.clip_reader import BadMedia, Clip, read_windows
from avsc_jax.data.builder.media_files import FolderFiles
from avsc_jax.data.windows import Wants

RATE = 8000
SOUND = Wants(audio=True, frames=None, short_side=None, media=None, window_s=1.0)
BOTH = Wants(audio=True, frames='clip12', short_side=None, media=None, window_s=1.0)


def noise(seconds=2.0, channels=2):
    draw = np.random.default_rng(0)
    return draw.uniform(-0.5, 0.5, (round(seconds * RATE), channels)).astype(np.float32)


def write(path, samples):
    subtype = 'DOUBLE' if samples.dtype == np.float64 else 'FLOAT'
    soundfile.write(path, samples, RATE, subtype=subtype)
    return path


def film(path, samples):
    """A film of grey pictures with uncompressed floats as its sound."""
    with av.open(str(path), 'w') as out:
        video = out.add_stream('mpeg4', rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        sound = out.add_stream('pcm_f32le', rate=RATE, layout='stereo')
        for _ in range(10):
            grey = np.full((48, 64, 3), 90, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(grey, format='rgb24')))
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format='flt', layout='stereo')
        frame.sample_rate = RATE
        out.mux(sound.encode(frame))
        out.mux(video.encode())
        out.mux(sound.encode())
    return path


def records(path):
    """Returns the sound of a build's records, decoded, and the notes on it."""
    files, clip = FolderFiles(path.parent), Clip(path.stem, path.name, '', 'park')
    options = {'window_s': 1.0, 'sample_rate_hz': RATE}
    made = read_windows(files, clip, frames='clip12', short_side=48, **options)
    sounds = [media.decode_flac(record['audio']) for record in made]
    return np.concatenate(sounds), [*files.notes]


@pytest.mark.parametrize(
    ('name', 'channels', 'channel'),
    [('a.wav', 1, 0), ('a.wav', 2, 1), ('a.aiff', 2, 0), ('a.w64', 2, 1), ('a.wav', 6, 3)],
)
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_the_error_of_its_file(
    tmp_path, name, channels, channel, value
):
    samples = noise(channels=channels)
    samples[12000, channel] = value
    path = write(tmp_path / name, samples)
    sentence = rf'{name} has a sample of {value} at 1\.500 s in channel {channel + 1}; .* PCM'
    with pytest.raises(media.BadSamples, match=sentence):
        media.read_audio(path)
    with pytest.raises(media.BadSamples, match=sentence):
        list(windows.read(path, SOUND))
    with pytest.raises(BadMedia, match=sentence):
        records(path)


@pytest.mark.parametrize('name', ['a.wav', 'a.w64'])
def test_a_double_that_no_float_holds_is_an_error(tmp_path, name):
    samples = noise().astype(np.float64)
    samples[800] = 1e300
    with pytest.raises(media.BadSamples, match=r'has a sample of inf at 0\.100 s'):
        media.read_audio(write(tmp_path / name, samples))


def test_a_film_of_bad_sound_is_not_answered_from_its_pictures(tmp_path):
    samples = noise()
    assert [w['missing'] for w in windows.read(film(tmp_path / 'a.mkv', samples), BOTH)] == [{}, {}]
    samples[12000] = np.nan
    with pytest.raises(media.BadSamples, match=r'a\.mkv has a sample of nan'):
        list(windows.read(film(tmp_path / 'a.mkv', samples), BOTH))


@pytest.mark.parametrize('name', ['a.wav', 'a.aiff'])
@pytest.mark.parametrize('value', [1.01, -7.0, 1e30])
def test_peaks_are_clipped_alike_in_records_and_in_predict_with_a_note(tmp_path, name, value):
    samples = noise()
    samples[4000:4030, 1] = value  # at once more than 1 % of what was decoded, but not of the file
    path = write(tmp_path / name, samples)
    expected = np.clip(samples, -1, 1)
    sound = media.read_sound(path)
    np.testing.assert_array_equal(sound.samples, expected)
    assert sound.clipped == 30 / samples.size
    read = [*windows.read(path, SOUND)]
    np.testing.assert_array_equal(np.concatenate([w['audio'] for w in read]), expected)
    assert read[-1]['clipped'] == 30 / samples.size
    stored, notes = records(path)  # of 24 bits from a wav, of 16 from other formats
    np.testing.assert_allclose(stored, expected, atol=2.0**-15 if name == 'a.aiff' else 2.0**-23)
    assert media.clipping_note(sound.clipped) in notes
    assert media.clipping_note(sound.clipped).startswith('0.094 % of the samples')


@pytest.mark.parametrize(
    'samples',
    [
        30000 * noise(),
        8388608 * noise(channels=1),
        np.where(np.arange(16000)[:, None] % 99 == 0, np.float32(1.5), noise()),
    ],
    ids=['16 bits', '24 bits', 'just over 1 %'],
)
@pytest.mark.parametrize('name', ['a.wav', 'a.aiff'])
def test_integers_stored_as_floats_are_an_error(tmp_path, name, samples):
    path = write(tmp_path / name, samples)
    sentence = r'more than 1% of the samples of .* integers stored as floats; divide them by 32768'
    for read in (media.read_audio, lambda path: [*windows.read(path, SOUND)], records):
        with pytest.raises(ValueError, match=sentence):
            read(path)


def test_sound_at_full_scale_is_left_alone(tmp_path):
    samples = np.sign(noise())
    sound = media.read_sound(write(tmp_path / 'a.wav', samples))
    np.testing.assert_array_equal(sound.samples, samples)
    assert not sound.clipped
    assert all('clipped' not in window for window in windows.read(tmp_path / 'a.wav', SOUND))


def test_what_is_not_finite_is_never_encoded():
    samples = noise(0.1)
    samples[8, 1] = np.nan
    with pytest.raises(ValueError, match='the sound to encode has a sample of nan'):
        media.encode_flac(samples, RATE, 24)
