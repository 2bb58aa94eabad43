"""Two CPU devices, no silent rank promotion, annotated shapes checked at run time, quick compiling.

Most of the time of these tests is JAX's compiler. So here, and in the commands that tests start,
LLVM does not optimise, XLA emits code the quicker way, and what one process has compiled no other
compiles again. What several tests need is made once for all workers (`once`).
"""

import importlib
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # the suite needs no accelerator
# Measured on 2 cores: half the time of jaxlib 0.10's compiler; later ones have no older emitters.
# Optimised code would run faster, but takes longer to make than arrays this small can win back.
os.environ.setdefault(
    'XLA_FLAGS',
    '--xla_cpu_parallel_codegen_split_count=1'
    + ' --xla_cpu_use_fusion_emitters=false' * metadata.version('jaxlib').startswith('0.10.'),
)
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import jax
import jaxtyping
import pytest
from filelock import FileLock

jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_numpy_rank_promotion', 'raise')

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


@pytest.hookimpl(trylast=True)  # pytest's own hook makes the factory
def pytest_configure(config: pytest.Config) -> None:
    """Names the folder of compiled programs, unless JAX_COMPILATION_CACHE_DIR names another.

    It lies in this run's temporary folder. JAX's key is the program with all options of the
    compiler and its version, so a changed program is never taken for another.
    """
    if not hasattr(config, 'workerinput'):
        folder = config._tmp_path_factory.getbasetemp() / 'compiled'
        os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder))
    jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'])


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """Makes a folder once for all workers: `once(name, make)` calls `make(folder)` if needed.

    Tests only read such a folder, for they run in any order; who changes files copies them first.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'once'
    place.mkdir(exist_ok=True)

    def made(name, make):
        folder, begun = place / name, place / f'{name}.begun'
        with FileLock(place / f'{name}.lock'):
            if not folder.exists():
                shutil.rmtree(begun, ignore_errors=True)
                make(begun)
                begun.rename(folder)
        return folder

    return made


@pytest.fixture(scope='session')
def data_dir(once):
    """A data directory with the demo sets, thinned to 20 + 10 clips of 2 s: real media, built.

    All workers share it with the features that jobs leave in it.
    """
    return once('data', build_demo)


def build_demo(folder):
    """Renders and builds the thinned demo sets."""
    from tfds_tau import demo
    from tfds_tau.tfds_tau_dataset_builder import Builder

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
