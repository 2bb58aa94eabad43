"""The builder on real small media: schema, splits, order, every config, errors."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from avsc_jax.data import media
from avsc_jax.scenes import SCENES
from tfds_tau import demo, tfds_tau_dataset_builder
from tfds_tau.tfds_tau_dataset_builder import Builder

DUMMY = Path(tfds_tau_dataset_builder.__file__).parent / 'dummy_data'
TRAIN = {'airport-barcelona-1-1', 'airport-helsinki-2-3', 'bus-helsinki-11-21', 'bus-lisbon-12-23'}
TEST = ['airport-lisbon-8-15', 'bus-london-18-35']


def build(config, data_dir, manual_dir=DUMMY):
    builder = Builder(config=config, data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    return builder


def clip_ids(builder, split):
    return [record['clip_id'].decode() for record in builder.as_data_source(split)]


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    return build('clips', tmp_path_factory.mktemp('clips'))


def test_records_keep_the_contract_without_tensorflow(clips):
    record = clips.as_data_source('test')[1]
    assert record['clip_id'] == b'bus-london-18-35'
    assert (record['city'], record['location']) == (b'london', b'18')
    assert SCENES[record['label']] == 'bus'
    assert (record['segment'], record['sample_rate']) == (-1, 48000)
    assert len(record['frames']) == len(record['frame_index']) == len(record['frame_times']) == 12
    sound, _ = media.read_audio(DUMMY / 'audio/bus-london-18-35.wav')
    np.testing.assert_array_equal(media.decode_flac(record['audio']), sound)
    frames = media.read_frames(DUMMY / 'video/bus-london-18-35.mp4', 'clip12')
    np.testing.assert_array_equal(record['frame_index'], frames.index)
    np.testing.assert_allclose(record['frame_times'], frames.times_s)
    first = media.decode_jpeg(record['frames'][0])
    assert first.shape == (36, 64, 3)
    assert np.abs(first.astype(int) - frames.images[0]).mean() < 8
    assert 'tensorflow' not in sys.modules


def test_train_is_inner_then_validation_and_is_stored_once(clips):
    assert {n: s.num_examples for n, s in clips.info.splits.items()} == {
        'train': 4,
        'train_inner': 2,
        'validation': 2,
        'test': 2,
    }
    train = clip_ids(clips, 'train')
    assert train == clip_ids(clips, 'train_inner') + clip_ids(clips, 'validation')
    assert set(train) == TRAIN
    assert clip_ids(clips, 'test') == TEST
    links = [p for p in Path(clips.data_dir).iterdir() if p.is_symlink()]
    assert links
    assert not any(link.readlink().is_absolute() for link in links)
    stored = sum(s.num_bytes for n, s in clips.info.splits.items() if n != 'train')
    assert clips.info.dataset_size == stored


def test_the_description_is_the_first_part_of_the_readme(clips):
    assert 'recorded in European' in clips.info.description
    assert clips.info.description.endswith('about scenes.')


def test_a_moved_data_set_opens_without_the_builder(clips, tmp_path):
    moved = tmp_path / 'elsewhere'
    shutil.copytree(clips.data_dir, moved, symlinks=True)
    found = tfds.builder_from_directory(moved)
    assert len(found.as_data_source('train')) == 4
    assert len(found.as_data_source('train[:50%]')) == 2


def test_a_second_build_reuses_the_first(clips, monkeypatch):
    monkeypatch.setattr(media, 'read_frames', None)
    Builder(config='clips', data_dir=clips.data_dir_root).download_and_prepare()


def test_segments_hold_one_second_each(tmp_path):
    chosen = [demo.clips()[i] for i in (0, 2, 14)]
    source = demo.render(tmp_path / 'media', chosen=chosen, duration_s=3)
    builder = build('segments', tmp_path, source)
    records = list(builder.as_data_source('test'))
    assert [record['segment'] for record in records] == [0, 1, 2]
    assert [len(record['frames']) for record in records] == [1, 1, 1]
    np.testing.assert_allclose([r['frame_times'][0] for r in records], [0.5, 1.5, 2.5])
    whole, _ = media.read_audio(source / 'audio/airport-lisbon-8-15.wav')
    pieces = [media.decode_flac(record['audio']) for record in records]
    assert [len(piece) for piece in pieces] == [48000] * 3
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_the_demo_is_rendered_into_the_download_folder(tmp_path, monkeypatch):
    chosen = [demo.clips()[i] for i in (0, 2, 14)]
    monkeypatch.setattr(demo, 'clips', lambda: chosen)
    builder = build('demo', tmp_path)
    assert clip_ids(builder, 'test') == ['airport-lisbon-8-15']
    folder = tmp_path / 'downloads/tfds_tau_demo-1.0.0'
    assert (folder / 'video/airport-lisbon-8-15.mp4').exists()
    assert len((folder / 'meta.csv').read_text().splitlines()) == 4
    assert builder.as_data_source('test')[0]['sample_rate'] == 48000


def test_the_seconds_of_the_demo_are_of_the_same_files(tmp_path, monkeypatch):
    chosen = [demo.clips()[i] for i in (0, 2, 14)]
    folder = demo.render(tmp_path / 'downloads/tfds_tau_demo-1.0.0', chosen=chosen, duration_s=3)
    rendered = {path: path.stat().st_mtime_ns for path in folder.glob('*/*.[mw]*')}
    monkeypatch.setattr(demo, 'clips', lambda: chosen)
    reads, read = [], media.read_frames
    monkeypatch.setattr(media, 'read_frames', lambda *a, **k: reads.append(a) or read(*a, **k))
    seconds = build('demo_segments', tmp_path).as_data_source('test')
    assert len(reads) == 3  # once a clip
    assert {path: path.stat().st_mtime_ns for path in folder.glob('*/*.[mw]*')} == rendered
    assert len(rendered) == 6
    assert [record['segment'] for record in seconds] == [0, 1, 2]
    assert [r['frame_times'][0] for r in seconds] == pytest.approx([0.5, 1.5, 2.5], abs=0.06)
    assert media.decode_jpeg(seconds[0]['frames'][0]).shape == (144, 256, 3)  # as rendered


def test_frames10_takes_hous_frames(tmp_path):
    record = build('frames10', tmp_path).as_data_source('test')[0]
    expected = media.pick_frames('hou', 5, duration_s=0.5)
    np.testing.assert_array_equal(record['frame_index'], expected)


@pytest.mark.parametrize(('config', 'count'), [('evaluation', 5), ('evaluation_hou', 5)])
def test_evaluation_items_have_no_label(tmp_path, config, count):
    for kind, ending in (('audio', 'wav'), ('video', 'mp4')):
        (tmp_path / 'media' / kind).mkdir(parents=True)
        source = DUMMY / kind / f'bus-london-18-35.{ending}'
        shutil.copy(source, tmp_path / 'media' / kind / f'7.{ending}')
    builder = build(config, tmp_path, tmp_path / 'media')
    assert list(builder.info.splits) == ['test']
    record = builder.as_data_source('test')[0]
    assert (record['clip_id'], record['label'], record['city']) == (b'7', -1, b'')
    assert len(record['frames']) == count
