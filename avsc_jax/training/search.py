"""Hyper-parameter search: Optuna chooses the points of a sweep, one trial after another.

    python -m avsc_jax.main --config=... --sweep=learning_rate=1e-5..1e-3:log --trials=30

Each trial is a run folder of its own, named by its values as in a sweep. What Optuna has seen lies
in WORKDIR/search.sqlite: a search that was killed goes on with the trial that was running.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from avsc_jax.runs import run_folder
from avsc_jax.runs.loggers import Logger
from avsc_jax.training import loop, sweep

FILE = 'search.sqlite'
PRUNERS = ('median', 'hyperband', 'none')
DIGITS = 4  # of values from a range, so that a command can repeat them
# Trials before the first is pruned, and the part of the epochs that none is pruned in.
MEDIAN_TRIALS, MEDIAN_PART = 5, 0.25


class Range(NamedTuple):
    """All numbers from `low` to `high`; `log`: the same number of trials for each factor."""

    low: float
    high: float
    log: bool
    whole: bool


class Settings(NamedTuple):
    """Settings of a search, by the flags of main."""

    trials: int
    pruner: str = PRUNERS[0]


Space = Mapping[str, Range | tuple[str, ...]]
Point = Callable[[Sequence[str]], ConfigDict]  # overrides of the command line -> the config


class Pruned(Exception):
    """Ends the training of a trial that is worse than others were at the same epoch."""


def check(fields: Mapping[str, Sequence[str]], trials: int | None) -> None:
    """Raises ValueError for a range without a number of trials, or trials of nothing."""
    if trials and not fields:
        raise ValueError(
            f'--trials is {trials}, and nothing is to be searched; give '
            '--sweep=learning_rate=1e-5..1e-3:log, or other fields with ranges or values'
        )
    for field, words in fields.items():
        if _is_range(words) and not trials:
            raise ValueError(
                f'--sweep is {field}={",".join(words)}, a range, which has no list of points; give '
                'the number of trials too, such as --trials=30'
            )


def _is_range(words: Sequence[str]) -> bool:
    return any('..' in word for word in words)


def space(fields: Mapping[str, Sequence[str]], own: Mapping[str, Any]) -> Space:
    """Parses the words of a sweep: LOW..HIGH, LOW..HIGH:log, or values to choose from.

    Args:
      fields: dotted name of a field -> its words.
      own: the config's own values; of a field of whole numbers, ranges are whole.

    Raises:
      ValueError: a range is none.
    """
    return {field: _range(field, words, own[field]) for field, words in fields.items()}


def _range(field: str, words: Sequence[str], own: Any) -> Range | tuple[str, ...]:
    if not _is_range(words):
        return tuple(words)
    found = re.fullmatch(r'(.+?)\.\.(.+?)(:log)?', words[0])
    try:
        is_number = isinstance(own, int | float) and not isinstance(own, bool)
        if found is None or len(words) > 1 or not is_number:
            raise ValueError
        kind = int if isinstance(own, int) else float
        low, high = kind(found[1]), kind(found[2])
        if not low < high or not np.isfinite([low, high]).all() or (found[3] and low <= 0):
            raise ValueError
    except ValueError:
        raise ValueError(
            f'--sweep is {field}={",".join(words)}, and {field} is {own!r}; a range is LOW..HIGH '
            'with the lower number first (whole ones if the field takes these), and :log after it '
            'if both are above 0, such as learning_rate=1e-5..1e-3:log'
        ) from None
    return Range(low, high, bool(found[3]), kind is int)


def run(
    job: Callable,
    config: ConfigDict,
    point: Point,
    fields: Mapping[str, Sequence[str]],
    workdir: Path,
    settings: Settings,
    *,
    command: Sequence[str],
    loggers: Sequence[Logger] = (),
) -> None:
    """Runs trials until there are as many as asked for; prints and writes which one is best.

    Args:
      job: runs a config in a folder, followed by loggers.
      config: the config that the trials change.
      point: makes the config of a trial.
      fields: dotted name of a field -> its words, see `space`.
      command: the command that runs `config`.
      loggers: those of each trial.

    Raises:
      ValueError: a field or a range is wrong, the folder holds another search, or no trial ended.
    """
    optuna = _optuna()
    if jax.process_count() > 1:
        raise ValueError(
            '--trials and --multihost exclude each other, as each trial follows from those before; '
            'leave out --multihost, or sweep over lists of values without --trials'
        )
    own = sweep.values_of(config, fields)
    wanted = space(fields, own)
    ends = _ends(point, wanted)
    sweep.check_comparable(ends)
    select = ends[0].select
    about = {
        'fields': {field: list(words) for field, words in fields.items()},
        'config': run_folder.config_hash(config.to_dict()),
        'seed': config.get('seed', 0),
        'pruner': settings.pruner,
    }
    epochs = max(end.epochs for end in ends)
    with run_folder.RunFolder(workdir).alone():
        workdir.mkdir(parents=True, exist_ok=True)
        study = _opened(optuna, workdir, _pruner(optuna, settings.pruner, epochs), about, select)
        while (trial := _next(optuna, study, settings.trials, about['seed'])) is not None:
            values = _values(trial, wanted)
            changed = point([sweep.override(field, value) for field, value in values.items()])
            _run_trial(optuna, study, trial, job, changed, fields, workdir, loggers)
        _report(study, config, select, fields, workdir, command)


def _optuna() -> ModuleType:
    """Imports Optuna, which is of the extra `search`."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError("--trials needs optuna: pip install 'avsc_jax[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _ends(point: Point, wanted: Space) -> list[ConfigDict]:
    """The configs of all words and of both ends of ranges: a wrong one is an error at once."""
    ends = []
    for field, values in wanted.items():
        words = (values.low, values.high) if isinstance(values, Range) else values
        ends += [point([sweep.override(field, word)]) for word in words]
    return ends


