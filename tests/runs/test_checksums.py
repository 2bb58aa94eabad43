"""Files of a finished run are compared with their checksums, and those of an older run are not."""

import shutil

import jax
import numpy as np
import optax
import pytest

from avsc_jax import models
from avsc_jax.export import __main__ as export
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict.predictor import Predictor
from avsc_jax.runs import checksums
from avsc_jax.runs.checkpoint import Checkpoints, digest
from avsc_jax.runs.run_folder import CHECKED, RunFolder
from avsc_jax.runs.state import TrainState
from avsc_jax.score import __main__ as score


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run that has every kind of file."""
    return RunFolder(shutil.copytree(finished_run('ioacas_audio'), tmp_path / 'run'))


def flip(file, bit=None):
    """Flips one bit of a file, in the middle if no other is named."""
    data = bytearray(file.read_bytes())
    bit = 4 * len(data) if bit is None else bit
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(data))


def test_all_that_readers_rely_on_is_written_down_before_the_run_is_done(run):
    written = checksums.read(run.path)
    tops = {name.partition('/')[0] for name in written}
    assert tops == {name for name in CHECKED if (run.path / name).exists()}
    assert {'config.json', 'classes.json', 'preprocessing.json', 'stats.npz'} <= tops
    assert {name.split('/')[1] for name in written if '/' in name} == {'best', 'last'}
    checksums_time, done = ((run.path / f).stat().st_mtime_ns for f in ('checksums.json', 'DONE'))
    assert checksums_time <= done
    run.begin(run.config)  # a run that is made again is not done meanwhile
    assert not run.is_done and checksums.read(run.path) is None


def largest(folder):
    return max((f for f in folder.rglob('*') if f.is_file()), key=lambda f: f.stat().st_size)


@pytest.mark.parametrize(
    'name', ['config.json', 'classes.json', 'preprocessing.json', 'report.json', 'stats.npz', '']
)
def test_a_changed_file_of_a_run_is_one_sentence_that_names_it(run, name, tmp_path):
    file = run.path / name if name else largest(run.path / 'checkpoints/best')
    flip(file)
    with pytest.raises(ValueError, match=rf'{file} has SHA-256 .*--trust_edited') as raised:
        Predictor.load(run.path, tmp_path)
    assert '\n' not in str(raised.value)


def test_files_that_are_missing_or_new_in_a_checkpoint_are_named(run, tmp_path):
    file = largest(run.path / 'checkpoints/best')
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(ValueError, match=f'{file} is missing: it has changed since'):
        Predictor.load(run.path, tmp_path)
    file.write_bytes(kept)
    (run.path / 'checkpoints/best/99').mkdir()
    (run.path / 'checkpoints/best/99/new').touch()
    with pytest.raises(ValueError, match='checkpoints/best/99/new is new'):
        Predictor.load(run.path, tmp_path)


def test_every_command_that_opens_a_run_takes_an_edit_by_hand_if_told_to(run, tmp_path, capsys):
    before = run.read_json('report.json')
    text = (run.path / 'classes.json').read_text().replace('airport', 'station')
    (run.path / 'classes.json').write_text(text)
    (run.path / 'sound.wav').touch()
    for command, line in (
        (predict, [str(run.path / 'sound.wav'), f'--model={run.path}']),
        (score, ['runs', str(run.path), str(run.path.parent / 'other')]),
        (export, [str(run.path), str(tmp_path / 'out'), '--format=stablehlo']),
    ):
        shutil.copytree(run.path, run.path.parent / 'other', dirs_exist_ok=True)
        with pytest.raises(ValueError, match=r'classes.json has SHA-256'):
            command.main(line)
    with checksums.trusting(True):
        assert Predictor.load(run.path, tmp_path).classes[0] == 'station'
    assert (
        score.main(['runs', str(run.path), str(run.path.parent / 'other'), '--trust_edited']) == 0
    )
    assert predict.main([str(run.path / 'sound.wav'), f'--model={run.path}', '--trust_edited']) == 1
    assert not checksums.are_trusted() and run.read_json('report.json') == before
    assert 'sound.wav' in capsys.readouterr().err


def test_an_older_run_opens_with_a_note_and_damaged_checksums_do_not(run, tmp_path, capsys):
    classes = Predictor.load(run.path, tmp_path).classes
    assert 'checksums' not in capsys.readouterr().err
    flip(run.path / 'checksums.json')
    with pytest.raises(ValueError, match=r'checksums.json is damaged; .*--trust_edited'):
        Predictor.load(run.path, tmp_path)
    (run.path / 'checksums.json').unlink()
    assert Predictor.load(run.path, tmp_path).classes == classes
    assert Predictor.load(run.path, tmp_path).classes == classes
    assert capsys.readouterr().err.count(f'note: {run.path} has no checksums.json') == 1


def test_a_checkpoint_of_an_unfinished_run_is_compared_with_the_digest_of_its_commit(
    tmp_path, monkeypatch
):
    model = models.create_model(
        'clip_late_fusion', num_classes=3, encoders={'clip_rn101': 8}, widths=(4, 4, 4)
    )
    state = TrainState.create(model, optax.adam(0.1), seed=0)
    lines = [{'epoch': 0, 'valid_loss': 0.1, 'best': True}]
    Checkpoints(tmp_path).save(state, lines, [1.5, float('nan')], is_best=True)
    again = Checkpoints(tmp_path)
    restored, history, _ = again.restore_last(state)
    assert history == lines and digest(restored.params) == digest(state.params)
    again.restore_best(state.variables)
    as_stored = again._best.restore

    def other(*arguments, **options):  # as if a bit had flipped where Orbax does not look
        tree = as_stored(*arguments, **options)
        return jax.tree.map(lambda x: x + np.float32(1e-3), tree)

    monkeypatch.setattr(again._best, 'restore', other)
    with pytest.raises(ValueError, match=r'best/0 has other values than were saved; delete that'):
        again.restore_best(state.variables)
