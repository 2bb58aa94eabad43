"""Growing files and pipes, tagged each second by a stand-in that tells loud and light from not."""

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile

from avsc_jax.data import media
from avsc_jax.data.windows import Wants
from avsc_jax.predict import flags, stream_sources
from avsc_jax.predict import stream as live
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.stream_buffer import AHEAD_S, SoundBlock, Tape
from avsc_jax.predict.stream_sources import Raw, Recording

RATE = 8000


class Meter:
    """Loud and light: the mean level of a window's sound, and of its pictures."""

    classes = ('loud', 'light', 'rest')

    def __init__(self, audio=True, frames='second_centres', media=None):
        self._takes = dict(audio=audio, frames=frames, short_side=16, media=media)
        self.seen = []

    def wants(self, window_s=None):
        return Wants(**self._takes, window_s=window_s or 2.5)

    def window_notes(self, window_s):
        return [] if window_s in (2.0, 2.5) else [f'windows of {window_s:g} s']

    def notes(self, record):
        return [] if 'frames' in record or not self._takes['frames'] else ['no picture']

    def answers(self, records, *, without=()):
        (record,) = records
        self.seen.append(record)
        loud = np.abs(record['audio']).mean() if 'audio' in record else 0
        light = np.mean([f.mean() for f in record['frames']]) / 255 if 'frames' in record else 0
        probs = np.array([loud, light, 2 - loud - light]) / 2
        return [Answer(probs, np.zeros(1, np.float32), ())]


