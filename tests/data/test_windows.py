"""Windows of files of any length; what is broken is told where it is broken, and only there."""

import dataclasses
import itertools
import os
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax.data import media, windows
from avsc_jax.data.windows import Wants

BOTH = Wants(audio=True, frames='evaluation5', short_side=None, media=None, window_s=1.0)
PICTURES = Wants(audio=False, frames='evaluation5', short_side=None, media=None, window_s=1.0)
SPAN = {'start_s', 'end_s', 'num_windows', 'missing', 'partly'}
SOUND = Wants(audio=True, frames=None, short_side=None, media=None, window_s=1.0)


def film(path, picture_s=2.6, sound_s=None, *, size=(64, 48), **options):
    """Ten pictures a second, each lighter by 8 than the one before, in groups of 4; and a chirp."""
    with av.open(path, 'w', options=options) as container:
        streams = []
        if picture_s:
            pictures = container.add_stream('libx264', rate=10, options={'g': '4', 'crf': '5'})
            pictures.width, pictures.height, pictures.pix_fmt = *size, 'yuv420p'
            shape = (*size[::-1], 3)
            shown = (
                np.full(shape, 20 + 8 * k % 220, np.uint8) for k in range(round(10 * picture_s))
            )
            streams.append((pictures, (av.VideoFrame.from_ndarray(image) for image in shown)))
        if sound_s is None or sound_s:
            rate = 44100
            sound = container.add_stream('aac', rate=rate, layout='stereo')
            length = round(rate * (sound_s or picture_s))
            time_s = np.arange(length, dtype=np.float32) / rate
            chirp = 0.3 * np.sin(2 * np.pi * (300 + 200 * time_s) * time_s)
            frame = av.AudioFrame.from_ndarray(np.stack([chirp] * 2), 'fltp', 'stereo')
            frame.sample_rate = rate
            streams.append((sound, [frame]))
        for stream, frames in streams:
            for packet in itertools.chain(*map(stream.encode, [*frames, None])):
                container.mux(packet)
    return path


