"""Tables of files with several labels: how they are read, what is refused, how they are cut."""

import collections

import numpy as np
import pytest
from PIL import Image

from avsc_jax.data import label_kinds, records
from avsc_jax.data.builder import Clip, FolderFiles, WindowConfig
from avsc_jax.data.sources import folder, listing, stratify
from avsc_jax.scenes import PLACES, SCENES


def table(folder, text, count=12, name='list.csv'):
    """A table beside empty files 0.wav, 1.wav ..."""
    for k in range(count):
        (folder / f'{k}.wav').write_bytes(bytes([k]))
    (folder / name).write_text(text)
    return folder / name


def read(place):
    return listing.read(place, ('sound',), 'independent')


def labels_of(listed):
    return {item.clip_id: item.labels for item in listed.items}


@pytest.mark.parametrize(
    'text',
    [
        'path,label\n0.wav,night;crowd\n1.wav,night\n2.wav,\n',
        'path,label\n0.wav,night|crowd\n1.wav,night\n2.wav,\n',
        'path,labels\n0.wav,"night,crowd"\n1.wav,night\n2.wav,\n',
        'path\tlabel\n0.wav\tnight,crowd\n1.wav\tnight\n2.wav\t\n',
        'path;label\n0.wav;"night;crowd"\n1.wav;night\n2.wav;\n',
        'path,label\n0.wav, crowd ; night;;night\n1.wav,night;\n2.wav,;\n',
        'path,label\n0.wav,crowd\n0.wav,night\n1.wav,night\n2.wav,\n',
        'path,night,crowd\n0.wav,1,1\n1.wav,1,0\n2.wav,0,0\n',
        'path,night,crowd,group\n0.wav,1.0,1,a\n1.wav,1,0,b\n2.wav,0,0,c\n',
    ],
)
def test_every_way_to_write_several_labels_is_read_alike(tmp_path, text):
    listed = read(table(tmp_path, text))
    expected = {'0.wav': ('crowd', 'night'), '1.wav': ('night',), '2.wav': ()}
    assert labels_of(listed) == expected and listed.classes == ('crowd', 'night')
    assert any('1 files have no label' in note for note in listed.notes)


def test_a_comma_is_part_of_a_name_where_another_sign_separates(tmp_path):
    listed = read(table(tmp_path, 'path,label\n0.wav,"Music, live|Speech"\n1.wav,Speech\n'))
    assert listed.classes == ('Music, live', 'Speech')


