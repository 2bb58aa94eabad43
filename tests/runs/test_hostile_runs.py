"""Damaged or hostile files of a run folder are one sentence that names the file or the folder."""

import io
import json
import os
import shutil

import numpy as np
import pytest

from avsc_jax.predict.opened import published
from avsc_jax.predict.predictor import Predictor
from avsc_jax.runs import load, run_folder
from avsc_jax.runtime import files

ENSEMBLE = {
    'kind': 'ensemble', 'data': {'name': 'tfds_tau', 'test': 'test'}, 'paper': {'row': 'duo'},
    'groups': {'audio': ['a']}, 'group_names': {}, 'lines': [], 'roles': [],
    'recipe': {'name': 'mean'}, 'members': {'a': {'config': 'a.py', 'run': 'runs/a'}},
}  # fmt: skip
MEMBER = {'name': 'a', 'fold': None, 'folder': 'runs/a', 'config': 'a.py'}
DEEP = '[' * 100_000 + ']' * 100_000


def at(*place):
    """Returns a function that puts a value at a place of a JSON file."""
    *way, value = place

    def put(content):
        inside = content
        for step in way[:-1]:
            inside = inside[step]
        inside[way[-1]] = value
        return content

    return put


def without(*place):
    def drop(content):
        inside = content
        for step in place[:-1]:
            inside = inside[step]
        del inside[place[-1]]
        return content

    return drop


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


TEXTS = {
    'no bytes': b'',
    'zero bytes': bytes(300),
    'cut': b'{"a": [1, ',
    'deep': DEEP.encode(),
    'deep in an object': b'{"model": ' + DEEP.encode() + b'}',
    'no UTF-8': b'{"a": "\xff\xfe"}',
    'UTF-16': '{"a": 1}'.encode('utf-16'),
    'half a character': b'{"model": {"name": "\\ud800"}}',
    'a number': b'3',
    'null': b'null',
    'twice the same name': b'{"model": {}, "model": {}}',
    'NaN': b'{"window_s": NaN}',
    'too large a number': b'{"window_s": 1e999}',
    'very many digits': b'{"seed": ' + b'9' * 5000 + b'}',
}
BIG = {'name': 'clip_vit_b32', 'weights': 'random:0'}
JSON = ('config.json', 'classes.json', 'preprocessing.json')
# File -> what is changed in it; the rest of the run is whole.
CHANGED = [
    *((name, content) for name in JSON for content in TEXTS.values()),
    *((name, b'[{"name": "a"}]') for name in JSON),
    *(('report.json', TEXTS[kind]) for kind in ('cut', 'deep', 'a number', 'twice the same name')),
    ('report.json', without('about')),
    ('report.json', at('about', [])),
    ('report.json', at('about', 'warnings', 'none')),
    ('report.json', at('about', 'warnings', [3])),
    ('classes.json', at(0, 7)),
    ('classes.json', at(0, 'tram')),
    ('classes.json', lambda _: []),
    ('classes.json', lambda names: dict.fromkeys(names)),
    ('config.json', without('model')),
    ('config.json', without('model', 'name')),
    ('config.json', at('model', [])),
    ('config.json', at('model', 'name', 'nothing')),
    ('config.json', at('model', 'name', ['resnet1d'])),
    ('config.json', at('model', 'name', '../../etc/passwd')),
    ('config.json', at('model', 'hidden', 'many')),
    ('config.json', at('model', 'hidden', [-3, 0, 1])),
    ('config.json', at('model', 'hidden', [1, 10**9, 1])),
    ('config.json', at('model', 'hidden', [200_000] * 3)),
    ('config.json', at('model', {'name': 'resnet50', 'layers': [10**9, 1, 1, 1]})),
    ('config.json', at('model', {'name': 'clip_vit_b32', 'layers': 100_000})),
    ('config.json', at('model', 'unknown', 1)),
    ('config.json', at('model', 'parent', {})),
    ('config.json', at('data', 'train')),
    ('preprocessing.json', at('encoders', {})),
    ('preprocessing.json', at('encoders', [3])),
    ('preprocessing.json', at('encoders', [])),
    ('preprocessing.json', at('encoders', 0, 'name', 'nothing')),
    ('preprocessing.json', at('encoders', 0, 'name', ['ioacas_logmel'])),
    ('preprocessing.json', at('encoders', 0, 'options', [])),
    ('preprocessing.json', at('encoders', 0, 'options', 'piece_s', 'long')),
    ('preprocessing.json', at('encoders', 0, 'options', 'piece_s', -1)),
    ('preprocessing.json', at('encoders', 0, 'options', 'unknown', 1)),
    ('preprocessing.json', at('encoders', 0, 'weights', 'random:x')),
    ('preprocessing.json', at('encoders', 0, BIG | {'options': {'layers': 10**9}})),
    ('preprocessing.json', at('encoders', 0, BIG | {'options': {'image_size': 8192}})),
    ('preprocessing.json', at('encoders', 0, BIG | {'options': {'width': 40_000, 'layers': 1}})),
    ('preprocessing.json', at('encoders', 0, 'more', 1)),
    ('preprocessing.json', without('encoders', 0, 'weights')),
    ('preprocessing.json', at('window_s', -10)),
    ('preprocessing.json', at('window_s', '10')),
    ('preprocessing.json', at('window_s', True)),
    ('preprocessing.json', at('jpeg_quality', 101)),
    ('preprocessing.json', at('size', [1 << 30, 4])),
    ('preprocessing.json', at('front_end', {'name': 'hitachi_logmel'})),
    ('preprocessing.json', at('inputs', ['image'])),
    *(
        ('preprocessing.json', at('encoders', 0, {'name': 'x', 'run': place}))
        for place in ('.', '', '..', '../other', '/etc', 'parts/../..', 'parts/away', 'parts/self')
    ),
    *((name, bytes(3)) for name in ('stats.npz', 'means.npz')),
    ('stats.npz', bytes(400)),
    ('stats.npz', npz()),
    ('stats.npz', npz(mean_image=np.zeros((2, 256), 'f4'))),
    ('stats.npz', npz(mean_image=np.zeros(3, 'f4'), std_image=np.ones(3, 'f4'))),
    ('stats.npz', npz(mean_image=np.zeros((2, 256)), std_image=np.zeros((2, 256)))),
    ('stats.npz', npz(mean_image=np.full((2, 256), np.nan), std_image=np.ones((2, 256)))),
    ('stats.npz', npz(mean_image=np.array(['text']))),
    ('means.npz', npz(image=np.array(['text']))),
    ('checksums.json', b'{}'),
    ('checksums.json', DEEP.encode()),
]


