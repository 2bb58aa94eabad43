"""Rows of frames and of pieces of sound: what is read, and what the device makes of it."""

import functools

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from avsc_jax import models
from avsc_jax.augment import image as augment
from avsc_jax.data import media, records
from avsc_jax.data.batches import epoch_order
from avsc_jax.input_pipeline import examples
from avsc_jax.input_pipeline import media_inputs as inputs
from avsc_jax.models import sources

SOUND = {
    'piece_s': 1.0,
    'front_end': {'name': 'hitachi_logmel', 'sample_rate_hz': 48000},
    'size': (32, 24),
}
FRAMES = {
    'frames': 'hitachi', 'short_side': 448, 'size': (32, 48),
    'mean': (0.4, 0.5, 0.6), 'std': (0.2, 0.3, 0.4),
}  # fmt: skip
STATS = {'mean': np.float32([-60, 0, 0]), 'std': np.float32([20, 2, 1])}


@pytest.fixture(scope='module')
def dataset(data_dir):
    return records.open_dataset('tfds_tau', 'demo', data_dir)


def first_batch(rows, size=4):
    order, mask = epoch_order(len(rows), size)
    return next(rows.inputs.batches(order[:1], mask[:1]))


def test_each_second_of_sound_is_a_row(dataset):
    rows = inputs.rows(dataset, 'test', inputs.make(SOUND))
    whole = dataset.records('test')
    assert len(rows) == 2 * 10 and rows.segment.tolist() == [0, 1] * 10
    assert rows.clip_id[3] == whole[1]['clip_id'] and rows.label[3] == whole[1]['label']
    batch = first_batch(rows)
    assert batch['label'].tolist() == rows.label[:4].tolist()
    expected = whole[1]['audio'].reshape(2, 48000, 2)
    np.testing.assert_array_equal(batch['audio'][2:], expected)


def test_a_longer_piece_than_the_clip_is_the_clip_and_silence(dataset):
    rows = inputs.rows(dataset, 'test', inputs.make(SOUND | {'piece_s': 10.0}))
    assert len(rows) == 10 and rows.segment.tolist() == [-1] * 10
    (audio,) = first_batch(rows, 1)['audio']
    assert audio.shape == (480000, 2)
    np.testing.assert_array_equal(audio[:96000], dataset.records('test')[0]['audio'])
    assert not audio[96000:].any()


def test_each_frame_is_a_row_resized_as_a_whole(dataset):
    rows = inputs.rows(dataset, 'test', inputs.make(FRAMES))
    assert len(rows) == 12 * 10 and rows.segment[:13].tolist() == [*range(12), 0]
    frame = dataset.records('test')[0]['frames'][2]
    (read,) = (first_batch(rows)['frame'][2],)
    np.testing.assert_array_equal(read, media.resize_picture(frame, 32, 48))
    assert np.abs(read.mean((0, 1)) - frame.mean((0, 1))).max() < 1


def test_frames_of_a_short_clip_are_completed_by_black_ones_and_a_still_is_repeated():
    made = inputs.make(FRAMES | {'pictures': 10})
    frames = [np.full((32, 48, 3), 20 * k + 20, np.uint8) for k in range(5)]
    (row,) = made.items({'frames': frames})
    assert row.mean((1, 2, 3)).tolist() == [20, 40, 60, 80, 100, 0, 0, 0, 0, 0]
    (row,) = made.items({'frames': frames[:1]})
    assert row.mean((1, 2, 3)).tolist() == [20] * 10


