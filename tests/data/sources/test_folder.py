"""One's own clips through the whole job: the config, the data set that is built, the report."""

import json
import re
from functools import partial

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax import tables
from avsc_jax.data import media, records
from avsc_jax.data.builder import Clip, FolderFiles, WindowConfig
from avsc_jax.data.sources.folder import OwnData
from avsc_jax.input_pipeline import clip_rows
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.models import build
from avsc_jax.runs import summary
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import dependencies, dry_run, load_run
from avsc_jax.training import train as job

TINY_CLIP = dict(width=16, layers=1, patch_size=16, image_size=32)
OWN = '--config=configs/own_data.py'


@pytest.fixture
def train(main, tmp_path):
    """Runs the command on a folder; the run's folder."""

    def train(tokens, folder, *arguments, workdir='run'):
        flags = [f'--data_dir={tmp_path / "data"}', f'--workdir={tmp_path / workdir}']
        named = [f'--config.data.folder={folder}'] if folder else []
        assert main.main([f'{OWN}:{tokens}', *named, *flags, *arguments]) == 0
        return RunFolder(tmp_path / workdir)

    return train


def sounds(folder, per_class=3, seconds=1.0):
    for pitch, scene in enumerate(('bar', 'lab', 'zoo')):
        (folder / scene).mkdir(parents=True, exist_ok=True)
        for k in range(per_class):
            time_s = np.arange(round(8000 * seconds)) / 8000
            tone = 0.1 * np.sin(2 * np.pi * (400 + 900 * pitch + 9 * k) * time_s)
            soundfile.write(folder / scene / f'{k}.flac', tone, 8000)
    return folder


def stills(folder):
    for level, scene in enumerate(('dark', 'light')):
        (folder / scene).mkdir(parents=True)
        for k in range(3):
            image = np.full((30, 40, 3), 200 * level + 9 * k, np.uint8)
            Image.fromarray(image).save(folder / scene / f'{k}.png')
    return folder


HEARING = (
    '--config.encoders.openl3_audio={"widths": (2, 2, 2, 32), "embedding_size": 384, "hop_s": 1.0, '
    '"centre": False}'
)
SEEING = (
    '--config.encoders.openl3_image={"widths": (2, 2, 2, 32), "embedding_size": 128, '
    '"input_shape": (64, 64, 3), "frames": None}'
)


def test_a_folder_of_sounds_becomes_a_trained_model_and_a_report(train, tmp_path, capsys):
    folder = sounds(tmp_path / 'my sounds', seconds=2.0)
    Image.new('RGB', (8, 8)).save(folder / 'bar/cover.png')
    (folder / 'bar/9.flac').write_bytes((folder / 'bar/0.flac').read_bytes())
    hear = ['--config.data.window_s=1.0', '--config.epochs=2', HEARING]
    run = train('feng_fusion,audio,demo', folder, *hear)
    told = run.read_json('report.json')
    assert run.read_json('preprocessing.json')['window_s'] == 1.0
    assert run.read_json('classes.json') == ['bar', 'lab', 'zoo'] and told['paper'] is None
    assert told['about']['data'].startswith('own_data/my_sounds-')
    protocol = (
        'trained on the training part (6 records), selected on validation (6 records), reported'
    )
    assert protocol in told['about']['protocol']
    assert not any('made-up' in line for line in told['about']['warnings'])
    assert any('no groups were named' in line for line in told['about']['warnings'])
    table = tables.read(run.predictions_file('test'))
    assert table.probs.shape == (6, 3) and table.clip_id[0].endswith('.flac@0s')
    assert table.group.tolist() == [name.partition('@')[0] for name in table.clip_id.tolist()]
    assert (told['scores']['clip']['over'], told['scores']['clip']['groups']) == ('clips', 3)
    out, err = capsys.readouterr()
    assert '9 files of 3 classes' in err and 'bar 3, lab 3, zoo 3' in err
    assert 'splits: the training part 3, validation 3, test 3' in err
    assert 'note: files without sound are left out (1): bar/cover.png' in err
    assert 'note: links to and copies of other files are taken once (1): bar/9.flac' in err
    assert 'note: each file is a group of its own' in err
    assert 'sound of 8000 Hz is resampled to 48000 Hz: bar/0.flac and 8 more' in err
    assert 'paper' not in out
    model, variables, preprocess, classes = load_run(run.path)
    record = preprocess.open(folder / 'lab' / '0.flac')
    logits, _ = model.apply(variables, preprocess(record))
    assert logits.shape[1] == 3 and [*classes] == ['bar', 'lab', 'zoo']


