"""Scores tables of predictions, alone or averaged: python -m avsc_jax.score table [...]."""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from avsc_jax import cli, mixing, report, submission, tables
from avsc_jax.report import comparison

DESCRIPTION = """\
Scores tables of predictions against the true scenes: log loss, accuracy, every class, every city,
calibration, with intervals over recording locations. Several tables are mixed, and the members and
their mix are shown side by side.

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

  Hitachi's E02 from the tables of its three parts
    python -m avsc_jax.score audio=A04.npz visual=V04.npz clip=C04.npz --recipe=hitachi \\
      --clamp=per_model

  show the dim clips that sound names and the picture does not (Okazaki et al. 2021, Fig. 2)
    python -m avsc_jax.score A02=A02.npz V02=V02.npz C04=C04.npz --gallery dim.html --dataset=clips

  is one system better than another?
    python -m avsc_jax.score --compare ours=E02.npz theirs=E01.npz

  may a file be submitted?
    python -m avsc_jax.score --check Okazaki_LDSLVision_task1b_1.output.csv --items test.csv

  what does the paper say, and what do the runs here?
    python -m avsc_jax.score --paper=table2

  find weights and a temperature on one split and report on another
    python -m avsc_jax.score --recipe=weights --calibrate=temperature \\
      --fit-on a=a/valid.npz b=b/valid.npz --report-on a=a/test.npz b=b/test.npz
"""


