from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from avsc_jax.augment.mix import mixup

MASK = jnp.array([True, True, False, True, True, False, True, True])
ROWS = jnp.where(MASK, jnp.arange(8.0), 1000.0)  # one number tells a row
TARGETS = jnp.eye(8)
KEYS = jax.random.split(jax.random.key(0), 4000)


@pytest.fixture(scope='module')
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets) of 4000 batches."""
    run = jax.vmap(lambda key: mixup(key, ROWS[:, None, None], TARGETS, MASK, alpha=0.5))
    return tuple(map(np.asarray, jax.jit(run)(KEYS)))


def test_real_rows_mix_with_real_rows_and_padding_stays(drawn):
    inputs, targets = drawn
    mask = np.asarray(MASK)
    assert inputs[:, mask].max() < 7.001
    np.testing.assert_allclose(inputs[:, ~mask], 1000, rtol=1e-6)
    np.testing.assert_allclose(targets[:, ~mask] - np.eye(8)[~mask], 0, atol=1e-6)
    # the same weight and partner in inputs and targets
    np.testing.assert_allclose(targets @ np.asarray(ROWS), inputs[..., 0, 0], rtol=1e-5)
    # a permutation: every real row is somebody's partner, so the columns keep their sums
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-5)


def test_every_real_row_is_a_partner_equally_often(drawn):
    others = drawn[1][:, 0] * (np.arange(8) != 0)
    partner = others.argmax(1)  # 0, the row itself, where no other has a part
    share = np.bincount(partner, minlength=8) / len(partner)
    np.testing.assert_allclose(share, np.asarray(MASK) / 6, atol=4 * np.sqrt(0.14 / len(partner)))


def test_one_weight_for_the_batch_from_the_beta_distribution(drawn):
    targets = drawn[1]
    own = targets[:, range(8), range(8)]  # 1 where a row is its own partner
    weights = own.min(1)
    assert ((own < weights[:, None] + 1e-6) | (own > 0.9999)).all()
    inner = weights[(weights > 0.001) & (weights < 0.999)]  # ends: hard to tell from 1
    beta = stats.beta(0.5, 0.5)
    low, high = beta.cdf([0.001, 0.999])
    assert stats.kstest((beta.cdf(inner) - low) / (high - low), 'uniform').pvalue > 1e-3


def test_the_split_over_devices_changes_nothing(drawn):
    split = partial(mixup, alpha=0.5, axis_name='batch')
    got = jax.pmap(split, axis_name='batch', in_axes=(None, 0, 0, 0))(
        KEYS[0], ROWS.reshape(2, 4, 1, 1), TARGETS.reshape(2, 4, 8), MASK.reshape(2, 4)
    )
    for ours, whole in zip(got, drawn, strict=True):
        np.testing.assert_allclose(ours.reshape(whole[0].shape), whole[0], rtol=1e-6)


def test_an_alpha_of_zero_is_refused():
    with pytest.raises(ValueError, match='alpha above 0, not 0; leave mixup out'):
        mixup(KEYS[0], ROWS, TARGETS, MASK, alpha=0.0)
