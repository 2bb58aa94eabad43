"""Frames of films: every pixel format and every display matrix gives the picture as it is meant."""

import itertools
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from avsc_jax.data import media

SIZE = (32, 16)
RAMP = np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
FLOATS = (RAMP / 255).astype(np.float32)
ALPHA = np.full_like(RAMP, 51)
ON_WHITE = 0.2 * RAMP + 0.8 * 255
NO_COLOUR = np.full((8, 16), 128, np.uint8)


def frame(pixels, *planes):
    """A frame of a pixel format whose planes have these values, row by row."""
    made = av.VideoFrame(*SIZE, pixels)
    for plane, values in zip(made.planes, planes, strict=True):
        rows = np.ascontiguousarray(values).view(np.uint8).reshape(plane.height, -1)
        width = plane.line_size - rows.shape[1]
        plane.update(np.pad(rows, ((0, 0), (0, width))).tobytes())
    return made


def indexed(alpha):
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    palette[:, 0] = alpha  # ARGB
    return av.VideoFrame.from_ndarray((RAMP, palette), format='pal8')


def wide(bits, kind='<u2'):
    return np.round(FLOATS * (2**bits - 1)).astype(kind)


@pytest.mark.parametrize(
    ('made', 'levels', 'tolerance'),
    [
        (frame('gray', RAMP), RAMP, 0),
        (frame('gray10le', wide(10)), RAMP, 1),
        (frame('gray12be', wide(12, '>u2')), RAMP, 1),
        (frame('gray14le', wide(14)), RAMP, 1),
        (frame('gray16le', wide(16)), RAMP, 1),
        (frame('gray16be', wide(16, '>u2')), RAMP, 1),
        (frame('grayf32le', FLOATS), RAMP, 0),
        (frame('grayf32be', FLOATS.astype('>f4')), RAMP, 0),
        (frame('gbrpf32le', *[FLOATS] * 3), RAMP, 0),
        (frame('gbrapf32le', *[FLOATS] * 3, FLOATS * 0 + np.float32(0.2)), ON_WHITE, 1),
        (frame('gbrp10le', *[wide(10)] * 3), RAMP, 1),
        (frame('rgb48be', np.repeat(wide(16, '>u2'), 3, axis=1)), RAMP, 1),
        (frame('rgb555be', (wide(5) * 1057).astype('>u2')), RAMP, 10),
        (frame('rgb565be', (wide(5) * 2113).astype('>u2')), RAMP, 10),
        (frame('ya8', np.stack([RAMP, ALPHA], -1)), ON_WHITE, 1),
        (frame('ya16le', np.stack([wide(16), ALPHA * np.uint16(257)], -1)), ON_WHITE, 2),
        (frame('bgra', np.stack([RAMP] * 3 + [ALPHA], -1)), ON_WHITE, 1),
        (frame('yuva420p', RAMP, NO_COLOUR, NO_COLOUR, 0 * ALPHA), 0 * RAMP + 255, 0),
        (indexed(255), RAMP, 0),
        (indexed(51), ON_WHITE, 1),
    ],
    ids=lambda value: value.format.name if isinstance(value, av.VideoFrame) else '',
)
def test_pixels_of_a_format_become_rgb(made, levels, tolerance):
    image = media.rgb(made, SIZE)
    assert image.dtype == np.uint8 and image.shape == (16, 32, 3)
    assert np.abs(image - levels[..., None].astype(float)).max() <= tolerance


@pytest.mark.parametrize(
    ('made', 'reason'),
    [
        (frame('grayf32le', 255 * FLOATS), 'grayf32le holds floats from 0 to 255; save it with'),
        (frame('gbrpf32le', *[FLOATS * np.nan] * 3), 'gbrpf32le holds floats from nan to nan'),
        (frame('yaf32le', np.repeat(FLOATS, 2, 1)), 'pixel format yaf32le cannot be read'),
    ],
    ids=['levels', 'nan', 'unknown'],
)
def test_pixels_without_a_known_white_are_one_sentence(made, reason):
    with pytest.raises(ValueError, match=reason):
        media.rgb(made, SIZE)


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    """One picture whose four quarters differ, in an mp4 and a mov file."""
    folder = tmp_path_factory.mktemp('film')
    image = np.kron(np.array([[20, 90], [160, 230]]), np.ones((32, 48))).astype(np.uint8)
    for name in ('a.mp4', 'a.mov'):
        with av.open(folder / name, 'w') as container:
            stream = container.add_stream('libx264', rate=10, options={'crf': '1'})
            stream.width, stream.height, stream.pix_fmt = 96, 64, 'yuv420p'
            made = av.VideoFrame.from_ndarray(np.repeat(image[..., None], 3, -1))
            container.mux([*stream.encode(made), *stream.encode()])
    return folder


@pytest.mark.parametrize('name', ['a.mp4', 'a.mov'])
@pytest.mark.parametrize(
    ('a', 'b', 'c', 'd'),
    [(x, 0, 0, y) for x, y in itertools.product((1, -1), repeat=2)]
    + [(0, x, y, 0) for x, y in itertools.product((1, -1), repeat=2)]
    + [(0, 0, 0, 0)],
)
def test_a_film_is_turned_and_mirrored_by_its_display_matrix(film, tmp_path, name, a, b, c, d):
    data = bytearray((film / name).read_bytes())
    start = data.index(b'tkhd') + 44
    numbers = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[start : start + 36] = struct.pack('>9i', *numbers)
    (tmp_path / name).write_bytes(data)
    (image,) = media.read_frames(tmp_path / name, 'evaluation5').images[:1, ..., 0]
    expected = {(-1, -1): 20, (1, -1): 90, (-1, 1): 160, (1, 1): 230}  # by place from the middle
    if not (a or b or c or d):  # it says nothing
        a = d = 1
    assert image.shape == ((64, 96) if a else (96, 64))
    for (x, y), level in expected.items():
        right, down = a * x + c * y, b * x + d * y  # QuickTime File Format, "Matrices"
        quarter = np.split(np.split(image, 2)[down > 0], 2, axis=1)[right > 0]
        assert np.abs(quarter[8:-8, 8:-8].astype(int) - level).max() <= 3


def test_frames_leave_no_threads_behind():
    made = [frame('yuv420p', RAMP, NO_COLOUR, NO_COLOUR), frame('bgra', np.stack([RAMP] * 4, -1))]

    def threads():
        return len([*Path('/proc/self/task').iterdir()])

    before = threads()
    kept = [(one, media.rgb(one, (16, 8))) for one in made]
    assert threads() == before and len(kept) == 2
