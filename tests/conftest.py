"""Two CPU devices, no silent rank promotion, and annotated shapes checked at run time."""

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # the suite needs no accelerator

import jax
import jaxtyping
import pytest

jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_numpy_rank_promotion', 'raise')
# LLVM's optimisation takes longer than it gains on arrays this small.
jax.config.update('jax_disable_most_optimizations', True)

_CHECKED = tuple(
    f'avsc_jax.{name}'
    for name in (
        'audio',
        'augment',
        'images',
        'losses',
        'metrics',
        'calibration',
        'ensemble',
        'layers',
        'models',
        'weights',
    )
)
jaxtyping.install_import_hook(_CHECKED, 'beartype.beartype')
for name in _CHECKED:
    if name in sys.modules:  # imported before the hook was there
        importlib.reload(sys.modules[name])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None for named files and tests, which end before workers are up; else xdist's own count."""
    return None if all(Path(arg).is_dir() for arg in config.args) else 0


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
    """A data directory with the demo sets, thinned to 20 + 10 clips of 2 s: real media, built."""
    from tfds_tau import demo
    from tfds_tau.tfds_tau_dataset_builder import Builder

    folder = tmp_path_factory.mktemp('data')
    per_scene = demo.CLIPS_PER_LOCATION * (demo.TRAIN_LOCATIONS + demo.TEST_LOCATIONS)
    first_test = demo.CLIPS_PER_LOCATION * demo.TRAIN_LOCATIONS
    chosen = [c for c in demo.clips() if c.number % per_scene in (0, 2, first_test)]
    render = demo.render
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            demo, 'render', lambda place, **_: render(place, chosen=chosen, duration_s=2.0)
        )
        for config in ('demo', 'demo_segments'):
            Builder(config=config, data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(scope='session')
def write_run():
    """Writes a run folder as training leaves it, with random variables."""
    import orbax.checkpoint as ocp

    from avsc_jax import weights
    from avsc_jax.training.run_folder import RunFolder, make_model

    def write(folder, model, preprocessing, *, classes, stats=None, means=None):
        run = RunFolder(folder)
        run.begin({'model': model})
        run.write_json('classes.json', classes)
        run.write_json('preprocessing.json', preprocessing)
        run.write_json('report.json', {'about': {'warnings': ['random variables']}})
        if stats:
            run.stats(lambda: stats)
        if means:
            run.means(lambda: means)
        network = make_model(model, num_classes=len(classes))
        variables = {'batch_stats': {}} | weights.random_variables(network, 0)
        with ocp.CheckpointManager((folder / 'checkpoints/best').absolute()) as manager:
            manager.save(1, args=ocp.args.StandardSave(variables))
        run.finish()
        return folder

    return write


@pytest.fixture
def main(monkeypatch):
    """The command; its flags go again, because TFDS's build command has some of their names."""
    from absl.testing import flagsaver

    import avsc_jax
    from avsc_jax import main

    monkeypatch.setattr(sys, 'argv', ['main'])
    with flagsaver.flagsaver():
        yield main
    for flag in main.FLAGS.get_flags_for_module(main.__name__):
        delattr(main.FLAGS, flag.name)
    del sys.modules['avsc_jax.main'], avsc_jax.main
