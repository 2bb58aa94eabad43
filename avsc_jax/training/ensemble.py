"""The job of an ensemble, whose members are runs of other configs: tables, fusion, report.

It only reads tables of predictions, so it takes seconds and no accelerator. It names the commands
that train missing members, or runs them if the config sets `train_missing`.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from avsc_jax import ensemble, report, tables
from avsc_jax.data import folds
from avsc_jax.ensemble import recipes
from avsc_jax.report import submission
from avsc_jax.report.scores import groups as groups_of
from avsc_jax.runs import summary
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.scenes import SCENES, ClipName
from avsc_jax.tables import mix
from avsc_jax.training import decision, dependencies, reuse, several
from avsc_jax.training.dependencies import EVALUATION, Member

Tables = dict[str, tables.Predictions]

# A line of searched weights is scored twice: as in the papers, and on unseen locations.
SAME, OTHER = 'searched on scored rows', 'searched on other places'


def run(
    config: ConfigDict,
    folder: RunFolder,
    folders: Mapping[str, Path | None],
    flags: Sequence[str],
    *,
    stored: Mapping[str, Any],
    dry_run: bool,
) -> None:
    """Reads the members' tables, fuses them, and writes table, report and submission.

    Args:
      folders: of data and weights, by the names of their flags.
      flags: added to the commands that make missing tables.
      stored: the config as the run folder keeps it, without the defaults of absent fields.
      dry_run: whether to print only which members are trained, and the missing commands.
    """
    check(config)
    names = [name for group in config.groups.values() for name in group]
    refits = range(config.get('folds', 0)) or [config.data.get('fold')]
    made = (dependencies.named(config, names, fold, config.seed) for fold in refits)
    groups = [reuse.found(group, config, folders) for group in made]
    everyone = [member for group in groups for member in group]
    todo = missing(everyone, config)
    if dry_run:
        print(text(everyone, [dependencies.line(command, flags) for command in todo]))
        return
    if todo:
        print(status(everyone), file=sys.stderr, flush=True)
    dependencies.complete(todo, config, flags)
    data = dependencies.data(everyone)
    scored = fuse(groups, config)
    decided = decide(scored, groups, config) if config.get('decision') else None
    result = scored[title(headline(config))]
    content = _content(config, folder, scored)
    if decided:
        content['decision'] = decided.worth
    fitted = decided.fitted if decided else []
    evaluated = evaluate(groups, config, fitted) if 'submission' in config else None
    facts = _facts(groups)
    folder.begin(stored)  # nothing is written before everything above has worked
    folder.record_environment(data, {})
    folder.write_json('classes.json', result.meta['classes'])
    folder.write_json('members.json', facts)
    if fitted:
        decision.write(fitted, folder)
    tables.write(result, folder.predictions_file(config.data.test))
    if evaluated:
        tables.write(evaluated, folder.predictions_file(EVALUATION))
        submit(evaluated, config, folder.path / 'submission', facts, content['scores']['clip'])
    page = report.write(content, folder.path)
    folder.finish()
    print(report.text(content))
    print(f'report: {page}')


def _content(config: ConfigDict, folder: RunFolder, scored: Tables) -> dict:
    """Returns the content of the report on the headline's table, with a line for each table."""
    result = scored[title(headline(config))]
    content = report.make(
        result,
        title=folder.path.name,
        about=result.meta['about'],
        paper=config.paper.to_dict(),
        learned={
            name: values
            for table in scored.values()
            for name, values in table.meta.get('learned', {}).items()
        },
    )
    items = config.data.get('items', 'clip')
    content['members'] = [report.line(*item, level=items) for item in scored.items()]
    return content


