"""The whole job of a config whose members are runs of other configs: tables, fusion, report.

Only tables of predictions are read, so it takes seconds and no accelerator. Members are trained by
the commands that it names, or by itself where the config says `train_missing`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from avsc_jax import ensemble, members, mixing, plan, report, submission, tables
from avsc_jax.members import EVALUATION, Member
from avsc_jax.training import run_folder

Tables = dict[str, tables.Predictions]


def run(
    config: ConfigDict,
    *,
    workdir: Path,
    data_dir: Path,
    weights_dir: Path,
    media_dir: Path | None = None,
    download_weights: bool = False,
    dry_run: bool = False,
) -> None:
    """Reads the members' tables, fuses them, and writes table, report and submission."""
    folder = run_folder.RunFolder(workdir)
    folder.check(config.to_dict())
    names = [name for group in config.groups.values() for name in group]
    folds = range(config.get('folds', 0)) or [None]
    groups = [members.named(config, names, fold) for fold in folds]
    everyone = [member for group in groups for member in group]
    todo = missing(everyone, config)
    if dry_run:
        print(text(everyone, todo))
        return
    folders = {'data_dir': data_dir, 'weights_dir': weights_dir, 'media_dir': media_dir}
    members.complete(todo, config, members.flags(folders, download_weights))
    data = members.data(everyone)
    scored = fuse(groups, config)
    result = scored[config.paper.row]
    about = result.meta['about']
    told = report.make(result, title=workdir.name, about=about, paper=config.paper.to_dict())
    told['members'] = [report.line(*item) for item in scored.items()]
    evaluated = evaluate(groups, config) if 'submission' in config else None
    facts = _facts(groups)
    folder.begin(config.to_dict())  # nothing is written before all has worked
    folder.record_environment(data, {})
    folder.write_json('classes.json', result.meta['classes'])
    folder.write_json('members.json', facts)
    tables.write(result, folder.predictions_file(config.data.test))
    if evaluated:
        tables.write(evaluated, folder.predictions_file(EVALUATION))
        submit(evaluated, config, workdir / 'submission', facts, told['scores']['clip'])
    page = report.write(told, workdir)
    folder.finish()
    print(report.text(told))
    print(f'report: {page}')


def missing(everyone: Sequence[Member], config: ConfigDict) -> list[list[str]]:
    """The commands that make what is not there, in their order."""
    todo = [member.training for member in everyone if not member.folder.is_done]
    if 'submission' in config:
        todo += [
            member.prediction(config.evaluation.to_dict())
            for member in everyone
            if not member.folder.predictions_file(EVALUATION).exists()
        ]
    return todo


def text(everyone: Sequence[Member], todo: Sequence[Sequence[str]]) -> str:
    """What there is, and the commands for what there is not."""
    lines = [
        f'{member.name:6}{member.folder.path}  {"" if member.folder.is_done else "not "}trained'
        for member in everyone
    ]
    lines += ['missing:', *map(members.line, todo)] if todo else ['nothing is missing']
    return '\n'.join(lines)


def read(group: Sequence[Member], split: str) -> dict[Member, tables.Predictions]:
    """The members' tables, one row a clip, the same clips in the same order."""
    found = {member: tables.read(member.folder.predictions_file(split)) for member in group}
    return mixing.alike(found, pooled=True)


def fuse(groups: Sequence[Sequence[Member]], config: ConfigDict) -> Tables:
    """What is scored: members, means of roles, the paper's other lines, last the ensemble.

    Of several folds, each clip is named by the members that have not seen it.
    """
    refits = []
    for group in groups:
        found = read(group, config.data.test)
        refits.append(fuse_refit({member.name: found[member] for member in group}, config))
    return {name: _joined([refit[name] for refit in refits]) for name in refits[0]}


def fuse_refit(found: Tables, config: ConfigDict) -> Tables:
    """The same of the members of one fold."""
    probs = by_role(found, config)
    scored = dict(found)
    for role, names in config.groups.items():
        if len(names) > 1:
            scored[config.group_names[role]] = _like(found, probs[role])
    for line in config.lines:
        chosen = {role: probs[role] for role in line['roles']}
        scored[line['row']] = _like(found, decide(chosen, line['recipe'], found))
    result = _like(found, decide(probs, config.recipe, found))
    result.meta.update(
        system=config.paper.row,
        about=mixing.about(found, _sentence(config), []),
        calibrated=bool(config.recipe.get('clamp')),
    )
    return scored | {config.paper.row: result}


