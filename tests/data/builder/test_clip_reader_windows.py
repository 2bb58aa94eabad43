"""Files of any kind in, records of one shape out; and what is said of bad ones."""

import re

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax.data import media
from avsc_jax.data.builder.clip_reader import BadMedia, Clip, read_windows
from avsc_jax.data.builder.media_files import FolderFiles

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


def test_what_is_short_keeps_its_length_and_is_told(tmp_path):
    wav(tmp_path / 'a.wav', 0.25)
    film(tmp_path / 'b.mp4', 0.5)
    files = FolderFiles(tmp_path)
    (record,) = read(files, 'a.wav', video=False, sample_rate_hz=8000)
    samples = media.decode_flac(record['audio'])
    assert record['clip_id'] == 'a.wav' and samples.shape == (2000, 2) and record['frames'] == []
    (record,) = read(files, 'b.mp4', audio=False, frames='hou')
    assert record['audio'] == b'' and len(record['frames']) == 5
    assert record['frame_index'].tolist() == [1, 2, 3, 4, 4]  # nearest to 0.05, 0.15 ... 0.45 s
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
    image.save(tmp_path / 'c.png', save_all=True, append_images=[Image.new('RGB', (80, 40)), image])
    (first,) = read(files, 'c.png', audio=False)
    assert len(first['frames']) == 1
    assert files.notes == {'the file holds 3 pictures; the first one is used': ['c.png']}


def test_sound_and_picture_of_unlike_length_are_cut_to_the_shorter(tmp_path):
    film(tmp_path / 'a.mp4', 1.0, sound_s=3.0)
    files = FolderFiles(tmp_path)
    assert [record['clip_id'] for record in read(files, 'a.mp4')] == ['a.mp4']
    assert any('differ by over 1 s' in note for note in files.notes)


def test_a_picture_that_is_none_is_told_with_its_name(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no picture at all')
    with pytest.raises(BadMedia, match=re.escape(f'cannot decode {tmp_path / "a.jpg"}')):
        read(FolderFiles(tmp_path), 'a.jpg', audio=False)
