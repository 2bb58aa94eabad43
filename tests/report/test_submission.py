"""Submission files: what is written passes the check, and every fault is told and counted."""

import dataclasses

import numpy as np
import pytest
import yaml

from avsc_jax import report, tables
from avsc_jax.report import submission
from avsc_jax.scenes import SCENES
from avsc_jax.score import __main__ as score

LABEL = 'Surname_INST_task1b_2'
HEADER = ('filename', 'scene_label', *SCENES)


@pytest.fixture
def table():
    """Twelve items called by numbers; item i says scene i % 10."""
    probs = np.full((12, 10), 0.04)
    probs[np.arange(12), np.arange(12) % 10] = 0.64
    return tables.Predictions(
        clip_id=[str(i) for i in range(12)],
        segment=np.full(12, -1),
        label=np.arange(12) % 10,
        probs=probs,
        meta={'classes': SCENES, 'granularity': 'clip'},
    )


def system(table):
    scores = report.make(table, title='x', about={})['scores']['clip']
    return {
        'name': 'Ensemble of two',
        'members': {'A02': 25_454_730, 'C04': np.int64(1_350_282)},
        'description': {'input_sampling_rate': '48kHz', 'visual_features': ['RGB', 'CLIP']},
        'scores': scores,
    }


@pytest.fixture
def rows(table):
    """Header and rows of a faultless file."""
    cells = [
        [f'{n}.wav', SCENES[i % 10], *map(str, table.probs[i])] for i, n in enumerate(table.clip_id)
    ]
    return [[*HEADER], *cells]


def save(tmp_path, rows, name='out.csv'):
    path = tmp_path / name
    path.write_text(''.join('\t'.join(row) + '\n' for row in rows))
    return path


def test_what_is_written_may_be_submitted_and_read_again(table, tmp_path):
    folder = tmp_path / 'submission'
    output, meta = submission.write(table, folder, label=LABEL, system=system(table))
    assert sorted(folder.iterdir()) == sorted([output, meta])
    assert (output.name, meta.name) == (f'{LABEL}.output.csv', f'{LABEL}.meta.yaml')
    assert submission.check(output, [f'audio/{i}.wav' for i in range(12)]) == []
    assert output.read_text().splitlines()[1].startswith('0.wav\tairport\t0.64\t0.04\t')
    again = tables.read(output)
    np.testing.assert_array_equal(again.clip_id, np.char.add(table.clip_id, '.wav'))
    np.testing.assert_array_equal(again.probs, table.probs)


def test_columns_are_in_the_order_of_the_challenge_whatever_the_table_has(table, tmp_path):
    turned = dataclasses.replace(
        table, probs=table.probs[:, ::-1], meta={'classes': SCENES[::-1]}, label=9 - table.label
    )
    output, _ = submission.write(turned, tmp_path, label=LABEL, system=system(table))
    assert submission.check(output, table.clip_id) == []
    np.testing.assert_array_equal(tables.read(output).probs, table.probs)


def test_the_sheet_holds_what_is_known_and_marks_the_rest(table, tmp_path):
    _, meta = submission.write(table, tmp_path, label=LABEL, system=system(table))
    sheet = yaml.safe_load(meta.read_text())
    assert sheet['submission']['label'] == LABEL
    assert sheet['submission']['abbreviation'] == 'Ensemble o'
    assert sheet['submission']['authors'][0]['lastname'] == 'Surname'
    assert sheet['submission']['authors'][0]['email'] == submission.PLACEHOLDER
    description = sheet['system']['description']
    assert tuple(description) == submission.DESCRIPTION
    assert description['visual_features'] == ['RGB', 'CLIP']
    assert description['ensemble_method_subsystem_count'] == 2
    assert description['decision_making'] == submission.PLACEHOLDER
    assert sheet['system']['complexity']['total_parameters'] == 26_805_012
    results = sheet['results']['development_dataset']
    assert results['overall'] == pytest.approx({'logloss': -np.log(0.64), 'accuracy': 100})
    assert list(results['class_wise']) == list(SCENES)
    assert results['class_wise']['tram'] == pytest.approx(results['overall'])


def test_a_system_without_scores_says_so(table):
    sheet = submission.sheet(LABEL, {**system(table), 'scores': None})
    assert sheet['results'] == {'development_dataset': submission.PLACEHOLDER}


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (dict(label='Surname_INST_task1b_5'), r"label 'Surname_INST_task1b_5' must be"),
        (dict(label='../x_INST_task1b_1'), r'must be Surname_INST_task1b_N'),
        (dict(probs=0.5), r'is not written: 12 rows do not sum to one: line 2 \(0\) 0\.5, '),
        (dict(classes=['a'] * 10), r'classes a a .*; a submission has airport'),
        (dict(segment=0), r'can hold one row a clip'),
        (dict(description={'colour': 1}), r'description of the system has colour; the sheet has'),
    ],
)
def test_what_cannot_be_submitted_is_not_written(table, tmp_path, change, sentence):
    about = system(table) | {k: v for k, v in change.items() if k == 'description'}
    table = dataclasses.replace(
        table,
        probs=table.probs * change.get('probs', 1),
        segment=np.full(12, change.get('segment', -1)),
        meta={'classes': change.get('classes', SCENES)},
    )
    with pytest.raises(ValueError, match=sentence):
        submission.write(table, tmp_path, label=change.get('label', LABEL), system=about)
    assert list(tmp_path.iterdir()) == []