def test_a_changed_folder_is_built_again_and_a_moved_one_is_not_needed(main, tmp_path, capsys):
    folder = sounds(tmp_path / 'sounds')
    named = f'--config.data.folder={folder}'
    config = resolved(main, 'hitachi_audio,demo', tmp_path / 'data', named)
    first = job.prepare_data(config, tmp_path / 'data')
    assert job.prepare_data(config, tmp_path / 'data').fingerprint == first.fingerprint
    assert 'has changed since' not in capsys.readouterr().err
    sounds(folder, per_class=4)
    second = job.prepare_data(config, tmp_path / 'data')
    assert 'has changed since' in capsys.readouterr().err
    assert second.name == first.name and second.fingerprint != first.fingerprint
    assert second.num_records('train') + second.num_records('test') == 12
    folder.rename(tmp_path / 'elsewhere')
    assert job.prepare_data(config, tmp_path / 'data').fingerprint == second.fingerprint
    assert 'is missing; its data set was built before and is used' in capsys.readouterr().err


def test_a_dry_run_counts_one_row_a_still_and_twelve_a_film(tmp_path, demo_config):
    folder = stills(tmp_path / 'stills')
    for name in ('dark/0.png', 'light/0.png'):
        (folder / name).rename((folder / name).with_suffix('.mp4'))  # not opened to be counted
    config = demo_config('hitachi_image')
    own = dict(name='own_data', config='stills', folder=str(folder), needs=('picture',))
    own |= dict(window_s=10.0, train='train_inner', valid='validation', test='test')
    config.data = dict(config.data, **own)
    text = dry_run.text(config, [], tmp_path)
    counted = re.findall(r'split ([\w ]+): (\d+) clips, (\d+) rows', text)
    rows = {split: (int(clips), int(of)) for split, clips, of in counted}
    films = {split: (of - clips) / 11 for split, (clips, of) in rows.items()}
    assert sum(clips for clips, _ in rows.values()) == 6 and sum(films.values()) == 2, text
    assert set(films.values()) <= {0, 1, 2}


@pytest.mark.slow
def test_pictures_alone_train_a_system_of_pictures(train, tmp_path, capsys):
    folder = stills(tmp_path / 'stills')
    run = train(
        'clip_fusion,demo', folder, f'--config.encoders={json.dumps(dict(clip_vit_b32=TINY_CLIP))}',
        '--config.model={"name": "clip_late_fusion", "encoders": {"clip_vit_b32": 512}, '
        '"widths": (16, 8, 8)}', '--config.epochs=2',
    )  # fmt: skip
    table = tables.read(run.predictions_file('test'))
    assert table.meta['granularity'] == 'clip' and len(table.clip_id) == 2
    assert run.read_json('classes.json') == ['dark', 'light']
    capsys.readouterr()
    train('hitachi_image,demo', folder, '--dry_run', workdir='other')
    assert 'split test: 2 clips, 2 rows' in capsys.readouterr().out  # of the prepared records


