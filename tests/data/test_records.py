import json
import shutil

import numpy as np
import pytest

from avsc_jax.data import records, sources
from avsc_jax.scenes import SCENES


@pytest.fixture(scope='module')
def dataset(data_dir):
    return records.open_dataset('tfds_tau', 'demo', data_dir)


def test_a_record_holds_the_contract(dataset):
    record = dataset.records('test')[0]
    assert record['audio'].dtype == np.float32 and record['audio'].shape == (96000, 2)
    assert np.abs(record['audio']).max() <= 1
    assert record['sample_rate'] == 48000
    assert len(record['frames']) == 12 and record['frames'][0].shape == (144, 256, 3)
    assert record['frames'][0].dtype == np.uint8
    assert record['frame_times'].shape == (12,) and (np.diff(record['frame_times']) > 0).all()
    scene, city, location, _ = record['clip_id'].split('-')
    assert (SCENES[record['label']], record['city'], record['location']) == (scene, city, location)
    assert record['segment'] == -1


def test_only_the_fields_asked_for_are_decoded(dataset):
    assert 'audio' not in dataset.records('test', fields=('frames',))[0]
    assert 'frames' not in dataset.records('test', fields=('audio',))[0]


def test_a_part_of_a_record_is_what_the_whole_record_holds(dataset):
    found, record = dataset.records('test'), dataset.records('test')[3]
    np.testing.assert_array_equal(found.frame(3, 7), record['frames'][7])
    np.testing.assert_array_equal(found.sound(3, 48000, 50000), record['audio'][48000:50000])
    assert found.sound(3, 95000, 99000).shape == (1000, 2)  # what there is
    outline = found.outline(3)
    assert (outline['num_frames'], outline['num_samples']) == (12, 96000)
    assert outline.items() > {k: record[k] for k in ('clip_id', 'label', 'segment')}.items()


def test_classes_and_sizes_are_those_of_the_data(dataset):
    assert dataset.classes == SCENES
    sizes = {split: dataset.num_records(split) for split in ('train', 'train_inner', 'validation')}
    assert sizes['train'] == sizes['train_inner'] + sizes['validation'] == 20
    assert dataset.num_records('test') == len(dataset.records('test')) == 10


def test_the_fingerprint_changes_with_the_content(dataset, data_dir, tmp_path):
    assert dataset.fingerprint == records.open_dataset('tfds_tau', 'demo', data_dir).fingerprint
    shutil.copytree(data_dir / 'tfds_tau', tmp_path / 'tfds_tau', symlinks=True)
    (info_file,) = (tmp_path / 'tfds_tau/demo').rglob('dataset_info.json')
    info = json.loads(info_file.read_text())
    (test,) = (split for split in info['splits'] if split['name'] == 'test')
    test['numBytes'] = str(int(test['numBytes']) + 1)
    info_file.write_text(json.dumps(info))
    other = records.open_dataset('tfds_tau', 'demo', tmp_path)
    assert other.fingerprint != dataset.fingerprint


def test_an_unknown_split_names_those_there_are(dataset):
    with pytest.raises(ValueError, match=r"has no split 'dev'; it has .*train_inner"):
        dataset.records('dev')


def test_data_that_is_not_there_is_one_sentence_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'clips is not prepared in .*tfds_tau.build'):
        sources.open_dataset({'name': 'tfds_tau', 'config': 'clips'}, tmp_path)


def test_a_corrupt_record_names_itself_and_what_to_do(data_dir, tmp_path):
    shutil.copytree(data_dir / 'tfds_tau', tmp_path / 'tfds_tau', symlinks=True)
    (file,) = (tmp_path / 'tfds_tau/demo').rglob('*-test.array_record*')
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    file.write_bytes(bytes(data))
    data = {'name': 'tfds_tau', 'config': 'demo'}
    with pytest.raises(ValueError, match=r'(is corrupt|cannot be opened).*tfds_tau\.build'):
        found = sources.open_dataset(data, tmp_path).records('test')
        [found[i] for i in range(len(found))]
