import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from avsc_jax import models, weights
from avsc_jax.data import records, sources
from avsc_jax.input_pipeline import (
    encoders,
    feature_cache,
    kept_features,
    pooling,
    preprocess,
)
from avsc_jax.runtime import files, made_with, multihost

SPECS = [
    encoders.EncoderSpec(
        'clip_vit_b32',
        {'width': 16, 'layers': 1, 'patch_size': 16, 'image_size': 32, 'output_dim': 8},
        'random:0',
    ),
    encoders.EncoderSpec(
        'clip_rn101',
        {'width': 2, 'layers': (1, 1, 1, 1), 'image_size': 32, 'output_dim': 6},
        'random:1',
    ),
]


@pytest.fixture(scope='module')
def dataset(data_dir):
    return records.open_dataset('tfds_tau', 'demo', data_dir)


@pytest.fixture(scope='module')
def encoder_of(tmp_path_factory):
    """The name of each of SPECS -> its encoder, whose programs are compiled once."""
    return {spec.name: encoders.Encoder(spec, tmp_path_factory.mktemp('none')) for spec in SPECS}


@pytest.fixture
def small_blocks(monkeypatch, encoder_of):
    make_small(monkeypatch, encoder_of)


def make_small(patch, encoder_of):
    """Blocks of four clips, and the encoders that are there already."""
    make = encoders.EncoderSpec.make
    patch.setattr(feature_cache, 'CLIPS_PER_BLOCK', 4)
    patch.setattr(
        encoders.EncoderSpec,
        'make',
        lambda spec, folder: encoder_of[spec.name] if spec in SPECS else make(spec, folder),
    )


def extract(dataset, folder, specs=SPECS):
    return feature_cache.extract(
        dataset, ['test'], specs, cache_dir=folder, weights_dir=folder / 'none'
    )['test']


@pytest.fixture(scope='module')
def extracted(dataset, encoder_of, tmp_path_factory):
    """A cache folder in small blocks, and the features in it."""
    folder = tmp_path_factory.mktemp('features')
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch, encoder_of)
        return folder, extract(dataset, folder)


@pytest.fixture
def cached(extracted, tmp_path, small_blocks):
    """A copy of the folder for a test to change, and the features."""
    folder, found = extracted
    return shutil.copytree(folder, tmp_path / 'features'), found


def test_features_are_those_of_the_encoder_on_each_clip(dataset, extracted, encoder_of):
    _, found = extracted
    clips = dataset.records('test')
    assert found.clip_id == [clips[i]['clip_id'] for i in range(10)]
    assert found.label.tolist() == [clips[i]['label'] for i in range(10)]
    for name, encoder in encoder_of.items():
        expected = encoder([item for i in (0, 7) for item in encoder.items(clips[i])])
        expected = expected.reshape(2, 12, -1)
        np.testing.assert_allclose(found.arrays[name][[0, 7]], expected, atol=1e-5)
        assert np.isfinite(expected).all() and (expected.std(axis=(1, 2)) > 0).all()


FRAME = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)


def pictures(encoder, *sizes):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    return encoder.items({'frames': frames})


def test_pictures_of_all_sizes_share_one_batch_in_their_order(tmp_path):
    encoder = encoders.Encoder(SPECS[0], tmp_path, jax.devices()[:1])
    items = pictures(encoder, (40, 40), (40, 60), (61, 40), (9, 200), (40, 40), (500, 431), (1, 1))
    together = encoder(items)
    assert encoder(items[:3], of=7).shape == (3, *together.shape[1:])
    assert (
        encoder._encode.__wrapped__._cache_size() == encoder._prepare._cache_size() == 1
    )  # compiled once
    single = np.concatenate([encoder([item]) for item in items])
    np.testing.assert_allclose(together, single, atol=1e-5)
    with pytest.raises(ValueError, match=r'shape \(40, 41, 3\) and takes .*give what items'):
        encoder([np.zeros((40, 41, 3), np.uint8)])