def check(config: ConfigDict) -> None:
    """Raises ValueError for unknown members, recipes or options, or one fold of several."""
    several.check_none(config, 'an ensemble, whose decisions are of one class')
    if config.get('folds') and 'fold' in config.data:
        raise ValueError(
            f'{config.paper.row} averages the refits of {config.folds} folds; leave out --fold'
        )
    decision.check(config)
    members = [name for group in config.groups.values() for name in group]
    takes = {f'the line {line["row"]}': line['roles'] for line in (*config.lines, headline(config))}
    for where, names, known in (
        ('config.groups', members, [*config.members]),
        *((where, names, [*config.groups, *members]) for where, names in takes.items()),
    ):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f'{where} takes {unknown[0]!r}, which is none of {mix.listed(known)}; change '
                'config.groups, config.roles or config.lines'
            )
    for line in (*config.lines, headline(config)):
        recipes.check(f'the recipe of {line["row"]}', dict(line['recipe']))
        alike = np.full((1, len(SCENES)), 1 / len(SCENES))  # wrong values of options are errors
        mix.fuse({role: alike for role in line['roles']}, line['recipe'], classes=SCENES)


def missing(everyone: Sequence[Member], config: ConfigDict) -> list[list[str]]:
    """Returns the commands that train unfinished members and make missing tables, in order."""
    todo = [member.training for member in everyone if not member.folder.is_done]
    if 'submission' in config:
        todo += [
            member.prediction(config.evaluation.to_dict())
            for member in everyone
            if not member.folder.predictions_file(EVALUATION).exists()
        ]
    return todo


def status(everyone: Sequence[Member]) -> str:
    """Returns a line for each member that says whether it is trained."""
    return '\n'.join(
        f'{member.name:6}{member.folder.path}  {"" if member.folder.is_done else "not "}trained'
        for member in everyone
    )


def text(everyone: Sequence[Member], todo: Sequence[str]) -> str:
    """Returns the members' status, and the commands that make what is missing."""
    lines = ['missing:', *todo] if todo else ['nothing is missing']
    return '\n'.join([status(everyone), *lines])


def read(
    group: Sequence[Member], split: str, items: str = 'clip'
) -> dict[Member, tables.Predictions]:
    """Reads the members' tables of a split, with the same items in the same order.

    Args:
      items: what a row is: 'clip', to which all tables are pooled, or 'second'.
    """
    read_tables = {member: tables.read(member.folder.predictions_file(split)) for member in group}
    for member, table in read_tables.items():
        if items != 'clip' and table.meta.get('granularity') != items:
            raise ValueError(
                f'{member.folder.path} has a row for each {table.meta.get("granularity")}, not for '
                f'each {items}; train {member.config} again'
            )
    return mix.alike(read_tables, pooled=items == 'clip')


def fuse(groups: Sequence[Sequence[Member]], config: ConfigDict) -> Tables:
    """Makes all tables that are scored: members, means of roles, other lines, last the ensemble.

    With several folds, each clip is classified by the members that were not trained on it.
    """
    refits = []
    for group in groups:
        of_members = read(group, config.data.test, config.data.get('items', 'clip'))
        refits.append(fuse_refit({member.name: of_members[member] for member in group}, config))
    return {name: tables.joined([refit[name] for refit in refits]) for name in refits[0]}


def fuse_refit(members: Tables, config: ConfigDict) -> Tables:
    """Fuses the members of one fold; see `fuse`."""
    probs = {name: table.probs for name, table in members.items()}
    probs |= by_role(probs, config)
    classes = mix.first(members).meta['classes']
    scored = dict(members)
    for role, name in config.group_names.items():
        if len(config.groups[role]) > 1:
            scored[name] = _like(members, probs[role])
    last = headline(config)
    for line in (*config.lines, last):
        chosen = {role: probs[role] for role in line['roles']}
        if is_weighted(line):
            scored |= weighted(line, chosen, members)
        else:
            probs_of_line = mix.fuse(chosen, line['recipe'], classes=classes)
            scored[line['row']] = _like(members, probs_of_line)
            if config.get('temperature') and line['recipe'].get('clamp'):
                scored |= calibrated(line, chosen, members)
    scored[title(last)].meta.update(
        system=title(last),
        about=mix.about(members, _sentence(last, config), []),
        calibrated=bool(last['recipe'].get('clamp')),
    )
    return scored


