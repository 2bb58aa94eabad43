import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core import data_sources

from avsc_jax.data import content, folds, media, records, row_files, sources
from avsc_jax.runtime import files
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


@pytest.mark.parametrize(('kept', 'times'), [(records.KEPT_BYTES, 1), (0, 3)])
def test_a_small_split_is_read_from_its_files_once(dataset, monkeypatch, kept, times):
    read, get = [], data_sources.base.BaseDataSource.__getitem__

    def counted(source, index):
        read.append(index)
        return get(source, index)

    monkeypatch.setattr(data_sources.base.BaseDataSource, '__getitem__', counted)
    monkeypatch.setattr(records, 'KEPT_BYTES', kept)
    test = dataset.records('test')
    frames = [test.frame(1, number) for number in (0, 1, 0)]
    np.testing.assert_array_equal(frames[0], frames[2])
    assert read == [1] * times


def test_classes_and_sizes_are_those_of_the_data(dataset):
    assert dataset.classes == SCENES
    sizes = {split: dataset.num_records(split) for split in ('train', 'train_inner', 'validation')}
    assert sizes['train'] == sizes['train_inner'] + sizes['validation'] == 20
    assert dataset.num_records('test') == len(dataset.records('test')) == 10


@pytest.fixture
def copy(data_dir, tmp_path):
    """A copy of the demo's records, which a test may change."""
    shutil.copytree(data_dir / 'tfds_tau/demo', tmp_path / 'tfds_tau/demo', symlinks=True)
    return tmp_path / 'tfds_tau/demo/1.0.0'


def opened(copy):
    return records.open_dataset('tfds_tau', 'demo', copy.parents[2])


def relabel(folder, split, change):
    """Changes the stored records of a split, in files of the same size; `change` alters one."""
    from array_record.python import array_record_module as array_record
    from tensorflow_datasets.core import example_serializer

    dataset = opened(folder)
    features = dataset.builder.info.features
    (path,) = folder.glob(f'*-{split}.array_record*')
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    reader = array_record.ArrayRecordReader(str(path))
    stored = [features.deserialize_example_np(record) for record in reader.read_all()]
    reader.close()
    path.unlink()  # what it was may be linked elsewhere
    writer = array_record.ArrayRecordWriter(str(path), 'group_size:1')
    for record in stored:
        change(record)
        writer.write(serializer.serialize_example(features.encode_example(record)))
    writer.close()


def turned(record):
    record['label'] = (record['label'] + 1) % 10


def test_the_fingerprint_is_of_the_records_and_is_kept_beside_them(dataset, copy, monkeypatch):
    assert (copy / content.FILE).exists()  # since the build
    assert opened(copy).fingerprint == dataset.fingerprint
    reads = []
    of_file = content._of_file
    monkeypatch.setattr(content, '_of_file', lambda *a: reads.append(a[0].name) or of_file(*a))
    assert opened(copy).fingerprint == dataset.fingerprint and not reads
    (copy / content.FILE).unlink()  # as in sets of earlier versions
    assert opened(copy).fingerprint == opened(copy).fingerprint == dataset.fingerprint
    assert len(reads) == 3
    os.utime(next(copy.glob('*-test.array_record*')), ns=(1, 1))
    assert opened(copy).fingerprint == dataset.fingerprint and len(reads) == 4
    (copy / content.FILE).write_text('{"sha256": "0", "content": {}}')
    assert opened(copy).fingerprint == dataset.fingerprint and len(reads) == 7


def test_a_corrected_label_is_another_data_set_of_the_same_size(dataset, copy):
    size = sum(file.stat().st_size for file in copy.glob('*-test.array_record*'))
    relabel(copy, 'test', turned)
    assert sum(file.stat().st_size for file in copy.glob('*-test.array_record*')) == size
    other = opened(copy)
    assert other.fingerprint != dataset.fingerprint
    assert other.fingerprint_by_size == dataset.fingerprint_by_size  # which did not see it
    before, after = (
        [one['label'] for one in each.outlines('train+test')] for each in (dataset, other)
    )
    assert after[:20] == before[:20]
    assert after[20:] == [(label + 1) % 10 for label in before[20:]]
    assert not records.is_same(other.identities, dataset.identities)
    assert records.is_same(dataset.identities[1:], dataset.identities)  # a run of before