def by_role(found: Tables, config: ConfigDict) -> dict[str, np.ndarray]:
    """Role -> mean of the probabilities [N, C] of its members."""
    return {
        role: ensemble.mean(np.stack([found[name].probs for name in names]))
        for role, names in config.groups.items()
    }


def decide(
    groups: Mapping[str, np.ndarray], recipe: Mapping, found: Tables, **options: object
) -> np.ndarray:
    """Probabilities [N, C] of the ensemble.

    Args:
      groups: see `by_role`.
      recipe: `name`, mean or hitachi, and the options of `ensemble.hitachi`.
      found: tables that name the classes.
      options: in place of the recipe's.
    """
    options = {**recipe, **options}
    if options.pop('name') == 'mean':
        return ensemble.mean(np.stack([*groups.values()]))
    return ensemble.hitachi(**groups, classes=mixing.first(found).meta['classes'], **options)


def evaluate(groups: Sequence[Sequence[Member]], config: ConfigDict) -> tables.Predictions:
    """The scenes of the challenge's items.

    The refits of five folds are averaged as they come, and divided by their sum once (S03, S04).
    """
    everyone = [member for group in groups for member in group]
    found = read(everyone, EVALUATION)
    parts = []
    for group in groups:
        refit = {member.name: found[member] for member in group}
        parts.append(decide(by_role(refit, config), config.recipe, refit, renormalize=False))
    return _like(refit, ensemble.renormalize(ensemble.mean(np.stack(parts))))


def submit(
    table: tables.Predictions,
    config: ConfigDict,
    folder: Path,
    facts: Sequence[Mapping],
    scores: Mapping[str, object],
) -> None:
    """Writes the challenge's two files: output and sheet."""
    parameters = {}
    for fact in facts:
        fold = '' if fact['fold'] is None else f', fold {fact["fold"]}'
        parameters[fact['name'] + fold] = sum(fact['parameters'].values())
    system = {
        'name': config.paper.row,
        'members': parameters,
        'scores': scores,
        'description': config.submission.description.to_dict(),
    }
    submission.write(table, folder, label=config.submission.label, system=system)


def _like(found: Tables, probs: np.ndarray) -> tables.Predictions:
    """A table of the members' clips with other probabilities."""
    first = mixing.first(found)
    kept = ('split', 'classes', 'granularity', 'pooled')
    meta = {name: first.meta[name] for name in kept if name in first.meta}
    return dataclasses.replace(first, probs=probs, meta=meta | {'calibrated': False})


def _joined(parts: Sequence[tables.Predictions]) -> tables.Predictions:
    """The rows of all parts, under the first one's header."""
    if len(parts) == 1:
        return parts[0]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ('clip_id', 'segment', 'label', 'probs')
    }
    return tables.Predictions(**columns, meta=parts[0].meta)


def _sentence(config: ConfigDict) -> str:
    """How the ensemble is made of its members."""
    groups = '; '.join(
        f'{role}: {"mean of " * (len(names) > 1)}{mixing.listed(names)}'
        for role, names in config.groups.items()
    )
    options = {name: value for name, value in config.recipe.items() if name != 'name'}
    shown = ''.join(f', {name} {value or "none"}' for name, value in options.items())
    return (
        f'{mixing.RECIPES[config.recipe.name]} of {mixing.listed(config.groups)}{shown} ({groups})'
    )


def _facts(groups: Sequence[Sequence[Member]]) -> list[dict]:
    """What members.json tells of each; the refits of a member have the same parameters."""
    parameters = {}
    for member in groups[0]:
        config, classes = map(member.folder.read_json, ('config.json', 'classes.json'))
        parameters[member.name] = plan.parameters(config, num_classes=len(classes))
    return [
        {
            'name': member.name,
            'fold': member.fold,
            'folder': str(member.folder.path),
            'config': member.config,
            'parameters': parameters[member.name],
            'config_hash': member.folder.read_json('report.json')['config_hash'],
        }
        for group in groups
        for member in group
    ]
