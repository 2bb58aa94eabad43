"""Files of any kind in, records of one shape out; and what is said of bad ones."""

import re

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax.data import media, records
from avsc_jax.data.builder.base import WindowConfig
from avsc_jax.data.builder.clip_reader import BadMedia, Clip, read_windows
from avsc_jax.data.builder.media_files import FolderFiles
from avsc_jax.data.sources.folder import OwnData

OPTIONS = dict(frames='second_centres', short_side=32, window_s=1.0, sample_rate_hz=48000)


def wav(path, seconds, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(-0.5, 0.5, round(seconds * rate))
    soundfile.write(path, np.repeat(ramp[:, None], channels, axis=1), rate, subtype='PCM_16')


def film(path, seconds, rate=44100, sound_s=None):
    """A clip that grows lighter by 20 a picture, ten pictures a second, with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, 'w') as container:
        pictures = container.add_stream('libx264', rate=10, options={'crf': '5', 'g': '4'})
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, 'yuv420p'
        sound = container.add_stream('aac', rate=rate, layout='stereo')
        for k in range(round(10 * seconds)):
            image = np.full((48, 64, 3), 20 + 8 * k, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(pictures.encode())
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, round((sound_s or seconds) * rate)))
        frame = av.AudioFrame.from_ndarray(noise.astype(np.float32), 'fltp', 'stereo')
        frame.sample_rate = rate
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


def read(files, name, audio=True, video=True, **changes):
    clip = Clip(name, name * audio, name * video, 'park', 'lyon')
    return read_windows(files, clip, **OPTIONS | changes)


def test_a_long_clip_is_cut_into_windows_of_its_sound_and_pictures(tmp_path):
    film(tmp_path / 'a.mkv', 2.6)
    files = FolderFiles(tmp_path)
    found = read(files, 'a.mkv', frames='evaluation5')
    assert [record['clip_id'] for record in found] == ['a.mkv@0s', 'a.mkv@1s', 'a.mkv@1.6s']
    sound, _ = media.read_audio(tmp_path / 'a.mkv')
    for start_s, record in zip((0, 1, 1.6), found, strict=True):
        samples = media.decode_flac(record['audio'])
        assert samples.shape == (48000, 2) and record['sample_rate'] == 48000
        level = np.mean(media.decode_jpeg(record['frames'][0]))
        assert level == pytest.approx(28 + 80 * start_s, abs=4)
        expected = [round(10 * start_s) + k for k in (1, 3, 5, 7, 9)]
        assert record['frame_index'].tolist() == expected
        ours, theirs = np.abs(samples[::100]).mean(), np.abs(sound).mean()
        assert ours == pytest.approx(theirs, rel=0.2)
    assert (found[0]['label'], found[0]['location'], found[0]['segment']) == ('park', 'lyon', -1)
    assert {note.split(':')[0] for note in files.notes} == {
        'sound of 44100 Hz is resampled to 48000 Hz',
        'a file is longer',
    }


def test_what_is_short_is_repeated_to_a_window_and_told(tmp_path):
    wav(tmp_path / 'a.wav', 0.25)
    film(tmp_path / 'b.mp4', 0.5)
    files = FolderFiles(tmp_path)
    (record,) = read(files, 'a.wav', video=False, sample_rate_hz=8000)
    samples = media.decode_flac(record['audio'])
    assert record['clip_id'] == 'a.wav' and samples.shape == (8000, 2) and record['frames'] == []
    np.testing.assert_array_equal(samples, np.tile(samples[:2000], (4, 1)))
    (record,) = read(files, 'b.mp4', audio=False, frames='hou')
    assert record['audio'] == b'' and len(record['frames']) == 10
    assert record['frame_index'].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    short = next(clips for note, clips in files.notes.items() if 'is shorter than 1 s' in note)
    assert short == ['a.wav', 'b.mp4']
    assert files.notes['the channels are made two: doubled'] == ['a.wav']


def test_a_still_picture_is_one_frame_turned_as_the_camera_was_held(tmp_path):
    image = Image.fromarray(np.full((40, 80, 3), (250, 0, 0), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'a.jpg', exif=exif)
    image.convert('P').save(tmp_path / 'b.png')
    files = FolderFiles(tmp_path)
    (turned,), (plain,) = (read(files, name, audio=False) for name in ('a.jpg', 'b.png'))
    assert media.decode_jpeg(turned['frames'][0]).shape == (64, 32, 3)
    assert media.decode_jpeg(plain['frames'][0]).shape == (32, 64, 3)
    assert len(turned['frames']) == len(turned['frame_times']) == 1 and not files.notes


def test_sound_and_picture_of_unlike_length_are_cut_to_the_shorter(tmp_path):
    film(tmp_path / 'a.mp4', 1.0, sound_s=3.0)
    files = FolderFiles(tmp_path)
    assert [record['clip_id'] for record in read(files, 'a.mp4')] == ['a.mp4']
    assert any('differ by over 1 s' in note for note in files.notes)


@pytest.fixture
def build(tmp_path):
    """Builds sounds of three splits; the files that are there already stay."""

    def build(name='x', on_error='fail'):
        lists = {}
        for k, split in enumerate(('train_inner', 'validation', 'test')):
            names = [f'{scene}/{k}{part}.wav' for scene in ('tram', 'bar') for part in 'ab']
            for file in names:
                if not (tmp_path / file).exists():
                    wav(tmp_path / file, 1.0)
            lists[split] = [Clip(n, n, '', n.split('/')[0], n) for n in names]
        options = {**OPTIONS, 'window_s': 0.5}
        config = WindowConfig(name=name, **options)
        builder = OwnData(files=FolderFiles(tmp_path), lists=lists, facts={'listing': 'abc'},
                          config=config, data_dir=tmp_path / 'data')  # fmt: skip
        builder.on_error = on_error
        builder.download_and_prepare()
        return records.open_dataset('own_data', name, tmp_path / 'data')

    return build


def test_the_data_set_keeps_the_contract_of_records(build):
    dataset = build()
    assert dataset.name == 'own_data/x/1.0.0' and dataset.classes == ('bar', 'tram')
    assert dataset.builder.info.metadata['listing'] == 'abc'
    assert [dataset.num_records(s) for s in ('train', 'train_inner', 'test')] == [16, 8, 8]
    record = dataset.records('test')[1]
    assert record['clip_id'] == 'tram/2a.wav@0.5s' and record['label'] == 1
    assert record['audio'].shape == (24000, 2) and record['frames'] == []
    assert dataset.records('test').outline(1)['location'] == 'tram/2a.wav'


def test_bad_files_are_one_report_and_whole_ones_are_encoded_once(build, tmp_path, monkeypatch):
    for name, data in (('bar/0a.wav', b''), ('tram/1b.wav', b'RIFF\xff\xff\0\0WAVEfmt ')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r'2 of 12 clips .*--config.data.on_error=skip'):
        build()
    (report,) = tmp_path.rglob('1.0.0.bad_media.tsv')
    told = dict(line.split('\t') for line in report.read_text().splitlines()[1:])
    assert {*told} == {'bar/0a.wav', 'tram/1b.wav'}
    assert 'is empty' in told['bar/0a.wav'] and 'cut short' in told['tram/1b.wav']
    decoded, sound_track = [], media.SoundTrack
    monkeypatch.setattr(media, 'SoundTrack', lambda f: decoded.append(f.name) or sound_track(f))
    left = build(on_error='skip')
    assert left.left_out == ['bar/0a.wav', 'tram/1b.wav'] and {*decoded} <= {'0a.wav'}
    assert left.num_records('train_inner') == 6


def test_a_picture_that_is_none_is_told_with_its_name(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no picture at all')
    with pytest.raises(BadMedia, match=re.escape(f'cannot decode {tmp_path / "a.jpg"}')):
        read(FolderFiles(tmp_path), 'a.jpg', audio=False)