def test_outlines_are_those_of_the_records(dataset):
    stored = dataset.records('train+test')
    assert dataset.outlines('train+test') == [stored.outline(i) for i in range(len(stored))]


def test_a_file_of_other_records_than_the_description_says_is_a_sentence(copy):
    file = copy / 'dataset_info.json'
    info = json.loads(file.read_text())
    for split in info['splits']:
        if split['name'] == 'test':
            split['shardLengths'] = ['9']
    file.write_text(json.dumps(info))
    (copy / content.FILE).unlink()
    with pytest.raises(ValueError, match=r'holds 10 records, and dataset_info.json says 9; remove'):
        opened(copy).outlines('test')


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


def claiming_jpeg(side):
    """A picture of a few hundred bytes whose header claims a square of this side."""
    data = media.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    size = b'\0\x08\0\x08\x03'  # height, width and channels
    assert data.count(size) == 1
    return data.replace(size, side.to_bytes(2, 'big') * 2 + b'\x03')


def claiming_flac(count):
    """A sound of a few samples whose header claims another number of them."""
    data = bytearray(media.encode_flac(np.zeros((9600, 2), np.float32), 48000, 16))
    facts = int.from_bytes(data[18:26], 'big')
    assert facts & (1 << 36) - 1 == 9600
    data[18:26] = (facts - 9600 + count).to_bytes(8, 'big')
    return bytes(data)


@pytest.mark.parametrize(
    ('decode', 'said'),
    [
        (lambda: media.decode_jpeg(claiming_jpeg(8000)), 'claims 8000 x 8000 pixels in'),
        (lambda: media.decode_jpeg(claiming_jpeg(9000)), '9000 x 9000 pixels; a side may be'),
        (lambda: media.decode_flac(claiming_flac(10**8)), 'claims 100,000,000 samples in'),
        (lambda: media.flac_length(claiming_flac(10**8)), 'claims 100,000,000 samples in'),
        (lambda: media.flac_length(claiming_flac(2**36 - 1)), 'claims 68719476735 samples at'),
    ],
    ids=range(5),
)
def test_sound_or_pictures_of_a_record_that_claim_much_take_no_memory(decode, said):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said):
            decode()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_flat_pictures_and_silence_are_let_through():
    black = media.encode_jpeg(np.zeros((1000, 2000, 3), np.uint8))
    assert media.decode_jpeg(black).shape == (1000, 2000, 3)
    assert media.flac_length(media.encode_flac(np.zeros((960_000, 1), 'f4'), 48000, 24)) == 960_000


def test_pictures_of_a_record_have_a_limit_together(dataset, monkeypatch):
    monkeypatch.setattr(records, 'MAX_RECORD_BYTES', 3 * 144 * 256 * 3)
    with pytest.raises(ValueError, match=r'record 0 of .* decode to more than 331,776 bytes'):
        dataset.records('test', fields=('frames',))[0]


@pytest.fixture
def large(dataset, tmp_path, monkeypatch):
    """A copy of the demo's records that counts as too large to be kept in memory."""
    monkeypatch.setattr(records, 'KEPT_BYTES', 0)
    folder = tmp_path / 'tfds_tau/demo' / str(dataset.builder.version)
    shutil.copytree(dataset.builder.data_dir, folder, symlinks=True)
    return records.open_dataset('tfds_tau', 'demo', tmp_path)


def rows_of(dataset, split='train+test'):
    return dataset.records(split).by_rows()


@pytest.mark.parametrize('split', ['train', 'train_inner+validation', 'train+test'])
def test_a_split_stored_in_others_is_not_kept_in_memory_if_it_is_large(large, split):
    opened = large.records(split)
    assert opened[0] is not opened[0] and not opened._keep


