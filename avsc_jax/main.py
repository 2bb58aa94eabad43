"""Trains a system from a config: data, features, training, predictions, report.

    python -m avsc_jax.main --config=configs/clip_fusion.py[:tokens] [--config.batch_size=64]

The same command resumes a run that was killed, and shows the report of a finished one again.
"""

import copy
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from avsc_jax.runtime import cli

if __name__ == '__main__':
    cli.end_at_signals()

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from avsc_jax import configs
from avsc_jax.data import folds, records, sources
from avsc_jax.input_pipeline import feature_cache
from avsc_jax.runs import checksums, loggers, run_folder
from avsc_jax.runtime import beam, compiled_programs, multihost, nearest
from avsc_jax.training import ablation, dependencies, search, sweep, train
from avsc_jax.training import config as fields
from avsc_jax.training import resolve as resolving
from avsc_jax.weights import cache

NEXT_START = 'the same command begins again, and keeps the data and features that are finished'
FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    'config', None, 'Config file, with tokens after a colon: configs/clip_fusion.py:demo,strict.'
)
flags.DEFINE_string('workdir', None, 'Run folder; default runs/<config>[-tokens].')
flags.DEFINE_string('data_dir', None, "Prepared datasets; default TFDS_DATA_DIR or TFDS's own.")
flags.DEFINE_string(
    'media_dir', None, 'Folder of the videos that the data was built from, zipped or not, for '
    "systems that read other pictures of them; default: the builder's downloads."
)  # fmt: skip
flags.DEFINE_string('weights_dir', None, 'Pretrained weights; default ~/.cache/avsc_jax/weights.')
flags.DEFINE_enum(
    'weights', 'auto', ['auto', 'pretrained', 'random'],
    'Weights of frozen encoders, and of networks that start from published weights. auto: random '
    'on demo data, pretrained (or an error) on TAU.',
)  # fmt: skip
flags.DEFINE_bool(
    'download_weights', False, 'Fetch missing pretrained weights that the config needs.'
)
flags.DEFINE_integer('seed', None, 'Replaces the seed of the config.')
flags.DEFINE_list(
    'seeds', None, 'Run the job once per seed, in WORKDIR/seed0 and so on; print mean and spread.'
)
flags.DEFINE_multi_string(
    'sweep', [], 'FIELD=V1,V2 of the config, once or more: run the job for every combination of '
    'the values, in WORKDIR/FIELD=V1 and so on; print which one is best by validation.'
)  # fmt: skip
flags.DEFINE_bool(
    'ablate', False, 'Run the job, and again without each of its parts; docs/ensembles.md.'
)
flags.DEFINE_integer(
    'trials', None, 'Search by Optuna: number of trials; --sweep then also takes LOW..HIGH[:log].',
    1,
)  # fmt: skip
flags.DEFINE_enum(
    'pruner', 'median', search.PRUNERS, 'What ends a trial early that does worse than others.'
)
flags.DEFINE_integer(
    'fold', None, 'The fold to report on, of five; default: the official one.', 0,
    folds.NUM_FOLDS - 1,
)  # fmt: skip
flags.DEFINE_string(
    'fold_file', None, 'Table of clip_id and fold, tab-separated, in place of the computed folds.'
)
flags.DEFINE_bool(
    'multihost', False,
    'Share the work with other processes: give each the same command, with --workdir, --data_dir '
    'and --weights_dir that all share. JAX finds the processes on TPU pods, Slurm and Open MPI; '
    f'elsewhere set {", ".join(multihost.VARIABLES)} for each, such as 10.0.0.1:1234, 2, 0.',
)  # fmt: skip
flags.DEFINE_string('runner', None, 'Make features by an Apache Beam runner; docs/beam.md.')
flags.DEFINE_bool(
    'trust_edited', False, 'Open edited runs: checksums are not compared.'
)  # fmt: skip
flags.DEFINE_list('loggers', [], 'wandb, mlflow or both: send each epoch there, too.')
flags.DEFINE_bool('fresh', False, 'Compute cached features anew, in this run.')
flags.DEFINE_bool('dry_run', False, 'Print shapes, parameters, steps and disk, then stop.')
flags.DEFINE_bool('fields', False, 'Print the fields of configs with their defaults, then stop.')


