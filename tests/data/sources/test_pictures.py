"""Sets of pictures: what a folder or TFDS's files hold, and what is said where it is not right."""

import io
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from avsc_jax.data import media, sources
from avsc_jax.data.batches import epoch_order
from avsc_jax.data.sources import pictures
from avsc_jax.input_pipeline import media_inputs as inputs

COLOURS = {'airfield': (200, 30, 30), 'bridge': (30, 200, 30), 'zoo': (30, 30, 200)}


def picture(colour, size=(40, 24), mode='RGB', format_='JPEG'):
    """The bytes of a picture of one colour, [W, H] pixels."""
    image = Image.new('RGB', size, colour).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format_, **({'quality': 95} if format_ == 'JPEG' else {}))
    return buffer.getvalue()


@pytest.fixture
def data_dir(tmp_path):
    """Places365 in small: three classes, two pictures each to train on, one to validate."""
    for part, count in (('train', 2), ('val', 1)):
        for name, colour in COLOURS.items():
            folder = tmp_path / pictures.PLACES_FOLDER / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f'{number}.jpg').write_bytes(picture(colour))
            (folder / 'notes.txt').write_text('no picture')
    return tmp_path


def opened(data_dir, name='places365'):
    return sources.open_dataset({'name': name, 'num_classes': 3}, data_dir)


def test_each_picture_of_a_folder_is_a_record_of_one_frame(data_dir):
    dataset = opened(data_dir)
    assert dataset.classes == ('airfield', 'bridge', 'zoo') and not dataset.left_out
    assert (dataset.num_records('train'), dataset.num_records('validation')) == (6, 3)
    found = dataset.records('train', fields=('frames',))
    assert found.outline(3) == {
        'clip_id': 'bridge/1.jpg', 'segment': -1, 'label': 1, 'num_frames': 1
    }  # fmt: skip
    frame = found.frame(3, 0)
    assert frame.shape == (24, 40, 3) and frame.dtype == np.uint8
    assert np.abs(frame.mean((0, 1)) - COLOURS['bridge']).max() < 3
    np.testing.assert_array_equal(found[3]['frames'][0], frame)
    assert [outline['label'] for outline in dataset.outlines('train')] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="no split 'test'; it has train, validation"):
        dataset.num_records('test')


def test_rows_of_pictures_are_those_of_frames(data_dir):
    settings = {'frames': 'second_centres', 'short_side': 480, 'size': (32, 32)}
    made = inputs.make(settings | {'mean': (0.5,) * 3, 'std': (0.2,) * 3})
    rows = inputs.rows(opened(data_dir), 'validation', made)
    assert rows.clip_id == ['airfield/0.jpg', 'bridge/0.jpg', 'zoo/0.jpg']
    assert rows.segment.tolist() == [-1] * 3 and rows.label.tolist() == [0, 1, 2]
    batch = next(rows.inputs.batches(*epoch_order(3, 3)))
    assert batch['frame'].shape == (3, 32, 32, 3)
    assert batch['frame'].mean((1, 2)).argmax(1).tolist() == [0, 1, 2]


def test_millions_of_pictures_are_arrays_and_no_dicts(data_dir):
    dataset = opened(data_dir)
    names, labels = dataset.records('train')._listing
    assert names.dtype.kind == 'S' and labels.dtype == np.int32
    outlines = dataset.outlines('train')
    assert outlines[0] is not outlines[0] and len(outlines) == 6


def test_the_folder_may_be_a_link(data_dir, tmp_path_factory):
    other = tmp_path_factory.mktemp('other')
    assert not sources.find('places365').is_prepared({}, other)
    (other / pictures.PLACES_FOLDER).symlink_to(data_dir / pictures.PLACES_FOLDER)
    assert sources.find('places365').is_prepared({}, other)
    assert not sources.find('imagenet2012').is_prepared({}, other)
    assert opened(other).fingerprint == opened(data_dir).fingerprint


def test_the_fingerprint_is_of_names_and_sizes(data_dir):
    first = opened(data_dir).fingerprint
    path = data_dir / pictures.PLACES_FOLDER / 'val/zoo/0.jpg'
    data = path.read_bytes()
    path.write_bytes(data[::-1])
    assert opened(data_dir).fingerprint == first  # no content is read
    (told,) = sources.find('places365').warnings({}, opened(data_dir))
    assert 'is known by the names and sizes of its pictures: one that was replaced' in told
    path.write_bytes(data + b'more')
    second = opened(data_dir).fingerprint
    path.rename(path.with_name('1.jpg'))
    assert len({first, second, opened(data_dir).fingerprint}) == 3


