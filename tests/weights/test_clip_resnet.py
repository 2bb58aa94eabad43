import jax
import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import models, weights

NARROW = {'width': 8, 'layers': (1, 2, 1, 1), 'image_size': 64, 'output_dim': 12}


def source_state(variables: dict) -> dict[str, np.ndarray]:
    """Flax variables under the names and in the layout of OpenAI's archives."""
    state = {}
    for path, value in traverse_util.flatten_dict(variables, sep='.').items():
        *modules, leaf = path.split('.')[1:]
        if leaf == 'kernel':
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
        names = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean'}
        names |= {'var': 'running_var'}
        modules = [m if m.endswith('proj') else m.replace('_', '.') for m in modules]
        state['.'.join(['visual', *modules, names.get(leaf, leaf)])] = value
    return state


@pytest.fixture(scope='module')
def variables():
    return weights.random_variables(models.create_model('clip_rn101', **NARROW), seed=3)


def test_openai_names_come_back_as_the_same_variables(variables):
    state = source_state(variables)
    assert 'visual.layer2.1.bn3.running_var' in state
    assert 'visual.layer1.0.downsample.0.weight' in state
    other_tower = {
        'logit_scale': np.float32(4.6),
        'input_resolution': np.array(224),
        'transformer.resblocks.0.ln_1.weight': np.ones(4),
        'text_projection': np.ones((4, 4)),
        'positional_embedding': np.ones((77, 4)),
        'visual.bn1.num_batches_tracked': np.array(7),
    }
    converted = weights.convert('clip_rn101', state | other_tower, **NARROW)
    assert jax.tree.structure(converted) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, converted, variables)


def test_half_precision_becomes_float32(variables):
    state = {name: value.astype(np.float16) for name, value in source_state(variables).items()}
    converted = weights.convert('clip_rn101', state, **NARROW)
    assert {leaf.dtype for leaf in jax.tree.leaves(converted)} == {np.dtype(np.float32)}


def test_everything_amiss_is_in_one_error(variables):
    state = source_state(variables)
    del state['visual.layer2.1.conv2.weight']
    state['visual.layer9.0.conv1.weight'] = np.zeros((1, 1, 1, 1))
    state['visual.bn2.bias'] = np.zeros(3)
    with pytest.raises(ValueError) as error:
        weights.convert('clip_rn101', state, **NARROW)
    missing, unexpected, misshaped = str(error.value).split(';')
    assert missing.endswith('missing: params/layer2_1/conv2/kernel')
    assert unexpected == ' unexpected: visual.layer9.0.conv1.weight'
    assert misshaped == ' wrong shape: visual.bn2.bias (3,) for params/bn2/bias (4,)'


@pytest.mark.parametrize('shape', [(), (4,), (4, 3), (4, 3, 3, 2)])
def test_any_wrong_shape_is_reported(variables, shape):
    state = source_state(variables) | {'visual.conv1.weight': np.zeros(shape)}
    with pytest.raises(ValueError, match=r'missing: none.*wrong shape: visual.conv1.weight'):
        weights.convert('clip_rn101', state, **NARROW)


@pytest.mark.parity
@pytest.mark.parametrize(
    ('name', 'peer'), [('clip_rn101', 'RN101-quickgelu'), ('clip_rn50x4', 'RN50x4-quickgelu')]
)
def test_embedding_and_stages_are_those_of_open_clip(name, peer, open_clip, randomized):
    import torch

    network = open_clip.create_model(peer).eval()
    state = randomized(network)
    model = models.create_model(name)
    images = np.random.default_rng(0).standard_normal((2, *model.input_spec.shape[1:]), np.float32)
    embedding, out = jax.jit(model.apply)(weights.convert(name, state), images)

    expected = {}
    for stage in ('layer1', 'layer2', 'layer3', 'layer4'):
        getattr(network.visual, stage).register_forward_hook(
            lambda _, __, value, stage=stage: expected.update({stage: value.permute(0, 2, 3, 1)})
        )
    with torch.no_grad():
        expected['embedding'] = network.visual(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(embedding, out['embedding'])
    for stage, value in expected.items():
        value = value.numpy()
        error = np.abs(out[stage] - value).max() / np.abs(value).max()
        print(f'{name} {stage}: relative error {error:.1e}')
        assert error < 1e-4  # float32 sums in another order, over a hundred layers
    assert np.abs(embedding[0] - embedding[1]).max() > 0.1 * np.abs(embedding).max()