def spoil(path, kind, first_s, end_s):
    """Overwrites the packets of a kind of stream that belong to a time."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(**{kind: 0}):
            if packet.size and first_s <= packet.pts * packet.time_base < end_s:
                data[packet.pos : packet.pos + packet.size] = b'\xff' * packet.size
    path.write_bytes(data)
    return path


def read(path, wants=BOTH, **options):
    return list(windows.read(path, wants, **options))


def spans(found):
    return [(round(w['start_s'], 2), round(w['end_s'], 2)) for w in found]


@pytest.mark.parametrize(
    ('duration_s', 'starts'),
    [
        (10.0, [0]),
        (9.7, [0]),
        (0.2, [0]),
        (14.9, [0]),
        (15.0, [0, 5]),
        (20.02, [0, 10]),
        (25.0, [0, 10, 15]),
        (36.0, [0, 10, 20, 26]),
    ],
)
def test_windows_stand_side_by_side_and_the_last_ends_with_the_file(duration_s, starts):
    assert media.window_starts(duration_s, 10.0, duration_s) == pytest.approx(starts)


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi', 'a.ts'])
def test_windows_hold_the_sound_and_the_frames_of_their_time(tmp_path, name):
    path = film(tmp_path / name)
    found = read(path)
    assert spans(found)[:2] == [(0, 1), (1, 2)]
    assert spans(found)[2] == pytest.approx((1.6, 2.6), abs=0.06)  # packets are longer than sound
    sound, rate = media.read_audio(path)
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    for window in found:
        assert window['missing'] == {} and window['audio'].dtype == np.float32
        start = round(window['start_s'] * rate)
        expected = sound[start : start + rate]
        np.testing.assert_array_equal(window['audio'], expected)
        assert len(expected) > 0.9 * rate and (window['sample_rate'], window['channels']) == (
            rate,
            2,
        )
        first = int(np.ceil(10 * window['start_s'] - 1e-3))
        count = min(10, 26 - first)
        places = first + media.pick_frames('evaluation5', count, duration_s=1)
        np.testing.assert_allclose(window['frame_times'], places / 10, atol=0.002)
        np.testing.assert_array_equal(window['frames'], [shown[i] for i in places])


@pytest.mark.parametrize('rule', media.FRAME_RULES)
def test_a_file_no_longer_than_a_window_is_read_as_a_whole(tmp_path, rule):
    path = film(tmp_path / 'a.mp4', 2.3)
    (window,) = read(path, Wants(True, rule, 32, None))
    whole = media.read_frames(path, rule, short_side=32)
    np.testing.assert_array_equal(window['frames'], whole.images)
    np.testing.assert_array_equal(window['frame_times'], whole.times_s)
    np.testing.assert_array_equal(window['audio'], media.read_audio(path)[0])
    assert spans([window])[0] == pytest.approx((0, 2.3), abs=0.06)


def test_the_longer_track_tells_how_many_windows_there_are(tmp_path):
    long_sound = read(film(tmp_path / 'a.mkv', 1.0, 3.0))
    assert [[*w['missing']] for w in long_sound] == [[], ['picture'], ['picture']]
    assert f'{tmp_path / "a.mkv"} has no picture after 1.0 s' == long_sound[1]['missing']['picture']
    assert 'frames' not in long_sound[1] and len(long_sound[1]['audio']) == 44100
    long_film = read(film(tmp_path / 'b.mkv', 3.0, 1.7))
    assert [[*w['missing']] for w in long_film] == [[], [], ['sound']]
    assert len(long_film[1]['audio']) == 44100 and not long_film[1]['audio'][33075:].any()
    assert 'no sound after 1.7 s' in long_film[1]['partly']['sound']
    assert {'audio', 'sample_rate', 'channels'}.isdisjoint(long_film[2])
    short_film = film(tmp_path / 'c.mkv', 1.7, 2.0)
    found = read(short_film, Wants(True, 'openl3', None, None, window_s=1.0))
    assert [len(w['frames']) for w in found] == [6, 3]  # round(10 * seconds) - 4


def test_a_window_that_is_there_by_rounding_alone_is_none(tmp_path):
    path = film(tmp_path / 'a.mkv', 1.5, 1.46)
    wants = Wants(True, 'evaluation5', None, None, window_s=1.0)
    assert spans(read(path, wants)) == [(0, 1)]
    assert spans(read(path, PICTURES)) == [(0, 1), (0.5, 1.5)]
    (tmp_path / 'b').mkdir()
    apart = read(film(tmp_path / 'b/a.mkv', 1.6, 1.3), wants)
    assert [[*w['missing']] for w in apart] == [[], []]  # the second has 0.7 s of sound


def test_only_the_tracks_that_are_wanted_are_opened(tmp_path, monkeypatch):
    path = film(tmp_path / 'a.mp4', 1.0)
    monkeypatch.setattr(media, 'PictureTrack', None)
    (window,) = read(path, SOUND)
    assert {*window} == SPAN | {'audio', 'sample_rate', 'channels'}
    monkeypatch.undo()
    monkeypatch.setattr(media, 'SoundTrack', None)
    (window,) = read(path, PICTURES)
    assert {*window} == SPAN | {'frames', 'frame_times', 'frame_filled'}


def test_a_missing_track_is_told_and_the_other_one_goes_on(tmp_path):
    silent, dark = film(tmp_path / 'a.mp4', 2.0, 0), film(tmp_path / 'b.mp4', 0, 2.0)
    assert [w['missing'] for w in read(silent)] == [{'sound': f'{silent} has no sound track'}] * 2
    assert [w['missing'] for w in read(dark)] == [{'picture': f'{dark} has no picture track'}] * 2
    with pytest.raises(ValueError, match=r'a\.mp4 has no sound track'):
        read(silent, SOUND)
    with pytest.raises(ValueError, match=r'b\.mp4 has no picture track'):
        read(dark, PICTURES)


def test_a_still_is_one_window_with_one_frame(tmp_path):
    Image.fromarray(np.full((250, 300, 3), 9, np.uint8)).save(tmp_path / 'a.png')
    wants = Wants(True, 'clip12', 100, 'openl3')
    (window,) = read(tmp_path / 'a.png', wants)
    assert [frame.shape for frame in window['frames']] == [(100, 120, 3)]
    assert [frame.shape for frame in window['media_frames']] == [(224, 224, 3)]
    assert (window['frame_times'], window['media_times']) == ([0.0], [0.0])
    assert 'still picture' in window['missing']['sound'] and (window['end_s'] == 0)
    assert 'num_pictures' not in window
    with pytest.raises(ValueError, match='still picture'):
        read(tmp_path / 'a.png', SOUND)
    (tmp_path / 'b.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'b\.png'):
        read(tmp_path / 'b.png', wants)


def test_openl3_pictures_come_of_the_same_pass_as_the_frames(tmp_path):
    path = film(tmp_path / 'a.mkv', 1.6, 0, size=(320, 240))
    wants = Wants(False, 'evaluation5', 120, 'openl3', window_s=1.0)
    found = read(path, wants)
    alone = read(path, Wants(False, None, None, 'openl3', window_s=1.0))
    for window, other in zip(found, alone, strict=True):
        assert [frame.shape for frame in window['frames']] == [(120, 160, 3)] * 5
        assert len(window['media_frames']) == len(window['media_times']) == 6
        np.testing.assert_array_equal(window['media_frames'], other['media_frames'])
    frames = read(path, Wants(False, 'openl3', None, None, window_s=1.0))[1]['frames']
    expected = [media.openl3_pictures(frame, 224) for frame in frames]
    np.testing.assert_array_equal(found[1]['media_frames'], expected)
    small = film(tmp_path / 'b.mkv', 1.0)
    (window,) = read(small, Wants(True, None, None, 'openl3'))
    assert '224 or more' in window['missing']['picture'] and 'audio' in window


SOUND_FILES = {'a.wav': None, 'a.flac': None, 'a.aiff': None, 'rf64.wav': 'RF64', 'a.ogg': 'OGG'}


@pytest.mark.parametrize('name', ['a.mp4', 'front.mp4', 'a.mkv', 'a.avi', *SOUND_FILES])
def test_a_file_that_is_cut_short_is_broken_and_not_short(tmp_path, name):
    path = tmp_path / name
    if name in SOUND_FILES:
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (8000, 2))
        soundfile.write(path, noise, 8000, format=SOUND_FILES[name])
    else:
        film(path, 1.0, **({'movflags': 'faststart'} if name == 'front.mp4' else {}))
    assert len(read(path, SOUND)) == 1
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    for wants in (SOUND, BOTH):
        with pytest.raises(ValueError, match=rf'{path}.*cut short'):
            read(path, wants)


@pytest.mark.parametrize('content', [b'', b'not media at all\n' * 99, bytes(9999)])
def test_what_is_no_media_is_one_sentence(tmp_path, content):
    (tmp_path / 'a.mp4').write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.mp4') as caught:
        read(tmp_path / 'a.mp4')
    assert str(caught.value).count('a.mp4') == 1 and '\n' not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r'b\.mp4'):
        read(tmp_path / 'b.mp4')


def test_damaged_sound_is_missing_where_it_is_damaged_and_keeps_its_place(tmp_path):
    whole = read(film(tmp_path / 'a.mp4', 4.0))
    found = read(spoil(film(tmp_path / 'b.mp4', 4.0), 'audio', 1, 2))
    assert [[*w['missing']] for w in found] == [[], ['sound'], [], []]
    assert 'its sound has a gap at 1.0 s of 4.' in found[1]['missing']['sound']
    assert len(found[1]['frames']) == 5
    np.testing.assert_allclose(found[3]['audio'], whole[3]['audio'], atol=1e-3)
    ends = read(spoil(film(tmp_path / 'c.mp4', 4.0), 'audio', 2, 9))
    assert [[*w['missing']] for w in ends] == [[], [], ['sound'], ['sound']]


def test_sound_keeps_to_its_time_stamps(tmp_path):
    whole, gap = film(tmp_path / 'a.mp4', 0, 4.0), tmp_path / 'b.mkv'
    with av.open(whole) as old, av.open(gap, 'w') as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(audio=0):
            time_s = packet.pts * packet.time_base if packet.size else 1
            if not 1 <= time_s < 2:
                packet.stream = copy
                new.mux(packet)
    before, found = read(whole, SOUND), read(gap, SOUND)
    assert [round(w['start_s'], 1) for w in found] == [0, 2, 3], "nothing of a recorder's pause"
    assert found[0]['partly'] == {'sound': f'{gap} has no sound from 1.0 to 2.0 s'}
    for k in (0, 3):  # the chirp tells the time
        heard, expected = (next(w for w in of if w['start_s'] == k) for of in (found, before))
        assert pitch(heard['audio']) == pytest.approx(pitch(expected['audio']), rel=0.01)
    wide = read(gap, dataclasses.replace(SOUND, window_s=4.0))[0]
    assert np.abs(wide['audio'][46148:86000]).max() == 0 and wide['partly'] and wide['audio'].any()
    twice = tmp_path / 'c.ts'
    once = film(tmp_path / 'd.ts', 0, 2.0).read_bytes()
    twice.write_bytes(once + once)
    assert [len(w['audio']) for w in read(twice, SOUND)] == [44100] * 4  # stamps begin anew


def pitch(audio):
    return np.count_nonzero(np.diff(np.signbit(audio[:40000, 0])))


def test_damaged_pictures_are_missing_where_they_are_damaged(tmp_path):
    whole = read(film(tmp_path / 'a.mp4', 4.0))
    found = read(spoil(film(tmp_path / 'b.mp4', 4.0), 'video', 1.2, 2))
    assert [[*w['missing']] for w in found] == [[], ['picture'], [], []]
    assert 'no picture at 1.' in found[1]['missing']['picture'] and 'audio' in found[1]
    np.testing.assert_array_equal(found[3]['frames'], whole[3]['frames'])
    ends = read(spoil(film(tmp_path / 'c.mp4', 4.0), 'video', 2, 9))
    assert [[*w['missing']] for w in ends] == [[], [], ['picture'], ['picture']]


def test_a_picture_that_does_not_come_is_not_waited_for(tmp_path, monkeypatch):
    path, given, decoded = film(tmp_path / 'a.mkv', 5.0, 0), [], media.video._decoded

    def lossy(*args, **options):
        for frame in decoded(*args, **options):
            given.append(frame.time)
            if not 1.2 <= frame.time < 2:
                yield frame

    monkeypatch.setattr(media.video, '_decoded', lossy)
    found = windows.read(path, Wants(True, 'evaluation5', None, None, window_s=1.0))
    next(found)
    with pytest.raises(ValueError, match=r'no picture at 1\.30 s'):
        next(found)
    assert max(given) < 4


def test_where_both_are_damaged_is_the_end(tmp_path):
    path = spoil(film(tmp_path / 'a.mp4', 4.0), 'video', 2, 9)
    found = windows.read(path, PICTURES)
    assert [next(found)['start_s'] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=r'no picture at 2\.\d\d s'):
        next(found)


def test_a_length_that_a_header_only_claims_is_an_error(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (16000, 2))
    soundfile.write(tmp_path / 'a.flac', noise, 8000)
    data = bytearray((tmp_path / 'a.flac').read_bytes())
    data[22:26] = (60 * 8000).to_bytes(4, 'big')  # samples in all, in place of 16000
    (tmp_path / 'a.flac').write_bytes(data)
    with pytest.raises(ValueError, match=r'a\.flac is cut short: .* 480000 samples'):
        read(tmp_path / 'a.flac', SOUND)
    with pytest.raises(ValueError, match='limits are 30 s'):
        read(tmp_path / 'a.flac', SOUND, max_duration_s=30)


def test_two_pictures_that_claim_a_day_are_one_error_and_not_thousands_of_windows(tmp_path):
    path = tmp_path / 'day.mkv'
    with av.open(path, 'w') as container:
        stream = container.add_stream('mjpeg', rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuvj420p'
        for k, at_s in enumerate((0, 1, 40_000, 80_000)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 50 * k, np.uint8))
            frame.pts, frame.time_base = at_s, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(
        ValueError, match=r'day\.mkv claims to show one picture for 40000 s; the limit'
    ):
        read(path, PICTURES)
    with pytest.raises(
        ValueError, match=r'lasts 80001 s; the limit is 7200; cut it; predict takes'
    ):
        read(path, PICTURES, max_duration_s=7200.0)


@pytest.mark.parametrize('change', ['grows', 'is replaced', 'vanishes'])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, change):
    path = tmp_path / 'a.wav'
    soundfile.write(path, np.zeros((24_000, 1)), 8000)
    parts = windows.read(path, SOUND)
    next(parts)
    if change == 'grows':
        with path.open('ab') as file:
            file.write(b'more')
    elif change == 'is replaced':
        soundfile.write(tmp_path / 'b.wav', np.ones((24_000, 1)), 8000)
        (tmp_path / 'b.wav').replace(path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r'a\.wav has changed while it was read; give the command'):
        list(parts)


def test_absurd_sizes_and_lengths_are_refused(tmp_path, monkeypatch):
    path = film(tmp_path / 'a.mkv', 3.0)
    with pytest.raises(ValueError, match='lasts 3 s; the limit is 2'):
        read(path, PICTURES, max_duration_s=2)
    assert len(read(path, PICTURES, max_duration_s=3.0)) == 3
    monkeypatch.setattr(media.still, 'MAX_SIDE_PX', 60)
    assert all('64 x 48' in w['missing']['picture'] for w in read(path))


@pytest.mark.parametrize(
    ('codec', 'pixels'),
    [
        ('ffv1', 'yuv444p10le'),
        ('ffv1', 'gray'),
        ('ffv1', 'bgra'),
        ('ffv1', 'yuv410p'),
        ('png', 'pal8'),
        ('png', 'gray16be'),
    ],
)
def test_odd_pixels_become_rgb(tmp_path, codec, pixels):
    grey, palette = np.full((48, 64), 100, np.uint8), np.arange(256, dtype=np.uint8)
    if pixels == 'pal8':
        palette = np.stack([np.full(256, 255, np.uint8), *[palette] * 3], axis=1)
        frame = av.VideoFrame.from_ndarray((grey, palette), format='pal8')
    else:
        frame = av.VideoFrame.from_ndarray(grey, format='gray').reformat(format=pixels)
    with av.open(tmp_path / 'a.nut', 'w') as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for _ in range(10):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (window,) = read(tmp_path / 'a.nut', PICTURES)
    assert window['frames'][0].shape == (48, 64, 3)
    assert np.abs(window['frames'][0].astype(int) - 100).max() <= 2


def test_a_picture_stays_until_the_next_one_comes(tmp_path):
    with av.open(tmp_path / 'a.mkv', 'w') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, pts in enumerate((0, 100, 130, 500, 2700, 3500, 3900)):
            image = np.full((48, 64, 3), 30 * (k + 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = read(tmp_path / 'a.mkv', PICTURES)
    levels = [[round(frame.mean() / 30) for frame in w['frames']] for w in found]
    assert levels[0] == [2, 3, 4, 4, 4] and levels[1] == [4] * 5 and levels[2] == [4, 4, 4, 5, 5]


def test_one_picture_is_a_short_film(tmp_path):
    (window,) = read(film(tmp_path / 'a.mkv', 0.1, 0), PICTURES)
    assert len(window['frames']) == 5 and spans([window]) == [(0, 0.1)]
    (window,) = read(film(tmp_path / 'b.mkv', 0.1, 1.0))
    assert 'has no picture after 0.1 s' in window['missing']['picture']


def test_telephone_sound_is_doubled_and_stays_exact(tmp_path):
    integers = np.arange(-6000, 6000, dtype=np.int16)
    soundfile.write(tmp_path / 'a.wav', integers, 8000)
    one, two = read(tmp_path / 'a.wav', SOUND)
    assert (one['sample_rate'], one['channels']) == (8000, 1)
    np.testing.assert_array_equal(one['audio'] * 2**15, np.stack([integers[:8000]] * 2, 1))
    np.testing.assert_array_equal(two['audio'] * 2**15, np.stack([integers[4000:]] * 2, 1))


def test_a_wav_in_which_libsndfile_cannot_seek_is_read_by_ffmpeg(tmp_path):
    tone = 0.3 * np.sin(np.arange(8000) / 3)
    soundfile.write(tmp_path / 'a.wav', tone, 8000, subtype='GSM610')
    (window,) = read(tmp_path / 'a.wav', SOUND)
    assert np.corrcoef(window['audio'][:, 0], tone[: len(window['audio'])])[0, 1] > 0.9


@pytest.mark.parametrize('ending', ['wav', 'mkv'])
def test_a_name_that_is_not_utf_8_is_read(tmp_path, ending):
    path = tmp_path / os.fsdecode(b'caf\xe9.' + ending.encode())
    path.write_bytes(film(tmp_path / 'a.mkv', 0.5).read_bytes())
    if ending == 'wav':
        soundfile.write(tmp_path / 'b.wav', np.full(8000, 0.1), 8000)
        path.write_bytes((tmp_path / 'b.wav').read_bytes())
    (window,) = read(path, SOUND)
    assert len(window['audio'])


def test_a_window_comes_before_the_next_one_is_decoded(tmp_path, monkeypatch):
    path, given = film(tmp_path / 'a.mkv', 4.0), []
    decoded, blocks = media.video._decoded, media.sound._sound_blocks
    monkeypatch.setattr(
        media.video, '_decoded', lambda *a, **k: map(note(given, 'v'), decoded(*a, **k))
    )
    monkeypatch.setattr(
        media.sound, '_sound_blocks', lambda *a, **k: map(note(given, 'a'), blocks(*a, **k))
    )
    found = windows.read(path, BOTH)
    next(found)
    assert given.count('v') <= 12 and given.count('a') <= 1 + 44100 // 1024
    assert len([*found]) == 3 and given.count('v') <= 44


def note(given, what):
    return lambda found: given.append(what) or found


def test_the_cover_of_an_album_is_no_picture_track(tmp_path):
    with av.open(tmp_path / 'a.m4a', 'w', format='mp4') as container:
        sound = container.add_stream('aac', rate=8000, layout='mono')
        cover = container.add_stream('mjpeg', rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, 'yuvj420p'
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), 'fltp', 'mono')
        frame.sample_rate = 8000
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
        for stream, one in ((cover, picture), (sound, frame)):
            for packet in itertools.chain(stream.encode(one), stream.encode()):
                container.mux(packet)
    (window,) = read(tmp_path / 'a.m4a')
    assert window['missing']['picture'].endswith('has no picture track')


def test_a_title_may_be_in_any_encoding(tmp_path):
    path = film(tmp_path / 'a.mkv', 1.0)
    path.write_bytes(path.read_bytes().replace(b'Lavf', b'\xe9avf'))
    assert len(read(path)) == 1


def test_wants_survive_json():
    wants = Wants(True, 'clip12', 448, 'openl3', 224, 5.0)
    assert Wants.from_json(wants.to_json()) == wants