def main(arguments: list[str]) -> int:
    """Parses the flags and runs the job; returns the exit code."""
    if {'--help', '-h', '-help'} & {*arguments}:
        print(help_text())
        return 0
    if '--fields' in arguments:
        print(fields.text())
        return 0
    arguments, options = beam.split(arguments)
    config = parse(arguments)
    runner = beam.Runner(FLAGS.runner, options) if FLAGS.runner else None
    if runner:
        check_runner(runner)
    with checksums.trusting(FLAGS.trust_edited), feature_cache.extracting_on(runner):
        _run(config, arguments)
    return 0


def _run(config: ConfigDict, arguments: list[str]) -> None:
    """Runs the job of a config, or one job for each seed or point of a sweep."""
    seeds, swept = read_seeds(), sweep.read(FLAGS.sweep)
    search.check(swept, FLAGS.trials)
    if FLAGS.multihost:
        multihost.initialize()
    else:
        compiled_programs.keep()
    if 'members' not in config:  # else it leaves the devices to those first
        print(device_line(), file=sys.stderr)
    folders = named_folders()
    config = resolve(config, folders['data_dir'], named=bool(FLAGS.data_dir))
    print(
        f'data: {config.data.name}/{config.data.config} in {folders["data_dir"]}', file=sys.stderr
    )
    workdir = Path(FLAGS.workdir or default_workdir(config))
    followers = chosen_loggers(
        config, group=workdir.name if seeds or swept or FLAGS.ablate else None
    )
    if 'members' in config and trains_members(config):
        dependencies.train_members(
            config, seeds or [config.get('seed', 0)], folders, FLAGS.download_weights
        )
        print(device_line(), file=sys.stderr)
    given = {name: FLAGS[name].value for name in ('download_weights', 'fresh', 'dry_run')}
    job = partial(train.run, **folders, **given, loggers=followers)
    if FLAGS.ablate:
        ablation.run(job, config, workdir, dry_run=FLAGS.dry_run)
    elif seeds and not FLAGS.dry_run:
        sweep.run_seeds(job, config, seeds, workdir)
    elif swept and not FLAGS.dry_run:
        run_sweep(job, config, arguments, swept, workdir, followers)
    else:
        job(config, workdir=workdir)
    multihost.finish()


def check_runner(runner: beam.Runner) -> None:
    """Raises ValueError for a runner of features that is unknown, or beside --multihost."""
    if FLAGS.multihost:
        raise ValueError('--multihost and --runner exclude each other; give one')
    runner.check()


def named_folders() -> dict[str, Path | None]:
    """The folders of data, weights and media that flags name, or their defaults."""
    folders = {
        'data_dir': FLAGS.data_dir or records.default_data_dir(),
        'weights_dir': FLAGS.weights_dir or cache.default_weights_dir(),
        'media_dir': FLAGS.media_dir,
    }
    paths = {name: Path(place).expanduser() if place else None for name, place in folders.items()}
    if FLAGS.runner:  # its workers may run in other folders
        return {name: path and path.absolute() for name, path in paths.items()}
    return paths


def chosen_loggers(config: ConfigDict, group: str | None) -> list[loggers.Background]:
    """The loggers that the flag names; those of one sweep, or of several seeds, share a group."""
    if FLAGS.loggers and config.kind != 'train':
        raise ValueError(
            f'--loggers is {",".join(FLAGS.loggers)}, and a config of kind {config.kind!r} has no '
            'epochs to log; leave it out'
        )
    return [] if FLAGS.dry_run else loggers.chosen(FLAGS.loggers, group)


def trains_members(config: ConfigDict) -> bool:
    """Whether this process trains the runs that come first; an ensemble does that by itself."""
    return config.kind != 'ensemble' and not (FLAGS.dry_run or FLAGS.multihost)


def default_workdir(config: ConfigDict) -> Path:
    """The run folder where none is named: after the config, and the data set if it is one's own."""
    path = run_folder.default_path(FLAGS['config'].config_filename, FLAGS.fold)
    return path.with_name(path.name + sources.find(config.data.name).suffix(config.data))


