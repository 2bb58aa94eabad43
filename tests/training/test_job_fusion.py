"""Systems made of frozen runs: what is kept of them, computed once, and left as it was."""

import json
import shutil
from functools import partial

import jax
import numpy as np
import optax
import pytest

from avsc_jax import tables
from avsc_jax.configs import ioacas_fusion
from avsc_jax.data import media, records, sources
from avsc_jax.data.batches import Stream
from avsc_jax.input_pipeline import examples
from avsc_jax.models import build
from avsc_jax.predict import dataset, predictor
from avsc_jax.runs import load, run_folder, summary
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runs.state import TrainState
from avsc_jax.training import dependencies, initial_weights, load_run
from avsc_jax.training import train as jobs


@pytest.fixture(scope='module')
def image(finished_run):
    return RunFolder(finished_run('ioacas_image'))


@pytest.fixture(scope='module')
def parts(finished_run, image):
    return {'audio': RunFolder(finished_run('ioacas_audio')), 'image': image}


@pytest.fixture(scope='module')
def hybrid(finished_run):
    return RunFolder(finished_run('ioacas_fusion'))


@pytest.fixture(scope='module')
def of_parts(demo_config, parts):
    """The config of a hybrid of these runs."""

    def made(**changes):
        members = {name: dict(run=str(part.path)) for name, part in parts.items()}
        return demo_config('ioacas_fusion', members=members, **changes)

    return made


def test_a_stage_begins_with_the_network_before_it_and_a_head_of_its_own(
    demo_config, image, tmp_path
):
    made = demo_config('ioacas_image', begins_with='places')
    with made.unlocked():
        made.members.places.run = str(image.path)
    (part,) = dependencies.earlier_runs(made, 0)
    model = build.make_model(made.model.to_dict(), num_classes=10)
    fresh = TrainState.create(model, optax.identity(), seed=3)
    begun = initial_weights.started(made, model, {}, tmp_path, [part], fresh)
    before = run_folder.best_variables(image)[1]
    for name in before['params']:
        expected = fresh.params if name == 'head' else before['params']
        jax.tree.map(np.testing.assert_array_equal, begun.params[name], expected[name])
    jax.tree.map(np.testing.assert_array_equal, begun.batch_stats, before['batch_stats'])
    other = build.make_model({**made.model.to_dict(), 'widths': (16,) * 4}, num_classes=10)
    state = TrainState.create(other, optax.identity(), seed=3)
    with pytest.raises(ValueError, match='holds another network than config'):
        initial_weights.started(made, other, {}, tmp_path, [part], state)


def test_a_stage_without_run_and_pictures_is_skipped_and_the_report_says_so(
    demo_config, image, data_dir
):
    made = demo_config('ioacas_image', begins_with='places')
    assert not dependencies.has_stage(made, data_dir)
    with made.unlocked():
        made.members.places.run = str(image.path)
    assert dependencies.has_stage(made, data_dir)
    warnings = image.read_json('report.json')['about']['warnings']
    assert 'the earlier stage is skipped (places): as on all made-up data' in warnings
    dataset = records.open_dataset('tfds_tau', 'demo_segments', data_dir)
    assert not any('skipped' in line for line in summary.about(made, dataset, {})['warnings'])
    with made.unlocked():
        made.begins_with, made.data.source = '', 'tau'
    told = summary.about(made, dataset, {})['warnings']
    assert 'the earlier stage is skipped (places): its pictures are not there' in told


def test_a_dry_run_names_the_parts_that_come_first(demo_config, data_dir, tmp_path, capsys):
    made = demo_config('ioacas_fusion', 'swin_tiny,bark')
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    jobs.run(made, workdir=tmp_path / 'run', dry_run=True, **folders)
    told = capsys.readouterr().out
    first = 'before: python -m avsc_jax.main --config=configs/ioacas_audio.py:dcnn1d,bark,demo'
    assert first in told
    assert 'training: 2 epochs of 1 steps of 8' in told and 'network ioacas_hybrid: ' in told


def test_a_dry_run_names_the_parts_that_are_there(of_parts, data_dir, tmp_path, capsys):
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    jobs.run(of_parts(), workdir=tmp_path / 'run', dry_run=True, **folders)
    assert 'encoder audio: ' in capsys.readouterr().out


