"""Two CPU devices, no silent rank promotion, annotated shapes checked at run time, quick compiling.

Most of the time of these tests is JAX's compiler. So here, and in the commands that tests start,
LLVM does not optimise, XLA emits code the quicker way, and what one process has compiled no other
compiles again. What several tests need is made once for all workers (`once`).
"""

import collections
import functools
import gc
import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
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

pytest_plugins = ('run_of_both',)
ROOT = Path(__file__).parents[1]
NOT_DEFAULT = {'slow', 'parity', 'data', 'tf', 'web', 'docs'}
LIMIT_S = 10
# One of each kind: layering, numbers, tables, a network, a front end, media, weights, a whole job.
SMOKE = {
    'audio/test_spectrum.py',
    'data/test_records.py',
    'data/test_windows.py',
    'ensemble/test_decision.py',
    'layers/test_norm.py',
    'models/test_clip_resnet.py',
    'test_convert.py',
    'test_floors.py',
    'test_metrics.py',
    'test_paper_numbers.py',
    'report/test_submission.py',
    'tables/test_tables.py',
    'training/test_job_ioacas.py',
    'training/test_schedules.py',
    'weights/test_weight_files.py',
}
DEMO_MEDIA = 'downloads/tfds_tau_demo-1.0.0'  # in a data directory, where the builder looks
# Networks as small as their kind allows: compiling is what takes time here, and no test of jobs is
# about the network.
CLIP = {
    'clip_rn101': {'width': 2, 'layers': (1, 1, 1, 1), 'image_size': 32},
    'clip_rn50x4': {'width': 2, 'layers': (1, 1, 1, 1), 'image_size': 32},
    'clip_vit_b32': {'width': 16, 'layers': 1, 'patch_size': 16, 'image_size': 32},
}
VIT = {'clip_vit_b32': CLIP['clip_vit_b32']}
OPENL3 = {
    'openl3_audio': {'widths': (2, 2, 2, 32)},
    'openl3_image': {'widths': (2, 2, 2, 32)},
}
REGNET = {'widths': (8, 8, 8, 8), 'layers': (1, 0, 0, 0), 'group_width': 8, 'stem_width': 8}
CROP = {
    'random_resized_crop': {'size': (32, 32)},
    'color_jitter': dict(brightness=0.0, contrast=0.0),
}
# Config -> its tokens, fields that are put in the place of its own, fields that are merged in.
TINY = {
    'clip_fusion': (
        '',
        dict(
            encoders=VIT,
            model=dict(name='clip_late_fusion', encoders={'clip_vit_b32': 512}, widths=(16, 8, 8)),
        ),
        dict(epochs=2),
    ),
    'clip_zero_shot': (
        'vit_b32,photo',
        dict(encoders=VIT, text_encoder={'clip_vit_b32_text': {'width': 16, 'layers': 1}}),
        {},
    ),
    'hitachi_audio': ('', {}, dict(model=REGNET, size=(64, 48), epochs=2)),
    'hitachi_image': ('', {}, dict(model=REGNET, size=(32, 32), epochs=2)),
    'efficientat_audio': (
        '',
        {},
        dict(model=dict(name='mn01_as', momentum=0.5), size=(32, 64), epochs=2, batch_size=8),
    ),
    'late_fusion': (
        'clip_vit_b32+mn10_as',
        dict(
            encoders=VIT | {'mn10_as': {'width': 0.1, 'num_classes': 0}},
            model=dict(
                name='late_fusion',
                encoders={'clip_vit_b32': 512, 'mn10_as': 128},
                widths=(16, 8, 8),
            ),
        ),
        dict(epochs=2),
    ),
    'ioacas_audio': (
        'resnet1d,logmel',
        {},
        dict(model=dict(hidden=(16, 16, 8)), epochs=3, periods=(1, 2), learning_rate=0.05),
    ),
    'ioacas_image': (
        'resnet50',
        dict(model=dict(name='regnetx_002', image_size=32, **REGNET)),
        dict(size=(32, 32), canvas=(36, 64), augment=CROP, epochs=1),
    ),
    'ioacas_fusion': (
        'resnet50,logmel',
        {},
        dict(model=dict(audio_size=8, image_size=8, hidden=8), epochs=2, batch_size=8),
    ),
    'joint_fusion': (
        'resnet50,resnest50d',
        dict(
            model=dict(
                name='joint',
                hidden=8,
                sound_shape=(32, 32, 3),
                picture=dict(name='regnetx_002', image_size=32, **REGNET),
                sound=dict(name='regnetx_002', **REGNET),
            ),
        ),
        dict(
            size=(32, 32),
            canvas=(36, 64),
            spectrum_size=(32, 32),
            augment=CROP,
            epochs=1,
            batch_size=16,
        ),
    ),
    'feng_fusion': ('weighted', {}, dict(encoders=OPENL3, epochs=2, batch_size=8)),
    'openl3_baseline': ('audio_video', {}, dict(encoders=OPENL3, epochs=2, batch_size=8)),
    'hou_dual_stream': ('final', {}, dict(encoders=OPENL3, epochs=2, batch_size=4)),
}

