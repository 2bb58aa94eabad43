import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.dropout import Dropout, ModalityDropout, random_bits

KEYS = {'dropout': jax.random.key(5)}


def dropped(x, rate=0.2, keys=KEYS, **options):
    return Dropout(rate).apply({}, x, train=True, rngs=keys, **options)


def test_a_share_is_zero_and_the_rest_is_scaled_up():
    y = np.asarray(dropped(jnp.ones((400, 500))))
    np.testing.assert_allclose(np.unique(y), [0, 1.25])
    assert abs((y == 0).mean() - 0.2) < 0.005  # over five standard deviations of 200,000 draws
    # Neither rows nor columns share their draws.
    assert abs((y == 0).mean(axis=0) - 0.2).max() < 0.1
    assert abs((y == 0).mean(axis=1) - 0.2).max() < 0.1


def test_evaluation_and_rate_zero_leave_values_alone():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True), x)


def test_a_row_keeps_its_draws_in_a_batch_of_another_size():
    x = jnp.ones((8, 3, 16))
    np.testing.assert_array_equal(dropped(x)[:5], dropped(x[:5]))
    assert not np.array_equal(dropped(x)[0], dropped(x)[1])


def test_another_key_draws_differently():
    x = jnp.ones((8, 64))
    other = {'dropout': jax.random.key(6)}
    assert not np.array_equal(dropped(x), dropped(x, keys=other))


def test_two_devices_draw_what_one_draws():
    x = jnp.ones((8, 64))
    spread = jax.pmap(
        lambda x, place: dropped(x, place=place), axis_name='batch', devices=jax.devices()[:2]
    )
    place = np.arange(8).reshape(2, 4)
    np.testing.assert_array_equal(spread(x.reshape(2, 4, 64), place).reshape(8, 64), dropped(x))


def test_an_entry_of_several_rows_draws_by_its_place():
    x = jnp.ones((12, 64))  # three rows for each of four entries
    dealt = x.reshape(2, 2, 3, 64)[:, 1].reshape(6, 64), jnp.array([1, 3])
    expected = np.asarray(dropped(x)).reshape(2, 2, 3, 64)[:, 1].reshape(6, 64)
    np.testing.assert_array_equal(dropped(dealt[0], place=dealt[1]), expected)


def test_every_bit_is_fair_and_rows_places_and_keys_are_independent():
    rows = jnp.arange(2000, dtype=jnp.uint32)
    bits = np.asarray(random_bits(jax.random.key(1), rows, 64))
    other = np.asarray(random_bits(jax.random.key(2), rows, 64))
    ones = np.unpackbits(bits.view(np.uint8)).reshape(-1, 32)
    bound = 6 * 0.5 / np.sqrt(bits.size)  # six standard deviations
    assert np.abs(ones.mean(axis=0) - 0.5).max() < bound
    values = bits / 2.0**32 - 0.5
    for a, b in (
        (values[1:], values[:-1]),
        (values[:, 1:], values[:, :-1]),
        (values[2:], values[:-2]),
        (values, other / 2.0**32 - 0.5),
    ):
        assert abs((a * b).mean() * 12) < 6 / np.sqrt(a.size)
    assert len(np.unique(bits)) > bits.size - 10  # 2 of 128,000 words of 32 bits may meet


def test_steps_and_layers_draw_differently():
    # a step folds its number into the key, a layer its path: small numbers, as here
    keys = [jax.random.fold_in(jax.random.key(0), step) for step in range(200)]
    row = jnp.zeros(1, jnp.uint32)
    draws = np.concatenate([random_bits(key, row, 200) for key in keys]) / 2.0**32
    assert abs(draws.mean() - 0.5) < 6 / np.sqrt(12 * draws.size)
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 6 / np.sqrt(12 * 200)
    correlation = np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]
    assert abs(correlation) < 6 / np.sqrt(draws.size)


def left(is_there, rate=0.3, **options):
    return ModalityDropout(rate).apply({}, is_there, train=True, rngs=KEYS, **options)


def test_one_modality_is_left_out_as_often_as_the_rate_says_and_never_the_last():
    kept = np.asarray(left(jnp.ones((20_000, 2), bool)))
    assert kept.any(axis=1).all()
    shares = (~kept).mean(axis=0)
    assert abs(shares - 0.15).max() < 0.01  # four standard deviations of 20,000 draws
    alone = jnp.tile(jnp.array([[True, False]]), (500, 1))
    np.testing.assert_array_equal(left(alone, rate=0.99), alone)
    whole = jnp.ones((5, 2), bool)
    np.testing.assert_array_equal(ModalityDropout(0.9).apply({}, whole, train=False), whole)


def test_the_draw_of_modalities_is_worked_out_by_hand_and_the_same_on_two_devices():
    is_there = jnp.ones((64, 2), bool)
    words = np.asarray(random_bits(_key_of_a_layer(), jnp.arange(64, dtype=jnp.uint32), 2))
    expected = np.ones((64, 2), bool)
    for row, (share, which) in enumerate(words.astype(np.int64)):
        if share / 2**32 < 0.3:
            expected[row, which % 2] = False
    np.testing.assert_array_equal(left(is_there), expected)
    spread = jax.pmap(
        lambda x, place: left(x, place=place), axis_name='batch', devices=jax.devices()[:2]
    )
    place = np.arange(64).reshape(2, 32)
    found = spread(is_there.reshape(2, 32, 2), place).reshape(64, 2)
    np.testing.assert_array_equal(found, expected)


def _key_of_a_layer():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self):
            return self.make_rng('dropout')

    return Layer().apply({}, rngs=KEYS)