def test_the_last_block_is_encoded_in_the_shape_of_those_before(encoder_of, monkeypatch):
    monkeypatch.setattr(feature_cache, 'CLIPS_PER_BLOCK', 4)
    encoder, calls = encoder_of[SPECS[0].name], []

    def block(count):
        clips = [{'clip_id': str(k), 'segment': -1, 'frames': FRAME[None]} for k in range(count)]
        return feature_cache._encoded(clips, [encoder])[SPECS[0].name]['features']

    encode = encoder._encode
    monkeypatch.setattr(encoder, '_encode', lambda v, x: calls.append(len(x)) or encode(v, x))
    whole, rest = block(4), block(1)
    assert calls == [8, 8] and (len(whole), len(rest)) == (4, 1)
    np.testing.assert_array_equal(whole[0], rest[0])


@pytest.mark.parametrize('spec', SPECS, ids=lambda spec: spec.name)
def test_one_and_two_devices_give_the_same_features(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, 'FRAMES_PER_CALL', 4)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(11)]
    items, found = spec.transform.items({'frames': frames}), []
    for count in (1, 2):
        encoder = encoders.Encoder(spec, tmp_path, jax.devices()[:count])
        encode, seen = encoder._encode, []
        encoder._encode = lambda v, x, encode=encode, seen=seen: seen.append(x) or encode(v, x)
        found.append(encoder(items))
        assert [[len(s.data) for s in x.addressable_shards] for x in seen] == (
            [[4]] * 3 if count == 1 else [[4, 4]] * 2
        )
    # A device sees four frames a call either way; measured: no bit differs.
    np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-6)
    assert found[0].std() > 0


def test_an_encoder_of_timm_s_sees_what_its_weights_expect(tmp_path):
    """ImageNet's head in the file is passed over; 32 px are cut out of floor(32 / 0.95) = 33."""
    options = {'width': 4, 'image_size': 32}
    trained = weights.random_variables(models.create_model('resnet18', **options), 0)
    weights.write(trained, tmp_path / 'resnet18.safetensors', {})
    origin = weights.identify('resnet18', tmp_path)
    spec = encoders.EncoderSpec('resnet18', {**options, 'num_classes': 0}, origin)
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(frame).resize((41, 33), Image.BICUBIC), np.float32)
    picture = picture[0:32, 4:36] / 255  # round(0.5) is 0, round(4.5) is 4
    x = (picture - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    model = models.create_model('resnet18', **spec.options)
    expected = jax.jit(model.apply)(trained, x[None].astype(np.float32))[0]
    encoder = encoders.Encoder(spec, tmp_path, jax.devices()[:1])
    found = encoder(encoder.items({'frames': [frame]}))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.std(expected))


def test_each_process_makes_its_share_of_the_blocks(dataset, tmp_path, small_blocks, monkeypatch):
    waits = []
    monkeypatch.setattr(multihost, 'wait', waits.append)
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    found = []
    for index in range(2):
        monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
        if index == 0:  # as if the other process wrote to another disk
            with pytest.raises(FileNotFoundError, match=r'block_00001.* --data_dir that all proc'):
                extract(dataset, tmp_path)
        else:
            assert extract(dataset, tmp_path).clip_id == extract(dataset, tmp_path).clip_id
        found.append(sorted({block.stem[-1] for block in tmp_path.rglob('block_*.npz')}))
    assert found == [['0', '2'], ['0', '1', '2']]
    assert waits == ['features'] * 3


def test_a_second_extraction_reads_the_cache_and_builds_no_encoder(dataset, cached, monkeypatch):
    folder, first = cached
    monkeypatch.setattr(encoders.EncoderSpec, 'make', None)
    second = extract(dataset, folder)
    assert first.clip_id == second.clip_id
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes()


