"""What a clip must not be made of: every kind of broken file is named, with its reason."""

import io
import re
import shutil
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from avsc_jax.data.builder import clip_reader
from avsc_jax.data.builder.media_files import MediaFiles
from tfds_tau.splits import Clip

DUMMY = Path(__file__).parents[3] / 'tfds_tau/dummy_data'
NAME = 'bus-london-18-35'
CLIP = Clip(NAME, f'audio/{NAME}.wav', f'video/{NAME}.mp4', 'bus')
OPTIONS = dict(frames='clip12', short_side=448, seconds=False)


def wav(samples, rate=48000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format='WAV', subtype='PCM_24')
    return buffer.getvalue()


def noise(seconds=0.5, rate=48000, channels=2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.1, 0.1, (int(seconds * rate), channels))


def mp4(num_frames=5, rate=10) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=rate)
        stream.width, stream.height = 64, 48
        for i in range(num_frames):
            image = np.full((48, 64, 3), 10 * i % 256, np.uint8)
            image[::2, i % 64 :: 3] = 99
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    return buffer.getvalue()


def sound_only_mp4() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, 'w', format='mp4') as container:
        stream = container.add_stream('aac', rate=48000, layout='stereo')
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), 'fltp', 'stereo')
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def early_index_mp4() -> bytes:
    """An mp4 whose index comes first: what is left of it after a cut still decodes."""
    data = mp4()
    end = data.index(b'mdat') - 4
    length = int.from_bytes(data[end : end + 4], 'big')
    media, index = data[end : end + length], bytearray(data[end + length :])
    place = index.index(b'stco') + 12  # the media's place in the file
    offset = int.from_bytes(index[place : place + 4], 'big') + len(index)
    index[place : place + 4] = offset.to_bytes(4, 'big')
    return data[:end] + index + media


FLAT = noise(channels=1)
BROKEN = {
    'missing sound': ('audio', lambda: None, 'is missing'),
    'missing pictures': ('video', lambda: None, 'is missing'),
    'empty sound': ('audio', lambda: b'', 'is empty'),
    'empty pictures': ('video', lambda: b'', 'is empty'),
    'text for sound': ('audio', lambda: b'<html>404</html>' * 99, 'cannot decode'),
    'text for pictures': ('video', lambda: b'<html>404</html>' * 99, 'cannot decode'),
    'cut sound': ('audio', lambda: wav(noise())[:-1000], 'is cut short'),
    'cut header': ('audio', lambda: wav(noise())[:30], 'is cut short'),
    'cut pictures': ('video', lambda: mp4()[:-100], 'is cut short'),
    'cut pictures after their index': ('video', lambda: early_index_mp4()[:-100], 'is cut short'),
    'no sound track': ('audio', mp4, 'has no sound track'),
    'no picture track': ('video', sound_only_mp4, 'has no picture track'),
    'sound for pictures': ('video', lambda: wav(noise()), 'has no picture track'),
    'silence': ('audio', lambda: wav(0 * noise()), 'is silent'),
    'mono': ('audio', lambda: wav(FLAT), 'is mono'),
    'mono twice': ('audio', lambda: wav(np.repeat(FLAT, 2, axis=1)), 'is mono'),
    'another rate': ('audio', lambda: wav(noise(rate=44100), 44100), '44100 Hz, not at 48000'),
    'no samples': ('audio', lambda: wav(noise(0)), 'no sound samples'),
    'short sound': ('audio', lambda: wav(noise(0.25)), r'lasts 0\.2 s'),
    'short pictures': ('video', lambda: mp4(2, rate=100), r'lasts 0\.5 s'),
}


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(DUMMY, tmp_path / 'tau')


def problems(folder, **options):
    with pytest.raises(clip_reader.BadMedia) as caught:
        clip_reader.read(MediaFiles(folder), CLIP, **OPTIONS | options)
    return caught.value.problems


@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_file_is_named_with_its_reason(folder, kind):
    where, make, expected = BROKEN[kind]
    path = folder / (CLIP.audio if where == 'audio' else CLIP.video)
    path.unlink()
    if (content := make()) is not None:
        path.write_bytes(content)
    ((named, reason),) = problems(folder)
    assert named == (CLIP.audio if where == 'audio' else CLIP.video)
    assert re.search(expected, reason)
    assert '\n' not in reason


