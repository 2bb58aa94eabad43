"""Section 2.4 of Okazaki 2021: worked examples, the gate, and properties over random tables."""

from functools import partial

import hypothesis
import hypothesis.extra.numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from avsc_jax import ensemble
from avsc_jax.ensemble.decision import _check_alike
from avsc_jax.scenes import SCENES

OPTIONS = [
    {},
    {'clamp': 'per_model'},
    {'clamp': 'per_model', 'gate_before_clamp': False},
    {'clamp': 'fused', 'restrict': 'zero'},
    {'restrict': 'argmax', 'gate': 'per_model'},
    {'restrict': None, 'gate': None, 'renormalize': False},
]
hitachi = partial(ensemble.hitachi, classes=SCENES)
given = hypothesis.given
settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)


def row(**values):
    """One clip: named classes, 0 elsewhere."""
    return np.array([[values.get(name, 0.0) for name in SCENES]])


def softmax_tables(rows=5, members=3):
    """Tables with exact zeros and ones among their rows."""
    sharp = st.sampled_from([0.0, 0.1, 1.0, 5.0, 1e4])

    def table(seed, sharpness):
        logits = np.random.default_rng(seed).normal(size=(members, rows, len(SCENES)))
        logits = sharpness * (logits - logits.max(axis=-1, keepdims=True))
        probs = np.exp(logits)
        return probs / probs.sum(axis=-1, keepdims=True)

    return st.builds(table, st.integers(0, 10_000), sharp)


# A bus that the picture takes for a metro.
BUS = dict(
    audio=row(bus=0.46, tram=0.30, metro=0.20, metro_station=0.04),
    visual=row(metro=0.75, tram=0.15, bus=0.10),
    clip=row(metro=0.55, tram=0.35, bus=0.05, metro_station=0.05),
)


@pytest.mark.parametrize(
    ('options', 'metro', 'total'),
    [
        ({}, 0.650, 1.145),
        ({'clamp': 'per_model'}, 0.770, 1.187),
        ({'clamp': 'fused'}, 0.650, 1.127),  # only the six zeros and .025 move
        ({'restrict': 'zero'}, 0.433, 0.920),
        ({'restrict': 'argmax'}, 0.500, 1.000),
        ({'restrict': None}, 0.500, 1.000),
    ],
)
def test_the_sound_is_heard_for_bus_park_and_tram(options, metro, total):
    fused = hitachi(**BUS, **options, renormalize=False)
    assert fused[0, SCENES.index('metro')] == pytest.approx(metro, abs=5e-4)
    assert fused.sum() == pytest.approx(total, abs=5e-4)
    np.testing.assert_allclose(hitachi(**BUS, **options), fused / fused.sum())


def test_argmax_leaves_the_sound_out_where_it_hears_another_scene():
    audio = row(metro=0.4, bus=0.35, tram=0.25)
    fused = hitachi(audio, BUS['visual'], BUS['clip'], restrict='argmax')
    np.testing.assert_allclose(fused, (BUS['visual'] + BUS['clip']) / 2)


# Street traffic at night, which one picture model takes for a park.
NIGHT = dict(
    audio=row(street_traffic=0.80, public_square=0.10, street_pedestrian=0.05, tram=0.05),
    visual=row(park=0.35, street_traffic=0.30, public_square=0.20, street_pedestrian=0.15),
    clip=row(park=0.65, street_traffic=0.20, public_square=0.10, street_pedestrian=0.05),
)


@pytest.mark.parametrize(
    ('options', 'traffic', 'total'),
    [
        ({}, 0.800, 1.0),
        ({'clamp': 'per_model'}, 0.990, 1.058),
        ({'gate': 'per_model'}, 0.500, None),  # .65 is near enough to .80: CLIP stays
        ({'gate': 'per_model', 'clamp': 'per_model'}, 0.525, None),
        ({'gate': None}, 0.250, None),
    ],
)
def test_the_sound_takes_the_place_of_a_dark_picture(options, traffic, total):
    fused = hitachi(**NIGHT, **options, renormalize=False)
    assert fused[0, SCENES.index('street_traffic')] == pytest.approx(traffic)
    if total:
        assert fused.sum() == pytest.approx(total)


