"""Media decoding: exact frames, exact samples, one sentence for what is broken."""

import io
import re
import struct
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax.data import media


def write_video(path, num_frames=75, rate=25, size=(96, 64), codec='libx264', **options):
    """A clip whose frames all differ: a moving texture, and the frame number as brightness."""
    texture = np.random.default_rng(0).integers(0, 255, (size[1] // 4, size[0] // 4, 3))
    texture = texture.repeat(4, 0).repeat(4, 1).astype(np.uint8)
    with av.open(str(path), 'w') as container:
        options = {name.replace('_', '-'): str(value) for name, value in options.items()}
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
        for i in range(num_frames):
            image = np.roll(texture, 2 * i, axis=1)
            image[:16] = 3 * i % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    return path


def every_frame(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format='rgb24') for f in container.decode(video=0)])


def cut(source, path, start_s):
    """Shifts a clip to start earlier; mp4 hides what lies before zero by an edit list."""
    with av.open(str(source)) as old, av.open(str(path), 'w') as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        offset = int(start_s / stream.time_base)
        for packet in old.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - offset,
                    packet.dts - offset,
                    copy,
                )
                new.mux(packet)
    return path


CODINGS = {
    'long groups with B-frames': dict(g=250, bf=3),
    'open groups with B-frames': {'x264-params': 'keyint=10:min-keyint=10:open-gop=1:bframes=3'},
    'short groups': dict(g=5, bf=0),
}


@pytest.mark.parametrize('coding', CODINGS)
@pytest.mark.parametrize('rule', media.FRAME_RULES)
def test_frames_equal_those_of_decoding_everything(tmp_path, coding, rule):
    path = write_video(tmp_path / 'clip.mp4', **CODINGS[coding])
    frames = media.read_frames(path, rule)
    np.testing.assert_array_equal(frames.images, every_frame(path)[frames.index])
    np.testing.assert_allclose(frames.times_s, frames.index / 25, atol=1e-6)


def test_frames_hidden_by_an_edit_list_are_not_counted(tmp_path):
    whole = write_video(tmp_path / 'whole.mp4', g=250, bf=2)
    path = cut(whole, tmp_path / 'cut.mp4', 1.0)
    frames, shown = media.read_frames(path, 'clip12'), every_frame(path)
    assert len(shown) == 50  # what a player shows of 75 frames without the first second
    np.testing.assert_array_equal(frames.index, media.pick_frames('clip12', 50, duration_s=2))
    np.testing.assert_array_equal(frames.images, shown[frames.index])
    assert frames.times_s[0] == pytest.approx(frames.index[0] / 25)


def test_a_container_without_showing_times_gives_the_same_frames(tmp_path):
    path = write_video(tmp_path / 'clip.avi', g=20, bf=3)
    frames = media.read_frames(path, 'clip12')
    np.testing.assert_array_equal(frames.images, every_frame(path)[frames.index])


def test_a_camera_held_upright_gives_upright_pictures(tmp_path):
    path = write_video(tmp_path / 'clip.mp4')
    flat = media.read_frames(path, 'evaluation5').images
    data = bytearray(path.read_bytes())
    matrix = data.index(b'tkhd') + 44  # of the track header; a quarter turn, clockwise
    data[matrix : matrix + 36] = struct.pack(
        '>9i', 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30
    )
    path.write_bytes(data)
    upright = media.read_frames(path, 'evaluation5').images
    np.testing.assert_array_equal(upright, np.rot90(flat, -1, axes=(1, 2)))


def test_only_the_groups_of_pictures_in_demand_are_decoded(tmp_path, monkeypatch):
    path, fed = write_video(tmp_path / 'clip.mp4', num_frames=250, g=5, bf=0), []
    decoded = media.video._decoded

    def counting(codec, packets, **options):
        for frame in decoded(codec, packets, **options):
            fed.append(frame.pts)
            yield frame

    monkeypatch.setattr(media.video, '_decoded', counting)
    media.read_frames(path, 'evaluation5')
    assert len(fed) <= 5 * 5


def test_a_file_object_reads_like_a_path(tmp_path):
    path = write_video(tmp_path / 'clip.mp4')
    one = media.read_frames(path, 'clip12', short_side=32)
    two = media.read_frames(io.BytesIO(path.read_bytes()), 'clip12', short_side=32)
    np.testing.assert_array_equal(one.images, two.images)


def test_short_side_scales_down_and_never_up(tmp_path):
    path = write_video(tmp_path / 'clip.mp4')
    assert media.read_frames(path, 'clip12', short_side=32).images.shape == (12, 32, 48, 3)
    assert media.read_frames(path, 'clip12', short_side=448).images.shape == (12, 64, 96, 3)