def test_frames_of_a_clip_together_are_one_row_each_turned_by_a_key_of_its_own(dataset):
    settings, flip = FRAMES | {'pictures': 10}, {'horizontal_flip': {'probability': 0.5}}
    made = inputs.make(settings, None, flip)
    beside = {'audio_embedding': np.arange(10.0)[:, None]}
    rows = inputs.rows(dataset, 'test', made, beside)
    assert len(rows) == 10 and rows.segment.tolist() == [-1] * 10
    batch = first_batch(rows)
    assert batch['audio_embedding'].tolist() == [[0], [1], [2], [3]]
    frames = dataset.records('test')[1]['frames']  # 12, of which 10 evenly spaced are taken
    for place, taken in enumerate((0, 1, 3, 4, 5, 6, 7, 9, 10, 11)):
        expected = media.resize_picture(frames[taken], 32, 48)
        np.testing.assert_array_equal(batch['frame'][1, place], expected)

    plain = np.asarray(made.prepare_batch(None, batch)['image'])
    expected = (batch['frame'] / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    keys = jax.random.split(jax.random.key(0), 4)
    found = np.asarray(made.prepare_batch(keys, batch)['image'])
    turned = np.abs(found - plain[:, :, :, ::-1]).max((2, 3, 4)) < 1e-5
    stayed = np.abs(found - plain).max((2, 3, 4)) < 1e-5
    assert (turned ^ stayed).all() and 10 < turned.sum() < 30
    assert len({tuple(row) for row in turned.tolist()}) == 4
    again = made.prepare_batch(keys[::-1], jax.tree.map(lambda x: x[::-1], batch))['image']
    np.testing.assert_allclose(again[::-1], found, atol=1e-5)  # by example, not by place
    record = dataset.records('test')[1]
    np.testing.assert_allclose(made(record)[0], plain[1], atol=1e-5)


def test_sound_of_another_rate_is_refused_before_training(dataset):
    settings = SOUND | {'front_end': {'name': 'hitachi_logmel', 'sample_rate_hz': 16000}}
    with pytest.raises(ValueError, match='has 48000 Hz, the config wants 16000 Hz'):
        inputs.rows(dataset, 'test', inputs.make(settings))


def test_frames_are_scaled_by_the_mean_and_deviation_of_each_channel(dataset):
    made = inputs.make(FRAMES)
    batch = first_batch(inputs.rows(dataset, 'test', made))
    found = made.prepare_batch(None, batch)
    expected = (batch['frame'] / 255 - FRAMES['mean']) / FRAMES['std']
    np.testing.assert_allclose(found['image'], expected, atol=1e-5)
    assert 'frame' not in found and found['label'] is batch['label']


def test_training_frames_are_cropped_on_the_device_out_of_a_canvas(dataset):
    settings = FRAMES | {'canvas': [48, 80]}  # a list, as in preprocessing.json
    made = inputs.make(settings, None, {'random_resized_crop': {'size': (32, 48)}})
    batch = first_batch(inputs.rows(dataset, 'test', made))
    frame = dataset.records('test')[0]['frames'][0]
    np.testing.assert_array_equal(batch['frame'][0], media.resize_picture(frame, 48, 80))
    keys = jax.random.split(jax.random.key(0), 4)
    prepare = jax.jit(made.prepare_batch)
    found = np.asarray(prepare(keys, batch)['image'])
    assert found.shape == (4, 32, 48, 3)
    again = np.asarray(prepare(keys[::-1], batch)['image'])
    assert np.abs(again - found).max(axis=(1, 2, 3)).min() > 0.1  # another key, another crop

    whole = inputs.make(settings)  # evaluation and predict see the whole frame
    read = first_batch(inputs.rows(dataset, 'test', whole))['frame'][0]
    np.testing.assert_array_equal(read, media.resize_picture(frame, 32, 48))
    record = dataset.records('test')[0]
    np.testing.assert_array_equal(made(record), whole(record))
    together = inputs.make(
        settings | {'pictures': 2}, None, {'random_resized_crop': {'size': (32, 48)}}
    )
    batch = first_batch(inputs.rows(dataset, 'test', together), 2)
    assert batch['frame'].shape == (2, 2, 48, 80, 3)
    shape = jax.eval_shape(together.prepare_batch, keys[:2], batch)['image'].shape
    assert shape == (2, 2, 32, 48, 3)


CROP = FRAMES | {'size': (24, 24), 'resize': 'crop', 'crop_fraction': 0.75}


def striped(height, width):
    """A picture whose red and green are the places of its pixels, down and across, of 200."""
    places = np.indices((height, width)).transpose(1, 2, 0) * 200 / (height, width)
    return np.concatenate([places, np.zeros((height, width, 1))], 2).astype(np.uint8)


@pytest.mark.parametrize(('height', 'width'), [(50, 90), (90, 50), (50, 50), (20, 31), (1, 900)])
def test_a_cropped_picture_keeps_its_proportions(height, width):
    (row,) = inputs.make(CROP).items({'frames': [striped(height, width)]})
    assert row.shape == (24, 24, 3)
    seen = 24 / 32 * min(height, width) / np.array([height, width])  # the rest is left out
    for axis, share in enumerate(seen if min(height, width) > 1 else ()):
        line = row[12, :, 1] if axis else row[:, 12, 0]
        ends = 100 + 200 * share * np.array([-0.5, 0.5])
        assert line[[0, -1]] == pytest.approx(ends, abs=200 / 24)


def test_a_square_frame_of_the_size_after_the_resize_is_only_cropped():
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (row,) = inputs.make(CROP).items({'frames': [frame]})
    np.testing.assert_array_equal(row, frame[4:28, 4:28])


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_the_middle_is_cropped_as_from_pillow_s_whole_picture(interpolation):
    """By timm and torchvision, see tests/weights."""
    frame = np.random.default_rng(1).integers(0, 256, (45, 61, 3), np.uint8)
    made = inputs.make(CROP | {'interpolation': interpolation})
    found = made.items({'frames': [frame]})
    kernel = Image.Resampling[interpolation.upper()]
    expected = np.asarray(Image.fromarray(frame).resize((43, 32), kernel))[4:28, 10:34]
    np.testing.assert_array_equal(found[0], expected)
    resize, crop = made.facts['resize'], made.facts['crop']
    assert resize == {'short side': 32, 'how': f"Pillow's {interpolation}"}
    assert crop == {'centre': [24, 24]}


@pytest.mark.parametrize(
    ('record', 'places'),
    [
        ({'frames': [0] * 10}, [*range(10)]),
        ({'frames': [0]}, [0] * 10),
        ({'frames': [0] * 6}, [0, 1, 2, 3, 4, 5, -1, -1, -1, -1]),
        ({'frames': [0] * 6, 'frame_filled': np.arange(10) > 3}, [-1] * 4 + [*range(6)]),
        ({'frames': [0] * 3, 'frame_filled': np.arange(6) > 2}, [-1] * 3 + [0, 1, 2] + [-1] * 4),
        ({'frames': [0], 'frame_filled': np.arange(10) > 8}, [-1] * 9 + [0]),
    ],
)
def test_pictures_of_one_row_stay_at_their_times(record, places):
    assert inputs.places_together(record, 10).tolist() == places


def test_the_picture_of_a_time_without_one_is_black():
    made = inputs.make(FRAMES | {'pictures': 4})
    pictures = [np.full((32, 48, 3), level, np.uint8) for level in (50, 90)]
    (row,) = made.items({'frames': pictures, 'frame_filled': np.array([False, True, False, True])})
    assert row.mean(axis=(1, 2, 3)).tolist() == [0, 50, 0, 90]


def test_pictures_are_squashed_bilinearly_unless_the_settings_say_otherwise():
    """Runs of before have no such settings."""
    frame = striped(50, 90)
    sharp = np.asarray(Image.fromarray(frame).resize((48, 32), Image.Resampling.BICUBIC))
    (row,) = inputs.make(FRAMES | {'interpolation': 'bicubic'}).items({'frames': [frame]})
    np.testing.assert_array_equal(row, sharp)
    (row,) = inputs.make(FRAMES).items({'frames': [frame]})
    np.testing.assert_array_equal(row, media.resize_picture(frame, 32, 48))
    assert (row != sharp).any()


class Frames:
    """Records of one frame each."""

    def __init__(self, *frames):
        self.frames = frames

    def picture(self, index, part):
        return Image.fromarray(self.frames[index])


def test_random_crops_are_cut_from_unsquashed_pictures_and_never_from_the_padding():
    """Pixels tell their places in a picture, which is as steep down as across in each crop."""
    crop = {'random_resized_crop': {'size': (24, 24), 'area': (0.2, 1.0), 'aspect': (1.0, 1.0)}}
    made = inputs.make(
        CROP | {'canvas': (64, 64), 'mean': (0.0,) * 3, 'std': (1.0,) * 3}, None, crop
    )
    frames = Frames(striped(60, 128), striped(128, 80), striped(20, 30))
    read = [made.read(frames, index, 0) for index in range(3)]
    assert [each['extent'].tolist() for each in read] == [[30, 64], [64, 40], [20, 30]]
    blue = [np.where(np.arange(3) == 2, 255, each['frame']) for each in read]
    for n, (rows, columns) in enumerate(each['extent'] for each in read):
        blue[n][rows:], blue[n][:, columns:] = 0, 0  # only the padding has no blue
    batch = {'frame': np.repeat(blue, 20, 0), 'label': np.zeros(60)}
    batch['extent'] = np.repeat([each['extent'] for each in read], 20, 0)
    made_of = made.prepare_batch(jax.random.split(jax.random.key(0), 60), batch)
    assert made_of.keys() == {'image', 'label'}
    found = np.asarray(made_of['image']) * 255
    np.testing.assert_allclose(found[..., 2], 255, atol=0.1)
    down, across = np.ptp(found[:, :, 12, 0], 1), np.ptp(found[:, 12, :, 1], 1)
    height, width = batch['extent'].T
    np.testing.assert_allclose(down * height, across * width, rtol=0.25)
    assert len({*down.round(3)}) > 20


def test_a_whole_canvas_is_cropped_as_without_an_extent():
    x, key = jax.random.uniform(jax.random.key(0), (36, 64, 3)), jax.random.key(1)
    cut = functools.partial(augment.random_resized_crop, size=(8, 8))
    for n in range(2):
        part = jax.random.fold_in(key, n)
        expected = cut(part, x)
        np.testing.assert_allclose(cut(part, x, np.array([36, 64])), expected, atol=1e-6)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'resize': 'stretch'}, "resize is 'stretch'; it must be one of squash, crop"),
        (
            {'interpolation': 'lanczos'},
            "interpolation is 'lanczos'; it must be one of bilinear, bic",
        ),
        ({'crop_fraction': 0}, r'crop_fraction is 0; it must lie in \(0, 1\]'),
        ({'size': [24, 32]}, r"takes squares, and size is \(24, 32\); .* or resize='squash'"),
    ],
)
def test_a_resize_that_cannot_be_is_one_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        inputs.make(CROP | change)