def film(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, 'w') as container:
        pictures = container.add_stream('libx264', rate=5)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 72, 'yuv420p'
        sound = container.add_stream('aac', rate=16000, layout='mono')
        for k in range(10):
            image = np.full((72, 96, 3), shade + k, np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(pictures.encode())
        noise = np.random.default_rng(shade).uniform(-0.1, 0.1, (1, 32000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, 'fltp', 'mono')
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode())


@pytest.mark.slow
def test_a_table_of_clips_trains_a_fusion_of_sound_and_picture(train, tmp_path):
    rows = ['path,label,group']
    for k in range(6):
        film(tmp_path / f'films/{k}.mp4', 30 * k)
        rows.append(f'films/{k}.mp4,{"ab"[k % 2]},place {k // 2}')
    (tmp_path / 'clips.csv').write_text('\n'.join(rows))
    run = train(
        'feng_fusion,early,demo', tmp_path / 'clips.csv', '--config.data.window_s=2',
        HEARING, SEEING,
        '--config.epochs=2',
    )  # fmt: skip
    (image,) = (e for e in run.read_json('preprocessing.json')['encoders'] if 'image' in e['name'])
    assert image['options']['frames'] is None
    name = run.read_json('config.json')['data']['config']
    dataset = records.open_dataset('own_data', name, tmp_path / 'data')
    places = [{o['location'] for o in dataset.outlines(s)} for s in ('train', 'test')]
    assert not places[0] & places[1] and len(places[0] | places[1]) == 3
    assert dataset.records('test')[0]['audio'].shape == (96000, 2)
    features = [*(tmp_path / 'data/features').rglob('block_*.npz')]
    assert {np.load(file)['features'].shape[1] for file in features} == {2}


def resolved(main, tokens, data_dir, *arguments):
    return main.resolve(main.parse([f'{OWN}:{tokens}', *arguments]), data_dir, named=True)


def test_without_a_folder_the_demo_is_made_up_clips_with_their_locations(
    main, tmp_path, monkeypatch
):
    from tfds_tau import demo

    chosen = [clip for clip in demo.clips() if clip.number < 40 and clip.number % 4 < 2]
    render = partial(demo.render, chosen=chosen, duration_s=0.5, sample_rate_hz=8000)
    monkeypatch.setattr(demo, 'render', render)
    config = resolved(main, 'hitachi_audio,demo', tmp_path, '--config.data.window_s=0.5')
    dataset = job.prepare_data(config, tmp_path)
    assert config.data.config.startswith('made_up-') and dataset.classes == ('airport', 'bus')
    places = [{o['location'] for o in dataset.outlines(s)} for s in ('train', 'test')]
    assert not places[0] & places[1] and len(places[0] | places[1]) == 10
    (warning,) = summary.about(config, dataset, {})['warnings'][:1]
    assert 'made-up' in warning
    assert not any('no groups' in w for w in summary.about(config, dataset, {})['warnings'])


def test_folds_are_cut_by_the_groups_of_one_s_own_clips(main, tmp_path):
    folder = f'--config.data.folder={sounds(tmp_path / "sounds", per_class=5, seconds=2.0)}'
    window = '--config.data.window_s=1.0'
    arguments = ('hitachi_audio,demo', tmp_path / 'data', folder, window, '--fold=1')
    config = resolved(main, *arguments)
    dataset = job.prepare_data(config, tmp_path / 'data')
    ids = {split: {o['location'] for o in dataset.outlines(split)} for split in ('train', 'test')}
    assert (len(ids['train']), len(ids['test'])) == (12, 3) and not ids['train'] & ids['test']
    assert dataset.num_records('test') == 6


def test_the_parts_of_a_system_are_trained_on_the_same_data_set(main, tmp_path):
    folder, window = f'--config.data.folder={tmp_path}', '--config.data.window_s=5'
    config = resolved(main, 'openl3_baseline', tmp_path, folder, window)
    counts = {
        name: clip_rows.of_encoder(EncoderSpec(name, options.to_dict(), 'random:0'), config, 5.0)
        for name, options in config.encoders.items()
    }
    assert counts == {'openl3_audio': 46, 'openl3_image': 46}
    assert not {'drop_remainder', 'views'} & {*config}
    sound, picture = dependencies.earlier_runs(config, seed=3)
    assert sound.folder.path.name == f'own_data-openl3_baseline-audio-{config.data.config}-seed3'
    for part, system in ((sound, 'audio'), (picture, 'video')):
        module, *flags = part.training
        assert module == 'avsc_jax.main'
        own = main.resolve(main.parse(flags), tmp_path, named=True)
        assert own.model.name == f'openl3_baseline_{system}'
        assert own.data.config == config.data.config and own.data.needs == config.data.needs


@pytest.mark.parametrize(
    ('tokens', 'arguments', 'sentence'),
    [
        ('clip_fusion', [], r'no data was named; give --config.data.folder=FOLDER'),
        ('clip_fusion,tau', [], r'own_data is not TAU; that is configs/clip_fusion.py:tau'),
        ('clip_fuse', [], r"the config knows no token 'clip_fuse'"),
        ('clip_fusion,demo', ['folder=nowhere'], r'there is no folder or table .*nowhere'),
        ('ioacas_audio,demo', ['window_s=0.1'], r'window_s is 0.1; it must be 0.5 to 60 seconds'),
        (
            'hou_dual_stream,demo',
            ['window_s=30'],
            r'hou_final takes clips of 0.9 to 1.1 or 9.5 to 10.5 s, and the windows are of 30 s',
        ),
        (
            'ioacas_audio,demo',
            ['on_error=stop'],
            r"on_error is 'stop'; it must be one of fail, skip",
        ),
    ],
)
def test_a_wrong_command_is_a_sentence(main, tmp_path, tokens, arguments, sentence):
    flags = [f'--data_dir={tmp_path}', f'--workdir={tmp_path / "run"}']
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        main.main([f'{OWN}:{tokens}', *flags, *(f'--config.data.{a}' for a in arguments)])
    assert not (tmp_path / 'run').exists()


def test_a_dry_run_tells_classes_and_splits_without_building(train, tmp_path, capsys):
    train('hitachi_audio,demo', sounds(tmp_path / 'sounds', per_class=5), '--dry_run')
    told = capsys.readouterr().out
    assert 'classes: bar, lab, zoo' in told and 'split test: 3 clips' in told
    assert not (tmp_path / 'data').exists() and not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('tokens', 'name'),
    [('hitachi_audio,demo', 'made_up-ab889bd7'), ('clip_fusion,demo', 'made_up-c2cfc467')],
)
def test_what_earlier_versions_have_prepared_keeps_its_name(main, tmp_path, tokens, name):
    config = resolved(main, tokens, tmp_path)
    assert f'{config.data.name}/{config.data.config}' == f'own_data/{name}'