def test_each_picture_is_resized_as_it_comes(tmp_path):
    path = write_video(tmp_path / 'clip.mp4')
    seen = []

    def red(image):
        assert image.shape == (64, 96, 3) and image.dtype == np.uint8
        seen.append(len(seen))
        return image[..., :1] / np.float32(255)

    frames = media.read_frames(path, 'openl3', resize=red)  # 26 of three seconds
    whole = media.read_frames(path, 'openl3').images
    np.testing.assert_array_equal(frames.images, whole[..., :1] / np.float32(255))
    assert len(seen) == len(set(frames.index)) == 26


def test_rules_take_the_frames_that_the_papers_name():
    def pick(rule, n, s):
        return media.pick_frames(rule, n, duration_s=s).tolist()

    assert pick('clip12', 300, 10) == [int((k + 0.5) * 300 / 12) for k in range(12)]
    assert pick('evaluation5', 30, 1) == [int((k + 0.5) * 30 / 5) for k in range(5)]
    assert pick('second_centres', 300, 10) == [15 + 30 * k for k in range(10)]
    assert pick('hou', 50, 10) == [2 + 5 * k for k in range(10)]  # frames 2, 7 ... 47 of 5 fps
    assert pick('hou', 100, 1) == [5 + 10 * k for k in range(10)]
    assert pick('openl3', 299, 9.976) == np.linspace(0, 298, 96).astype(int).tolist()
    assert len(pick('openl3', 30, 1)) == 6
    assert len(pick('openl3', 310, 10.3)) == 96
    assert len(pick('second_centres', 299, 9.976)) == 10
    for rule in media.FRAME_RULES:
        assert set(pick(rule, 1, 0.04)) == {0}
        assert max(pick(rule, 40, 4)) < 40
    with pytest.raises(ValueError, match='clip13'):
        media.pick_frames('clip13', 10, duration_s=1)


def test_24_bit_wav_survives_flac_bit_for_bit(tmp_path):
    integers = np.random.default_rng(0).integers(-(2**23), 2**23, (4800, 2), dtype=np.int32)
    integers[:2] = [[-(2**23), 2**23 - 1], [0, -1]]
    path = tmp_path / 'clip.wav'
    soundfile.write(path, integers << 8, 48000, subtype='PCM_24')
    samples, rate = media.read_audio(path)
    assert (rate, media.audio_bit_depth(path), samples.dtype) == (48000, 24, np.float32)
    np.testing.assert_array_equal(samples * 2.0**23, integers)
    data = media.encode_flac(samples, rate, 24)
    np.testing.assert_array_equal(media.decode_flac(data), samples)
    np.testing.assert_array_equal(media.decode_flac(data, 1000, 2000), samples[1000:2000])
    assert media.decode_flac(data, 4700, 9999).shape == (100, 2)
    assert media.decode_flac(data, 9999).shape == (0, 2)


def test_16_bit_mono_is_doubled_and_stays_exact(tmp_path):
    integers = np.arange(-500, 500, dtype=np.int16)
    soundfile.write(tmp_path / 'clip.flac', integers, 44100)
    samples, rate = media.read_audio(tmp_path / 'clip.flac')
    assert (rate, media.audio_bit_depth(tmp_path / 'clip.flac')) == (44100, 16)
    assert media.audio_channels(tmp_path / 'clip.flac') == 1
    np.testing.assert_array_equal(samples * 2**15, np.stack([integers, integers], 1))
    np.testing.assert_array_equal(media.decode_flac(media.encode_flac(samples, rate, 16)), samples)


def test_encode_flac_clips_instead_of_wrapping():
    data = media.encode_flac(np.float32([[1.5, -1.5]]), 48000, 16)
    np.testing.assert_array_equal(media.decode_flac(data), [[1 - 2**-15, -1]])


