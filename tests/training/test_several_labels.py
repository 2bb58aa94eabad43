"""Clips of several labels through the whole job: a table in, labels, reports and scores out."""

import csv
import json

import numpy as np
import pytest
import scipy.special
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression

from avsc_jax import label_metrics, losses, tables
from avsc_jax.data import windows
from avsc_jax.data.batches import Rows
from avsc_jax.input_pipeline.feature_cache import CLIPS_PER_BLOCK
from avsc_jax.predict import Predictor
from avsc_jax.runs.load import load_run
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import cli
from avsc_jax.score import __main__ as score
from avsc_jax.tables import thresholds
from avsc_jax.training import logistic, loop, several
from avsc_jax.training import train as job


@pytest.fixture
def truth(labelled_pictures):
    """File name -> its labels, as the table has them."""
    with labelled_pictures.open() as lines:
        rows = [*csv.DictReader(lines)]
    return {row['path']: {*row['label'].split(';')} - {''} for row in rows}


def test_a_table_of_labels_becomes_a_probe_with_a_threshold_each(run_of_labels, truth):
    run = RunFolder(run_of_labels)
    assert run.kind == 'independent' and run.read_json('classes.json') == ['blue', 'red']
    fitted = run.thresholds
    assert fitted['fitted_on'] == '5 folds of train' and fitted['not_fitted'] == []
    table = tables.read(run.predictions_file('test'))
    assert table.meta['kind'] == 'independent' and table.meta['thresholds'] == fitted
    expected = [[name in truth[clip] for name in ('blue', 'red')] for clip in table.clip_id]
    np.testing.assert_array_equal(table.label, expected)
    told = run.read_json('report.json')
    scores = told['scores']['clip']
    precisions = label_metrics.average_precision(table.probs, table.label)
    assert scores['average_precision_macro'] == pytest.approx(precisions.mean(), abs=1e-12)
    assert precisions.min() > 0.7 and scores['f1_macro'] > 0.7  # it learns
    assert told['kind'] == 'independent' and scores['groups'] == len({*table.group.tolist()})
    assert 'thresholds of the largest F1 on 5 folds of train' in told['thresholds']
    page = (run_of_labels / 'report.html').read_text()
    assert 'Mean average precision' in page and 'Confusion' not in page


def test_the_probe_is_a_logistic_regression_of_each_label(run_of_labels, labelled_pictures, truth):
    *_, preprocess, classes = load_run(run_of_labels)
    table = tables.read(run_of_labels / PREDICTED)
    folder, wants = labelled_pictures.parent, Predictor.load(run_of_labels).wants()
    tested = np.isin([*truth], table.clip_id)
    x = np.zeros((len(truth), 512))  # scikit-learn fits float32 only to some 1e-4
    for part in (np.flatnonzero(~tested), np.flatnonzero(tested)):  # blocks as the run encoded them
        for first in range(0, len(part), CLIPS_PER_BLOCK):
            block = part[first : first + CLIPS_PER_BLOCK]
            files = [folder / [*truth][k] for k in block]
            each = preprocess.each([next(windows.read(file, wants)) for file in files])
            x[block] = np.concatenate([inputs['features/clip_vit_b32'] for inputs in each])
    x = (x - x[~tested].mean(axis=0)) / x[~tested].std(axis=0)
    c = RunFolder(run_of_labels).read_json('probe.json')['C']
    for k, name in enumerate(classes):
        true = np.array([name in labels for labels in truth.values()])
        theirs = LogisticRegression(C=c, max_iter=9999, tol=1e-9).fit(x[~tested], true[~tested])
        answers = dict(zip(table.clip_id.tolist(), table.probs[:, k], strict=True))
        expected = dict(zip(truth, theirs.predict_proba(x)[:, 1], strict=True))
        for clip, value in answers.items():
            assert value == pytest.approx(expected[clip], abs=1e-6)


PREDICTED = 'predictions/test.npz'


def test_predict_says_which_labels_are_true(run_of_labels, labelled_pictures, tmp_path, capsys):
    from avsc_jax.predict import __main__ as command

    predictor = Predictor.load(run_of_labels)
    table = tables.read(run_of_labels / PREDICTED)
    folder, limits = labelled_pictures.parent, np.array(predictor.thresholds)
    names = [name for name in table.clip_id.tolist()][:6]
    outputs = {n: tmp_path / n for n in ('out.csv', 'times.csv', 'out.jsonl')}
    flags = ['--csv', '--timeline', '--jsonl']
    given = [str(part) for pair in zip(flags, outputs.values(), strict=True) for part in pair]
    args = [*(str(folder / name) for name in names), '--model', str(run_of_labels), *given]
    assert cli.main(lambda _: command.main(args)) == 0
    lines = {
        line.split()[0].rsplit('/', 1)[1]: line
        for line in capsys.readouterr().out.split('\n')
        if line.startswith(str(folder))
    }
    rows = {row['filename']: row for row in csv.DictReader(outputs['out.csv'].open())}
    spans = {row['filename']: row for row in csv.DictReader(outputs['times.csv'].open())}
    told = {
        json.loads(line)['file'].rsplit('/', 1)[1]: json.loads(line)
        for line in outputs['out.jsonl'].read_text().splitlines()
    }
    for name, probs in zip(names, table.probs, strict=False):
        reached = {
            label for label, p, t in zip(('blue', 'red'), probs, limits, strict=True) if p >= t
        }
        assert {*rows[name]['labels'].split(';')} - {''} == reached
        assert rows[name]['labels'] == spans[name]['labels']
        assert {*told[name]['labels']} == reached and told[name]['kind'] == 'independent'
        assert told[name]['timeline'][0]['labels'] == told[name]['labels']
        assert ('none of 2 labels (likeliest: ' in lines[name]) == (not reached)
        assert all(f'{label} 0.' in lines[name] for label in reached)
    one = predictor(folder / names[0])
    assert one.labels == told[names[0]]['labels'] and one.probs_max is not None


