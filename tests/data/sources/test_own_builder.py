"""A data set of the user's own: a module in the working directory with one TFDS builder."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax import tables
from avsc_jax.data import sources
from avsc_jax.predict import __main__ as predict
from avsc_jax.runs.run_folder import RunFolder

ROOT = Path(__file__).parents[3]
HEARING = (
    '--config.encoders.openl3_audio={"widths": (2, 2, 2, 32), "embedding_size": 384, "hop_s": 5.0, '
    '"centre": False}'
)
PLAIN = """
import io

import numpy as np
import soundfile
import tensorflow_datasets as tfds
from avsc_jax.data.builder import RecordBuilder, record_features


class {name}(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = {{**record_features(('low', 'high'))}}
        {change}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {{split: self._generate_examples(split) for split in ('train', 'test')}}

    def _generate_examples(self, split):
        for k, label in enumerate(('low', 'high')):
            flac = io.BytesIO()
            tone = 0.1 * np.sin(np.arange(2 * 8000) * (k + 1) / 9)
            soundfile.write(flac, np.stack([tone, tone], 1), 8000, format='FLAC')
            yield k, dict(clip_id=f'{{split}}-{{label}}', segment=-1, audio=flac.getvalue(),
                          sample_rate=8000, frames=[], frame_index=[], frame_times=[], label=label,
                          city='', location='')
"""


def recipe() -> str:
    """The builder that CONTRIBUTING shows."""
    text = (ROOT / 'CONTRIBUTING.md').read_text().partition('**Add a data set**')[2]
    return re.search(r'```python\n(.*?)```', text, re.S)[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory of a user, whose modules are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.setattr(tfds.core.registered, '_DATASET_REGISTRY', {})
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith('my_')]:
        del sys.modules[name]


def write_sounds(folder):
    (folder / 'media').mkdir()
    for pitch, room in enumerate(('bath', 'kitchen')):
        for flat in (1, 2, 3):
            time_s = np.arange(2 * 8000) / 8000
            tone = 0.1 * np.sin(2 * np.pi * (400 + 900 * pitch + 9 * flat) * time_s)
            soundfile.write(folder / f'media/{room}-{flat}.wav', tone, 8000)


@pytest.mark.slow
def test_the_builder_of_the_recipe_trains_reports_and_predicts(main, here, capsys):
    (here / 'my_rooms.py').write_text(recipe())
    write_sounds(here)
    flags = [f'--data_dir={here / "data"}', '--config.data.name=my_rooms', HEARING]
    config = '--config=configs/feng_fusion.py:audio,demo'
    arguments = [config, *flags, '--config.epochs=1']
    assert main.main([*arguments, '--dry_run']) == 0
    assert 'classes: bath, kitchen' in capsys.readouterr().out
    assert main.main([*arguments, '--nodry_run']) == 0
    err = capsys.readouterr().err
    assert 'building my_rooms/' in err and 'is resampled to 48000 Hz: bath-1 and 5 more' in err
    run = RunFolder(here / 'runs/feng_fusion-audio-demo-my_rooms')
    assert run.read_json('classes.json') == ['bath', 'kitchen']
    report = run.read_json('report.json')
    assert report['about']['data'] == 'my_rooms/1.0.0' and report['paper'] is None
    assert 'selected on validation (2 records)' in report['about']['protocol']
    assert not any('made-up' in line for line in report['about']['warnings'])
    table = tables.read(run.predictions_file('test'))
    assert {*table.clip_id} == {'bath-3', 'kitchen-3'} and table.probs.shape == (2, 2)
    again = ['--dataset=my_rooms', f'--data_dir={here / "data"}', f'--model={run.path}']
    assert predict.main([*again, '--csv=again.npz']) == 0
    predicted = tables.read(here / 'again.npz')
    np.testing.assert_allclose(predicted.probs, table.probs, atol=1e-5)


def test_a_plain_builder_is_prepared_where_it_is_missing_and_opened(here):
    (here / 'my_tones.py').write_text(PLAIN.format(name='MyTones', change=''))
    data = {'name': 'my_tones', 'config': ''}
    with pytest.raises(FileNotFoundError) as caught:
        sources.open_dataset(data, here / 'data')
    command = str(caught.value).partition('; run: ')[2]
    code = re.fullmatch(r'python -c "(.*)"', command)[1]
    exec(code)
    dataset = sources.open_dataset(data, here / 'data')
    assert dataset.classes == ('low', 'high') and dataset.num_records('test') == 2
    source = sources.find(data['name'])
    assert source.window_s(data) == 10.0 and source.window_s(data, dataset) == 2.0
    record = dataset.records('test')[0]
    assert record['clip_id'].startswith('test-') and record['audio'].shape == (16000, 2)


def test_a_plain_builder_says_what_is_built_without_the_words_of_tfds(here, capsys):
    (here / 'my_tones.py').write_text(PLAIN.format(name='MyTones', change=''))
    config = ConfigDict({'data': {'name': 'my_tones', 'config': ''}})
    sources.find('my_tones').prepare(config, here / 'data')
    out, err = capsys.readouterr()
    assert (out, err) == ('', f'building my_tones/1.0.0 in {here}/data/my_tones/1.0.0\n')


def test_a_folder_in_the_layout_of_tfds_is_a_module(here):
    (here / 'my_set').mkdir()
    (here / 'my_set/__init__.py').touch()
    text = PLAIN.format(name='Builder', change='')
    (here / 'my_set/my_set_dataset_builder.py').write_text(text)
    assert 'my_set_dataset_builder import Builder' in sources.find('my_set').command(
        {'config': ''}, here
    )


def test_a_builder_with_configs_is_asked_for_one_of_them(main, here, capsys):
    configs = "BUILDER_CONFIGS = [WindowConfig(name='short', window_s=1.0)]"
    text = recipe().replace('    VERSION', f'    {configs}\n    VERSION')
    (here / 'my_rooms.py').write_text(text.replace('Clip, ', 'Clip, WindowConfig, '))
    write_sounds(here)
    named = ['--config=configs/feng_fusion.py:audio,demo', '--config.data.name=my_rooms']

    def resolved(*more):
        return main.resolve(main.parse([*named, *more]), here / 'data', named=True)

    with pytest.raises(ValueError, match=r"no config 'clips'; .* --config.data.config=short"):
        resolved()
    config = resolved('--config.data.config=short')
    capsys.readouterr()
    sources.find('my_rooms').prepare(config, here / 'data')
    out, err = capsys.readouterr()
    assert not out and '/short: 6 clips of 6 files in media\n' in err
    counts = 'train 8, the training part 4, validation 4, test 4'
    assert f'my_rooms/short/1.0.0 is prepared: {counts} records\n' in err
    dataset = sources.open_dataset(config.data, here / 'data')
    assert dataset.name == 'my_rooms/short/1.0.0'
    assert sources.find('my_rooms').window_s(config.data) == 1.0
    assert [o['clip_id'] for o in dataset.outlines('validation')][:2] == ['bath-2@0s', 'bath-2@1s']
    assert sources.find('my_rooms').overrides(config.data) == (
        '--config.data.name=my_rooms', '--config.data.config=short'
    )  # fmt: skip
    folded = sources.open_dataset({**config.data, 'name': 'my_rooms'}, here / 'data')
    assert folded.fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ('files', 'name', 'sentence'),
    [
        ({}, 'my_nothing', r"no data set 'my_nothing'; .* tfds_tau, own_data, .*RecordBuilder"),
        ({}, '', r"no data set ''; data.name must be one of tfds_tau"),
        ({'my_none.py': 'CLIPS = 3'}, 'my_none', r'one TFDS builder, and defines none; put one'),
        ({'my_clips/a.txt': ''}, 'my_clips', r'a folder, must define .* defines none'),
        (
            {'my_two.py': PLAIN.format(name='A', change='') + PLAIN.format(name='B', change='')},
            'my_two',
            r'must define one TFDS builder, and defines A, B; put one subclass of .* into a module',
        ),
        (
            {'my_part.py': PLAIN.format(name='MyPart', change="del features['location']")},
            'my_part',
            r"records of my_part have no field 'location'; a builder must give clip_id, .*classes",
        ),
        (
            {'my_part.py': PLAIN.format(name='MyPart', change="features['label'] = np.int32")},
            'my_part',
            r'field label of my_part is .*; it must be a ClassLabel with names',
        ),
    ],
)
def test_what_is_no_data_set_is_a_sentence(main, here, files, name, sentence):
    for file, text in files.items():
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(text)
    config = ['--config=configs/feng_fusion.py:audio,demo', f'--config.data.name={name}']
    with pytest.raises(ValueError, match=sentence):
        main.main([*config, f'--data_dir={here / "data"}'])
    assert not (here / 'runs').exists()


def test_an_error_inside_the_module_is_the_users_own(here):
    (here / 'my_broken.py').write_text('import a_library_that_is_not_there')
    with pytest.raises(ModuleNotFoundError, match='a_library_that_is_not_there'):
        sources.find('my_broken')
