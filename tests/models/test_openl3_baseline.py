import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.models.openl3_baseline import with_stems

SMALL = {'hidden': 12, 'num_classes': 3}
NARROW = {**SMALL, 'widths': (8, 6), 'embeddings': {'audio_embedding': 5, 'image_embedding': 4}}
JOINING = {**SMALL, 'stem_width': 8, 'embeddings': NARROW['embeddings']}
VARIANTS = ('audio', 'video', 'early')


def inputs(rows: int) -> dict[str, np.ndarray]:
    draw, sizes = np.random.default_rng(0), NARROW['embeddings']
    return {name: draw.standard_normal((rows, d), np.float32) for name, d in sizes.items()}


@functools.cache
def subnetwork(variant: str):
    """A narrow network of the variant, and variables of which none is 0 or 1."""
    options = NARROW
    if variant != 'early':
        name = {'audio': 'audio_embedding', 'video': 'image_embedding'}[variant]
        options = {**NARROW, 'embeddings': {name: NARROW['embeddings'][name]}}
    model = models.create_model(f'openl3_baseline_{variant}', **options)
    draw = np.random.default_rng(len(variant))
    shapes = models.variable_shapes(model)
    return model, jax.tree.map(lambda x: draw.uniform(0.5, 1.5, x.shape).astype('f4') - 0.4, shapes)


def dense(layer, x):
    return x @ layer['kernel'] + layer['bias'][None]


def rectified(norm, stats, x):
    normal = (x - stats['mean'][None]) / np.sqrt(stats['var'] + 1e-5)[None]
    return np.maximum(normal * norm['scale'][None] + norm['bias'][None], 0)


def stem(params, stats, x):
    return dense(params['fc2'], rectified(params['bn1'], stats['bn1'], dense(params['fc1'], x)))


@pytest.mark.parametrize('variant', VARIANTS)
def test_the_subnetwork_s_answer_is_worked_out_by_hand(variant):
    model, variables = subnetwork(variant)
    logits, out = model.apply(variables, inputs(4))
    params, stats = variables['params'], variables['batch_stats']
    taken = [inputs(4)[name] for name in model.input_spec]
    expected = stem(params['stem'], stats['stem'], np.concatenate(taken, axis=1))
    np.testing.assert_allclose(out['stem'], expected, rtol=1e-5)
    x = dense(params['fc3'], rectified(params['bn2'], stats['bn2'], expected))
    x = rectified(params['bn3'], stats['bn3'], x)
    np.testing.assert_allclose(out['embedding'], x, rtol=1e-5)
    np.testing.assert_allclose(logits, dense(params['head'], x), rtol=1e-5)


def b03():
    """The network that joins the stems of `subnetwork`s."""
    model = models.create_model('openl3_baseline_audio_video', **JOINING)
    trained = {'audio_embedding': subnetwork('audio')[1], 'image_embedding': subnetwork('video')[1]}
    return model, with_stems(models.init(model), trained)


def test_b03_joins_the_stems_of_trained_subnetworks_by_linear_layers():
    model, variables = b03()
    logits, out = jax.device_get(model.apply(variables, inputs(4)))
    stems = []
    for variant, x in zip(('audio', 'video'), inputs(4).values(), strict=True):
        trained = subnetwork(variant)[1]
        stems.append(stem(trained['params']['stem'], trained['batch_stats']['stem'], x))
    fusion, head = (jax.device_get(variables['params'][name]) for name in ('fusion', 'head'))
    embedding = dense(fusion, np.concatenate(stems, axis=1))
    np.testing.assert_allclose(out['embedding'], embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, dense(head, embedding), rtol=1e-4, atol=1e-5)


