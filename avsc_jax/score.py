"""Scores tables of predictions, alone or averaged: python -m avsc_jax.score table [...]."""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avsc_jax import cli, ensemble, report, tables

DESCRIPTION = """\
Scores tables of predictions against the true scenes: log loss, accuracy, every class, every city,
calibration, with intervals over recording locations. Several tables are averaged, and the members
and their mix are shown side by side.

A table is the predictions/test.npz of a run, or a tab-separated DCASE file (filename, scene_label,
airport ... tram). A prefix names its role in the output: audio=a.npz visual=v.npz.
"""
EXAMPLES = """\
examples:
  score one submission file against the fold's truth, on the console only
    python -m avsc_jax.score submission.csv --truth fold1_evaluate.csv

  average two systems, clamp each as Okazaki et al. do, and write the report and the table
    python -m avsc_jax.score audio=runs/a/predictions/test.npz visual=runs/v/predictions/test.npz \\
      --weights .4,.6 --clamp=per_model --out report/
"""
SUM_TOLERANCE = 1e-3  # what rounding to four decimals or more can do to the sum of a row


def main(argv: list[str]) -> int:
    """Reads, mixes, scores; files are written only once everything else has worked."""
    options = _parser().parse_args(argv)
    paths = _named(options.table)
    written = Path(options.out) / 'predictions.npz' if options.out else None
    if written:
        _check_output(written, paths.values())
    members = {name: _read(path, options) for name, path in paths.items()}
    members = _alike(members, pooled=options.clamp is not None)
    weights = _weights(options.weights, members)
    about = _about(members, _sentence(paths, weights, options))
    mixed = _mix(members, weights, options.clamp, about)
    result = report.make(mixed, title=mixed.meta['system'], about=about)
    if len(members) > 1 or options.clamp:
        result['members'] = [_member(*item) for item in [*members.items(), ('result', mixed)]]
    print(report.text(result))
    if written:
        page = report.write(result, written.parent)
        tables.write(mixed, written)
        print(f'wrote {page}, report.json and predictions.npz')
    return 0


def run() -> None:
    """The console script avsc-score."""
    sys.exit(cli.main(main))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.score',
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('table', nargs='+', metavar='[role=]table', help='.npz, .csv, .tsv or .txt')
    parser.add_argument(
        '--recipe', choices=['mean'], default='mean', help='how several tables are mixed (mean)'
    )
    parser.add_argument(
        '--weights', metavar='W,W,...', help='weights of the mean, one a table; made to sum to one'
    )
    parser.add_argument(
        '--clamp',
        choices=['fused', 'per_model'],
        help='pool to clips, then clamp (Okazaki 2021, Eq. 1) the mean, or each table before it',
    )
    parser.add_argument(
        '--clamped',
        action='store_true',
        help='the tables are clamped already: their rows need not sum to one',
    )
    parser.add_argument(
        '--truth',
        metavar='FOLD.csv',
        help='true scenes (columns filename_audio ... scene_label), in place of any in the tables',
    )
    parser.add_argument(
        '--out',
        metavar='FOLDER',
        help='write report.html, report.json and predictions.npz there; without it only print',
    )
    return parser


def _named(arguments: Sequence[str]) -> dict[str, Path]:
    """'audio=a.npz' -> {'audio': Path('a.npz')}; a table without a role is called by its path."""
    named = {}
    for argument in arguments:
        role, equals, path = argument.partition('=')
        if not equals or Path(argument).exists():
            role, path = argument, argument
        if not role or role in named:
            raise ValueError(f'{argument!r} needs a name of its own: write another role=table')
        named[role] = Path(path)
    return named


def _check_output(written: Path, inputs: Sequence[Path]) -> None:
    if written.parent.exists() and not written.parent.is_dir():
        raise ValueError(f'--out {written.parent} is a file; name a folder')
    if written.resolve() in [path.resolve() for path in inputs]:
        raise ValueError(
            f'{written} is one of the tables read and would be lost; name another --out'
        )


def _read(path: Path, options: argparse.Namespace) -> tables.Predictions:
    with warnings.catch_warnings():  # about sums, which are checked here and told by the report
        warnings.simplefilter('ignore', UserWarning)
        try:
            table = tables.read(path)
        except ValueError as error:
            named = str(path) in str(error)
            raise ValueError(str(error) if named else f'{path}: {error}') from error
    clamped = options.clamped or table.meta.get('calibrated', False)
    if clamped and options.clamp:
        raise ValueError(
            f'{path} is clamped already and clamping twice gives other numbers; leave out --clamp'
        )
    sums = table.probs.sum(axis=1)
    bad = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if bad.size and not clamped:
        raise ValueError(
            f'{path}: the probabilities of {table.clip_id[bad[0]]} sum to {sums[bad[0]]:.6g}, not '
            f'to 1 (so {bad.size} of {len(sums)} rows); give softmax probabilities, or pass '
            '--clamped if they were clamped on purpose'
        )
    if options.truth:
        table = tables.with_truth(table, tables.truth(options.truth))
    return dataclasses.replace(table, meta={**table.meta, 'calibrated': clamped})


