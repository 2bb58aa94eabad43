"""The result tables of Okazaki et al. 2021, row by row: theirs, ours, and how ours came about.

The published scores, the networks and the members of ensembles are read off the configs; what no
config holds stands here. `make` gathers a table, `text` writes it as Markdown.
"""

import functools
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from avsc_jax import models
from avsc_jax.report.console import number, percent
from avsc_jax.report.scores import printable
from avsc_jax.scenes import SCENES

CONFIGS = ('hitachi_audio', 'hitachi_image', 'clip_zero_shot', 'clip_fusion', 'hitachi_ensemble')
BASELINE = dict(B01=(1.048, 0.651), B02=(1.648, 0.649), B03=(0.658, 0.770))  # Table 2
EPOCHS = dict(V01=20, V02=20, V03=20, V04=60, C04=5)  # Table 5
PARAMETERS = dict(V01=24.60, V02=25.45, V03=19.27, V04=69.32, C04=1.35)  # Table 5, millions

# Table -> what it is, its rows, its columns; "paper: " stands before what is theirs.
SIZES = ('epochs', 'paper: epochs', 'parameters', 'paper: parameters')
SCORES = ('log loss', 'paper: log loss', 'accuracy', 'paper: accuracy')
TABLES = dict(
    table2=(
        'models, development set',
        'B01 A01 A02 A03 A04 B02 V01 V02 V03 V04 C01 C02 C03 C04 B03 E01 E02',
        ('row', 'system', *SCORES, 'parameters', 'status'),
    ),
    table3=(
        "submissions; the paper: the challenge's test set, not public; ours: development set",
        'S01 S02 S03 S04',
        ('row', 'system', 'models', *SCORES[:2], 'status'),
    ),
    table4=(
        'with and without CLIP, development set',
        'A04V04 E01 A04V04_pp E02',
        ('row', 'system', *SCORES, 'status'),
    ),
    table5=(
        'size and training, development set',
        'V01 V02 V03 V04 C04',
        ('row', 'system', *SIZES, *SCORES, 'status'),
    ),
)


class System(NamedTuple):
    """What makes a row: a config of this file, with these tokens first."""

    file: str
    token: str
    is_default: bool
    config: ConfigDict

    @property
    def command(self) -> str:
        tokens = ','.join(filter(None, [self.token, 'tau']))
        return f'python -m avsc_jax.main --config=configs/{self.file}.py:{tokens}'

    @property
    def members(self) -> list[str]:
        """Rows that an ensemble is made of, as often as there are folds."""
        names = [name for group in self.config.get('groups', {}).values() for name in group]
        return names * (self.config.get('folds') or 1)

    def folders(self, runs: Path) -> list[Path]:
        """Where `avsc_jax.main` puts a run by itself: on TAU, on whatever there is, on the demo."""
        first = [self.token, ''] if self.is_default else [self.token]
        names = [filter(None, (self.file, t, data)) for data in ('tau', '', 'demo') for t in first]
        return [runs / '-'.join(name) for name in names]


@functools.cache
def systems() -> dict[str, System]:
    """Row of the paper -> the config that makes it."""
    found = {}
    for file in CONFIGS:
        module = importlib.import_module(f'avsc_jax.configs.{file}')
        axis = next(iter(module.VARIANTS.values()), ('',))
        for token in axis:
            config = module.get_config(token)
            found[config.paper.row] = System(file, token, token == axis[0], config)
    return found


def make(name: str, runs: Path) -> dict[str, Any]:
    """A table of the paper.

    Args:
      name: one of TABLES.
      runs: where the run folders are, each called as `avsc_jax.main` calls it by itself.

    Returns:
      `title`, `columns`, `rows` (column to text) and `notes`: for every row that is not reproduced
      the reason, or the command that makes it.
    """
    about, names, columns = TABLES[name]
    rows, notes = zip(*(_row(row, columns, runs) for row in names.split()), strict=True)
    title = f'Okazaki et al. 2021, Table {name[-1]}: {about}'
    return {'title': title, 'columns': columns, 'rows': rows, 'notes': [*filter(None, notes)]}