_CHECKED = tuple(
    f'avsc_jax.{name}'
    for name in (
        'audio',
        'augment',
        'losses',
        'metrics',
        'ensemble',
        'input_pipeline.images',
        'layers',
        'models',
        'weights',
    )
)
jaxtyping.install_import_hook(_CHECKED, 'beartype.beartype')
for name in _CHECKED:
    if name in sys.modules:  # imported before the hook was there
        importlib.reload(sys.modules[name])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None for named files and tests, which end before workers are up; else cores and one more.

    Tests that wait for processes, disks and each other's shared runs leave a tenth of the cores
    idle otherwise.
    """
    whole = all(Path(arg).is_dir() for arg in config.args)
    return len(os.sched_getaffinity(0)) + 1 if whole else 0


@pytest.hookimpl(trylast=True)  # pytest's own hook makes the factory
def pytest_configure(config: pytest.Config) -> None:
    """Names the folder of compiled programs, unless JAX_COMPILATION_CACHE_DIR names another.

    It lies in this run's temporary folder. JAX's key is the program with all options of the
    compiler and its version, so a changed program is never taken for another.

    Shells make jobs in the background ignore SIGINT, which tests send to processes of theirs.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, 'workerinput'):
        folder = config._tmp_path_factory.getbasetemp() / 'compiled'
        os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder))
    jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the default tests of the files of SMOKE, and puts the longest trainings first.

    Begun last, they would leave the other workers without work.
    """
    items.sort(key=lambda item: not _file(item).startswith('test_demo_'))
    for item in items:
        is_default = NOT_DEFAULT.isdisjoint(mark.name for mark in item.iter_markers())
        item.user_properties.append(('is default', is_default))  # of each of its reports
        if is_default and _file(item) in SMOKE:
            item.add_marker('smoke')


def _file(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT / 'tests').as_posix()


def pytest_collection_finish() -> None:
    """Spares the garbage collector what was imported, and long traces: a tenth of the time."""
    from avsc_jax.runtime import cli

    gc.freeze()
    gc.set_threshold(*cli.COLLECTIONS)


def pytest_sessionfinish() -> None:
    """Spares pytest's last five collections, 2 s a worker, what is left of all tests."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names default tests that took longer than LIMIT_S, set-up included."""
    seconds = collections.Counter()
    for report in terminalreporter.getreports('passed') + terminalreporter.getreports(''):
        if ('is default', True) in map(tuple, report.user_properties):
            seconds[report.nodeid] += report.duration
    for name, took in seconds.most_common():
        if took > LIMIT_S:
            terminalreporter.write_line(
                f'over {LIMIT_S} s, so to be cut or marked slow: {took:.1f} s {name}'
            )


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
def whole_demo(once):
    """The folder of the media of the whole demo, 200 clips, rendered once for all workers."""
    from tfds_tau import demo

    return once('whole_demo', lambda folder: demo.render(folder / DEMO_MEDIA)) / DEMO_MEDIA


@pytest.fixture(scope='session')
def train_on_demo(whole_demo):
    """Runs the main command on the whole demo in a folder: `train_on_demo(folder, *arguments)`.

    TFDS_DATA_DIR names the data as it does for users; else all such commands share a folder.
    """
    data = os.environ.get('TFDS_DATA_DIR') or whole_demo.parents[1]
    # These run for minutes, in which optimised code wins back what it takes to make.
    hasty = ('XLA_FLAGS', 'JAX_DISABLE_MOST_OPTIMIZATIONS')
    environment = {name: value for name, value in os.environ.items() if name not in hasty}
    environment['TFDS_DATA_DIR'] = str(data)

    def train(folder, *arguments):
        command = [sys.executable, '-m', 'avsc_jax.main', *arguments]
        subprocess.run(command, cwd=folder, env=environment, check=True)

    return train


@pytest.fixture(scope='session')
def tiny_encoders():
    """Flags of the main command that make the encoders of configs/clip_fusion.py tiny."""
    return [f'--config.encoders.{name}={options}' for name, options in CLIP.items()]


@pytest.fixture(scope='session')
def one_encoder():
    """Flags of the same command for a single tiny encoder, the one of finished_run."""
    network = {'name': 'clip_late_fusion', 'encoders': {'clip_rn101': 512}}
    encoders = {'clip_rn101': CLIP['clip_rn101']}
    return [f'--config.encoders={encoders}', f'--config.model={network}']


