"""One walk of folders: links, hidden files, and what looks like a file and is none."""

import os
from pathlib import Path

import pytest

from avsc_jax.data import folder_walk
from avsc_jax.data.builder.media_files import MediaFiles


def make(folder, *names, content=b''):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.fixture
def tree(tmp_path):
    """A folder with a link to another folder, three cycles, and oddities."""
    root = make(tmp_path / 'root', 'park/a.wav', 'park/b.txt', 'park/x.mp4/c.wav', '.git/d.wav')
    make(root, 'park/._a.wav', 'park/.DS_Store', '__MACOSX/park/a.wav', 'park/.thumbs/e.wav')
    make(tmp_path / 'else', 'deep/f.wav')
    (root / 'lake').symlink_to(tmp_path / 'else')
    (root / 'park/g.wav').symlink_to('a.wav')
    (root / 'park/gone.wav').symlink_to('nowhere.wav')
    (root / 'park/itself.wav').symlink_to('itself.wav')
    (root / 'park/loop').symlink_to('..')
    (root / 'park/above').symlink_to(tmp_path)
    (tmp_path / 'else/deep/back').symlink_to(root / 'lake')
    os.mkfifo(root / 'park/pipe.wav')
    return root


def test_a_walk_follows_links_and_names_what_it_leaves_out(tree):
    found = folder_walk.walk(tree)
    assert names(tree, found.files) == [
        'lake/deep/f.wav', 'park/a.wav', 'park/b.txt', 'park/g.wav', 'park/x.mp4/c.wav',
    ]  # fmt: skip
    assert names(tree, found.folders) == ['lake', 'lake/deep', 'park', 'park/x.mp4']
    assert found.notes == [
        'folders have names of media files, and are searched as folders (1): park/x.mp4',
        'hidden files and folders are left out (4): .git, __MACOSX, park/._a.wav, ...',
        'links back to a folder that holds them are not followed (3): lake/deep/back, park/above, '
        'park/loop',
        'links that lead nowhere are left out (2): park/gone.wav, park/itself.wav',
        'pipes and devices are left out (1): park/pipe.wav',
    ]
    assert folder_walk.walk(tree / '.git').files == [tree / '.git/d.wav']  # where it is named


def test_two_folders_that_hold_links_to_each_other_are_no_endless_walk(tmp_path):
    make(tmp_path, 'a/1.wav', 'b/2.wav')
    (tmp_path / 'a/b').symlink_to('../b')
    (tmp_path / 'b/a').symlink_to('../a')
    found = folder_walk.walk(tmp_path)
    assert names(tmp_path, found.files) == ['a/1.wav', 'a/b/2.wav', 'b/2.wav', 'b/a/1.wav']
    assert folder_walk.links(found.files) == {
        tmp_path / 'a/b/2.wav': tmp_path / 'b/2.wav',
        tmp_path / 'b/a/1.wav': tmp_path / 'a/1.wav',
    }


def test_links_and_copies_stand_for_the_file_with_the_fewest_links(tmp_path):
    make(tmp_path, 'b.wav', 'a/c.wav', content=b'one' * 9)
    make(tmp_path, 'd.wav', content=b'two' * 9)  # as long
    make(tmp_path, 'e.wav', content=b'one' * 10)
    make(tmp_path, 'f.wav', 'g.wav')  # empty
    (tmp_path / 'a/link.wav').symlink_to('../b.wav')
    (tmp_path / 'hard.wav').hardlink_to(tmp_path / 'b.wav')
    files = [*folder_walk.walk(tmp_path).files, tmp_path / 'missing.wav']
    linked = {
        tmp_path / 'a/link.wav': tmp_path / 'b.wav',
        tmp_path / 'hard.wav': tmp_path / 'b.wav',
    }
    assert folder_walk.links(files[:-1]) == linked
    assert folder_walk.copies(files) == dict.fromkeys(
        [tmp_path / 'b.wav', *linked], tmp_path / 'a/c.wav'
    )


def test_folders_and_files_that_vanish_meanwhile_are_no_error(tmp_path, monkeypatch):
    make(tmp_path, 'a/b.wav', 'c.wav')
    listed = Path.iterdir

    def vanishing(folder):
        if folder.name == 'a':
            (folder / 'b.wav').unlink()
            folder.rmdir()
        return listed(folder)

    monkeypatch.setattr(Path, 'iterdir', vanishing)
    files, _, notes = folder_walk.walk(tmp_path)
    assert files == [tmp_path / 'c.wav']
    assert notes == ['folders that are no longer there are left out (1): a']
    (tmp_path / 'c.wav').unlink()
    assert folder_walk.links([*files, tmp_path / 'd.wav']) == {}


def test_files_that_differ_outside_of_their_middle_are_no_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_walk, 'SAMPLE_BYTES', 4)
    for name, content in (('a', b'12345678'), ('b', b'02345678'), ('c', b'12345670')):
        make(tmp_path, name, content=content)
    assert not folder_walk.copies(folder_walk.walk(tmp_path).files)
    monkeypatch.setattr(folder_walk, '_digest', lambda file: pytest.fail(f'{file} is read whole'))
    differ = make(make(tmp_path / 'd', '1', content=b'12305678'), '2', content=b'12345678')
    assert not folder_walk.copies(folder_walk.walk(differ).files)


def test_a_data_set_s_media_are_found_behind_links_and_not_in_hidden_files(tree):
    make(tree, 'audio/._park.zip', 'audio/h.wav')
    files = MediaFiles(tree)
    assert 'deep/f.wav' in files and 'audio/h.wav' in files and '.git/d.wav' not in files
    assert not [*MediaFiles(tree / 'nowhere')]


NAMES = ('a.MP4', 'b.wav', 'c.jpg', 'd.gif', 'e.pdf', 'f')


@pytest.mark.parametrize(
    ('takes', 'stills', 'chosen', 'others'),
    [
        (['sound', 'picture'], True, 'abc', {'GIFs': 'd', 'files of other kinds': 'ef'}),
        (['picture'], True, 'ac', {'sounds': 'b', 'GIFs': 'd', 'files of other kinds': 'ef'}),
        (['sound'], True, 'ab', {'pictures': 'c', 'GIFs': 'd', 'files of other kinds': 'ef'}),
        (
            ['picture'],
            False,
            'a',
            {'sounds': 'b', 'still pictures': 'c', 'GIFs': 'd', 'files of other kinds': 'ef'},
        ),
    ],
)
def test_files_that_a_system_does_not_take_are_told_apart_by_why(takes, stills, chosen, others):
    files, left = folder_walk.taken(map(Path, NAMES), takes, stills=stills)
    assert ''.join(file.stem for file in files) == chosen
    short = {why.partition(',')[0]: ''.join(f.stem for f in of) for why, of in left.items()}
    assert short == others
    lines = folder_walk.counted(left)
    assert len(lines) == len(others)
    assert lines[-1] == 'left out: files of other kinds (2): e.pdf, ...'
