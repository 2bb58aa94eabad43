"""Facts that jobs of every kind share, checked on the tiny finished runs."""

import shutil
from typing import NamedTuple

import jax
import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.data import records
from avsc_jax.input_pipeline import examples
from avsc_jax.predict import __main__ as predict
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import dry_run, initial_weights, load_run, train

SLOW = pytest.mark.slow


class Kind(NamedTuple):
    """What a run of ten test clips leaves: rows of a clip, epochs, origins of weights, a warning.

    The origin is '' where it names the run of a part. `stats`: whether inputs are normalised by
    statistics of the training rows.
    """

    items: str
    parts: int
    epochs: int
    weights: dict[str, str]
    warning: str
    data: str = 'demo'
    stats: bool = True


UNTRAINED = 'trained from random initial weights'
RANDOM = 'random encoders'
KINDS = {
    'clip_zero_shot': Kind(
        'frame',
        12,
        0,
        {'clip_vit_b32': 'random:0', 'clip_vit_b32_text': 'random:0'},
        RANDOM,
        stats=False,
    ),
    'hitachi_audio': Kind('second', 2, 2, {'regnetx_002': 'random:0'}, UNTRAINED),
    'hitachi_image': Kind('frame', 12, 2, {'regnetx_002': 'random:0'}, UNTRAINED, stats=False),
    'efficientat_audio': Kind('clip', 1, 2, {'mn01_as': 'random:0'}, UNTRAINED, stats=False),
    'late_fusion': Kind('clip', 1, 2, {'clip_vit_b32': 'random:0', 'mn10_as': 'random:0'}, RANDOM),
    'ioacas_audio': Kind('second', 2, 3, {}, 'made-up clips'),
    'ioacas_fusion': Kind(
        'second', 2, 2, {'audio': '', 'image': ''}, UNTRAINED, data='demo_segments', stats=False
    ),
    'joint_fusion': Kind('second', 2, 1, {'joint': 'random:0'}, UNTRAINED, data='demo_segments'),
    'feng_fusion': Kind(
        'clip', 1, 2, {'openl3_audio': 'random:0', 'openl3_image': 'random:0'}, RANDOM
    ),
}


@pytest.fixture
def finished(request, finished_run):
    """(what is known of it, its folder, its table) of the run of a name."""
    folder = RunFolder(finished_run(request.param))
    return KINDS[request.param], folder, tables.read(folder.predictions_file('test'))


COSTLY = ('efficientat_audio', 'late_fusion')  # to compile


def of_kinds(*but):
    """Runs a test on the run of each kind but some."""
    names = [name for name in KINDS if name not in but]
    marked = [pytest.param(name, marks=[SLOW] * (name in COSTLY)) for name in names]
    return pytest.mark.parametrize('finished', marked, indirect=True)


@of_kinds()
def test_a_run_has_a_row_for_each_part_of_a_clip_and_says_what_it_was_made_of(finished):
    kind, folder, table = finished
    segments = [-1] if kind.parts == 1 else [*range(kind.parts)]
    assert table.meta['granularity'] == kind.items and table.segment.tolist() == segments * 10
    assert len(set(table.clip_id)) == 10
    told = folder.read_json('report.json')
    lines = folder.path / 'metrics.jsonl'
    assert len(told['history']) == kind.epochs
    assert not kind.epochs or len(lines.read_text().splitlines()) == kind.epochs
    assert (folder.path / 'stats.npz').exists() == kind.stats
    paper = folder.read_json('config.json')['paper']  # which may have published nothing
    assert (told['paper'] or {}).get('row') == (paper['row'] if paper['source'] else None)
    used = folder.read_json('environment.json')['weights']
    assert used == told['about']['weights'] and used.keys() == kind.weights.keys()
    for name, origin in kind.weights.items():
        assert used[name] == origin or (not origin and used[name].startswith('run of config '))
    warnings = ' '.join(told['about']['warnings'])
    assert kind.warning in warnings
    assert (RANDOM in warnings) == (kind.warning == RANDOM)


@of_kinds('clip_zero_shot')
def test_predict_gives_the_clips_of_the_table(finished, data_dir, tmp_path):
    kind, folder, table = finished
    out = tmp_path / 'out.npz'
    flags = [f'--dataset={kind.data}', f'--data_dir={data_dir}', f'--model={folder.path}']
    assert predict.main([*flags, f'--csv={out}']) == 0
    found, expected = tables.read(out), tables.pool(table)
    if kind.data == 'demo_segments':
        expected = table
    assert found.clip_id.tolist() == expected.clip_id.tolist()
    assert found.label.tolist() == expected.label.tolist()
    np.testing.assert_allclose(found.probs, expected.probs, atol=1e-4)


@pytest.mark.parametrize('finished', ['hitachi_audio', 'hitachi_image'], indirect=True)
def test_the_run_folder_alone_gives_what_the_table_was_made_of(finished, data_dir):
    _, folder, table = finished
    model, variables, preprocess, classes = load_run(folder.path)
    record = records.open_dataset('tfds_tau', 'demo', data_dir).records('test')[3]
    logits, _ = jax.jit(model.apply)(variables, preprocess(record))
    expected = table.probs[table.clip_id == record['clip_id']]
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, atol=1e-4)
    assert list(classes) == table.meta['classes']