def test_only_missing_blocks_are_encoded_again(dataset, cached, monkeypatch):
    folder, first = cached
    blocks = sorted(folder.rglob('block_*.npz'))
    assert len(blocks) == 6
    blocks[1].unlink()
    kept = {block: block.stat().st_mtime_ns for block in blocks if block.exists()}
    decoded = []
    read = records.Records.__getitem__
    monkeypatch.setattr(
        records.Records, '__getitem__', lambda self, i: decoded.append(i) or read(self, i)
    )
    second = extract(dataset, folder)
    assert sorted(decoded) == [4, 5, 6, 7]
    assert {block: block.stat().st_mtime_ns for block in kept} == kept
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])


def test_a_corrupt_block_is_one_sentence_that_names_it(dataset, cached):
    folder, _ = cached
    block = sorted(folder.rglob('block_*.npz'))[0]
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 0xFF
    block.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=rf'cache file .*{block.name} is corrupt'):
        extract(dataset, folder)
    assert block.exists()


def test_blocks_of_other_clips_are_refused(dataset, cached):
    folder, _ = cached
    vit = sorted(folder.rglob('clip_vit_b32*/test/block_*.npz'))
    vit[0].write_bytes(vit[1].read_bytes())
    with pytest.raises(ValueError, match='of clip_vit_b32 are not of the clips of the data set'):
        extract(dataset, folder)


def rewrite(block, **columns):
    arrays = files.read_arrays(block)
    files.write_arrays(block, **arrays | columns)


def test_labels_are_those_of_the_data_and_never_of_the_cache(dataset, cached):
    folder, _ = cached
    labels = [record['label'] for record in dataset.records('test', fields=())]
    for block in folder.rglob('block_*.npz'):
        assert 'label' not in files.read_arrays(block)
        rewrite(block, label=np.full(4, 7, np.int32))  # as caches of earlier versions have them
    assert extract(dataset, folder).label.tolist() == labels


def test_a_header_of_fewer_rows_is_found_out(dataset, cached):
    folder, _ = cached
    block = sorted(folder.rglob('block_*.npz'))[0]
    data = block.read_bytes()
    shape = b"'shape': (4, 12, "
    assert data.count(shape) == 1  # of the features
    block.write_bytes(data.replace(shape, b"'shape': (0, 12, "))
    with pytest.raises(ValueError, match=rf'cache file .*{block.name} is corrupt .*--fresh'):
        extract(dataset, folder)


BLOCK = {
    'clip_id': np.array(['a', 'b']), 'segment': np.int32([-1, -1]),
    'features': np.zeros((2, 3, 4), 'f4'), 'made_with': np.array('{"av": "15.0"}'),
    'stamps': np.zeros((2, 3), int),
}  # fmt: skip


@pytest.mark.parametrize(
    'changed',
    [
        {'clip_id': np.array([1, 2])},
        {'clip_id': np.array(['a', 'b', 'c'])},
        {'clip_id': np.array('a')},
        {'segment': np.float32([0, 1])},
        {'features': np.zeros((2, 3), 'f4')},
        {'features': np.zeros((3, 3, 4), 'f4')},
        {'features': np.zeros((2, 3, 4), int)},
        {'made_with': np.array('[' * 100_000)},
        {'made_with': np.array('[]')},
        {'made_with': np.array('{"av": 15}')},
        {'made_with': np.array(3)},
        {'stamps': np.zeros(2, int)},
        {'counts': np.array([3, 4])},
        {'counts': np.array([-1, 2])},
        {'counts': np.array([1.0, 2.0])},
    ],
    ids=range(15),
)
def test_a_block_of_another_shape_is_one_sentence_that_names_it(tmp_path, changed):
    block = tmp_path / 'block_00000.npz'
    files.write_arrays(block, **BLOCK, counts=np.array([3, 2]))
    assert len(kept_features.read_block(block)) == 6
    files.write_arrays(block, **BLOCK | changed)
    with pytest.raises(ValueError, match=r'\Acache file .*block_00000.npz is corrupt \(.*\Z'):
        kept_features.read_block(block)