def decide(
    scored: Tables, groups: Sequence[Sequence[Member]], config: ConfigDict
) -> decision.Decision:
    """Puts the ensemble after its fitted decision stage in the place of its mix in `scored`."""
    refits = []
    for group in groups:
        of_members = read(group, config.data.test, config.data.get('items', 'clip'))
        refit = {member.name: of_members[member] for member in group}
        refits.append(roles_of(refit, headline(config), config))
    roles = {name: tables.joined([refit[name] for refit in refits]) for name in refits[0]}
    row = config.paper.row
    mixed = scored.pop(row)
    decided = decision.decide(mixed, roles, [*config.decision], row)
    *stages, (_, last) = decided.stages.items()
    scored |= dict(stages)
    about = mixed.meta['about']
    last.meta['about'] = {**about, 'protocol': f'{about["protocol"]}; {decided.sentence}'}
    scored[row] = last
    return decided


def roles_of(members: Tables, line: Mapping[str, Any], config: ConfigDict) -> Tables:
    """Returns a table for each role of a line: a member, or the mean of a group."""
    probs = {name: table.probs for name, table in members.items()}
    probs |= by_role(probs, config)
    return {role: _like(members, probs[role]) for role in line['roles']}


def headline(config: ConfigDict) -> dict[str, Any]:
    """Returns the line of the ensemble itself, over config.roles or else over all groups."""
    roles = config.get('roles') or [*config.groups]
    return dict(row=config.paper.row, roles=roles, recipe=config.recipe)


def is_weighted(line: Mapping[str, Any]) -> bool:
    """Returns whether a line's weights are searched."""
    return mix.RECIPES[line['recipe']['name']].fits is not None


def title(line: Mapping[str, Any], way: str = SAME) -> str:
    """Returns the name of a line's table."""
    return f'{line["row"]}, {way}' if is_weighted(line) else line['row']


def weighted(line: Mapping[str, Any], chosen: Mapping[str, np.ndarray], members: Tables) -> Tables:
    """Searches the weights of a line twice, and returns both tables.

    The first has the weights that are best on the scored rows, as in the papers, and lists them in
    its header; in the second, each half of the recording locations is mixed by the weights that
    are best on the other half.
    """
    group = {name: _like(members, probs) for name, probs in chosen.items()}
    half = halves(mix.first(group))
    weights = mix.fit_weights(group)
    probs, of_halves = mix.mix_halves(group, half)
    zero = [name for name, weight in zip(group, weights, strict=True) if not weight]
    learned = {
        f'weights of {title(line)}; zero: {mix.listed(zero) or "none"}': weights,
        f"the paper's weights of {line['row']}": line['recipe'].get('paper') or (),
        **{f'weights of {title(line, OTHER)}, half {n}': of_halves[n - 1] for n in (1, 2)},
    }
    same = _like(members, mix.mix(group, 'weights', weights, clamp=None))
    same.meta['learned'] = {
        name: dict(zip(group, map(float, values), strict=True))
        for name, values in learned.items()
        if len(values)
    }
    return {title(line): same, title(line, OTHER): _like(members, probs)}


def calibrated(
    line: Mapping[str, Any], chosen: Mapping[str, np.ndarray], members: Tables
) -> Tables:
    """Scales a line's unclamped mix by a temperature, and returns a table that is called ours.

    Each half of the recording locations is scaled by the temperature that is best on the other
    half. The papers have no such line; it stands beside the one of the clamp, Eq. (1).
    """
    first = mix.first(members)
    mixed = mix.fuse(chosen, line['recipe'], classes=first.meta['classes'], clamp=None)
    half, probs, found = halves(first), np.empty_like(mixed), {}
    for number in (0, 1):
        inside = half == number
        temperature = ensemble.fit_temperature(mixed[~inside], first.label[~inside])
        probs[inside] = ensemble.temperature_scale(mixed[inside], temperature)
        found[f'half {number + 1}'] = temperature
    name = f'{line["row"]}, temperature, ours'
    table = _like(members, probs)
    table.meta['learned'] = {f'{name}, from the other half of the places': found}
    return {name: table}


def halves(table: tables.Predictions) -> np.ndarray:
    """Cuts the rows of a table in two halves that share no location; returns 0 or 1 for each.

    Raises:
      ValueError: the table has rows of one location only.
    """
    places, _ = groups_of(table)
    clips, labels = table.clip_id.tolist(), table.label.tolist()
    named = {
        clip: ClipName(str(label), '', place, '')
        for clip, label, place in zip(clips, labels, places.tolist(), strict=True)
    }
    half = folds.assign(clips, num_folds=2, name_of=named.__getitem__)
    folds.check(clips, half, num_folds=2, name_of=named.__getitem__)
    return half