def test_frozen_parts_end_bit_for_bit_as_they_began_and_are_no_part_of_the_state(hybrid, parts):
    for name, part in parts.items():
        before = run_folder.best_variables(part)[1]
        after = run_folder.best_variables(RunFolder(hybrid.path / 'parts' / name))[1]
        assert {*before} == {'params', 'batch_stats'} and jax.tree.leaves(before['batch_stats'])
        jax.tree.map(np.testing.assert_array_equal, after, before)
    model, trained = run_folder.best_variables(hybrid)
    assert {*trained['params']} == {'attention', 'fc1', 'bn1', 'head'}
    fresh = TrainState.create(model, optax.identity(), seed=0)
    assert (trained['params']['fc1']['kernel'] != fresh.params['fc1']['kernel']).any()


def test_each_epoch_sees_one_second_of_each_clip(hybrid):
    history = hybrid.read_json('report.json')['history']
    assert [line['step'] for line in history] == [3, 6]  # 20 clips in batches of 8


@pytest.mark.slow
def test_kept_embeddings_are_made_once_and_those_of_augmented_pictures_never(
    hybrid, of_parts, parts, data_dir, tmp_path, monkeypatch
):
    spec = load.RunSpec('image', parts['image'].path)
    dataset = records.open_dataset('tfds_tau', 'demo_segments', data_dir)
    (cache,) = data_dir.glob(f'features/*/image-{spec.key(dataset.fingerprint)}')
    assert [place.name for place in cache.iterdir()] == ['test']
    kept = of_parts(augment_pictures=False, epochs=1)
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    jobs.run(kept, workdir=tmp_path / 'kept', **folders)
    assert sorted(place.name for place in cache.iterdir()) == ['test', 'train']
    found = np.load(min((cache / 'train').iterdir()))
    picture = dataset.records('train')[5]
    model, variables, preprocess, _ = load_run(spec.folder)
    expected = jax.jit(model.apply)(variables, preprocess(picture))[1]['embedding']
    np.testing.assert_allclose(found['features'][5], expected, atol=1e-5)
    assert found['segment'][5] == picture['segment'] == 1
    monkeypatch.setattr(load.RunSpec, 'make', None)  # nothing is encoded again
    specs = [load.RunSpec(name, part.path) for name, part in parts.items()]
    again = examples.load(kept, RunFolder(tmp_path / 'kept'), dataset, specs, **folders)
    assert len(again.splits['train']) == 40 and again.embed is None


@pytest.mark.slow
def test_augmented_pictures_are_embedded_within_the_step(of_parts, parts, data_dir, tmp_path):
    made = of_parts()
    specs = [load.RunSpec(name, part.path) for name, part in parts.items()]
    dataset = records.open_dataset('tfds_tau', 'demo_segments', data_dir)
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    loaded = examples.load(made, RunFolder(tmp_path), dataset, specs, **folders)
    train, test = loaded.splits['train'], loaded.splits['test']
    assert isinstance(train.inputs, Stream) and train.inputs.load(3)['frame'].shape == (36, 64, 3)
    assert {*test.inputs} == {'audio_embedding', 'image_embedding'}
    batch = next(train.inputs.batches(np.arange(6)[None], np.ones((1, 6), bool)))
    keys = jax.random.split(jax.random.key(0), 6)
    prepared = jax.jit(loaded.prepare)(keys, batch)
    assert prepared['image'].shape == (6, 32, 32, 3)
    function, variables = loaded.embed
    embedded = jax.jit(function)(variables, prepared)
    model, own = run_folder.best_variables(parts['image'])
    expected = jax.jit(model.apply)(own, prepared['image'])[1]['embedding']
    np.testing.assert_allclose(embedded['image_embedding'], expected, atol=1e-5)
    assert 'image' not in embedded and embedded['audio_embedding'].shape == (6, 6, 8)
    assert loaded.prepare(None, test.inputs) is test.inputs


