"""The command avsc_jax.export on small runs; what is documented of it runs without this package."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.export
import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax import models, weights
from avsc_jax.audio import frontends
from avsc_jax.data.windows import Wants
from avsc_jax.export import __main__ as export
from avsc_jax.export import command
from avsc_jax.input_pipeline import pooling
from avsc_jax.input_pipeline.system import Network
from avsc_jax.runs.load import load_system
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import cli
from avsc_jax.training import load_run

ROOT = Path(__file__).parents[2]
CLASSES = ['airport', 'bus', 'tram']
SMALL = dict(name='regnetx_002', group_width=8, layers=[1, 0, 0, 0], stem_width=8, widths=[8] * 4)
SOUND = {
    'items': 'second',
    'piece_s': 1.0,
    'front_end': {'name': 'hitachi_logmel', 'sample_rate_hz': 48000, 'lineage': False},
    'size': [32, 40],
}
STATS = {'mean': np.float32([-40, 0, 0]), 'std': np.float32([20, 1, 0.5])}
ENCODER = {
    'name': 'clip_vit_b32',
    'options': dict(width=16, layers=1, patch_size=16, image_size=32, output_dim=5),
    'weights': 'random:0',
}
FUSION = dict(name='clip_late_fusion', encoders={'clip_vit_b32': 5}, widths=[16, 8, 8])
FRAMES = {'items': 'frame', 'frames': 'clip12', 'short_side': 448, 'encoders': [ENCODER]}


@pytest.fixture(scope='session')
def fusion(tmp_path_factory, write_run):
    return write_run(tmp_path_factory.mktemp('runs') / 'fusion', FUSION, FRAMES, classes=CLASSES)


@pytest.fixture(scope='session')
def sound(tmp_path_factory, write_run):
    folder = tmp_path_factory.mktemp('runs') / 'sound'
    return write_run(folder, SMALL, SOUND, classes=CLASSES, stats=STATS)


def predicted(run, record) -> np.ndarray:
    """The mean over a record's rows of what the run itself says."""
    model, variables, preprocess, _ = load_run(run)
    logits = model.apply(variables, preprocess(record))[0]
    return np.asarray(jax.nn.softmax(logits)).mean(0)


