"""What changes the steps of training, one field after another, against values worked by hand."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from avsc_jax import losses, models
from avsc_jax.augment.mix import mixup
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models import build
from avsc_jax.runs import summary
from avsc_jax.runs.state import TrainState
from avsc_jax.training import config as fields
from avsc_jax.training import recipe
from avsc_jax.training.optimizer import averaged, make_optimizer
from avsc_jax.training.recipe import Recipe
from avsc_jax.training.steps import Steps

SETTINGS = dict(learning_rate=0.1, drop_at=(), factor=0.1, momentum=0.9, weight_decay=0.1)


class Net(nn.Module):
    """Two blocks with batch normalisation, and a head; `remat` recomputes the blocks."""

    DEPTH = (r'conv(\d)|bn(\d)',)
    num_classes: int = 3
    remat: bool = False
    input_spec = jax.ShapeDtypeStruct((1, 6, 6, 2), jnp.float32)

    @nn.compact
    def __call__(self, image, *, train=False):
        def block(module, x, n):
            x = Conv(4, (3, 3), name=f'conv{n}')(x)
            return nn.relu(BatchNorm(name=f'bn{n}')(x, train=train))

        x = image
        for n in (1, 2):
            x = (nn.remat(block, static_argnums=(2,)) if self.remat else block)(self, x, n)
        embedding = x.mean(axis=(1, 2), dtype=jnp.float32)
        return Linear(self.num_classes, name='head')(embedding), {'embedding': embedding}


def batch(rows=8):
    rng = np.random.default_rng(0)
    return {
        'image': rng.normal(size=(rows, 6, 6, 2)).astype(np.float32),
        'label': np.array([0, 0, 0, 1, 1, 2, 0, 1][:rows], np.int32),
        'mask': np.arange(rows) < rows - 2,
    }


def step(model=None, *, settings=(), steps=1, **options):
    """(state before, state after, loss) of some steps on one batch."""
    model = model or Net()
    config = ConfigDict({**SETTINGS, **dict(settings)})
    optimizer, _ = make_optimizer(config, 5, recipe.rate_factors(config, model))
    made = Steps(model, optimizer, losses.cross_entropy, jax.devices()[:1], **options)
    begun = TrainState.create(model, optimizer, seed=0)
    state = made.place(jax.tree.map(jnp.copy, begun))
    for _ in range(steps):
        state, loss = made.train(state, batch())
    return begun, state, float(loss)


@pytest.mark.parametrize('remat', [False, True])
def test_frozen_layers_stay_and_normalise_by_their_running_statistics(remat):
    model, settings = Net(remat=remat), {'train_part': 'head', 'clip_norm': 1e-3}
    frozen = recipe.frozen(ConfigDict(settings), model)
    begun, state, _ = step(model, settings=settings, recipe=Recipe(frozen=frozen), steps=2)
    for name in ('conv1', 'bn1', 'conv2', 'bn2'):
        jax.tree.map(np.testing.assert_array_equal, begun.params[name], state.params[name])
    jax.tree.map(np.testing.assert_array_equal, begun.batch_stats, state.batch_stats)
    assert np.abs(begun.params['head']['kernel'] - state.params['head']['kernel']).max() > 1e-5
    # the head sees what evaluation shows it
    rows = batch()
    logits, _ = model.apply(begun.variables, rows['image'])
    each = losses.cross_entropy(logits, rows['label'])[rows['mask']]
    _, _, loss = step(model, settings=settings, recipe=Recipe(frozen=frozen))
    assert loss == pytest.approx(float(each.mean()), rel=1e-6)


def test_no_gradient_is_computed_for_frozen_layers():
    def convolutions(frozen):
        model = Net()
        trained = Recipe(frozen=frozen).trained

        def total(params, stats, x):
            variables = {'params': trained(params), 'batch_stats': stats}
            return model.apply(variables, x)[0].sum()

        args = models.variable_shapes(model)
        image = jax.ShapeDtypeStruct((2, 6, 6, 2), jnp.float32)
        gradient = jax.make_jaxpr(jax.grad(total))(args['params'], args['batch_stats'], image)
        return str(gradient).count('conv_general_dilated[')

    everything = recipe.frozen(ConfigDict({'train_part': 'head'}), Net())
    assert convolutions(everything) == 2 < convolutions(frozenset())


def test_the_last_stage_trains_with_the_head():
    found = recipe.rate_factors(
        ConfigDict({'train_part': 'last_stage'}), models.create_model('resnet18')
    )
    kernels = {name: leaves for name, leaves in found.items() if name.startswith('layer')}
    trained = {name for name, leaves in kernels.items() if leaves['conv1']['kernel']}
    assert trained == {'layer4_0', 'layer4_1'} and found['head']['bias'] == 1


def test_rates_fall_from_the_head_to_the_input():
    decay = {'layer_decay': 0.5}
    plain = step()[:2]
    fine = step(settings=decay)[:2]
    for name, factor in (('head', 1), ('conv2', 0.5), ('bn2', 0.5), ('conv1', 0.25), ('bn1', 0.25)):
        for leaf in plain[0].params[name]:
            moved, less = (
                new.params[name][leaf] - old.params[name][leaf] for old, new in (plain, fine)
            )
            np.testing.assert_allclose(less, factor * moved, rtol=1e-4, atol=1e-7)


def test_the_average_of_parameters_is_its_recursion_and_is_what_is_scored():
    config = {'ema': 0.9}
    begun, state, _ = step(settings=config)
    expected = 0.9 * begun.params['head']['kernel'] + 0.1 * state.params['head']['kernel']
    np.testing.assert_allclose(state.scored['params']['head']['kernel'], expected, rtol=1e-6)
    assert state.variables['params'] is state.params
    assert state.scored['batch_stats'] is state.batch_stats
    assert (
        begun.scored['params']['head']['kernel'].tolist() == begun.params['head']['kernel'].tolist()
    )
    plain = step()[1]
    assert plain.scored == plain.variables  # none is kept
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), state.params, plain.params)


def test_an_average_begins_at_the_weights_that_training_begins_with():
    optimizer = averaged(optax.sgd(0.1), 0.9)
    state = TrainState.create(Net(), optimizer, seed=0)
    published = jax.tree.map(lambda x: x + 1, state.params)
    begun = state.replace(params=published).begun()
    jax.tree.map(np.testing.assert_array_equal, begun.scored['params'], published)
    bare = TrainState.create(Net(), optax.sgd(0.1), seed=0)
    assert bare.begun() is bare


def test_a_clipped_gradient_has_the_norm_that_is_allowed():
    for limit, norm in ((1e-2, 1e-2), (1e6, None)):
        settings = {'clip_norm': limit, 'weight_decay': 0.0, 'momentum': 0.0}
        begun, state, _ = step(settings=settings)
        moved = jax.tree.map(jnp.subtract, begun.params, state.params)
        found = float(optax.tree.norm(moved)) / 0.1
        free = step(settings={**settings, 'clip_norm': 0.0})
        expected = (
            norm
            or float(optax.tree.norm(jax.tree.map(jnp.subtract, free[0].params, free[1].params)))
            / 0.1
        )
        assert found == pytest.approx(expected, rel=1e-3)  # of small differences of parameters


def test_class_weights_give_the_weighted_mean_of_the_whole_batch():
    weights, rows = np.float32([1, 3, 0.5]), batch()
    begun, _, loss = step(recipe=Recipe(class_weights=weights))
    (logits, _), _ = Net().apply(
        begun.variables, rows['image'][:6], train=True, mutable=['batch_stats']
    )
    each = np.asarray(losses.cross_entropy(logits, rows['label'][:6]))
    of = weights[rows['label'][:6]]
    assert loss == pytest.approx((of * each).sum() / of.sum(), rel=1e-5)
    # a batch without weight trains nothing
    begun, state, loss = step(recipe=Recipe(class_weights=np.zeros(3, np.float32)))
    assert loss == 0 and np.isfinite(state.params['head']['kernel']).all()


def test_mixed_rows_are_weighted_by_class_and_their_mean_is_a_plain_one():
    weights, rows = np.float32([1, 3, 0.5]), batch()
    made = Steps(
        Net(),
        optax.sgd(0.1),
        losses.cross_entropy,
        jax.devices()[:1],
        mix=partial(mixup, alpha=0.4),
        recipe=Recipe(class_weights=weights),
    )
    np.testing.assert_array_equal(made._shares(rows), rows['mask'])
    logits, target = jnp.float32([[1, 2, 0]]), jnp.float32([[0.7, 0, 0.3]])
    found = made._losses(logits, {'target': target, 'label': np.int32([0])})
    expected = -(weights * np.asarray(target) * np.asarray(jax.nn.log_softmax(logits))).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_labels_of_several_classes_are_weighted_and_smoothed_one_by_one():
    def loss(logits, labels):
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1)

    weights = np.float32([1, 3, 0.5])
    options = Recipe(class_weights=weights, label_smoothing=0.2)
    made = Steps(Net(), optax.sgd(0.1), loss, jax.devices()[:1], recipe=options)
    labels = np.float32([[1, 0, 1], [0, 0, 0]])
    prepared = made._prepared(jax.random.key(0), {'label': labels, 'mask': np.ones(2, bool)}, {})
    np.testing.assert_allclose(prepared['target'], 0.8 * labels + 0.1, rtol=1e-6)
    logits = jnp.float32([[1, 2, 0], [-1, 0, 3]])
    p = np.asarray(jax.nn.sigmoid(logits))
    smooth = 0.8 * labels + 0.1
    each = -smooth * np.log(p) - (1 - smooth) * np.log(1 - p)
    np.testing.assert_allclose(made._losses(logits, prepared), (weights * each).mean(1), rtol=1e-5)
    np.testing.assert_array_equal(made._shares(prepared), [1, 1])


def test_half_precision_keeps_float32_where_numbers_are_kept():
    begun, state, loss = step(recipe=Recipe(is_half=True))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((state.params, state.batch_stats)))
    _, plain, expected = step()
    assert loss != expected and loss == pytest.approx(expected, rel=2e-2)
    moved, less = (
        np.concatenate(
            [
                np.ravel(x - y)
                for x, y in zip(
                    jax.tree.leaves(end.params), jax.tree.leaves(begun.params), strict=True
                )
            ]
        )
        for end in (plain, state)
    )
    assert np.dot(moved, less) / np.linalg.norm(moved) / np.linalg.norm(less) > 0.999


@pytest.mark.parametrize('remat', [False, True])
def test_half_precision_multiplies_in_bfloat16_but_in_the_head(remat):
    made = Steps(
        Net(remat=remat),
        optax.sgd(0.1),
        losses.cross_entropy,
        jax.devices()[:1],
        recipe=Recipe(is_half=True),
    )
    state = TrainState.create(Net(), optax.sgd(0.1), seed=0)
    program = str(jax.make_jaxpr(made._train_step)(state, batch(), {}))
    lines = [line for line in program.splitlines() if 'conv_general_dilated[' in line]
    assert len(lines) >= 5 and all(':bf16' in line for line in lines)
    of_head = [line for line in program.splitlines() if ' dot_general[' in line]
    assert of_head and all(':f32' in line for line in of_head)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'cutmix_alpha': 1.0}, 'cutmix takes one batch of pictures .* a dictionary of features/'),
        ({'class_weights': (1, 2)}, r'class_weights is \[1, 2\]; it must be 10 numbers'),
        ({'class_weights': ('a',) * 10}, r"\['a', .*\]; it must be 10 numbers"),
        ({'class_weights': ((1, 2), 3)}, r'\[\(1, 2\), 3\]; it must be 10 numbers'),
        ({'class_weights': (0,) * 10}, 'is 0 for every class, so that nothing is trained'),
        ({'class_weights': (-1,) * 10}, 'it must be 10 numbers of 0 or more'),
    ],
)
def test_a_setting_that_the_network_cannot_take_is_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        recipe.check(ConfigDict(changes), models.create_model('clip_late_fusion'))


TRAINED = (
    *('clip_fusion', 'hitachi_audio', 'hitachi_image', 'ioacas_audio', 'ioacas_image'),
    *('ioacas_fusion', 'feng_fusion', 'openl3_baseline', 'hou_dual_stream', 'efficientat_audio'),
)
EVERYTHING = dict(
    precision='bfloat16',
    accumulate=2,
    ema=0.9,
    clip_norm=1.0,
    layer_decay=0.7,
    label_smoothing=0.1,
    class_weights='balanced',
    mixup_alpha=0.2,
)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    'part', [pytest.param('all', marks=SLOW), 'last_stage', pytest.param('head', marks=SLOW)]
)
@pytest.mark.parametrize('name', TRAINED)
def test_every_trained_system_takes_every_field(name, part, demo_config):
    config = demo_config(name, **EVERYTHING, train_part=part)
    model = build.make_model(config.model.to_dict(), num_classes=10)
    is_picture = not isinstance(model.input_spec, dict) and len(model.input_spec.shape) == 4
    with config.unlocked():
        config.cutmix_alpha = 1.0 if is_picture else 0.0
    fields.check_complete(config)
    recipe.check(config, model)
    factors = recipe.rate_factors(config, model)
    optimizer, _ = make_optimizer(config, 5, factors)
    options = recipe.make(config, model, np.arange(20) % 10)
    assert (options.accumulate, options.is_half, options.label_smoothing) == (2, True, 0.1)
    assert options.class_weights.tolist() == [1] * 10
    assert len(options.frozen) > 0 if part == 'head' else part == 'last_stage' or not options.frozen
    loss = losses.make_loss(config.loss)
    made = Steps(
        model, optimizer, loss, jax.devices()[:1], mix=recipe.mixing(config), recipe=options
    )
    rows = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((4, *x.shape[1:]), x.dtype), model.input_spec
    )
    rows = rows if isinstance(rows, dict) else {'image': rows}
    labels = {
        'label': jax.ShapeDtypeStruct((4,), np.int32),
        'mask': jax.ShapeDtypeStruct((4,), bool),
    }
    state = jax.eval_shape(lambda: TrainState.create(model, optimizer, seed=0).begun())
    after, loss = jax.eval_shape(made._train_step, state, rows | labels, {})
    types = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (state, after)]
    assert types[0] == types[1] and loss.dtype == np.float32
    told = summary.training(config, [])
    assert all(word in told for word in ('bfloat16', 'of 2 parts', 'decay 0.9', 'mixup', 'by 0.1'))


def test_the_rate_of_a_part_is_scaled_and_0_leaves_it_as_it_is():
    plain = step()
    for scale in (0.1, 0.0):
        begun, state, _ = step(settings={'rate_scale': {'conv1': scale}})
        moved = jax.tree.map(lambda x, y: np.asarray(x) - y, state.params, begun.params)
        whole = jax.tree.map(lambda x, y: np.asarray(x) - y, plain[1].params, plain[0].params)
        np.testing.assert_allclose(
            moved['conv1']['kernel'], scale * whole['conv1']['kernel'], rtol=1e-4, atol=1e-7
        )
        np.testing.assert_allclose(moved['head']['kernel'], whole['head']['kernel'], atol=1e-7)
    both = dict(rate_scale={'conv1': 0.5}, layer_decay=0.5)
    factors = recipe.rate_factors(ConfigDict(both), Net())
    assert (factors['conv1']['kernel'], factors['bn1']['scale']) == (0.125, 0.25)
    frozen = recipe.frozen(ConfigDict(dict(rate_scale={'conv1': 0})), Net())
    assert ('conv1', 'kernel') in frozen and ('bn1', 'scale') not in frozen


@pytest.mark.parametrize(
    ('scale', 'sentence'),
    [
        ({'conv3': 0.1}, r"names 'conv3', and the network has .* \(did you mean conv"),
        ({'conv1': -1.0}, 'conv1 is -1.0; it must be a finite number of 0 or more'),
        ({'conv1': 'slow'}, "conv1 is 'slow'; it must be a finite number"),
        ({n: 0 for n in ('conv1', 'bn1', 'conv2', 'bn2', 'head')}, 'is 0 for every part'),
    ],
)
def test_a_wrong_rate_scale_is_a_sentence(scale, sentence):
    with pytest.raises(ValueError, match=sentence):
        recipe.check(ConfigDict(dict(rate_scale=scale)), Net())