def set_cell(rows, row, column, value):
    rows[row][column] = value


def drop_column(rows, column):
    for row in rows:
        del row[column]


def double(rows):
    rows += [list(row) for row in rows[1:6]]


def all_at_once(rows):
    set_cell(rows, 1, 0, '77')
    set_cell(rows, 2, 2, 'nan')
    set_cell(rows, 3, 5, '0.9')


@pytest.mark.parametrize(
    ('spoil', 'found'),
    [
        (lambda rows: None, []),
        (lambda rows: rows.reverse() or rows.insert(0, rows.pop()), []),  # items in any order
        (
            lambda rows: set_cell(rows, 0, 3, 'buss'),
            ['1 columns are missing: bus', "1 columns are unknown: 'buss'"],
        ),
        (
            lambda rows: [row.append(row[2]) for row in rows],
            ['1 columns are doubled: airport'],
        ),
        (
            lambda rows: [row.insert(2, row.pop()) for row in rows],
            ['the columns are in another order than filename scene_label airport'],
        ),
        (lambda rows: drop_column(rows, 0), ['1 columns are missing: filename', 'no row was read']),
        (lambda rows: drop_column(rows, 1), ['1 columns are missing: scene_label']),
        (
            lambda rows: rows.clear(),
            ['12 columns are missing: filename, scene_label, airport, ...'],
        ),
        (lambda rows: rows.__delitem__(slice(1, None)), ['the file has no rows', '12 of 12 items']),
        (
            lambda rows: rows[4].append('0.1'),
            [
                'rows do not have the 12 fields of the header: line 5 has 13',
                '1 of 12 items are missing: 3',
            ],
        ),
        (
            lambda rows: set_cell(rows, 3, 5, '0.4'),
            ['1 rows do not sum to one: line 4 (2) 1.36'],
        ),
        (
            lambda rows: set_cell(rows, 3, 5, '-0.04'),
            ['1 rows hold no number from 0 to 1: line 4 (2) -0.04'],
        ),
        (
            lambda rows: set_cell(rows, 3, 5, 'x'),
            ['1 rows hold no number from 0 to 1: line 4 (2) nan'],
        ),
        (
            lambda rows: rows.__delitem__(slice(1, 6)),
            ['5 of 12 items are missing: 0, 1, 2, ...'],
        ),
        (
            lambda rows: set_cell(rows, 3, 0, 'x.wav'),
            ['1 of 12 items are missing: 2', '1 items are unknown: x'],
        ),
        (double, ['5 rows repeat an item: 0, 1, 2, ...']),
        (
            lambda rows: set_cell(rows, 3, 1, 'Metro'),
            ["1 rows have a scene_label that is no scene: line 4 (2) 'Metro'"],
        ),
        (
            lambda rows: set_cell(rows, 3, 1, 'tram'),
            ['scene_label that is not the largest probability: line 4 (2) tram for metro'],
        ),
        (lambda rows: set_cell(rows, 3, 0, ' '), ['1 rows name no item: line 4 ()']),
        (
            all_at_once,
            [
                'no number from 0 to 1: line 3 (1) nan',
                'do not sum to one: line 4 (2) 1.86',
                'not the largest probability: line 4 (2) metro for metro_station',
                'items are missing: 0',
                'unknown: 77',
            ],
        ),
    ],
)
def test_everything_that_is_wrong_is_found(rows, tmp_path, spoil, found):
    spoil(rows)
    wrong = submission.check(save(tmp_path, rows), [str(i) for i in range(12)])
    assert len([line for line in wrong if any(part in line for part in found)]) == len(found)
    if not found or len(found) == 5:
        assert len(wrong) == len(found)


def test_a_tie_and_rounding_to_four_decimals_are_no_faults(rows, tmp_path):
    rows[1][1:] = ['bus', '0.3334', '0.3334', '0.3334', *['0'] * 7]
    rows[2][1:] = ['bus', '0.4', '0.5', *['0.03'] * 3, *['0'] * 5]  # only the small have two
    assert submission.check(save(tmp_path, rows), [str(i) for i in range(12)]) == []


def test_an_output_file_of_utf_16_is_called_so(rows, tmp_path):
    path = save(tmp_path, rows)
    path.write_text(path.read_text(), encoding='utf-16')
    assert 'the file is UTF-16; save it as UTF-8' in submission.check(path, ['0'])[0]