def run_sweep(
    job: Callable[..., None],
    config: ConfigDict,
    arguments: Sequence[str],
    swept: Mapping[str, Sequence[str]],
    workdir: Path,
    followers: Sequence[loggers.Background],
) -> None:
    """Runs the job for every combination of swept values, or for those that a search chooses.

    Args:
      arguments: those of main; each point has them without --sweep.
      swept: field -> its values.
      followers: the loggers of each run.
    """
    settings = search.Settings(FLAGS.trials or 0, FLAGS.pruner)  # parsing a point resets them
    alone = sweep.without(arguments, 'sweep', 'trials', 'pruner')
    command = ['python', '-m', 'avsc_jax.main', *sweep.without(alone, 'workdir')]
    data_dir, named = named_folders()['data_dir'], bool(FLAGS.data_dir)

    def point(change: Sequence[str]) -> ConfigDict:
        return resolve(parse([*alone, *change]), data_dir, named=named)

    for field in swept:
        if not resolving.adds(config, field):
            _check_field(config, f'config.{field}', '')
    if settings.trials:
        search.run(job, config, point, swept, workdir, settings, command=command, loggers=followers)
        return
    points = [*map(point, sweep.overrides(swept))]
    sweep.run_sweep(job, config, points, [*swept], workdir, command=command)


def help_text() -> str:
    """Returns the text of --help: the flags, a line or two each."""
    lines = [*__doc__.strip().splitlines(), '']
    for flag in FLAGS.get_flags_for_module(FLAGS.find_module_defining_flag('workdir')):
        text = ' '.join((flag.help or '').split())
        lines += textwrap.wrap(f'--{flag.name:<18}{text}', 98, subsequent_indent=' ' * 20)
    lines += [
        '--config.FIELD=VALUE',
        '    A field of the config; --fields lists them all.',
    ]
    return '\n'.join([*lines, '--helpfull lists the flags of all libraries.'])


def parse(arguments: list[str]) -> ConfigDict:
    """Returns the config that the flags name, with its overrides, checked."""
    app.define_help_flags()
    arguments = [_find_config(argument) for argument in arguments]
    overrides = [a for a in arguments if a.lstrip('-').startswith('config.')]
    try:
        _parse_flags([a for a in arguments if a not in overrides])
        if FLAGS.config is None:
            raise ValueError('no config was given; try --config=configs/clip_fusion.py')
        added = [override for override in overrides if resolving.adds(FLAGS.config, override)]
        for override in overrides:
            if override not in added:
                _check_field(FLAGS.config, *override.lstrip('-').partition('=')[::2])
        _parse_flags([a for a in arguments if a not in added])
        for override in added:
            resolving.add(FLAGS.config, override)
    except (flags.Error, TypeError) as error:
        # config_flags puts the traceback of a config into the message; its last line is the error
        sentence = re.sub(r'^[\w.]*Error: ', '', str(error).strip().splitlines()[-1])
        unknown = re.match(r"Unknown command line flag '(\w+)'", sentence)
        if unknown and unknown[1] in fields.FIELDS:
            sentence = f'{unknown[0]} (did you mean --config.{unknown[1]}?)'
        raise ValueError(f'{sentence} (--help lists the flags)') from error
    fields.completed(FLAGS.config)
    if FLAGS.fold_file and FLAGS.fold is None:
        raise ValueError('--fold_file names the folds; --fold=0 ... 4 must say which to report on')
    if FLAGS.fold is not None and not sources.find(FLAGS.config.data.name).has_folds:
        raise ValueError(f'{FLAGS.config.data.name} is not cut into folds; leave out --fold')
    if FLAGS.fold is not None and FLAGS.config.data.get('train') == 'train+test':
        raise ValueError('a final run trains on all folds; leave out --fold, or the token final')
    if FLAGS.config.kind == 'ensemble' and FLAGS.sweep:
        raise ValueError('an ensemble only reads its members: give them --sweep')
    return FLAGS.config