def consumer(title, *arguments) -> dict:
    """What a documented program prints, where this package cannot be imported."""
    section = (ROOT / 'docs/export.md').read_text().split(f'## {title}\n')[1]
    code = re.search('```python\n(.*?)```', section, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    blocked = f"import sys\nsys.modules['avsc_jax'] = None\n{code}"
    line = [sys.executable, '-c', blocked, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=arguments[0].parent)
    assert not done.returncode, done.stderr
    return ast.literal_eval(done.stdout)


def test_the_documented_program_hears_what_the_run_hears(sound, tmp_path, capsys):
    audio = np.random.default_rng(1).uniform(-0.3, 0.3, (int(2.6 * 48000), 2)).astype(np.float32)
    soundfile.write(tmp_path / 'clip.wav', audio, 48000, 'FLOAT')
    out = tmp_path / 'out'
    clip = f'--clip={tmp_path}/clip.wav'
    assert export.main([str(sound), str(out), '--format=stablehlo', clip]) == 0
    assert [p.name for p in sorted(out.iterdir())] == ['recipe.json', 'system.bin']
    assert f'{out}/system.bin: ' in capsys.readouterr().out
    answer = consumer('Sound, by JAX alone', out, tmp_path / 'clip.wav')
    assert list(answer) == CLASSES
    expected = predicted(sound, {'audio': audio, 'sample_rate': 48000})
    np.testing.assert_allclose(list(answer.values()), expected, atol=1e-5)
    told = json.loads((out / 'recipe.json').read_text())['stablehlo']
    assert json.loads((out / 'recipe.json').read_text())['window_s'] == 10.0
    assert told['platforms'] == ['cpu', 'cuda', 'tpu'] and told['largest_difference'] < 1e-5
    assert told['takes'] == {'audio': ['float32', 'T', '48000', '2']}


def test_the_clip_that_is_compared_is_the_first_window(tmp_path):
    tone = np.sin(np.arange(3 * 8000) / 9).astype(np.float32)
    soundfile.write(tmp_path / 'clip.wav', tone, 8000, 'FLOAT')
    run = SimpleNamespace(wants=lambda: Wants(True, None, None, None, window_s=2.0))
    np.testing.assert_array_equal(
        command._first_window(tmp_path / 'clip.wav', run)['audio'][:, 0], tone[: 2 * 8000]
    )
    run.wants = lambda: Wants(True, 'clip12', None, None)
    with pytest.raises(ValueError, match=r'no picture track; --clip must name a file with all'):
        command._first_window(tmp_path / 'clip.wav', run)


@pytest.mark.parity
def test_the_documented_program_sees_what_the_run_sees(fusion, tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (3, 40, 61, 3), np.uint8)
    files = [tmp_path / f'{k}.png' for k in range(3)]
    for file, frame in zip(files, frames, strict=True):
        Image.fromarray(frame).resize((122, 80)).save(file)
    assert export.main([str(fusion), str(tmp_path / 'out'), '--format=onnx']) == 0
    answer = consumer('Pictures, by ONNX Runtime', tmp_path / 'out', *files)
    expected = predicted(fusion, {'frames': [np.asarray(Image.open(file)) for file in files]})
    np.testing.assert_allclose(list(answer.values()), expected, atol=1e-4)
    told = json.loads((tmp_path / 'out/recipe.json').read_text())['onnx']
    assert told['opset'] == 23 and told['largest_difference'].keys() == {
        'network',
        'encoder_clip_vit_b32',
    }


@pytest.mark.parity
def test_onnx_of_a_number_of_rows_takes_as_many(sound, tmp_path):
    import onnxruntime

    out = tmp_path / 'out'
    assert export.main([str(sound), str(out), '--format=onnx', '--batch=2']) == 0
    (given,) = onnxruntime.InferenceSession(out / 'network.onnx').get_inputs()
    assert (given.name, given.shape) == ('image', [2, 32, 40, 3])


@pytest.mark.parity
def test_each_convolution_and_pooling_is_one_operator(tmp_path):
    import jax2onnx
    import onnx

    model = models.create_model('resnet18', num_classes=3, image_size=32)
    network = Network(model, weights.random_variables(model, 0), 'probs')
    rows = {'image': np.zeros((1, 32, 32, 3), np.float32)}
    content = command.as_onnx(jax2onnx.to_onnx, 'network', network, rows, None)
    of = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert (of['Conv'], of['MaxPool'], of['GatherND'], of['Einsum']) == (20, 1, 0, 0)


def test_a_difference_is_an_error_that_tells_it_and_leaves_nothing(sound, tmp_path, monkeypatch):
    case = command.Case('noise', {}, {}, np.float32([[0.2, 0.8]]))
    monkeypatch.setattr(command, '_cases', lambda args, system: [case])
    monkeypatch.setattr(command, '_write_stablehlo', lambda system, cases, folder: (
        (folder / 'system.bin').write_text('half'),
        command._check_system(lambda items: np.float32([[0.3, 0.7]]), 'system.bin', cases),
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r'system.bin, of noise, differs from the run by 0\.1, mo'):
        export.main([str(sound), str(tmp_path / 'out'), '--format=stablehlo'])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('run', 'out', 'options', 'sentence'),
    [
        ('nothing', 'out', [], 'nothing holds no finished run; name the run folder'),
        ('sound', 'out', ['--format=tflite'], "--format is 'tflite'; it must be one of onnx, sta"),
        ('sound', 'out', ['--batch=0'], '--batch is 0; it must be 1 or more'),
        ('sound', 'out', ['--int8', '--batch=2'], '--int8 makes ONNX files of any number of rows'),
        ('sound', 'out', ['--int8', '--format=stablehlo'], '--int8 makes ONNX files of any'),
        ('sound', 'full', [], 'full exists and is not empty; name another folder, or delete it'),
        ('sound', 'none/out', [], 'none is not a folder; make it first'),
        ('ensemble', 'out', [], 'ensemble is an ensemble and has no network of its own; export'),
        ('sound', 'out', [], "--format=onnx needs jax2onnx: pip install 'avsc_jax[export]'"),
    ],
)
def test_mistakes_are_sentences(run, out, options, sentence, sound, tmp_path, monkeypatch, capsys):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine.txt').touch()
    (tmp_path / 'sound').symlink_to(sound)
    RunFolder(tmp_path / 'ensemble').begin({'groups': {}})
    RunFolder(tmp_path / 'ensemble').finish()
    monkeypatch.setitem(sys.modules, 'jax2onnx', None)
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path / run), str(tmp_path / out), *options])
    assert cli.main(export.main) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_system_bin_takes_any_number_of_pictures(fusion, tmp_path):
    assert export.main([str(fusion), str(tmp_path / 'out'), '--format=stablehlo']) == 0
    whole = jax.export.deserialize(bytearray((tmp_path / 'out/system.bin').read_bytes()))
    frames = list(np.random.default_rng(2).integers(0, 256, (2, 70, 80, 3), np.uint8))
    found = whole.call(load_system(fusion).items({'frames': frames})).mean(0)
    np.testing.assert_allclose(found, predicted(fusion, {'frames': frames}), atol=1e-5)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'pool': 'mean'},
        {'pool': 'sequence', 'length': 7},
        {'pool': 'sequence'},
        {'frames_per_row': {'image': 2}},
    ],
)
def test_frames_become_rows_as_in_training(settings):
    """In a program for any number of frames too."""
    settings = {'inputs': {'image': 'ioacas_bark'}, 'standardize': True, **settings}
    random = np.random.default_rng(0)
    x = random.normal(3, 2, (4, 5)).astype(np.float32)
    stats = {'mean_image': x[0], 'std_image': 1 + x[1] ** 2}
    expected = pooling.network_inputs(settings, {'ioacas_bark': x[None]}, stats)['image']
    shape = '2*t, 5' if 'frames_per_row' in settings else 't, 5'
    spec = jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape), np.float32)

    @jax.jit
    def pooled(x):
        return pooling.network_inputs(settings, {'ioacas_bark': x[None]}, stats)['image']

    np.testing.assert_allclose(
        jax.export.export(pooled)(spec).call(x), expected, rtol=1e-5, atol=1e-6
    )