@pytest.mark.parametrize('channels', [1, 2, 6])
def test_compressed_sound_keeps_level_and_length(tmp_path, channels):
    time_s = np.arange(48000) / 48000
    tone = (0.25 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    layout = {1: 'mono', 2: 'stereo', 6: '5.1'}[channels]
    with av.open(str(tmp_path / 'clip.mka'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=48000, layout=layout)
        block = np.zeros((channels, 48000), np.float32)
        block[:2] = tone
        frame = av.AudioFrame.from_ndarray(
            (block.T.reshape(1, -1) * 2**15).astype(np.int16), format='s16', layout=layout
        )
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert media.audio_channels(tmp_path / 'clip.mka') == channels
    samples, rate = media.read_audio(tmp_path / 'clip.mka')
    assert (rate, samples.shape) == (48000, (48000, 2))
    np.testing.assert_allclose(np.abs(samples).max(0), 0.25, rtol=0.01)


def test_jpeg_round_trip_is_close():
    image = np.full((20, 30, 3), (200, 30, 90), np.uint8)
    assert np.abs(media.decode_jpeg(media.encode_jpeg(image)).astype(int) - image).max() <= 3


def test_truncated_video_is_named(tmp_path):
    data = write_video(tmp_path / 'clip.mkv', 150, g=250).read_bytes()
    broken = tmp_path / 'broken.mkv'
    broken.write_bytes(data[:40] + data[len(data) // 2 :])
    with pytest.raises(ValueError, match=r'broken\.mkv'):
        media.read_frames(broken, 'clip12')


@pytest.mark.parametrize('content', [b'', b'not media at all\n' * 99, bytes(9999)])
def test_files_that_are_no_media_raise_one_sentence(tmp_path, content):
    path = tmp_path / 'bad.mp4'
    path.write_bytes(content)
    for read in (lambda: media.read_frames(path, 'clip12'), lambda: media.read_audio(path)):
        with pytest.raises(ValueError, match=r'bad\.mp4') as caught:
            read()
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'content',
    [
        b"ffconcat version 1.0\nfile 'clip.mp4'\n",
        b'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.mp4\n#EXT-X-ENDLIST\n',
        b'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n',
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        b'1\n00:00:01,000 --> 00:00:02,000\nhello\n\n2\n00:00:03,000 --> 00:00:04,000\nhello\n',
        b'[Script Info]\nScriptType: v4.00+\n',
        'Grüße aus Köln\n'.encode() * 9999,
        'Grüße aus Köln\n'.encode('latin-1'),
    ],
)
@pytest.mark.parametrize('name', ['list.mp4', 'list.mp3', 'list.ts', 'list'])
def test_text_and_lists_of_other_files_are_no_media(tmp_path, name, content):
    write_video(tmp_path / 'clip.mp4', 5)
    (tmp_path / name).write_bytes(content)
    for read in (
        lambda: media.PictureTrack(tmp_path / name),
        lambda: media.SoundTrack(tmp_path / name),
    ):
        with pytest.raises(ValueError, match=f'cannot decode .*{name}: it is no media, but text'):
            read()
    with pytest.raises(ValueError, match='it is no media, but text'):
        media.read_audio(io.BytesIO(content))


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp'])
def test_no_reader_of_numbered_pictures_or_of_other_formats_is_started(tmp_path, suffix):
    image = Image.new('RGB', (64, 64), 'red')
    for number in range(3):
        image.save(tmp_path / f'{number}.{suffix}')
    image.save(tmp_path / f'%d.{suffix}')
    for path in (tmp_path / f'%d.{suffix}', tmp_path / 'film.mp4'):
        path.write_bytes((tmp_path / f'0.{suffix}').read_bytes())
        with pytest.raises(ValueError, match=r'its format is none of those that are read, or it'):
            media.PictureTrack(path)


def test_the_formats_that_are_read_are_known_and_lead_to_no_other_file():
    known = {name for names in av.formats_available for name in names.split(',')}
    read = {*media.CONTAINER_OPTIONS['format_whitelist'].split(',')}
    assert read <= known
    others = 'hls dash concat sdp rtsp rtp sap image2 image2pipe lavfi alsa v4l2 fbdev x11grab tty'
    assert not read & {*others.split(), *(name for name in known if name.endswith('_pipe'))}
    assert media.CONTAINER_OPTIONS['protocol_whitelist'] == 'file'


@pytest.mark.parametrize('content', [b'RIFF', b'fLaC' + bytes(50), b'RIFF' + bytes(99)])
def test_broken_wav_and_flac_raise_one_sentence(tmp_path, content):
    (tmp_path / 'bad.wav').write_bytes(content)
    with pytest.raises(ValueError, match=r'bad\.wav'):
        media.read_audio(tmp_path / 'bad.wav')


def test_missing_tracks_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match='no sound track'):
        media.read_audio(write_video(tmp_path / 'silent.mp4'))
    soundfile.write(tmp_path / 'sound.wav', np.zeros((100, 2)), 48000)
    with pytest.raises(ValueError, match='no picture track'):
        media.read_frames(tmp_path / 'sound.wav', 'clip12')
    soundfile.write(tmp_path / 'none.wav', np.zeros((0, 2)), 48000)
    with pytest.raises(ValueError, match='no sound samples'):
        media.read_audio(tmp_path / 'none.wav')
    with av.open(str(tmp_path / 'none.mka'), 'w') as container:
        container.add_stream('pcm_s16le', rate=48000, layout='stereo')
        container.start_encoding()
    with pytest.raises(ValueError, match=r'none\.mka'):
        media.read_audio(tmp_path / 'none.mka')
    with pytest.raises(FileNotFoundError, match=r'absent\.mp4'):
        media.read_frames(tmp_path / 'absent.mp4', 'clip12')
    with pytest.raises(FileNotFoundError):
        media.read_frames('http://127.0.0.1:9/clip.mp4', 'clip12')


def test_a_name_that_looks_like_a_url_is_still_a_local_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / 'clip.mp4').rename('http:clip.mp4')
    assert len(media.read_frames('http:clip.mp4', 'evaluation5').images) == 5


def test_absurd_sizes_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'clip.mp4')
    monkeypatch.setattr(media.still, 'MAX_SIDE_PX', 80)
    with pytest.raises(ValueError, match='96 x 64'):
        media.read_frames(path, 'clip12')
    monkeypatch.undo()
    for track in (media.video, media.sound):
        monkeypatch.setattr(track, 'MAX_DURATION_S', 2.0)
    with pytest.raises(ValueError, match='limit is 2'):
        media.read_frames(path, 'clip12')
    soundfile.write(tmp_path / 'long.wav', np.zeros((3 * 8000, 1)), 8000)
    with pytest.raises(ValueError, match='24000 samples'):
        media.read_audio(tmp_path / 'long.wav')


