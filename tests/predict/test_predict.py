"""Embeddings without a run; what a trained run predicts is tested where runs are trained."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from avsc_jax.data import media, records
from avsc_jax.input_pipeline.encoders import Encoder, EncoderSpec
from avsc_jax.input_pipeline.preprocess import FeatureInputs
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import dataset, embeddings
from avsc_jax.runtime import cli

NARROW = 'widths=(2,2,2,3),embedding_size=3'
SOUND = f'openl3_audio:{NARROW},hop_s=0.5,version=0.4-kapre,centre=False'


def write_sound(path, seconds, rate=48000, channels=2, level=0.1):
    draw = np.random.default_rng(0)
    soundfile.write(path, draw.normal(0, level, (int(seconds * rate), channels)), rate)
    return path


def test_sound_of_files_becomes_rows_and_what_is_odd_is_told(tmp_path, capsys):
    folder, out = tmp_path / 'sounds', tmp_path / 'out.npz'
    folder.mkdir()
    first = write_sound(folder / 'a.wav', 1.9)
    write_sound(folder / 'b.flac', 1.9, 44100, 1)
    write_sound(folder / 'c.wav', 1.9, channels=6)
    write_sound(folder / 'd.wav', 1.9, level=0)
    (folder / 'e.mp3').touch()
    (folder / 'f.txt').write_text('no sound')
    arguments = [str(folder), f'--encoder={SOUND}', '--weights=random:3', f'--embeddings={out}']
    assert predict.main(arguments) == 1
    err = capsys.readouterr().err.splitlines()
    assert f'note: sound of 44100 Hz is resampled to 48000 Hz: {folder}/b.flac' in err
    assert f'note: 6 channels are mixed down to one: {folder}/c.wav' in err
    assert f'note: the sound is silent: {folder}/d.wav' in err
    assert err[-2:] == [
        f'error: {folder}/e.mp3 is empty (0 bytes); copy it again',
        '4 of 5 files encoded',
    ]
    with np.load(out) as found:
        assert [name[0] for name in found['clip_id'].tolist()] == [*'aaabbbcccddd']
        assert found['time_s'].tolist() == [0, 0.5, 1] * 4
        about = json.loads(str(found['about']))
        embeddings = found['embedding']
    assert about['options']['version'] == '0.4-kapre' and about['weights'] == 'random:3'
    encoder = Encoder(EncoderSpec(**about), tmp_path)
    audio, rate = media.read_audio(first)
    expected = encoder(encoder.items({'audio': audio, 'sample_rate': rate}))
    np.testing.assert_allclose(embeddings[:3], expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(embeddings).all()


@pytest.mark.parametrize('encoder', ['openl3_image', 'clip_vit_b32'])
def test_pictures_of_a_video_become_rows(encoder, data_dir, tmp_path):
    videos = sorted(data_dir.rglob('tfds_tau_demo*/video/*.mp4'))[:2]
    for video in videos:
        shutil.copy(video, tmp_path)
    write_sound(tmp_path / 'sound.wav', 0.1)  # has no pictures, so nobody looks for it
    options = {
        'openl3_image': f'{NARROW},input_shape=(64,64,3)',
        'clip_vit_b32': 'width=16,layers=1,patch_size=16,image_size=32,output_dim=3,frames=hou',
    }
    out = tmp_path / 'out.npz'
    arguments = [f'--encoder={encoder}:{options[encoder]}', '--weights=random:0']
    assert predict.main([str(tmp_path), *arguments, f'--embeddings={out}']) == 0
    rule, rows = {'openl3_image': ('second_centres', 2), 'clip_vit_b32': ('hou', 2)}[encoder]
    with np.load(out) as found:
        assert found['clip_id'].tolist() == np.repeat([v.name for v in videos], rows).tolist()
        times = media.read_frames(videos[0], rule).times_s
        np.testing.assert_array_equal(found['time_s'][:rows], times)
        assert found['embedding'].shape == (2 * rows, 3) and found['embedding'].std() > 0
        about = json.loads(str(found['about']))
    assert rule in (about.get('frames'), about['options'].get('frames'))


def test_a_file_that_only_the_encoder_refuses_is_one_error(data_dir, tmp_path, capsys):
    """The demo's pictures are too small for the whole network."""
    video = min(data_dir.rglob('tfds_tau_demo*/video/*.mp4'))
    out = tmp_path / 'out.npz'
    arguments = [f'--encoder=openl3_image:{NARROW}', '--weights=random:0', f'--embeddings={out}']
    assert predict.main([str(video), *arguments]) == 1
    assert f'error: {video}: pictures are 256x144; OpenL3 needs' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(('flags', 'is_read'), [([], True), (['--max_hours=0.0005'], False)])
