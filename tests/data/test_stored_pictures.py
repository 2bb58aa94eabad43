"""Files are seen as their records hold them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from avsc_jax.data import media, records, stored_pictures, windows
from avsc_jax.input_pipeline import media_inputs
from avsc_jax.runs.run_folder import RunFolder


@pytest.fixture(scope='module')
def dataset(data_dir):
    return records.open_dataset('tfds_tau', 'demo', data_dir)


def test_a_film_is_seen_as_its_record_is(dataset, data_dir):
    record = dataset.records('test', fields=('frames',))[0]
    (film,) = (data_dir / 'downloads').rglob(f'{record["clip_id"]}.mp4')
    wants = windows.Wants(False, 'clip12', 448, None, jpeg_quality=90)
    (window,) = windows.read(film, windows.Wants.from_json(wants.to_json()))
    np.testing.assert_array_equal(window['frames'], record['frames'])
    (raw,) = windows.read(film, windows.Wants(False, 'clip12', 448, None))
    assert (np.abs(np.subtract(raw['frames'], record['frames'], dtype=int)) > 20).any()
    settings = dict(frames='clip12', short_side=448, size=(8, 8), mean=[0] * 3, std=[1] * 3)
    for stated, expected in (({}, window), ({'jpeg_quality': None}, raw)):
        frames = media_inputs.make(settings | stated).open(film)['frames']
        np.testing.assert_array_equal(frames, expected['frames'])


def test_a_still_picture_is_seen_as_its_record_would_be(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'a.png')
    wants = windows.Wants(False, 'clip12', 448, None, jpeg_quality=90)
    (window,) = windows.read(tmp_path / 'a.png', wants)
    expected = media.decode_jpeg(media.encode_jpeg(noise))
    np.testing.assert_array_equal(window['frames'], [expected])


@pytest.mark.parametrize('quality', [100, 95, 90, 75, 10, None])
def test_the_quality_is_read_off_the_records(quality, monkeypatch):
    picture = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    if quality is None:
        Image.fromarray(picture).save(png := io.BytesIO(), 'PNG')
    data = media.encode_jpeg(picture, quality) if quality else png.getvalue()
    of_split = {'deaf': [], 'test': [{'frames': [data]}]}
    builder = SimpleNamespace(
        info=SimpleNamespace(splits=[*of_split]), as_data_source=of_split.__getitem__
    )
    assert stored_pictures.measured_quality(records.Dataset(builder, '')) == quality
    assert stored_pictures.measured_quality(object()) is None  # a folder of pictures


@pytest.mark.parametrize(('name', 'quality'), [('hitachi_image', 90), ('hitachi_audio', None)])
def test_a_run_keeps_the_quality_of_its_records(name, quality, finished_run):
    settings = RunFolder(finished_run(name)).read_json('preprocessing.json')
    assert settings.get('jpeg_quality') == quality and ('jpeg_quality' in settings) == bool(quality)