def test_the_table_of_predict_is_scored_with_a_list_of_truth(
    run_of_labels, labelled_pictures, tmp_path, capsys, monkeypatch
):
    table = tables.read(run_of_labels / PREDICTED)
    meta = {key: table.meta[key] for key in ('classes', 'kind', 'thresholds')}
    unknown = np.full(len(table.clip_id), -1)
    tables.write(
        tables.Predictions(table.clip_id, unknown, unknown, table.probs, meta), tmp_path / 'own.npz'
    )
    out = tmp_path / 'scores'
    flags = [str(tmp_path / 'own.npz'), '--truth', str(labelled_pictures), '--out', str(out)]
    monkeypatch.setattr('sys.argv', ['avsc-score', *flags])
    assert cli.main(score.main) == 0
    assert 'average precision' in capsys.readouterr().out
    ours = json.loads((out / 'report.json').read_text())['scores']['clip']
    theirs = RunFolder(run_of_labels).read_json('report.json')['scores']['clip']
    assert ours['per_class']['average_precision'] == theirs['per_class']['average_precision']
    assert ours['f1_micro'] == theirs['f1_micro'] and ours['f1_macro'] == theirs['f1_macro']


def test_a_damaged_threshold_is_a_sentence(run_of_labels, tmp_path):
    run = RunFolder(tmp_path / 'run')
    run.begin(RunFolder(run_of_labels).config)
    run.write_json('classes.json', ['blue', 'red'])
    fitted = RunFolder(run_of_labels).thresholds
    for values, sentence in (
        ([0.5], '1 thresholds for 2 labels'),
        ([0.5, 7], r'run/thresholds.json is corrupt .*in \[0, 1\]'),
    ):
        run.write_json(thresholds.FILE, fitted | {'thresholds': values})
        with pytest.raises(ValueError, match=sentence):
            _ = run.thresholds


def test_runs_of_before_have_exclusive_classes(tmp_path):
    run = RunFolder(tmp_path / 'run')
    run.begin({'model': {'name': 'x'}, 'data': {'name': 'tfds_tau'}})
    assert run.kind == 'exclusive' and run.thresholds is None


def test_thresholds_that_cannot_be_fitted_are_named():
    probs, labels = np.array([[0.9, 0.2], [0.1, 0.3]]), np.array([[1, 0], [0, 0]])
    fitted = thresholds.fit(probs, labels, ['a', 'b'], beta=2.0, fitted_on='valid')
    assert fitted['thresholds'] == [0.5, 0.5] and fitted['not_fitted'] == ['b']
    assert thresholds.sentence(fitted) == (
        'thresholds of the largest F2 on valid; 1 labels are true of no clip there and have 0.5: b'
    )
    nothing = thresholds.default(['a', 'b'])
    assert thresholds.sentence(nothing) == 'a threshold of 0.5 each, as none was fitted'