@pytest.mark.parametrize('content', [b'', bytes(300), b'PK\3\4' + bytes(300)])
def test_a_block_of_zero_bytes_is_one_sentence_that_names_it(tmp_path, content):
    (tmp_path / 'block_00000.npz').write_bytes(content)
    with pytest.raises(ValueError, match=r'\Acache file .*block_00000.npz is corrupt \(.*\Z'):
        kept_features.read_block(tmp_path / 'block_00000.npz')


def test_features_of_other_libraries_are_used_with_a_note_and_fresh_makes_them_anew(
    dataset, cached, capsys
):
    folder, first = cached
    extract(dataset, folder)
    assert 'note' not in capsys.readouterr().err
    block, *_ = sorted(folder.rglob('clip_vit_b32*/test/block_*.npz'))
    other = json.dumps({**made_with.facts(), 'av': '3.9'})
    shown = np.zeros_like(files.read_arrays(block)['features'])
    rewrite(block, made_with=np.array(other), features=shown)
    assert not extract(dataset, folder).arrays['clip_vit_b32'][:4].any()
    now = made_with.facts()['av']
    assert f'were made with av 3.9 (now {now}); --fresh' in capsys.readouterr().err
    again = feature_cache.extract(
        dataset, ['test'], SPECS, cache_dir=folder, weights_dir=folder / 'none', fresh=True
    )['test']
    np.testing.assert_array_equal(again.arrays['clip_vit_b32'], first.arrays['clip_vit_b32'])
    assert 'note' not in capsys.readouterr().err


