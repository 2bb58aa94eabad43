import functools

import jax
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.models.hou import AudioBranch, EncoderLayer, steps

TINY = {
    'embedding_size': 232,  # the least that four convolutions leave something of is 231
    'frames': 24,
    'image_size': 32,
    'layers': (1, 0, 0, 0),
    'width': 2,
    'filters': (3, 4, 5),
    'features': 16,
    'num_classes': 3,
}


def inputs(rows: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        'audio_embedding': draw.standard_normal((rows, 24, 232), np.float32),
        'image': draw.standard_normal((rows, 2, 32, 32, 3), np.float32),
    }


@functools.cache
def variables(name: str) -> dict:
    draw = np.random.default_rng(0)

    def drawn(path, leaf):
        if path[-1].key in ('scale', 'var'):
            return draw.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return (draw.standard_normal(leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5).astype('f4')

    shapes = models.variable_shapes(models.create_model(name, **TINY))
    return jax.tree_util.tree_map_with_path(drawn, shapes)


@pytest.mark.parametrize('name', ['hou_final', 'hou_model_1', 'hou_model_3', 'hou_model_4'])
def test_both_branches_end_in_vectors_of_one_width(name, outline):
    (_, out), shapes = outline(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes['params']['audio'])) == 2_113_024
    assert out['audio'].shape == out['image'].shape == (1, 10, 256)
    assert out['fused'].shape == (1, 10, 512 if name == 'hou_final' else 256)


def test_the_sound_s_convolutions_start_as_pytorch_s():
    shape = jax.ShapeDtypeStruct((1, 24, 232), np.float32)
    branch = AudioBranch((64, 3, 4, 5), scaled=False)
    drawn = branch.lazy_init(jax.random.key(0), shape, train=False)['params']
    for n, summed in enumerate((7, 5 * 64, 5 * 3, 5 * 4), start=1):
        kernel, bias = drawn[f'conv{n}']['kernel'], drawn[f'conv{n}']['bias']
        assert 0.8 < np.abs(kernel).max() * summed**0.5 <= 1
        assert 0.1 < np.abs(bias).max() * summed**0.5 <= 1


def test_the_sound_s_maps_have_the_source_s_shapes():
    branch = AudioBranch((64, 128, 256, 256), scaled=False)
    run = functools.partial(branch.init_with_output, train=False, capture_intermediates=True)
    frames = jax.ShapeDtypeStruct((1, 96, 512), np.float32)
    out, found = jax.eval_shape(run, jax.random.key(0), frames)
    seen = {
        name: value['__call__'][0].shape
        for name, value in found['intermediates'].items()
        if 'conv' in name
    }
    assert seen == {
        'conv1': (1, 32, 127, 64),
        'conv2': (1, 11, 41, 128),
        'conv3': (1, 10, 12, 256),
        'conv4': (1, 10, 3, 256),
    }
    assert out.shape == (1, 10, 256)
    assert (steps(96), steps(24), steps(6)) == (10, 2, 0)