@pytest.fixture(scope='session')
def demo_config():
    """A config as main resolves it on demo data, made tiny: `demo_config(name)`.

    Of the config of that name, one of TINY, with its own tokens unless others are given. What is
    given besides is merged into it.
    """

    def resolved(name, tokens=None, **changes):
        own, in_place, merged = TINY[name]
        module = importlib.import_module(f'avsc_jax.configs.{name}')
        tokens = own if tokens is None else tokens
        made = module.get_config(','.join(filter(None, (tokens, 'demo'))))
        made.update(made.demo)
        del made.demo
        with made.unlocked():
            made.data.source, made.weights = 'demo', 'random'
            made.data.config = 'demo_segments' if made.data.config == 'segments' else 'demo'
            for field, value in in_place.items():
                made[field] = value
            for field, value in merged.get('encoders', {}).items():
                if field in made.encoders:  # a system may take one of the two only
                    made.encoders[field].update(value)
            made.update({field: value for field, value in merged.items() if field != 'encoders'})
            made.update(changes)
        return made.lock()

    return resolved


@pytest.fixture(scope='session')
def finished_run(once, data_dir, demo_config, one_encoder):
    """The folder of a finished tiny run on the demo data: `finished_run(name) -> Path`.

    `name` is a config of TINY. Each run is trained once for all workers, when a test first asks for
    it, by the job in this process. Only clip_fusion is trained by the main command, in a process as
    a user starts it, with other overrides (`one_encoder` and three epochs); what it printed lies in
    out.txt and err.txt beside the folder. ioacas_fusion is made of the runs ioacas_audio and
    ioacas_image.

    Tests only read these folders; who changes a run copies it first.
    """

    def of_parts(name):
        made = demo_config(name)
        if name == 'ioacas_fusion':
            for part in ('audio', 'image'):
                made.members[part].run = str(finished(f'ioacas_{part}'))
        return made

    def finished(name):
        def train(folder):
            from avsc_jax.training import train as job

            folders = {'data_dir': data_dir, 'weights_dir': folder / 'none'}
            job.run(of_parts(name), workdir=folder / 'run', **folders)

        return once(f'run-{name}', by_command if name == 'clip_fusion' else train) / 'run'

    def by_command(folder):
        command = [sys.executable, '-m', 'avsc_jax.main', '--config=configs/clip_fusion.py:demo']
        command += [
            *one_encoder,
            '--config.epochs=3',
            f'--data_dir={data_dir}',
            f'--workdir={folder / "run"}',
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        (folder / 'out.txt').write_text(done.stdout)
        (folder / 'err.txt').write_text(done.stderr)

    return finished


@pytest.fixture(scope='session')
def labelled_pictures(once) -> Path:
    """A table of 80 pictures in pairs, each red, blue, both or none: `list.csv` and the files."""
    import numpy as np
    from PIL import Image

    def make(folder):
        folder.mkdir()
        draw, lines = np.random.default_rng(0), ['path,label,group']
        for k in range(80):
            names = [name for name, p in (('red', 0.5), ('blue', 0.4)) if draw.random() < p]
            image = draw.normal(90, 20, (36, 48, 3))
            image[..., 0] += 90 * ('red' in names)
            image[..., 2] += 90 * ('blue' in names)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f'{k}.png')
            lines.append(f'{k}.png,{";".join(names)},pair {k // 2}')
        (folder / 'list.csv').write_text('\n'.join(lines) + '\n')

    return once('labelled_pictures', make) / 'list.csv'


@pytest.fixture(scope='session')
def run_of_labels(once, labelled_pictures) -> Path:
    """The folder of a finished probe of `labelled_pictures` on a tiny encoder; see finished_run."""

    def make(folder):
        from avsc_jax.configs import own_data
        from avsc_jax.training import resolve
        from avsc_jax.training import train as job

        config = own_data.get_config('clip_probe,multi_label,demo')
        config.data.folder = str(labelled_pictures)
        config.demo.encoders = {'clip_vit_b32': CLIP['clip_vit_b32']}
        resolve.resolve(config, folder, named=True)
        folders = {'data_dir': folder / 'data', 'weights_dir': folder / 'none'}
        job.run(config, workdir=folder / 'run', **folders)

    return once('run-labels', make) / 'run'


@pytest.fixture(scope='session')
def outline(once) -> Callable[[str], tuple[tuple, dict]]:
    """Shapes of a network's answer and of its variables, by its name.

    Each network is traced once for all workers: the full-size ones take seconds.
    """
    from avsc_jax import models

    def trace(name, folder):
        model = models.create_model(name)
        run = functools.partial(model.init_with_output, jax.random.key(0))
        folder.mkdir()
        (folder / 'shapes').write_bytes(pickle.dumps(jax.eval_shape(run, model.input_spec)))

    @functools.cache
    def shapes(name):
        folder = once(f'outline_{name}', functools.partial(trace, name))
        return pickle.loads((folder / 'shapes').read_bytes())

    return shapes


@pytest.fixture(scope='session')
def write_run():
    """Writes a run folder as training leaves it, with random variables."""
    import orbax.checkpoint as ocp

    from avsc_jax import weights
    from avsc_jax.models.build import make_model
    from avsc_jax.runs.run_folder import RunFolder

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