def test_pictures_of_a_video_that_was_replaced_are_encoded_again(
    dataset, tmp_path, data_dir, monkeypatch
):
    shutil.copytree(next(data_dir.rglob('tfds_tau_demo*/video')), tmp_path / 'media/video')
    videos = sources.media_files(dataset, tmp_path, tmp_path / 'media')
    monkeypatch.setattr(feature_cache, 'CLIPS_PER_BLOCK', 4)
    asked = []
    monkeypatch.setattr(encoders.EncoderSpec, 'pictures', lambda spec, file: asked.append(file) or {
        'media_frames': [np.zeros((64, 64, 3), np.float32)]})  # fmt: skip
    monkeypatch.setattr(
        encoders.Encoder, '__call__', lambda self, items, of: np.zeros((len(items), 3))
    )
    for times in (10, 0):
        extract_openl3(dataset, tmp_path / 'cache', videos, [PICTURES])
        assert len(asked) == times
        asked.clear()
    (file,) = (tmp_path / 'media').rglob(f'{dataset.outlines("test")[5]["clip_id"]}.mp4')
    data, stat = file.read_bytes(), file.stat()
    file.with_suffix('.new').write_bytes(data[::-1])  # of the same size and time
    file.with_suffix('.new').replace(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    extract_openl3(dataset, tmp_path / 'cache', videos, [PICTURES])
    assert file in asked and len(asked) == 4  # those of its block
    shutil.rmtree(tmp_path / 'media')  # what is not there has not changed
    gone = sources.media_files(dataset, tmp_path, tmp_path / 'media')
    extract_openl3(dataset, tmp_path / 'cache', gone, [PICTURES])
    assert len(asked) == 4


@pytest.mark.parametrize(
    'change', [{'weights': 'random:1'}, {'options': {**SPECS[0].options, 'width': 32}}]
)
def test_the_key_depends_on_weights_and_options(change):
    other = encoders.EncoderSpec(**{**SPECS[0].to_json(), **change})
    assert other.key('data') != SPECS[0].key('data')


def test_the_key_depends_on_the_data():
    assert SPECS[0].key('data') == SPECS[0].key('data') != SPECS[0].key('other')


def test_an_encoder_without_published_weights_is_a_sentence():
    with pytest.raises(ValueError, match='no weights are published for efficientnetv2_s; there'):
        encoders.EncoderSpec('efficientnetv2_s', {}, 'random:0').key('of the data')


NARROW = {'widths': (2, 2, 2, 3), 'embedding_size': 3}
SOUND = encoders.EncoderSpec('openl3_audio', {**NARROW, 'hop_s': 1.0, 'centre': False}, 'random:0')
PICTURES = encoders.EncoderSpec(
    'openl3_image',
    {**NARROW, 'input_shape': (64, 64, 3), 'frames': 'second_centres'},
    'random:0',
)


@pytest.fixture
def video(data_dir):
    (folder,) = data_dir.rglob('tfds_tau_demo*/video')
    return lambda clip_id: folder / f'{clip_id}.mp4'


def extract_openl3(dataset, folder, media, specs=(SOUND, PICTURES)):
    return feature_cache.extract(
        dataset, ['test'], specs, cache_dir=folder, weights_dir=folder / 'none', media=media
    )['test']


def test_sound_and_pictures_of_a_clip_are_read_once_for_all_that_lack_them(
    dataset, tmp_path, small_blocks, monkeypatch, video
):
    monkeypatch.setattr(feature_cache, 'CALLS_TOGETHER', 1)
    monkeypatch.setattr(encoders, 'WINDOWS_PER_CALL', 2)  # fewer than those of a block
    made, make = [], encoders.EncoderSpec.make
    monkeypatch.setattr(
        encoders.EncoderSpec,
        'make',
        lambda spec, folder: made.append(make(spec, folder)) or made[-1],
    )
    seen = []
    found = extract_openl3(dataset, tmp_path, lambda clip: seen.append(clip) or video(clip))
    assert sorted(seen) == sorted(found.clip_id) and len(seen) == 10
    assert {name: array.shape for name, array in found.arrays.items()} == {
        'openl3_audio': (10, 2, 3),
        'openl3_image': (10, 2, 3),
    }
    inputs = preprocess.FeatureInputs({}, made)
    assert inputs.fields == ('audio', 'media_frames')
    clips = [dataset.records('test')[i] for i in (7, 8)]  # of two blocks
    each = inputs.each([clip | inputs.pictures(video(clip['clip_id'])) for clip in clips])
    for name, array in found.arrays.items():
        both = [one[f'features/{name}'] for one in each]
        np.testing.assert_allclose(both, array[7:9], rtol=1e-4, atol=1e-5)
        assert array.std() > 0

    def no_file(clip_id):
        raise AssertionError

    other = encoders.EncoderSpec(
        SOUND.name, {**SOUND.options, 'version': '0.4-kapre'}, SOUND.weights
    )
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob('*.npz')}
    later = extract_openl3(dataset, tmp_path, no_file, [other])  # of the sound alone
    assert not np.allclose(later.arrays['openl3_audio'], found.arrays['openl3_audio'])
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(list(tmp_path.glob('*/openl3_audio-*'))) == 2


def test_pictures_need_the_video_files(dataset, tmp_path):
    with pytest.raises(ValueError, match=r'openl3_image takes pictures .* folder by --media_dir'):
        extract_openl3(dataset, tmp_path, None)
    assert not list(tmp_path.rglob('*.npz'))


@pytest.mark.parametrize('odd', [2, 9])
def test_a_clip_whose_file_holds_more_or_less_is_named(dataset, tmp_path, monkeypatch, odd):
    """As the third of a block, and as the first of the last block."""
    monkeypatch.setattr(feature_cache, 'CLIPS_PER_BLOCK', 3)
    name = dataset.records('test')[odd]['clip_id']
    monkeypatch.setattr(
        encoders.EncoderSpec,
        'pictures',
        lambda spec, clip: {
            'media_frames': [np.zeros((64, 64, 3), np.float32)] * (2 if clip == name else 1)
        },
    )
    with pytest.raises(ValueError, match=rf'{re.escape(name)} gives openl3_image another'):
        extract_openl3(dataset, tmp_path, str, [PICTURES])


