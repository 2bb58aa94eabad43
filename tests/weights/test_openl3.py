"""Files as Keras writes them, and networks that compute what is written out here from the files."""

import functools
import gzip
import io
import os
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax import models, weights
from avsc_jax.audio.frontends import openl3_mel256
from avsc_jax.audio.openl3 import openl3_windows
from avsc_jax.data import media

WIDTHS = (2, 3, 4, 5)
SHAPES = {'audio': (24, 35, 1), 'image': (24, 20, 3)}  # 35 -> 17 -> 8 -> 4, 20 -> 10 -> 5 -> 3
LAST = {'audio': 'audio_embedding_layer', 'image': 'vision_embedding_layer'}


def layers(kind):
    """Layer -> weight -> value, as Keras names the layers of a process's first network."""
    draw = np.random.default_rng(0)
    channels, found, convs, norms = SHAPES[kind][-1], {}, 0, 0

    def norm():
        nonlocal norms
        norms += 1
        gamma, beta, mean = draw.normal([[1], [0], [0]], [[0.2], [0.2], [0.2]], (3, channels))
        variance = draw.uniform(0.5, 1.5, channels)
        found[f'batch_normalization_{norms}'] = {
            'gamma': gamma,
            'beta': beta,
            'moving_mean': mean,
            'moving_variance': variance,
        }

    norm()
    for block, width in enumerate(WIDTHS, start=1):
        for second in (False, True):
            is_last = block == 4 and second
            convs += 1
            kernel = draw.standard_normal((3, 3, channels, width)) / np.sqrt(4.5 * channels)
            name = LAST[kind] if is_last else f'conv2d_{convs}'
            found[name] = {'kernel': kernel, 'bias': 0.1 * draw.standard_normal(width)}
            channels = width
            if not is_last:
                norm()
    return found


def names(found, first=1, group=''):
    """The layers' weights by their place in a file, each kind counted from `first`."""
    state = {}
    for layer, values in found.items():
        kind, _, number = layer.rpartition('_')
        if number.isdigit():
            number = int(number) + first - 1
            layer = f'{kind}_{number}' if number else kind
        state |= {f'{group}{layer}/{layer}/{leaf}:0': np.float32(v) for leaf, v in values.items()}
    return state


def write(path, state):
    content = io.BytesIO()
    with h5py.File(content, 'w') as file:
        for name, value in state.items():
            file[name] = value
    path.write_bytes(gzip.compress(content.getvalue()))
    return path


def by_numpy(found, x, kind):
    """The last map of a network with these layers, in float64."""

    def norm(x, number):
        w = found[f'batch_normalization_{number}']
        scale = w['gamma'] / np.sqrt(w['moving_variance'] + 1e-3)
        return (x - w['moving_mean']) * scale + w['beta']

    def conv(x, name):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        return np.einsum('bhwkij,ijko->bhwo', seen, found[name]['kernel']) + found[name]['bias']

    def pool(x):  # what hangs over counts for a picture only
        if kind == 'image':
            around = ((0, 0), (0, 1), (0, 1), (0, 0))
            x = np.pad(x, around, constant_values=-np.inf)
        height, width = (side // 2 * 2 for side in x.shape[1:3])
        corners = [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]
        return np.max(corners, axis=0)

    def relu(x):
        return np.maximum(x, 0)

    x = norm(x.astype(float), 1)
    for block in (1, 2, 3):
        x = relu(norm(conv(x, f'conv2d_{2 * block - 1}'), 2 * block))
        x = conv(x, f'conv2d_{2 * block}')
        swapped = kind == 'image' and block == 1
        x = norm(relu(x), 3) if swapped else relu(norm(x, 2 * block + 1))
        x = pool(x)
    return conv(relu(norm(conv(x, 'conv2d_7'), 8)), LAST[kind])


def inputs(shape):
    return np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)


def options(kind):
    return {'input_shape': SHAPES[kind], 'widths': WIDTHS, 'embedding_size': WIDTHS[-1]}


