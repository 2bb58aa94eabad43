import jax
import numpy as np
import pytest

from avsc_jax import models

EMBEDDINGS = {'audio_embedding': 5, 'image_embedding': 4}
SMALL = {'hidden': 12, 'num_classes': 3}
VARIANTS = 'early', 'intermediate', 'late_concat', 'late_mean', 'weighted', 'audio', 'video'


def narrow(variant: str, **options):
    """A narrow network of the variant, and variables of which none is 0 or 1."""
    names = {'audio': ['audio_embedding'], 'video': ['image_embedding']}
    names = names.get(variant, EMBEDDINGS)
    options = {**SMALL, 'embeddings': {name: EMBEDDINGS[name] for name in names}, **options}
    if variant != 'weighted':
        options['widths'] = (6, 7) if variant.startswith('late') else (8, 7)
    model = models.create_model(f'feng_{variant}', **options)
    draw, shapes = np.random.default_rng(0), models.variable_shapes(model)
    return model, jax.tree.map(lambda x: draw.uniform(0.5, 1.5, x.shape).astype('f4') - 0.4, shapes)


def inputs(*leading: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {
        name: draw.standard_normal((*leading, width), np.float32)
        for name, width in EMBEDDINGS.items()
    }


def dense(layer, x):
    return x @ layer['kernel'] + layer['bias'][None]


def rectified(norm, stats, x):
    normal = (x - stats['mean'][None]) / np.sqrt(stats['var'] + 1e-5)[None]
    return np.maximum(normal * norm['scale'][None] + norm['bias'][None], 0)


def branch(variables, name, x):
    params, stats = variables['params'][name], variables['batch_stats'][name]
    return dense(params['fc2'], rectified(params['bn1'], stats['bn1'], dense(params['fc1'], x)))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def joined(x):
    return np.concatenate(x, axis=1)


@pytest.mark.parametrize('variant', ['early', 'intermediate', 'audio', 'video'])
def test_fused_features_pass_two_linear_layers(variant):
    model, variables = narrow(variant)
    x, params = {name: inputs(4)[name] for name in model.input_spec}, variables['params']
    if variant == 'early':
        x = {'joined': joined(list(x.values()))}
    branches = [branch(variables, name, value) for name, value in x.items()]
    assert {b.shape[1] for b in branches} == {8 // len(branches)}
    embedding = dense(params['fusion'], joined(branches))
    logits, out = model.apply(variables, inputs(4))
    np.testing.assert_allclose(out['embedding'], embedding, rtol=1e-5)
    np.testing.assert_allclose(logits, dense(params['head'], embedding), rtol=1e-5)


@pytest.mark.parametrize('variant', ['late_concat', 'late_mean'])
def test_late_fusion_joins_the_answers_or_takes_their_mean(variant):
    model, variables = narrow(variant)
    params, answers = variables['params'], []
    for name, x in inputs(4).items():
        x = dense(params[f'{name}_fc3'], branch(variables, name, x))
        answers.append(dense(params['head'][name], x))
    logits, _ = model.apply(variables, inputs(4))
    mean = (answers[0] + answers[1]) / 2
    expected = mean if variant == 'late_mean' else dense(params['head']['joined'], joined(answers))
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


@pytest.mark.parametrize('options', [{}, {'scalar': True}, {'of_probabilities': True}])
def test_the_picture_s_answer_is_weighted_by_what_was_learned(options):
    model, variables = narrow('weighted', **options)
    params, answers = variables['params'], []
    for name, x in inputs(4).items():
        stats = variables['batch_stats'][f'{name}_bn1']
        x = rectified(params[f'{name}_bn1'], stats, dense(params[f'{name}_fc1'], x))
        answers.append(dense(params['head'][name], x))
    if 'of_probabilities' in options:
        answers = [softmax(x) for x in answers]
    weight = params['head']['weight']
    assert weight.shape == ((1,) if 'scalar' in options else (3,))
    logits, out = model.apply(variables, inputs(4))
    np.testing.assert_allclose(logits, answers[0] + weight[None] * answers[1], rtol=1e-5)
    np.testing.assert_array_equal(out['weight'], weight)


def test_weights_start_between_minus_and_plus_a_tenth():
    model, _ = narrow('weighted', num_classes=30)
    weights = models.init(model)['params']['head']['weight']
    assert 0.05 < abs(weights).max() <= 0.1
    assert weights.min() < 0 < weights.max()


@pytest.mark.parametrize('variant', ['early', 'weighted'])
def test_frames_are_averaged(variant):
    model, variables = narrow(variant)
    clips, _ = model.apply(variables, inputs(4, 7))
    means = {name: x.mean(axis=1) for name, x in inputs(4, 7).items()}
    np.testing.assert_allclose(clips, model.apply(variables, means)[0], rtol=1e-5)


@pytest.mark.parametrize('variant', VARIANTS)
def test_zero_classes_give_the_embedding(variant):
    model, variables = narrow(variant, num_classes=0)
    assert 'head' not in variables['params']
    first, out = model.apply(variables, inputs(2))
    np.testing.assert_array_equal(first, out['embedding'])
    assert set(out) == {'embedding'}


def test_wrong_inputs_are_an_error():
    model, variables = narrow('weighted')
    with pytest.raises(
        ValueError, match=r'audio_embedding is \[2, 4\], the network expects \[B, 5'
    ):
        model.apply(variables, {**inputs(2), 'audio_embedding': inputs(2)['image_embedding']})
    with pytest.raises(ValueError, match='no input audio_embedding among image_embedding'):
        model.apply(variables, {'image_embedding': inputs(2)['image_embedding']})


@pytest.mark.parity
@pytest.mark.parametrize(
    'variant',
    [
        'early',
        'intermediate',
        'late_concat',
        'weighted',
        *(pytest.param(v, marks=pytest.mark.slow) for v in ('late_mean', 'audio', 'video')),
    ],
)
def test_answers_gradients_and_training_are_pytorch_s(variant, agrees_with_twin):
    import torch

    linear, norm = torch.nn.Linear, torch.nn.BatchNorm1d
    audio, image = EMBEDDINGS
    names = {'audio': [audio], 'video': [image]}.get(variant, [audio, image])

    def hidden(layers, place, x):
        return layers[f'{place}bn1'](layers[f'{place}fc1'](x)).relu()

    layers = {}
    streams = {'joined': 1024} if variant == 'early' else dict.fromkeys(names, 512)
    for name, size in streams.items():
        mark = '_' if variant == 'weighted' else '/'
        layers |= {f'{name}{mark}fc1': linear(size, 512), f'{name}{mark}bn1': norm(512)}
        if variant == 'weighted':
            layers[f'head/{name}'] = linear(512, 10)
        else:
            layers[f'{name}/fc2'] = linear(512, 256 if len(streams) == 1 else 128)
        if variant.startswith('late'):
            layers |= {f'{name}_fc3': linear(128, 128), f'head/{name}': linear(128, 10)}
    if variant == 'weighted':
        layers['head'] = torch.nn.PReLU(10)  # for the sake of its parameter `weight`
    elif variant == 'late_concat':
        layers['head/joined'] = linear(20, 10)
    elif variant != 'late_mean':
        layers |= {'fusion': linear(256, 128), 'head': linear(128, 10)}

    def forward(layers, inputs):
        x = {name: inputs[name] for name in names}
        if variant == 'early':
            x = {'joined': torch.cat(list(x.values()), 1)}
        if variant == 'weighted':
            first, second = (layers[f'head/{n}'](hidden(layers, f'{n}_', x[n])) for n in names)
            return first + layers['head'].weight * second
        ends = {n: layers[f'{n}/fc2'](hidden(layers, f'{n}/', value)) for n, value in x.items()}
        if not variant.startswith('late'):
            return layers['head'](layers['fusion'](torch.cat(list(ends.values()), 1)))
        answers = [layers[f'head/{n}'](layers[f'{n}_fc3'](end)) for n, end in ends.items()]
        if variant == 'late_mean':
            return torch.stack(answers).mean(0)
        return layers['head/joined'](torch.cat(answers, 1))

    draw = np.random.default_rng(0)
    x = {name: draw.standard_normal((24, 512), np.float32) for name in names}
    agrees_with_twin(f'feng_{variant}', layers, forward, x, dropout=0.0)