def main(argv: list[str]) -> int:
    """Reads, mixes, scores; files are written only once everything else has worked."""
    options = _parser().parse_args(argv)
    if mode := _mode(options):
        return MODES[mode][0](options)
    paths, fit_paths = _named([*options.table, *options.report_on]), _named(options.fit_on)
    _check_options(options, paths, fit_paths)
    written = Path(options.out) / 'predictions.npz' if options.out else None
    if written:
        _check_output(written, [*paths.values(), *fit_paths.values()])
    members = {name: _read(path, options, options.truth) for name, path in paths.items()}
    members = mixing.alike(members, pooled=options.clamp is not None)
    weights = _weights(options.weights, members)
    adjust, fitted, cautions = None, '', []
    if fit_paths:
        fit = {name: _read(path, options) for name, path in fit_paths.items()}
        fit = mixing.alike(fit, pooled=options.clamp is not None)
        fit = mixing.paired(fit, members, by_name=_with_roles({**fit_paths, **paths}))
        if options.recipe == 'weights':
            weights = mixing.fit_weights(fit)
        if options.calibrate:
            mixed = mixing.mix(fit, options.recipe, weights, options.clamp)
            adjust, fitted = mixing.fit_calibration(options.calibrate, mixed, fit)
        cautions = filter(None, [mixing.overlap(fit, members)])
    probs = mixing.mix(members, options.recipe, weights, options.clamp)
    about = mixing.about(members, _sentence(paths, fit_paths, weights, fitted, options), cautions)
    mixed = _result(members, adjust(probs) if adjust else probs, options, about)
    result = report.make(mixed, title=mixed.meta['system'], about=about)
    if len(members) > 1 or options.clamp or options.calibrate:
        result['members'] = [report.line(*item) for item in [*members.items(), ('result', mixed)]]
    print(report.text(result))
    if options.gallery:
        _write_gallery(members, options)
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
    parser.add_argument('table', nargs='*', metavar='[role=]table', help='.npz, .csv, .tsv or .txt')
    parser.add_argument(
        '--recipe',
        choices=list(mixing.RECIPES),
        default='mean',
        help='how several tables are mixed: arithmetic mean (the default) or geometric mean; the '
        'decision stage of Okazaki 2021 (tables audio=, visual= and perhaps clip=); or the mean '
        'with weights in steps of 0.05 that are best on the tables of --fit-on',
    )
    parser.add_argument(
        '--fit-on',
        nargs='+',
        default=[],
        metavar='[role=]table',
        help="the members' tables of the split on which --recipe=weights and --calibrate are "
        'fitted, in the order or with the roles of those reported on',
    )
    parser.add_argument(
        '--report-on',
        nargs='+',
        default=[],
        metavar='[role=]table',
        help='the tables to score; the same as naming them first',
    )
    parser.add_argument(
        '--calibrate',
        choices=list(mixing.CALIBRATIONS),
        help='change the mix as is best on --fit-on: one temperature, a scale and a bias for each '
        'class, or the edges and values of a clamp like Okazaki 2021, Eq. 1',
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
    instead = parser.add_argument_group('in place of scoring')
    instead.add_argument(
        '--compare',
        nargs=2,
        metavar='[role=]table',
        help='are two systems different? with an interval and a paired test over locations',
    )
    instead.add_argument(
        '--check',
        type=Path,
        metavar='FILE',
        help='may this DCASE 2021 task 1B output file be submitted? exit code 1 if not; with '
        '--truth also the ten items that cost most',
    )
    instead.add_argument(
        '--items', type=Path, metavar='LIST', help='what FILE must name: one a line, or a DCASE csv'
    )
    instead.add_argument(
        '--paper',
        choices=('table2', 'table3', 'table4', 'table5'),
        help='this table of Okazaki et al. 2021, ours beside it; --out writes it as Markdown',
    )
    instead.add_argument('--runs', type=Path, help='where the run folders are (default runs)')
    gallery = parser.add_argument_group('clips that one table gets right and another wrong')
    gallery.add_argument(
        '--gallery',
        type=Path,
        metavar='OUT.html',
        help='write the clips that --sound gets right and --picture wrong there, darkest first',
    )
    gallery.add_argument('--sound', metavar='ROLE', help='which table (default: the first)')
    gallery.add_argument('--picture', metavar='ROLE', help='which table (default: the second)')
    gallery.add_argument(
        '--dataset', metavar='CONFIG', help='of the tfds_tau builder, such as demo: has the frames'
    )
    gallery.add_argument('--split', default='test', help='of the dataset (default test)')
    gallery.add_argument('--data_dir', type=Path, help='where the dataset is prepared')
    return parser


def _mode(options: argparse.Namespace) -> str | None:
    """What is done in place of scoring tables, if any; an error for options that it ignores."""
    plain = vars(_parser().parse_args([]))
    given = {name for name, value in vars(options).items() if value != plain[name]}
    mode = next((name for name in MODES if name in given), None)
    taken = {mode, *MODES[mode][1]} if mode else {*plain} - {'items', 'runs'}
    if strange := sorted(given - taken):
        what = f'--{mode}' if mode else 'scoring tables'
        raise ValueError(f'{what} does not go with {", ".join(strange)}; leave that out')
    return mode


def _check_submission(options: argparse.Namespace) -> int:
    """Exit code 0 when the file may be submitted."""
    items = submission.read_items(options.items) if options.items else None
    truth = tables.truth(options.truth) if options.truth else None
    wrong = submission.check(options.check, items, truth)
    print('\n'.join([*wrong, f'{options.check} {"is not ready" if wrong else "may be submitted"}']))
    if truth:
        print(submission.costs(options.check, truth))
    return 1 if wrong else 0


def _compare(options: argparse.Namespace) -> int:
    """Two systems on the same clips."""
    members = {
        name: _read(path, options, options.truth) for name, path in _named(options.compare).items()
    }
    print(comparison.text(comparison.make(mixing.alike(members, pooled=True))))
    return 0


def _paper(options: argparse.Namespace) -> int:
    """A table of a paper, ours beside theirs."""
    from avsc_jax.report import paper  # the networks take seconds to load, and only this needs them

    if options.runs and not options.runs.is_dir():
        raise FileNotFoundError(f'--runs {options.runs} is not a folder; name that of the runs')
    page = paper.text(paper.make(options.paper, options.runs or Path('runs')))
    print(page)
    if options.out:
        written = Path(options.out) / f'{options.paper}.md'
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(page + '\n', encoding='utf-8')
        print(f'\nwrote {written}')
    return 0


# In place of scoring: option -> what does it, and the other options that it takes.
MODES = {
    'check': (_check_submission, ('items', 'truth')),
    'compare': (_compare, ('truth', 'clamped')),
    'paper': (_paper, ('runs', 'out')),
}


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


def _with_roles(paths: Mapping[str, Path]) -> bool:
    return any(name != str(path) for name, path in paths.items())


def _check_options(
    options: argparse.Namespace, paths: Mapping[str, Path], fit_paths: Mapping[str, Path]
) -> None:
    """Options that need or exclude each other."""
    found = options.recipe == 'weights'
    for wrong, sentence in (
        (not paths, 'no table is named; give one or more, such as runs/a/predictions/test.npz'),
        (
            (found or options.calibrate) and not fit_paths,
            '--recipe=weights and --calibrate need --fit-on: the tables of the split to fit on',
        ),
        (
            fit_paths and not (found or options.calibrate),
            '--fit-on fits nothing here; pass --recipe=weights or --calibrate, or leave it out',
        ),
        (
            options.weights and options.recipe not in ('mean', 'geometric'),
            f'--weights are for a mean; --recipe={options.recipe} has its own, so leave one out',
        ),
        (
            found and (options.clamp == 'per_model' or options.clamped),
            '--recipe=weights searches tables whose rows sum to one; clamp the mix '
            '(--clamp=fused), not the tables',
        ),
        (
            options.clamp and options.calibrate == 'clamp',
            '--clamp and --calibrate=clamp would clamp twice; leave one out',
        ),
        (
            options.recipe == 'hitachi'
            and {*paths} not in ({'audio', 'visual'}, {'audio', 'visual', 'clip'}),
            f'--recipe=hitachi takes audio=table visual=table and perhaps clip=table, not '
            f'{mixing.listed(paths)}',
        ),
        (
            options.gallery and (len(paths) < 2 or not options.dataset),
            '--gallery needs two tables or more, sound first, and --dataset: where the frames are',
        ),
        (
            options.gallery and not options.gallery.absolute().parent.is_dir(),
            f'--gallery {options.gallery} lies in no folder that exists; make it first',
        ),
    ):
        if wrong:
            raise ValueError(sentence)


def _check_output(written: Path, inputs: Sequence[Path]) -> None:
    if written.parent.exists() and not written.parent.is_dir():
        raise ValueError(f'--out {written.parent} is a file; name a folder')
    if written.resolve() in [path.resolve() for path in inputs]:
        raise ValueError(
            f'{written} is one of the tables read and would be lost; name another --out'
        )


def _read(path: Path, options: argparse.Namespace, truth: str | None = None) -> tables.Predictions:
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
    bad = np.flatnonzero(np.abs(sums - 1) > submission.SUM_TOLERANCE)
    if bad.size and not clamped:
        raise ValueError(
            f'{path}: the probabilities of {table.clip_id[bad[0]]} sum to {sums[bad[0]]:.6g}, not '
            f'to 1 (so {bad.size} of {len(sums)} rows); give softmax probabilities, or pass '
            '--clamped if they were clamped on purpose'
        )
    if truth:
        table = tables.with_truth(table, tables.truth(truth))
    return dataclasses.replace(table, meta={**table.meta, 'calibrated': clamped})


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


def _result(
    members: Mapping[str, tables.Predictions],
    probs: np.ndarray,
    options: argparse.Namespace,
    about: Mapping[str, object],
) -> tables.Predictions:
    first, *others = members.values()
    meta = {'system': next(iter(members)), **first.meta}
    if others:  # what is one member's own is not the mix's
        meta = {key: meta[key] for key in ('classes', 'granularity', 'pooled') if key in meta}
        meta['system'] = f'{mixing.RECIPES[options.recipe]} of {", ".join(members)}'
    clamped = options.clamp or options.calibrate == 'clamp'
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
    """What was done to the tables, with the exact numbers."""
    names, fit_names = (
        [name if name == str(path) else f'{name} ({path})' for name, path in group.items()]
        for group in (paths, fit_paths)
    )
    parts = ' + '.join(
        name if options.recipe == 'hitachi' else f'{weight:.4g} {name}'
        for weight, name in zip(weights, names, strict=True)
    )
    done = f'{mixing.RECIPES[options.recipe]}: {parts}' if len(names) > 1 else names[0]
    if options.clamp:
        done += f'; clamped (Okazaki 2021, Eq. 1), {options.clamp.replace("_", " ")}'
    if fitted:
        done += f'; calibrated: {fitted}'
    if fit_names:
        done += f'; fitted on {mixing.listed(fit_names)}'
    return done + (f'; true scenes from {options.truth}' if options.truth else '')


def _write_gallery(members: mixing.Members, options: argparse.Namespace) -> None:
    from avsc_jax.data import records  # these take seconds to load, and only the gallery needs them
    from avsc_jax.report import gallery

    data_dir = options.data_dir or records.default_data_dir()
    dataset = records.open_dataset('tfds_tau', options.dataset, data_dir)
    first, second, *_ = members
    sound, picture = options.sound or first, options.picture or second
    num = gallery.write(
        members, dataset, options.split, options.gallery, sound=sound, picture=picture
    )
    print(f'wrote {options.gallery}: {sound} is right and {picture} wrong in {num:,} clips')


if __name__ == '__main__':
    run()
