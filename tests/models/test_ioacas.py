import functools
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsc_jax import models
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.sync import global_batch
from avsc_jax.training.optimizer import make_optimizer

# Lengths 35, 17, 8, 4, 2: with a place left over behind a block and without.
TINY = {'num_filters': 35, 'hidden': (12, 10, 8), 'num_classes': 3}
LITERAL = {'sum_last': True, 'shortcut_norm': False}
VARIANTS = [('resnet1d', {}), ('resnet1d', LITERAL), ('dcnn1d', {'pooling': 'mean'})]
SECOND = {'audio_size': 7, 'image_size': 5, 'attention_width': 4, 'hidden': 6, 'num_classes': 3}


def network(name: str, **options):
    """A network, and variables of which none is 0 or 1."""
    model, draw = models.create_model(name, **options), np.random.default_rng(0)

    def drawn(path, leaf):
        if path[-1].key in ('scale', 'var'):
            return draw.uniform(0.5, 1.5, leaf.shape).astype('f4')
        return (draw.standard_normal(leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5).astype('f4')

    return model, jax.tree_util.tree_map_with_path(drawn, models.variable_shapes(model))


def frames(rows: int, filters: int = TINY['num_filters']) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 2, filters), np.float32)


def second(rows: int, frames: int = 6) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {
        'audio_embedding': draw.standard_normal((rows, frames, SECOND['audio_size']), np.float32),
        'image_embedding': draw.standard_normal((rows, SECOND['image_size']), np.float32),
    }


def answer(model, variables, x):
    return jax.device_get(jax.jit(model.apply)(variables, x))


def spread(vector, x):
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def dense(layer, x):
    return x @ layer['kernel'] + spread(layer['bias'], x)


def normed(norm, stats, x):
    values = norm['scale'], norm['bias'], stats['mean'], stats['var']
    scale, bias, mean, var = (spread(value, x) for value in values)
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def rectified(norm, stats, x):
    return np.maximum(normed(norm, stats, x), 0)


@pytest.mark.parametrize(
    ('name', 'filters', 'parameters', 'lengths', 'joined'),
    [
        ('resnet1d', 256, 8_414_226, (128, 64, 32, 16), 2560),
        ('resnet1d', 290, 9_085_970, (145, 72, 36, 18), 2888),
        ('dcnn1d', 256, 8_413_366, (128, 64, 32, 16), 2560),
        ('dcnn1d', 290, 9_085_110, (145, 72, 36, 18), 2888),
    ],
)
def test_counts_lengths_and_widths(name, filters, parameters, lengths, joined):
    model = models.create_model(name, num_filters=filters)
    run = functools.partial(model.init_with_output, jax.random.key(0))
    (_, out), shapes = jax.eval_shape(run, model.input_spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes['params'])) == parameters
    for n, length in enumerate(lengths, start=1):
        assert out[f'block{n}'].shape == (1, length, 2 ** (n + 1))
    assert shapes['params']['fc1']['kernel'].shape == (joined, 2048)
    assert out['embedding'].shape == (1, 1024)


@pytest.mark.parametrize(
    ('image_size', 'parameters'), [(2048, 1_710_858), (1280, 1_317_642), (768, 1_055_498)]
)
def test_the_hybrid_s_counts(image_size, parameters):
    assert models.count_parameters('ioacas_hybrid', image_size=image_size) == parameters