def steps(seconds, channels=2):
    """Sound that gets louder each second: 0.1, 0.2 ..."""
    level = 0.1 * (1 + np.arange(int(seconds * RATE)) // RATE)
    return np.repeat(level[:, None], channels, axis=1).astype(np.float32)


def raw(tmp_path, samples, **options):
    (tmp_path / 'sound.raw').write_bytes(samples.astype('<f4').tobytes())
    options = {'rate_hz': RATE, 'channels': samples.shape[1], 'patience_s': 0.0} | options
    return Raw(str(tmp_path / 'sound.raw'), **options)


def follow(tagger, source, **options):
    return list(live.follow(tagger, source, **{'window_s': 2.0, 'smooth_s': 0.0} | options))


def write_video(path, seconds, *, sound=True, options=None):
    """Grey pictures that get lighter each second, 0, 20, 40 ..., with sound as `steps`."""
    with av.open(str(path), 'w', options=options or {}) as container:
        video = container.add_stream('mpeg4', rate=10)
        video.width, video.height, video.pix_fmt = 64, 32, 'yuv420p'
        audio = container.add_stream('aac', rate=RATE, layout='stereo') if sound else None
        for second in range(seconds):
            for _ in range(10):
                image = np.full((32, 64, 3), 20 * second, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
            if sound:
                part = np.ascontiguousarray(steps(seconds)[second * RATE : (second + 1) * RATE].T)
                frame = av.AudioFrame.from_ndarray(part, format='fltp', layout='stereo')
                frame.sample_rate = RATE
                container.mux(audio.encode(frame))
        for stream in (video, audio)[: 1 + sound]:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize('channels', [1, 2])
def test_a_pipe_of_sound_is_tagged_each_second_and_at_its_end(tmp_path, channels):
    tagger = Meter(frames=None)
    found = follow(tagger, raw(tmp_path, steps(3.5, channels)))
    assert [(s.start_s, s.end_s) for s in found] == [(0, 1), (0, 2), (1, 3), (1.5, 3.5)]
    levels = [2 * second.probs[0] for second in found]
    np.testing.assert_allclose(levels, [0.1, 0.15, 0.25, 0.3], rtol=1e-5)
    assert [len(record['audio']) / RATE for record in tagger.seen] == [1, 2, 2, 2]
    assert tagger.seen[-1]['audio'].shape[1] == 2 and tagger.seen[-1]['channels'] == channels
    assert tagger.seen[-1]['sample_rate'] == RATE


def test_the_window_is_that_of_the_training_and_another_is_told(tmp_path):
    found = follow(Meter(), raw(tmp_path, steps(4)), window_s=None)
    assert [(s.start_s, s.end_s) for s in found] == [(0, 1), (0, 2), (0.5, 3), (1.5, 4)]
    assert found[0].notes == ['no picture', 'there is no picture track']
    found = follow(Meter(), raw(tmp_path, steps(4)), window_s=3.0)
    assert found[-1].start_s == 1 and found[-1].notes[:2] == ['windows of 3 s', 'no picture']


def test_probabilities_are_smoothed_by_the_time_that_has_passed(tmp_path):
    plain = [s.probs for s in follow(Meter(frames=None), raw(tmp_path, steps(3.5)))]
    found = [s.probs for s in follow(Meter(frames=None), raw(tmp_path, steps(3.5)), smooth_s=2.0)]
    expected = [plain[0]]
    for now, passed_s in zip(plain[1:], (1, 1, 0.5), strict=True):
        share = np.exp(-passed_s / 2)
        expected.append(share * expected[-1] + (1 - share) * now)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(np.sum(found, axis=1), 1)


@pytest.mark.parametrize('size', [0, 0xFFFFFFFF, 4 * RATE, None])
def test_a_wav_whose_length_is_not_yet_known_is_read_to_its_end(tmp_path, size):
    path = tmp_path / 'a.wav'
    soundfile.write(path, steps(3)[:, :1], RATE, subtype='FLOAT')
    if size is not None:
        data = bytearray(path.read_bytes())
        for place in (4, data.index(b'data') + 4):
            data[place : place + 4] = struct.pack('<I', size)
        path.write_bytes(data)
    tagger = Meter(frames=None)
    found = follow(tagger, Recording(path, 0.0))
    np.testing.assert_allclose([2 * s.probs[0] for s in found], [0.1, 0.15, 0.25], rtol=1e-5)
    assert tagger.seen[0]['channels'] == 1 and tagger.seen[0]['audio'].shape == (RATE, 2)


def test_where_a_file_ends_more_is_awaited_but_not_for_ever(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    stop = threading.Event()
    opened = stream_sources._opened(str(tmp_path / 'a'), 0.4, stop)
    with opened as file, (tmp_path / 'a').open('ab') as out:
        assert file.read(9) == b'abc'
        threading.Timer(0.1, lambda: (out.write(b'def'), out.flush())).start()
        assert file.read(9) == b'def'
        began = time.monotonic()
        assert file.read(9) == b'' and time.monotonic() - began >= 0.4
    stop.set()
    with stream_sources._opened(str(tmp_path / 'a'), 99.0, stop) as file:
        assert file.read(9) == b''


CONTAINERS = {
    'a.mkv': {},
    'a.ts': {},
    'a.mp4': {'movflags': 'frag_keyframe+empty_moov'},
}


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] * (name != 'a.ts')) for name in CONTAINERS]
)
def test_a_growing_video_is_tagged_while_it_grows(tmp_path, name):
    data = write_video(tmp_path / f'whole-{name}', 4, options=CONTAINERS[name]).read_bytes()
    half, path, seen = len(data) * 5 // 8, tmp_path / name, []
    path.write_bytes(data[:half])
    rest = data[half:]
    tagger = Meter()
    for second in live.follow(tagger, Recording(path, 0.5), window_s=2.0, smooth_s=0.0):
        seen.append((second.end_s, len(rest)))
        if second.end_s == 1.0:
            with path.open('ab') as file:
                file.write(rest)
            rest = b''
    ends = [end_s for end_s, _ in seen]
    assert ends[:4] == [1, 2, 3, 4] and ends[-1] < 4.3  # the coder of sound adds a bit
    assert seen[0] == (1.0, len(data) - half)  # said before the file was whole
    np.testing.assert_allclose(
        [r['frames'][0].mean() for r in tagger.seen[:4]], [0, 0, 20, 40], atol=3
    )
    loud = [np.abs(record['audio']).mean() for record in tagger.seen[:4]]
    np.testing.assert_allclose(loud, [0.1, 0.15, 0.25, 0.35], atol=0.05)
    assert [list(record['frame_times']) for record in tagger.seen[1:3]] == [[0.5, 1.5], [1.5, 2.5]]


