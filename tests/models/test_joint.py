"""The joint network: absent senses, dropped ones, and a training step against PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import losses, models
from avsc_jax.layers.dropout import ModalityDropout
from avsc_jax.layers.sync import global_batch

CNN = {'layers': (1, 1, 1, 1), 'width': 8, 'image_size': 32}
SMALL = {
    'picture': {'name': 'resnet18', **CNN},
    'sound': {'name': 'resnet1d', 'num_filters': 35, 'hidden': (12, 10, 8)},
    'sound_shape': (6, 2, 35), 'hidden': 16, 'attention_width': 4, 'num_classes': 3,
    'dropout': 0.0,
}  # fmt: skip


def network(**options):
    """A network, and variables of which none is 0 or 1."""
    model, draw = models.create_model('joint', **{**SMALL, **options}), np.random.default_rng(0)

    def drawn(path, leaf):
        if path[-1].key in ('scale', 'var'):
            return draw.uniform(0.5, 1.5, leaf.shape).astype('f4')
        return (draw.standard_normal(leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5).astype('f4')

    return model, jax.tree_util.tree_map_with_path(drawn, models.variable_shapes(model))


def inputs(rows=6, sound_shape=SMALL['sound_shape']):
    draw = np.random.default_rng(1)
    return {
        'image': draw.standard_normal((rows, 32, 32, 3), np.float32),
        'sound': draw.standard_normal((rows, *sound_shape), np.float32),
    }


@pytest.fixture(scope='module')
def made():
    model, variables = network()
    return model, variables, jax.jit(model.apply)


def test_the_count_is_that_of_the_parts_and_what_joins_them():
    parts = models.count_parameters('resnet50', num_classes=0)
    parts += models.count_parameters('resnet1d', num_classes=0)
    absent, attention = 2048 + 1024, 1024 * 128 + 2 * 128
    joined = 3072 * 512 + 512 + 2 * 512 + 512 * 10 + 10
    assert models.count_parameters('joint') == parts + absent + attention + joined == 33_625_938


def test_an_absent_sense_is_answered_by_its_own_embedding(made):
    _, variables, apply = made
    x = inputs()
    _, whole = apply(variables, x)
    for sense, name in (('picture', 'image'), ('sound', 'sound')):
        logits, out = apply(variables, {**x, name: np.zeros_like(x[name])})
        params, stats = variables['params'], variables['batch_stats']['bn1']
        held = {**whole, sense: np.tile(params[f'absent_{sense}'], (6, 1))}
        joined = np.concatenate([held['picture'], held['sound']], axis=1)
        h = joined @ params['fc1']['kernel'] + params['fc1']['bias']
        h = (h - stats['mean']) / np.sqrt(stats['var'] + 1e-5) * params['bn1']['scale']
        h = np.maximum(h + params['bn1']['bias'], 0)
        expected = h @ params['head']['kernel'] + params['head']['bias']
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose(out['embedding'], h, atol=1e-4)


def test_rows_without_a_sense_do_not_change_the_others(made):
    _, variables, apply = made
    x = inputs()
    logits = np.asarray(apply(variables, x)[0])
    x['sound'][2] = 0
    gaps = np.abs(np.asarray(apply(variables, x)[0]) - logits).max(axis=1)
    assert gaps[2] > 1e-2 and np.delete(gaps, 2).max() < 1e-5


def test_training_replaces_the_senses_that_the_draw_leaves_out(made):
    model, variables, _ = made
    drawn = []

    def keep(method, args, kwargs, context):
        y = method(*args, **kwargs)
        if isinstance(context.module, ModalityDropout) and context.method_name == '__call__':
            drawn.append(y)
        return y

    with nn.intercept_methods(keep):
        (_, out), _ = model.clone(modality_dropout=0.7).apply(
            variables, inputs(16), train=True, mutable=['batch_stats'],
            rngs={'dropout': jax.random.key(3)},
        )  # fmt: skip
    (kept,) = map(np.asarray, drawn)
    assert kept.any(axis=1).all() and 4 < (~kept.all(axis=1)).sum() < 16
    for place, sense in enumerate(('picture', 'sound')):
        absent = variables['params'][f'absent_{sense}']
        is_absent = (np.asarray(out[sense]) == absent).all(axis=1)
        np.testing.assert_array_equal(is_absent, ~kept[:, place])


def test_every_parameter_gets_a_gradient_where_senses_are_left_out(made):
    model, variables, _ = made
    model = model.clone(modality_dropout=0.7)

    @jax.jit
    def gradient(params):
        def loss(params):
            (logits, _), _ = model.apply(
                {**variables, 'params': params}, inputs(16), train=True, mutable=['batch_stats'],
                rngs={'dropout': jax.random.key(3)},
            )  # fmt: skip
            return losses.cross_entropy(logits, jnp.arange(16) % 3).sum()

        return jax.grad(loss)(params)

    moved = jax.tree.map(lambda g: bool(jnp.abs(g).max() > 0), gradient(variables['params']))
    assert all(jax.tree.leaves(moved)), moved


def test_a_wrong_input_is_a_sentence(made):
    model, variables, _ = made
    with pytest.raises(ValueError, match='no input sound among image'):
        model.apply(variables, {'image': inputs()['image']})
    with pytest.raises(ValueError, match=r'sound is \[6, 5, 2, 35\], the network expects \[B, 6'):
        model.apply(variables, inputs(sound_shape=(5, 2, 35)))
    with pytest.raises(ValueError, match='no name of its picture network; set config'):
        _ = models.create_model('joint', picture={'width': 35}).input_spec


def twin(torch, params):
    """(parameters by our path, forward) of two small ResNets and what joins them, in float64.

    Written from the definition of the layers: convolutions, norms, shortcuts, mean, linear layers.
    """
    from flax import traverse_util
    from torch.nn import functional

    state = {}
    for path, value in traverse_util.flatten_dict(params, sep='/').items():
        tensor = torch.from_numpy(np.array(value)).double()
        state[path] = tensor.requires_grad_()

    def conv(place, x, stride):
        kernel = state[f'{place}/kernel'].permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(place, x):
        weight, bias = state[f'{place}/scale'], state[f'{place}/bias']
        return functional.batch_norm(x, None, None, weight, bias, training=True)

    def linear(place, x):
        return functional.linear(x, state[f'{place}/kernel'].T, state[f'{place}/bias'])

    def resnet(name, x):
        x = norm(f'{name}/bn1', conv(f'{name}/conv1', x, 2)).relu()
        x = functional.max_pool2d(x, 3, 2, 1)
        for layer in range(1, 5):
            block, stride = f'{name}/layer{layer}_0', 1 if layer == 1 else 2
            y = norm(f'{block}/bn1', conv(f'{block}/conv1', x, stride)).relu()
            y = norm(f'{block}/bn2', conv(f'{block}/conv2', y, 1))
            if f'{block}/downsample_0/kernel' in state:
                x = norm(f'{block}/downsample_1', conv(f'{block}/downsample_0', x, stride))
            x = (x + y).relu()
        return x.mean((2, 3))

    def forward(x):
        parts = []
        for sense, name in (('picture', 'image'), ('sound', 'sound')):
            pixels = torch.from_numpy(x[name]).double()
            is_there = (pixels != 0).flatten(1).any(1, keepdim=True)
            seen = resnet(sense, pixels.permute(0, 3, 1, 2))
            parts.append(torch.where(is_there, seen, state[f'absent_{sense}']))
        return linear('head', norm('bn1', linear('fc1', torch.cat(parts, 1))).relu())

    return state, forward


@pytest.mark.parity
def test_answer_gradient_and_step_in_training_are_pytorch_s():
    import torch
    from flax import traverse_util

    cnn = {'name': 'resnet18', **CNN}
    model, variables = network(
        picture=cnn, sound=cnn, sound_shape=(32, 32, 3), modality_dropout=0.0
    )
    x, labels = inputs(12, (32, 32, 3)), np.arange(12) % 3
    x['sound'][3:6], x['image'][8] = 0, 0

    @jax.jit
    def gradient(params):
        def loss(params):
            with global_batch(None, None):
                (logits, _), _ = model.apply(
                    {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
                )
            return losses.cross_entropy(logits, labels).mean(), logits

        return jax.grad(loss, has_aux=True)(params)

    params = variables['params']
    found, logits = gradient(params)
    state, forward = twin(torch, params)
    expected = forward(x)
    torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
    near(logits, expected, 'answer')
    flat = traverse_util.flatten_dict(found, sep='/')
    assert {*flat} == {*state}
    for path, tensor in state.items():
        assert path == 'fc1/bias' or tensor.grad.abs().max() > 1e-4, path  # a norm follows it
        near(flat[path], tensor.grad, path)


def near(ours, theirs, what, limit=1e-4):
    """Compares relative to the largest; float32 against float64."""
    theirs = theirs.detach().numpy()
    gap = np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), 1e-3)
    assert gap < limit, (what, gap)