def test_hidden_files_are_no_pictures(data_dir):
    before = opened(data_dir)
    (data_dir / pictures.PLACES_FOLDER / 'train/.cache').mkdir()
    (data_dir / pictures.PLACES_FOLDER / 'train/zoo/._0.jpg').write_bytes(b'Mac OS X')
    after = opened(data_dir)
    assert after.classes == before.classes and after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ('mode', 'format_'), [('L', 'JPEG'), ('CMYK', 'JPEG'), ('P', 'PNG'), ('RGBA', 'PNG')]
)
def test_pictures_of_any_colours_become_rgb(data_dir, mode, format_):
    path = data_dir / pictures.PLACES_FOLDER / 'train/airfield/0.jpg'
    path.write_bytes(picture((102, 102, 102), mode=mode, format_=format_))
    frame = opened(data_dir).records('train').frame(0, 0)
    assert frame.shape == (24, 40, 3) and np.abs(frame.astype(int) - 102).max() < 6


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'cannot identify'),
        (b'no picture at all', 'cannot identify'),
        (picture((1, 2, 3))[:-20], 'truncated'),
        (picture((1, 2, 3), size=(9000, 2)), '9000 x 2 pixels'),
        (bytes(100), 'more than 99 bytes'),
    ],
    ids=['empty', 'text', 'cut', 'wide', 'large'],
)
def test_what_is_no_picture_is_named_with_its_path(data_dir, monkeypatch, content, reason):
    path = data_dir / pictures.PLACES_FOLDER / 'val/bridge/0.jpg'
    path.write_bytes(content)
    if 'bytes' in reason:
        monkeypatch.setattr(pictures, 'MAX_BYTES', 99)
    with pytest.raises(ValueError, match=reason) as error:
        opened(data_dir).records('validation').frame(1, 0)
    assert str(error.value).startswith(f'{path} is not a whole picture')
    assert str(error.value).endswith('put a whole one there, or remove it')


def remove(*parts):
    return lambda folder: [shutil.rmtree(folder / part) for part in parts]


def empty(folder):
    for path in (folder / 'train/zoo').glob('*.jpg'):
        path.unlink()


def no_folder(folder):
    shutil.rmtree(folder)
    folder.write_text('a file')


@pytest.mark.parametrize(
    ('spoil', 'kind', 'sentence'),
    [
        (remove('train/zoo', 'val/zoo'), ValueError, r'has 2 classes, not 3; .*num_classes=2'),
        (remove('val/zoo'), ValueError, "1 classes, such as 'zoo', are in only one of train and"),
        (remove('val'), FileNotFoundError, r'standard/val is not a folder; .* must hold train and'),
        (empty, ValueError, r'train/zoo holds no pictures \(.jpg, .jpeg, .png\); put those'),
        (no_folder, FileNotFoundError, r'standard/train is not a folder'),
    ],
)
def test_a_wrong_folder_is_a_sentence(data_dir, spoil, kind, sentence):
    spoil(data_dir / pictures.PLACES_FOLDER)
    assert sources.find('places365').is_prepared({}, data_dir)  # somebody meant it to be
    with pytest.raises(kind, match=sentence):
        opened(data_dir)


@pytest.mark.parametrize('name', pictures.SETS)
def test_a_set_that_is_not_there_is_a_sentence_with_the_command(tmp_path, name):
    command = f'tfds build {pictures.SETS[name]} --file_format=array_record --data_dir={tmp_path}'
    with pytest.raises(FileNotFoundError, match=rf'{name} is not in .*: (put|extract) .*{command}'):
        opened(tmp_path, name)


def build(data_dir, name, key, splits=('train', 'validation', 'test')):
    """A set with the features of TFDS's own, under its name."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version('5.1.0')

        def _info(self):
            names = list(COLOURS)
            features = tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(encoding_format='jpeg'),
                    'label': tfds.features.ClassLabel(names=names),
                    key: tfds.features.Text(),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples() for split in splits}

        def _generate_examples(self):
            for number, (label, colour) in enumerate(COLOURS.items()):
                image = io.BytesIO(picture(colour))
                yield number, {'image': image, 'label': label, key: f'{label}_7.JPEG'}

    Tiny.name = name
    Tiny(data_dir=data_dir, file_format='array_record').download_and_prepare()


@pytest.mark.parametrize(
    ('name', 'key'), [('places365', 'filename'), ('imagenet2012', 'file_name')]
)
def test_what_tfds_has_prepared_is_read_without_tensorflow(tmp_path, name, key):
    build(tmp_path, pictures.SETS[name], key)
    assert sources.find(name).is_prepared({}, tmp_path)
    dataset = opened(tmp_path, name)
    assert dataset.name == f'{pictures.SETS[name]}/5.1.0' and dataset.classes == tuple(COLOURS)
    assert dataset.num_records('train') == 3 and [*dataset.splits] == ['train', 'validation']
    found = dataset.records('validation')
    assert found.outline(2) == {
        'clip_id': 'zoo_7.JPEG', 'segment': -1, 'label': 2, 'num_frames': 1
    }  # fmt: skip
    np.testing.assert_array_equal(found.frame(1, 0), media.decode_jpeg(picture(COLOURS['bridge'])))
    assert [outline['label'] for outline in dataset.outlines('train')] == [0, 1, 2]
    assert 'tensorflow' not in sys.modules


def test_what_tfds_has_prepared_otherwise_is_a_sentence(tmp_path):
    build(tmp_path, 'imagenet2012', 'file_name', splits=('train',))
    with pytest.raises(ValueError, match="has no split 'validation', only train; remove it and"):
        opened(tmp_path, 'imagenet2012')
    with pytest.raises(ValueError, match='has 3 classes, not 1000'):
        sources.open_dataset({'name': 'imagenet2012', 'num_classes': 1000}, tmp_path)
    (info,) = tmp_path.rglob('dataset_info.json')
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    with pytest.raises(ValueError, match=r'holds tfrecord files, .* --file_format=array_record'):
        opened(tmp_path, 'imagenet2012')