@pytest.mark.parametrize(
    ('duration_s', 'is_refused'),
    [(86_399.0, False), (86_400.0, False), (86_400.05, False), (86_420.0, True), (9e9, True)],
)
def test_a_day_is_a_day_also_where_an_encoder_has_padded_it(duration_s, is_refused):
    assert media.source.is_too_long(duration_s, 86_400.0) == is_refused


def test_undecodable_jpeg_is_a_value_error():
    with pytest.raises(ValueError, match='4 bytes'):
        media.decode_jpeg(b'\xff\xd8\xff\xe0')
    whole = media.encode_jpeg(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match='cannot decode'):
        media.decode_jpeg(whole[: len(whole) // 2])


def test_media_imports_neither_tensorflow_nor_jax():
    sources = [path.read_text() for path in Path(media.__file__).parent.glob('*.py')]
    assert len(sources) > 1
    assert not any(re.search(r'(import|from) (tensorflow|jax)', source) for source in sources)


def test_hitachi_takes_twelve_frames_of_a_clip_and_five_of_a_second():
    for duration_s, rule in ((10.0, 'clip12'), (1.0, 'evaluation5')):
        expected = media.pick_frames(rule, 250, duration_s=duration_s)
        np.testing.assert_array_equal(
            media.pick_frames('hitachi', 250, duration_s=duration_s), expected
        )


def test_a_picture_is_resized_as_a_whole():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 200
    resized = media.resize_picture(image, 2, 4)
    np.testing.assert_array_equal(resized[:, 0], 0)
    np.testing.assert_array_equal(resized[:, 3], 200)
    assert resized.shape == (2, 4, 3) and media.resize_picture(image, 4, 8) is image


@pytest.mark.parametrize('num_samples', [500, 8000, 16_000])
def test_a_short_ogg_file_is_as_long_as_it_was_written(num_samples, tmp_path):
    soundfile.write(tmp_path / 'a.ogg', np.full((num_samples, 2), 0.1, np.float32), 16_000)
    track = media.SoundTrack(tmp_path / 'a.ogg')
    assert abs(track.extent.end_s - num_samples / 16_000) < 0.02
    (part,) = track.parts([(0.0, num_samples / 16_000)])
    assert abs(len(part) - num_samples) <= 320


def test_pictures_of_an_unknown_codec_are_one_sentence(tmp_path):
    path = tmp_path / 'a.mp4'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', 8, width=32, height=24, pix_fmt='yuv420p')
        frame = av.VideoFrame.from_ndarray(np.zeros((24, 32, 3), np.uint8))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    assert content.count(b'mp4v') == 1
    path.write_bytes(content.replace(b'mp4v', b'zzzz').replace(b'esds', b'zzzz'))
    with pytest.raises(ValueError, match=r'a\.mp4 has a picture track of unknown kind; convert'):
        media.PictureTrack(path)


def test_tracks_that_come_up_later_end_the_packets_without_an_error():
    class Container:
        def demux(self, *streams):
            for index in (1, 5, 1):
                yield SimpleNamespace(stream_index=index)
            raise IndexError('list index out of range')

    found = media.packets_of(Container(), SimpleNamespace(index=1))
    assert [packet.stream_index for packet in found] == [1, 1]