@pytest.mark.parametrize('kind', SHAPES)
@pytest.mark.parametrize(('first', 'group'), [(1, ''), (9, ''), (0, 'model_weights/')])
def test_a_file_of_keras_s_layout_gives_what_numpy_computes(tmp_path, kind, first, group):
    found = layers(kind)
    state = names(found, first, group)
    state[f'{group}melspectrogram_1/melspectrogram_1/Variable:0'] = np.zeros((3, 2))
    name, path = f'openl3_{kind}', write(tmp_path / 'w.h5.gz', state)
    model = models.create_model(name, **options(kind))
    variables = weights.convert_file(model, path)
    x = inputs(SHAPES[kind])
    embedding, out = jax.jit(model.apply)(variables, x)
    expected = by_numpy(found, x, kind)
    np.testing.assert_allclose(out['block4'], expected, atol=1e-5 * abs(expected).max())
    np.testing.assert_allclose(embedding, expected.max((1, 2)), atol=1e-5 * abs(expected).max())


def test_a_file_that_lacks_a_layer_is_one_sentence(tmp_path):
    state = names(layers('audio'), first=5)
    lacking = {name: value for name, value in state.items() if 'conv2d_8' not in name}
    lacking['dense_1/dense_1/kernel:0'] = np.zeros((2, 2))
    model = models.create_model('openl3_audio', **options('audio'))
    expected = (
        r'w\.h5\.gz: these are not the weights of this network: missing: '
        r'params/conv2d_4/bias, params/conv2d_4/kernel; unexpected: dense_1/dense_1/kernel:0; '
    )
    with pytest.raises(ValueError, match=expected):
        weights.convert_file(model, write(tmp_path / 'w.h5.gz', lacking))


def test_the_networks_do_not_take_each_other_s_weights():
    with pytest.raises(ValueError, match=r'missing: .*audio_embedding_layer.*unexpected: .*vision'):
        weights.convert('openl3_audio', names(layers('image')), **options('audio'))


def test_two_arrays_for_one_place_are_an_error():
    state = names(layers('audio'))
    state['conv2d_1/again/kernel:0'] = state['conv2d_1/conv2d_1/kernel:0']
    with pytest.raises(ValueError, match=r'missing: none; unexpected: conv2d_1/again/kernel:0; '):
        weights.convert('openl3_audio', state, **options('audio'))


@pytest.mark.parity
@pytest.mark.parametrize('kind', SHAPES)
def test_answers_and_gradients_are_pytorch_s(kind):
    import torch
    from torch.nn import functional

    found = layers(kind)
    state = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad='moving' not in name)
        for name, value in names(found).items()
    }

    def norm(x, number):
        name = f'batch_normalization_{number}'
        leaves = 'moving_mean', 'moving_variance', 'gamma', 'beta'
        w = [state[f'{name}/{name}/{leaf}:0'] for leaf in leaves]
        return functional.batch_norm(x, *w, training=True, momentum=0.01, eps=1e-3)

    def conv(x, name):
        kernel, bias = (state[f'{name}/{name}/{leaf}:0'] for leaf in ('kernel', 'bias'))
        return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1)

    x = torch.tensor(inputs(SHAPES[kind]), dtype=torch.float64).permute(0, 3, 1, 2)
    x = norm(x, 1)
    for block in (1, 2, 3):
        x = torch.relu(norm(conv(x, f'conv2d_{2 * block - 1}'), 2 * block))
        x = conv(x, f'conv2d_{2 * block}')
        swapped = kind == 'image' and block == 1
        x = norm(torch.relu(x), 3) if swapped else torch.relu(norm(x, 2 * block + 1))
        x = functional.max_pool2d(x, 2, ceil_mode=kind == 'image')
    expected = conv(torch.relu(norm(conv(x, 'conv2d_7'), 8)), LAST[kind]).amax((2, 3))
    expected.square().sum().backward()

    model = models.create_model(f'openl3_{kind}', **options(kind))
    variables = weights.convert(f'openl3_{kind}', names(found), **options(kind))

    def loss(params, x):
        given = {**variables, 'params': params}
        (embedding, _), new = model.apply(given, x, train=True, mutable=['batch_stats'])
        return (embedding**2).sum(), (embedding, new)

    run = jax.jit(jax.grad(loss, has_aux=True))
    params, (embedding, new) = run(variables['params'], inputs(SHAPES[kind]))
    expected = expected.detach().numpy()
    np.testing.assert_allclose(embedding, expected, atol=1e-5 * abs(expected).max())
    moved = {name: (t.grad if t.requires_grad else t).numpy() for name, t in state.items()}
    theirs = weights.convert(f'openl3_{kind}', moved, **options(kind))
    for part, ours in {'params': params, **new}.items():
        # what adds up to little is the rounding of what it adds up
        largest = max(abs(leaf).max() for leaf in jax.tree.leaves(theirs[part]))
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5 * largest)
        jax.tree.map(close, ours, theirs[part])