# .80 − .60 rounds to more than .20 in float64, .30 − .10 in float32.
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize(('sure', 'unsure'), [(0.80, 0.60), (0.30, 0.10), (0.70, 0.50)])
def test_the_gate_opens_above_the_margin_and_not_at_it(sure, unsure, dtype):
    audio = np.array([[sure, 0.0], [sure, 0.0]], dtype)
    visual = np.array([[[unsure, 0.0], [unsure - 1e-4, 0.0]]], dtype)
    np.testing.assert_array_equal(ensemble.gate(audio, visual), [[False, True]])
    np.testing.assert_array_equal(ensemble.gate(audio, visual, margin=0.3), [[False, False]])


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('as_array', [np.asarray, jnp.asarray])
def test_ties_of_rounded_tables_stay_with_the_picture(dtype, as_array):
    """All leads of exactly 0.200, and of 0.201, that numbers of three decimals can have."""
    sure = np.arange(200, 1001)
    audio = as_array(np.stack([sure / 1000, sure * 0.0], axis=1).astype(dtype))
    for lead, opens in ((200, False), (201, True)):
        low = np.maximum(sure - lead, 0)
        picture = np.stack([low / 1000, low * 0.0], axis=1).astype(dtype)
        visual = np.stack([picture + np.float32(step) for step in (0, 0.002, -0.002, 0)])
        chosen = low == sure - lead
        for members in (visual[:1], visual):  # whose mean is the same
            gate = np.asarray(ensemble.gate(audio, as_array(members.astype(dtype))))
            assert (gate[:, chosen] == opens).all()


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_the_clamp_of_rounded_tables_puts_a_bound_into_the_interval_below(dtype):
    for unit in (100, 1000):
        counts = np.arange(unit + 1)
        clamped = ensemble.clamp((counts / unit).astype(dtype)[None])[0]
        expected = np.select(
            [counts <= unit * 6 // 100, counts <= unit // 5, counts <= unit * 7 // 10],
            [0.001, 0.06, counts / unit],
            0.99,
        )
        np.testing.assert_allclose(clamped, expected, rtol=1e-6)


def test_the_gate_may_compare_clamped_values():
    # .71 leads .55 by less than .20; clamped, .99 leads by more.
    audio, visual = row(bus=0.71, tram=0.29), row(metro=0.55, metro_station=0.45)
    fused = partial(hitachi, audio, visual, clamp='per_model', renormalize=False)
    assert fused()[0, SCENES.index('metro')] == 0.55
    np.testing.assert_allclose(fused(gate_before_clamp=False), ensemble.clamp(audio))


def test_without_clip_the_picture_stands_alone():
    audio, visual = BUS['audio'], BUS['visual']
    fused = hitachi(audio, visual, renormalize=False)
    both, alone = (audio + visual) / 2, visual
    heard = np.isin(SCENES, ['bus', 'park', 'tram'])
    np.testing.assert_allclose(fused, np.where(heard, both, alone))
    night = hitachi(NIGHT['audio'], NIGHT['visual'])
    np.testing.assert_allclose(night, NIGHT['audio'])


def test_other_classes_will_do_where_none_is_trusted_more():
    two = np.array([[0.6, 0.4]])
    assert ensemble.hitachi(two, two, classes=['a', 'b'], restrict=None).tolist() == two.tolist()


def test_segments_are_averaged_and_may_be_clamped_each():
    audio = np.stack([row(bus=0.9, tram=0.1), row(bus=0.5, tram=0.5)], axis=1)
    visual = np.stack([row(bus=0.8, tram=0.2)] * 3, axis=1)
    np.testing.assert_allclose(
        hitachi(audio, visual), hitachi(audio.mean(axis=1), visual.mean(axis=1))
    )
    fused = hitachi(audio, visual, clamp='per_segment', renormalize=False)
    assert fused[0, 1] == pytest.approx(((0.99 + 0.5) / 2 + 0.99) / 2)
    assert fused[0, 9] == pytest.approx(((0.06 + 0.5) / 2 + 0.06) / 2)  # .20 and .1 become .06
    # a clip's own row is its only segment
    np.testing.assert_array_equal(
        hitachi(**BUS, clamp='per_segment'), hitachi(**BUS, clamp='per_model')
    )


def test_a_zero_for_the_others_costs_them_the_log_of_one_and_a_half():
    certain = row(metro=1.0)
    fused = hitachi(certain, certain, certain, restrict='zero', renormalize=False)
    assert -np.log(fused[0, 2]) == pytest.approx(np.log(1.5))


@given(softmax_tables())
@settings
def test_a_fused_clamp_keeps_the_scene_unless_all_are_unlikely(members):
    plain = hitachi(*members, renormalize=False)
    clamped = hitachi(*members, clamp='fused', renormalize=False)
    top = np.arange(len(plain)), plain.argmax(axis=1)
    assert (clamped[top] == clamped.max(axis=1)).all()
    sure = plain.max(axis=1) > 0.2001
    np.testing.assert_array_equal(clamped.argmax(axis=1)[sure], plain.argmax(axis=1)[sure])


@pytest.mark.parametrize('options', OPTIONS)
@given(softmax_tables(), st.randoms(use_true_random=False))
@settings
def test_rows_do_not_see_each_other_and_picture_models_can_change_places(options, members, random):
    fused = hitachi(*members, **options)
    assert np.isfinite(fused).all() and (fused >= 0).all()
    if options.get('renormalize', True):
        np.testing.assert_allclose(fused.sum(axis=1), 1)
    order = random.sample(range(5), 5)
    np.testing.assert_array_equal(hitachi(*members[:, order], **options), fused[order])
    audio, visual, clip = members
    np.testing.assert_allclose(hitachi(audio, clip, visual, **options), fused, atol=1e-12)


@given(softmax_tables(members=1))
@settings
def test_members_that_agree_are_left_alone(members):
    np.testing.assert_allclose(hitachi(*members.repeat(3, axis=0)), members[0], atol=1e-12)
    np.testing.assert_allclose(ensemble.mean(members.repeat(4, axis=0)), members[0], atol=1e-12)
    together = ensemble.geometric_mean(members.repeat(4, axis=0))
    np.testing.assert_allclose(together, members[0], atol=1e-12)


@pytest.mark.parametrize('options', OPTIONS)
def test_jax_under_jit_and_vmap_gives_numpys_numbers(options):
    rng = np.random.default_rng(0)
    seeds = rng.dirichlet(np.full(10, 0.3), size=(2, 3, 20)).astype(np.float32)
    device = jax.jit(jax.vmap(lambda m: hitachi(m[0], m[1], m[2], **options)))(seeds)
    assert device.dtype == jnp.float32
    for seed, found in zip(seeds, device, strict=True):
        host = hitachi(*seed, **options)
        assert type(host) is np.ndarray and host.dtype == np.float32
        np.testing.assert_allclose(host, found, atol=1e-6)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'restrict': 'bus'}, "restrict is 'bus'; it must be one of per_class, zero"),
        ({'gate': 'mean'}, "gate is 'mean'"),
        ({'clamp': 'yes'}, "clamp is 'yes'; it must be one of None, per_model"),
        ({'classes': SCENES[:9]}, r'shapes \(1, 10\), \(1, 10\), \(1, 10\) beside 9 class names'),
        ({'visual': BUS['visual'] * np.nan}, '1 of 1 rows hold NaN'),
        ({'visual': BUS['visual'] * 2}, r'1 of 1 rows hold values outside \[0, 1\]'),
        ({'classes': [f'c{k}' for k in range(10)]}, 'restrict needs bus park tram'),
    ],
)
def test_bad_input_is_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        ensemble.hitachi(**{'classes': SCENES, **BUS, **change})


@pytest.mark.parametrize('other', [np.ones((2, 10)), np.ones((1, 9)), np.ones((2, 3, 10))])
def test_tables_of_other_clips_or_classes_are_a_sentence(other):
    # Past the run-time check of annotations, which only the tests have.
    with pytest.raises(ValueError, match='give the same clips and classes'):
        _check_alike([np.ones((1, 10)), other], SCENES)
