"""Folds that share no location: how they are made, kept in files, and stand for splits."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from avsc_jax.data import folds, sources
from avsc_jax.scenes import SCENES, parse_clip_id

# Clips and locations a scene of the development set. Source: its own meta.csv.
CLIPS = (978, 1133, 1065, 1279, 1392, 1369, 1228, 1389, 1387, 1071)
LOCATIONS = (29, 53, 53, 46, 40, 41, 31, 45, 42, 51)


def full_size_names() -> list[str]:
    """12,291 names at 431 made-up locations of uneven size, as many a scene as in the real set."""
    names, place = [], 0
    for scene, clips, places in zip(SCENES, CLIPS, LOCATIONS, strict=True):
        bounds = np.linspace(0, 1, places + 1) ** 1.3 * clips
        for clip in range(clips):
            here = place + np.searchsorted(bounds, clip, 'right') - 1
            names.append(f'{scene}-lyon-{here}-{len(names)}')
        place += places
    return names


def counts(names: list[str], found: np.ndarray) -> np.ndarray:
    """Clips of each scene in each fold `[5, 10]`."""
    scene = np.array([SCENES.index(parse_clip_id(name).scene) for name in names])
    return np.stack([np.bincount(scene[found == fold], minlength=10) for fold in range(5)])


def of_demo(**settings) -> dict:
    return {'name': 'tfds_tau', 'config': 'demo', **settings}


@pytest.fixture(scope='module')
def folded(data_dir):
    return sources.open_dataset(of_demo(fold=4), data_dir)


def test_full_size_folds_share_no_location_and_are_balanced():
    names = full_size_names()
    found = folds.assign(names)
    folds.check(names, found)
    table = counts(names, found)
    assert np.abs(table.sum(1) / (12291 / 5) - 1).max() < 0.01
    assert np.abs(table / (np.array(CLIPS) / 5) - 1).max() < 0.08


def test_neither_order_nor_seconds_of_clips_change_the_folds():
    names = full_size_names()[::7]
    found = folds.assign(names)
    np.testing.assert_array_equal(folds.assign(names[::-1]), found[::-1])
    seconds = [name for name in names for _ in range(1 + (name[0] == 'b'))]
    repeated = dict(zip(seconds, folds.assign(seconds), strict=True))
    assert [repeated[name] for name in names] == found.tolist()


def test_the_largest_location_goes_first_and_each_where_its_scene_is_rarest():
    places = [('bus', 1, 3), ('bus', 2, 2), ('bus', 3, 2), ('tram', 4, 2), ('tram', 5, 1)]
    names = [f'{s}-lyon-{place}-{k}' for s, place, count in places for k in range(count)]
    found = folds.assign(names, num_folds=2)
    # 1 to the first of equals; 2 and 3 away from it; 4 where 3 clips are, not 4; 5 away from 4
    assert found.tolist() == [0] * 3 + [1] * 2 + [1] * 2 + [0] * 2 + [1]


@pytest.mark.data
def test_the_folds_of_the_real_set_are_as_even_as_told():
    if not (folder := os.environ.get('AVSC_TAU_METADATA')):
        pytest.skip('AVSC_TAU_METADATA names no folder with meta.csv')
    rows = csv.DictReader((Path(folder) / 'meta.csv').open(), delimiter='\t')
    names = [Path(row['filename_audio']).stem for row in rows]
    found = folds.assign(names)
    folds.check(names, found)
    table = counts(names, found)
    assert table.sum(0).tolist() == list(CLIPS)
    assert table.sum(1).tolist() == [2478, 2468, 2446, 2445, 2454]
    # half a location of 36 clips: 41 public squares do not divide by five
    assert np.abs(table - np.array(CLIPS) / 5).max() == pytest.approx(18.2)


@pytest.mark.parametrize(
    ('names', 'found', 'sentence'),
    [
        (
            ['bus-lyon-1-1', 'bus-lyon-1-2', 'bus-oslo-1-1', 'tram-lyon-2-1', 'tram-lyon-2-3'],
            [0, 1, 0, 0, 1],
            r'^2 of 3 locations are in more than one fold: lyon-1 \(folds 0, 1\), lyon-2 \(',
        ),
        ([f'bus-lyon-{k // 2}-{k}' for k in range(8)], [0, 1] * 4, r'4 of 4 .* 1\), \.\.\.;'),
        (['bus-lyon-1-1'], [0], r'^fold 1 is empty or unknown; each of 0 \.\.\. 1 must'),
        (['bus-lyon-1-1', 'bus-lyon-2-1', 'bus-lyon-3-1'], [0, 1, 7], '^fold 7 is empty or unk'),
        (['bus-lyon-1-1', '00013'], [0, 1], "^'00013' names no location"),
    ],
)
def test_folds_that_are_none_are_a_sentence(names, found, sentence):
    with pytest.raises(ValueError, match=sentence):
        folds.check(names, found, num_folds=2)


def test_a_fold_file_holds_each_clip_once(tmp_path):
    folds.write(tmp_path / 'folds.tsv', ['b', 'a', 'b'], np.array([3, 0, 3]))
    assert (tmp_path / 'folds.tsv').read_text() == 'clip_id\tfold\nb\t3\na\t0\n'
    assert folds.read(tmp_path / 'folds.tsv') == {'b': 3, 'a': 0}
    assert [*tmp_path.iterdir()] == [tmp_path / 'folds.tsv']


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('clip_id,fold\na,1\n', r'line 2: needs the tab-separated columns .* clip_id,fold='),
        ('clip_id\tfold\na\tone\n', "line 2: needs .*, a number; it has clip_id='a', fold='one'"),
        ('clip_id\tfold\na\t1\nb\t0\na\t1\n', 'names 1 clips twice: a; each must'),
    ],
)
def test_a_broken_fold_file_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / 'folds.tsv').write_text(text)
    with pytest.raises(ValueError, match=sentence):
        folds.read(tmp_path / 'folds.tsv')


def test_splits_are_folds_and_the_next_one_is_for_selection(folded):
    clips = {s: [o['clip_id'] for o in folded.outlines(s)] for s in ('train', 'test')}
    fold_of = dict(zip(folded.clip_ids, folded.folds.tolist(), strict=True))
    assert {fold_of[clip] for clip in clips['test']} == {4}
    assert sorted(clips['train'] + clips['test']) == sorted(fold_of) and len(fold_of) == 30
    parts = [[o['clip_id'] for o in folded.outlines(s)] for s in ('validation', 'train_inner')]
    assert [fold_of[clip] for clip in parts[0]] == [0] * folded.num_records('validation')
    assert sorted(parts[0] + parts[1]) == sorted(clips['train'])
    titles = [folded.title(s) for s in ('train', 'train_inner', 'validation', 'test')]
    assert titles == ['folds 0, 1, 2, 3', 'folds 1, 2, 3', 'fold 0', 'fold 4']
    with pytest.raises(ValueError, match=r"no split 'train\+test'; it has train, train_inner"):
        folded.num_records('train+test')


@pytest.mark.skipif(
    not Path('/proc/self/io').exists(), reason='the bytes read are counted by Linux'
)
def test_opening_a_fold_reads_an_index_and_no_record(data_dir):
    def bytes_read():
        return int(re.search(r'rchar: (\d+)', Path('/proc/self/io').read_text())[1])

    (folder,) = data_dir.glob('tfds_tau/demo/*')
    records = sum(path.stat().st_size for path in folder.glob('*-t*.array_record*'))
    before = bytes_read()
    dataset = sources.open_dataset(of_demo(fold=1), data_dir)
    places = [o['location'] for name in ('train', 'test') for o in dataset.outlines(name)]
    assert len(places) == 30 and all(places)
    assert bytes_read() - before < records / 10


def test_records_of_a_fold_are_those_of_its_clips(folded):
    found = folded.records('test', fields=('audio',))
    assert len(found) == folded.num_records('test') == 6
    last = found[5]
    assert last['clip_id'] == folded.outlines('test')[5]['clip_id'] == found.outline(5)['clip_id']
    stored = {r['clip_id']: r for part in folds.STORED for r in folded.whole.records(part)}
    np.testing.assert_array_equal(last['audio'], stored[last['clip_id']]['audio'])
    with pytest.raises(IndexError):
        found[6]


def test_the_fingerprint_is_of_the_folds_and_not_of_the_one_reported_on(folded, data_dir, tmp_path):
    assert sources.open_dataset(of_demo(fold=1), data_dir).fingerprint == folded.fingerprint
    folds.write(tmp_path / 'folds.tsv', folded.clip_ids, (folded.folds + 1) % 5)
    other = sources.open_dataset(of_demo(fold=0, fold_file=tmp_path / 'folds.tsv'), data_dir)
    assert other.outlines('test') == folded.outlines('test')
    assert len({other.fingerprint, folded.fingerprint, folded.whole.fingerprint}) == 3


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (lambda clips: clips[4:], r'lacks 4 clips of tfds_tau/demo.*: \S+, \S+, \S+, \.\.\.; it'),
        (lambda clips: [*clips, 'bus-oslo-9-9'], 'names 1 clips that are not in .*: bus-oslo-9-9;'),
    ],
)
def test_a_fold_file_of_other_clips_is_a_sentence(folded, data_dir, tmp_path, change, sentence):
    clips = change(folded.clip_ids)
    folds.write(tmp_path / 'folds.tsv', clips, folds.assign(clips))
    with pytest.raises(ValueError, match=sentence):
        sources.open_dataset(of_demo(fold=0, fold_file=tmp_path / 'folds.tsv'), data_dir)


def test_data_without_train_or_a_fold_that_is_none_is_a_sentence(data_dir, tmp_path):
    with pytest.raises(ValueError, match=r'^fold 5 does not exist; name one of 0 \.\.\. 4$'):
        sources.open_dataset(of_demo(fold=5), data_dir)
    shutil.copytree(data_dir / 'tfds_tau', tmp_path / 'tfds_tau', symlinks=True)
    (file,) = (tmp_path / 'tfds_tau/demo').rglob('dataset_info.json')
    info = json.loads(file.read_text())
    info['splits'] = [split for split in info['splits'] if split['name'] == 'test']
    file.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"has no split 'train'; folds are made of .* --fold out"):
        sources.open_dataset(of_demo(fold=0), tmp_path)


@pytest.mark.parametrize(
    'content',
    [
        b'\xff\xfe', bytes(100), b'clip_id\tfold\na\t' + b'9' * 5000 + b'\n', b'clip_id\tfold\na\n',
        b'clip_id\tfold\n' + b'a' * 200_000 + b'\t0\n', b'clip_id\tfold\na\t-1\n',
    ],
    ids=range(6),
)  # fmt: skip
def test_a_damaged_fold_file_is_one_sentence_that_names_it(tmp_path, content):
    (tmp_path / 'folds.tsv').write_bytes(content)
    with pytest.raises(ValueError, match=r'\A.*folds\.tsv.*\Z') as caught:
        folds.read(tmp_path / 'folds.tsv')
    assert len(str(caught.value)) < 500
