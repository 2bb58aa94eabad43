"""Sound, picture and both: every number of eight clips by hand, and the files that are written."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.report import modalities
from avsc_jax.score import __main__ as score

CLASSES = ['park', 'tram', '<b>bus</b>']
CLIPS = [f'park-oslo-{number}' for number in range(8)] + ['of unknown scene']
TRUE = [0, 0, 0, 0, 1, 1, 1, 1, -1]
# Of the eight ways to be right or wrong each has one clip.
ANSWERS = {
    'video': [0, 0, 1, 1, 1, 1, 0, 0, 0],
    'audio': [0, 0, 0, 0, 0, 0, 0, 0, 0],
    'fusion': [0, 1, 0, 1, 1, 0, 1, 0, 0],
}


def member(answers, labels=TRUE, clips=CLIPS, **meta):
    probs = np.full((len(answers), 3), 0.1)
    probs[np.arange(len(answers)), answers] = 0.8
    whole = np.full(len(answers), -1)
    return tables.Predictions(clips, whole, labels, probs, {'classes': CLASSES, **meta})


def members():
    return {role: member(answers) for role, answers in ANSWERS.items()}


def test_every_clip_is_counted_by_who_is_right():
    found = modalities.make(members())
    assert found['clips'] == 8
    cells = {(c['audio'], c['video'], c['fusion']): c['by_class'] for c in found['cells']}
    yes, no = True, False
    assert cells == {
        (yes, yes, yes): [1, 0, 0],
        (yes, yes, no): [1, 0, 0],
        (yes, no, yes): [1, 0, 0],
        (yes, no, no): [1, 0, 0],
        (no, yes, yes): [0, 1, 0],
        (no, yes, no): [0, 1, 0],
        (no, no, yes): [0, 1, 0],
        (no, no, no): [0, 1, 0],
    }
    assert [cell['clips'] for cell in found['cells']] == [1] * 8
    assert found['rescued'] == ['park-oslo-6']
    assert found['lost'] == ['park-oslo-1', 'park-oslo-3', 'park-oslo-5']


def test_fusion_gains_over_the_better_modality_of_each_class():
    found = modalities.make(members())
    accuracy = {role: score['accuracy'] for role, score in found['scores'].items()}
    assert accuracy == {'fusion': 0.5, 'audio': 0.5, 'video': 0.5}
    audio = found['scores']['audio']['per_class']  # it says park to all
    assert (audio['precision'], audio['recall']) == ([0.5, 0, None], [1, 0, None])
    assert found['gain'] == [pytest.approx(1 / 2 - 2 / 3), 0, None]
    lines = modalities.text(found).splitlines()
    assert ['park', '4', *['50.0'] * 3, '50.0', '100.0', '66.7', *['50.0'] * 3, '-16.7'] in [
        line.split() for line in lines
    ]
    cells = [re.split(r'  +', line) for line in lines]
    assert ['park', '1 of 2', '1 of 2', '–', '–'] in cells
    assert ['all', '1 of 2', '1 of 2', '1 of 2', '1 of 2'] in cells
    perfect = modalities.text(modalities.make(members() | {'fusion': member([*TRUE[:-1], 0])}))
    assert re.search('\nall' + '  +2 of 2' * 4 + '\n', perfect)
    assert lines[-2] == 'rescued: 1 of 8 clips, which only fusion gets right'
    assert lines[-1].startswith('lost: 3 of 8 clips')
    assert max(map(len, lines)) <= 100


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Tables of the three, that of the fusion being a run's and of frames."""
    monkeypatch.chdir(tmp_path)
    for role in ('audio', 'video'):
        tables.write(member(ANSWERS[role], about={'warnings': ['made-up clips']}), f'{role}.npz')
    (tmp_path / 'run' / 'predictions').mkdir(parents=True)
    whole = member(ANSWERS['fusion'])
    doubled = {name: np.repeat(getattr(whole, name), 2, axis=0) for name in ('label', 'clip_id')}
    probs = np.repeat(whole.probs, 2, axis=0)
    probs[::2] = 1 / 3  # the odd frames decide
    frames = tables.Predictions(
        **doubled, probs=probs, segment=np.tile([0, 1], 9),
        meta={'classes': CLASSES, 'granularity': 'frame'},
    )  # fmt: skip
    tables.write(frames, 'run/predictions/test.npz')
    return tmp_path


