"""Runs and ensembles of runs as functions of records, whole ones and such that lack something."""

import functools
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from avsc_jax import ensemble, tables
from avsc_jax.configs import hitachi_ensemble, ioacas_ensemble
from avsc_jax.predict import predictor
from avsc_jax.predict.member import Member
from avsc_jax.runs import familiarity
from avsc_jax.runs.run_folder import RunFolder, default_path
from avsc_jax.scenes import SCENES
from avsc_jax.training import load_run, train


def record(key, seconds=2):
    draw = np.random.default_rng(key)
    return {
        'audio': draw.normal(0, 0.1, (48000 * seconds, 2)).astype(np.float32),
        'sample_rate': 48000,
        'frames': [*draw.integers(0, 256, (seconds, 72, 96, 3), np.uint8)],
        'frame_times': np.arange(seconds) + 0.5,
    }


def softmax(logits):
    return np.asarray(jax.nn.softmax(np.asarray(logits, np.float64)))


@pytest.fixture(scope='module')
def found(both):
    """The run as a tagger, which compiles once."""
    return predictor.load(both)


@pytest.fixture(scope='module')
def loaded(both):
    """The run as what it is made of; its preprocessing compiles once."""
    return load_run(both)


def test_records_of_all_lengths_get_what_the_run_says_of_each(found, loaded):
    model, variables, preprocess, classes = loaded
    records = [record(0), record(1, 3), record(2)]
    answers = found.answers(records)
    for one, answer in zip(records, answers, strict=True):
        logits, out = model.apply(variables, preprocess(one))
        np.testing.assert_allclose(answer.probs, softmax(logits).mean(0), atol=1e-6)
        np.testing.assert_allclose(answer.embedding, out['embedding'].mean(0), rtol=1e-5, atol=1e-4)
        assert answer.without == ()
    assert found.classes == tuple(classes) and found.takes == ('sound', 'picture')
    assert found.warnings == ['random variables']
    wants = found.wants(5.0)
    assert (wants.audio, wants.frames, wants.media) == (True, 'second_centres', None)
    assert (wants.short_side, wants.window_s) == (96, 5.0)


def test_whole_records_are_compared_with_those_of_the_training(found, monkeypatch):
    records = [record(key) for key in range(8)]
    embeddings = np.stack([answer.embedding for answer in found.answers(records)])
    assert found.answers(records[:1])[0].familiarity is None  # the run has no such file
    fitted = familiarity.fit(embeddings[:3], np.zeros(3, int), embeddings[3:])
    monkeypatch.setattr(found.members[0], 'familiarity', fitted)
    deaf = {name: value for name, value in records[7].items() if name != 'audio'}
    *whole, deaf = found.answers([*records[:3], deaf])
    for answer in whole:
        assert answer.familiarity == fitted.score(answer.embedding[None])[0]
    assert deaf.familiarity is None