def test_names_keep_their_case_and_those_that_differ_in_it_alone_are_noted(tmp_path):
    listed = read(table(tmp_path, 'path,Night,crowd\n0.wav,1,1\n1.wav,1,0\n'))
    assert listed.classes == ('Night', 'crowd')
    listed = read(table(tmp_path, 'path,label\n0.wav,Night;crowd\n1.wav,night\n'))
    assert 'labels that differ in case only stay apart: Night and night' in listed.notes


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('path,label\n0.wav,a+b\n1.wav,a\n', r'no file of .* has two labels .*a, a\+b.* by ; or'),
        ('path,label\n0.wav,a;b\n1.wav,a|b\n', r'separates labels by both ; and \|'),
        ('path,label\n0.wav,a;b\n1.wav,"a,b"\n2.wav,b\n', r'by ; in some rows and by , in others'),
        ('path,label\n0.wav,a,b\n1.wav,a\n', r"line 2: 'b' has no column .*put a cell .*in quotes"),
        (
            'path,x,y\n0.wav,1,0\n1.wav,2,1\n',
            r"each other column is a label.* x holds '2' \(line 3",
        ),
        (
            'path,x\n0.wav,1\n1.wav,0\n',
            r'1 columns of 0 and 1; give a column label, as night;crowd',
        ),
        ('path,x,X\n0.wav,1,1\n1.wav,0,1\n', r"several columns 'x'; keep one"),
        (
            'path,label,split\n0.wav,a;b,train\n0.wav,c,test\n',
            r'1 files of .* have rows with different groups, splits or files: 0\.wav',
        ),
        ('path,label\n0.wav,\n1.wav,\n', r'no file of .* has two labels'),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_refused(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(table(tmp_path, text))


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        (
            'path,label\n0.wav,night;crowd\n1.wav,night\n',
            r'gives files several labels \(night;crowd\), and this config takes one class .*'
            r'own_data\.py:clip_fusion,multi_label',
        ),
        ('path,label\n0.wav,"a,b"\n1.wav,a\n2.wav,b\n', r'gives files several labels \(a,b\)'),
        ('path,x,y\n0.wav,1,0\n1.wav,0,1\n', r'with the token multi_label each other column'),
    ],
)
def test_a_config_of_one_class_a_file_says_how_to_go_on(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        listing.read(table(tmp_path, text), ('sound',))


def test_a_class_may_have_a_comma_or_a_bar_in_its_name(tmp_path):
    text = 'path,label\n0.wav,"Music, live"\n1.wav,"Music, studio"\n2.wav,x|y\n'
    listed = listing.read(table(tmp_path, text), ('sound',))
    assert listed.classes == ('Music, live', 'Music, studio', 'x|y')


def test_a_folder_of_classes_has_one_label_a_file(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(ValueError, match='is a folder, whose files have one class each; several'):
        read(tmp_path)


def test_copies_of_one_recording_with_other_labels_are_an_error(tmp_path):
    place = table(tmp_path, 'path,label\n0.wav,a;b\n1.wav,a\n2.wav,b\n')
    (tmp_path / '1.wav').write_bytes((tmp_path / '0.wav').read_bytes())
    with pytest.raises(ValueError, match=r'two labels or splits: 0\.wav \(a, b\) and 1\.wav \(a\)'):
        read(place)


def test_splits_share_no_group_and_each_label_is_trained_and_tested(tmp_path):
    draw, lines = np.random.default_rng(0), ['path,label,group']
    for k in range(120):
        names = [name for name, p in (('a', 0.5), ('b', 0.2), ('c', 0.1)) if draw.random() < p]
        names += ['rare'] * (k in (5, 77))
        lines.append(f'{k}.wav,{";".join(names)},g{k // 2}')
    listed = read(table(tmp_path, '\n'.join(lines), count=120))
    parts = listing.split(listed)
    groups = [{item.group for item in items} for items in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 60
    counts = {
        part: collections.Counter(name for item in items for name in item.labels)
        for part, items in parts.items()
    }
    assert counts['train_inner']['rare'] == counts['test']['rare'] == 1
    for name in 'abc':
        total = sum(count[name] for count in counts.values())
        for part, share in listing.SHARES.items():
            assert abs(counts[part][name] - share * total) <= 3
    assert [len(items) for items in parts.values()] == pytest.approx([72, 24, 24], abs=4)
    assert listing.sparse(listed, parts) == [
        '1 labels are in too few groups for every split: rare (not in validation)'
    ]
    assert listing.split(read(tmp_path / 'list.csv')) == parts


def test_the_order_of_clips_does_not_change_their_parts():
    draw = np.random.default_rng(1)
    groups = [f'g{k}' for k in draw.integers(20, size=60)]
    labels = [[n for n in 'abcd' if draw.random() < 0.3] for _ in groups]
    shares = {'train_inner': 0.6, 'validation': 0.2, 'test': 0.2}
    of = dict(zip(groups, stratify.cut(groups, labels, shares), strict=True))
    again = stratify.cut(groups[::-1], labels[::-1], shares)
    assert [of[group] for group in groups[::-1]] == again


def test_labels_become_an_array_of_ones():
    array = label_kinds.stacked([[0, 2], [], [1]], 3, 'independent')
    assert array.dtype == np.float32 and array.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert label_kinds.stacked([2, -1], 3, 'exclusive').tolist() == [2, -1]


def test_records_keep_the_numbers_of_their_labels(tmp_path):
    lists = {}
    for split, names in (('train_inner', [('a', 'b'), ()]), ('validation', [('c',)])):
        for k, labels in enumerate(names):
            Image.new('RGB', (8, 8)).save(tmp_path / f'{split}-{k}.png')
            clip = Clip(f'{split}-{k}', '', f'{split}-{k}.png', labels, 'g')
            lists.setdefault(split, []).append(clip)
    builder = folder.OwnData(
        files=FolderFiles(tmp_path), lists=lists, facts={}, kind='independent',
        config=WindowConfig(name='x'), data_dir=tmp_path / 'data',
    )  # fmt: skip
    builder.download_and_prepare()
    dataset = records.open_dataset('own_data', 'x', tmp_path / 'data')
    assert dataset.kind == 'independent' and dataset.classes == ('a', 'b', 'c')
    assert [record['label'] for record in dataset.records('train', fields=())] == [[0, 1], [], [2]]
    assert [outline['label'] for outline in dataset.outlines('train')] == [[0, 1], [], [2]]
    wrong = [Clip('d', '', 'd.png', 'a'), Clip('e', '', 'e.png', 'b')]
    with pytest.raises(
        ValueError, match="d is 'a'; where classes are independent it must be a tup"
    ):
        folder.OwnData(
            files=FolderFiles(tmp_path), lists={'train': wrong}, facts={}, kind='independent',
            config=WindowConfig(name='y'), data_dir=tmp_path / 'data',
        ).download_and_prepare()  # fmt: skip


def test_clips_of_the_demo_have_their_scene_and_its_kind_of_place(tmp_path):
    text = 'path,label\n' + ''.join(f'{k}.wav,{scene}\n' for k, scene in enumerate(SCENES))
    place = table(tmp_path, text)
    data = {'folder': '', 'needs': ('sound',), 'labels': 'several'}
    listed = folder.listed(data, place)
    assert listed.kind == 'independent' and {*listed.classes} == {*SCENES, *PLACES.values()}
    both = zip(SCENES, listed.items, strict=True)
    assert all({s, PLACES[s]} == {*item.labels} for s, item in both)