def test_the_run_folder_alone_names_the_scenes_of_records_and_of_whole_files(
    hybrid, data_dir, tmp_path
):
    moved = tmp_path / 'moved'
    shutil.copytree(hybrid.path, moved)
    encoders = json.loads((moved / 'preprocessing.json').read_text())['encoders']
    assert [about['run'] for about in encoders] == [
        'parts/audio',
        'parts/image',
    ]  # no machine's path
    pooled = tables.pool(tables.read(hybrid.predictions_file('test')))
    (file,) = data_dir.rglob(f'tfds_tau_demo*/video/{pooled.clip_id[2]}.mp4')
    model, variables, preprocess, _ = load_run(moved)
    frames = media.read_frames(file, 'second_centres', short_side=480).images
    sound = {'audio': clip_sound(data_dir, pooled.clip_id[2]), 'sample_rate': 48000}
    found = preprocess({'frames': list(frames), **sound})  # of the seconds of the clip
    assert {name: array.shape for name, array in found.items()} == {
        'audio_embedding': (2, 6, 8),
        'image_embedding': (2, 8),
    }
    probs = jax.nn.softmax(jax.jit(model.apply)(variables, found)[0]).mean(axis=0)
    np.testing.assert_allclose(probs, pooled.probs[2], atol=0.1)  # JPEG stands between


def test_an_item_of_the_evaluation_set_is_answered_by_its_central_frame(hybrid, data_dir):
    """Frame 2 of the five that it holds, in place of the one of a second of the development set."""
    segments = records.open_dataset('tfds_tau', 'demo_segments', data_dir)
    stored = segments.records('test')
    seconds = [stored[index] for index in range(5)]
    item = seconds[2] | {
        'segment': -1,
        'frames': [second['frames'][0] for second in seconds],
        'frame_times': np.array([0.1, 0.3, 0.5, 0.7, 0.9], np.float32),
    }

    class Evaluation:
        """A data set with one item of five frames."""

        name = segments.name

        def records(self, split, *, fields):
            return [dict(item)]

    system = predictor.load(hybrid.path)
    (read,) = dataset.records(system, Evaluation(), 'test', data_dir)
    assert len(read['frames']) == 1
    np.testing.assert_array_equal(read['frames'][0], seconds[2]['frames'][0])
    found, expected = system.answers([read, seconds[2]])
    # XLA for some processors rounds the rows of a batch unlike
    np.testing.assert_allclose(found.probs, expected.probs, rtol=1e-6)
    clip = item | {'frame_times': np.arange(5) + 0.5}
    assert dataset.central(clip) == dataset.central(seconds[2]) == {}
    made = ioacas_fusion.get_config('resnet50,logmel,tau')
    assert made.evaluation.to_dict() == {'dataset': 'evaluation', 'split': 'test'}


def clip_sound(data_dir, clip_id):
    """Of a whole clip, as the data set has it."""
    stored = records.open_dataset('tfds_tau', 'demo', data_dir).records('test', fields=('audio',))
    return next(record['audio'] for record in stored if record['clip_id'] == clip_id)


@pytest.mark.parametrize(
    ('one', 'other', 'same'),
    [
        ('tfds_tau/segments/1.0.0 a', 'tfds_tau/clips/1.0.0 b', True),
        ('tfds_tau/demo/1.0.0 a', 'tfds_tau/demo_segments/1.0.0 b', True),
        ('tfds_tau/clips/1.0.0 a', 'tfds_tau/clips/1.0.0 b', False),
        ('tfds_tau/clips/1.0.0 a', 'tfds_tau/demo_segments/1.0.0 b', False),
        ('tfds_tau/clips/1.0.0 a', 'tfds_tau/segments/2.0.0 b', False),
    ],
)
def test_members_of_other_cuts_of_the_same_clips_go_together(one, other, same):
    assert sources.same_clips(one, other) is sources.same_clips(other, one) is same


@pytest.mark.slow
def test_a_final_run_trains_on_all_clips_and_scores_nothing(
    demo_config, data_dir, tmp_path, capsys
):
    made = demo_config('ioacas_audio', 'resnet1d,logmel,final', epochs=1, periods=(1,))
    run = partial(jobs.run, workdir=tmp_path / 'final', data_dir=data_dir, weights_dir=tmp_path)
    run(made)
    found = RunFolder(tmp_path / 'final')
    assert found.is_done and not [*(found.path / 'predictions').iterdir()]
    told = found.read_json('report.json')
    assert told['scores'] == {} and told['headline'] is None and len(told['history']) == 1
    assert 'trained on train+test (30 records); the last epoch is kept' in told['about']['protocol']
    lines = (found.path / 'metrics.jsonl').read_text().splitlines()
    assert not any(name.startswith('valid') for name in json.loads(lines[0]))
    assert Checkpoints(found.path / 'checkpoints').last_step() == 2  # 30 clips of 12 frames
    capsys.readouterr()
    run(made)
    assert 'this run was complete' in capsys.readouterr().out