def numbers(*shape):
    return np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)


def test_inputs_are_frames_means_or_sequences():
    a, b = numbers(4, 6, 2), numbers(4, 6, 3)
    arrays = {'one': a, 'two': b}
    found = pooling.network_inputs({}, arrays)
    np.testing.assert_array_equal(found['features/one'], a.reshape(24, 2))
    named = {'inputs': {'sound': 'one', 'picture': 'two'}}
    found = pooling.network_inputs({**named, 'pool': 'mean'}, arrays)
    np.testing.assert_allclose(found['picture'], b.mean(axis=1), rtol=1e-6)
    found = pooling.network_inputs({**named, 'pool': 'sequence', 'length': 15}, arrays)
    assert found['sound'].shape == (4, 15, 2)
    np.testing.assert_array_equal(found['sound'][:, :6], a)
    assert not found['sound'][:, 6:].any(), 'frames that do not fill a length are not repeated'
    found = pooling.network_inputs({**named, 'pool': 'sequence', 'length': 60}, arrays)
    np.testing.assert_array_equal(found['sound'], np.tile(a, (1, 10, 1)))
    found = pooling.network_inputs({**named, 'pool': 'sequence', 'length': 12}, arrays)
    assert not found['sound'][:, 6:].any(), 'half of a clip is not repeated'
    found = pooling.network_inputs({**named, 'pool': 'sequence', 'length': 4}, arrays)
    np.testing.assert_array_equal(found['sound'], a[:, :4])
    with pytest.raises(ValueError, match="pool is 'max', it must be None, 'mean' or 'sequence'"):
        pooling.network_inputs({'pool': 'max'}, arrays)


def test_clips_of_unlike_length_give_their_own_rows():
    a, b = numbers(4, 6, 2), numbers(4, 7, 3)
    counts = {'one': np.array([6, 2, 6, 3]), 'two': np.array([7, 2, 6, 3])}
    rows, per_clip = pooling.clip_inputs({}, {'one': a, 'two': b}, counts)
    assert per_clip.tolist() == [6, 2, 6, 3]
    for name, array in (('features/one', a), ('features/two', b)):
        expected = np.concatenate([x[:n] for x, n in zip(array, per_clip, strict=True)])
        np.testing.assert_array_equal(rows[name], expected)
    pooled, per_clip = pooling.clip_inputs({'pool': 'mean'}, {'one': a}, counts | {'two': None})
    assert per_clip.tolist() == [1] * 4
    np.testing.assert_allclose(pooled['features/one'][1], a[1, :2].mean(0), rtol=1e-6)
    stats = pooling.measure({}, {'one': a}, counts)
    own = np.concatenate([x[:n] for x, n in zip(a, counts['one'], strict=True)])
    np.testing.assert_allclose(stats['std_features/one'], own.std(0), rtol=1e-5)


def test_tracks_that_differ_by_a_frame_are_cut_and_by_more_refused():
    arrays = {'one': numbers(4, 6, 2), 'two': numbers(4, 5, 3)}
    found = pooling.network_inputs({}, arrays)
    np.testing.assert_array_equal(found['features/one'], arrays['one'][:, :5].reshape(20, 2))
    assert len(found['features/two']) == 20
    arrays['two'] = numbers(4, 4, 3)
    with pytest.raises(
        ValueError, match=r'differ in rows \(6 of features/one, 4 of features/two\)'
    ):
        pooling.network_inputs({}, arrays)
    assert len(pooling.network_inputs({'pool': 'mean'}, arrays)['features/two']) == 4