def test_a_frame_more_of_one_sense_is_left_out_in_a_program_too():
    settings = {'inputs': {'sound': 'a', 'picture': 'b'}}
    heard, seen = np.arange(96.0)[:, None], np.arange(95.0)[:, None]
    expected = pooling.network_inputs(settings, {'a': heard[None], 'b': seen[None]})

    @jax.jit
    def rows(a, b):
        return pooling.network_inputs(settings, {'a': a[None], 'b': b[None]})

    scope = jax.export.SymbolicScope()
    shapes = (jax.export.symbolic_shape(f'{name}, 1', scope=scope) for name in 'tu')
    program = jax.export.export(rows)(*(jax.ShapeDtypeStruct(s, np.float32) for s in shapes))
    found = program.call(np.float32(heard), np.float32(seen))
    for name, array in expected.items():
        assert len(array) == 95
        np.testing.assert_array_equal(found[name], array)
    found = program.call(np.float32(seen), np.float32(heard))  # and the other way round
    np.testing.assert_array_equal(found['picture'], expected['sound'])


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('hitachi_logmel', {}),
        ('openl3_mel256', {}),
        ('ioacas_bark', {'difference_scale': 0.5}),
    ],
)
def test_a_recipe_is_enough_to_make_a_front_end_again(name, options):
    """With NumPy and librosa's filters, from nothing but its constants."""
    about = json.loads(json.dumps(frontends.facts(name, sample_rate_hz=48000, **options)))
    random = np.random.default_rng(0)
    audio = random.normal(0, 0.1, (48000, 2)).astype(np.float32)
    matrix = frontends.find(name).filters(48000, **options)
    if matrix is None:
        given = about['filters']
        matrix = librosa.filters.mel(
            sr=about['sample_rate_hz'],
            n_fft=about['window']['samples'],
            n_mels=given['mel_bands'],
            fmin=given['low_hz'],
            fmax=given['high_hz'],
            htk=given['htk'],
            norm=given['norm'],
        )
    else:
        assert about['filters'] == 'filters.npz'
    ((mode, pads),) = about['window']['padding'].items()
    left, right = audio.T.astype(np.float64)
    sounds = [(left + right) / 2]
    if name.startswith('ioacas'):
        sounds.append((left - right) * about['difference_scale'])
    samples, hop = about['window']['samples'], about['window']['hop']
    hann = np.hanning(samples + 1)[:-1]
    levels = []
    for sound in sounds:
        padded = np.pad(sound, pads, mode='reflect' if mode == 'reflect' else 'constant')
        framed = np.lib.stride_tricks.sliding_window_view(padded, samples)[::hop] * hann
        squares = np.abs(np.fft.rfft(framed)) ** 2
        if about.get('of') == 'the roots of the squares':
            squares = np.sqrt(squares)
        bands = squares @ matrix.T
        if about.get('of') == 'the squares, and then the root':
            bands = np.sqrt(bands)
        if name.startswith('ioacas'):
            levels.append(np.log(bands + 1e-8))
        else:
            level = 10 * np.log10(np.maximum(bands, 1e-10))
            levels.append(np.maximum(level, level.max() - 80))
    found = jax.jit(lambda x: getattr(frontends, name)(x, sample_rate_hz=48000, **options))(audio)
    if name.startswith('ioacas'):
        expected = np.stack(levels, axis=1)
    elif name == 'hitachi_logmel':
        deltas = (librosa.feature.delta(levels[0].T, width=9, order=k) for k in (1, 2))
        expected = np.stack([levels[0].T, *deltas], axis=-1)
    else:
        expected = (levels[0] - levels[0].max()).T[..., None]
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.slow
def test_a_system_answers_by_the_rows_that_both_senses_have(write_run, tmp_path):
    narrow, inputs = {'embedding_size': 8, 'widths': [2, 2, 2, 8]}, {}
    for name in ('audio', 'image'):
        inputs[f'{name}_embedding'] = f'openl3_{name}'
    heard = {'hop_s': 1.0, 'centre': False}
    seen = {'input_shape': [64, 64, 3], 'frames': 'second_centres'}
    encoders = [
        {'name': name, 'options': narrow | options, 'weights': 'random:0'}
        for name, options in (('openl3_audio', heard), ('openl3_image', seen))
    ]
    model = dict(name='openl3_baseline_early', embeddings={name: 8 for name in inputs})
    settings = {'items': 'frame', 'inputs': inputs, 'encoders': encoders}
    run = write_run(tmp_path / 'run', model, settings, classes=CLASSES)
    assert export.main([str(run), str(tmp_path / 'out'), '--format=stablehlo']) == 0
    whole = jax.export.deserialize(bytearray((tmp_path / 'out/system.bin').read_bytes()))
    random = np.random.default_rng(0)
    audio = random.normal(0, 0.1, (3 * 48000, 2)).astype(np.float32)
    pictures = list(random.random((3, 64, 64, 3), np.float32))
    whole_clip = {'audio': audio, 'sample_rate': 48000, 'media_frames': pictures}
    for few in ({'media_frames': pictures[:2]}, {'audio': audio[: 2 * 48000]}):
        record = whole_clip | few
        found = whole.call(load_system(run).items(record))
        assert len(found) == 2
        np.testing.assert_allclose(found.mean(0), predicted(run, record), atol=1e-5)


def test_8_bits_of_several_labels_are_refused_before_any_work(finished_run, tmp_path):
    run = shutil.copytree(finished_run('hitachi_audio'), tmp_path / 'run')
    (run / 'checksums.json').unlink()
    config = json.loads((run / 'config.json').read_text())
    config['data']['labels'] = 'several'
    (run / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match='the classes of this run do not exclude each other'):
        export.main([str(run), str(tmp_path / 'out'), '--format=onnx', '--int8'])
    assert not (tmp_path / 'out').exists()