NAMED = ['--modalities', 'audio=audio.npz', 'video=video.npz', 'fusion=run']


def test_the_command_takes_run_folders_pools_and_writes_page_numbers_and_answers(folder, capsys):
    assert score.main([*NAMED, '--out', 'out']) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('! made-up clips\nclip, 8 items')
    assert shown.endswith('wrote out/modalities.html, modalities.json and modalities.tsv\n')
    told = json.loads((folder / 'out' / 'modalities.json').read_text())
    assert told['rescued'] == ['park-oslo-6'] and 'answers' not in told
    with (folder / 'out' / 'modalities.tsv').open(newline='') as file:
        rows = list(csv.reader(file, delimiter='\t'))
    assert rows[0] == ['clip_id', 'scene_label', 'fusion', 'audio', 'video']
    assert rows[6] == ['park-oslo-5', 'tram', 'park', 'park', 'tram'] and len(rows) == 9
    page = (folder / 'out' / 'modalities.html').read_text()
    assert '<p>made-up clips</p>' in page and 'park-oslo-1, park-oslo-3, park-oslo-5' in page
    assert '<b>' not in page and '&lt;b&gt;bus' in page and '<script' not in page
    drawing = page[page.index('<svg') : page.index('</svg>')]
    places = re.findall(r'<text [^>]* x="([0-9.]+)"[^>]*>1</text>', drawing)
    assert (len(places), len({*places})) == (8, 4)  # a clip for each cell, four side by side
    assert 'audio only' in drawing
    bars = [drawing.count(f'opacity: {value}') for value in ('0.3', '0.15')]
    assert bars == [9, 3]  # pale: three classes in three cases, and in that of neither


def test_without_out_nothing_is_written(folder):
    before = sorted(folder.rglob('*'))
    assert score.main(NAMED) == 0
    assert sorted(folder.rglob('*')) == before


def test_a_run_folder_is_scored_as_its_table_of_the_test_split(folder, capsys):
    assert score.main(['run']) == 0
    told = capsys.readouterr().out
    assert 'clip, 8 items' in told and 'frame, 16 items' in told


def renamed(name):
    tables.write(dataclasses.replace(member(ANSWERS['audio']), clip_id=[*'abcdefghi']), name)


def other_classes(name):
    table = member(ANSWERS['audio'])
    tables.write(dataclasses.replace(table, meta={'classes': ['a', 'b', 'c']}), name)


def unlabelled(name):
    for role in ('audio', 'video'):
        tables.write(member(ANSWERS[role], labels=[-1] * 9), f'{role}.npz')
    tables.write(member(ANSWERS['fusion'], labels=[-1] * 9), 'run/predictions/test.npz')


def no_table(name):
    (name.parent / 'run' / 'predictions' / 'test.npz').unlink()


def only_seeds(name):
    (name.parent / 'run' / 'predictions').rename(name.parent / 'predictions')
    (name.parent / 'run' / 'seed0').mkdir()
    (name.parent / 'predictions').rename(name.parent / 'run' / 'seed0' / 'predictions')


@pytest.mark.parametrize(
    ('prepare', 'arguments', 'sentence'),
    [
        (renamed, NAMED, r'table 2 has 9 rows, .* and 18 are in one only'),
        (other_classes, NAMED, r'table 2 has the classes park .* the first has a b c'),
        (unlabelled, NAMED, r'none of the 9 clips has a known scene'),
        (no_table, NAMED, r'there is no run/predictions/test.npz; name a table, or a finished run'),
        (only_seeds, NAMED, r'test.npz \(the folder holds the runs run/seed0\); name a table'),
        (
            None,
            ['--modalities', 'audio=audio.npz', 'picture=video.npz', 'fusion=run'],
            r'called audio, picture, fusion; name them fusion=table audio=table video=table',
        ),
        (None, [*NAMED, '--weights=1,1,1'], r'--modalities does not go with weights'),
        (None, [*NAMED, '--clamp=fused'], r'--modalities does not go with clamp'),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(folder, prepare, arguments, sentence):
    if prepare:
        prepare(folder / 'audio.npz')
    with pytest.raises((ValueError, OSError), match=sentence):
        score.main([*arguments, '--out', 'out'])
    assert not (folder / 'out').exists()