@pytest.mark.data
def test_a_published_file_is_read_and_gives_what_numpy_computes():
    if not (file := os.environ.get('AVSC_EDGEL3_H5')):
        pytest.skip('AVSC_EDGEL3_H5 names no edgel3_sea_ust_audio_emb_64.h5.gz')
    state = weights.read(file)
    # this student of OpenL3 has a norm behind its last layer
    state = {name: v for name, v in state.items() if 'batch_normalization_9' not in name}
    sizes = {'input_shape': (64, 50, 1), 'widths': (32, 64, 128, 64), 'embedding_size': 64}
    variables = weights.convert('openl3_audio', state, **sizes)
    found = {}
    for name, value in state.items():
        _, layer, _, leaf = name.split('/')
        found.setdefault(layer, {})[leaf.removesuffix(':0')] = value
    x = 20 * inputs((64, 50, 1)) - 40
    model = models.create_model('openl3_audio', **sizes)
    _, out = jax.jit(model.apply)(variables, x)
    expected = by_numpy(found, x, 'audio')
    np.testing.assert_allclose(out['block4'], expected, atol=1e-5 * abs(expected).max())


def published(kind):
    """The network of 6144 or 8192 and its variables, from the folder that holds openl3's files."""
    file = f'openl3_{kind}_mel256_music-v0_4_0.h5.gz'
    if not (folder := os.environ.get('AVSC_OPENL3_WEIGHTS')):
        pytest.skip(f'AVSC_OPENL3_WEIGHTS names no folder with {file}')
    size = {'audio': 6144, 'image': 8192}[kind]
    model = models.create_model(f'openl3_{kind}', embedding_size=size)
    return model, weights.convert_file(model, Path(folder, file))


def regression():
    if not (folder := os.environ.get('AVSC_OPENL3_REGRESSION')):
        pytest.skip("AVSC_OPENL3_REGRESSION names no folder with openl3's audio/ and regression/")
    return Path(folder)


@pytest.mark.data
@pytest.mark.parametrize(
    ('version', 'file'),
    [
        ('0.3.1', 'chirp_44k.npz'),
        ('0.4-kapre', 'chirp_44k_kapre.npz'),
        ('0.4-librosa', 'chirp_44k_librosa.npz'),
    ],
)
def test_published_weights_give_the_published_embeddings_of_a_sound(version, file):
    """openl3 asks itself for 1e-5; its versions differ by a quarter to a half of the largest."""
    folder, (model, variables) = regression(), published('audio')
    resampy = pytest.importorskip('resampy', reason='openl3 resamples by resampy')
    audio, rate = soundfile.read(folder / 'audio/chirp_44k.wav')
    audio = resampy.resample(audio, rate, 48000, filter='kaiser_best')
    windows = openl3_windows(np.float32(audio)[:, None], sample_rate_hz=48000)
    x = openl3_mel256(windows, sample_rate_hz=48000, version=version)
    found, _ = jax.jit(model.apply)(variables, x)
    expected = np.load(folder / 'regression' / file)['embedding']
    np.testing.assert_allclose(found, expected, atol=1e-3 * abs(expected).max())


@pytest.mark.data
def test_published_weights_give_the_published_embedding_of_a_picture():
    folder, (model, variables) = regression(), published('image')
    picture = np.asarray(Image.open(folder / 'image/daisy.jpg').convert('RGB'))
    found, _ = jax.jit(model.apply)(variables, media.openl3_pictures(picture[None], 224))
    expected = np.load(folder / 'regression/daisy.npz')['embedding']
    np.testing.assert_allclose(found, expected, atol=1e-3 * abs(expected).max())