def _pruner(optuna: ModuleType, name: str, epochs: int) -> Any:
    if name == 'median':
        warmup = int(MEDIAN_PART * epochs)
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=warmup)
    if name == 'hyperband':
        return optuna.pruners.HyperbandPruner(max_resource=epochs)
    return optuna.pruners.NopPruner()


def _opened(optuna: ModuleType, workdir: Path, pruner: Any, about: Mapping, select: str) -> Any:
    """Opens the search of a folder, or begins one."""
    url = f'sqlite:///{(workdir / FILE).absolute()}'
    _, sign = loop.selection(select)
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage(url),
        study_name='search',
        direction='maximize' if sign > 0 else 'minimize',
        pruner=pruner,
        load_if_exists=True,
    )
    begun = study.user_attrs.get('about', about)
    for name, value in about.items():
        if begun.get(name) != value:
            raise ValueError(
                f'{workdir} holds a search with another {name} ({begun.get(name)}, and {value} '
                'now); give another --workdir, or delete that folder'
            )
    study.set_user_attr('about', dict(about))
    return study


def _next(optuna: ModuleType, study: Any, trials: int, seed: int) -> Any:
    """The trial that a killed search was running, else the next one; None: all are done.

    The sampler is seeded for each trial, so that a search that was killed makes the same ones.
    """
    known = study.trials
    unfinished = [each for each in known if not each.state.is_finished()]
    if not unfinished and len(known) >= trials:
        return None
    number = unfinished[0].number if unfinished else len(known)
    own = np.random.SeedSequence([seed, number]).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(own))
    return optuna.trial.Trial(study, unfinished[0]._trial_id) if unfinished else study.ask()


def _values(trial: Any, wanted: Space) -> dict[str, str]:
    """Asks for a trial's value of each field; returns them as words."""
    words = {}
    for field, values in wanted.items():
        if not isinstance(values, Range):
            words[field] = trial.suggest_categorical(field, values)
        elif values.whole:
            words[field] = str(trial.suggest_int(field, values.low, values.high, log=values.log))
        else:
            value = trial.suggest_float(field, values.low, values.high, log=values.log)
            rounded = float(f'{value:.{DIGITS}g}')
            words[field] = repr(min(max(rounded, values.low), values.high))
    return words


class _Pruning:
    """Tells Optuna each epoch's score, and ends the training if it says so."""

    def __init__(self, study: Any, trial: Any, column: str):
        self._trial, self._column = trial, column
        self._told = {*study.trials[trial.number].intermediate_values}

    def begin(self, folder: Path, config: Mapping) -> None:
        pass

    def resume(self, lines: Sequence[dict]) -> None:
        for line in lines:
            if line['epoch'] not in self._told:
                self._trial.report(line[self._column], line['epoch'])
                self._told.add(line['epoch'])

    def log(self, line: dict) -> None:
        self.resume([line])
        if self._trial.should_prune():
            raise Pruned(f'after epoch {line["epoch"]}, {self._column} {line[self._column]:.5f}')

    def end(self, *, failed: bool) -> None:
        pass


def _run_trial(
    optuna: ModuleType,
    study: Any,
    trial: Any,
    job: Callable,
    config: ConfigDict,
    fields: Mapping[str, Any],
    workdir: Path,
    loggers: Sequence[Logger],
) -> None:
    """Runs a trial, and tells Optuna how it ended."""
    column, _ = loop.selection(config.select)
    folder = workdir / sweep.folder_name(sweep.values_of(config, fields))
    trial.set_user_attr('folder', folder.name)
    pruning = _Pruning(study, trial, column)
    try:
        job(config, workdir=folder, loggers=[*loggers, pruning])
    except (Pruned, FloatingPointError) as error:
        end = 'pruned' if isinstance(error, Pruned) else 'diverged'
        print(f'trial {trial.number}, {folder.name}, is {end}: {error}', file=sys.stderr)
        trial.set_user_attr('end', end)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    report = run_folder.RunFolder(folder).read_json('report.json')
    pruning.resume([{'epoch': k, **line} for k, line in enumerate(report['history'])])
    trial.set_user_attr('end', 'finished')
    study.tell(trial, report['history'][report['best_epoch']][column])


def _report(
    study: Any,
    config: ConfigDict,
    select: str,
    fields: Mapping[str, Any],
    workdir: Path,
    command: Sequence[str],
) -> None:
    """Writes and prints the trials that ended, as a sweep does its points."""
    ends = [trial.user_attrs['end'] for trial in study.trials]
    folders = [t.user_attrs['folder'] for t in study.trials if t.user_attrs['end'] == 'finished']
    counts = {'trials': len(ends)} | {end: ends.count(end) for end in ('pruned', 'diverged')}
    if not folders:
        raise ValueError(
            f'none of the {len(ends)} trials in {workdir} has ended ({counts["pruned"]} pruned, '
            f'{counts["diverged"]} diverged); search a range of lower learning rates'
        )
    done = []
    for folder in dict.fromkeys(folders):  # the same values may be tried again
        run = run_folder.RunFolder(workdir / folder)
        values = sweep.values_of(ConfigDict(run.config), fields)
        done.append(sweep.Done(values, folder, run.read_json('report.json')))
    sweep.write(config, select, done, workdir, command=command, search=counts)
