"""Tags of files without a model, by narrow random networks; with the real ones where slow."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import models, tables, weights
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import media_files, tags
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.tags import Tags
from avsc_jax.runtime import cli
from avsc_jax.tables import parts
from avsc_jax.tables.parts import Part

FILES = Path(__file__).parents[1] / 'data_files'
FILM, SOUND, STILL = FILES / 'bento.mp4', FILES / 'acoustic_scene.flac', FILES / 'cat.jpg'
NARROW = {
    'yamnet': {'width': 0.0625},
    'tf_efficientnet_lite0': {'channel_multiplier': 0.25, 'depth_multiplier': 0.1},
}


@pytest.fixture
def narrow(monkeypatch, tmp_path):
    """Narrow random networks in place of the real ones, and a folder without weights."""
    create = models.create_model
    made = lambda name, **options: create(name, **NARROW.get(name, {}), **options)  # noqa: E731
    monkeypatch.setattr(models, 'create_model', made)
    drawn = lambda model, *_, **__: weights.random_variables(model, 0)  # noqa: E731
    monkeypatch.setattr(weights, 'load', drawn)
    monkeypatch.setenv('AVSC_WEIGHTS_DIR', str(tmp_path / 'weights'))


def test_files_with_one_sense_and_with_both_are_tagged_side_by_side(narrow, tmp_path, capsys):
    names = {name: tmp_path / name for name in ('out.jsonl', 'out.csv', 'out.tsv', 'out.npz')}
    flags = (f'--{n}' for n in ('jsonl', 'csv', 'timeline', 'embeddings'))
    outputs = [str(part) for pair in zip(flags, names.values(), strict=True) for part in pair]
    assert predict.main([str(FILM), str(SOUND), str(STILL), *outputs]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    heard, seen = '  sound, AudioSet tags by YAMNet: ', '  picture, ImageNet classes by Effi'
    told = {re.match(r' *[\w/.-]+', line)[0]: line for line in lines if not line.startswith(' ')}
    assert {*told} == {str(FILM), str(SOUND), str(STILL)}
    assert [line.startswith(heard) for line in lines].count(True) == 2
    assert [line.startswith(seen) for line in lines].count(True) == 2
    assert 'answered without picture' in shown.err and 'answered without sound' in shown.err

    film, sound, still = map(json.loads, names['out.jsonl'].read_text().splitlines())
    assert film['kind'] == 'independent' and len(film['probs']) == 1521
    assert (
        all(name.startswith('sound: ') for name in sound['probs']) and len(still['probs']) == 1000
    )
    assert (sound['without'], still['without']) == (['picture'], ['sound'])
    assert all(film['probs_max'][name] >= value for name, value in film['probs'].items())
    assert still['timeline'][0]['probs'][0] is None and still['embedding'][0] is None
    assert sum(still['probs'].values()) == pytest.approx(1)  # ImageNet's classes are exclusive

    table = tables.read(names['out.csv'])
    assert table.meta['kind'] == 'independent' and table.meta['classes'] == [*film['probs']]
    assert np.isnan(table.probs).sum(axis=1).tolist() == [0, 1000, 521]
    windows = tables.read(names['out.tsv'])
    assert windows.meta['kind'] == 'independent' and len(windows.probs) == 3
    with names['out.csv'].open() as file:
        assert next(csv.reader(file))[:2] == ['filename', 'tag_label']
    with np.load(names['out.npz']) as embedded:
        assert np.isnan(embedded['embedding'][2][:64]).all()


def test_python_has_the_tags_of_each_sense(narrow):
    predictor = tags()
    prediction = predictor(FILM)
    assert [*prediction.rankings] == [part.title for part in predictor.parts]
    assert prediction.scene == prediction.ranking[0][0]
    heard = prediction.rankings['sound, AudioSet tags by YAMNet']
    assert len(heard) == 521 and not heard[0][0].startswith('sound')
    assert predictor.wants().window_s == 10 and not predictor.window_notes(3.0)


def test_a_mean_counts_only_windows_that_have_the_sense():
    classes = ('sound: a', 'picture: b', 'picture: c')
    own = (Part('sound', classes[:1]), Part('picture', classes[1:]))
    nan = np.nan
    answers = [
        Answer(np.array(probs), np.zeros(2, np.float32), (), probs_max=np.array(probs))
        for probs in ([0.2, 0.5, 0.1], [0.6, nan, nan], [nan, 0.1, 0.3])
    ]
    spans = [(10.0 * k, 10.0 * k + 10, answer) for k, answer in enumerate(answers)]
    one = media_files.Prediction(FILM, spans, [], [], None, classes, (), own, 'independent')
    np.testing.assert_allclose(one.probs, [0.4, 0.3, 0.2])
    np.testing.assert_allclose(one.probs_max, [0.6, 0.5, 0.3])
    assert one.scene == 'sound: a'
    never = one._replace(windows=spans[1:2])
    assert np.isnan(never.probs[1:]).all() and never.ranking == [('sound: a', 0.6)]
    assert [*never.rankings] == ['sound']


def test_quiet_sound_is_noted_and_gain_lifts_it(narrow):
    plain, lifting = tags(), tags(gain='auto')
    noise = 0.002 * np.random.default_rng(0).standard_normal((16000, 2)).astype(np.float32)
    record = {'audio': noise, 'sample_rate': 16000, 'start_s': 0.0, 'end_s': 1.0}
    assert any('--gain auto' in note for note in plain.notes(record))
    assert any('is lifted to an RMS of 0.05' in note for note in lifting.notes(record))
    assert plain.content_hash != lifting.content_hash
    (before,), (after,) = plain.answers([record]), lifting.answers([record])
    assert np.nanmax(abs(before.probs - after.probs)) > 0
    loud = record | {'audio': 100 * noise}
    (before,), (after,) = plain.answers([loud]), lifting.answers([loud])
    np.testing.assert_array_equal(before.probs, after.probs)
    with pytest.raises(ValueError, match="gain is 'loud'"):
        tags(gain='loud')


def test_a_folder_with_clip_gives_scenes_of_the_picture(narrow, monkeypatch, tmp_path):
    file = sys.modules['avsc_jax.predict.tags']
    asked = []

    def zero_shot(weights_dir):
        asked.append(weights_dir)
        return file.Tags({'tf_efficientnet_lite0': file._picture_member(weights_dir)})

    monkeypatch.setattr(file, 'zero_shot', zero_shot)
    (tmp_path / 'clip_vit_b32.pt').write_bytes(b'')
    predictor = tags(weights_dir=tmp_path)
    assert asked == [tmp_path] and isinstance(predictor, Tags)
    assert predictor.parts[1].title == 'picture, zero-shot scenes by CLIP ViT-B/32'


@pytest.mark.parametrize(
    ('flags', 'sentence'),
    [
        (
            ['--gain', 'auto', '--zero_shot'],
            '--gain goes with the ready-made tags, not with',
        ),
        (['--model', 'runs/a', '--gain', 'auto'], '--gain goes with the ready-made tags'),
        (['--classes', 'a,b'], '--classes goes with --zero_shot'),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(flags, sentence, capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['avsc-predict', str(FILM), *flags])
    assert cli.main(predict.main) == 1
    assert sentence in capsys.readouterr().err


def test_a_data_set_needs_a_model(capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['avsc-predict', '--dataset', 'evaluation'])
    assert cli.main(predict.main) == 1
    assert '--dataset needs --model or --zero_shot' in capsys.readouterr().err


def test_the_likeliest_and_the_largest_pass_over_what_is_missing():
    assert parts.likeliest(np.array([np.nan, 0.2, 0.3])) == 2
    np.testing.assert_array_equal(parts.largest([[np.nan, 1.0], [np.nan, 2.0]]), [np.nan, 2])
    np.testing.assert_array_equal(parts.mean([[np.nan, 1.0], [np.nan, 2.0]]), [np.nan, 1.5])


@pytest.mark.slow
def test_the_page_explains_sound_and_picture_by_the_real_networks(tmp_path, capsys):
    page = tmp_path / 'why.html'
    assert predict.main([str(FILM), '--weights_dir', str(tmp_path), '--report', str(page)]) == 0
    shown = capsys.readouterr().out
    assert 'AudioSet tags by YAMNet: Animal 0.8' in shown
    assert 'EfficientNet-Lite0: Mexican hairless 0.2' in shown
    text = page.read_text()
    for expected in ('sound: Animal', 'picture: Mexican hairless', 'network: yamnet'):
        assert expected in text
    assert 'What speaks for sound: Animal' in text