def _alike(
    members: Mapping[str, tables.Predictions], pooled: bool
) -> dict[str, tables.Predictions]:
    """The same items in the same order in all; clips where frames would meet seconds."""
    kinds = {table.meta.get('granularity') for table in members.values()}
    found = list(members.values())
    if pooled or len(kinds) > 1:
        found = [tables.pool(table) for table in found]
    found = tables.aligned(found)
    label = np.max([table.label for table in found], axis=0)  # -1 where none knows it
    found = [dataclasses.replace(table, label=label) for table in found]
    return dict(zip(members, found, strict=True))


def _weights(text: str | None, members: Mapping[str, tables.Predictions]) -> np.ndarray:
    if text is None:
        return np.full(len(members), 1 / len(members))
    try:
        weights = np.array([float(weight) for weight in text.split(',')])
    except ValueError as error:
        raise ValueError(f'--weights {text!r}: give numbers with commas, such as .4,.6') from error
    if len(weights) != len(members) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(
            f'--weights {text!r}: give {len(members)} numbers of 0 or more, one a table, '
            'not all of them 0'
        )
    return weights / weights.sum()


def _mix(
    members: Mapping[str, tables.Predictions],
    weights: np.ndarray,
    clamp: str | None,
    about: Mapping[str, object],
) -> tables.Predictions:
    first, *others = members.values()
    probs = np.stack([table.probs for table in members.values()])
    if clamp == 'per_model':
        probs = ensemble.clamp(probs)
    probs = ensemble.mean(probs, weights)
    if clamp == 'fused':
        probs = ensemble.clamp(probs)
    meta = {'system': next(iter(members)), **first.meta}
    if others:  # what is one member's own is not the mix's
        meta = {key: meta[key] for key in ('classes', 'granularity', 'pooled') if key in meta}
        meta['system'] = f'mean of {", ".join(members)}'
    calibrated = clamp is not None or any(t.meta['calibrated'] for t in members.values())
    meta |= {'calibrated': calibrated, 'about': about}
    return dataclasses.replace(first, probs=probs, meta=meta)


def _sentence(paths: Mapping[str, Path], weights: np.ndarray, options: argparse.Namespace) -> str:
    """What was done to the tables, with the exact numbers."""
    names = [name if name == str(path) else f'{name} ({path})' for name, path in paths.items()]
    if len(names) == 1:
        done = names[0]
    else:
        parts = (f'{weight:.4g} {name}' for weight, name in zip(weights, names, strict=True))
        done = f'mean: {" + ".join(parts)}'
    if options.clamp:
        done += f'; clamped (Okazaki 2021, Eq. 1), {options.clamp.replace("_", " ")}'
    return done + (f'; true scenes from {options.truth}' if options.truth else '')


def _about(members: Mapping[str, tables.Predictions], steps: str) -> dict[str, object]:
    """What the tables' own `about` says of data, protocol, weights and warnings, joined."""
    abouts = {name: table.meta.get('about', {}) for name, table in members.items()}

    def joined(key: str, unknown: str) -> str:
        return '; '.join(dict.fromkeys(about.get(key) or unknown for about in abouts.values()))

    return {
        'data': joined('data', 'not recorded in the table'),
        'protocol': f'{joined("protocol", "training not recorded in the table")}. Scored: {steps}',
        'weights': {
            f'{name}: {encoder}' if len(abouts) > 1 else encoder: origin
            for name, about in abouts.items()
            for encoder, origin in about.get('weights', {}).items()
        },
        'warnings': [line for about in abouts.values() for line in about.get('warnings', ())],
    }


def _member(name: str, table: tables.Predictions) -> dict[str, object]:
    """A line of the side-by-side table."""
    result = report.make(table, title=name, about={})
    score = result['scores'][result['headline']]
    keys = ('log_loss_micro', 'log_loss_macro', 'accuracy_micro', 'accuracy_macro')
    return {'name': result['title']} | {key: score[key] for key in (*keys, 'mean_confidence')}


if __name__ == '__main__':
    run()
