"""Rebuilds the result tables of the papers with our numbers beside the published ones.

Published scores, networks and members of ensembles come from the configs; `report.published` holds
the layout of the tables and numbers that no config has. `make` gathers a table, `text` formats it
as Markdown.
"""

import functools
import importlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from avsc_jax import models
from avsc_jax.report import published
from avsc_jax.report.console import markdown, number, percent
from avsc_jax.report.published import CLIPS, TABLES, Table
from avsc_jax.runtime import json_files
from avsc_jax.runtime.files import printable
from avsc_jax.scenes import SCENES

CONFIGS = (
    'hitachi_audio',
    'hitachi_image',
    'clip_zero_shot',
    'clip_fusion',
    'hitachi_ensemble',
    'openl3_baseline',
    'feng_fusion',
    'hou_dual_stream',
    'ioacas_audio',
    'ioacas_image',
    'ioacas_fusion',
    'ioacas_ensemble',
)


class System(NamedTuple):
    """The config behind a row of a table.

    Attributes:
      file: name of the config file, without `.py`.
      tokens: its tokens, of those axes in which the file's rows differ.
      defaults: the first token of each of these axes.
      config: the config with all tokens.
    """

    file: str
    tokens: tuple[str, ...]
    defaults: tuple[str, ...]
    config: ConfigDict

    @property
    def command(self) -> str:
        tokens = ','.join([*self.tokens, 'tau'])
        return f'python -m avsc_jax.main --config=configs/{self.file}.py:{tokens}'

    @property
    def members(self) -> list[str]:
        """Rows of an ensemble's members, repeated for each fold."""
        configs = [_config(self.config.members[name].config) for name in _members(self.config)]
        return [config.paper.row for config in configs] * (self.config.get('folds') or 1)

    def folders(self, runs: Path) -> list[Path]:
        """Default run folders of `avsc_jax.main`: of `tau`, of no data token, and of `demo`."""
        pairs = zip(self.tokens, self.defaults, strict=True)
        axes = [(token, '') if token == default else (token,) for token, default in pairs]
        names = itertools.product(('tau', '', 'demo'), *axes)
        return [runs / '-'.join(filter(None, (self.file, *t, data))) for data, *t in names]


@functools.cache
def systems() -> dict[str, System]:
    """Returns the system of each row of the tables.

    If several configs make a row, it is the one with fewest members and then with most defaults.
    """
    wanted = {row for table in TABLES.values() for row in table.rows.values()}
    by_row = {}
    for file in CONFIGS:
        axes = importlib.import_module(f'avsc_jax.configs.{file}').VARIANTS.values()
        made = {}
        for tokens in itertools.product(*axes):
            config = _config(f'{file}.py:{",".join(tokens)}')
            if config.paper.row in wanted:
                made.setdefault(config.paper.row, []).append((tokens, config))
        made = {row: min(ways, key=_num_members) for row, ways in made.items()}
        columns = zip(*(tokens for tokens, _ in made.values()), strict=True)
        differ = [len(set(column)) > 1 for column in columns]
        defaults = tuple(itertools.compress((next(iter(axis)) for axis in axes), differ))
        for row, (tokens, config) in made.items():
            by_row[row] = System(file, tuple(itertools.compress(tokens, differ)), defaults, config)
    return by_row


def _num_members(way: tuple[Sequence[str], ConfigDict]) -> int:
    return len(_members(way[1]))


def _members(config: ConfigDict) -> list[str]:
    """Lists the names of an ensemble's members; empty for a single system."""
    return [name for group in config.get('groups', {}).values() for name in group]


def _config(text: str) -> ConfigDict:
    """Returns the config that 'configs/NAME.py:tokens' names."""
    path, _, tokens = text.partition(':')
    return importlib.import_module(f'avsc_jax.configs.{Path(path).stem}').get_config(tokens)


def make(name: str, runs: Path) -> dict[str, Any]:
    """Gathers a table of a paper.

    Args:
      name: one of TABLES.
      runs: the folder of the run folders, which have their default names.

    Returns:
      `title`, `columns`, `rows` (column to text) and `notes`: for every row that is not reproduced
      the reason, or the command that makes it.
    """
    table = TABLES[name]
    if not table.columns:
        return _by_class(table, runs)
    pairs = [_row(*row, table.columns, runs) for row in table.rows.items()]
    rows, notes = zip(*pairs, strict=True)
    return {
        'title': table.title,
        'columns': table.columns,
        'rows': rows,
        'notes': [*filter(None, notes)],
    }


def text(table: Mapping[str, Any]) -> str:
    """Formats a table as Markdown."""
    columns = table['columns']
    body = markdown(columns, [[row.get(c, '–') for c in columns] for row in table['rows']])
    return '\n'.join([f'**{table["title"]}**', '', *body, '', *(f'- {n}' for n in table['notes'])])


