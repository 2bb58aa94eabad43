"""Ablation: the whole system, and the same with one part left out at a time, compared."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from avsc_jax import tables
from avsc_jax.ensemble.recipes import RECIPES
from avsc_jax.report import comparison, console, html, paired, scores
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import multihost
from avsc_jax.runtime.files import write_texts
from avsc_jax.training import config as fields
from avsc_jax.training import sweep

FULL = 'whole'  # the folder of the whole system
HEAD = 'left out'
OFF = ('mixup_alpha', 'cutmix_alpha', 'ema', 'label_smoothing')  # what is off at its default
Changes = dict[str, Any]  # dotted field -> its value; None leaves an entry of a section out


def parts_of(config: ConfigDict) -> dict[str, Changes]:
    """Returns what is left out, one at a time: `config.ablate`, or else what the config shows.

    These are each encoder of several, each augmentation, mixup, cutmix, EMA and label smoothing
    where they are on, and of an ensemble each member and each step of its decision.

    Raises:
      ValueError: the config has no part that can be left out.
    """
    named = config.get('ablate') or {}
    parts = {name: dict(changes) for name, changes in named.items()}
    if not parts:
        parts = _of_ensemble(config) if config.kind == 'ensemble' else _of_training(config)
    if not parts:
        raise ValueError(
            'the config has no part that --ablate could leave out; name parts in config.ablate, '
            "such as ablate=dict(mixup={'mixup_alpha': 0.0})"
        )
    return parts


def _of_training(config: ConfigDict) -> dict[str, Changes]:
    parts: dict[str, Changes] = {}
    encoders = config.get('encoders') or {}
    if len(encoders) > 1:
        of_model = config.model.get('encoders') or _encoders_of(config)
        for name in encoders:
            widths = {other: width for other, width in of_model.items() if other != name}
            parts[name] = {f'encoders.{name}': None, 'model.encoders': widths}
    parts |= {name: {f'augment.{name}': None} for name in config.get('augment') or {}}
    parts |= {name: {name: fields.FIELDS[name].default} for name in OFF if config.get(name)}
    return parts


def _encoders_of(config: ConfigDict) -> dict[str, int]:
    """Returns the widths of the encoders' features that the network takes by default."""
    from avsc_jax import models

    name = config.model['name']
    options = {key: value for key, value in config.model.items() if key != 'name'}
    made = getattr(models.create_model(name, **options), 'encoders', None)
    if not isinstance(made, Mapping):
        raise ValueError(
            f'config.model is {name}, which does not say which encoders it takes, so that none can '
            'be left out; name the parts in config.ablate'
        )
    return dict(made)


def _of_ensemble(config: ConfigDict) -> dict[str, Changes]:
    parts: dict[str, Changes] = {}
    roles = tuple(config.get('roles') or config.groups)
    needed = {*RECIPES[config.recipe['name']].roles} - {*RECIPES[config.recipe['name']].optional}
    for role, names in config.groups.items():
        for name in names:
            rest = tuple(other for other in names if other != name)
            kept = tuple(each for each in roles if each != name and (rest or each != role))
            if not kept or needed - {*kept}:
                continue
            groups = {f'groups.{role}': rest or None}
            parts[name] = {**groups, 'roles': kept, 'lines': ()}
            if not rest:
                parts[name][f'group_names.{role}'] = None
    steps = tuple(config.get('decision', ()))
    parts |= {
        f'the step {step}': {'decision': tuple(other for other in steps if other != step)}
        for step in steps
    }
    return parts


