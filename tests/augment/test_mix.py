from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from avsc_jax.augment.mix import box, check_cutmix, cutmix, mixup, mixup_or_cutmix

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


PICTURES = jnp.broadcast_to(ROWS[:, None, None, None], (8, 6, 9, 2))  # of one number each


@pytest.fixture(scope='module')
def cut() -> tuple[np.ndarray, np.ndarray]:
    """(pictures, targets) of 400 batches of which a box comes from other pictures."""
    run = jax.vmap(lambda key: cutmix(key, PICTURES, TARGETS, MASK, alpha=1.0))
    return tuple(map(np.asarray, jax.jit(run)(KEYS[:400])))


def test_a_box_of_each_picture_is_its_partner_s_and_so_is_its_area_s_share_of_the_target(cut):
    pictures, targets = cut
    mask = np.asarray(MASK)
    np.testing.assert_array_equal(pictures[:, ~mask], 1000)
    np.testing.assert_allclose(targets @ np.asarray(ROWS), pictures.mean((2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)
    assert {*np.unique(pictures)} == {*np.asarray(ROWS).tolist()}  # nothing is blended
    changed = pictures[..., 0] != np.asarray(ROWS)[:, None, None]
    where = changed.any(axis=1)  # over the rows of a batch, which share the box
    for one in where:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        full = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else one[:0]
        assert full.all() and full.size == one.sum()  # a rectangle
    shares = where.mean((1, 2))
    assert shares.min() < 0.05 and shares.max() > 0.6 and 0.2 < shares.mean() < 0.4


def test_the_split_over_devices_changes_nothing_of_cutmix(cut):
    split = partial(cutmix, alpha=1.0, axis_name='batch')
    got = jax.pmap(split, axis_name='batch', in_axes=(None, 0, 0, 0))(
        KEYS[3], PICTURES.reshape(2, 4, 6, 9, 2), TARGETS.reshape(2, 4, 8), MASK.reshape(2, 4)
    )
    for ours, whole in zip(got, cut, strict=True):
        np.testing.assert_array_equal(ours.reshape(whole[3].shape), whole[3])


@pytest.mark.parametrize(
    ('weight', 'centre', 'expected'),
    [
        (0.75, (4, 4), (2, 6, 2, 6)),  # half of each side
        (0.75, (0, 7), (0, 2, 5, 8)),  # what lies outside is cut off
        (1.0, (3, 3), (3, 3, 3, 3)),  # nothing
        (0.0, (4, 4), (0, 8, 0, 8)),  # all
        (0.859375, (4, 4), (3, 6, 3, 6)),  # 3 pixels, one more behind the middle than before it
    ],
)
def test_boxes_worked_by_hand(weight, centre, expected):
    rows, columns = box(jnp.float32(weight), tuple(map(jnp.int32, centre)), (8, 8))
    assert tuple(map(int, (*rows, *columns))) == expected


def test_either_mixes_a_batch_with_the_probability_that_is_given():
    for share in (0.0, 0.25, 1.0):
        run = partial(mixup_or_cutmix, mixup_alpha=1.0, cutmix_alpha=1.0, cutmix_share=share)
        mixed, targets = jax.vmap(lambda key, run=run: run(key, PICTURES, TARGETS, MASK))(
            KEYS[:400]
        )
        blended = (np.asarray(mixed) % 1 != 0).any((1, 2, 3, 4)).mean()
        assert abs(blended - (1 - share)) < 0.08  # 3.5 standard deviations of 400 draws
        np.testing.assert_allclose(targets @ ROWS, mixed.mean((2, 3, 4)), rtol=1e-5)


def test_inputs_of_a_dictionary_share_weight_and_partners():
    inputs = {'a': ROWS[:, None], 'b': 2 * ROWS[:, None, None]}
    mixed, targets = mixup(KEYS[1], inputs, TARGETS, MASK, alpha=1.0)
    np.testing.assert_allclose(mixed['a'][:, 0], targets @ ROWS, rtol=1e-5)
    np.testing.assert_allclose(mixed['b'][:, 0], 2 * mixed['a'], rtol=1e-6)


@pytest.mark.parametrize(
    ('inputs', 'what'),
    [({'a': ROWS, 'b': ROWS}, 'a dictionary of a, b'), (ROWS[:, None], 'an array of 2 axes')],
)
def test_cutmix_of_what_has_no_height_and_width_is_a_sentence(inputs, what):
    with pytest.raises(ValueError, match=f'the input is {what}; leave out cutmix_alpha'):
        check_cutmix(inputs)


def test_both_senses_mix_by_one_weight_and_with_the_same_partner():
    draw = np.random.default_rng(0)
    inputs = {
        'image': draw.normal(size=(8, 4, 4, 3)).astype('f4'),
        'sound': draw.normal(size=(8, 6, 2, 5)).astype('f4'),
    }
    mixed, targets = mixup(KEYS[7], inputs, TARGETS, MASK, alpha=50.0)
    share = np.asarray(targets)  # of each row in each: one line of weights for both senses
    weight = share.diagonal().min()
    assert 0.2 < weight < 0.8  # nearly always, with this alpha
    for row in range(8):
        (partner,) = [k for k in range(8) if k != row and share[row, k] > 0] or [row]
        for name, x in inputs.items():
            expected = weight * x[row] + (1 - weight) * x[partner]
            np.testing.assert_allclose(mixed[name][row], expected, atol=1e-5)
    with pytest.raises(ValueError, match='a dictionary of image, sound; leave out cutmix_alpha'):
        check_cutmix(inputs)
