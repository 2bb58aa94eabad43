import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import models

SMALL = {'encoders': {'b': 6, 'a': 5}, 'widths': (16, 8, 4), 'num_classes': 3}


def inputs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    sizes = SMALL['encoders'].items()
    return {f'features/{n}': draw.standard_normal((rows, d), dtype=np.float32) for n, d in sizes}


@pytest.fixture(scope='module')
def variables() -> dict:
    return jax.device_get(models.init(models.create_model('clip_late_fusion', **SMALL)))


def test_the_paper_s_widths():
    model = models.create_model('clip_late_fusion')
    sizes = {name: spec.shape for name, spec in model.input_spec.items()}
    assert list(sizes.items()) == [  # Okazaki 2021, Table 1, in its order
        ('features/clip_rn50x4', (1, 640)),
        ('features/clip_rn101', (1, 512)),
        ('features/clip_vit_b32', (1, 512)),
    ]
    params = models.variable_shapes(model)['params']
    shapes = {name: leaf['kernel'].shape for name, leaf in params.items() if 'kernel' in leaf}
    assert shapes == {'fusion': (768, 128), 'head': (128, 10)}
    assert params['clip_rn101']['fc1']['kernel'].shape == (512, 512)
    assert params['clip_rn101']['fc2']['kernel'].shape == (512, 256)


def test_the_output_is_worked_out_by_hand(variables):
    model = models.create_model('clip_late_fusion', **SMALL)
    x = inputs(4)
    logits, out = model.apply(variables, {**x, 'label': np.zeros(4)})

    params = variables['params']
    joined = []
    for name in ('b', 'a'):
        branch = params[name]
        h = x[f'features/{name}'] @ branch['fc1']['kernel'] + branch['fc1']['bias'][None]
        h = np.maximum(h / np.sqrt(1 + 1e-5), 0)  # fresh statistics: mean 0, variance 1
        joined.append(h @ branch['fc2']['kernel'] + branch['fc2']['bias'][None])
    fusion, head = params['fusion'], params['head']
    embedding = np.concatenate(joined, axis=1) @ fusion['kernel'] + fusion['bias'][None]
    np.testing.assert_allclose(out['embedding'], embedding, atol=1e-6)
    np.testing.assert_allclose(logits, embedding @ head['kernel'] + head['bias'][None], atol=1e-6)


def test_every_parameter_gets_a_gradient_and_training_learns(variables):
    model = models.create_model('clip_late_fusion', **SMALL)
    x, labels = inputs(12), np.arange(12) % 3

    @jax.jit
    def step(params, stats, key):
        def loss(params):
            (logits, _), updates = model.apply(
                {'params': params, 'batch_stats': stats},
                x,
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': key},
            )
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
            return -picked.mean(), updates['batch_stats']

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), stats, grads

    params, stats = variables['params'], variables['batch_stats']
    losses = []
    for index in range(80):
        value, params, stats, grads = step(params, stats, jax.random.key(index))
        losses.append(float(value))
        if index == 0:
            for branch in ('a', 'b'):  # a shift before BatchNorm changes nothing
                assert abs(grads[branch]['fc1'].pop('bias')).max() < 1e-6
            assert min(abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 0
    assert losses[0] > 0.9
    assert np.mean(losses[-5:]) < 0.2


def test_zero_classes_give_the_embedding(variables):
    model = models.create_model('clip_late_fusion', **{**SMALL, 'num_classes': 0})
    assert 'head' not in models.variable_shapes(model)['params']
    first, out = model.apply(variables, inputs(2))
    np.testing.assert_array_equal(first, out['embedding'])
    assert first.shape == (2, 4)


def test_missing_or_misshaped_features_are_an_error(variables):
    model = models.create_model('clip_late_fusion', **SMALL)
    x = inputs(2)
    with pytest.raises(ValueError, match='features/a is 6 wide, the network expects 5'):
        model.apply(variables, {**x, 'features/a': np.zeros((2, 6), np.float32)})
    del x['features/a']
    with pytest.raises(ValueError, match='no input features/a among features/b'):
        model.apply(variables, x)


FRAMES = {**SMALL, 'frames': {'b': 4, 'a': 3}, 'attention': 6}


def frames(rows: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    shapes = {
        name: (rows, FRAMES['frames'][name], size) for name, size in SMALL['encoders'].items()
    }
    return {
        f'features/{name}': draw.standard_normal(shape, dtype=np.float32)
        for name, shape in shapes.items()
    }


def test_a_frame_of_zeros_is_none_and_others_are_weighted():
    model = models.create_model('late_fusion', **FRAMES)
    assert {name: spec.shape for name, spec in model.input_spec.items()} == {
        'features/b': (1, 4, 6),
        'features/a': (1, 3, 5),
    }
    variables, x = models.init(model), frames(2)
    x['features/b'][0, 2:] = 0
    logits, out = jax.jit(model.apply)(variables, x)
    weights = np.asarray(out['attention/b'])
    assert (weights[0, 2:] == 0).all() and (weights[1] > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    short = {'features/b': x['features/b'][:1, :2], 'features/a': x['features/a'][:1]}
    np.testing.assert_allclose(model.apply(variables, short)[0], logits[:1], atol=1e-6)


@pytest.mark.parametrize(
    ('options', 'given', 'wanted'),
    [(SMALL, frames, r'\[B, D\]'), (FRAMES, inputs, r'\[B, T, D\], frames of clips')],
)
def test_frames_for_a_network_of_vectors_and_vectors_for_one_of_frames(options, given, wanted):
    model = models.create_model('late_fusion', **options)
    with pytest.raises(ValueError, match=f'features/b is .*, the network expects {wanted}'):
        jax.eval_shape(model.init, jax.random.key(0), given(2))


@pytest.mark.parity
def test_answers_gradients_and_training_with_attention_are_pytorch_s(agrees_with_twin):
    import torch

    linear, norm = torch.nn.Linear, torch.nn.BatchNorm1d
    layers = {'fusion': linear(16, 24), 'head': linear(24, 10)}
    for name, size in (('b', 40), ('a', 20)):
        attention = {'hidden': linear(size, 12), 'score': linear(12, 1, bias=False)}
        layers |= {f'{name}_frames/{key}': layer for key, layer in attention.items()}
        branch = {'fc1': linear(size, 32), 'bn1': norm(32), 'fc2': linear(32, 8)}
        layers |= {f'{name}/{key}': layer for key, layer in branch.items()}

    def forward(layers, inputs):
        joined = []
        for name in ('b', 'a'):
            x = inputs[f'features/{name}']
            scores = layers[f'{name}_frames/score'](layers[f'{name}_frames/hidden'](x).tanh())
            scores = scores.masked_fill((x == 0).all(-1, keepdim=True), -torch.inf)
            x = layers[f'{name}/fc1']((scores.softmax(1) * x).sum(1))
            joined.append(layers[f'{name}/fc2'](layers[f'{name}/bn1'](x).relu()))
        return layers['head'](layers['fusion'](torch.cat(joined, 1)))

    draw = np.random.default_rng(0)
    x = {
        'features/b': draw.standard_normal((24, 5, 40), np.float32),
        'features/a': draw.standard_normal((24, 3, 20), np.float32),
    }
    x['features/b'][::3, 3:] = 0
    sizes = {'encoders': {'b': 40, 'a': 20}, 'frames': {'b': 5, 'a': 3}, 'widths': (32, 8, 24)}
    agrees_with_twin('late_fusion', layers, forward, x, dropout=0.0, attention=12, **sizes)
