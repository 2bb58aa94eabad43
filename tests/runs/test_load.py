"""A run opened in two ways answers alike, whatever the length of the sound."""

import jax
import numpy as np
import pytest

from avsc_jax.predict.predictor import Predictor
from avsc_jax.runs.load import load_system


@pytest.fixture(scope='module')
def opened(finished_run):
    """The run as predict has it, and as explain and export do."""
    folder = finished_run('ioacas_audio')
    system = load_system(folder, folder / 'none')
    return Predictor.load(folder, folder / 'none'), system, jax.jit(system)


@pytest.mark.parametrize(
    ('length_s', 'pieces'),
    [(0.3, 1), (2.5, 2)] + [pytest.param(s, 1, marks=pytest.mark.slow) for s in (0.9, 0.97, 1.0)],
)
def test_predict_and_an_exported_system_say_the_same_of_short_and_odd_sounds(
    opened, length_s, pieces
):
    predictor, system, traced = opened
    draw = np.random.default_rng(round(100 * length_s))
    audio = draw.normal(0, 0.1, (round(48000 * length_s), 2)).astype(np.float32)
    record = {'audio': audio, 'sample_rate': 48000}
    (answer,) = predictor.answers([record])
    items = system.items(record)
    (of_sound,) = items.values()
    assert len(of_sound) == pieces
    np.testing.assert_allclose(np.asarray(traced(items)).mean(axis=0), answer.probs, atol=1e-6)
