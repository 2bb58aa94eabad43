import jax
import numpy as np
import pytest
from PIL import Image

from avsc_jax import features, hosts, models, weights
from avsc_jax.data import records

SPECS = [
    features.EncoderSpec(
        'clip_vit_b32',
        {'width': 16, 'layers': 1, 'patch_size': 16, 'image_size': 32, 'output_dim': 8},
        'random:0',
    ),
    features.EncoderSpec(
        'clip_rn101',
        {'width': 2, 'layers': (1, 1, 1, 1), 'image_size': 32, 'output_dim': 6},
        'random:1',
    ),
]


@pytest.fixture
def dataset(data_dir):
    return records.open_dataset('tfds_tau', 'demo', data_dir)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(features, 'CLIPS_PER_BLOCK', 4)


def extract(dataset, folder, specs=SPECS):
    return features.extract(
        dataset, ['test'], specs, cache_dir=folder, weights_dir=folder / 'none'
    )['test']


def test_features_are_those_of_the_encoder_on_each_clip(dataset, tmp_path, small_blocks):
    found = extract(dataset, tmp_path)
    clips = dataset.records('test')
    assert found.clip_id == [clips[i]['clip_id'] for i in range(10)]
    assert found.label.tolist() == [clips[i]['label'] for i in range(10)]
    for spec in SPECS:
        encoder = features.Encoder(spec, tmp_path)
        expected = np.stack([encoder(clips[i]['frames']) for i in (0, 7)])
        np.testing.assert_allclose(found.arrays[spec.name][[0, 7]], expected, atol=1e-5)
        assert np.isfinite(expected).all() and expected.std() > 0


def test_frames_of_several_sizes_come_back_in_their_order(tmp_path):
    encoder = features.Encoder(SPECS[0], tmp_path)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (40, w, 3), dtype=np.uint8) for w in (40, 60, 40)]
    together = encoder(frames)
    single = np.concatenate([encoder([frame]) for frame in frames])
    np.testing.assert_allclose(together, single, atol=1e-5)


@pytest.mark.parametrize('spec', SPECS, ids=lambda spec: spec.name)
def test_one_and_two_devices_give_the_same_features(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(features, 'FRAMES_PER_CALL', 4)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(11)]
    found = []
    for count in (1, 2):
        encoder = features.Encoder(spec, tmp_path, jax.devices()[:count])
        encode, seen = encoder._encode, []
        encoder._encode = lambda v, x, encode=encode, seen=seen: seen.append(x) or encode(v, x)
        found.append(encoder(frames))
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
    spec = features.EncoderSpec('resnet18', {**options, 'num_classes': 0}, origin)
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(frame).resize((41, 33), Image.BICUBIC), np.float32)
    picture = picture[0:32, 4:36] / 255  # round(0.5) is 0, round(4.5) is 4
    x = (picture - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    model = models.create_model('resnet18', **spec.options)
    expected = model.apply(trained, x[None].astype(np.float32))[0]
    found = features.Encoder(spec, tmp_path, jax.devices()[:1])([frame])
    # Pillow's fixed point is a byte off at some of the pixels
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.std(expected))


def test_each_process_makes_its_share_of_the_blocks(dataset, tmp_path, small_blocks, monkeypatch):
    waits = []
    monkeypatch.setattr(hosts, 'wait', waits.append)
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


def test_a_second_extraction_reads_the_cache_and_builds_no_encoder(
    dataset, tmp_path, small_blocks, monkeypatch
):
    first = extract(dataset, tmp_path)
    monkeypatch.setattr(features, 'Encoder', None)
    second = extract(dataset, tmp_path)
    assert first.clip_id == second.clip_id
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes()


def test_only_missing_blocks_are_encoded_again(dataset, tmp_path, small_blocks, monkeypatch):
    first = extract(dataset, tmp_path)
    blocks = sorted(tmp_path.rglob('block_*.npz'))
    assert len(blocks) == 6
    blocks[1].unlink()
    kept = {block: block.stat().st_mtime_ns for block in blocks if block.exists()}
    decoded = []
    read = records.Records.__getitem__
    monkeypatch.setattr(
        records.Records, '__getitem__', lambda self, i: decoded.append(i) or read(self, i)
    )
    second = extract(dataset, tmp_path)
    assert sorted(decoded) == [4, 5, 6, 7]
    assert {block: block.stat().st_mtime_ns for block in kept} == kept
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])


def test_a_corrupt_block_is_one_sentence_that_names_it(dataset, tmp_path, small_blocks):
    extract(dataset, tmp_path)
    block = sorted(tmp_path.rglob('block_*.npz'))[0]
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 0xFF
    block.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=rf'cache file .*{block.name} is corrupt'):
        extract(dataset, tmp_path)
    assert block.exists()


def test_blocks_of_other_clips_are_refused(dataset, tmp_path, small_blocks):
    extract(dataset, tmp_path)
    vit = sorted(tmp_path.rglob('clip_vit_b32*/test/block_*.npz'))
    vit[0].write_bytes(vit[1].read_bytes())
    with pytest.raises(ValueError, match='are not of the same clips'):
        extract(dataset, tmp_path)


@pytest.mark.parametrize(
    'change', [{'weights': 'random:1'}, {'options': {**SPECS[0].options, 'width': 32}}]
)
def test_the_key_depends_on_weights_and_options(change):
    other = features.EncoderSpec(**{**SPECS[0].to_json(), **change})
    assert other.key('data') != SPECS[0].key('data')


def test_the_key_depends_on_the_data():
    assert SPECS[0].key('data') == SPECS[0].key('data') != SPECS[0].key('other')


def test_an_encoder_without_published_weights_is_a_sentence():
    with pytest.raises(ValueError, match='no weights are published for efficientnetv2_s; there'):
        features.EncoderSpec('efficientnetv2_s', {}, 'random:0').key('of the data')