@pytest.fixture(scope='module')
def run(finished_run, tmp_path_factory):
    """A run whose checksums somebody has removed, with links in its folder of parts."""
    folder = tmp_path_factory.mktemp('hostile') / 'run'
    shutil.copytree(finished_run('ioacas_audio'), folder)
    (folder / 'checksums.json').unlink()
    (folder / 'parts').mkdir()
    (folder / 'parts/away').symlink_to(finished_run('ioacas_audio'))
    (folder / 'parts/self').symlink_to(folder)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Spares the reading of checkpoints, which Orbax does, and which has tests of its own."""
    restored = ({'params': {}}, 1)
    monkeypatch.setattr(run_folder.Checkpoints, 'restore_best', lambda self, like: restored)


def refused(folder, name, open_):
    with pytest.raises((ValueError, OSError)) as caught:
        open_()
    said = str(caught.value)
    assert '\n' not in said and len(said) < 800, said
    assert str(folder / name) in said or f'{folder} ' in said or 'test.npz' in said, said


@pytest.mark.parametrize('number', range(len(CHANGED)))
def test_a_damaged_or_hostile_file_is_one_sentence(run, quick, number):
    name, content = CHANGED[number]
    file, before = run / name, (run / name).read_bytes() if (run / name).exists() else b''
    if callable(content):
        content = json.dumps(content(json.loads(before))).encode()
    file.write_bytes(content)
    try:
        refused(run, name, lambda: Predictor.load(run, run / 'none'))
    finally:
        file.write_bytes(before) if before else file.unlink()


@pytest.mark.parametrize('value', [{'a': 1}, 'x', -4, 1.5])
def test_options_that_an_encoder_cannot_have_end_before_its_weights_are_read(tmp_path, value):
    about = {'name': 'yamnet', 'options': {'num_classes': value}, 'weights': '0' * 64}
    with pytest.raises(ValueError, match=f'{tmp_path} cannot be opened'):
        load._specs(run_folder.RunFolder(tmp_path), {'encoders': [about]})


def test_the_run_that_they_are_made_of_opens(run, quick):
    assert Predictor.load(run, run / 'none').classes[0] == 'airport'


MEMBERS = [
    b'', b'3', b'[]', b'{}', b'[3]', b'[{}]', DEEP.encode(), bytes(100),
    json.dumps([MEMBER | {'folder': 3}]).encode(),
    json.dumps([MEMBER | {'folder': 'itself'}]).encode(),
    json.dumps([MEMBER | {'folder': 'a\0b'}]).encode(),
    json.dumps([MEMBER | {'folder': 'a' * 5000}]).encode(),
    json.dumps([MEMBER | {'folder': 'other'}]).encode(),
    json.dumps([MEMBER | {'fold': 'one'}]).encode(),
    json.dumps([MEMBER | {'folder': 'run'}, MEMBER | {'folder': 'run'}]).encode(),
    json.dumps([{'name': 'a', 'folder': 'run'}]).encode(),
    json.dumps([MEMBER | {'name': 'b', 'folder': 'run'}]).encode(),
]  # fmt: skip
CONFIGS = [
    at('groups', {}), at('groups', 'audio', ['b']), at('groups', {'audio': 'a'}), without('recipe'),
    at('recipe', {}), at('recipe', {'name': 'nothing'}), at('recipe', {'name': 'mean', 'x': 1}),
    at('recipe', 'mean'), at('roles', ['visual']), at('roles', 3), without('paper'),
    at('paper', {}), at('lines', [3]), at('lines', [{}]), without('members'), at('members', []),
    at('recipe', {'name': 'weights'}),
]  # fmt: skip


@pytest.fixture
def ensemble(run):
    """An ensemble beside the run, and another one, whose member is the first."""
    for name, member in (('itself', 'run'), ('other', 'itself')):
        folder = run.parent / name
        folder.mkdir(exist_ok=True)
        (folder / 'DONE').touch()
        (folder / 'config.json').write_text(json.dumps(ENSEMBLE))
        (folder / 'report.json').write_text('{"about": {"warnings": []}}')
        (folder / 'members.json').write_text(json.dumps([MEMBER | {'folder': member}]))
    return run.parent / 'itself'


@pytest.mark.parametrize('content', MEMBERS, ids=range(len(MEMBERS)))
def test_hostile_members_are_one_sentence(ensemble, quick, content):
    (ensemble / 'members.json').write_bytes(content)
    refused(ensemble, 'members.json', lambda: Predictor.load(ensemble, ensemble / 'none'))
    if content not in MEMBERS[-1:]:
        refused(ensemble, 'members.json', lambda: published(ensemble))


@pytest.mark.parametrize('change', CONFIGS, ids=range(len(CONFIGS)))
def test_hostile_settings_of_an_ensemble_are_one_sentence(ensemble, quick, change):
    content = change(json.loads(json.dumps(ENSEMBLE)))
    (ensemble / 'config.json').write_text(json.dumps(content))
    refused(ensemble, 'config.json', lambda: Predictor.load(ensemble, ensemble / 'none'))


def test_the_ensemble_that_they_are_made_of_opens(ensemble, quick):
    assert Predictor.load(ensemble, ensemble / 'none').classes[0] == 'airport'


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, quick):
    before = (run / 'classes.json').read_bytes()
    (run / 'classes.json').unlink()
    os.mkfifo(run / 'classes.json')
    try:
        refused(run, 'classes.json', lambda: Predictor.load(run, run / 'none'))
    finally:
        (run / 'classes.json').unlink()
        files.write_bytes(run / 'classes.json', before)
