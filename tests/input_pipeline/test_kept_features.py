import json
import tracemalloc
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from avsc_jax.input_pipeline import kept_features, pooling
from avsc_jax.runtime import files, made_with


def blocks_of(folder, split, lengths, numbers=64, clips=4):
    """Writes a block of random features for each of these numbers of rows a clip; its outlines."""
    draw, paths, outlines = np.random.default_rng(len(split)), [], []
    for k, length in enumerate(lengths):
        names = [f'{split}-{k}-{n}' for n in range(clips)]
        columns = {
            'clip_id': np.array(names),
            'segment': np.full(clips, -1, np.int32),
            'features': draw.standard_normal((clips, length, numbers), np.float32),
            'made_with': np.array(json.dumps(made_with.facts())),
            'stamps': np.zeros((clips, 3), np.int64),
        }
        paths.append(folder / f'{split}-{k}.npz')
        files.write_arrays(paths[-1], **columns)
        outlines += [{'clip_id': name, 'segment': -1, 'label': len(name) % 2} for name in names]
    return paths, outlines


def read(folder, lengths, parts, **options):
    """Reads parts of made-up splits: split -> lengths of its blocks."""
    made = {split: blocks_of(folder, split, of, **options) for split, of in lengths.items()}
    dataset = SimpleNamespace(
        outlines=lambda split: made[split][1], classes=['a', 'b'], kind='exclusive'
    )
    paths = {split: {'openl3': paths} for split, (paths, _) in made.items()}
    return kept_features.read(dataset, paths, parts, set()), made


@pytest.mark.parametrize('lengths', [[5, 5, 5], [5, 3, 5], [3, 5], [4]])
def test_the_blocks_of_a_split_are_joined_in_order_whatever_their_lengths(tmp_path, lengths):
    found, made = read(tmp_path, {'train': lengths}, {'train': {'train': None}})
    (joined,) = found.values()
    assert joined.num_rows('openl3').tolist() == np.repeat(lengths, 4).tolist()
    assert ('openl3' in joined.counts) == (len({*lengths}) > 1)
    for k, path in enumerate(made['train'][0]):
        rows = joined.arrays['openl3'][4 * k : 4 * k + 4]
        np.testing.assert_array_equal(rows[:, : lengths[k]], files.read_arrays(path)['features'])
        assert not rows[:, lengths[k] :].any()


@pytest.mark.parametrize('test_lengths', [[3, 3], [3, 2]])
def test_parts_take_some_records_of_several_splits_in_their_own_order(tmp_path, test_lengths):
    lengths = {'train': [3, 3, 3], 'test': test_lengths}
    draw = np.random.default_rng(1)
    keep = {'train': draw.random(12) < 0.5, 'test': draw.random(8) < 0.5}
    parts = {
        'fold': keep,
        'others': {split: ~chosen for split, chosen in keep.items()},
        'turned': {'test': None, 'train': None},
    }
    found, made = read(tmp_path, lengths, parts)
    for name, of in parts.items():
        part, outlines, rows = found[name], [], []
        for split, chosen in of.items():
            blocks = [files.read_arrays(path)['features'] for path in made[split][0]]
            each = [record for block in blocks for record in block]
            takes = np.ones(len(each), bool) if chosen is None else chosen
            rows += [record for record, take in zip(each, takes, strict=True) if take]
            outlines += [o for o, take in zip(made[split][1], takes, strict=True) if take]
        assert part.clip_id == [outline['clip_id'] for outline in outlines]
        assert part.label.tolist() == [outline['label'] for outline in outlines]
        assert part.num_rows('openl3').tolist() == [len(record) for record in rows]
        for record, ours in zip(rows, part.arrays['openl3'], strict=True):
            np.testing.assert_array_equal(ours[: len(record)], record)


def test_features_of_other_clips_or_of_fewer_are_a_sentence(tmp_path):
    paths, outlines = blocks_of(tmp_path, 'train', [3, 3])
    for wrong in (
        outlines[::-1],
        [*outlines, {'clip_id': 'more', 'segment': -1, 'label': 0}],
        [*outlines[:-1], {**outlines[-1], 'segment': 2}],
    ):
        dataset = SimpleNamespace(outlines=lambda _, w=wrong: w, classes=['a'], kind='exclusive')
        with pytest.raises(ValueError, match='openl3 are not of the clips of the data set; give'):
            kept_features.read(
                dataset, {'train': {'openl3': paths}}, {'train': {'train': None}}, set()
            )


def test_reading_and_standardising_folds_needs_little_more_than_the_features(tmp_path):
    lengths, draw = {'train': [50] * 30, 'test': [50] * 10}, np.random.default_rng(2)
    fold = {split: draw.integers(0, 5, 4 * len(of)) for split, of in lengths.items()}
    chosen = {'train': (2, 3, 4), 'validation': (1,), 'test': (0,)}
    parts = {
        name: {split: np.isin(folds, numbers) for split, folds in fold.items()}
        for name, numbers in chosen.items()
    }
    settings = {'inputs': {'x': 'openl3'}}
    tracemalloc.start()
    found, _ = read(tmp_path, lengths, parts)
    stats = pooling.measure(settings, found['train'].arrays)
    made = {
        name: pooling.clip_inputs(
            settings,
            part.arrays,
            {'openl3': part.num_rows('openl3')},
            stats,
            overwrite=True,
        )[0]['x']
        for name, part in found.items()
    }
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * sum(array.nbytes for array in made.values()) == 1.3 * 160 * 50 * 64 * 4
    for array in made.values():
        assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data