def by_role(probs: Mapping[str, np.ndarray], config: ConfigDict) -> dict[str, np.ndarray]:
    """Takes the mean of each role's members [N, C]; leaves out roles that have none in `probs`."""
    members = {
        role: [probs[name] for name in names if name in probs]
        for role, names in config.groups.items()
    }
    return {role: ensemble.mean(np.stack(group)) for role, group in members.items() if group}


def evaluate(
    groups: Sequence[Sequence[Member]],
    config: ConfigDict,
    fitted: Sequence[ensemble.FittedStep] = (),
) -> tables.Predictions:
    """Classifies the items of the challenge's evaluation set.

    Args:
      fitted: the steps of the decision stage, fitted to the reported clips.

    The fused rows of several folds are averaged first, and normalised once (S03, S04).
    """
    everyone = [member for group in groups for member in group]
    of_members = read(everyone, EVALUATION)
    line, parts = headline(config), []
    for group in groups:
        refit = {member.name: of_members[member] for member in group}
        classes = mix.first(refit).meta['classes']
        roles = {name: table.probs for name, table in roles_of(refit, line, config).items()}
        parts.append(mixed_by(line['recipe'], roles, classes, fitted))
    return _like(refit, ensemble.renormalize(ensemble.mean(np.stack(parts))))


def mixed_by(
    recipe: Mapping[str, Any],
    roles: Mapping[str, np.ndarray],
    classes: Sequence[str],
    fitted: Sequence[ensemble.FittedStep],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Mixes the roles of one fold and applies the fitted steps.

    Without any step, rows need not sum to one.
    """
    probs = mix.fuse(roles, recipe, classes=classes, weights=weights, renormalize=False)
    if not fitted:
        return probs
    members = np.stack([*roles.values()])
    return ensemble.apply_steps(fitted, ensemble.renormalize(probs), members)[-1]


def submit(
    table: tables.Predictions,
    config: ConfigDict,
    folder: Path,
    facts: Sequence[Mapping],
    scores: Mapping[str, object],
) -> None:
    """Writes the challenge's two files: the output table and the sheet about the system."""
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


def _like(members: Tables, probs: np.ndarray) -> tables.Predictions:
    """Returns a table of the members' clips with other probabilities."""
    first = mix.first(members)
    kept = ('split', 'classes', 'granularity', 'pooled')
    meta = {name: first.meta[name] for name in kept if name in first.meta}
    return dataclasses.replace(first, probs=probs, meta=meta | {'calibrated': False})


def _sentence(line: Mapping[str, Any], config: ConfigDict) -> str:
    """Returns a sentence about how the ensemble is made of its members."""
    groups = '; '.join(
        f'{role}: {"mean of " * (len(names) > 1)}{mix.listed(names)}'
        for role, names in config.groups.items()
        if role in line['roles']
    )
    options = {k: v for k, v in line['recipe'].items() if k not in ('name', 'paper')}
    shown = ''.join(f', {name} {value or "none"}' for name, value in options.items())
    made = f'{mix.RECIPES[line["recipe"]["name"]].words} of {mix.listed(line["roles"])}{shown}'
    made += f' ({groups})' if groups else ''
    if not is_weighted(line):
        return made
    return (
        f'{made}; {SAME}: the weights are those that fit these rows best, as in the paper; '
        f'{OTHER}: half of the locations by the weights that fit the other half'
    )


def _facts(groups: Sequence[Sequence[Member]]) -> list[dict]:
    """Returns the content of members.json; a member has equally many parameters in all folds."""
    parameters = {}
    for member in groups[0]:
        config, count = member.folder.config, member.folder.num_classes
        parameters[member.name] = summary.parameters(config, num_classes=count)
    return [
        {
            'name': member.name,
            'fold': member.fold,
            'folder': str(member.folder.path),
            'config': member.config,
            'parameters': parameters[member.name],
            'config_hash': member.folder.read_json('report.json', {'config_hash': str})[
                'config_hash'
            ],
        }
        for group in groups
        for member in group
    ]