@pytest.mark.parametrize('late', ['sound', 'pictures'])
def test_a_stream_that_starts_late_stays_where_it_is(tmp_path, late):
    path, first_s = tmp_path / 'a.mkv', {'sound': 0, 'pictures': 0} | {late: 4}
    with av.open(path, 'w') as container:
        video = container.add_stream('mpeg4', rate=10)
        video.width, video.height, video.pix_fmt = 64, 32, 'yuv420p'
        audio = container.add_stream('aac', rate=RATE, layout='stereo')
        packets = []
        for k in range(10 * first_s['pictures'], 60):
            image = np.full((32, 64, 3), 20 * (k // 10), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts = k
            packets += video.encode(frame)
        samples = steps(6)[first_s['sound'] * RATE :].T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), 'fltp', 'stereo')
        frame.sample_rate, frame.pts = RATE, first_s['sound'] * RATE
        packets += [*audio.encode(frame), *video.encode(), *audio.encode()]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    tagger, begun = Meter(), time.monotonic()
    found = follow(tagger, Recording(path, 0.0), window_s=1.0)
    assert time.monotonic() - begun < 3, 'what is missing is not waited for'
    loud = [np.abs(r['audio']).mean() if 'audio' in r else None for r in tagger.seen[:6]]
    light = [r['frames'][0].mean() if 'frames' in r else None for r in tagger.seen[:6]]
    hidden = [None] * first_s['sound'], [None] * first_s['pictures']
    assert loud[: len(hidden[0])] == hidden[0] and light[: len(hidden[1])] == hidden[1]
    expected = 0.1 * np.arange(1, 7)[first_s['sound'] :]
    np.testing.assert_allclose(loud[first_s['sound'] :], expected, atol=0.06)
    expected = 20 * np.arange(6)[first_s['pictures'] :]
    np.testing.assert_allclose(light[first_s['pictures'] :], expected, atol=3)
    assert any(f'no {late.removesuffix("s")} ' in note for note in found[0].notes)


