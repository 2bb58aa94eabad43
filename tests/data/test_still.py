"""Still pictures: whatever colours and container a file has, it is read as what it shows."""

import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from avsc_jax.data import media
from avsc_jax.data.media import still

RAMP = np.tile(np.arange(0, 256, 17, dtype=np.uint8), (4, 1))  # all 16 greys that 4 bits have
LEVELS = RAMP.astype(int) // 17
WIDE = RAMP.astype(np.uint16) * 257
LESS = np.maximum(WIDE, 1) - 1  # its high and low bytes differ
ALPHA = np.full_like(RAMP, 51)  # a fifth of 255
ON_WHITE = 0.2 * RAMP + 0.8 * 255
HIDDEN = np.where(RAMP == 85, 255, RAMP)  # grey 85, level 5, is transparent


def pillow(image, kind, **options):
    """The bytes of an image, or of an array, as Pillow writes them."""
    image, file = Image.fromarray(image) if isinstance(image, np.ndarray) else image, io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette(mode='P'):
    image = Image.fromarray(RAMP, 'L').convert('P')
    image.putpalette([level for level in range(256) for _ in range(3)])
    if mode == 'PA':
        image = image.convert('PA')
        image.putalpha(Image.fromarray(ALPHA))
    return image


def tiff(values, bits, *, photometric=1, format_=1, samples=1, extra=()):
    """A TIFF of one strip, big-endian if its values are; Pillow writes few of its kinds."""
    order = '>' if values.dtype.byteorder == '>' else '<'
    tags = [
        (256, [RAMP.shape[1]]), (257, [RAMP.shape[0]]), (258, [bits] * samples), (259, [1]),
        (262, [photometric]), (273, [256]), (277, [samples]), (278, [RAMP.shape[0]]),
        (279, [values.nbytes]), *[(338, extra)] * bool(extra), (339, [format_] * samples),
    ]  # fmt: skip
    data = {'<': b'II', '>': b'MM'}[order] + struct.pack(f'{order}HIH', 42, 8, len(tags))
    long = b''
    for tag, numbers in tags:
        cell = struct.pack(f'{order}{len(numbers)}H', *numbers)
        if len(cell) > 4:
            long, cell = long + cell, struct.pack(f'{order}I', 200 + len(long))
        data += struct.pack(f'{order}HHI', tag, 3, len(numbers)) + cell.ljust(4, b'\0')
    return (data.ljust(200, b'\0') + long).ljust(256, b'\0') + values.tobytes()


def png(values, bits, *, colour=0, clear=()):
    """A PNG, perhaps with a transparent value; `values` are the bytes of its rows."""

    def chunk(name, body):
        return (
            struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
        )

    height, width = RAMP.shape
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0))
    head += chunk(b'tRNS', struct.pack(f'>{len(clear)}H', *clear)) if clear else b''
    rows = b''.join(b'\0' + row.tobytes() for row in values)
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def packed(levels, bits):
    """Rows of numbers of some bits as rows of bytes."""
    return np.packbits(levels[..., None] >> np.arange(bits)[::-1] & 1).reshape(len(levels), -1)


def lightness():
    """The ramp in CIE's L, a and b, by their formulas (sRGB; grey has no a and b)."""
    x = RAMP / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    light = np.where(linear > 216 / 24389, 116 * np.cbrt(linear) - 16, 24389 / 27 * linear)
    return np.stack([np.round(light * 2.55), 0 * x, 0 * x], -1).astype(np.uint8)


def pgm(values, white):
    return f'P5 {RAMP.shape[1]} {RAMP.shape[0]} {white}\n'.encode() + values.tobytes()


