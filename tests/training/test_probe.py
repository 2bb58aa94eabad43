"""Probes through the whole job: files in, a run that predict opens out."""

import json

import numpy as np
import pytest
import scipy.special
from PIL import Image
from sklearn.linear_model import LogisticRegression

from avsc_jax import tables
from avsc_jax.data import windows
from avsc_jax.predict import Predictor
from avsc_jax.runs.load import load_run
from avsc_jax.runs.run_folder import RunFolder

OWN = '--config=configs/own_data.py'
VIT = dict(width=16, layers=1, patch_size=16, image_size=32)
TINY = f'--config.encoders={json.dumps(dict(clip_vit_b32=VIT))}'


def stills(folder, per_class=8, classes=('dark', 'grey', 'light')):
    draw = np.random.default_rng(0)
    for level, scene in enumerate(classes):
        (folder / scene).mkdir(parents=True)
        for k in range(per_class):
            image = draw.normal(60 + 60 * level, 60, (36, 48, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / scene / f'{k}.png')
    return folder


@pytest.fixture
def train(main, tmp_path):
    """Runs the command on a folder; the run's folder."""

    def train(tokens, folder, *arguments, workdir='run'):
        named = [f'--config.data.folder={folder}', f'--data_dir={tmp_path / "data"}']
        flags = [*named, f'--workdir={tmp_path / workdir}', *arguments]
        assert main.main([f'{OWN}:{tokens}', *flags]) == 0
        return RunFolder(tmp_path / workdir)

    return train


def test_a_folder_of_pictures_becomes_a_probe_that_predicts(train, tmp_path, capsys):
    folder = stills(tmp_path / 'stills')
    (folder / 'grey/7.png').write_bytes(b'no picture')
    run = train('clip_probe,demo', folder, TINY, '--config.data.on_error=skip')
    told = run.read_json('probe.json')
    assert told['folds'] == 5 and told['C'] in run.config['grid']
    assert min(told['log_loss_by_C'].values()) == told['log_loss_by_C'][str(told['C'])]
    report = run.read_json('report.json')
    assert report['about']['protocol'].startswith('logistic regression, C and temperature by 5-fo')
    assert any(line.startswith('1 clips are left out') for line in report['about']['warnings'])
    out, err = capsys.readouterr()
    assert 'cross-validation, 5 folds of the training clips: log loss' in err
    assert 'temperature of the probe: every class' in out
    assert not [*(tmp_path / 'data').rglob('*array_record*')]  # nothing but features is written
    assert run.read_familiarity() is None and 'no clip as unlike the training clips' in err

    model, variables, preprocess, classes = load_run(run.path)
    files = np.array(sorted({*folder.rglob('*.png')} - {folder / 'grey/7.png'}))
    wants = Predictor.load(run.path).wants()
    each = preprocess.each([window for file in files for window in windows.read(file, wants)])
    x = np.concatenate([inputs['features/clip_vit_b32'] for inputs in each])
    table = tables.read(run.predictions_file('test'))
    tested = np.isin([f.relative_to(folder).as_posix() for f in files], table.clip_id)
    labels = np.array([classes.index(f.parent.name) for f in files])
    mean, deviation = x[~tested].mean(axis=0), x[~tested].std(axis=0)
    theirs = LogisticRegression(C=told['C'], max_iter=9999, tol=1e-9)
    theirs.fit(((x - mean) / deviation)[~tested], labels[~tested])
    logits = np.log(theirs.predict_proba((x - mean) / deviation)) / told['temperature']
    ours = scipy.special.softmax(model.apply(variables, {'features/clip_vit_b32': x})[0], axis=1)
    # the features differ by some 1e-6, as batches are of another size than those of the run
    np.testing.assert_allclose(ours, scipy.special.softmax(logits, axis=1), atol=1e-4)
    order = [table.clip_id.tolist().index(f.relative_to(folder).as_posix()) for f in files[tested]]
    np.testing.assert_allclose(ours[tested], table.probs[order], atol=1e-4)


@pytest.mark.slow
def test_a_final_probe_is_fitted_to_all_clips_and_has_no_score(train, tmp_path, capsys):
    run = train('clip_probe,demo,final', stills(tmp_path / 'stills', 3), TINY)
    assert run.read_json('probe.json')['folds'] == 3
    out, err = capsys.readouterr()
    assert 'no score: all labelled clips were trained on' in out
    assert 'note: C is chosen by 3 folds, not 5: a class has no more groups' in err


def test_encoders_of_what_the_clips_do_not_hold_are_dropped(train, tmp_path, capsys):
    folder = stills(tmp_path / 'stills', 5)
    train('probe,clip_vit_b32+openl3_audio,demo', folder, '--dry_run')
    told = capsys.readouterr().out
    assert 'encoder clip_vit_b32' in told and 'openl3_audio' not in told
    assert 'network probe: 2,563 parameters' not in told  # of both
    assert 'fit: logistic regression, 9 values of C on 5 folds at most' in told
    assert 'trained on train (12 records), reported on test (3 records)' in told


@pytest.mark.parametrize(
    ('tokens', 'per_class', 'arguments', 'sentence'),
    [
        ('probe,openl3_audio,demo', 3, [], r'hold picture, and none of the encoders openl3_audio'),
        ('clip_probe', 3, [], r'no weights of clip_vit_b32 in .*add --download_weights'),
        ('clip_probe,demo', 2, [], r"class 'dark' has 1 groups to train on"),
        ('clip_probe,demo', 3, ['--config.grid=(0.0,)'], r'config\.grid is \[0\.0\]; .* above 0'),
        ('clip_probe,demo', 3, ['--config.cross_validation=1'], r'cross_validation is 1; .*2 or'),
        ('probe,clip+yamnet', 3, [], r"knows no token 'clip\+yamnet'"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(
    train, tmp_path, tokens, per_class, arguments, sentence
):
    folder = stills(tmp_path / 'stills', per_class)
    weights = f'--weights_dir={tmp_path / "none"}'
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        train(tokens, folder, weights, *arguments)
    assert not [*tmp_path.rglob('*.npz')]  # nothing is encoded first


def test_the_protocol_names_the_folds_that_small_classes_allow(train, tmp_path, capsys):
    folder = stills(tmp_path / 'stills', 4)
    run = train('clip_probe,demo', folder, TINY)
    assert run.read_json('probe.json')['folds'] == 3
    assert 'temperature by 3-fold cross' in run.read_json('report.json')['about']['protocol']
    train('clip_probe,demo', folder, TINY, '--dry_run')
    assert 'temperature by 3-fold cross-validation' in capsys.readouterr().out


def test_a_folder_of_one_class_is_a_sentence(train, tmp_path):
    with pytest.raises(ValueError, match=r"has only the class 'dark'; a system needs two or more"):
        train('probe,demo', stills(tmp_path / 'stills', classes=('dark',)))


@pytest.mark.slow
def test_a_class_of_which_no_file_can_be_read_is_a_sentence(train, tmp_path):
    folder = stills(tmp_path / 'stills', 4)
    for k in range(4):
        (folder / f'grey/{k}.png').write_bytes(b'no picture %d' % k)
    with pytest.raises(ValueError, match=r"no clip of the class 'grey' can be trained on"):
        train('clip_probe,demo', folder, TINY, '--config.data.on_error=skip')