def test_a_row_is_read_from_its_own_bytes(large, monkeypatch):
    whole, rows = large.records('train+test'), rows_of(large)
    read = []
    monkeypatch.setattr(os, 'pread', lambda *a, pread=os.pread: read.append(a[1]) or pread(*a))
    monkeypatch.setattr(rows, '_stored', None)  # whole records are not read
    for index in (0, 17, len(rows) - 1):
        np.testing.assert_array_equal(rows.frame(index, 3), whole.frame(index, 3))
        heard = rows.sound(index, 48000, 60000)
        np.testing.assert_array_equal(heard, whole.sound(index, 48000, 60000))
    assert rows.sound(0, 95000, 99000).shape == (1000, 2)
    stored = whole._stored(0)
    size = len(stored['audio']) + sum(map(len, stored['frames']))
    read.clear()
    rows.frame(0, 0)
    assert sum(read) <= len(stored['frames'][0]) + 2 * row_files.BLOCK < size


def test_a_row_of_a_fold_is_that_of_its_record(large):
    folded = folds.cut(large, {'fold': 2})
    whole, rows = folded.records('validation'), rows_of(folded, 'validation')
    np.testing.assert_array_equal(rows.frame(5, 1), whole.frame(5, 1))


def test_a_picture_that_a_record_does_not_have_is_an_error(large):
    for number in (-1, 12):
        with pytest.raises(ValueError, match='it has 12 pictures'):
            rows_of(large).frame(0, number)


def test_a_flipped_bit_of_a_row_is_an_error(large):
    rows_of(large)
    file = next(Path(large.builder.data_dir).glob('rows/*test*.rows'))
    sound, pictures = (
        files.read_arrays(file.with_suffix('.npz'))[k] for k in ('sound', 'pictures')
    )
    whole = file.read_bytes()
    for place in (sound[0][0] + 5, sum(sound[0]) // 2, sum(sound[0]) - 1, sum(pictures[7]) - 1):
        data = bytearray(whole)
        data[place] ^= 4
        file.write_bytes(data)
        rows = rows_of(large, 'test')
        with pytest.raises(ValueError, match='is damaged; delete .*rows, which is made'):  # noqa: RUF043
            rows.sound(0, 0, 96000)
            rows.frame(0, 7)


@pytest.mark.parametrize('change', ['cut', 'no index', 'damaged index', 'other records'])
def test_row_files_that_are_not_of_the_records_are_made_again(large, change):
    last = len(large.records('test')) - 1
    expected = rows_of(large, 'test').frame(last, 11)
    file = next(Path(large.builder.data_dir).glob('rows/*test*.rows'))
    index = file.with_suffix('.npz')
    if change == 'cut':
        file.write_bytes(file.read_bytes()[:-20_000])
    elif change == 'no index':
        index.unlink()
    elif change == 'damaged index':
        index.write_bytes(index.read_bytes()[:-100])
    else:
        arrays = files.read_arrays(index) | {'content': np.array('0' * 64)}
        files.write_arrays(index, **arrays)
        file.write_bytes(bytes(file.stat().st_size))
    np.testing.assert_array_equal(rows_of(large, 'test').frame(last, 11), expected)


def test_without_room_rows_are_read_from_whole_records(large, monkeypatch, capsys):
    monkeypatch.setattr(row_files, 'SPARE_BYTES', 1 << 62)
    rows = rows_of(large)
    assert rows.frame(0, 0).shape == (144, 256, 3)
    assert 'each row is read from its whole record' in capsys.readouterr().err
    assert not [*Path(large.builder.data_dir).glob('rows/*')]


def test_a_copy_that_fails_leaves_nothing_behind(large, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(row_files, '_sums', full)
        rows_of(large)
    assert not [*Path(large.builder.data_dir).glob('rows/*')]
    assert rows_of(large)._rows is not None
