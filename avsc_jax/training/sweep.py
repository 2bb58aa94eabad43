"""Repeated jobs: one config with several seeds, or with every combination of settings' values."""

import copy
import functools
import itertools
import re
import shlex
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from avsc_jax.report import console
from avsc_jax.report.label_scores import MEANS
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import multihost
from avsc_jax.training import loop
from avsc_jax.training.config import FIELDS, OF_STEPS

SCORES = ('log_loss', 'accuracy')


def run_seeds(run: Callable, config: ConfigDict, seeds: Sequence[int], workdir: Path) -> None:
    """Runs a job once for each seed; prints and writes the spread of the scores."""
    jobs = {f'seed{seed}': copy.deepcopy(config) for seed in seeds}
    for seed, job in zip(seeds, jobs.values(), strict=True):
        job.seed = seed
    reports = _reports(run, jobs, workdir)
    if 'test' not in config.data:
        print('final runs have no scores, so no spread is reported')
    elif reports:
        result = spread(dict(zip(seeds, reports, strict=True)))
        RunFolder(workdir).write_json('seeds.json', result)
        print(spread_text(result))


def spread(reports: Mapping[int, Mapping]) -> dict:
    """Returns each seed's headline scores, their mean and sample standard deviation (n - 1)."""
    scores = {seed: _headline(report) for seed, report in reports.items()}
    first = next(iter(scores.values()))
    columns = {name: [score[name] for score in scores.values()] for name in first}
    several = len(scores) > 1
    return {
        'granularity': next(iter(reports.values()))['headline'],
        'seeds': scores,
        'mean': {name: statistics.mean(column) for name, column in columns.items()},
        'std': {n: statistics.stdev(c) if several else None for n, c in columns.items()},
    }


def spread_text(result: Mapping) -> str:
    """Formats the result of `spread`, a line per seed."""
    rows = {f'seed {seed}': score for seed, score in result['seeds'].items()}
    rows |= {'mean': result['mean'], 'standard deviation': result['std']}
    names = [*result['mean']]
    cells = [[name, *(_shown(n, score[n]) for n in names)] for name, score in rows.items()]
    return '\n'.join(console.columns([result['granularity'], *map(console.words, names)], cells))


def read(sweeps: Sequence[str]) -> dict[str, list[str]]:
    """Parses texts like FIELD=V1,V2; returns each field's values as written."""
    fields = {}
    for text in sweeps:
        field, _, values = text.partition('=')
        words = values.split(',')
        if not field or not all(words) or field in fields:
            raise ValueError(
                f'--sweep is {text!r}; give each field of the config once, with its values, such '
                'as --sweep=learning_rate=1e-4,3e-4'
            )
        fields[field] = words
    return fields


