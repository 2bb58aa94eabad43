"""NaN and infinity reach no table, no journal and no other file's answer."""

import functools
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from avsc_jax import tables
from avsc_jax.data import windows
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import command, embeddings, media_files, predictor, stream
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.member import Member
from avsc_jax.predict.resume import json_line
from avsc_jax.serve.queue import Progress, Refusal
from avsc_jax.serve.tagger import Tagger
from avsc_jax.weights.cache import default_weights_dir

RATE = 16000
CLASSES = ['park', 'tram']


@pytest.fixture(scope='module', autouse=True)
def loaded_once():
    """Lets all commands share one system, which compiles once, for one window at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, 'load', functools.cache(predictor.load))
        patch.setattr(media_files, 'WINDOWS_PER_BATCH', 1)
        yield


@pytest.fixture
def sounds(tmp_path):
    """A folder of sounds: two of a second, one of two seconds."""
    draw = np.random.default_rng(0)
    (tmp_path / 'sounds').mkdir()
    for name, seconds in (('a', 1), ('b', 1), ('long', 2)):
        samples = draw.normal(0, 0.1, (seconds * RATE, 2)).astype(np.float32)
        soundfile.write(tmp_path / 'sounds' / f'{name}.wav', samples, RATE, subtype='FLOAT')
    return tmp_path / 'sounds'


@pytest.fixture
def broken(monkeypatch):
    """The network's inputs become NaN for records that end after the first second."""
    rows = Member.rows

    def spoilt(self, records):
        made = rows(self, records)
        for record, given in zip(records, made, strict=True):
            if record['end_s'] > 1.5:
                given['audio_embedding'] = np.full_like(given['audio_embedding'], np.nan)
        return made

    monkeypatch.setattr(Member, 'rows', spoilt)


def strict(path):
    """The lines of a journal, read as other programs read JSON."""

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    lines = path.read_text().splitlines()
    return {line['file']: line for line in (json.loads(t, parse_constant=refuse) for t in lines)}


def test_an_answer_that_is_not_finite_is_the_error_of_its_file_alone(
    both, sounds, tmp_path, broken, capsys
):
    out = {'csv': tmp_path / 'out.csv', 'jsonl': tmp_path / 'out.jsonl'}
    out |= {'embeddings': tmp_path / 'out.npz', 'timeline': tmp_path / 'out.tsv'}
    flags = [f'--model={both}', *(f'--{name}={path}' for name, path in out.items())]
    for _ in range(2):  # the second run reads the journal of the first
        assert predict.main([str(sounds), *flags]) == 1
        err = capsys.readouterr().err
        assert f'error: {sounds}/long.wav: both gives probabilities of nan, not finite' in err
        assert '2 of 3 files classified' in err
        table = tables.read(out['csv'], classes=CLASSES)
        assert len(table.probs) == 2 and np.isfinite(table.probs).all()
        with np.load(out['embeddings']) as written:
            assert written['embedding'].shape[0] == 2 and np.isfinite(written['embedding']).all()
        lines = strict(out['jsonl'])
        assert [name for name in lines if 'error' in lines[name]] == [f'{sounds}/long.wav']
    with pytest.raises(ValueError, match=r'long\.wav: both gives probabilities of nan'):
        predictor.load(both, default_weights_dir())(sounds / 'long.wav')


def test_a_record_without_a_finite_answer_does_not_end_a_dataset(
    both, sounds, tmp_path, broken, monkeypatch, capsys
):
    system = predictor.load(both, default_weights_dir())
    made = []
    for k, name in enumerate(('a', 'long', 'b')):
        (window,) = windows.read(sounds / f'{name}.wav', system.wants())
        made.append(window | {'clip_id': name, 'segment': -1, 'label': k % 2, 'location': ''})
    monkeypatch.setattr(command.sources, 'named', lambda *_: None)
    monkeypatch.setattr(command.dataset, 'records', lambda *_: iter(made))
    out = {'csv': tmp_path / 'out.csv', 'embeddings': tmp_path / 'out.npz'}
    named = {'dataset': 'own', 'split': 'test', 'data_dir': tmp_path, 'media_dir': None, 'top': 1}
    assert command.of_dataset(SimpleNamespace(**named, **out), system) == 1
    assert 'error: long: both gives probabilities of nan' in capsys.readouterr().err
    assert tables.read(out['csv'], classes=CLASSES).clip_id.tolist() == ['a', 'b']
    with np.load(out['embeddings']) as written:
        assert written['clip_id'].tolist() == ['a', 'b']