def test_an_encoder_s_files_may_last_max_hours(flags, is_read, tmp_path, capsys):
    file, out = write_sound(tmp_path / 'a.wav', 1.9), tmp_path / 'out.npz'
    given = [f'--encoder={SOUND}', '--weights=random:3', f'--embeddings={out}', *flags]
    assert (predict.main([str(file), *given]) == 0) == is_read == out.exists()
    sentence = f'error: {file} claims 91200 samples at 48000 Hz; the limits are 2 s and'
    err = capsys.readouterr().err
    assert is_read or (sentence in err and 'cut it, or give a larger --max_hours\n' in err)


def test_a_dataset_s_records_get_the_pictures_of_its_files(data_dir, tmp_path):
    spec = {'name': 'openl3_image', 'weights': 'random:0'}
    spec['options'] = {'input_shape': (64, 64, 3), 'frames': 'second_centres', 'widths': (2,) * 4}
    spec['options']['embedding_size'] = 2
    inputs = FeatureInputs({}, [EncoderSpec(**spec).make(tmp_path)])
    tagger = SimpleNamespace(members=[SimpleNamespace(preprocess=inputs)])
    (rendered,) = data_dir.rglob('tfds_tau_demo*/video')
    data = records.open_dataset('tfds_tau', 'demo', data_dir)
    found = [*dataset.records(tagger, data, 'test', data_dir, rendered.parent)]
    assert len(found) == 10
    expected = inputs.open(rendered / f'{found[3]["clip_id"]}.mp4')['media_frames']
    np.testing.assert_array_equal(found[3]['media_frames'], expected)
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match=r'video/.*\.mp4 is missing'):
        next(dataset.records(tagger, data, 'test', data_dir, tmp_path / 'none'))


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--model=run', f'--encoder={SOUND}'], '--encoder; --model and --encoder is given'),
        (['--model=run', '--zero_shot'], 'or --zero_shot; --model and --zero_shot is given'),
        (['--model=run', '--classes=a,b'], '--classes goes with --zero_shot; add that flag'),
        (['--model=run', '--prompt={}'], '--prompt goes with --zero_shot; add that flag'),
        ([f'--encoder={SOUND}'], '--encoder needs files and --embeddings, and takes no'),
        (['--model=run', '--weights=random:0'], 'it must be random:SEED, and goes with --encoder'),
        (['--encoder=openl3', '--embeddings=out.npz'], 'no weights are published for openl3; the'),
        (['--encoder=clip_rn101_text', '--embeddings=out.npz'], 'clip_rn101_text encodes texts'),
        (['--encoder=openl3_audio:hop_s', '--embeddings=out.npz'], 'write it as option=value'),
        (['--encoder=openl3_audio', '--embeddings=out.npz'], 'no weights of openl3_audio in '),
        (['--encoder=openl3_audio:hop=1', '--embeddings=out.npz', '--weights=random:0'], 'no opt'),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_one_sentence(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    file = write_sound(tmp_path / 'a.wav', 0.1)
    monkeypatch.chdir(tmp_path)
    line = ['predict', str(file), *arguments, f'--weights_dir={tmp_path}']
    monkeypatch.setattr('sys.argv', line)
    assert cli.main(predict.main) == 1
    err = capsys.readouterr().err
    assert sentence in err and len(err.splitlines()) == 1
    assert not (tmp_path / 'out.npz').exists()


def test_a_file_that_is_not_there_is_told_before_anything_is_loaded():
    with pytest.raises(FileNotFoundError, match=r'none\.mp4 does not exist; name media files'):
        predict.main(['none.mp4', '--model=run'])


def test_options_may_hold_commas_in_brackets():
    name, options = embeddings.encoder_options('openl3_audio:widths=(4, 8),hop_s=1,version=0.3.1')
    assert name == 'openl3_audio'
    assert options == {'widths': (4, 8), 'hop_s': 1, 'version': '0.3.1'}


def test_what_is_given_in_the_wrong_place_is_told_with_its_right_one(tmp_path):
    clip, run = tmp_path / 'clip.wav', tmp_path / 'runs/clip_fusion'
    clip.write_bytes(b'RIFF')
    run.mkdir(parents=True)
    (run / 'DONE').touch()
    for arguments, kind, sentence in (
        ([clip, f'--model={clip}'], ValueError, r'clip\.wav is a file; give the folder of a'),
        ([run], ValueError, r'clip_fusion is the folder of a run, not a clip; give it as --model='),
        ([clip, f'--model={run}s'], OSError, r'clip_fusions \(did you mean .*clip_fusion\?\)'),
        ([f'{clip}x'], OSError, r'clip\.wavx does not exist \(did you mean .*clip\.wav\?\)'),
        ([clip, '--modle=x'], ValueError, r'there is no flag --modle \(did you mean --model\?\)'),
    ):
        with pytest.raises(kind, match=sentence):
            predict.main([*map(str, arguments)])