@pytest.mark.slow
def test_heads_are_as_wide_as_the_data_has_classes(main, tmp_path):
    """Builds every system by shapes alone."""
    from avsc_jax import models
    from avsc_jax.configs import own_data

    folder = f'--config.data.folder={stills(tmp_path / "stills")}'
    for system in own_data.VARIANTS['system']:
        config = resolved(main, f'{system},demo', tmp_path, folder)
        model = build.make_model(config.model.to_dict(), num_classes=3)
        params = models.variable_shapes(model)['params']
        assert 3 in {leaf.shape[-1] for leaf in job.jax.tree.leaves(params) if leaf.shape}


def tone_file(path):
    """A second of sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.linspace(-0.5, 0.5, 8000), 8000, subtype='PCM_16')


@pytest.fixture
def built(tmp_path):
    """Builds sounds of three splits; the files that are there already stay."""

    def built(name='x', on_error='fail'):
        lists = {}
        for k, split in enumerate(('train_inner', 'validation', 'test')):
            names = [f'{scene}/{k}{part}.wav' for scene in ('tram', 'bar') for part in 'ab']
            for file in names:
                if not (tmp_path / file).exists():
                    tone_file(tmp_path / file)
            lists[split] = [Clip(n, n, '', n.split('/')[0], n) for n in names]
        config = WindowConfig(name=name, window_s=0.5)
        builder = OwnData(files=FolderFiles(tmp_path), lists=lists, facts={'listing': 'abc'},
                          config=config, data_dir=tmp_path / 'data')  # fmt: skip
        builder.on_error = on_error
        builder.download_and_prepare()
        return records.open_dataset('own_data', name, tmp_path / 'data')

    return built


def test_the_data_set_keeps_the_contract_of_records(built):
    dataset = built()
    assert dataset.name == 'own_data/x/1.1.0' and dataset.classes == ('bar', 'tram')
    assert dataset.builder.info.metadata['listing'] == 'abc'
    assert [dataset.num_records(s) for s in ('train', 'train_inner', 'test')] == [16, 8, 8]
    record = dataset.records('test')[1]
    assert record['clip_id'] == 'tram/2a.wav@0.5s' and record['label'] == 1
    assert record['audio'].shape == (24000, 2) and record['frames'] == []
    assert dataset.records('test').outline(1)['location'] == 'tram/2a.wav'


def test_bad_files_are_one_report_and_whole_ones_are_encoded_once(built, tmp_path, monkeypatch):
    for name, data in (('bar/0a.wav', b''), ('tram/1b.wav', b'RIFF\xff\xff\0\0WAVEfmt ')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r'2 of 12 clips .*--config.data.on_error=skip'):
        built()
    (report,) = tmp_path.rglob('1.1.0.bad_media.tsv')
    told = dict(line.split('\t') for line in report.read_text().splitlines()[1:])
    assert {*told} == {'bar/0a.wav', 'tram/1b.wav'}
    assert 'is empty' in told['bar/0a.wav'] and 'cut short' in told['tram/1b.wav']
    decoded, sound_track = [], media.SoundTrack
    monkeypatch.setattr(media, 'SoundTrack', lambda f: decoded.append(f.name) or sound_track(f))
    left = built(on_error='skip')
    assert left.left_out == ['bar/0a.wav', 'tram/1b.wav'] and {*decoded} <= {'0a.wav'}
    assert left.num_records('train_inner') == 6


def _no_table(folder):
    (folder.parent / 'clips.csv').write_text('path,label\nnowhere/1.wav,bar\nnowhere/2.wav,zoo\n')
    return folder.parent / 'clips.csv'


def _damaged_table(folder):
    (folder.parent / 'clips.csv').write_bytes(b'path,label\n\xff\xfe1.wav,bar\n')
    return folder.parent / 'clips.csv'


def _empty_class(folder):
    (folder / 'gym').mkdir()
    return folder


@pytest.mark.parametrize(
    ('make', 'sentence'),
    [
        (lambda folder: folder.with_name('sunds'), r'there is no .*sunds \(did you mean .*sounds'),
        (_empty_class, r'gym holds no videos, sounds or pictures'),
        (_no_table, r'none of the 2 files of .*clips.csv exists'),
        (_damaged_table, r'clips.csv is not UTF-8 text'),
    ],
)
@pytest.mark.parametrize('tokens', ['hitachi_audio', 'probe', 'probe,openl3_audio'])
@pytest.mark.parametrize('flag', ['--download_weights', '--dry_run'])
def test_own_clips_are_checked_before_weights_are_asked_for_or_fetched(
    train, tmp_path, monkeypatch, make, sentence, tokens, flag
):
    """The weights are missing, and a download would be an error of the test's own."""
    monkeypatch.setattr('avsc_jax.weights.download_all', pytest.fail)
    place = make(sounds(tmp_path / 'sounds', per_class=5))
    weights = [f'--weights_dir={tmp_path / "none"}', '--weights=pretrained']
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        train(tokens, place, *weights, flag)


def test_a_class_too_small_for_a_probe_is_told_before_its_weights(train, tmp_path):
    folder = sounds(tmp_path / 'sounds', per_class=2)
    with pytest.raises(ValueError, match=r"class 'bar' has 1 groups to train on"):
        train('probe,openl3_audio', folder, f'--weights_dir={tmp_path / "none"}')
