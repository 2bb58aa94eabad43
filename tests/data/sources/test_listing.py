"""Folders and tables of one's own clips: what is read of them, and how they are split."""

import os

import pytest

from avsc_jax.data.builder import Clip
from avsc_jax.data.sources import listing as own


def make(folder, *names):
    """Files that hold nothing: only their names are looked at."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'')
    return folder


def table(folder, *lines, name='clips.csv'):
    (folder / name).write_text('\n'.join(lines) + '\n')
    return folder / name


def clip_ids(parts):
    return {name: [item.clip_id for item in items] for name, items in parts.items()}


def test_folders_are_classes_and_folders_in_them_are_groups(tmp_path):
    names = 'park/a.MP4', 'park/lyon 3/b.wav', 'tram/lyon 3/c.flac', 'tram/d/e/f.mp3'
    made = make(tmp_path, *names, 'notes.txt', 'tram/.hidden.wav', 'tram/list.csv', '.git/x.wav')
    found = own.read(made, ['sound'])
    assert found.classes == ('park', 'tram') and found.has_groups
    assert [(i.audio, i.video, i.scene, i.group) for i in found.items] == [
        ('park/a.MP4', '', 'park', 'park/a.MP4'),
        ('park/lyon 3/b.wav', '', 'park', 'lyon 3'),
        ('tram/d/e/f.mp3', '', 'tram', 'd/e'),
        ('tram/lyon 3/c.flac', '', 'tram', 'lyon 3'),
    ]
    assert {file.name for file in found.left_out} == {'notes.txt', 'list.csv'}


def test_only_what_is_needed_is_taken_and_what_lacks_is_told(tmp_path):
    both = own.read(make(tmp_path / 'both', 'a/1.mp4', 'b/2.mp4'), ['sound', 'picture'])
    assert both.items[0][1:3] == ('a/1.mp4', 'a/1.mp4')
    pictures = own.read(tmp_path / 'both', ['picture'])
    assert pictures.items[0][1:3] == ('', 'a/1.mp4')
    mixed = make(tmp_path / 'mixed', 'a/1.mp4', 'b/2.wav')
    assert len(own.read(mixed, ['sound']).items) == 2
    with pytest.raises(ValueError, match=r'takes picture, and b/2.wav of .* has no picture'):
        own.read(mixed, ['picture'])


def test_a_stray_file_is_left_out_and_named(tmp_path):
    made = make(tmp_path, 'a/1.wav', 'a/cover.png', 'b/2.mp4', 'b/3.jpg')
    sounds = own.read(made, ['sound'])
    assert [item.clip_id for item in sounds.items] == ['a/1.wav', 'b/2.mp4']
    assert sounds.notes == ('files without sound are left out (2): a/cover.png, b/3.jpg',)
    with pytest.raises(ValueError, match=r'takes sound and picture, and a/1.wav of .* no picture'):
        own.read(made, ['sound', 'picture'])
    rows = table(made, 'path,label', 'a/1.wav,a', 'a/cover.png,a', 'b/2.mp4,b')
    with pytest.raises(ValueError, match=r'a/cover.png of .*clips.csv has no sound'):
        own.read(rows, ['sound'])  # a table names what it means


def test_links_are_followed_and_hidden_files_are_never_trained_on(tmp_path):
    made = make(tmp_path / 'made', 'a/1.wav', 'a/._1.wav', 'a/.old/2.wav', 'b/3.wav', '.c/4.wav')
    make(tmp_path / 'far', '5.wav', 'deep/6.wav')
    (made / 'b/lyon').symlink_to(tmp_path / 'far')
    (made / 'd').symlink_to(tmp_path / 'far')
    (made / 'a/loop').symlink_to('..')
    with pytest.raises(ValueError, match=r'2 recordings of .* have two labels or splits: b/lyon'):
        own.read(made, ['sound'])
    (made / 'd').unlink()
    found = own.read(made, ['sound'])
    assert [(item.clip_id, item.group) for item in found.items] == [
        ('a/1.wav', 'a/1.wav'), ('b/3.wav', 'b/3.wav'),
        ('b/lyon/5.wav', 'lyon'), ('b/lyon/deep/6.wav', 'lyon/deep'),
    ]  # fmt: skip
    assert found.notes == (
        'hidden files and folders are left out (3): .c, a/._1.wav, a/.old',
        'links back to a folder that holds them are not followed (1): a/loop',
    )


def clip(folder, name, content):
    make(folder, name)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize('is_table', [False, True])
def test_a_recording_under_two_paths_is_one_clip(tmp_path, is_table):
    for name, content in (('a/1.wav', b'one'), ('b/2.wav', b'two'), ('b/3.wav', b'two')):
        clip(tmp_path, name, content)
    (tmp_path / 'a/0.wav').symlink_to('1.wav')
    names = ['a/0.wav', 'a/1.wav', 'b/2.wav', 'b/3.wav']
    rows = table(tmp_path, 'path,label', *[f'{name},{name[0]}' for name in names])
    found = own.read(rows if is_table else tmp_path, ['sound'])
    assert [item.clip_id for item in found.items] == ['a/1.wav', 'b/2.wav']
    note = 'links to and copies of other files are taken once (2): a/0.wav, b/3.wav'
    assert found.notes == (note,)


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        (['a/1.wav', 'b/2.wav'], r'a/1.wav \(a\) and b/2.wav \(b\)'),
        (
            ['train/a/1.wav', 'test/a/2.wav', 'train/b/3.wav', 'test/b/4.wav'],
            r'test/a/2.wav \(a, test\) and train/a/1.wav \(a, train\)',
        ),
    ],
)
def test_a_recording_with_two_labels_or_splits_is_a_sentence(tmp_path, names, said):
    for k, name in enumerate(names):
        clip(tmp_path, name, b'x' if k < 2 else b'%d' % k)
    with pytest.raises(ValueError, match=rf'1 recordings of .* labels or splits: {said}; they are'):
        own.read(tmp_path, ['sound'])


def test_clips_that_share_one_of_two_files_are_two(tmp_path):
    for name in ('1.wav', '2.wav', '3.mp4', '4.mp4'):
        clip(tmp_path, name, name[1:].encode() if 'mp4' in name else name.encode())
    rows = table(tmp_path, 'audio,video,label', '1.wav,3.mp4,a', '2.wav,4.mp4,b')
    assert len(own.read(rows, ['sound', 'picture']).items) == 2
    with pytest.raises(ValueError, match='1 recordings of'):
        own.read(rows, ['picture'])


@pytest.mark.parametrize(
    ('header', 'row'),
    [
        ('path,label,group', 'x/1.mp4,park,lyon'),
        ('Video; Audio ;LABEL;Location', 'x/1.mp4;x/1.mp4;park;lyon'),
        ('filename_audio\tfilename_video\tscene_label\tidentifier', 'x/1.mp4\tx/1.mp4\tpark\tlyon'),
    ],
)
def test_a_table_names_files_labels_and_groups(tmp_path, header, row):
    make(tmp_path, 'x/1.mp4')
    other = row.replace('1', '2').replace('park', 'bus')
    found = own.read(table(tmp_path, '\ufeff' + header, row, other), ['sound', 'picture'])
    assert found.root == tmp_path and found.classes == ('bus', 'park')
    assert found.items[0] == ('x/1.mp4', 'x/1.mp4', 'x/1.mp4', 'park', 'lyon', '')


def test_splits_are_balanced_by_class_and_stay_as_they_are(tmp_path):
    names = [f'{scene}/{k}.wav' for scene in 'ab' for k in range(20)] + [
        f'c/{k}.wav' for k in '123'
    ]
    found = own.read(make(tmp_path, *names), ['sound'])
    parts = own.split(found)
    for scene, sizes in {'a': (12, 4, 4), 'b': (12, 4, 4), 'c': (1, 1, 1)}.items():
        assert tuple(sum(i.scene == scene for i in of) for of in parts.values()) == sizes
    assert sorted(name for of in clip_ids(parts).values() for name in of) == sorted(names)
    shuffled = found._replace(items=found.items[::-1])
    assert {k: sorted(v) for k, v in clip_ids(own.split(shuffled)).items()} == {
        k: sorted(v) for k, v in clip_ids(parts).items()
    }


def test_a_split_does_not_follow_the_numbers_of_the_files(tmp_path):
    names = [
        f'{scene}/{k:03d}.wav' for scene in 'ab' for k in range(50)
    ]  # five microphones in turn
    parts = own.split(own.read(make(tmp_path, *names), ['sound']))
    assert len({int(item.clip_id[2:5]) % 5 for item in parts['test'] if item.scene == 'a'}) > 2


def test_a_group_is_never_in_two_splits(tmp_path):
    names = [f'{scene}/place {k % 7}/{k}.wav' for scene in 'abc' for k in range(40)]
    parts = own.split(own.read(make(tmp_path, *names), ['sound']))
    groups = [{item.group for item in of} for of in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 7
    assert all({item.scene for item in of} == {*'abc'} for of in parts.values())


def test_named_splits_are_kept_and_validation_is_cut_where_it_lacks(tmp_path):
    names = [f'{split}/{scene}/{k}.jpg' for split in ('Train', 'val', 'test') for scene in 'ab'
             for k in range(10)]  # fmt: skip
    parts = own.split(own.read(make(tmp_path / 'three', *names), ['picture']))
    assert {k: {n.split('/')[0] for n in v} for k, v in clip_ids(parts).items()} == {
        'train_inner': {'Train'}, 'validation': {'val'}, 'test': {'test'},
    }  # fmt: skip
    two = make(tmp_path / 'two', *(name for name in names if 'val' not in name))
    parts = own.split(own.read(two, ['picture']))
    assert [len(of) for of in parts.values()] == [14, 6, 20]
    assert {name.split('/')[0] for name in clip_ids(parts)['validation']} == {'Train'}
    classes = make(tmp_path / 'classes', 'train/1.wav', 'tram/2.wav')
    assert own.read(classes, ['sound']).classes == ('train', 'tram')


def test_the_digest_changes_with_a_file_a_label_or_a_name(tmp_path):
    found = own.read(make(tmp_path, 'a/1.wav', 'b/2.wav'), ['sound'])
    assert found.digest == own.read(tmp_path, ['sound']).digest
    other = found._replace(items=[found.items[0]._replace(scene='b'), found.items[1]])
    assert other.digest != found.digest
    before = found.digest
    os.utime(tmp_path / 'a/1.wav', ns=(0, 5))
    assert own.read(tmp_path, ['sound']).digest != before


@pytest.mark.parametrize(
    ('names', 'sentence'),
    [
        (['1.wav'], r'holds no folders; put the files of each class into one'),
        (['a/1.wav'], r"has only the class 'a'; a system needs two or more"),
        (['a/1.wav', 'b/list.txt'], r"b holds no videos.*class 'b' there, or remove it"),
        (['a/1.jpg', 'b/2.jpg'], r'takes sound, and a/1.jpg of .* has no sound'),
        (
            [f'{c}/{k}.wav' for c, n in (('a', 5), ('b', 2)) for k in range(n)],
            r"the class 'b' of .* has no clip in \w+: its 2 files are too few",
        ),
        (
            ['train/a/1.wav', 'train/b/2.wav', 'val/a/3.wav', 'val/b/4.wav'],
            r'names as splits train, validation; give every clip train, test or',
        ),
        (
            [f'{s}/{c}/hall/{c}.wav' for s in ('train', 'test') for c in 'ab'],
            r'1 groups of .* are in more than one split: hall \(test, train\)',
        ),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_a_sentence(tmp_path, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        own.split(own.read(make(tmp_path, *names), ['sound']))


@pytest.mark.parametrize(
    ('lines', 'sentence'),
    [
        (['name,label', 'a.wav,b'], r'has the columns name, label; it must have path'),
        (['path,label', '1.wav,'], r'line 2: 1.wav has no label'),
        (['path,label', ',park'], r'line 2: it names no file'),
        (['path,label', '1.txt,park'], r'line 2: the ending of 1.txt is of no known video'),
        (['path,label', '1.wav,a', '1.wav,b'], r'1.wav is named 2 times'),
        (['path,label,split', '1.wav,a,trian'], r"split 'trian' is none of train"),
        (['path,label', 'x.wav,a', 'y.wav,b'], r'none of the 2 files .* exists, such as .*x.wav'),
        (['path,label'], r'has no lines below its header'),
        ([''], r'has the columns none'),
    ],
)
def test_a_wrong_table_is_a_sentence_with_the_line(tmp_path, lines, sentence):
    make(tmp_path, '1.wav', '1.txt')
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        own.read(table(tmp_path, *lines), ['sound'])


def test_a_place_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no folder or table .*nowhere'):
        own.read(tmp_path / 'nowhere', ['sound'])


def test_a_listing_has_the_digest_that_earlier_versions_gave_it(tmp_path):
    clip = Clip('a', 'a.wav', '', 'bus', 'g')
    assert own.Listing(tmp_path, tmp_path, [clip], []).digest == '71937c0dcb27a069'


def test_splits_without_folders_of_classes_are_a_sentence(tmp_path):
    for name in ('train', 'test'):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r'test and train of .* hold no folders; put the files'):
        own.read(tmp_path, ['sound'])


def test_a_name_that_is_not_utf_8_is_a_sentence(tmp_path):
    make(tmp_path, 'a/1.wav', 'b/2.wav', os.fsdecode(b'a/caf\xe9.wav'))
    with pytest.raises(ValueError, match=r'are not UTF-8 \(1\): a/caf�\.wav; rename the files'):
        own.read(tmp_path, ['sound'])