def _row(name: str, row: str, columns: Sequence[str], runs: Path) -> tuple[dict[str, str], str]:
    """Returns the cells of a row, and its note below the table."""
    system, run = systems()[row], _run(row, runs)
    parts, paper = system.members or [row], system.config.paper
    cells = {'row': name, 'system': _name(system), 'models': str(len(parts))}
    cells |= _scores('paper: ', paper.log_loss, paper.accuracy)
    cells[CLIPS[1]] = percent(published.BASELINE_CLIPS.get(row))
    if 'parameters' in columns:
        cells['parameters'] = _millions(sum(map(_parameters, parts)))
    if 'vote' in columns:
        cells['vote'] = 'unweighted' if system.config.recipe.name == 'mean' else 'weighted'
    if 'epochs' in columns:
        best = [run and run[1]['best_epoch'] for run in (_run(part, runs) for part in parts)]
        cells['epochs'] = '–' if None in best else str(sum(epoch + 1 for epoch in best))
        cells['paper: epochs'] = str(published.EPOCHS[row])
        cells['paper: parameters'] = f'{published.PARAMETERS[row]:.2f}M'
    if run:
        scores, average = run[1]['scores'], paper.get('average', 'micro')
        score = scores.get(paper.granularity) or scores[run[1]['headline']]
        cells |= _scores('', score[f'log_loss_{average}'], score[f'accuracy_{average}'])
        if 'product' in scores:
            cells[CLIPS[0]] = percent(scores['product']['accuracy_micro'])
    cells['status'], note = _status(system, run)
    return cells, f'{name}: {note}' if note else ''


def _by_class(table: Table, runs: Path) -> dict[str, Any]:
    """Gathers a table of scores of every class; a cell is ours / theirs."""
    columns, notes = {}, []  # column -> row -> cell
    for name, row in table.rows.items():
        system, run, theirs = systems()[row], _run(row, runs), _quoted(row)
        ours = _classes(run[1]) if run else {}
        for key in published.FENG[row]:
            columns[key if len(table.rows) == 1 else f'{name}-{key[0].upper()}'] = {
                line: f'{_figure(ours.get(line, {}).get(key))} / {_figure(values[key])}'
                for line, values in theirs.items()
                if key in values
            }
        paper, score = system.config.paper, run[1]['scores'][run[1]['headline']] if run else {}
        notes.append(
            f'{name}: {_name(system)}, '
            f'accuracy {percent(score.get("accuracy_micro"))} / {percent(paper.accuracy)}, '
            f'log loss {number(score.get("log_loss_micro"))} / {number(paper.log_loss)}; '
            + ': '.join(filter(None, _status(system, run)))
        )
    rows = [
        {'class': line} | {column: cells.get(line, '') for column, cells in columns.items()}
        for line in theirs
    ]
    title = f'{table.title}; ours / theirs'
    return {'title': title, 'columns': ['class', *columns], 'rows': rows, 'notes': notes}


def _quoted(row: str) -> dict[str, dict[str, float]]:
    """Returns the paper's scores of each class and, if it has them, of their averages."""
    table = published.FENG[row]
    scores = {name: {key: table[key][i] for key in table} for i, name in enumerate(SCENES)}
    return scores | (published.FENG_AVERAGES if 'support' in table else {})


def _classes(report: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Returns a report's scores of each class and their averages, by name."""
    score = report['scores'][report['headline']]
    table, items = score['per_class'], {'support': score['items']}
    keys = ('precision', 'recall', 'f1', 'support')
    by_class = {
        name: {key: table[key][i] for key in keys} for i, name in enumerate(report['classes'])
    }
    averages = {f'{name} avg': table[name] | items for name in ('macro', 'weighted')}
    return by_class | averages | {'accuracy': {'f1': score['accuracy_micro']} | items}


def _figure(value: float | None) -> str:
    return f'{value:,}' if isinstance(value, int) else number(value, 2)


def _status(system: System, run: tuple[Path, dict[str, Any]] | None) -> tuple[str, str]:
    """Returns 'reproduced', 'demo only' or 'not run', and the run's warnings or its command."""
    if run is None:
        return 'not run', f'`{system.command}`'
    folder, report = run
    warnings = '; '.join(map(printable, report['about']['warnings']))
    return ('demo only', f'{folder}: {warnings}') if warnings else ('reproduced', '')


def _run(row: str, runs: Path) -> tuple[Path, dict[str, Any]] | None:
    """Returns folder and report of the row's run, if possible one without warnings."""
    reports = [(f, _report(f / 'report.json')) for f in systems()[row].folders(runs)]
    scored = [(folder, report) for folder, report in reports if report is not None]
    return min(scored, key=lambda run: bool(run[1]['about']['warnings']), default=None)


def _report(file: Path) -> dict[str, Any] | None:
    """Reads the report of a run; None if it is missing or has no scores."""
    if not file.exists():
        return None
    try:
        report = json_files.read(file, {'headline': (str, None)}, finite=False)
        if report['headline'] is None:
            return None
        score = {report['headline']: dict}
        json_files.check(report, {'about': {'warnings': [str]}, 'scores': score})
        report['best_epoch']
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{file} is no report of a run ({error!r}); make the run again') from error
    return report


def _name(system: System) -> str:
    config = system.config
    members = _members(config)
    if not members:
        zero_shot = 'train' not in config.data
        return f'{config.model.encoder}, not trained' if zero_shot else config.model.name
    groups = config.groups
    name = ' + '.join(config.group_names.values() if len(groups) > 1 else members)
    name += ', post-processing' if config.recipe.get('clamp') else ''
    return f'{config.folds} folds of {name}' if config.get('folds') else name


@functools.cache
def _parameters(row: str) -> int:
    """Counts the trained parameters of a single network."""
    config = systems()[row].config
    if 'train' not in config.data:
        return 0
    options = config.model.to_dict()
    return models.count_parameters(options.pop('name'), num_classes=len(SCENES), **options)


def _millions(count: int) -> str:
    return f'{count / 1e6:.2f}M' if count else '0'


def _scores(prefix: str, log_loss: float | None, accuracy: float | None) -> dict[str, str]:
    return {f'{prefix}log loss': number(log_loss), f'{prefix}accuracy': percent(accuracy)}