def test_what_is_no_run_and_no_path_is_one_sentence(found, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no folder .*nope; give the folder of a'):
        predictor.load(tmp_path / 'nope')
    with pytest.raises(TypeError, match='clip is a list; give the path of one file'):
        found(['a.mp4', 'b.mp4'])


def test_what_a_record_lacks_is_the_mean_of_the_training_data(both, found, loaded, monkeypatch):
    model, variables, preprocess, _ = loaded
    means = RunFolder(both).means()
    whole, deaf, blind = record(0), record(1), record(2)
    del deaf['audio'], blind['frames']
    answers = found.answers([whole, deaf, blind])
    assert [answer.without for answer in answers] == [(), ('sound',), ('picture',)]
    for one, lacking, answer in ((1, 'audio_embedding', 1), (2, 'image_embedding', 2)):
        rows = preprocess(record(one)) | {lacking: means[lacking][None]}
        logits, _ = model.apply(variables, rows)
        np.testing.assert_allclose(answers[answer].probs, softmax(logits)[0], atol=1e-6)
    (told,) = found.answers([record(1)], without=['sound'])
    np.testing.assert_allclose(told.probs, answers[1].probs, atol=1e-6)
    monkeypatch.setattr(found.members[0], '_means', {})  # an older run has none
    (told,) = found.answers([record(1)], without=['sound'])
    zeros = preprocess(record(1)) | {'audio_embedding': np.zeros((1, 8), np.float32)}
    np.testing.assert_allclose(told.probs, softmax(model.apply(variables, zeros)[0])[0], atol=1e-6)
    with pytest.raises(ValueError, match=r'no sound and no picture; .* needs sound or picture'):
        found.answers([record(1)], without=['sound', 'picture'])


def of_windows(*lengths_s):
    """A system of stand-ins that were trained on clips of these lengths; None: it tells none."""
    members = []
    for number, length_s in enumerate(lengths_s):
        member = object.__new__(Member)
        stated = {} if length_s is None else {'window_s': length_s}
        member.name, member.classes = f'm{number}', ('park', 'tram')
        member.preprocess = SimpleNamespace(fields=('audio',), settings=stated)
        members.append(member)
    return predictor.Predictor('mix', members, [])


@pytest.mark.parametrize(
    ('trained_s', 'asked_s', 'window_s', 'clips'),
    [
        ([2.0], None, 2.0, ''),
        ([30.0, 30.0], None, 30.0, ''),
        ([None], None, 10.0, ''),  # a run of before
        ([None, 10.0], None, 10.0, ''),
        ([2.0], 2.0, 2.0, ''),
        ([2.0], 5.0, 5.0, '2'),
        ([None], 60.0, 60.0, '10'),
        ([2.0, None], 5.0, 5.0, '2 and 10'),
    ],
)
def test_windows_are_as_long_as_the_clips_of_the_training(trained_s, asked_s, window_s, clips):
    system = of_windows(*trained_s)
    assert system.wants(asked_s).window_s == window_s
    note = f'windows of {window_s:g} s, but the system was trained on clips of {clips} s'
    assert system.window_notes(window_s) == [note] * bool(clips)


def test_members_of_unlike_clips_ask_for_the_window():
    sentence = (
        r'm0 was trained on clips of 2 s, m2 on clips of 10 s; say .* by --window or window_s'
    )
    with pytest.raises(ValueError, match=sentence):
        of_windows(2.0, 2.0, None).wants()


@pytest.mark.parametrize(('window_s', 'is_taken'), [(1, 1), (2, 0), (10, 1), (10.6, 0), (60, 0)])
def test_a_network_of_fixed_length_names_the_windows_that_it_takes(window_s, is_taken):
    system = of_windows(10.0, 10.0)
    system.members[1].preprocess.settings |= {'frames': 'hou', 'short_side': 448}
    if is_taken:
        assert system.wants(window_s).window_s == window_s
        return
    sentence = rf'^m1 takes clips of 0.9 to 1.1 or 9.5 to 10.5 s, and .* of {window_s:g} s; set'
    with pytest.raises(ValueError, match=sentence):
        system.wants(window_s)


@pytest.mark.parametrize(
    ('stated', 'quality'), [([{}], 90), ([75], 75), ([75, 95], 95), ([75, None], None)]
)
def test_frames_are_compressed_as_in_the_records_of_the_members(stated, quality):
    system = of_windows(*(10.0 for _ in stated))
    for member, each in zip(system.members, stated, strict=True):
        own = each if isinstance(each, dict) else {'jpeg_quality': each}
        member.preprocess.settings |= {'frames': 'clip12', 'short_side': 448, **own}
        member.preprocess.fields = ('frames',)
    assert system.wants().jpeg_quality == quality
    assert of_windows(10.0).wants().jpeg_quality is None  # of sound


CLIPS = [f'{SCENES[n % 10]}-oslo-{n}-{n}' for n in range(20)]


class Said:
    """In the place of a run: it says what its table says."""

    familiarity = None

    def __init__(self, name, folder, weights_dir=None):
        self.name, self.classes = name, SCENES
        (self.file,) = (folder.absolute() / 'predictions').iterdir()
        self.takes = ['sound'] if 'hitachi_audio' in str(folder) else ['picture']

    def __call__(self, records):
        probs = tables.pool(tables.read(self.file)).probs
        return probs[[one['row'] for one in records]], np.ones((len(records), 2), np.float32)


@pytest.fixture(scope='module')
def made_of(tmp_path_factory):
    """Of a config: a finished ensemble of made-up members, and its own table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, 'load', Said)

        @functools.cache
        def made(module, argument):
            patch.chdir(tmp_path_factory.mktemp('ensemble'))
            return Path.cwd(), *finished(resolved(module, argument))

        yield made


def finished(config):
    """In this folder."""
    members = [config.members[name].config for of in config.groups.values() for name in of]
    for key, member in enumerate(members):
        run = RunFolder(default_path(member))
        run.begin({'model': dict(name='resnet1d', num_filters=256)})
        run.write_json('environment.json', {'data': 'x/y/1 z'})
        run.write_json('classes.json', list(SCENES))
        run.write_json('report.json', {'step': 1, 'config_hash': 'abc'})
        logits = np.random.default_rng(key).normal(size=(20, 10))
        logits[np.arange(20), np.arange(20) % 10] += 1 + 0.3 * key
        rows = dict(segment=np.tile([0, 1], 20), label=np.repeat(np.arange(20) % 10, 2))
        items = 'second'
        meta = {'classes': list(SCENES), 'granularity': items, 'split': config.data.test}
        probs = np.repeat(softmax(logits), 2, axis=0)
        table = tables.Predictions(np.repeat(CLIPS, 2), **rows, probs=probs, meta=meta)
        tables.write(table, run.predictions_file(config.data.test))
        run.finish()
    folder = default_path('ensemble.py')
    places = {'data_dir': folder, 'weights_dir': folder}
    train.run(config, workdir=folder, **places)
    return predictor.load(folder), tables.pool(
        tables.read(RunFolder(folder).predictions_file('test'))
    )


def resolved(module, argument):
    config = module.get_config(argument)
    with config.unlocked():
        del config.demo
        config.weights = 'random'
    return config.lock()


@pytest.mark.parametrize('name', ['E02', 'V04'])
def test_an_ensemble_says_what_its_table_says(name, made_of):
    _, found, table = made_of(hitachi_ensemble, f'{name},tau')
    records = [{'audio': 0, 'frames': 0, 'row': row} for row in range(20)]
    np.testing.assert_allclose([a.probs for a in found.answers(records)], table.probs, atol=1e-12)
    assert found.is_calibrated == (name == 'E02')


def test_an_ensemble_goes_on_without_the_members_that_hear(made_of):
    config = resolved(hitachi_ensemble, 'E02,tau')
    _, found, _ = made_of(hitachi_ensemble, 'E02,tau')
    (answer,) = found.answers([{'audio': 0, 'frames': 0, 'row': 3}], without=['sound'])
    parts = {part.name: part([{'row': 3}])[0] for part in found.members}
    visual = np.mean([parts[name] for name in config.groups.visual], axis=0)
    expected = ensemble.renormalize(ensemble.clamp(visual) + ensemble.clamp(parts['C04']))
    np.testing.assert_allclose(answer.probs, expected[0], atol=1e-12)
    (deaf,) = found.answers([{'audio': 0, 'row': 3}])
    heard = np.mean([parts[name] for name in config.groups.audio], axis=0)
    np.testing.assert_allclose(deaf.probs, ensemble.renormalize(ensemble.clamp(heard))[0])
    assert (answer.without, deaf.without) == (('sound',), ('picture',))


def test_an_ensemble_is_as_familiar_with_a_record_as_the_median_of_its_members(
    made_of, monkeypatch
):
    _, found, _ = made_of(hitachi_ensemble, 'E02,tau')
    records = [{'audio': 0, 'frames': 0, 'row': 3}, {'frames': 0, 'row': 4}]
    assert [answer.familiarity for answer in found.answers(records)] == [None, None]
    for k, member in enumerate(found.members[:3]):
        score = SimpleNamespace(score=lambda x, k=k: np.full(len(x), 0.01 * 4**k))
        monkeypatch.setattr(member, 'familiarity', score)
    whole, seen = found.answers(records)
    takes = [member.takes for member in found.members[:3]]
    assert whole.familiarity == 0.04
    those_that_see = [0.01 * 4**k for k in range(3) if takes[k] == ['picture']]
    assert seen.familiarity == (np.median(those_that_see) if those_that_see else None)


def test_searched_weights_are_those_of_the_report(made_of):
    _, found, table = made_of(ioacas_ensemble, 'I,tau')  # of the systems the fewest members
    records = [{'frames': 0, 'row': row} for row in range(20)]
    np.testing.assert_allclose([a.probs for a in found.answers(records)], table.probs, atol=1e-6)


def test_members_lie_where_they_were_or_beside_the_ensemble(made_of, tmp_path, monkeypatch):
    folder, *_ = made_of(hitachi_ensemble, 'E02,tau')
    monkeypatch.chdir(tmp_path)
    moved = shutil.copytree(folder / 'runs', tmp_path / 'elsewhere')
    assert len(predictor.load(moved / 'ensemble').members) == 7
    (moved / 'clip_fusion-tau/DONE').unlink()
    with pytest.raises(FileNotFoundError, match=r'clip_fusion-tau, which is not in its place and '):
        predictor.load(moved / 'ensemble')