def test_the_page_gets_a_sentence_and_no_nan(both, sounds, broken):
    tagger = Tagger(predictor.load(both, default_weights_dir()))
    with pytest.raises(Refusal, match=r'^x\.wav: both gives probabilities of nan') as refused:
        tagger.tag(sounds / 'long.wav', 'x.wav', Progress(), threading.Event())
    assert refused.value.status == 422


def test_a_journal_with_nan_of_an_older_version_is_answered_anew(both, sounds, tmp_path, capsys):
    path = tmp_path / 'out.jsonl'
    flags = [str(sounds), f'--model={both}', f'--jsonl={path}']
    assert predict.main(flags) == 0
    whole = path.read_text()
    first, *rest = whole.splitlines()
    old = json.loads(first) | {'probs': {'park': np.nan, 'tram': np.nan}}
    path.write_text('\n'.join([json.dumps(old), *rest, '']))
    assert 'NaN' in path.read_text()
    capsys.readouterr()
    assert predict.main(flags) == 0
    assert '2 of 3 files are finished' in capsys.readouterr().err
    again = strict(path)
    for text in whole.splitlines():
        line = json.loads(text)
        probs = [[*each['probs'].values()] for each in (line, again[line['file']])]
        np.testing.assert_allclose(*probs, atol=1e-6)


def test_no_line_holds_a_number_that_json_does_not_have():
    assert json_line({'p': 0.5}) == '{"p": 0.5}\n'
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match='not JSON compliant'):
            json_line({'probs': [0.5, float(value)]})
    answer = Answer(np.array([np.nan, 1]), np.zeros(1), ())
    second = stream.Second(0.0, 1.0, answer.probs, answer, 0, [])
    with pytest.raises(ValueError, match='not JSON compliant'):
        json_line(stream._line(second, CLASSES))


def test_embeddings_of_an_encoder_are_finite_or_an_error():
    spec = SimpleNamespace(name='openl3_audio')

    class Broken:
        def __init__(self):
            self.spec = spec

        def items(self, record):
            return record['audio']

        def __call__(self, items):
            return items

    rows = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(embeddings._encoded(Broken(), {'audio': rows}), rows)
    rows[1, 1] = np.inf
    with pytest.raises(ValueError, match='openl3_audio gives embeddings that are not finite'):
        embeddings._encoded(Broken(), {'audio': rows})


def test_bad_samples_are_an_error_and_peaks_a_note_once_a_file(both, sounds, tmp_path, capsys):
    for name, value in (('a', np.nan), ('long', 3.0)):
        samples, _ = soundfile.read(sounds / f'{name}.wav', dtype='float32')
        samples[100:110] = value
        samples[-110:-100] = value
        soundfile.write(sounds / f'{name}.wav', samples, RATE, subtype='FLOAT')
    out = tmp_path / 'out.csv'
    flags = [f'--model={both}', f'--csv={out}', '--window=1']
    assert predict.main([str(sounds), *flags]) == 1
    err = capsys.readouterr().err
    assert f'error: {sounds}/a.wav has a sample of nan at 0.006 s in channel 1' in err
    notes = [line for line in err.splitlines() if 'full scale' in line]
    share = '0.062 % of the samples of the sound are beyond full scale and clipped to 1'
    assert notes == [f'note: {share}: {sounds}/long.wav']
    assert len(tables.read(out, classes=CLASSES).probs) == 2