@pytest.mark.parametrize(('name', 'options'), VARIANTS)
def test_the_answer_to_a_frame_is_worked_out_by_hand(name, options):
    model, variables = network(name, **TINY, **options)
    params, stats = variables['params'], variables['batch_stats']
    logits, out = answer(model, variables, frames(4))

    x = frames(4).transpose(0, 2, 1)
    flat = [x.reshape(4, -1)]
    for n in range(1, 5):
        layers, its = params[f'block{n}'], stats[f'block{n}']
        places = range(1, x.shape[1] - 1)
        windows = np.stack([x[:, i - 1 : i + 2].reshape(4, -1) for i in places], axis=1)
        y = normed(layers['bn'], its['bn'], dense(layers['conv'], windows))
        if name == 'resnet1d':
            shortcut = dense(layers['shortcut_conv'], x[:, 1:-1])
            if 'sum_last' in options:
                y = np.maximum(y, 0) + shortcut
            else:
                shortcut = normed(layers['shortcut_bn'], its['shortcut_bn'], shortcut)
                y = np.maximum(y + shortcut, 0)
        else:
            y = np.maximum(y, 0)
        outside = np.full_like(y[:, :1], 0 if 'pooling' in options else -np.inf)
        y = np.concatenate([outside, y, outside], axis=1)
        pairs = [y[:, i : i + 2] for i in range(0, y.shape[1] - 1, 2)]
        x = np.stack([p.mean(1) if 'pooling' in options else p.max(1) for p in pairs], axis=1)
        np.testing.assert_allclose(out[f'block{n}'], x, rtol=1e-4, atol=1e-5)
        flat.append(x.reshape(4, -1))
    x = np.concatenate(flat, axis=1)
    for n in (1, 2, 3):
        x = rectified(params[f'bn{n}'], stats[f'bn{n}'], dense(params[f'fc{n}'], x))
    np.testing.assert_allclose(out['embedding'], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, dense(params['head'], x), rtol=1e-4, atol=1e-5)