@pytest.mark.parametrize('finished', ['hitachi_audio', 'hitachi_image'], indirect=True)
def test_predict_names_the_scene_of_a_file_with_picture_or_sound(finished, data_dir, tmp_path):
    kind, folder, table = finished
    files = {'second': 'audio/*.wav', 'frame': 'video/*.mp4'}[kind.items]
    clip_id = table.clip_id[0]
    (file,) = (f for f in data_dir.rglob(f'tfds_tau_demo*/{files}') if f.stem == clip_id)
    out = tmp_path / 'out.csv'
    assert predict.main([str(file), f'--model={folder.path}', f'--csv={out}']) == 0
    pooled = tables.pool(table)
    expected = pooled.probs[pooled.clip_id.tolist().index(clip_id)]
    # JPEG stands between the frames of the two, and 24 bits between the samples
    assert np.abs(tables.read(out).probs[0] - expected).max() < 0.1


@pytest.mark.parametrize(
    ('name', 'lost'),
    [
        ('clip_zero_shot', ()),
        ('clip_zero_shot', ('checkpoints/last',)),
        pytest.param('hitachi_audio', (), marks=SLOW),
        pytest.param('hitachi_image', (), marks=SLOW),
    ],
)
def test_a_killed_run_measures_nothing_twice_and_ends_with_the_same_table(
    finished_run, demo_config, data_dir, tmp_path, monkeypatch, name, lost
):
    folder = RunFolder(shutil.copytree(finished_run(name), tmp_path / 'cut'))
    expected = tables.read(folder.predictions_file('test'))
    for file in ('DONE', 'report.json', 'predictions/test.npz'):
        (folder.path / file).unlink()
    for place in lost:
        shutil.rmtree(folder.path / place)
    monkeypatch.setattr(examples.inputs, 'measure', None)
    train.run(demo_config(name), workdir=folder.path, data_dir=data_dir, weights_dir=tmp_path)
    again = tables.read(folder.predictions_file('test'))
    assert again.probs.tobytes() == expected.probs.tobytes()
    assert folder.is_done


@pytest.mark.parametrize(
    ('name', 'tokens', 'told'),
    [
        (
            'clip_zero_shot',
            None,
            [
                'encoder clip_vit_b32_text: ',
                'input (77,), random:0',
                "prompts: 'a photo of a airport', 'a photo of a bus'",
                'split test: 10 clips, 120 rows',
            ],
        ),
        (
            'hitachi_audio',
            None,
            [
                'split train: 20 clips, 200 rows',
                'network regnetx_002',
                'input image (64, ',
                '2 epochs of 9 steps of 24',
            ],
        ),
        (
            'hitachi_image',
            None,
            [
                'split train: 20 clips, 240 rows',
                'network regnetx_002',
                'input image (32, ',
                '2 epochs of 12 steps of 20',
            ],
        ),
        (
            'ioacas_audio',
            'dcnn1d,scalogram',
            [
                'encoder ioacas_scalogram: 0 parameters, input (48000, 2), none',
                'split test: 10 clips, 600 rows, 1.4 MB of features',
                'network dcnn1d: ',
                'input image (2, 290)',
            ],
        ),
        (
            'openl3_baseline',
            'early',
            [
                'input audio_embedding (384,), image_embedding (128,)',
                'split test: 10 clips, 100 rows',
            ],
        ),
        (
            'hou_dual_stream',
            'final',
            ['input audio_embedding (96, 384), image (10, 64, 64, 3)', 'split validation'],
        ),
    ],
)
def test_a_dry_run_tells_networks_rows_and_steps(
    demo_config, data_dir, tmp_path, name, tokens, told
):
    made = demo_config(name, tokens)
    specs = [
        spec
        for encoders in ('encoders', 'text_encoder')
        for spec in initial_weights.encoder_specs(made, made.get(encoders) or {}, tmp_path)
    ]
    text = dry_run.text(made, specs, data_dir)
    assert [line for line in told if line not in text] == [], text
    trains = 'split train' in text or 'split the training part' in text
    assert ('training: ' in text) == trains == (name != 'clip_zero_shot')
    # where nothing is prepared yet, the demo's classes are known all the same
    if name == 'clip_zero_shot':
        elsewhere = dry_run.text(made, specs, tmp_path)
        assert text.count('a photo of') == elsewhere.count('a photo of') == 10


@pytest.mark.parametrize(
    ('name', 'changes', 'error', 'sentence'),
    [
        (
            'clip_zero_shot',
            {'prompt_style': 'poem'},
            ValueError,
            "prompt_style is 'poem'; it must be one of literal",
        ),
        (
            'hitachi_audio',
            {'weights': 'pretrained'},
            FileNotFoundError,
            'no weights of regnetx_064 in',
        ),
        (
            'openl3_baseline',
            {},
            FileNotFoundError,
            r'openl3_baseline.py:audio,demo.*\n.*:video,demo',
        ),
        (
            'ioacas_fusion',
            {},
            FileNotFoundError,
            '2 runs must be trained before this one:',
        ),
    ],
)
def test_what_a_job_needs_is_one_sentence_before_anything_is_made(
    demo_config, data_dir, tmp_path, monkeypatch, name, changes, error, sentence
):
    monkeypatch.chdir(tmp_path)  # where no runs of parts are
    made = demo_config(name, **changes)
    with pytest.raises(error, match=sentence):
        train.run(made, workdir=tmp_path / 'run', data_dir=data_dir, weights_dir=tmp_path)
    assert not (tmp_path / 'run').exists()