def overrides(fields: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Returns the command line arguments of each combination of the values."""
    return [*itertools.product(*([override(f, v) for v in fields[f]] for f in fields))]


def run_sweep(
    run: Callable,
    config: ConfigDict,
    points: Sequence[ConfigDict],
    fields: Sequence[str],
    workdir: Path,
    *,
    command: Sequence[str],
) -> None:
    """Runs a job once for each point; prints and writes which one is best by validation.

    Args:
      config: the config that the points change.
      points: a config for each combination of values.
      fields: the dotted names of the fields in which the points differ.
      command: the command that runs `config`.
    """
    check_comparable(points)
    values = [values_of(point, fields) for point in points]
    jobs = dict(zip(map(folder_name, values), points, strict=True))
    if len(jobs) < len(points):
        raise ValueError(
            f'two points of the sweep are equal: {", ".join(map(folder_name, values))}; give each '
            'value once'
        )
    reports = _reports(run, jobs, workdir)
    if reports:
        done = [*map(Done, values, jobs, reports)]
        write(config, points[0].select, done, workdir, command=command)


def check_comparable(points: Sequence[ConfigDict]) -> None:
    """Raises ValueError if the points are not compared by one and the same validation score."""
    if len({point.get('select') for point in points} - {None}) != 1:
        raise ValueError('a sweep compares trained systems by one and the same config.select')
    if points[0].select == 'last':
        raise ValueError(
            "config.select is 'last', which compares no scores; sweep with another one, such as "
            '--config.select=log_loss (a final run has no score, and cannot be swept)'
        )


class Done(NamedTuple):
    """A point whose run is complete."""

    values: dict[str, Any]
    folder: str
    report: dict


def write(
    config: ConfigDict,
    select: str,
    done: Sequence[Done],
    workdir: Path,
    *,
    command: Sequence[str],
    search: Mapping[str, int] | None = None,
) -> None:
    """Sorts points by their validation score; writes `sweep.json`, and prints it.

    Args:
      config: the config that the points change.
      select: what selects the epoch of all points; see `loop.SELECT`.
      command: the command that runs `config`.
      search: of a search, the number of its trials and of those that ended early.
    """
    column, sign = loop.selection(select)
    results = [
        {
            'values': point.values,
            'folder': point.folder,
            'epoch': point.report['best_epoch'],
            column: point.report['history'][point.report['best_epoch']][column],
            'test': _headline(point.report),
        }
        for point in done
    ]
    results.sort(key=lambda point: -sign * point[column])
    own = values_of(config, [*done[0].values])
    changes = [override(f, v) for f, v in results[0]['values'].items() if v != own[f]]
    result = {
        'sorted_by': column,
        'protocol': done[0].report['about']['protocol'],
        'own': own,
        'points': results,
        'command': shlex.join([*command, *changes]),
    }
    if search is not None:
        result['search'] = dict(search)
    RunFolder(workdir).write_json('sweep.json', result)
    print(sweep_text(result))


def folder_name(values: Mapping[str, Any]) -> str:
    """Names a point's folder by its fields' last names: learning_rate=0.0001,hidden=512."""
    name = ','.join(f'{field.rpartition(".")[2]}={value}' for field, value in values.items())
    return re.sub(r'[^\w.,=+-]', '_', name)


def sweep_text(result: Mapping[str, Any]) -> str:
    """Formats the result of `run_sweep`, a line per point."""
    column, points = result['sorted_by'], result['points']
    names = [*points[0]['test']]
    heads = [f'test {console.words(names[0])}', *map(console.words, names[1:])]
    rows = [[*result['own'], column, 'epoch', *heads, '']]
    rows += [
        [
            *map(str, point['values'].values()),
            f'{point[column]:.5f}',
            str(point['epoch']),
            *(_shown(name, point['test'][name]) for name in names),
            "the config's own" if point['values'] == result['own'] else '',
        ]
        for point in points
    ]
    searched = ''
    if counts := result.get('search'):
        searched = '{trials} trials, {pruned} pruned and {diverged} diverged: '.format(**counts)
    title = (
        f'{searched}{len(points)} points, sorted by {column} of the epoch that each one kept; '
        f'the test scores are shown, but never used to sort; {result["protocol"]}'
    )
    widths = [max(map(len, words)) for words in zip(*rows, strict=True)]
    return '\n'.join(
        [
            *textwrap.wrap(title, console.COLUMNS),
            *('  '.join(map(str.rjust, row, widths)).rstrip() for row in rows),
            f'best: {points[0]["folder"]}; alone: {result["command"]}',
        ]
    )


def without(arguments: Sequence[str], *names: str) -> list[str]:
    """Leaves out flags of a command, whether given as --NAME=VALUE or as --NAME VALUE."""
    kept, is_value = [], False
    for argument in arguments:
        flag, equals, _ = argument.partition('=')
        is_named = flag.startswith('-') and flag.lstrip('-') in names
        if not (is_named or is_value):
            kept.append(argument)
        is_value = is_named and not equals
    return kept


def _reports(run: Callable, jobs: Mapping[str, ConfigDict], workdir: Path) -> list[dict]:
    """Runs each job in its folder of `workdir`; returns the reports, in the first process only."""
    for name, config in jobs.items():
        run(config, workdir=workdir / name)
    return [
        RunFolder(workdir / name).read_json('report.json') for name in jobs if multihost.is_first()
    ]


def _headline(report: Mapping) -> dict[str, float]:
    scores = report['scores'][report['headline']]
    if report.get('kind') == 'independent':
        return {name: scores[f'{name}_macro'] for name in MEANS}
    return {name: scores[f'{name}_micro'] for name in SCORES}


def _shown(name: str, value: float | None) -> str:
    return console.percent(value) if name == 'accuracy' else console.number(value)


def override(field: str, value: Any) -> str:
    """Returns the command line argument that sets a field of the config."""
    return f'--config.{field}={value}'


def values_of(config: ConfigDict, fields: Sequence[str]) -> dict[str, Any]:
    """Returns a config's values of fields, by their dotted names; absent ones have the default."""
    absent = {name: FIELDS[name].default for name in OF_STEPS if name not in config}
    return {
        field: absent[field]
        if field in absent
        else functools.reduce(ConfigDict.get, field.split('.'), config)
        for field in fields
    }