def test_a_picture_is_shown_until_the_next_one_comes(tmp_path):
    path = tmp_path / 'a.mkv'
    with av.open(path, 'w') as container:
        video = container.add_stream('mpeg4', rate=10)
        video.width, video.height, video.pix_fmt = 64, 32, 'yuv420p'
        for k in (*range(20), 70, 71):
            image = np.full((32, 64, 3), 20 * (k // 10), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts = k
            container.mux(video.encode(frame))
        container.mux(video.encode())
    tagger = Meter(audio=False)
    assert [s.end_s for s in follow(tagger, Recording(path, 0.0), window_s=1.0)][:7] == [
        *range(1, 8)
    ]
    levels = [round(float(r['frames'][0].mean()), -1) for r in tagger.seen]
    assert levels == [0, 20, 20, 20, 20, 20, 20, 140]


def test_raw_pictures_come_beside_sound_through_a_pipe_of_their_own(tmp_path):
    pipe = tmp_path / 'frames'
    os.mkfifo(pipe)
    frames = [np.full((24, 32, 3), value, np.uint8) for value in range(30)]

    def write():
        with pipe.open('wb') as file:
            for frame in frames:
                file.write(frame.tobytes())

    writer = threading.Thread(target=write)
    writer.start()
    tagger = Meter()
    source = raw(tmp_path, steps(3), frames=str(pipe), frame_size=(32, 24), frame_rate=10.0)
    found = follow(tagger, source)
    writer.join()
    assert [second.end_s for second in found] == [1, 2, 3]
    assert [len(record['frames']) for record in tagger.seen] == [1, 2, 2]
    assert tagger.seen[0]['frames'][0].shape == (16, 21, 3)  # the short side is 16
    middles = [[f.mean() for f in record['frames']] for record in tagger.seen]
    expected = [[5], [5, 15], [15, 25]]
    assert all(np.allclose(a, b, atol=1.5) for a, b in zip(middles, expected, strict=True))


def test_pictures_that_end_early_leave_the_sound(tmp_path):
    (tmp_path / 'frames').write_bytes(bytes(10 * 24 * 32 * 3))
    tagger = Meter()
    frames = dict(frames=str(tmp_path / 'frames'), frame_size=(32, 24), frame_rate=10.0)
    found = follow(tagger, raw(tmp_path, steps(5), **frames))
    assert [second.end_s for second in found] == [1, 2, 3, 4, 5]
    assert ['frames' in record for record in tagger.seen] == [True, True, False, False, False]
    late = 'there is no picture after 1.0 s'
    assert [second.notes for second in found][:3] == [[], [late], ['no picture', late]]


def test_pictures_of_openl3_come_as_its_network_takes_them(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (30, 240, 320, 3), np.uint8)
    (tmp_path / 'frames').write_bytes(frames.tobytes())
    tagger = Meter(audio=False, frames=None, media='openl3')
    frames = dict(frames=str(tmp_path / 'frames'), frame_size=(320, 240), frame_rate=10.0)
    source = Raw(None, **frames, patience_s=0.0)
    follow(tagger, source)
    last = tagger.seen[-1]
    assert len(last['media_frames']) == len(last['media_times']) == 16  # of two seconds
    assert last['media_frames'][0].shape == (224, 224, 3) and 'frames' not in last
    assert last['media_frames'][0].dtype == np.float32 and last['media_times'][0] == 1.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def tape_of(clock):
    wants = Wants(audio=True, frames=None, short_side=None, media=None, window_s=2.0)
    return Tape(wants, threading.Event(), clock)


def sound(seconds, level=0.1):
    return SoundBlock(np.full((int(seconds * RATE), 2), level, np.float32), RATE, 2)


def test_a_fast_source_waits_for_the_tagger_and_loses_no_second():
    clock, count = Clock(), 0
    tape = tape_of(clock)

    def read(tape):
        nonlocal count
        with tape.track('sound'):
            for _ in range(100):
                tape.add_sound(sound(0.2))
                count += 1

    with tape.recording([read]):
        ends = []
        for end_s, skipped in tape.ends():
            time.sleep(0.01)
            assert not skipped and count * 0.2 <= end_s + AHEAD_S + 0.41
            ends.append(end_s)
            assert len(tape.window(end_s - 2, end_s)['audio']) == RATE * min(2, end_s)
    assert ends == list(range(1, 21))


def test_a_slow_tagger_leaves_seconds_out_and_no_real_time_source_waits():
    clock = Clock()
    tape, go = tape_of(clock), threading.Semaphore(0)

    def read(tape):
        with tape.track('sound'):
            while go.acquire() and clock.now < 30:
                tape.add_sound(sound(1, level=clock.now))

    def advance(seconds):
        for _ in range(seconds):
            end_s, before = clock.now + 1, tape.end_s
            clock.now = end_s
            go.release()
            while tape.end_s == before:
                time.sleep(0.001)

    with tape.recording([read]):
        while tape._began is None:  # the first sound begins the clock
            go.release()
            time.sleep(0.01)
        ends = tape.ends()
        found = [next(ends)]
        for seconds in (1, 1, 17, 1):
            advance(seconds)
            found.append(next(ends))
        window = tape.window(18.0, 20.0)
        assert tape._tracks['sound'].between(0, 1) == [], 'what is old is dropped'
    assert found == [(1, 0), (2, 0), (3, 0), (19, 15), (20, 0)]
    assert window['audio'].shape == (2 * RATE, 2)


def test_a_track_that_falls_silent_is_waited_for_but_not_for_ever():
    clock, wants = Clock(), Wants(True, 'hou', 16, None, window_s=2.0)
    tape, begin, go = Tape(wants, threading.Event(), clock), threading.Event(), threading.Event()
    image = av.VideoFrame.from_ndarray(np.zeros((24, 32, 3), np.uint8), format='rgb24')

    def hear(tape):
        with tape.track('sound'):
            for _ in range(2):
                tape.add_sound(sound(1))
            go.wait()

    def look(tape):
        begin.wait()
        with tape.track('picture'):
            tape.add_picture(0.0, 1.0, image)
            go.wait()

    with tape.recording([hear, look]):
        while tape.end_s < 2:
            time.sleep(0.001)
        assert tape._ready_s() == 0, 'the other one has not begun'
        begin.set()
        ends = tape.ends()
        assert next(ends) == (1, 0)
        assert tape._ready_s() == 1, 'it may still come'
        clock.now = 0.9 * AHEAD_S
        tape.add_sound(sound(1))
        assert tape._ready_s() == 1
        clock.now = 1.1 * AHEAD_S
        assert [next(ends), tape._ready_s()] == [(3, 1), 3]
        go.set()


def test_of_dense_pictures_as_many_are_kept_as_rules_may_pick():
    wants = Wants(False, 'hou', 16, None, window_s=10.0)  # ten of a window
    tape = Tape(wants, threading.Event())
    image = av.VideoFrame.from_ndarray(np.zeros((24, 32, 3), np.uint8), format='rgb24')
    with tape.track('picture'):
        for k in range(300):
            tape.add_picture((k + 200 * (k > 250)) / 100, 1 / 100, image)
        kept = [at_s for at_s, _ in tape._tracks['picture'].between(0, 5)]
    np.testing.assert_allclose(kept, [0, 0.5, 1, 1.5, 2, 2.5, 4.51, 4.76])  # none for two seconds


def test_pictures_whose_times_leap_go_on_where_they_were():
    stream, added = SimpleNamespace(average_rate=10), []
    tape = SimpleNamespace(
        end_s=0.0,
        add_picture=lambda at_s, *_: added.append(round(at_s, 3)),
        go_on=lambda *_: None,
    )
    read = stream_sources._PictureReader(stream, tape, None)
    for time_s in (5.0, 5.1, None, 5.4, 0.0, 0.1, 9000.0, 9000.1, -50.0):
        read(SimpleNamespace(time=time_s))
    assert added == [0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    tape.end_s = 60.0  # the sound has gone on; no picture changed meanwhile
    read(SimpleNamespace(time=10.0))
    assert added[-1] == 60.9


def test_a_damaged_piece_of_a_recording_does_not_end_it(tmp_path):
    data = bytearray(write_video(tmp_path / 'a.mkv', 4).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    (tmp_path / 'a.mkv').write_bytes(data)
    ends = [second.end_s for second in follow(Meter(), Recording(tmp_path / 'a.mkv', 0.0))]
    assert ends[:3] == [1, 2, 3]


def run(tagger, source, capsys, **options):
    code = live.run(tagger, source, window_s=2.0, smooth_s=0.0, **options)
    return code, capsys.readouterr()


def test_lines_and_json_are_written_at_once(tmp_path, capsys):
    out = tmp_path / 'out.jsonl'
    code, told = run(Meter(), raw(tmp_path, steps(2.5)), capsys, jsonl=out, top=2)
    assert code == 0
    assert told.out.splitlines() == [
        '    1.0 s  rest 0.950  loud 0.050',
        '    2.0 s  rest 0.925  loud 0.075',
        '    2.5 s  rest 0.900  loud 0.100',
    ]
    notes = [f'note: {why}, from 1.0 s on' for why in ('no picture', 'there is no picture track')]
    assert told.err.splitlines() == notes  # once
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line['start_s'], line['end_s']) for line in lines] == [(0, 1), (0, 2), (0.5, 2.5)]
    assert lines[0]['scene'] == 'rest' and lines[0]['probs']['loud'] == pytest.approx(0.05)
    assert lines[0]['probs_window'][0] == pytest.approx(0.05) and lines[0]['without'] == []
    with pytest.raises(FileExistsError, match=r'out\.jsonl exists; name a new file'):
        run(Meter(), raw(tmp_path, steps(1)), capsys, jsonl=out)


def test_seconds_that_are_left_out_are_told_once(capsys, monkeypatch):
    answer = Answer(np.array([0.5, 0.25, 0.25]), np.zeros(1, np.float32), ())
    ends = ((1.0, 0), (4.0, 2), (6.0, 1))
    found = [live.Second(0.0, end_s, answer.probs, answer, left, []) for end_s, left in ends]
    monkeypatch.setattr(live, 'follow', lambda *_, **__: iter(found))
    _, told = run(Meter(), None, capsys)
    note = 'note: tagging is slower than a second; some seconds are left out, from 4.0 s on'
    assert told.err.splitlines() == [note]
    assert [line.split()[0] for line in told.out.splitlines()] == ['1.0', '4.0', '6.0']


SCRIPT = """
import sys, numpy as np
sys.path.insert(0, {folder!r})
from test_stream import Meter
from avsc_jax.predict import stream
from avsc_jax.predict.stream_sources import Raw
sys.exit(stream.run(Meter(frames=None), Raw('-', 8000, 2), window_s=2.0))
"""


@pytest.mark.slow
def test_ctrl_c_gives_what_there_is_and_ends_well(tmp_path):
    script = SCRIPT.format(folder=str(Path(__file__).parent))
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([sys.executable, '-c', script], **pipes) as process:
        process.stdin.write(steps(1.5).astype('<f4').tobytes())
        process.stdin.flush()  # and it stays open
        first = process.stdout.readline()
        time.sleep(0.5)  # for the rest to be read
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert first.split()[:2] == [b'1.0', b's'] and rest.split()[1] == b's'
    assert 1.0 < float(rest.split()[0]) <= 1.5  # on a busy machine it has not read all of it yet
    assert process.returncode == 0 and err == b''


MP4 = b'\0\0\0\x14ftypisom\0\0\2\0mp41\0\0\xff\xffmdat' + bytes(9999)  # its index would come last


@pytest.mark.parametrize(
    ('write', 'sentence'),
    [
        (lambda path: None, 'is no file or pipe; name one that is being written'),
        (lambda path: path.touch(), 'cannot follow .*: '),
        (lambda path: path.write_text('no media at all\n' * 99), 'cannot follow .*: Invalid data'),
        (lambda path: path.write_bytes(MP4), 'readable while it grows'),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_sentence(tmp_path, write, sentence):
    path = tmp_path / 'a.bin'
    write(path)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        follow(Meter(), Recording(path, 0.2))


def test_a_file_without_the_wanted_track_is_one_sentence(tmp_path):
    path = write_video(tmp_path / 'a.mkv', 1, sound=False)
    with pytest.raises(ValueError, match=r'a\.mkv has no sound track'):
        follow(Meter(frames=None), Recording(path, 0.0))


@pytest.mark.parametrize(
    ('samples', 'sentence'),
    [
        (np.zeros((0, 2)), 'the source ended before there was anything to tag'),
        (np.full((RATE, 2), 3e38), r'more than 1% of .*f32le.* beyond full scale \(one is 3e.38'),
        (np.full((RATE, 2), np.nan), r'f32le.* has a sample of nan at 0\.000 s'),
    ],
)
def test_broken_raw_sound_is_one_sentence(tmp_path, samples, sentence):
    with pytest.raises(ValueError, match=sentence):
        follow(Meter(frames=None), raw(tmp_path, samples))


def test_peaks_beyond_full_scale_are_clipped_and_told_once(tmp_path):
    samples = steps(3.5)
    samples[RATE + 5 : RATE + 35, 0] = 9.0
    samples[3 * RATE :, 0][:30] = -9.0
    tagger = Meter(frames=None)
    found = follow(tagger, raw(tmp_path, samples))
    assert max(np.abs(record['audio']).max() for record in tagger.seen) == 1
    (note,) = {note for second in found for note in second.notes}
    assert 'beyond full scale and clipped to 1' in note
    assert note in found[-1].notes


def test_what_breaks_late_is_told_after_what_there_was(tmp_path):
    samples = steps(3.5)
    samples[-1] = np.inf
    found = live.follow(Meter(frames=None), raw(tmp_path, samples), window_s=2.0)
    assert [next(found).end_s for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match='has a sample of inf'):
        list(found)


def test_what_breaks_in_a_reader_is_never_a_missing_track():
    class Broken:
        def readers(self, wants):
            return [lambda tape: {}['a track']]

    with pytest.raises(KeyError, match='a track'):
        [*live.follow(Meter(), Broken())]


def test_a_missing_track_is_told(tmp_path):
    soundfile.write(tmp_path / 'a.wav', steps(1), RATE)
    (second,) = live.follow(Meter(), Recording(tmp_path / 'a.wav', 0.0))
    assert 'there is no picture track' in second.notes


def late_film(path):
    """Twelve seconds of sound and pictures, which begin at 8 s, as the source of a live stream."""
    with av.open(str(path), 'w') as out:
        sound = out.add_stream('mp2', rate=16000, layout='mono')
        pictures = out.add_stream('mpeg1video', rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, 'yuv420p'
        packets = []
        for k in range(300):
            frame = av.AudioFrame.from_ndarray(np.full((1, 640), 3000, np.int16), 's16', 'mono')
            frame.sample_rate, frame.pts, frame.time_base = 16000, 640 * k, Fraction(1, 16000)
            packets += sound.encode(frame)
            if k >= 200:
                light = np.full((32, 32, 3), 200, np.uint8)
                picture = av.VideoFrame.from_ndarray(light, format='rgb24')
                picture.pts, picture.time_base = k, Fraction(1, 25)
                packets += pictures.encode(picture)
        packets += sound.encode() + pictures.encode()
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize('ending', ['ts', 'mpg'])
def test_a_track_that_begins_long_after_the_other_is_no_error(tmp_path, ending):
    path = late_film(tmp_path / f'a.{ending}')
    seconds = [*live.follow(Meter(), Recording(path, 0.0))]
    assert len(seconds) >= 12 and all(s.answer.probs[0] > 0.01 for s in seconds)
    seen = [s.answer.probs[1] > 0.2 for s in seconds]
    no_track = 'there is no picture track' in seconds[-1].notes
    assert no_track or seen[:12] == [False] * 9 + [True] * 3


@pytest.mark.parametrize('rule', ['evaluation5', 'openl3'])
def test_late_pictures_are_picked_as_those_of_files(tmp_path, rule):
    stop, wants = threading.Event(), Wants(False, rule, None, None, window_s=4.0)
    tape = Tape(wants, stop)
    image = av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format='rgb24')
    stamps_s = 1.4 + np.arange(13) / 5
    with tape.track('picture'):
        for at_s in stamps_s:
            tape.add_picture(at_s, 0.2, image)
        window = tape.window(0.0, 4.0)
    places, filled = media.Stamps(stamps_s, 4.0, True).pick(rule, 0.0, 4.0)
    np.testing.assert_allclose(window['frame_times'], stamps_s[places], rtol=1e-6)
    np.testing.assert_array_equal(window['frame_filled'], filled)
    assert 0 < filled.sum() < len(filled)


def test_a_model_of_pictures_alone_asks_for_them(tmp_path):
    with pytest.raises(ValueError, match='give what it takes by --frames'):
        follow(Meter(audio=False), raw(tmp_path, steps(1)))


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--follow a.mkv', 'Recording'),
        ('--follow - --rate 48000 --channels 1', 'Raw'),
        ('--frames p --frame_size 796x448', 'Raw'),
        ('--follow -', 'give its --rate'),
        ('--follow - --rate 10', r'--rate is 10; it must be 1000 to 192000 Hz'),
        ('--follow a --frames b --frame_size 2x2', '--rate is None'),
        ('--follow - --rate 8000 --frames b', '--frame_size is None; give the width and height'),
        ('--frames b --frame_size 9000x10', '--frame_size is 9000x10; give'),
        ('--follow - --rate 8000 --frames - --frame_size 2x2', 'both come from -'),
        ('--follow a --smooth_s -1', '--smooth_s is -1, it must be 0'),
        ('--frames b --frame_size 2x2 --frame_rate 0', '--frame_rate is 0; it must be'),
    ],
)
def test_flags_are_checked(line, expected):
    parser = argparse.ArgumentParser()
    flags.add_live(parser)
    args = parser.parse_args(line.split())
    if expected in ('Recording', 'Raw'):
        assert type(live.source_of(args)).__name__ == expected
    else:
        with pytest.raises(ValueError, match=expected):
            live.source_of(args)