def without(config: ConfigDict, name: str, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns the config without a part.

    Args:
      config: of the whole system, settled.
      name: of the part, for the sentence of an error.
      changes: dotted field -> its value; None leaves an entry of a section out.

    Raises:
      ValueError: the config has no such section or entry, or a value of the wrong type.
    """
    made = ConfigDict(copy.deepcopy(config.to_dict()))
    for field, value in changes.items():
        *path, last = field.split('.')
        section = made
        for step in path:
            section = section.get(step) if isinstance(section, ConfigDict) else None
        if not isinstance(section, ConfigDict) or (value is None and last not in section):
            if value is None and path == ['group_names']:
                continue
            raise ValueError(
                f'config.ablate leaves out {name} by the field {field}, which the config does not '
                'have; name one that it has'
            )
        if value is None:
            del section[last]
        elif isinstance(value, Mapping):
            section[last] = ConfigDict(dict(value))
        else:
            with section.ignore_type():
                section[last] = value
    if 'ablate' in made:
        del made.ablate
    of_file = ConfigDict({key: value for key, value in made.items() if key != 'weights'})
    fields.check(of_file)  # the weights are settled by flags
    return made.lock()


def run(job: Callable, config: ConfigDict, workdir: Path, *, dry_run: bool = False) -> None:
    """Runs the whole system and each one without a part; prints and writes what each is worth.

    Args:
      job: runs a config in a folder, and goes on where it was ended.
      config: of the whole system.
      workdir: a folder for the runs, `ablation.json` and `ablation.html`.
      dry_run: whether to print only what would run.
    """
    if 'test' not in config.data:
        raise ValueError('a final run has no scores, so that nothing can be compared by --ablate')
    parts = parts_of(config)
    jobs = {FULL: without(config, FULL, {})}
    for name, changes in parts.items():
        jobs[sweep.folder_name({'without': name})] = without(config, name, changes)
    if len(jobs) <= len(parts):
        raise ValueError(f'two parts of {", ".join(parts)} have the same folder; rename one')
    if dry_run:
        print(f'--ablate runs {len(jobs)} jobs in {workdir}: the whole system, and without')
        print('\n'.join(f'  {name}: {_words(changes)}' for name, changes in parts.items()))
        return
    for folder, each in jobs.items():
        job(each, workdir=workdir / folder)
    if multihost.is_first():
        files = [RunFolder(workdir / folder).predictions_file(config.data.test) for folder in jobs]
        members = dict(zip([FULL, *parts], map(tables.read, files), strict=True))
        result = compare(members)
        write(result, parts, workdir)
        print(text(result))
        print(f'report: {workdir / "ablation.html"}')


def compare(members: Mapping[str, tables.Predictions]) -> dict[str, Any]:
    """Scores the whole system and those without a part, sorted by the loss of leaving it out.

    Args:
      members: the table of the whole system, then of those without a part, by its name.
    """
    pooled, warned = comparison.common(members)
    known = scores.labelled(pooled)
    full, *others = known.values()
    groups, over = scores.groups(full)
    names = [*known][1:]
    rows = [
        paired.row(name, table.probs, full.label, groups, against=full.probs)
        for name, table in zip(names, others, strict=True)
    ]
    rows.sort(key=lambda row: -row['tests']['log_loss']['difference'])
    count = len({*groups.tolist()})
    return {
        'rows': [paired.row('nothing: the whole system', full.probs, full.label, groups), *rows],
        'clips': len(full.label),
        'over': f'{count:,} {over}',
        'caution': scores.caution(count, over),
        'warnings': warned,
    }


def text(result: Mapping[str, Any]) -> str:
    """Formats the result of `compare` for a console."""
    lines = [f'! {line}' for line in result['warnings']]
    return '\n'.join(
        [*lines, *console.columns(*paired.table(HEAD, result['rows'])), sentence(result)]
    )


def sentence(result: Mapping[str, Any]) -> str:
    """Says what the differences and intervals of a result are."""
    caution = f'; {result["caution"]}' if result['caution'] else ''
    return (
        f'difference: without the part minus the whole, on {result["clips"]:,} clips; interval: '
        f'bootstrap over {result["over"]}; p: sign flips of their sums{caution}'
    )


def write(result: Mapping[str, Any], parts: Mapping[str, Changes], workdir: Path) -> None:
    """Writes ablation.json and the page ablation.html."""
    content = {**result, 'parts': scores.plain(parts)}
    page = html.render(
        'ablation.html',
        title='ablation',
        warnings=result['warnings'],
        ablated=paired.table(HEAD, result['rows']),
        method=sentence(result),
        parts=[[name, _words(changes)] for name, changes in parts.items()],
    )
    made = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + '\n'
    write_texts(workdir, {'ablation.html': page, 'ablation.json': made})


def _words(changes: Mapping[str, Any]) -> str:
    """Says what is changed: 'without augment.gain, ema=0.0'."""
    return ', '.join(
        f'without {field}' if value is None else f'{field}={value}'
        for field, value in changes.items()
    )
