"""The score command, end to end on small files: mixes worked by hand, and every bad input."""

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import ensemble, tables
from avsc_jax.scenes import SCENES
from avsc_jax.score import __main__ as score

CLIPS = ['bus-oslo-1-1', 'park-oslo-2-2', 'tram-rome-3-3']
TRUE = [1, 4, 9]


def table(truth=0.55, labels=TRUE, frames=1, **meta):
    """Three clips: `truth` on the true scene, the rest shared by the other nine."""
    probs = np.full((3, 10), (1 - truth) / 9)
    probs[np.arange(3), TRUE] = truth
    return tables.Predictions(
        clip_id=np.repeat(CLIPS, frames),
        segment=np.tile(np.arange(frames), 3) if frames > 1 else np.full(3, -1),
        label=np.repeat(labels, frames),
        probs=np.repeat(probs, frames, axis=0),
        meta={'classes': list(SCENES), 'granularity': 'clip' if frames == 1 else 'frame', **meta},
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with two tables and the fold's truth."""
    monkeypatch.chdir(tmp_path)
    tables.write(table(0.55), 'a.npz')
    tables.write(table(0.75, frames=2), 'b.npz')
    tables.write(table(0.55), 'a.csv')
    rows = [f'audio/{name}.wav\tvideo/{name}.mp4\t{name.split("-")[0]}\r\n' for name in CLIPS]
    (tmp_path / 'fold.csv').write_text(
        ''.join(['filename_audio\tfilename_video\tscene_label\r\n', *rows]), newline=''
    )
    return tmp_path


def result(folder):
    return json.loads((folder / 'out' / 'report.json').read_text())


def test_one_table_gets_its_report(folder, capsys):
    assert score.main(['a.npz', '--out', 'out']) == 0
    found = result(folder)['scores']['clip']
    assert found['log_loss_micro'] == pytest.approx(-math.log(0.55))
    assert found['groups'] == 3
    assert 'clip, 3 items' in capsys.readouterr().out
    names = sorted(path.name for path in (folder / 'out').iterdir())
    assert names == ['predictions.npz', 'report.html', 'report.json']
    written = tables.read(folder / 'out' / 'predictions.npz')
    np.testing.assert_array_equal(written.probs, table(0.55).probs)


def test_without_out_nothing_is_written(folder):
    before = sorted(folder.iterdir())
    assert score.main(['a.npz', 'b.npz']) == 0
    assert sorted(folder.iterdir()) == before


def test_a_submission_file_is_scored_against_the_fold(folder, capsys):
    assert score.main(['a.csv', '--truth', 'fold.csv']) == 0
    assert 'log loss              0.598' in capsys.readouterr().out


@pytest.mark.parametrize(('weights', 'mean'), [(None, 0.65), ('3,1', 0.6), ('0,.5', 0.75)])
def test_frames_and_clips_meet_at_the_clip_and_are_averaged(folder, weights, mean):
    extra = ['--weights', weights] if weights else []
    assert score.main(['audio=a.npz', 'visual=b.npz', '--out', 'out', *extra]) == 0
    found = result(folder)
    assert found['title'] == 'mean of audio, visual'
    assert found['scores']['clip']['log_loss_micro'] == pytest.approx(-math.log(mean))
    assert [member['name'] for member in found['members']] == ['audio', 'visual', 'result']
    losses = [member['log_loss_micro'] for member in found['members']]
    assert losses == pytest.approx([-math.log(p) for p in (0.55, 0.75, mean)])


def test_the_order_of_rows_and_columns_does_not_matter(folder):
    lines = (folder / 'a.csv').read_text().splitlines()
    cells = [line.split('\t') for line in [lines[0], *reversed(lines[1:])]]
    moved = ['\t'.join(row[:2] + row[:1:-1]) for row in cells]
    (folder / 'moved.csv').write_text('\n'.join(moved) + '\n')
    assert score.main(['a.npz', 'moved.csv', '--out', 'out']) == 0
    np.testing.assert_allclose(tables.read('out/predictions.npz').probs, table(0.55).probs)
    # The submission file has no truth of its own; the other member's serves both.
    assert result(folder)['members'][1]['accuracy_micro'] == 1.0


def test_clamping_the_mean_is_not_the_mean_of_the_clamped(folder):
    # .55 stays, .75 becomes .99 and their mean .65 stays; .05 -> .001, .0278 -> .001.
    tables_at = {'fused': 0.65, 'per_model': (0.55 + 0.99) / 2}
    for clamp, true in tables_at.items():
        assert score.main(['a.npz', 'b.npz', f'--clamp={clamp}', '--out', 'out']) == 0
        with pytest.warns(UserWarning, match='do not sum to 1'):
            written = tables.read('out/predictions.npz')
        np.testing.assert_allclose(written.probs[:, 1], [true, 0.001, 0.001])
        assert written.meta['calibrated'] is True
        loss = result(folder)['scores']['clip']['log_loss_micro']
        assert loss == pytest.approx(-math.log(true / (true + 9 * 0.001)))


def test_clamping_a_table_of_frames_pools_it_first(folder):
    assert score.main(['b.npz', '--clamp=fused', '--out', 'out']) == 0
    with pytest.warns(UserWarning, match='do not sum to 1'):
        written = tables.read('out/predictions.npz')
    np.testing.assert_allclose(written.probs[0, 1], 0.99)
    assert len(written.clip_id) == 3 and list(result(folder)['scores']) == ['clip']


def test_what_the_tables_say_of_themselves_reaches_the_report_and_the_next_table(folder):
    about = {'data': 'D', 'protocol': 'P', 'weights': {'e': 'random:0'}, 'warnings': ['beware']}
    tables.write(table(about=about), 'told.npz')
    assert score.main(['x=told.npz', 'y=a.npz', '--out', 'out']) == 0
    found = result(folder)['about']
    assert found['data'] == 'D; not recorded in the table'
    assert found['protocol'].endswith('Scored: mean: 0.5 x (told.npz) + 0.5 y (a.npz)')
    assert (found['weights'], found['warnings']) == ({'x: e': 'random:0'}, ['beware'])
    assert tables.read('out/predictions.npz').meta['about'] == found


def bad_sum(name):
    tables.write(dataclasses.replace(table(), probs=table().probs * 0.9), name)


def other_clips(name):
    tables.write(dataclasses.replace(table(), clip_id=np.array([*CLIPS[:2], 'x'])), name)


def clamped_before(name):
    tables.write(table(calibrated=True), name)


def unlabelled(name):
    tables.write(table(labels=[-1] * 3), name)


def lacks_a_class(name):
    lines = Path('a.csv').read_text().splitlines()
    Path('bad.csv').write_text('\n'.join(line.rpartition('\t')[0] for line in lines))


def not_a_number(name):
    Path('bad.csv').write_text(Path('a.csv').read_text().replace('0.55', 'nan'))


def broken(name):
    Path(name).write_bytes(b'PK\x03\x04 not a table')


@pytest.mark.parametrize(
    ('prepare', 'arguments', 'sentence'),
    [
        (
            bad_sum,
            ['bad.npz'],
            r'bad.npz: the probabilities of bus-oslo-1-1 sum to 0.9, not to 1 .3 of 3 rows',
        ),
        (other_clips, ['a.npz', 'bad.npz'], r'table 2 .*\bx\b'),
        (clamped_before, ['bad.npz', '--clamp=fused'], r'bad.npz is clamped already'),
        (unlabelled, ['bad.npz'], r'none of the 3 rows has a known label'),
        (lacks_a_class, ['bad.csv'], r'bad.csv.* columns:? tram'),
        (not_a_number, ['bad.csv'], r'bad.csv: .*hold NaN, .* first row 0'),
        (broken, ['bad.npz'], r'bad.npz.* not a readable predictions table'),
        (None, ['none.npz'], r'none.npz is not a file'),
        (None, ['a.npz', 'a.npz'], r"'a.npz' has an empty or repeated role"),
        (None, ['a.npz', 'b.npz', '--weights', '1'], r"'1'; it must be 2 numbers"),
        (None, ['a.npz', 'b.npz', '--weights', '1,x'], r"'1,x'; it must be numbers with commas"),
        (None, ['a.npz', 'b.npz', '--weights', '0,0'], r'and not all 0'),
        (None, ['a.npz', 'b.npz', '--weights', 'nan,1'], r'it must be 2 numbers'),
        (None, ['a.npz', 'b.npz', '--weights=-1,3'], r'numbers of 0 or more'),
        (None, ['a.npz', '--truth', 'a.csv'], r'a.csv: this is a file of predictions'),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(folder, prepare, arguments, sentence):
    if prepare:
        prepare('bad.npz')
    with pytest.raises((ValueError, OSError), match=sentence):
        score.main([*arguments, '--out', 'out'])
    assert not (folder / 'out').exists()


def rounded(name, decimals, rows=40):
    """A table of many clips of two scenes with `decimals` digits, and its truth in truth.csv."""
    rng, labels = np.random.default_rng(1), np.arange(rows) % 10
    probs = rng.dirichlet(np.ones(10), rows)
    probs[np.arange(rows), labels] += 1
    probs = (probs / probs.sum(axis=1, keepdims=True)).round(decimals)
    ids = np.array([f'{SCENES[k]}-oslo-{n}-{n}' for n, k in enumerate(labels)])
    meta = {'classes': list(SCENES), 'granularity': 'clip'}
    tables.write(tables.Predictions(ids, [-1] * rows, labels, probs, meta), f'{name}.npz')
    tables.write(tables.Predictions(ids, [-1] * rows, labels, probs, meta), f'{name}.csv')
    lines = [f'{clip}.wav,{SCENES[k]}' for clip, k in zip(ids, labels, strict=True)]
    Path('truth.csv').write_text('\n'.join(['filename,scene_label', *lines]))


@pytest.mark.parametrize(
    ('decimals', 'arguments'),
    [
        (3, ['x.csv', '--truth=truth.csv']),
        (2, ['x.csv', 'y.npz', '--truth=truth.csv', '--recipe=geometric']),
        (3, ['audio=x.npz', 'visual=y.npz', '--recipe=hitachi', '--clamp=per_model']),
        (2, ['--recipe=weights', '--fit-on', 'x.npz', 'y.npz', '--report-on', 'x.npz', 'y.npz']),
        (3, ['x.npz', '--calibrate=temperature', '--fit-on', 'y.csv', '--truth=truth.csv']),
        (2, ['compare', 'x.csv', 'y.npz', '--truth=truth.csv']),
        (3, ['modalities', 'fusion=x.npz', 'audio=y.npz', 'video=y.csv']),
    ],
)
def test_rounded_tables_are_taken_with_a_note(folder, capsys, decimals, arguments):
    rounded('x', decimals)
    rounded('y', decimals)
    assert score.main(arguments) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert f'the probabilities are rounded to {decimals} decimals, so rows sum to' in printed


def test_sums_farther_off_than_rounding_name_it_as_a_reason(folder):
    rounded('x', 1)
    with pytest.raises(ValueError, match=r'x\.csv: .* If they were rounded, give two decimals'):
        score.main(['x.csv', '--truth=truth.csv'])
    rounded('x', 6)
    assert score.main(['x.csv', '--truth=truth.csv']) == 0


def test_two_digits_are_as_good_as_two_decimals(folder, capsys):
    rounded('x', 6)
    header, *rows = csv.reader(Path('x.csv').read_text().splitlines(), delimiter='\t')
    rows = [[*row[:2], *(f'{float(cell):.2g}' for cell in row[2:])] for row in rows]
    Path('x.csv').write_text('\n'.join(map('\t'.join, [header, *rows])))
    assert score.main(['x.csv', '--truth=truth.csv']) == 0
    assert 'the probabilities are rounded to 2 decimals' in capsys.readouterr().out


def test_what_a_truth_or_an_answer_contradicts_is_a_caution(folder, capsys):
    rounded('x', 3)
    lines = Path('x.csv').read_text().splitlines()
    told = [line.split('\t') for line in lines[:31]]
    told = ['\t'.join([row[0], 'tram', *row[2:]]) for row in told[1:]]
    Path('x.csv').write_text('\n'.join([lines[0], *told]))
    assert score.main(['x.csv', '--truth=truth.csv']) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert '10 of the 40 clips with a true scene are not in the table' in printed
    assert 'scene_label contradicts the probabilities in 27 of 30 rows' in printed


OWN = {'bus/clip.wav': 'bus', 'tram, old/clip.wav': 'tram, old', 'tram, old/b.wav': 'tram, old'}


@pytest.mark.parametrize('separator', [',', '\t'])
def test_classes_of_one_s_own_are_scored_over_their_groups(folder, separator):
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    meta = {'classes': ['bus', 'tram, old']}
    told = tables.Predictions(list(OWN), [-1] * 3, [-1] * 3, probs, meta)
    tables.write(told, 'own.csv', separator)
    rows = [f'"{name}","{label}",{label[:3]}' for name, label in OWN.items()]
    Path('list.csv').write_text('\n'.join(['path,label,group', *reversed(rows)]))
    for extra in ([], ['--classes=bus,"tram, old"']):
        assert score.main(['own.csv', '--truth=list.csv', '--out=out', *extra]) == 0
        found = result(folder)['scores']['clip']
        assert found['log_loss_micro'] == pytest.approx(-np.log([0.9, 0.8, 0.6]).mean())
        assert (found['groups'], found['over']) == (2, 'groups')
    assert tables.read('out/predictions.npz').group.tolist() == ['bus', 'tra', 'tra']
    with pytest.raises(ValueError, match='missing class columns: park'):
        score.main(['own.csv', '--truth=list.csv', '--classes=bus,park'])


def test_a_join_by_stems_is_a_note_and_names_that_stems_confuse_are_refused(folder, capsys):
    assert score.main(['a.csv', '--truth', 'fold.csv']) == 0
    assert score.main(['a.npz', 'a.csv']) == 0
    assert capsys.readouterr().err == ''
    text = Path('a.csv').read_text()
    for name in CLIPS:
        text = text.replace(name, f'x/{name}.wav')
    Path('b.csv').write_text(text)
    assert score.main(['b.csv', 'a.csv', '--truth', 'fold.csv']) == 0
    (note, other) = capsys.readouterr().err.splitlines()
    words = 'note: clips are joined by their names without folders and endings of files: '
    assert note == f'{words}x/bus-oslo-1-1.wav is bus-oslo-1-1'
    assert other == f'{words}bus-oslo-1-1 is x/bus-oslo-1-1.wav'
    lines = text.splitlines()
    Path('b.csv').write_text('\n'.join([*lines, lines[1].replace('x/', 'y/')]))
    with pytest.raises(ValueError, match=r'cannot be told apart .*: x/bus-oslo-1-1.wav, y/bus'):
        score.main(['b.csv', '--truth', 'fold.csv'])


# Of three clips: what a member gives the true scene, on the split to fit on and on the other.
def split(name, fit, test, **meta):
    renamed = np.array(['bus-oslo-1-9', 'park-oslo-2-9', 'tram-rome-3-9'])
    tables.write(dataclasses.replace(table(fit), clip_id=renamed), f'{name}_fit.npz')
    tables.write(table(test, **meta), f'{name}_test.npz')


def test_weights_are_fitted_on_one_split_and_used_on_the_other(folder):
    split('a', 0.9, 0.2)
    split('b', 0.6, 0.8)
    arguments = ['--recipe=weights', '--fit-on', 'x=a_fit.npz', 'y=b_fit.npz']
    reported = ['--report-on', 'y=b_test.npz', 'x=a_test.npz']
    assert score.main([*arguments, *reported, '--out', 'out']) == 0
    found = result(folder)
    assert found['title'] == 'weighted mean of y, x'
    assert found['scores']['clip']['log_loss_micro'] == pytest.approx(-math.log(0.2))
    assert found['about']['protocol'].endswith(
        'weighted mean: 0 y (b_test.npz) + 1 x (a_test.npz); fitted on x (a_fit.npz), y (b_fit.npz)'
    )
    assert found['about']['warnings'] == []


def test_members_without_roles_are_paired_by_order(folder):
    split('a', 0.9, 0.2)
    split('b', 0.6, 0.8)
    fitted = ['--recipe=weights', '--fit-on', 'b_fit.npz', 'a_fit.npz', '--out', 'out']
    assert score.main(['a_test.npz', 'b_test.npz', *fitted]) == 0
    found = result(folder)['scores']['clip']['log_loss_micro']
    assert found == pytest.approx(-math.log(0.8))


def test_fitting_on_the_clips_reported_on_is_told(folder):
    assert score.main(['a.npz', '--calibrate=temperature', '--fit-on=a.npz', '--out=out']) == 0
    assert result(folder)['about']['warnings'] == ['fitted on 3 of the 3 clips it is reported on']


@pytest.mark.parametrize('kind', ['temperature', 'vector', 'clamp'])
def test_a_calibration_is_fitted_on_one_split_and_used_on_the_other(folder, kind):
    # All right at .55: the fit makes them surer, which helps on the other split too.
    split('a', 0.55, 0.55)
    arguments = ['a_test.npz', f'--calibrate={kind}', '--fit-on', 'a_fit.npz', '--out', 'out']
    assert score.main(arguments) == 0
    found = result(folder)
    assert found['scores']['clip']['log_loss_micro'] < 0.02
    assert f'; calibrated: {kind} ' in found['about']['protocol']
    assert found['calibrated'] is (kind == 'clamp')
    assert [member['name'] for member in found['members']] == ['a_test.npz', 'result']


def test_the_geometric_mean_and_the_decision_stage_are_recipes(folder):
    assert score.main(['a.npz', 'b.npz', '--recipe=geometric', '--out', 'out']) == 0
    roots = np.sqrt(table(0.55).probs * table(0.75).probs)
    written = tables.read('out/predictions.npz').probs
    np.testing.assert_allclose(written, roots / roots.sum(axis=1, keepdims=True))
    tables.write(table(0.35), 'c.npz')
    roles = ['visual=a.npz', 'audio=b.npz', 'clip=c.npz', '--recipe=hitachi']
    assert score.main([*roles, '--clamp=per_model', '--out', 'out']) == 0
    fused = ensemble.hitachi(
        *(table(truth).probs for truth in (0.75, 0.55, 0.35)), classes=SCENES, clamp='per_model'
    )
    np.testing.assert_allclose(tables.read('out/predictions.npz').probs, fused)
    assert result(folder)['title'] == 'decision stage of visual, audio, clip'


def unlabelled_fit(name):
    split('a', 0.5, 0.5)
    unlabelled(name)


@pytest.mark.parametrize(
    ('prepare', 'arguments', 'sentence'),
    [
        (None, [], r'no table is named'),
        (None, ['a.npz', '--recipe=weights'], r'need --fit-on'),
        (None, ['a.npz', '--calibrate=vector'], r'need --fit-on'),
        (None, ['a.npz', '--fit-on=a.npz'], r'--fit-on fits nothing here'),
        (None, ['a.npz', 'b.npz', '--recipe=hitachi'], r'audio=table visual=table .* a.npz, b.npz'),
        (
            None,
            ['audio=a.npz', 'visual=b.npz', '--recipe=hitachi', '--weights=1,1'],
            r'--recipe=hitachi has its own',
        ),
        (
            None,
            ['a.npz', '--recipe=weights', '--fit-on=a.npz', '--clamp=per_model'],
            r'rows sum to one; clamp the mix',
        ),
        (
            None,
            ['a.npz', '--calibrate=clamp', '--clamp=fused', '--fit-on=a.npz'],
            r'would clamp twice',
        ),
        (
            None,
            ['x=a.npz', '--recipe=weights', '--fit-on', 'y=a.npz'],
            r'fit on are y, those to report on x; give the same members',
        ),
        (
            None,
            ['a.npz', 'b.npz', '--recipe=weights', '--fit-on', 'a.npz'],
            r'fit on are a.npz, those to report on a.npz, b.npz',
        ),
        (
            unlabelled_fit,
            ['a_test.npz', '--calibrate=clamp', '--fit-on=bad.npz'],
            r'3 of 3 rows to fit on have no true label: bus-oslo-1-1, park-oslo-2-2, tram-rome-3-3',
        ),
        (
            bad_sum,
            ['a.npz', '--calibrate=clamp', '--fit-on=bad.npz'],
            r'bad.npz: the probabilities of bus-oslo-1-1 sum to 0.9',
        ),
    ],
)
def test_bad_fits_and_recipes_are_a_sentence_and_nothing_is_written(
    folder, prepare, arguments, sentence
):
    test_bad_input_is_a_sentence_and_nothing_is_written(folder, prepare, arguments, sentence)


def test_two_systems_are_compared_over_locations(folder, capsys):
    assert score.main(['--compare', 'ours=b.npz', 'theirs=a.npz']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['clip,', '3', 'items', 'log', 'loss', 'accuracy']
    assert lines[1].split() == ['ours', '0.288', '100.0', '%']
    assert lines[3].split() == ['ours', 'minus', 'theirs', '-0.310', '+0.0']
    assert lines[6].split() == ['p,', 'two-sided', '0.25', '1']
    assert lines[-1] == (
        'ours has a lower log loss than theirs, by 0.310, but chance alone gives as much with '
        'probability 0.25, over 3 locations: the difference is not significant.'
    )
    assert score.main(['--compare', 'ours=a.npz', 'theirs=a.csv']) == 0
    assert capsys.readouterr().out.endswith('ours and theirs have the same log loss.\n')


def test_a_difference_beyond_chance_is_said_plainly_with_the_warnings_first(folder, capsys):
    clips = np.array([f'bus-oslo-{i}-1' for i in range(8)])
    for name, truth in (('good', 0.8), ('bad', 0.3)):
        probs = np.full((8, 10), (1 - truth) / 9)
        probs[:, 1] = truth
        meta = {'classes': list(SCENES), 'about': {'warnings': ['made-up clips']}}
        label = np.ones(8, int)
        label[0] = -1  # of unknown scene: left out
        tables.write(tables.Predictions(clips, np.full(8, -1), label, probs, meta), f'{name}.npz')
    assert score.main(['--compare', 'bad.npz', 'good.npz']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '! made-up clips'
    assert lines[1].startswith('clip, 7 items')
    assert lines[-1] == (
        'good.npz has a lower log loss than bad.npz, by 0.981; chance alone gives as much with '
        'probability 0.016, over 7 locations.'
    )


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--compare', 'a.npz', 'b.npz', '--clamp=fused'], r'--compare does not go with clamp;'),
        (['a.npz', '--check', 'a.csv'], r'--check does not go with table;'),
        (['--paper=table2', '--check', 'a.csv'], r'--check does not go with paper;'),
        (['a.npz', '--items', 'a.csv'], r'scoring tables does not go with items;'),
        (['--compare', 'a.npz', 'a.npz'], r"'a.npz' has an empty or repeated role"),
        (['--compare', 'a.npz', 'none.npz'], r'none.npz is not a file'),
        (['--compare', 'a.csv', 'x=a.csv'], r'none of the 3 clips has a known scene'),
    ],
)
def test_what_is_done_in_place_of_scoring_takes_its_own_options_only(folder, arguments, sentence):
    with pytest.raises((ValueError, OSError), match=sentence):
        score.main(arguments)


def test_clamped_tables_pass_when_that_is_said(folder):
    bad_sum('bad.npz')
    assert score.main(['bad.npz', '--clamped', '--out', 'out']) == 0
    assert result(folder)['calibrated'] is True


def test_a_table_that_was_read_is_never_overwritten(folder):
    (folder / 'out').mkdir()
    tables.write(table(), 'out/predictions.npz')
    before = (folder / 'out' / 'predictions.npz').read_bytes()
    with pytest.raises(ValueError, match='would be overwritten'):
        score.main(['out/predictions.npz', 'a.npz', '--out', 'out'])
    assert (folder / 'out' / 'predictions.npz').read_bytes() == before
    with pytest.raises(ValueError, match='would be overwritten'):
        fit = ['--calibrate=clamp', '--fit-on', 'out/predictions.npz']
        score.main(['a.npz', *fit, '--out', 'out'])
    with pytest.raises(ValueError, match=r'a.npz is a file; name a folder'):
        score.main(['b.npz', '--out', 'a.npz'])


def test_the_command_prints_its_error_and_ends_with_1(folder, monkeypatch, capsys):
    # The one that fails in a process of its own; the others need none.
    failed = subprocess.run(
        [sys.executable, '-m', 'avsc_jax.score', 'none.npz', '--out', 'out'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert (failed.returncode, failed.stdout) == (1, '')
    assert failed.stderr.startswith('error: none.npz is not a file')
    assert failed.stderr.count('\n') == 1
    example = 'python -m avsc_jax.score submission.csv'
    for arguments, told in ((['a.npz', '--out', 'out'], '3 items'), (['--help'], example)):
        monkeypatch.setattr(sys, 'argv', ['score', *arguments])
        with pytest.raises(SystemExit) as ended:
            score.run()
        out, err = capsys.readouterr()
        assert (ended.value.code, err) == (0, '') and told in out
