import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from avsc_jax.configs import clip_fusion, hitachi_image
from avsc_jax.layers.linear import Linear
from avsc_jax.models import build
from avsc_jax.training import config as fields
from avsc_jax.training import step_memory


class TwoLayers(nn.Module):
    num_classes: int = 3
    input_spec = jax.ShapeDtypeStruct((1, 5), jnp.float32)

    @nn.compact
    def __call__(self, x, *, train=False):
        x = jnp.tanh(Linear(7)(x))
        return Linear(self.num_classes, name='head')(x), {'embedding': x}


def settled(module, tokens='demo', **changes):
    config = module.get_config(tokens)
    config.update(config.demo)
    with config.unlocked():
        config.update(changes)
    return fields.filled(config)


def of(config):
    return step_memory.count(config, build.make_model(config.model.to_dict(), num_classes=10))


def test_the_bytes_of_two_layers_are_counted_by_hand():
    found = step_memory.count(settled(clip_fusion, batch_size=4), TwoLayers())
    parameters = 5 * 7 + 7 + 7 * 3 + 3
    # SGD keeps a momentum for each parameter; the head needs tanh's values, and tanh its slope
    assert found.gradients == 4 * parameters and found.inputs == 4 * 4 * 5
    assert 2 * 4 * parameters <= found.state <= 2 * 4 * parameters + 64  # counts of steps
    assert 4 * 4 * 7 <= found.activations <= 2 * 4 * 4 * 7


def test_parts_of_a_batch_half_precision_frozen_layers_and_an_average_change_what_they_should():
    image = functools.partial(settled, hitachi_image, batch_size=16)
    plain, parts = of(image()), of(image(accumulate=4))
    of_rows = plain.activations - parts.activations  # of 12; both hold as much of the parameters
    more = of(image(batch_size=32)).activations - plain.activations
    assert more == pytest.approx(of_rows * 16 / 12, rel=0.01)
    assert parts.inputs == plain.inputs
    half = of(image(precision='bfloat16'))
    assert 0.4 < half.activations / plain.activations < 0.9 and half.state == plain.state
    assert of(image(train_part='head')).activations < plain.activations / 100
    assert of(image(ema=0.99)).state - plain.state == pytest.approx(plain.gradients, rel=0.01)


def test_a_line_names_the_cards_that_hold_a_step_and_else_what_makes_it_smaller():
    config = settled(hitachi_image, '', batch_size=20)
    model = build.make_model({'name': 'regnetx_064'}, num_classes=10)
    config = config.copy_and_resolve_references()
    lines = {}
    for size in (448, 1200):
        with config.unlocked():
            config.size = (size, size)
        lines[size] = step_memory.text(config, model)
    assert 'should fit cards of 80 GB (counted' in lines[448]
    assert 'does not fit a card of 80 GB; a larger config.accumulate, or' in lines[1200]
    small = step_memory.text(settled(clip_fusion), TwoLayers())
    assert ' MB, of which activations 0.0 MB; should fit cards of 24 and 80 GB' in small


@pytest.mark.parametrize('name', ['resnet18', 'swin_tiny_patch4_window7_224'])
def test_the_count_is_near_that_of_the_compiled_step(name):
    size = 128 if name == 'resnet18' else 224
    config = settled(hitachi_image, batch_size=8, size=(size, size), model={'name': name})
    model = build.make_model({'name': name}, num_classes=10)
    variables = build.checkpoint_shapes(model)
    batch = step_memory.batch_of(config, model, 8)

    def gradient(variables, x):
        def loss(params):
            out = model.apply(
                {**variables, 'params': params}, x, train=True, mutable=['batch_stats'],
                rngs={'dropout': jax.random.key(0)},
            )  # fmt: skip
            return out[0][0].sum()

        return jax.grad(loss)(variables['params'])

    compiled = jax.jit(gradient).lower(variables, batch).compile()
    measured = compiled.memory_analysis().temp_size_in_bytes
    assert 0.6 < measured / step_memory.count(config, model).activations < 1.3
