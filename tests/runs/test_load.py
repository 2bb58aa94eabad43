"""A run opened in two ways answers alike, whatever the length of the sound."""

import shutil
import time

import jax
import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.predict.predictor import Predictor
from avsc_jax.runs import run_folder, summary
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.load import load_system

UNFINISHED = [f'checkpoints/{kind}/99.orbax-checkpoint-tmp' for kind in ('best', 'last')]


@pytest.fixture(scope='module')
def trained(finished_run, tmp_path_factory):
    """The folder of a run that is still being trained, and is just writing checkpoints."""
    folder = tmp_path_factory.mktemp('trained') / 'run'
    shutil.copytree(finished_run('ioacas_audio'), folder)
    for name in ('DONE', 'checksums.json'):
        (folder / name).unlink()
    for place in UNFINISHED:
        (folder / place / 'default').mkdir(parents=True)
        (folder / place / 'default/array').write_bytes(b'half')
    return folder


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob('*'))}


@pytest.fixture(scope='module')
def opened(trained):
    """The run as predict has it, and as explain and export do."""
    before = stamps(trained)
    system = load_system(trained, trained / 'none')
    predictor = Predictor.load(trained, trained / 'none')
    run = run_folder.RunFolder(trained)
    summary.facts(tables.read(run.predictions_file('test')), run)
    assert stamps(trained) == before
    return predictor, system, jax.jit(system)


def test_readers_change_nothing_of_a_run_that_is_being_trained(opened, trained, tmp_path):
    assert all((trained / place / 'default/array').exists() for place in UNFINISHED)
    shutil.copytree(trained / 'checkpoints', tmp_path / 'checkpoints')
    writer = Checkpoints(tmp_path / 'checkpoints')  # what trains removes them, in a thread
    while any((tmp_path / place).exists() for place in UNFINISHED):
        time.sleep(0.05)
    assert writer.last_step() is not None
    Checkpoints(tmp_path / 'none', read_only=True)
    assert not (tmp_path / 'none').exists()


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