@pytest.mark.parametrize('kind', ['empty sound', 'cut sound', 'silence', 'mono', 'cut pictures'])
def test_a_broken_archive_member_is_named_with_its_archive(tmp_path, kind):
    where, make, expected = BROKEN[kind]
    with zipfile.ZipFile(tmp_path / 'TAU.1.zip', 'w') as archive:
        for name in (CLIP.audio, CLIP.video):
            broken = name.startswith(where)
            archive.writestr(f'TAU/{name}', make() if broken else (DUMMY / name).read_bytes())
    ((named, reason),) = problems(tmp_path)
    assert named.startswith(where)
    assert 'TAU.1.zip' in reason
    assert expected in reason


def test_a_member_with_a_wrong_byte_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / 'TAU.1.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in (CLIP.audio, CLIP.video):
            archive.write(DUMMY / name, f'TAU/{name}')
    whole = (tmp_path / 'TAU.1.zip').read_bytes()
    for place in (30 + len(f'TAU/{CLIP.audio}'), 70_000):  # no deflate block begins so; its content
        data = bytearray(whole)
        data[place] = 0xFF if data[place] != 0xFF else 0
        (tmp_path / 'TAU.1.zip').write_bytes(data)
        ((named, reason),) = problems(tmp_path)
        assert named == CLIP.audio
        assert 'fetch the archive again' in reason


def test_a_clip_that_is_too_long_says_what_to_do(folder, monkeypatch):
    monkeypatch.setattr(clip_reader.media.sound, 'MAX_DURATION_S', 0.01)
    ((named, reason),) = problems(folder)
    assert named == CLIP.audio and reason.endswith('Hz; cut it into shorter files')


def test_both_files_of_a_clip_are_named_at_once(folder):
    (folder / CLIP.audio).write_bytes(b'')
    (folder / CLIP.video).unlink()
    assert [name for name, _ in problems(folder)] == [CLIP.audio, CLIP.video]


@pytest.mark.parametrize(
    ('frames', 'seconds'), [('second_centres', 1), ('clip12', 0), ('hou', 0), ('evaluation5', 0)]
)
@pytest.mark.parametrize('length_s', [1, 4, 10])
def test_sound_and_pictures_must_be_equally_long(folder, frames, seconds, length_s):
    options = dict(frames=frames, seconds=bool(seconds))
    (folder / CLIP.video).write_bytes(mp4(round(length_s * 29.97), rate=30))
    (folder / CLIP.audio).write_bytes(wav(noise(length_s, 48000)))
    assert clip_reader.read(MediaFiles(folder), CLIP, **OPTIONS | options)
    (folder / CLIP.audio).write_bytes(wav(noise(length_s * 0.4)))
    assert problems(folder, **options)[0][0] == CLIP.audio
    (folder / CLIP.audio).write_bytes(wav(noise(length_s * 2.5 + 1)))
    assert problems(folder, **options)[0][0] == CLIP.video


def test_a_film_whose_pictures_begin_late_is_no_clip(folder):
    pictures = mp4(300, rate=30)
    (folder / CLIP.audio).write_bytes(wav(noise(10, 48000)))
    (folder / CLIP.video).write_bytes(pictures)
    late = clip_reader.media.Frames(
        np.zeros((8, 8, 8, 3), np.uint8), np.arange(8), 2.5 + np.arange(8), np.arange(10) > 1
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clip_reader.media, 'read_frames', lambda *_, **__: late)
        ((name, reason),) = problems(folder, frames='second_centres', seconds=True)
    assert name == CLIP.video and 'has no picture before 2.5 s' in reason


def test_an_mp4_may_begin_with_its_index(folder):
    (folder / CLIP.video).write_bytes(early_index_mp4())
    assert clip_reader.read(MediaFiles(folder), CLIP, **OPTIONS)


def test_headers_that_cannot_know_their_length_are_let_pass(folder):
    data = bytearray(wav(noise()))
    data[4:8] = b'\xff' * 4  # what ffmpeg writes into a pipe
    (folder / CLIP.audio).write_bytes(data)
    data = bytearray(mp4())
    start = data.index(b'moov') - 4
    data[start : start + 4] = bytes(4)  # the last box goes on to the end of the file
    (folder / CLIP.video).write_bytes(data)
    assert clip_reader.read(MediaFiles(folder), CLIP, **OPTIONS)