def test_the_share_of_a_crop_is_that_of_the_weights():
    config = {'data': {'items': 'frame'}, 'frames': 'clip12', 'resize': 'crop'}
    for more, share in (
        ({'pretrained': 'tf_efficientnet_b5.ra_in1k'}, 0.934),
        ({}, 0.875),
        ({'pretrained': 'resnet50', 'crop_fraction': 0.5}, 0.5),
    ):
        settings = examples.preprocessing(ConfigDict(config | more), [])
        assert (settings['resize'], settings['crop_fraction']) == ('crop', share)
    squashed = examples.preprocessing(ConfigDict(config | {'resize': 'squash'}), [])
    assert 'crop_fraction' not in squashed


@pytest.mark.parametrize(
    ('settings', 'size', 'sentence'),
    [
        ({}, (32, 48), r'canvas is \(\); .* --config.canvas="\(480, 853\)"'),
        ({'canvas': 256}, (32, 48), r'canvas is 256; .* height and width'),
        ({'canvas': (256, 0)}, (32, 48), r'canvas is \(256, 0\)'),
        ({'canvas': (64, 64)}, (64, 64), r'size \(64, 64\), the network takes \(32, 48\)'),
    ],
)
def test_a_crop_needs_a_canvas_and_the_size_of_the_network(settings, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        inputs.make(FRAMES | settings, None, {'random_resized_crop': {'size': size}})


@pytest.mark.parametrize(
    ('settings', 'augmentation'),
    [
        (SOUND, {'random_gain': {'limit_db': 6.0}, 'frequency_mask': {'max_bands': 200}}),
        (FRAMES, {'random_affine': {}, 'random_erasing': {'probability': 1.0}}),
    ],
)
def test_an_example_is_augmented_by_its_own_key_whatever_the_batch(dataset, settings, augmentation):
    made = inputs.make(settings, STATS, augmentation)
    batch = first_batch(inputs.rows(dataset, 'test', made))
    keys = jax.random.split(jax.random.key(0), 4)
    prepare = jax.jit(made.prepare_batch)
    four = prepare(keys, batch)['image']
    one = prepare(keys[2:3], {name: array[2:3] for name, array in batch.items()})['image']
    np.testing.assert_allclose(one[0], four[2], atol=1e-4)
    plain = np.asarray(jax.jit(inputs.make(settings, STATS).prepare_batch)(None, batch)['image'])
    assert np.abs(four - plain).max(axis=(1, 2, 3)).min() > 0.1
    np.testing.assert_allclose(prepare(None, batch)['image'], plain, atol=1e-4)
    if 'frequency_mask' in augmentation:  # what is masked is the mean, which is 0
        assert (np.asarray(four) == 0).all(axis=(2, 3)).any(axis=1).any()


def test_measured_stats_make_mean_0_and_deviation_1(dataset):
    rows = inputs.rows(dataset, 'test', inputs.make(SOUND))
    stats = inputs.measure(inputs.make(SOUND), rows, batch_size=8)  # 20 rows: the last is padded
    order, mask = epoch_order(len(rows), 20)
    batch = next(rows.inputs.batches(order, mask))
    image = np.asarray(jax.jit(inputs.make(SOUND, stats).prepare_batch)(None, batch)['image'])
    np.testing.assert_allclose(image.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(image.std((0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize('settings', [SOUND, FRAMES])
def test_a_whole_record_gives_what_its_rows_give(dataset, settings):
    made = inputs.make(settings, STATS)
    rows = inputs.rows(dataset, 'test', made)
    count = rows.clip_id.count(rows.clip_id[0])
    found = made(dataset.records('test')[0])
    expected = jax.jit(made.prepare_batch)(None, first_batch(rows, count))['image']
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_sound_of_a_file_is_resampled():
    time_s = np.arange(44100) / 44100
    tone = np.float32(0.1 * np.sin(2 * np.pi * 5000 * time_s))[:, None].repeat(2, axis=1)
    found = inputs.make(SOUND | {'size': (256, 94)})({'audio': tone, 'sample_rate': 44100})
    assert found.shape == (1, 256, 94, 3)
    time_s = np.arange(48000) / 48000
    tone = np.float32(0.1 * np.sin(2 * np.pi * 5000 * time_s))[:, None].repeat(2, axis=1)
    same = inputs.make(SOUND | {'size': (256, 94)})({'audio': tone, 'sample_rate': 48000})
    assert found[0, :, 50, 0].argmax() == same[0, :, 50, 0].argmax()


def test_an_unknown_augmentation_names_those_there_are():
    with pytest.raises(ValueError, match="'mixup'; there are random_gain, frequency_mask, time_m"):
        inputs.make(SOUND, augmentation={'mixup': {}})


def test_pictures_are_normalised_as_the_config_says_or_as_for_the_weights_or_for_imagenet():
    config = ConfigDict({'data': {'items': 'frame'}, 'frames': 'clip12'})
    imagenet = examples.preprocessing(config, [])
    assert (imagenet['mean'], imagenet['std']) == (sources.IMAGENET_MEAN, sources.IMAGENET_STD)
    config.pretrained = 'clip_rn101'
    assert examples.preprocessing(config, [])['mean'] == models.source_of('clip_rn101').mean
    config.mean = (0.1, 0.2, 0.3)
    assert examples.preprocessing(config, [])['mean'] == (0.1, 0.2, 0.3)


BOTH = FRAMES | {'piece_s': 1.0, 'front_end': SOUND['front_end'], 'spectrum_size': (32, 24)}


def test_a_row_of_both_senses_is_what_each_sense_gives_alone(dataset):
    both = inputs.make(BOTH | {'frames': 'second_centres'}, STATS)
    record = dataset.records('test')[0]
    record = record | {'frames': record['frames'][:2]}
    made = both(record)
    np.testing.assert_allclose(made['sound'], inputs.make(SOUND, STATS)(record), atol=1e-5)
    np.testing.assert_array_equal(made['image'], inputs.make(FRAMES)(record))
    filled = record | {'frame_filled': np.array([False, True]), 'frames': record['frames'][:1]}
    later = both(filled)  # the first second has no frame
    np.testing.assert_array_equal(later['image'], made['image'][:1])
    np.testing.assert_allclose(later['sound'], made['sound'][1:], atol=1e-5)


def test_a_silent_piece_is_zeros_and_its_picture_stays():
    both, draw = inputs.make(BOTH, STATS), np.random.default_rng(0)
    audio = draw.normal(0, 0.1, (96000, 2)).astype('f4')
    audio[:48000] = 0
    frames = [draw.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(2)]
    made = both({'audio': audio, 'sample_rate': 48000, 'frames': frames})
    assert not made['sound'][0].any() and made['sound'][1].all(axis=(0, 1)).any()
    assert made['image'].any(axis=(1, 2, 3)).all()


def test_both_senses_are_augmented_by_operations_of_their_own_and_unknown_ones_refused():
    augment = {'random_gain': {'limit_db': 6.0}, 'rand_augment': {'num_ops': 2, 'magnitude': 9}}
    both, draw = inputs.make(BOTH, STATS, augment), np.random.default_rng(0)
    batch = {
        'audio': draw.normal(0, 0.1, (4, 48000, 2)).astype('f4'),
        'frame': draw.integers(0, 256, (4, 32, 48, 3), np.uint8),
    }
    keys = jax.random.split(jax.random.key(0), 4)
    plain, made = both.prepare_batch(None, batch), both.prepare_batch(keys, batch)
    for name in ('image', 'sound'):
        assert (np.abs(made[name] - plain[name]).max(axis=(1, 2, 3)) > 1e-3).sum() >= 3, name
    with pytest.raises(ValueError, match="no augmentation here is called 'rand_augmen'; there are"):
        inputs.make(BOTH, STATS, {'rand_augmen': {}})
    with pytest.raises(ValueError, match='pictures is 10, and a network of both senses takes one'):
        inputs.make(BOTH | {'pictures': 10})


def test_rand_augment_leaves_the_keys_of_older_operations_alone():
    """What a run of an earlier version drew, it draws again."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (3, 32, 48, 3), np.uint8)
    keys = jax.random.split(jax.random.key(0), 3)
    erased = inputs.make(FRAMES, None, {'random_erasing': {'probability': 1.0}})
    made = erased.prepare_batch(keys, {'frame': x})['image']
    plain = erased.prepare_batch(None, {'frame': x})['image']
    fold = jax.vmap(jax.random.fold_in, (0, None))(keys, 5)  # its place in version 1.0
    one = functools.partial(augment.random_erasing, probability=1.0)
    np.testing.assert_allclose(made, jax.vmap(one)(fold, plain), atol=1e-6)