RGB = np.repeat(RAMP[..., None], 3, -1)
FLOATS = (RAMP / 255).astype(np.float32)
FEW = np.where(RAMP < 128, 0, 255)
SHOWN = {  # a file's bytes, the grey levels that it shows, and how exactly its coding keeps them
    'png 16': (png(WIDE.astype('>u2'), 16), RAMP, 0),
    'png 16, transparent': (png(WIDE.astype('>u2'), 16, clear=[85 * 257]), HIDDEN, 0),
    'png 8, transparent': (png(RAMP, 8, clear=[85]), HIDDEN, 0),
    'png 4': (png(packed(LEVELS, 4), 4), RAMP, 0),
    'png 4, transparent': (png(packed(LEVELS, 4), 4, clear=[5]), HIDDEN, 0),
    'png 2, transparent': (png(packed(LEVELS // 4, 2), 2, clear=[3]), LEVELS // 4 * 85, 0),
    'png 1': (png(packed(LEVELS // 8, 1), 1), FEW, 0),
    'png 16 rgb': (png(np.repeat(WIDE, 3, 1).astype('>u2'), 16, colour=2), RAMP, 0),
    'png 16 rgb, transparent': (
        png(np.repeat(LESS, 3, 1).astype('>u2'), 16, colour=2, clear=[85 * 257 - 1] * 3), HIDDEN, 1,
    ),
    'png 16 la': (
        png(np.stack([WIDE, ALPHA * np.uint16(257)], -1).astype('>u2'), 16, colour=4), ON_WHITE, 1,
    ),
    'png la': (pillow(np.stack([RAMP, ALPHA], -1), 'PNG'), ON_WHITE, 1),
    'png rgba': (pillow(np.dstack([RGB, ALPHA]), 'PNG'), ON_WHITE, 1),
    'png palette': (pillow(palette(), 'PNG'), RAMP, 0),
    'png palette, one transparent': (pillow(palette(), 'PNG', transparency=85), HIDDEN, 0),
    'png palette, all half': (pillow(palette(), 'PNG', transparency=b'3' * 256), ON_WHITE, 1),
    'gif, transparent': (pillow(palette(), 'GIF', transparency=85), HIDDEN, 0),
    'webp rgba': (pillow(np.dstack([RGB, ALPHA]), 'WEBP', lossless=True, exact=True), ON_WHITE, 1),
    'bmp 1': (pillow(Image.fromarray(FEW.astype(np.uint8)).convert('1'), 'BMP'), FEW, 0),
    'pgm 8': (pgm(RAMP, 255), RAMP, 0),
    'pgm 4': (pgm(LEVELS.astype(np.uint8), 15), RAMP, 0),
    'pgm 10': (pgm(np.round(RAMP / 255 * 1023).astype('>u2'), 1023), RAMP, 0),
    'pgm 16': (pgm(WIDE.astype('>u2'), 65535), RAMP, 0),
    'pfm': (pillow(FLOATS, 'PPM'), RAMP, 0),
    'jpeg 2000, 16': (pillow(WIDE, 'JPEG2000'), RAMP, 0),
    'jpeg cmyk': (pillow(Image.fromarray(RGB).convert('CMYK'), 'JPEG', quality=95), RAMP, 12),
    'tiff 16': (tiff(WIDE.astype('<u2'), 16), RAMP, 0),
    'tiff 16, big-endian': (tiff(WIDE.astype('>u2'), 16), RAMP, 0),
    'tiff 16, white is 0': (tiff((65535 - WIDE).astype('<u2'), 16, photometric=0), RAMP, 0),
    'tiff 12': (tiff(packed(LEVELS * 273, 12), 12), RAMP, 0),
    'tiff 8, white is 0': (tiff(255 - RAMP, 8, photometric=0), RAMP, 0),
    'tiff float': (tiff(FLOATS, 32, format_=3), RAMP, 0),
    'tiff float, big-endian': (tiff(FLOATS.astype('>f4'), 32, format_=3), RAMP, 0),
    'tiff float, white is 0': (tiff(1 - FLOATS, 32, format_=3, photometric=0), RAMP, 0),
    'tiff la': (tiff(np.stack([RAMP, ALPHA], -1), 8, samples=2, extra=[2]), ON_WHITE, 1),
    'tiff premultiplied': (
        tiff(np.dstack([RGB // 5, ALPHA]), 8, photometric=2, samples=4, extra=[1]), ON_WHITE, 1,
    ),
    'tiff grey premultiplied': (
        tiff(np.stack([RAMP // 5, ALPHA], -1), 8, samples=2, extra=[1]), ON_WHITE, 1,
    ),
    'tiff pa': (pillow(palette('PA'), 'TIFF'), ON_WHITE, 1),
    'tiff cmyk': (tiff(np.dstack([0 * RGB, 255 - RAMP]), 8, photometric=5, samples=4), RAMP, 0),
    'tiff ycbcr': (
        tiff(np.dstack([RAMP, *2 * [0 * RAMP + 128]]), 8, photometric=6, samples=3), RAMP, 0,
    ),
    'tiff lab': (tiff(lightness(), 8, photometric=8, samples=3), RAMP, 2),
}  # fmt: skip


@pytest.mark.parametrize('case', SHOWN)
def test_a_file_is_read_as_what_it_shows(tmp_path, case):
    data, levels, tolerance = SHOWN[case]
    (tmp_path / 'x.jpg').write_bytes(data)
    expected = np.repeat(levels[..., None].astype(float), 3, -1)
    for image in (media.read_picture(tmp_path / 'x.jpg'), media.decode_jpeg(data)):
        assert image.dtype == np.uint8 and image.shape == expected.shape
        assert np.abs(image - expected).max() <= tolerance


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (tiff(255 * FLOATS, 32, format_=3), 'floats from 0 to 255; save it with values from 0'),
        (tiff(-FLOATS, 32, format_=3), 'holds floats from -1 to'),
        (tiff(np.where(RAMP == 85, np.nan, FLOATS).astype('<f4'), 32, format_=3), 'holds floats'),
        (tiff(np.where(RAMP == 85, np.inf, FLOATS).astype('<f4'), 32, format_=3), 'to inf'),
        (tiff(RAMP.astype('<u4'), 32), 'integers of 32 bits; save it with 8 or 16'),
        (tiff(WIDE.astype('<i4'), 32, format_=2), 'integers with a sign; save it with 8 or 16'),
        (tiff(RAMP.astype('>i2'), 16, format_=2), 'integers with a sign'),
        (tiff(RAMP.view(np.int8), 8, format_=2), 'integers with a sign'),
        (tiff(np.repeat(FLOATS, 3, 1), 32, format_=3, samples=3, photometric=2), 'cannot decode'),
        (pillow(RAMP, 'JPEG').replace(b'\xc0\0\x0b\x08', b'\xc1\0\x0b\x0c'), 'cannot decode'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n', 'cannot identify'),
        (pillow(RGB, 'TGA'), 'cannot identify'),
    ],
    ids=[
        'float 255', 'negative', 'nan', 'inf', 'uint32', 'int32', 'int16', 'int8', 'float rgb',
        'jpeg 12', 'eps', 'tga',
    ],
)  # fmt: skip
def test_a_picture_without_a_known_white_is_one_sentence(tmp_path, monkeypatch, data, reason):
    monkeypatch.setattr(subprocess, 'Popen', lambda *_, **__: pytest.fail('a program is started'))
    (tmp_path / 'x.jpg').write_bytes(data)
    with pytest.raises(ValueError, match=reason) as error:
        media.read_picture(tmp_path / 'x.jpg')
    assert 'x.jpg' in str(error.value) and '\n' not in str(error.value)
    with pytest.raises(ValueError, match=reason):
        media.decode_jpeg(data)


@pytest.mark.parametrize('kind', ['PNG', 'GIF', 'WEBP', 'TIFF'])
def test_of_several_pictures_the_first_is_read(tmp_path, kind):
    first, second = (Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (40, 200))
    options = {'save_all': True, 'append_images': [second, first]}
    options |= {'lossless': True} if kind == 'WEBP' else {}
    (tmp_path / 'x.webp').write_bytes(pillow(first, kind, **options))
    assert (media.read_picture(tmp_path / 'x.webp') == 40).all()
    assert media.num_pictures(tmp_path / 'x.webp') == 3
    (tmp_path / 'x.webp').write_bytes(pillow(first, kind))
    assert media.num_pictures(tmp_path / 'x.webp') == 1


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_picture_is_turned_as_its_camera_was_held(tmp_path, kind, orientation):
    corners = np.kron(np.array([[30, 90], [150, 210], [60, 240]]), np.ones((16, 16))).astype(
        np.uint8
    )
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / 'x.jpg').write_bytes(pillow(corners, kind, exif=exif.tobytes()))
    shown = media.read_picture(tmp_path / 'x.jpg')[8::16, 8::16, 0].astype(int)
    # Source: Exif 2.3, tag 274: where row 0 and column 0 of the stored picture are shown
    stored = corners[8::16, 8::16].astype(int)
    upright = [
        stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1],
        stored.T, stored.T[:, ::-1], stored.T[::-1, ::-1], stored.T[::-1],
    ][orientation - 1]  # fmt: skip
    assert shown.shape == upright.shape and np.abs(shown - upright).max() <= 4


def test_wide_grey_values_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / 'x.png').write_bytes(pillow(WIDE, 'PNG', exif=exif.tobytes()))
    np.testing.assert_array_equal(media.read_picture(tmp_path / 'x.png')[..., 0], RAMP.T[:, ::-1])


def test_only_formats_that_start_no_program_are_read():
    assert not {'EPS', 'WMF', 'FITS', 'HDF5', 'GRIB', 'BUFR', 'MPEG'} & {*still.FORMATS}


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_a_picture_is_resized_to_the_same_bytes_whether_or_not_it_became_an_array_before(mode):
    rng = np.random.default_rng(0)
    stored = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (45, 80, 3), np.uint8)).convert(mode).save(stored, 'JPEG')
    picture, array = (f(stored.getvalue()) for f in (media.decode_picture, media.decode_jpeg))
    np.testing.assert_array_equal(np.asarray(picture), array)
    for size in ((45, 45), (45, 80), (20, 33)):
        resized = (media.resize_picture(x, *size) for x in (picture, array))
        np.testing.assert_array_equal(*resized)
    np.testing.assert_array_equal(*(media.crop_picture(x, 28, 32) for x in (picture, array)))
    padded, expected = (media.pad_picture(x, 40, 60) for x in (picture, array))
    np.testing.assert_array_equal(padded[0], expected[0])
    assert padded[1] == expected[1]
