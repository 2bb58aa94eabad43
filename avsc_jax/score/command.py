"""Runs avsc_jax.score on parsed flags: a function for each of its commands."""

import argparse
import csv
import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax import metrics, report, tables
from avsc_jax.ensemble.recipes import RECIPES
from avsc_jax.report import comparison, modalities, scores, submission
from avsc_jax.runs import checksums
from avsc_jax.runtime import nearest
from avsc_jax.runtime.files import printable, write_texts
from avsc_jax.score import flags
from avsc_jax.tables import mix

TABLE = 'predictions/test.npz'  # inside a run folder


def run(mode: str | None, options: argparse.Namespace) -> int:
    """Runs a mode of MODES, and shows each note on tables once; returns the exit code."""
    shown, default = set(), warnings.showwarning

    def show(message: Warning, category: type[Warning], *place: object, **more: object) -> None:
        if not issubclass(category, tables.Note):
            default(message, category, *place, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            print(printable(f'note: {message}'), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter('always', tables.Note)
        warnings.showwarning = show
        return MODES[mode](options)


def _score(options: argparse.Namespace) -> int:
    """Reads, mixes and scores tables; files are written last, when nothing else can fail."""
    paths, fit_paths = _named([*options.table, *options.report_on]), _named(options.fit_on)
    flags.check(options, paths, fit_paths)
    written = Path(options.out) / 'predictions.npz' if options.out else None
    if written:
        _check_output(written, [*paths.values(), *fit_paths.values()])
    members = _alike(paths, options, options.truth, pooled=options.clamp is not None)
    weights = _weights(options.weights, members)
    steps, fitted, cautions = [], '', []
    if fit_paths:
        fit = _alike(
            fit_paths, options, options.truth, pooled=options.clamp is not None, relabel=False
        )
        fit = mix.paired(fit, members, by_name=_with_roles({**fit_paths, **paths}))
        if fits := RECIPES[options.recipe].fits:
            weights = fits(mix.stacked(fit), mix.first(fit).label)
        if options.calibrate:
            mixed = mix.mix(fit, options.recipe, weights, options.clamp)
            steps, fitted = mix.fit_calibration(options.calibrate, mixed, fit)
        of_fit = scores.cautions(fit)
        cautions = [*of_fit, *filter(None, [mix.overlap(fit, members)])]
    probs = mix.mix(members, options.recipe, weights, options.clamp)
    about = mix.about(members, _sentence(paths, fit_paths, weights, fitted, options), cautions)
    mixed = _result(members, mix.calibrate(steps, probs, members), options, about)
    _report(options, members, mixed, written)
    return 0


def _check_several(options: Mapping[str, Any], table: tables.Predictions) -> None:
    """Raises ValueError for an option that needs classes of which one is right."""
    for name in ('clamp', 'clamped', 'calibrate', 'fit_on', 'gallery'):
        if options.get(name):
            tables.check_exclusive(table, f'--{name.replace("_", "-")}')
    recipe = options.get('recipe', 'mean')
    if recipe != 'mean':
        tables.check_exclusive(table, f'--recipe={recipe}')


def _report(
    options: argparse.Namespace,
    members: mix.Members,
    mixed: tables.Predictions,
    written: Path | None,
) -> None:
    """Prints the scores, and writes the gallery, the page and the table that are asked for."""
    result = report.make(mixed, title=mixed.meta['system'], about=mixed.meta['about'])
    if len(members) > 1 or options.clamp or options.calibrate:
        result['members'] = [report.line(*item) for item in [*members.items(), ('result', mixed)]]
    print(report.text(result))
    if options.gallery:
        _write_gallery(members, options)
    if written:
        page = report.write(result, written.parent)
        tables.write(mixed, written)
        print(f'wrote {page}, report.json and predictions.npz')


def _check_submission(options: argparse.Namespace) -> int:
    """Checks a challenge output; returns 0 when it may be submitted, else 1."""
    items = submission.read_items(options.items) if options.items else None
    truth = tables.truth(options.truth) if options.truth else None
    wrong = submission.check(options.check, items, truth)
    print('\n'.join([*wrong, f'{options.check} {"is not ready" if wrong else "may be submitted"}']))
    if truth:
        print(submission.costs(options.check, truth))
    elif items is None and not wrong and (why := submission.uncounted(options.check)):
        print(f'note: {why}', file=sys.stderr)
    return 1 if wrong else 0


def _compare(options: argparse.Namespace) -> int:
    """Compares the first system with each of the others on the clips that all have."""
    from avsc_jax.runs import summary  # the networks take seconds to load, and only this needs them

    paths = _named(options.compare)
    if len(paths) < 2:
        raise ValueError(
            f'{mix.listed(paths)} alone cannot be compared; name another table or run folder, too'
        )
    if options.out:
        _check_output(Path(options.out) / 'comparison.html', list(paths.values()))
    short = {
        printable(path.name if path.is_dir() and name == str(path) else name): path
        for name, path in paths.items()
    }
    paths = short if len(short) == len(paths) else paths  # the name of a run folder is enough
    read = {name: _read(path, options, options.truth) for name, path in paths.items()}
    members, warned = comparison.common(read)
    runs = {name: run for name, path in paths.items() if (run := summary.run_of(path))}
    result = comparison.make(
        mix.alike(members),
        systems={name: summary.facts(table, runs.get(name)) for name, table in read.items()},
        settings=summary.settings(runs),
        warned=[*summary.other_data(runs), *warned],
    )
    print(comparison.text(result))
    if options.out:
        print(f'wrote {comparison.write(result, options.out)} and comparison.json')
    return 0


def _modalities(options: argparse.Namespace) -> int:
    """Compares a fusion with each of its modalities."""
    paths = _named(options.modalities)
    if options.out:
        _check_output(Path(options.out) / 'modalities.tsv', list(paths.values()))
    members = _alike(paths, options, options.truth, pooled=True)
    result = modalities.make(members)
    print(modalities.text(result))
    if options.out:
        print(f'wrote {modalities.write(result, options.out)}, modalities.json and modalities.tsv')
    return 0


def _paper(options: argparse.Namespace) -> int:
    """Prints a table of a paper, with our scores beside the published ones."""
    from avsc_jax.report import paper  # the networks take seconds to load, and only this needs them

    if options.runs and not options.runs.is_dir():
        raise FileNotFoundError(
            f'--runs {options.runs} is not a folder; name the folder of the runs'
        )
    runs = options.runs or Path('runs')
    for file in runs.glob(f'*/{checksums.FILE}'):
        checksums.check(file.parent, 'report.json')
    page = paper.text(paper.make(options.paper, runs))
    print(page)
    if options.out:
        name = f'{options.paper}.md'
        write_texts(options.out, {name: page + '\n'})
        print(f'\nwrote {Path(options.out) / name}')
    return 0


def _named(arguments: Sequence[str]) -> dict[str, Path]:
    """Parses 'audio=a.npz' -> {'audio': Path('a.npz')}; a path alone is its own name."""
    named = {}
    for argument in arguments:
        role, equals, path = argument.partition('=')
        if not equals or Path(argument).exists():
            role, path = argument, argument
        if not role or role in named:
            raise ValueError(
                f'{argument!r} has an empty or repeated role; name each table as role=table'
            )
        named[role] = Path(path)
    return named


def _with_roles(paths: Mapping[str, Path]) -> bool:
    return any(name != str(path) for name, path in paths.items())


def _check_output(written: Path, inputs: Sequence[Path]) -> None:
    if written.parent.exists() and not written.parent.is_dir():
        raise ValueError(f'--out {written.parent} is a file; name a folder')
    if written.resolve() in [path.resolve() for path in inputs]:
        raise ValueError(
            f'{written} is one of the input tables and would be overwritten; name another --out'
        )


def _alike(
    paths: Mapping[str, Path],
    options: argparse.Namespace,
    truth: str | None = None,
    *,
    pooled: bool,
    relabel: bool = True,
) -> dict[str, tables.Predictions]:
    """Reads the tables, and brings the same items into the same order; see `_read`."""
    members = {name: _read(path, options, truth, relabel) for name, path in paths.items()}
    return mix.alike(members, pooled=pooled)


def _read(
    path: Path, options: argparse.Namespace, truth: str | None = None, relabel: bool = True
) -> tables.Predictions:
    """Reads and checks a table.

    Args:
      truth: a list of true scenes.
      relabel: whether the list also replaces labels that the table has.
    """
    if path.is_dir():
        path /= TABLE
        if not path.is_file():
            runs = sorted(str(at.parents[1]) for at in path.parents[1].glob(f'*/{TABLE}'))
            inside = f' (the folder holds the runs {", ".join(runs[:9])})' if runs else ''
            raise FileNotFoundError(
                f'there is no {path}{inside or nearest.path(path)}; name a table, or a finished '
                'run with a test split'
            )
    with warnings.catch_warnings():  # of sums, which are checked below and reported
        warnings.simplefilter('ignore', UserWarning)
        try:
            table = tables.read(path, _classes(options.classes))
        except ValueError as error:
            named = str(path) in str(error)
            raise ValueError(str(error) if named else f'{path}: {error}') from error
    is_several = table.meta.get('kind') == 'independent'
    if is_several:
        _check_several(vars(options), table)
    clamped = options.clamped or table.meta.get('calibrated', False)
    if clamped and options.clamp:
        raise ValueError(
            f'{path} is clamped already, and clamping it again would change it; leave out --clamp'
        )
    if not (clamped or is_several):
        table = tables.cautioned(table, _rounded(table, path))
    if truth and (relabel or (table.label < 0).all()):
        read = tables.label_sets if is_several else tables.truth_and_groups
        table = tables.with_truth(table, *read(truth))
    return dataclasses.replace(table, meta={**table.meta, 'calibrated': clamped})


def _rounded(table: tables.Predictions, path: Path) -> list[str]:
    """Describes the rounding of a table's probabilities, if sums of rows show it.

    Raises:
      ValueError: sums are farther from one than rounding takes them.
    """
    sums = table.probs.sum(axis=1)
    away = np.abs(sums - 1)
    bad = np.flatnonzero(away > metrics.sum_tolerance(table.probs))
    if bad.size:
        raise ValueError(
            f'{path}: the probabilities of {table.clip_id[bad[0]]} sum to {sums[bad[0]]:.6g}, not '
            f'to 1 ({bad.size} of {len(sums)} rows are wrong). If they were rounded, give two '
            'decimals or more; else give softmax probabilities, or pass --clamped if they were '
            'clamped on purpose'
        )
    if not len(away) or away.max() <= metrics.TOLERANCE or metrics.rounding(table.probs) is None:
        return []
    return [
        f'{path}: the probabilities are rounded to {metrics.rounding(table.probs)} decimals, so '
        f'rows sum to {sums.min():.4g} to {sums.max():.4g}, and a true scene that was rounded to 0 '
        'costs as much as a sure error'
    ]


def _classes(text: str | None) -> list[str] | None:
    """Splits the names of classes at commas; a name with a comma is quoted."""
    return None if text is None else [name.strip() for name in next(csv.reader([text]))]


def _weights(text: str | None, members: Mapping[str, tables.Predictions]) -> np.ndarray:
    if text is None:
        return np.full(len(members), 1 / len(members))
    try:
        weights = np.array([float(weight) for weight in text.split(',')])
    except ValueError as error:
        raise ValueError(
            f'--weights is {text!r}; it must be numbers with commas, such as .4,.6'
        ) from error
    if len(weights) != len(members) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(
            f'--weights is {text!r}; it must be {len(members)} numbers of 0 or more, one for each '
            'table, and not all 0'
        )
    return weights / weights.sum()


def _result(
    members: Mapping[str, tables.Predictions],
    probs: np.ndarray,
    options: argparse.Namespace,
    about: Mapping[str, object],
) -> tables.Predictions:
    first, *others = members.values()
    meta = {'system': next(iter(members)), **first.meta}
    if others:  # a mix has no facts of single members
        shared = ('classes', 'granularity', 'pooled', 'kind')
        meta = {key: meta[key] for key in shared if key in meta}
        meta['system'] = f'{RECIPES[options.recipe].words} of {", ".join(members)}'
    clamped = options.clamp or 'clamp' in options.calibrate
    calibrated = bool(clamped) or any(t.meta['calibrated'] for t in members.values())
    meta |= {'calibrated': calibrated, 'about': about}
    return dataclasses.replace(first, probs=probs, meta=meta)


def _sentence(
    paths: Mapping[str, Path],
    fit_paths: Mapping[str, Path],
    weights: np.ndarray,
    fitted: str,
    options: argparse.Namespace,
) -> str:
    """Describes how the tables were mixed and calibrated, with the exact numbers."""
    names, fit_names = (
        [name if name == str(path) else f'{name} ({path})' for name, path in group.items()]
        for group in (paths, fit_paths)
    )
    parts = ' + '.join(
        f'{weight:.4g} {name}' if RECIPES[options.recipe].weighs else name
        for weight, name in zip(weights, names, strict=True)
    )
    done = f'{RECIPES[options.recipe].words}: {parts}' if len(names) > 1 else names[0]
    if options.clamp:
        done += f'; clamped (Okazaki 2021, Eq. 1), {options.clamp.replace("_", " ")}'
    if fitted:
        done += f'; calibrated: {fitted}'
    if fit_names:
        done += f'; fitted on {mix.listed(fit_names)}'
    return done + (f'; true scenes from {options.truth}' if options.truth else '')


def _write_gallery(members: mix.Members, options: argparse.Namespace) -> None:
    from avsc_jax.data import (  # these take seconds to load, and only the gallery needs them
        records,
        sources,
    )
    from avsc_jax.report import gallery

    data_dir = options.data_dir or records.default_data_dir()
    dataset = sources.named(options.dataset, data_dir)
    first, second, *_ = members
    sound, picture = options.sound or first, options.picture or second
    num = gallery.write(
        members, dataset, options.split, options.gallery, sound=sound, picture=picture
    )
    print(f'wrote {options.gallery}: {sound} is right and {picture} wrong in {num:,} clips')


# The function of each mode of `flags.parse`; None scores tables.
MODES = {
    None: _score,
    'check': _check_submission,
    'compare': _compare,
    'modalities': _modalities,
    'paper': _paper,
}