SEEN = {  # which of six times have pictures -> the times of the rows
    'all': ([True] * 6, range(6)),
    'no first ones': ([False, False, True, True, True, True], [2, 3, 4, 5]),
    'no last ones': ([True, True, True, False, False, False], [0, 1, 2]),
    'none between': ([True, False, False, True, True, True], [0, 3, 4, 5]),
    'one time more, and no first one': ([False] + [True] * 6, [1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize('case', SEEN)
def test_sound_and_pictures_of_one_time_make_a_row(case):
    filled, times = np.array(SEEN[case][0]), [*SEEN[case][1]]
    sound = np.float32(np.arange(6))[None, :, None]
    pictures = np.float32(np.flatnonzero(filled))[None, :, None]
    arrays = {'one': sound, 'two': pictures}
    made = pooling.network_inputs({}, arrays, filled={'two': filled})
    assert made['features/one'].ravel().tolist() == made['features/two'].ravel().tolist() == times
    alone = pooling.network_inputs({}, {'two': pictures}, filled={'two': filled})
    assert len(alone['features/two']) == filled.sum(), 'pictures alone lose none'


def test_times_that_do_not_fit_are_refused():
    arrays = {'one': numbers(1, 6, 2), 'two': numbers(1, 3, 3)}
    with pytest.raises(
        ValueError, match=r'differ in rows \(6 of features/one, 12 of features/two\)'
    ):
        pooling.network_inputs({}, arrays, filled={'two': np.arange(12) < 3})
    arrays['two'] = numbers(1, 1, 3)
    with pytest.raises(ValueError, match='no time in common'):
        pooling.network_inputs({}, arrays, filled={'two': np.arange(7) > 5})


def test_standardised_inputs_have_mean_0_and_deviation_1():
    array = numbers(5, 7, 3) + np.float32([0, 1e4, 0])
    array[..., 2] = 0.1  # never changes
    settings = {'inputs': {'sound': 'one'}}
    stats = pooling.measure(settings, {'one': array})
    assert {name: value.dtype for name, value in stats.items()} == {
        'mean_sound': np.float32,
        'std_sound': np.float32,
    }
    np.testing.assert_allclose(stats['std_sound'][:2], array.std((0, 1))[:2], rtol=1e-4)
    assert stats['std_sound'][2] == 1
    found = pooling.network_inputs(settings, {'one': array}, stats)['sound']
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(0), [1, 1, 0], atol=1e-3)


def test_a_media_file_gives_what_its_record_gives(dataset, encoder_of, video):
    """Sound by its samples; JPEG stands between the stored frames and the file's."""
    settings = {
        'frames': 'clip12', 'short_side': 448, 'pool': 'mean',
        'inputs': {'picture': 'clip_vit_b32'},
    }  # fmt: skip
    made = [encoder_of[SPECS[0].name]]
    inputs = preprocess.FeatureInputs(settings, made, {'mean_picture': 1, 'std_picture': 2})
    assert inputs.fields == ('frames',) and inputs.notes({}) == []
    clip = dataset.records('test')[0]
    found = inputs(inputs.open(video(clip['clip_id'])))
    assert found['picture'].shape == (1, 8)
    np.testing.assert_allclose(found['picture'], inputs(clip)['picture'], atol=0.2)
    plain = preprocess.FeatureInputs({**settings, 'pool': None}, made)(clip)['picture']
    np.testing.assert_allclose(inputs(clip)['picture'][0], (plain.mean(0) - 1) / 2, atol=1e-5)


def test_features_are_standardised_in_place_only_where_nobody_else_uses_them():
    rng = np.random.default_rng(0)
    stats = {f'{what}_{name}': np.float32([3, 4]) for what in ('mean', 'std') for name in 'ab'}
    for encoders_of, is_in_place in (({'a': 'e'}, True), ({'a': 'e', 'b': 'e'}, False)):
        array = rng.standard_normal((2, 3, 2), np.float32)
        settings, before = {'inputs': encoders_of}, array.copy()
        expected = pooling.network_inputs(settings, {'e': array}, stats)
        np.testing.assert_array_equal(array, before)
        made = pooling.network_inputs(settings, {'e': array}, stats, overwrite=True)
        assert np.shares_memory(made['a'], array) == is_in_place
        for name in encoders_of:
            np.testing.assert_array_equal(made[name], expected[name])
