"""RandAugment by hand; tests/augment/test_parity.py compares it with torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax.augment.rand_augment import (
    OPS,
    SIGNED,
    apply_op,
    draw_ops,
    op_strengths,
    rand_augment,
)

LEVELS = np.array([[0, 30, 60], [90, 120, 150], [180, 210, 240]], np.float32)
X = np.repeat(LEVELS[..., None], 3, axis=2) / 255


def applied(name, strength=0.0):
    y = np.asarray(jax.jit(apply_op)(X, OPS.index(name), strength))
    return np.round(255 * y[..., 0]).astype(int).tolist()


@pytest.mark.parametrize(
    ('name', 'strength', 'expected'),
    [
        ('Identity', 0.0, LEVELS.tolist()),
        ('TranslateX', 1.0, [[0, 0, 30], [0, 90, 120], [0, 180, 210]]),
        ('TranslateY', -1.0, [[90, 120, 150], [180, 210, 240], [0, 0, 0]]),
        ('Rotate', 90.0, [[60, 150, 240], [30, 120, 210], [0, 90, 180]]),  # counterclockwise
        ('ShearX', 0.8, [[0, 30, 60], [120, 150, 0], [240, 0, 0]]),
        ('Brightness', 0.5, [[0, 45, 90], [135, 180, 225], [255, 255, 255]]),
        ('Contrast', -0.5, [[60, 75, 90], [105, 120, 135], [150, 165, 180]]),
        ('Color', 0.9, LEVELS.tolist()),  # of greys
        ('Sharpness', -1.0, [[0, 30, 60], [90, 120, 150], [180, 210, 240]]),  # 120 is the mean
        ('Posterize', 1.0, [[0, 0, 0], [0, 0, 128], [128, 128, 128]]),
        ('Solarize', 150.0, [[0, 30, 60], [90, 120, 105], [75, 45, 15]]),
        ('AutoContrast', 0.0, [[0, 31, 63], [95, 127, 159], [191, 223, 255]]),
        ('Equalize', 0.0, LEVELS.tolist()),  # too few pixels for Pillow's steps
    ],
)
def test_an_operation_is_worked_out_by_hand(name, strength, expected):
    assert np.abs(np.array(applied(name, strength)) - np.array(expected)).max() <= 1


def test_operations_are_equally_likely_and_signed_ones_go_both_ways():
    ops, signs = jax.vmap(lambda key: draw_ops(key, 2))(jax.random.split(jax.random.key(0), 7000))
    ops, signs = np.asarray(ops).ravel(), np.asarray(signs).ravel()
    np.testing.assert_allclose(np.bincount(ops, minlength=14) / len(ops), 1 / 14, atol=0.01)
    for k, name in enumerate(OPS):
        share = (signs[ops == k] < 0).mean()
        assert abs(share - 0.5) < 0.08 if name in SIGNED else share == 0, name


def test_each_picture_of_a_batch_gets_operations_of_its_own():
    x = jnp.tile(jax.random.uniform(jax.random.key(1), (16, 16, 3)), (12, 1, 1, 1))
    keys = jax.random.split(jax.random.key(2), 12)
    made = jax.jit(jax.vmap(lambda key, x: rand_augment(key, x, num_ops=2, magnitude=9)))(keys, x)
    assert len({np.asarray(each).tobytes() for each in made}) > 8
    levels = 255 * np.asarray(made)
    assert np.abs(levels - levels.round()).max() < 1e-3
    assert 0 <= levels.min() <= levels.max() <= 255.1
    one = jax.jit(lambda key, x: rand_augment(key, x))(keys[3], x[3])
    np.testing.assert_allclose(made[3], one, atol=1e-6)


@pytest.mark.parametrize('options', [{'num_ops': -1}, {'magnitude': 31}, {'magnitude': -1}])
def test_numbers_outside_their_range_are_a_sentence(options):
    with pytest.raises(ValueError, match='it must be a whole number'):
        rand_augment(jax.random.key(0), jnp.ones((4, 4, 3)), **options)


def test_magnitude_0_leaves_what_has_a_strength_alone():
    strengths = op_strengths(0, 72, 101)
    for name in (*SIGNED, 'Posterize', 'Solarize'):
        if name != 'Solarize':
            assert applied(name, float(strengths[OPS.index(name)])) == LEVELS.astype(int).tolist()