def read_seeds() -> list[int]:
    """Returns the seeds of --seeds, sorted; none if the flag is not given."""
    words = FLAGS.seeds or []
    if words and FLAGS.seed is not None:
        raise ValueError('--seed and --seeds exclude each other; give one')
    if FLAGS.ablate and (words or FLAGS.sweep):
        raise ValueError('--ablate excludes --seeds and --sweep; give one')
    if words and FLAGS.sweep:
        raise ValueError('--seeds and --sweep exclude each other; give one')
    seeds = {int(word) for word in words if word.isdecimal()}
    if len(seeds) < len(words):
        raise ValueError(
            f'--seeds is {",".join(words)!r}; give whole numbers, each once, such as --seeds=0,1,2'
        )
    return sorted(seeds)


def _parse_flags(arguments: list[str]) -> None:
    sys.argv[1:] = arguments  # config_flags looks for overrides in sys.argv
    FLAGS['sweep'].unparse()  # otherwise its values would add to those of an earlier parse
    for name in [name for name in FLAGS if name.startswith('config.')]:
        delattr(FLAGS, name)  # belongs to the config of an earlier parse
    if more := FLAGS([sys.argv[0], *arguments])[1:]:
        raise ValueError(
            f'{more[0]!r} is one argument too many; give flags, such as '
            '--config=configs/clip_fusion.py:demo,strict (no spaces between tokens)'
        )


def _check_field(config: ConfigDict, path: str, value: str) -> None:
    """Raises ValueError if a config has no field at this dotted path, or a section for a value."""
    section = config
    for name in path.split('.')[1:]:
        if not isinstance(section, ConfigDict) or name not in section:
            known = ', '.join(sorted(section)) if isinstance(section, ConfigDict) else ''
            if section is config and name in fields.FIELDS:
                raise ValueError(
                    f'this config does not set config.{name}, and a flag only changes what it '
                    f'sets; write it into a copy of the file (a flag can change {known})'
                )
            meant = nearest.meant(name, known.split(', '))
            raise ValueError(
                f'there is no field {path}: {name!r} is unknown{meant}; known are '
                f'{known or "none here"}'
            )
        if hasattr(ConfigDict, name):
            raise ValueError(f'no flag can set {path}; write it into a copy of the config file')
        section = section[name]
    if isinstance(section, ConfigDict) and value and not value.startswith('{'):
        some = next(iter(section), 'FIELD')
        raise ValueError(
            f'{path} is a section of fields, and {value!r} is none; give one of its fields '
            f'({", ".join(section) or "it has none yet"}), as in --{path}.{some}={value}'
        )


def resolve(config: ConfigDict, data_dir: Path, *, named: bool) -> ConfigDict:
    """Settles what the config leaves open, with the flags that bear on it; see `resolving`."""
    return resolving.resolve(
        config,
        data_dir,
        named=named,
        weights=FLAGS.weights,
        # a copy: the flag's own values are parts of the config, which `demo` changes first
        overrides=copy.deepcopy(FLAGS['config'].override_values),
        seed=FLAGS.seed,
        fold=FLAGS.fold,
        fold_file=FLAGS.fold_file,
        download_weights=FLAGS.download_weights,
    )


def device_line() -> str:
    """Returns the first line of every run: its devices and their memory."""
    devices = jax.devices()
    stats = jax.local_devices()[0].memory_stats() or {}
    if 'bytes_limit' in stats:
        memory = f'{stats["bytes_limit"] / 2**30:.1f} GiB each'
    else:
        pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        memory = f'{pages / 2**30:.1f} GiB of host memory, {os.cpu_count()} cores'
    return f'{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), {memory}'


def _find_config(argument: str) -> str:
    """Replaces configs/NAME.py by the installed package's file if the path does not exist."""
    flag, _, value = argument.partition('=')
    path, colon, tokens = value.partition(':')
    if flag.lstrip('-') != 'config' or Path(path).exists():
        return argument
    packaged = Path(configs.__path__[0]) / Path(path).name
    if not packaged.exists():
        names = sorted(f.name for f in packaged.parent.glob('[!_]*.py') if f.stem != 'common')
        known = [f'configs/{name}' for name in names]
        raise FileNotFoundError(
            f'there is no config {path}{nearest.meant(path, known) or nearest.path(Path(path))}; '
            f'the package has {", ".join(known)}'
        )
    return f'{flag}={packaged}{colon}{tokens}'


def run() -> None:
    """Runs the console script avsc-train."""
    sys.exit(cli.main(main, next_start=NEXT_START))


if __name__ == '__main__':
    run()