def text(table: Mapping[str, Any]) -> str:
    """The table as Markdown whose columns are even on a console too."""
    columns = table['columns']
    lines = [columns, *([row.get(column, '–') for column in columns] for row in table['rows'])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ['-' * width for width in widths])
    body = [f'| {" | ".join(map(str.ljust, line, widths))} |' for line in lines]
    return '\n'.join([f'**{table["title"]}**', '', *body, '', *(f'- {n}' for n in table['notes'])])


def _row(row: str, columns: Sequence[str], runs: Path) -> tuple[dict[str, str], str]:
    """The cells of a row, and what is to be said below the table."""
    cells = {'row': row, 'status': 'not run'}
    if row in BASELINE:
        cells |= {'system': "the challenge's baseline"} | _scores('paper: ', *BASELINE[row])
        return cells, f'{row}: another system, which has no config here'
    system = systems()[row]
    parts, paper = system.members or [row], system.config.paper
    cells |= {'system': _name(system), 'models': str(len(parts))}
    cells |= _scores('paper: ', paper.log_loss, paper.accuracy)
    if 'parameters' in columns:
        cells['parameters'] = _millions(sum(map(_parameters, parts)))
    if 'epochs' in columns:
        best = [run and run[1]['best_epoch'] for run in (_run(part, runs) for part in parts)]
        cells['epochs'] = '–' if None in best else str(sum(epoch + 1 for epoch in best))
        cells |= {'paper: epochs': str(EPOCHS[row]), 'paper: parameters': f'{PARAMETERS[row]:.2f}M'}
    run = _run(row, runs)
    if run is None:
        return cells, f'{row}: `{system.command}`'
    folder, report = run
    score = report['scores'].get(paper.granularity) or report['scores'][report['headline']]
    cells |= _scores('', score['log_loss_micro'], score['accuracy_micro'])
    warnings = '; '.join(map(printable, report['about']['warnings']))
    cells['status'] = 'demo only' if warnings else 'reproduced'
    return cells, f'{row}: {folder}: {warnings}' if warnings else ''


def _run(row: str, runs: Path) -> tuple[Path, dict[str, Any]] | None:
    """Folder and report of the row's run; one without warnings if there is one."""
    found = [(f, _report(f / 'report.json')) for f in systems()[row].folders(runs)]
    found = [(folder, report) for folder, report in found if report is not None]
    return min(found, key=lambda run: bool(run[1]['about']['warnings']), default=None)


def _report(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        report = json.loads(file.read_text(encoding='utf-8'))
        report['about']['warnings'], report['best_epoch'], report['scores'][report['headline']]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{file} is no report of a run ({error!r}); make the run again') from error
    return report


def _name(system: System) -> str:
    config = system.config
    if not system.members:
        zero_shot = 'train' not in config.data
        return f'{config.model.encoder}, not trained' if zero_shot else config.model.name
    groups = config.groups
    name = ' + '.join(config.group_names.values() if len(groups) > 1 else system.members)
    name += ', post-processing' if config.recipe.get('clamp') else ''
    return f'{config.folds} folds of {name}' if config.get('folds') else name


@functools.cache
def _parameters(row: str) -> int:
    """How many the training of a single network finds."""
    config = systems()[row].config
    if 'train' not in config.data:
        return 0
    options = config.model.to_dict()
    return models.count_parameters(options.pop('name'), num_classes=len(SCENES), **options)


def _millions(count: int) -> str:
    return f'{count / 1e6:.2f}M' if count else '0'


def _scores(prefix: str, log_loss: float | None, accuracy: float | None) -> dict[str, str]:
    return {f'{prefix}log loss': number(log_loss), f'{prefix}accuracy': percent(accuracy)}