def test_items_called_by_numbers_are_those_of_2021_unless_a_list_says_otherwise(
    rows, tmp_path, monkeypatch
):
    path = save(tmp_path, rows)
    assert submission.check(path) == ['12 items instead of the 72,000 of 2021']
    monkeypatch.setattr(submission, 'EVALUATION_ITEMS', 12)
    assert submission.check(path) == []
    rows[1][0] = 'bus-oslo-1-1.wav'
    monkeypatch.setattr(submission, 'EVALUATION_ITEMS', 99)
    assert submission.check(save(tmp_path, rows)) == []


def test_the_name_of_an_output_file_is_its_label(rows, tmp_path):
    path = save(tmp_path, rows, 'mine.output.csv')
    (line,) = submission.check(path, [str(i) for i in range(12)])
    assert line.startswith('mine.output.csv is not called Surname_INST_task1b_N.output.csv')


def test_any_file_is_read_in_bounded_memory_and_without_a_traceback(tmp_path, monkeypatch):
    path = tmp_path / 'x.csv'
    path.write_bytes(np.random.default_rng(0).bytes(200_000))
    assert submission.check(path)
    header = '\t'.join(HEADER).encode()
    path.write_bytes(header + b'\n' + np.random.default_rng(1).bytes(200_000))
    assert submission.check(path)
    path.write_bytes(header + b'\n\x1b[2J' + b'\t0.1' * 11)  # would clear the screen
    assert all(line.isprintable() for line in submission.check(path))
    path.write_bytes(header + b'\n' + b'9' * 50_000)  # one endless row
    assert 'line 2 has 1, line 3 has 1' in submission.check(path)[0]
    monkeypatch.setattr(submission, 'MAX_ROWS', 5)
    path.write_bytes(header + b'\n0' * 100)
    assert submission.check(path)[0].startswith('the file is longer than 5 lines')
    with pytest.raises(FileNotFoundError, match='is not a file'):
        submission.check(tmp_path)


def test_names_of_items_come_from_a_list_or_a_dcase_file(tmp_path):
    path = tmp_path / 'items.txt'
    path.write_text('audio/0.wav\r\n\r\n1\n')
    assert submission.read_items(path) == ['audio/0.wav', '1']
    path.write_text('filename_audio\tfilename_video\naudio/0.wav\tvideo/0.mp4\n')
    assert submission.read_items(path) == ['audio/0.wav']
    path.write_text('\n')
    with pytest.raises(ValueError, match='names no item'):
        submission.read_items(path)
    path.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='is no text'):
        submission.read_items(path)


def test_the_costliest_items_come_first_and_the_share_is_of_all(rows, tmp_path):
    truth = {str(i): SCENES[i % 10] for i in range(12)} | {'3': 'tram', '11': 'nowhere'}
    rows[5][2:] = ['0'] * 10  # item 4 says nothing and is left out
    text = submission.costs(save(tmp_path, rows), truth, count=2).splitlines()
    losses = -9 * np.log(0.64) - np.log(0.04)
    share = (-np.log(0.04) - np.log(0.64)) / losses
    assert text[0] == (
        f'log loss {losses / 10:.4f} over 10 items of known scene; '
        f'of it {share:.0%} is from these 2:'
    )
    assert text[1] == '   3.219  3: tram, answered metro_station'
    assert len(text) == 3
    assert submission.costs(save(tmp_path, rows), {}) == 'no item has a known scene'


def test_the_command_ends_with_1_unless_the_file_may_be_submitted(rows, tmp_path, capsys):
    path, items, fold = save(tmp_path, rows), tmp_path / 'items.txt', tmp_path / 'fold.csv'
    items.write_text('\n'.join(row[0] for row in rows[1:]))
    assert score.main(['--check', str(path), '--items', str(items)]) == 0
    assert capsys.readouterr().out == f'{path} may be submitted\n'
    fold.write_text('filename\tscene_label\n' + ''.join(f'{i}.wav\tbus\n' for i in range(11)))
    assert score.main(['--check', str(path), '--truth', str(fold)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ['1 items are unknown: 11', f'{path} is not ready']
    assert lines[2].startswith('log loss 2.9668 over 11 items') and len(lines) == 13


def test_a_file_of_other_items_than_those_of_2021_is_said_to_be_uncounted(rows, tmp_path, capsys):
    rows = [rows[0], *([f'bus-lyon-{row[0]}', *row[1:]] for row in rows[1:])]
    path, items = save(tmp_path, rows), tmp_path / 'items.txt'
    assert score.main(['check', str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f'{path} may be submitted\n'
    assert err.startswith('note: its 12 items are not those of 2021') and '--items' in err
    items.write_text('\n'.join(row[0] for row in rows[1:]))
    assert score.main(['check', str(path), '--items', str(items)]) == 0
    assert not capsys.readouterr().err