def test_every_parameter_learns_and_padding_counts_in_nothing():
    model, variables = network('resnet1d', **TINY, dropout=0.0)

    def loss(params, x, mask):
        with global_batch(mask, None):
            (logits, _), new = model.apply(
                {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
            )
        losses = -jax.nn.log_softmax(logits)[:, 0]
        return jnp.where(mask, losses, 0).sum() / mask.sum(), new['batch_stats']

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    real, padding = frames(4), np.full((4, 2, 35), 9, np.float32)
    ours = run(variables['params'], np.concatenate([real, padding]), np.arange(8) < 4)
    (twice, _), expected = run(variables['params'], np.concatenate([real] * 2), np.ones(8, bool))
    (value, stats), grads = jax.device_get(ours)
    np.testing.assert_allclose(value, twice, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, expected)

    for n in range(1, 5):  # a shift before BatchNorm changes nothing
        for key in ('conv', 'shortcut_conv'):
            assert abs(grads[f'block{n}'][key].pop('bias')).max() < 1e-5
    for n in (1, 2, 3):
        assert abs(grads[f'fc{n}'].pop('bias')).max() < 1e-5
    assert min(abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 1e-4
    changed = jax.tree.map(lambda a, b: abs(a - b).max(), stats, variables['batch_stats'])
    assert min(jax.tree.leaves(changed)) > 1e-3


def test_the_first_two_linear_layers_have_dropout():
    model, variables = network('resnet1d', **TINY)
    seen = []

    def note(method, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.method_name == '__call__':
            seen.append((args[0].shape, context.module.rate))
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        run = functools.partial(model.apply, train=True, mutable=['batch_stats'])
        jax.eval_shape(run, variables, frames(4), rngs={'dropout': jax.random.key(0)})
    assert seen == [((4, 12), 0.5), ((4, 10), 0.5)]


@pytest.mark.parametrize('attention', ['additive', 'dot_product'])
def test_the_hybrid_s_answer_is_worked_out_by_hand(attention):
    model, variables = network('ioacas_hybrid', **SECOND, attention=attention)
    params, stats = variables['params'], variables['batch_stats']
    x, layers = second(4), params['attention']
    logits, out = answer(model, variables, x)

    sounds = []
    for row, weights in zip(x['audio_embedding'], out['attention'], strict=True):
        if attention == 'additive':
            scores = np.exp(np.tanh(dense(layers['hidden'], row)) @ layers['score']['kernel'][:, 0])
            expected = scores / scores.sum()
            sounds.append(expected @ row)
        else:
            queries, keys, values = (dense(layers[k], row) for k in ('queries', 'keys', 'values'))
            answers = []
            for query in queries:
                scores = np.exp([query @ key / 2 for key in keys])  # the root of the width is 2
                answers.append(scores / scores.sum())
            expected = np.mean(answers, axis=0)
            sounds.append(np.mean([a @ values for a in answers], axis=0))
        np.testing.assert_allclose(weights, expected, rtol=1e-4)
    joined = np.concatenate([np.stack(sounds), x['image_embedding']], axis=1)
    embedding = rectified(params['bn1'], stats['bn1'], dense(params['fc1'], joined))
    np.testing.assert_allclose(out['embedding'], embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, dense(params['head'], embedding), rtol=1e-4, atol=1e-5)


def test_attention_takes_any_number_of_frames_and_their_order_is_none():
    model, variables = network('ioacas_hybrid', **SECOND)
    x = second(2, frames=4)
    logits, out = answer(model, variables, x)
    turned = {**x, 'audio_embedding': x['audio_embedding'][:, ::-1]}
    turned = answer(model, variables, turned)
    np.testing.assert_allclose(out['attention'].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(turned[0], logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(turned[1]['attention'][:, ::-1], out['attention'], rtol=1e-5)


@pytest.mark.parametrize(('name', 'options'), [('dcnn1d', TINY), ('ioacas_hybrid', SECOND)])
def test_zero_classes_give_the_embedding_and_half_precision_ends_in_float32(name, options):
    x = frames(2) if name == 'dcnn1d' else second(2)
    model, variables = network(name, **options)
    expected, out = answer(model, variables, x)
    half = answer(model.clone(dtype=jnp.bfloat16), variables, x)
    assert (half[0].dtype, half[1]['embedding'].dtype) == ('f4', 'f4')
    np.testing.assert_allclose(half[0], expected, rtol=0, atol=0.05)
    assert not np.allclose(half[0], expected, rtol=0, atol=1e-6)

    headless = model.clone(num_classes=0)
    assert 'head' not in models.variable_shapes(headless)['params']
    first, without = answer(headless, variables, x)
    np.testing.assert_array_equal(first, out['embedding'])
    np.testing.assert_array_equal(first, without['embedding'])


def test_wrong_inputs_are_an_error():
    model, variables = network('resnet1d', **TINY)
    with pytest.raises(ValueError, match=r'frames are \[4, 2, 36\], the network .* \[B, 2, 35'):
        model.apply(variables, frames(4, 36))
    model, variables = network('ioacas_hybrid', **SECOND)
    with pytest.raises(ValueError, match='no input image_embedding among audio_embedding'):
        model.apply(variables, {'audio_embedding': second(2)['audio_embedding']})
    with pytest.raises(
        ValueError,
        match=r'audio_embedding is \[2, 7\] and image_embedding \[2, 5\], .* \[B, T, 7\] and ',
    ):
        model.apply(variables, {**second(2), 'audio_embedding': second(2)['audio_embedding'][:, 0]})


def twin(variables, options):
    """(parameters and statistics by name, forward) of the frame network in PyTorch, in float64."""
    import torch
    from flax import traverse_util
    from torch.nn import functional

    literal, state = 'sum_last' in options, {}
    for path, value in traverse_util.flatten_dict(variables).items():
        tensor = torch.from_numpy(np.array(value)).double()
        state['.'.join(path[1:])] = tensor.requires_grad_(path[0] == 'params')

    def linear(place, x):
        return functional.linear(x, state[f'{place}.kernel'].T, state[f'{place}.bias'])

    def conv(place, x, size):
        kernel = state[f'{place}.kernel'].unflatten(0, (size, -1)).permute(2, 1, 0)
        return functional.conv1d(x, kernel, state[f'{place}.bias'])

    def norm(place, x, train):
        values = [state[f'{place}.{key}'] for key in ('mean', 'var', 'scale', 'bias')]
        return functional.batch_norm(x, *values, training=train)

    def forward(x, train):
        flat = [x.mT.flatten(1)]
        for n in range(1, 5):
            y = norm(f'block{n}.bn', conv(f'block{n}.conv', x, 3), train)
            y = y.relu() if literal else y
            if f'block{n}.shortcut_conv.kernel' in state:
                shortcut = conv(f'block{n}.shortcut_conv', x[..., 1:-1], 1)
                y = y + (shortcut if literal else norm(f'block{n}.shortcut_bn', shortcut, train))
            y = y if literal else y.relu()
            pool = functional.avg_pool1d if 'pooling' in options else functional.max_pool1d
            x = pool(y, 2, 2, 1)
            flat.append(x.mT.flatten(1))
        x = torch.cat(flat, 1)
        for n in (1, 2, 3):
            x = norm(f'bn{n}', linear(f'fc{n}', x), train).relu()
        return linear('head', x)

    return state, forward


@pytest.mark.parity
@pytest.mark.parametrize(
    ('name', 'options'),
    [VARIANTS[0], *(pytest.param(*v, marks=pytest.mark.slow) for v in VARIANTS[1:])],
)
def test_answers_gradients_and_twenty_steps_of_sgd_are_pytorch_s(name, options):
    import torch
    from flax import traverse_util

    filters = 290 if options else 256
    sizes = {'num_filters': filters, 'hidden': (256, 128, 64)}
    model, variables = network(name, **options, **sizes, dropout=0.0)
    x, labels = frames(24, filters), np.arange(24) % 10
    settings = dict(learning_rate=1e-3, drop_at=(), factor=1, momentum=0.9, weight_decay=1e-2)
    optimizer, _ = make_optimizer(settings, 1)

    @jax.jit
    def step(variables, state):
        def loss(params):
            given = {**variables, 'params': params}
            with mock.patch.object(nn, 'relu', nn.silu):  # see `smoothed` in conftest.py
                (logits, _), new = model.apply(given, x, train=True, mutable=['batch_stats'])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), (logits, new)

        grads, (logits, new) = jax.grad(loss, has_aux=True)(variables['params'])
        updates, state = optimizer.update(grads, state, variables['params'])
        params = optax.apply_updates(variables['params'], updates)
        return {**new, 'params': params}, state, grads, logits

    theirs, forward = twin(variables, options)
    tensor = torch.from_numpy(x).double()
    with torch.no_grad():
        assert_near(answer(model, variables, x)[0], forward(tensor, train=False), 'answer')
    learned = {key: value for key, value in theirs.items() if value.requires_grad}
    sgd = torch.optim.SGD(learned.values(), lr=1e-3, momentum=0.9, weight_decay=1e-2)
    state = optimizer.init(variables['params'])
    for index in range(20):
        variables, state, grads, logits = step(variables, state)
        with mock.patch.object(torch.Tensor, 'relu', torch.nn.functional.silu):
            expected = forward(tensor, train=True)
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
        if index == 0:
            assert_near(logits, expected, 'answer in training')
            for key, grad in traverse_util.flatten_dict(grads, sep='.').items():
                assert_near(grad, theirs[key].grad, f'gradient of {key}')
        sgd.step()
    for path, value in traverse_util.flatten_dict(variables).items():
        key = '.'.join(path[1:])
        assert_near(value, theirs[key], f'{key} after 20 steps')


def assert_near(ours, theirs, what):
    theirs = theirs.detach().numpy()
    scale = max(1.0, float(abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale, err_msg=what)


@pytest.mark.parity
@pytest.mark.parametrize('attention', ['additive', 'dot_product'])
def test_the_hybrid_s_answers_gradients_and_training_are_pytorch_s(attention, agrees_with_twin):
    import torch

    linear = torch.nn.Linear
    if attention == 'additive':
        layers = {'hidden': linear(64, 16), 'score': linear(16, 1, bias=False)}
    else:
        sizes = {'queries': 16, 'keys': 16, 'values': 64}
        layers = {key: linear(64, size) for key, size in sizes.items()}
    layers = {f'attention/{key}': layer for key, layer in layers.items()}
    layers |= {'fc1': linear(64 + 48, 32), 'bn1': torch.nn.BatchNorm1d(32), 'head': linear(32, 10)}

    def forward(layers, inputs):
        x = inputs['audio_embedding']
        if attention == 'additive':
            scores = layers['attention/score'](layers['attention/hidden'](x).tanh())
            sound = (scores.softmax(1) * x).sum(1)
        else:
            asked = [layers[f'attention/{key}'](x) for key in ('queries', 'keys', 'values')]
            sound = torch.nn.functional.scaled_dot_product_attention(*asked).mean(1)
        x = layers['fc1'](torch.cat([sound, inputs['image_embedding']], 1))
        return layers['head'](layers['bn1'](x).relu())

    draw = np.random.default_rng(0)
    x = {
        'audio_embedding': draw.standard_normal((24, 6, 64), np.float32),
        'image_embedding': draw.standard_normal((24, 48), np.float32),
    }
    options = {'audio_size': 64, 'image_size': 48, 'attention_width': 16, 'hidden': 32}
    agrees_with_twin('ioacas_hybrid', layers, forward, x, attention=attention, **options)