def test_training_b03_leaves_its_stems_as_they_are():
    model, variables = b03()

    def loss(params):
        state = {**variables, 'params': params}
        (logits, _), new = model.apply(state, inputs(4), train=True, mutable=['batch_stats'])
        return (logits[:, 0] ** 2).mean(), (logits, new)

    grads, (logits, new) = jax.grad(loss, has_aux=True)(variables['params'])
    assert set(grads) == {'fusion', 'head'}
    assert min(abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 0
    jax.tree.map(np.testing.assert_array_equal, new['batch_stats'], variables['batch_stats'])
    np.testing.assert_array_equal(logits, model.apply(variables, inputs(4))[0])


def test_stems_that_do_not_fit_are_an_error():
    _, variables = b03()
    (_, audio), (_, video) = subnetwork('audio'), subnetwork('video')
    with pytest.raises(ValueError, match='stems of audio_embedding were given; the network takes'):
        with_stems(variables, {'audio_embedding': audio})
    with pytest.raises(ValueError, match=r"'kernel': \(4, 12\).*, the network expects .*\(5, 12\)"):
        with_stems(variables, {'audio_embedding': video, 'image_embedding': audio})


@pytest.mark.parametrize('name', ['openl3_baseline_early', 'openl3_baseline_audio_video'])
def test_zero_classes_give_the_embedding(name):
    options = NARROW if name.endswith('early') else JOINING
    model = models.create_model(name, **{**options, 'num_classes': 0})
    variables = models.init(model)
    assert 'head' not in variables['params']
    first, out = model.apply(variables, inputs(2))
    np.testing.assert_array_equal(first, out['embedding'])


def test_half_precision_ends_in_float32():
    model, variables = subnetwork('early')
    logits, out = model.clone(dtype=jnp.bfloat16).apply(variables, inputs(4))
    assert (out['stem'].dtype, out['embedding'].dtype, logits.dtype) == ('bfloat16', 'f4', 'f4')
    np.testing.assert_allclose(logits, model.apply(variables, inputs(4))[0], rtol=0.05)


def test_wrong_inputs_are_an_error():
    model, variables = subnetwork('early')
    x = inputs(2)
    with pytest.raises(ValueError, match='no input image_embedding among audio_embedding'):
        model.apply(variables, {'audio_embedding': x['audio_embedding']})
    with pytest.raises(
        ValueError, match=r'audio_embedding is \[2, 4\], the network expects \[B, 5'
    ):
        model.apply(variables, {**x, 'audio_embedding': x['image_embedding']})
    with pytest.raises(ValueError, match=r'audio_embedding is \[2, 7, 5\], the network expects'):
        model.apply(variables, {**x, 'audio_embedding': np.zeros((2, 7, 5), np.float32)})


@pytest.mark.parity
@pytest.mark.parametrize(
    'variant',
    [pytest.param('audio', marks=pytest.mark.slow), 'early', 'audio_video'],
)
def test_answers_gradients_and_training_are_pytorch_s(variant, agrees_with_twin):
    import torch

    linear, norm = torch.nn.Linear, torch.nn.BatchNorm1d
    names = ['audio_embedding', 'image_embedding'][: 1 if variant == 'audio' else 2]

    def stem_of(layers, x, place):
        return layers[f'{place}/fc2'](layers[f'{place}/bn1'](layers[f'{place}/fc1'](x)).relu())

    def stem_layers(place, size):
        places = {'fc1': linear(size, 512), 'bn1': norm(512), 'fc2': linear(512, 128)}
        return {f'{place}/{name}': layer for name, layer in places.items()}

    if variant == 'audio_video':
        layers = {**stem_layers(names[0], 512), **stem_layers(names[1], 512)}
        layers |= {'fusion': linear(256, 128), 'head': linear(128, 10)}

        def forward(layers, inputs):
            for key in filter(lambda key: '/' in key, layers):
                layers[key].eval()
            stems = [stem_of(layers, inputs[name], name) for name in names]
            return layers['head'](layers['fusion'](torch.cat(stems, 1)))

        for layer in list(layers.values())[:-2]:
            layer.requires_grad_(False)
    else:
        layers = stem_layers('stem', 512 * len(names))
        layers |= {'bn2': norm(128), 'fc3': linear(128, 64), 'bn3': norm(64)}
        layers['head'] = linear(64, 10)

        def forward(layers, inputs):
            x = stem_of(layers, torch.cat([inputs[name] for name in names], 1), 'stem')
            x = layers['bn3'](layers['fc3'](layers['bn2'](x).relu())).relu()
            return layers['head'](x)

    draw = np.random.default_rng(0)
    x = {name: draw.standard_normal((24, 512), np.float32) for name in names}
    agrees_with_twin(f'openl3_baseline_{variant}', layers, forward, x, dropout=0.0)