def config(**changes):
    made = dict(kind='train', data=dict(name='x', labels='several'), model=dict(name='y'))
    made |= dict(loss=dict(name='sigmoid_cross_entropy'), select='mean_average_precision')
    return ConfigDict(made | changes)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (
            dict(loss=dict(name='focal_loss', gamma=2.0)),
            r"loss\.name is 'focal_loss', .*labels is 'several', which takes sigmoid_cross_entropy",
        ),
        (dict(data=dict(name='x')), r"is 'one', which takes cross_entropy or focal_loss.*multi_la"),
        (dict(model=dict(name='y', of_probabilities=True)), 'of_probabilities adds a softmax'),
        (dict(select='accuracy'), r'classes are independent .* one of loss, last, mean_average'),
        (
            dict(data=dict(name='x'), loss=dict(name='cross_entropy')),
            r'classes are exclusive .* one of accuracy, log_loss, loss',
        ),
        (dict(kind='zero_shot'), 'zero-shot classification, .* takes one class a clip'),
    ],
)
def test_what_needs_one_class_a_clip_is_refused_before_training(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        job.check(config(**changes))


def test_an_ensemble_of_several_labels_is_refused():
    from avsc_jax.training import ensemble

    with pytest.raises(ValueError, match='an ensemble, whose decisions are of one class, takes'):
        ensemble.check(config(kind='ensemble'))


def test_records_of_another_kind_of_labels_are_refused():
    class Scenes:
        name, kind = 'scenes', 'exclusive'

    with pytest.raises(ValueError, match=r"scenes has one label a clip, and .* says 'several'"):
        several.check_data(config(), Scenes())


def test_an_epoch_is_scored_by_the_mean_average_precision_of_clips():
    logits = np.array([[2.0, -1], [0, 1], [-2, 0.5], [-3, 3]], np.float32)
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    rows = Rows(['a', 'a', 'b', 'c'], np.array([0, 1, 0, 0]), labels, {})

    class Given:
        loss = staticmethod(losses.sigmoid_cross_entropy)

    scores = loop._scores(Given(), logits, rows, 4, 'valid_mean_average_precision')
    # clips a, b, c: probabilities of the second class 0.5, 0.62 and 0.95, of which b is right
    assert scores['valid_mean_average_precision'] == pytest.approx((1 + 0.5) / 2)
    p = scipy.special.expit(logits)
    expected = -np.log(np.where(labels > 0, p, 1 - p)).mean()
    assert scores['valid_loss'] == pytest.approx(expected, rel=1e-6)
    assert {*scores} == {'valid_loss', 'valid_mean_average_precision'}


def test_folds_of_labels_share_no_group_and_rare_labels_end_no_fit():
    draw = np.random.default_rng(0)
    x, groups = draw.normal(size=(60, 4)), np.array([f'g{k // 3}' for k in range(60)])
    labels = np.stack([x[:, 0] > 0, x[:, 1] > 0.5, np.arange(60) < 2], axis=1).astype(np.float32)
    cut = logistic.cut(labels, groups, 5)
    assert len(cut) == 5 and sorted(np.concatenate([s for _, s in cut])) == [*range(60)]
    assert all(not {*groups[fitted]} & {*groups[scored]} for fitted, scored in cut)
    fit = logistic.fit(x, labels, cut, (0.1, 1.0))
    assert fit.temperature == 1 and fit.logits.shape == (60, 3)
    assert np.isfinite(fit.kernel).all() and np.isfinite(fit.log_loss)
    aps = label_metrics.average_precision(scipy.special.expit(fit.logits), labels)
    assert aps[:2].min() > 0.8


@pytest.mark.parity
def test_a_network_of_labels_is_trained_selected_and_exported(
    main, labelled_pictures, tmp_path, capsys
):
    from avsc_jax.export import __main__ as export
    from avsc_jax.predict import __main__ as predict

    network = '{"name": "regnetx_002", "widths": (8, 8, 8, 8), "layers": (1, 0, 0, 0), '
    network += '"group_width": 8, "stem_width": 8}'
    run = tmp_path / 'run'
    flags = [f'--config.data.folder={labelled_pictures}', f'--data_dir={tmp_path / "data"}']
    flags += [f'--workdir={run}', '--config.epochs=6', '--config.size=(32, 32)']
    flags += [f'--config.model={network}', '--config.threshold_beta=2.0']
    tokens = '--config=configs/own_data.py:hitachi_image,multi_label,demo'
    assert main.main([tokens, *flags]) == 0
    folder = RunFolder(run)
    history = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    column = [line['valid_mean_average_precision'] for line in history]
    assert folder.read_json('report.json')['best_epoch'] == int(np.argmax(column))
    assert folder.thresholds['fitted_on'] == 'validation' and folder.thresholds['beta'] == 2
    assert folder.read_json('report.json')['scores']['clip']['average_precision_macro'] > 0.7
    out = tmp_path / 'exported'
    assert cli.main(lambda _: export.main([str(run), str(out), '--format=both'])) == 0
    recipe = json.loads((out / 'recipe.json').read_text())
    assert recipe['kind'] == 'independent'
    assert recipe['thresholds'] == folder.thresholds
    assert max(recipe['onnx']['largest_difference'].values()) < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(out / 'network.onnx')
    model, variables, *_ = load_run(run)
    image = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    logits, _ = model.apply(variables, image)
    (probs,) = session.run(None, {session.get_inputs()[0].name: image})
    np.testing.assert_allclose(probs, scipy.special.expit(logits), atol=1e-5)  # no softmax
    picture = str(labelled_pictures.parent / '0.png')
    args = [picture, '--model', str(run), '--report', str(tmp_path / 'why.html')]
    assert cli.main(lambda _: predict.main(args)) == 0
    assert 'Grad-CAM' in (tmp_path / 'why.html').read_text()
    capsys.readouterr()
    data = next(path.parent.name for path in (tmp_path / 'data/own_data').glob('*/*.*.*'))
    args = [
        '--dataset',
        f'own_data/{data}',
        '--data_dir',
        str(tmp_path / 'data'),
        '--split',
        'test',
    ]
    args += ['--model', str(run), '--csv', str(tmp_path / 'test.npz')]
    assert cli.main(lambda _: predict.main(args)) == 0
    ours = tables.read(tmp_path / 'test.npz')
    theirs = tables.read(folder.predictions_file('test'))
    np.testing.assert_array_equal(ours.label, tables.pool(theirs).label)
    np.testing.assert_allclose(ours.probs, tables.pool(theirs).probs, atol=1e-5)