@pytest.mark.parametrize('scaled', [False, True])
def test_the_encoder_is_worked_out_by_hand(scaled):
    draw, encoder = np.random.default_rng(0), EncoderLayer(heads=2, scaled=scaled)
    queries, values = draw.standard_normal((1, 3, 4), 'f4'), draw.standard_normal((1, 5, 4), 'f4')
    params = jax.tree.map(
        lambda x: draw.standard_normal(x.shape, 'f4'),
        jax.eval_shape(encoder.init, jax.random.key(0), queries, values)['params'],
    )

    def dense(name, x):
        return x @ params[name]['kernel'] + params[name]['bias'][None]

    def normed(name, x):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * params[name]['scale'][None] + params[name]['bias'][None]

    q, k, v = dense('W_Q', queries[0]), dense('W_K', values[0]), dense('W_V', values[0])
    context, attention = np.zeros((3, 4)), np.zeros(5)
    for head in (slice(0, 2), slice(2, 4)):
        for row in range(3):
            weights = np.exp(
                [q[row, head] @ key * (0.5**0.5 if scaled else 1) for key in k[:, head]]
            )
            context[row, head] = weights / weights.sum() @ v[:, head]
            attention += weights / weights.sum() / 6
    x = normed('norm1', dense('output', context) + queries[0])
    expected = normed('norm2', dense('conv2', np.maximum(dense('conv1', x), 0)) + x)
    result, weights = jax.jit(encoder.apply)({'params': params}, queries, values)
    np.testing.assert_allclose(result[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights[0], attention, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns_and_the_answers_are_pooled():
    model = models.create_model('hou_final', **TINY, dropout=0.0)
    given, x = variables('hou_final'), inputs(4)

    def loss(params):
        state = {**given, 'params': params}
        (logits, out), new = model.apply(state, x, train=True, mutable=['batch_stats'])
        picked = jax.nn.log_softmax(logits)[:, 0]
        return -picked.mean(), (logits, out, new)

    run = jax.jit(jax.grad(loss, has_aux=True))
    grads, (logits, out, new) = jax.device_get(run(given['params']))
    for n in range(1, 5):  # a shift before BatchNorm changes nothing, nor one of all keys
        assert abs(grads['audio'][f'conv{n}'].pop('bias')).max() < 1e-5
    for encoder in (grads['audio']['encoder'], grads['fusion']):
        assert abs(encoder['W_K'].pop('bias')).max() < 1e-5
    assert min(abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 0
    changed = jax.tree.map(
        lambda a, b: not np.allclose(a, b), new['batch_stats'], given['batch_stats']
    )
    assert all(jax.tree.leaves(changed))

    head = given['params']['head']
    answers = out['fused'] @ head['kernel'] + head['bias'][None, None]
    np.testing.assert_allclose(out['logits'], answers, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, answers.mean(1) + answers.max(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out['embedding'], out['fused'].mean(1), rtol=1e-5)


@pytest.mark.parametrize('name', ['hou_final', 'hou_model_1'])
def test_only_the_seconds_that_a_clip_has_are_pooled(name):
    model, given, x = models.create_model(name, **TINY), variables(name), inputs(3)
    x['audio_embedding'][1, 12:] = 0  # of a clip of half the length
    x['audio_embedding'][2] = 0
    logits, out = jax.device_get(jax.jit(model.apply)(given, x))
    answers = [out['logits'][0], out['logits'][1, :1], out['logits'][2]]
    expected = [each.mean(axis=0) + each.max(axis=0) for each in answers]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out['embedding'][1], out['fused'][1, 0], rtol=1e-6)
    np.testing.assert_allclose(out['embedding'][2], out['fused'][2].mean(axis=0), rtol=1e-5)


def test_a_picture_s_vector_is_of_mean_and_maximum_before_the_norm():
    model = models.create_model('hou_model_1', **TINY)
    given, x = variables('hou_model_1'), inputs(2)
    options = {'num_classes': 0, 'layers': TINY['layers'], 'width': TINY['width']}
    resnet = models.create_model('resnet50', **options)

    @jax.jit
    def run(x):
        only = {kind: given[kind]['resnet'] for kind in given}
        return model.apply(given, x)[1], resnet.apply(only, x['image'].reshape(4, 32, 32, 3))[1]

    out, maps = jax.device_get(run(x))
    last = maps['layer4']
    params, stats = given['params'], given['batch_stats']['image_bn']
    pooled = last.mean((1, 2)) + last.max((1, 2))
    dense = pooled @ params['image_fc']['kernel'] + params['image_fc']['bias'][None]
    normal = (np.maximum(dense, 0) - stats['mean'][None]) / np.sqrt(stats['var'] + 1e-5)[None]
    image = normal * params['image_bn']['scale'][None] + params['image_bn']['bias'][None]
    np.testing.assert_allclose(out['image'].reshape(4, -1), image, rtol=1e-4, atol=1e-5)

    joined = np.concatenate([out['audio'], out['image']], axis=-1)
    fused = joined @ params['fusion']['kernel'] + params['fusion']['bias'][None, None]
    np.testing.assert_allclose(out['fused'], np.maximum(fused, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'queries', 'values'),
    [('hou_model_3', 'image', 'audio'), ('hou_model_4', 'audio', 'image')],
)
def test_one_kind_of_vectors_asks_the_other(name, queries, values):
    model, given = models.create_model(name, **TINY), variables(name)
    _, out = jax.jit(model.apply)(given, inputs(2))
    encoder = EncoderLayer(heads=16, scaled=False)
    attend, params = jax.jit(encoder.apply), {'params': given['params']['fusion']}
    fused, weights = attend(params, out[queries], out[values])
    np.testing.assert_allclose(out['fused'], fused, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out['attention'], weights, rtol=1e-4, atol=1e-5)


def test_zero_classes_leave_out_the_head():
    model = models.create_model('hou_final', **{**TINY, 'num_classes': 0})
    (first, out), shapes = jax.eval_shape(
        functools.partial(model.init_with_output, jax.random.key(0)), model.input_spec
    )
    assert 'head' not in shapes['params'] and 'logits' not in out
    assert first.shape == out['embedding'].shape == (1, 32)


def test_wrong_inputs_are_an_error():
    model, x = models.create_model('hou_final', **TINY), inputs(2)
    with pytest.raises(ValueError, match='no input image among audio_embedding'):
        model.apply({}, {'audio_embedding': x['audio_embedding']})
    with pytest.raises(ValueError, match=r'audio_embedding is \[2, 232\] and image \[2, 2, 32, 32'):
        model.apply({}, {**x, 'audio_embedding': x['audio_embedding'][:, 0]})
    with pytest.raises(ValueError, match='24 frames of audio_embedding fit 2 images, 1 were given'):
        model.apply({}, {**x, 'image': x['image'][:, :1]})
    with pytest.raises(
        ValueError, match='6 frames of audio_embedding fit 0 images, 2 were given; of a 1'
    ):
        model.apply({}, {**x, 'audio_embedding': x['audio_embedding'][:, :6]})


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize('name', ['hou_final', 'hou_model_1', 'hou_model_3', 'hou_model_4'])
def test_answers_gradients_and_training_are_pytorch_s(name, agrees_with_twin):
    import torch

    linear, norm, conv, size = torch.nn.Linear, torch.nn.BatchNorm2d, torch.nn.Conv2d, 232
    layers = {
        'conv1': conv(3, 8, 7, 2, 3, bias=False),
        'bn1': norm(8),
        'layer1_0/conv1': conv(8, 8, 1, bias=False),
        'layer1_0/bn1': norm(8),
        'layer1_0/conv2': conv(8, 8, 3, padding=1, bias=False),
        'layer1_0/bn2': norm(8),
        'layer1_0/conv3': conv(8, 32, 1, bias=False),
        'layer1_0/bn3': norm(32),
        'layer1_0/downsample_0': conv(8, 32, 1, bias=False),
        'layer1_0/downsample_1': norm(32),
    }
    layers = {f'resnet/{key}': layer for key, layer in layers.items()}

    def encoder_layers(place, width):
        places = {key: linear(width, width) for key in ('W_Q', 'W_K', 'W_V', 'output')}
        places |= {key: linear(width, width) for key in ('conv1', 'conv2')}
        places |= {key: torch.nn.LayerNorm(width) for key in ('norm1', 'norm2')}
        return {f'{place}/{key}': layer for key, layer in places.items()}

    layers |= encoder_layers('audio/encoder', size)
    kernels, strides, channels = (7, 5, 5, 5), ((3, 4), (3, 3), (1, 3), (1, 3)), (1, 8, 8, 8, 16)
    for n in range(4):
        layers[f'audio/conv{n + 1}'] = conv(
            channels[n], channels[n + 1], (1, kernels[n]), strides[n]
        )
        layers[f'audio/bn{n + 1}'] = norm(channels[n + 1])
    layers |= {'image_fc': linear(32, 16), 'image_bn': torch.nn.BatchNorm1d(16)}
    width = 32 if name == 'hou_final' else 16
    if name == 'hou_model_1':
        layers['fusion'] = linear(32, 16)
    else:
        layers |= encoder_layers('fusion', width)
    layers['head'] = linear(width, 10)

    def encoded(layers, place, heads, queries, values):
        def split(key, x):
            x = layers[f'{place}/{key}'](x)
            return x.unflatten(-1, (heads, -1)).transpose(1, 2)

        scores = split('W_Q', queries) @ split('W_K', values).transpose(2, 3)
        context = (scores.softmax(-1) @ split('W_V', values)).transpose(1, 2).flatten(2)
        x = layers[f'{place}/norm1'](layers[f'{place}/output'](context) + queries)
        hidden = layers[f'{place}/conv1'](x).relu()
        return layers[f'{place}/norm2'](layers[f'{place}/conv2'](hidden) + x)

    def forward(layers, inputs):
        x = inputs['audio_embedding']
        x = encoded(layers, 'audio/encoder', 8, x, x)[:, None]
        for n in range(1, 5):
            x = layers[f'audio/bn{n}'](layers[f'audio/conv{n}'](x)).relu()
            if n < 3:
                x = torch.nn.functional.max_pool2d(x, 2, 1)
        if x.requires_grad:  # torch 2.13 errs in BatchNorm's gradient where that comes in strides
            x.register_hook(torch.Tensor.contiguous)
        audio = x.mean(-1).transpose(1, 2)

        x = inputs['image'].flatten(0, 1).permute(0, 3, 1, 2)
        x = layers['resnet/bn1'](layers['resnet/conv1'](x)).relu()
        x = y = torch.nn.functional.max_pool2d(x, 3, 2, 1)
        for n in (1, 2, 3):
            y = layers[f'resnet/layer1_0/bn{n}'](layers[f'resnet/layer1_0/conv{n}'](y))
            y = y.relu() if n < 3 else y
        x = layers['resnet/layer1_0/downsample_0'](x)
        x = (y + layers['resnet/layer1_0/downsample_1'](x)).relu()
        x = layers['image_fc'](x.mean((2, 3)) + x.amax((2, 3))).relu()
        image = layers['image_bn'](x).unflatten(0, (-1, 2))

        if name == 'hou_model_3':
            fused = encoded(layers, 'fusion', 16, image, audio)
        elif name == 'hou_model_4':
            fused = encoded(layers, 'fusion', 16, audio, image)
        else:
            joined = torch.cat([audio, image], -1)
            if name == 'hou_model_1':
                fused = layers['fusion'](joined).relu()
            else:
                fused = encoded(layers, 'fusion', 16, joined, joined)
        answers = layers['head'](fused)
        return answers.mean(1) + answers.max(1).values

    options = {**TINY, 'width': 8, 'filters': (8, 8, 8), 'num_classes': 10, 'dropout': 0.0}
    agrees_with_twin(name, layers, forward, inputs(4), **options)
