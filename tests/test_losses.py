from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import losses

LABELS = np.array([0, 2, 1, 1])
LOGITS = np.array([[2.0, 0, -1], [0.5, 0.5, 0.5], [-3, 4, 1], [5, -5, 0]], np.float32)


def exact(logits, labels, gamma):
    """The formula in float64, with 1 − p summed from the other classes."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = powers / powers.sum(axis=1, keepdims=True)
    true = np.eye(probs.shape[1], dtype=bool)[labels]
    return probs[~true].reshape(len(labels), -1).sum(axis=1) ** gamma * -np.log(probs[true])


def total(logits, labels, gamma):
    return losses.focal_loss(logits, labels, gamma=gamma).sum()


LOSS_AND_GRADIENT = jax.jit(jax.value_and_grad(total), static_argnames='gamma')


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_is_its_formula(gamma):
    got = losses.focal_loss(LOGITS, LABELS, gamma=gamma)
    assert got.shape == (4,)
    # float32 against float64
    np.testing.assert_allclose(got, exact(LOGITS, LABELS, gamma), rtol=3e-6, atol=1e-7)


def test_focal_loss_of_a_coin_toss_is_a_quarter_of_ln_2():
    loss = losses.focal_loss(np.zeros((1, 2), np.float32), np.array([1]), gamma=2.0)
    np.testing.assert_allclose(loss, [0.25 * np.log(2)], rtol=1e-6)


def test_cross_entropy_is_its_formula_and_focal_loss_with_gamma_zero():
    got = losses.cross_entropy(LOGITS, LABELS)
    np.testing.assert_allclose(got, exact(LOGITS, LABELS, 0), rtol=1e-6)
    np.testing.assert_array_equal(got, losses.focal_loss(LOGITS, LABELS, gamma=0.0))
    plain = jax.grad(lambda x: losses.cross_entropy(x, LABELS).sum())(LOGITS)
    np.testing.assert_allclose(jax.grad(total)(LOGITS, LABELS, 0.0), plain, atol=1e-6)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_gradient_is_that_of_finite_differences(gamma):
    gradient = jax.grad(total)(LOGITS, LABELS, gamma)
    step = 1e-6
    for row, column in np.ndindex(LOGITS.shape):
        high, low = LOGITS.astype(np.float64), LOGITS.astype(np.float64)
        high[row, column] += step
        low[row, column] -= step
        slope = (exact(high, LABELS, gamma) - exact(low, LABELS, gamma)).sum() / (2 * step)
        # 1 − p is known to 1e-7 in float32; the power .5 makes that 3e-4 where p is near 1
        np.testing.assert_allclose(gradient[row, column], slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('gamma', [0.0, 0.01, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize('logit', [-1e4, 0.0, 10.0, 20.0, 1e4])
def test_focal_loss_and_gradient_are_finite_at_any_logit(gamma, logit):
    logits = jnp.zeros((1, 10)).at[0, 3].set(logit)
    labels = jnp.array([3])
    loss, gradient = LOSS_AND_GRADIENT(logits, labels, gamma)
    assert np.isfinite(loss) and loss >= 0
    assert np.isfinite(gradient).all()
    if logit == -1e4:
        np.testing.assert_allclose(loss, 1e4 + np.log(9), rtol=1e-6)


def test_half_precision_logits_give_float32_losses():
    loss = losses.focal_loss(jnp.asarray(LOGITS, jnp.bfloat16), LABELS, gamma=2.0)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, exact(LOGITS, LABELS, 2), rtol=1e-5, atol=1e-6)


def test_losses_of_an_empty_batch_are_empty():
    logits, labels = np.zeros((0, 3), np.float32), np.zeros(0, np.int32)
    assert losses.focal_loss(logits, labels, gamma=2.0).shape == (0,)


def test_shapes_of_annotations_are_checked_in_tests():
    with pytest.raises(Exception, match='labels'):
        losses.cross_entropy(LOGITS, LABELS[:3])


def test_smoothed_labels_share_out_a_part_evenly():
    found = losses.targets(jnp.array(LABELS), 3, smoothing=0.3)
    np.testing.assert_allclose(found, 0.7 * np.eye(3)[LABELS] + 0.1, rtol=1e-6)
    np.testing.assert_array_equal(losses.targets(jnp.array(LABELS), 3), np.eye(3)[LABELS])
    several = jnp.array([[1.0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(losses.targets(several, 3), several)
    np.testing.assert_allclose(losses.targets(several, 3, smoothing=0.2), 0.8 * several + 0.1)


@pytest.mark.parametrize('gamma', [0.0, 2.0])
def test_losses_of_targets_are_sums_over_classes(gamma):
    weights = np.float32([0.5, 1, 3])
    targets = np.float32([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.4, 0.6], [1 / 3] * 3])
    loss = partial(losses.focal_loss, gamma=gamma)
    found = losses.of_targets(loss, jnp.array(LOGITS), targets, weights=weights)
    each = np.stack([exact(LOGITS, np.full(4, c), gamma) for c in range(3)], axis=1)
    np.testing.assert_allclose(found, (weights * targets * each).sum(1), rtol=3e-6)
    one_hot = losses.targets(jnp.array(LABELS), 3)
    plain = losses.of_targets(loss, jnp.array(LOGITS), one_hot)
    np.testing.assert_allclose(plain, loss(LOGITS, LABELS), rtol=1e-6)


def test_balanced_weights_are_inverse_to_counts_and_need_rows_of_every_class():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    weights = losses.balanced(labels, 3)
    np.testing.assert_allclose(weights, 10 / (3 * np.array([6, 3, 1])), rtol=1e-6)
    np.testing.assert_allclose(weights[labels].mean(), 1, rtol=1e-6)
    several = np.float32([[1, 1], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_allclose(losses.balanced(several, 2), [2, 0.5])
    with pytest.raises(ValueError, match='1 of 4 classes have no row to train on'):
        losses.balanced(labels, 4)


def test_sigmoid_cross_entropy_is_the_mean_over_classes_of_its_formula():
    labels = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0.3, 1, 0]], np.float32)
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(axis=1)
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(LOGITS, labels), expected, rtol=1e-5)
    far = losses.sigmoid_cross_entropy(np.array([[1e4, -1e4]], np.float32), np.eye(2)[1:])
    np.testing.assert_allclose(far, [1e4])  # finite where p is 0 or 1


@pytest.mark.parity
def test_sigmoid_cross_entropy_and_its_gradient_are_those_of_torch():
    import torch

    draw = np.random.default_rng(0)
    logits = draw.normal(0, 4, (50, 7)).astype(np.float32)
    labels = draw.random((50, 7)).round(1).astype(np.float32)
    theirs = torch.tensor(logits, requires_grad=True)
    criterion = torch.nn.BCEWithLogitsLoss(reduction='none')
    each = criterion(theirs, torch.tensor(labels)).mean(-1)
    each.sum().backward()
    value, gradient = jax.value_and_grad(lambda x: losses.sigmoid_cross_entropy(x, labels).sum())(
        logits
    )
    got = losses.sigmoid_cross_entropy(logits, labels)
    np.testing.assert_allclose(got, each.detach().numpy(), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(value, each.sum().item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-6)
