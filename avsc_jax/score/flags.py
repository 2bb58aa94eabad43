"""The flags of avsc_jax.score, their help, and the check of their combinations."""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from avsc_jax.ensemble.recipes import CALIBRATIONS, RECIPES, Recipe, check_calibrations
from avsc_jax.report.published import TABLES
from avsc_jax.runtime import arguments as parsing
from avsc_jax.runtime import cli, nearest

DESCRIPTION = """\
Scores tables of predictions against the true scenes: log loss, accuracy, every class, every city,
calibration, with intervals over recording locations. Several tables are mixed, and the members and
their mix are shown side by side.

A table is a run folder (its predictions/test.npz is read), an .npz file of predictions, or a text
file with tabs, semicolons or commas, as predict and DCASE write it (filename, scene_label, and a
column for each class). Clips are joined by their whole names, else without endings and folders.
A prefix names a table's role in the output: audio=a.npz visual=v.npz.

Several run folders without roles and without options for mixing are compared instead.

Commands, in place of the first table, each with its own --help:
  check FILE            may this challenge output be submitted?
  compare TABLE TABLE   how does the first system differ from the others?
  runs RUN RUN          how do run folders differ, in scores and in settings?
  modalities fusion=TABLE audio=TABLE video=TABLE
                        which clips do a fusion and each of its modalities get right?
  paper TABLE           a table of a paper, with our scores beside it
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

  compare two systems, then two runs with their settings; the second writes a page, too
    python -m avsc_jax.score compare ours=E02.npz theirs=E01.npz
    python -m avsc_jax.score runs runs/clip_fusion runs/hitachi_image --out compared/

  check whether a file may be submitted
    python -m avsc_jax.score check Okazaki_LDSLVision_task1b_1.output.csv --items test.csv

  print a table of the paper with the scores of the runs here
    python -m avsc_jax.score paper table2

  find the clips on which a fusion beats sound and picture alone
    python -m avsc_jax.score modalities fusion=runs/feng_fusion-weighted-demo \\
      audio=runs/feng_fusion-audio-demo video=runs/feng_fusion-video-demo --out conflicts/

  find weights and a temperature on one split and report on another
    python -m avsc_jax.score --recipe=weights --calibrate=temperature \\
      --fit-on a=a/valid.npz b=b/valid.npz --report-on a=a/test.npz b=b/test.npz
"""


COMMANDS = {
    'check': 'Checks whether a DCASE 2021 task 1B output may be submitted; exit code 1 if not.',
    'compare': 'Compares the first system with each of the others on the clips that all have: an '
    'interval and a paired test over locations, scores of each class, and the clips with the most '
    'different answers.',
    'runs': 'Compares run folders like `compare`, and prints the settings that differ.',
    'modalities': 'Shows which clips fusion=, audio= and video= get right, class by class.',
    'paper': 'Prints a table of a paper with the scores of the runs here beside it.',
}


TRUTH = 'true scenes (columns filename_audio ... scene_label), instead of those in the tables'
CLASSES = 'the classes of text files, if these have other columns too (default: those of the file)'
OUT = 'folder for report.html, report.json and predictions.npz (default: only print)'

# The modes other than scoring -> the options that each takes.
TAKES = {
    'check': ('items', 'truth'),
    'compare': ('truth', 'classes', 'clamped', 'out'),
    'modalities': ('truth', 'classes', 'clamped', 'out'),
    'paper': ('runs', 'out'),
}


def parse(arguments: list[str]) -> tuple[str | None, argparse.Namespace]:
    """Parses the command line; returns the mode (of TAKES, or None for scoring) and its options."""
    if arguments and arguments[0] in COMMANDS and not _is_table(Path(arguments[0])):
        mode = 'compare' if arguments[0] == 'runs' else arguments[0]
        return mode, commands()[arguments[0]].parse_args(arguments[1:])
    first = arguments[0] if arguments else ''
    is_word = first[:1].isalpha() and not Path(first).exists()
    if is_word and (like := nearest.names(first, COMMANDS)):
        raise cli.UsageError(f'{first} is no table and no command (did you mean {like[0]}?)')
    options = parser().parse_args(arguments)
    mode = _mode(options)
    options.recipe = options.recipe or 'mean'
    late = [name for name in options.table if name in COMMANDS and not _is_table(Path(name))]
    if late and not mode:
        raise ValueError(f'{late[0]} is a command and no table; put it first')
    return mode, options


def _is_table(path: Path) -> bool:
    """Whether the path is a file or a run folder."""
    return path.is_file() or (path / 'config.json').is_file()


def _mode(options: argparse.Namespace) -> str | None:
    """The mode that the options ask for, None for scoring; raises for options that it ignores."""
    plain = vars(parser().parse_args([]))
    given = {name for name, value in vars(options).items() if value != plain[name]}
    given.discard('trust_edited')  # goes with all
    mode = next((name for name in TAKES if name in given), None)
    if mode:
        print(f'note: --{mode} will be removed; use `score {mode}` instead', file=sys.stderr)
    if not mode and given <= {'table', *TAKES['compare']} and _are_runs(options.table):
        mode, options.compare = 'compare', options.table
        given.remove('table')
    taken = {mode, *TAKES[mode]} if mode else {*plain} - {'items', 'runs'}
    if strange := sorted(given - taken):
        what = f'--{mode}' if mode else 'scoring tables'
        raise ValueError(f'{what} does not go with {", ".join(strange)}; leave that out')
    return mode


def _are_runs(names: Sequence[str]) -> bool:
    """Whether these are several existing paths, without roles, and at least one is a folder."""
    paths = list(map(Path, names))
    return len(paths) > 1 and all(p.exists() for p in paths) and any(p.is_dir() for p in paths)


def parser() -> argparse.ArgumentParser:
    """The parser of the command that scores tables."""
    made = parsing.Parser(
        prog='python -m avsc_jax.score',
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument('table', nargs='*', metavar='[role=]table', help='.npz, .csv, .tsv or .txt')
    made.add_argument('--truth', metavar='FOLD.csv', help=TRUTH)
    made.add_argument('--classes', metavar='NAME,...', help=CLASSES)
    made.add_argument('--out', metavar='FOLDER', help=OUT)
    made.add_argument('--trust_edited', action='store_true', help=cli.TRUST_EDITED)
    _add_mix(made)
    _add_fit(made)
    _add_gallery(made)
    _add_old(made)
    return made


def _add_mix(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('how several tables are mixed').add_argument
    add(
        '--recipe',
        choices=list(RECIPES),
        help='arithmetic mean (the default) or geometric mean; the decision stage of Okazaki 2021 '
        '(tables audio=, visual= and perhaps clip=); or the mean with weights, in steps of 0.05, '
        'that are best on the tables of --fit-on',
    )
    add(
        '--weights',
        metavar='W,W,...',
        help='weights of the mean, one for each table; scaled to sum 1',
    )
    add(
        '--clamp',
        choices=['fused', 'per_model'],
        help='pool to clips, then clamp (Okazaki 2021, Eq. 1) the mean, or each table before',
    )
    clamped = 'the tables are clamped already, so their rows need not sum to one'
    add('--clamped', action='store_true', help=clamped)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what is fitted on one split and reported on another')
    add = functools.partial(group.add_argument, nargs='+', default=[], metavar='[role=]table')
    add(
        '--fit-on',
        help="the members' tables of the split on which --recipe=weights and --calibrate are "
        'fitted, with the same order or roles as the tables reported on',
    )
    add('--report-on', help='the tables to score; the same as naming them first')
    group.add_argument(
        '--calibrate',
        type=_calibrations,
        default=[],
        metavar='STEP,...',
        help='calibrate the mix by steps fitted on --fit-on, in this order: '
        + '; '.join(f'{name}, {of.words}' for name, of in CALIBRATIONS.items()),
    )


def _calibrations(text: str) -> list[str]:
    """Parses names of CALIBRATIONS, separated by commas, each once."""
    try:
        return check_calibrations('--calibrate', text.split(','))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_gallery(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        'clips that one table gets right and another wrong'
    ).add_argument
    gallery = 'write the clips that --sound gets right and --picture gets wrong, darkest first'
    add('--gallery', type=Path, metavar='OUT.html', help=gallery)
    add('--sound', metavar='ROLE', help='the table of sound (default: the first)')
    add('--picture', metavar='ROLE', help='the table of pictures (default: the second)')
    dataset = 'config of tfds_tau with the frames, such as demo, or NAME/CONFIG'
    add('--dataset', metavar='CONFIG', help=dataset)
    add('--split', default='test', help='split of the dataset (default test)')
    add('--data_dir', type=Path, help='folder of prepared datasets')


def _add_old(parser: argparse.ArgumentParser) -> None:
    """Adds the options of earlier versions that are commands now; the next release drops them."""
    add = functools.partial(parser.add_argument, help=argparse.SUPPRESS)
    add('--compare', nargs='+')
    add('--modalities', nargs=3)
    add('--check', type=Path)
    add('--items', type=Path)
    add('--paper', choices=tuple(TABLES))
    add('--runs', type=Path)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command that may stand in place of the first table."""
    made = {
        name: parsing.Parser(prog=f'python -m avsc_jax.score {name}', description=text)
        for name, text in COMMANDS.items()
    }
    for name in ('compare', 'runs', 'modalities'):
        where = 'compare' if name == 'runs' else name
        kind, metavar = ('run folders', 'RUN') if name == 'runs' else ('tables', '[role=]table')
        many = {'nargs': 3} if name == 'modalities' else {'nargs': '+'}
        made[name].add_argument(where, metavar=metavar, help=f'{kind}; see score --help', **many)
        made[name].add_argument('--truth', metavar='FOLD.csv', help='true scenes of the clips')
        made[name].add_argument('--classes', metavar='NAME,...', help=CLASSES)
        made[name].add_argument(
            '--clamped', action='store_true', help='rows of the tables need not sum to one'
        )
        made[name].add_argument(
            '--out', metavar='FOLDER', help='write a page and its numbers there'
        )
        made[name].set_defaults(clamp=None)
    for each in made.values():
        each.add_argument('--trust_edited', action='store_true', help=cli.TRUST_EDITED)
    check = made['check']
    check.add_argument('check', type=Path, metavar='FILE', help='a DCASE 2021 task 1B output file')
    check.add_argument(
        '--items',
        type=Path,
        metavar='LIST',
        help='the items that FILE must have: one a line, or a DCASE csv',
    )
    check.add_argument(
        '--truth',
        metavar='FOLD.csv',
        help='true scenes; prints the ten items with the largest loss, too',
    )
    paper = made['paper']
    paper.add_argument(
        'paper',
        choices=tuple(TABLES),
        metavar='TABLE',
        help=f'{", ".join(TABLES)} (the first four are of Okazaki et al. 2021)',
    )
    paper.add_argument('--runs', type=Path, help='folder of the run folders (default runs)')
    paper.add_argument('--out', metavar='FOLDER', help='write the table there as Markdown')
    return made


def check(
    options: argparse.Namespace, paths: Mapping[str, Path], fit_paths: Mapping[str, Path]
) -> None:
    """Raises ValueError for options that need or exclude each other."""
    recipe = RECIPES[options.recipe]
    is_fitted = recipe.fits is not None
    for wrong, sentence in (
        (not paths, 'no table is named; name one or more, such as runs/a/predictions/test.npz'),
        (
            (is_fitted or options.calibrate) and not fit_paths,
            '--recipe=weights and --calibrate need --fit-on: the tables of the split to fit on',
        ),
        (
            fit_paths and not (is_fitted or options.calibrate),
            '--fit-on fits nothing here; pass --recipe=weights or --calibrate, or leave it out',
        ),
        (
            options.weights and (is_fitted or not recipe.weighs),
            f'--weights go with a mean, and --recipe={options.recipe} has its own; leave one out',
        ),
        (
            is_fitted and (options.clamp == 'per_model' or options.clamped),
            '--recipe=weights searches tables whose rows sum to one; clamp the mix '
            '(--clamp=fused), not the tables',
        ),
        (
            options.clamp and 'clamp' in options.calibrate,
            '--clamp and --calibrate=clamp would clamp twice; leave one out',
        ),
        (
            recipe.roles
            and not {*recipe.roles} - {*recipe.optional} <= {*paths} <= {*recipe.roles},
            f'--recipe={options.recipe} takes {_roles(recipe)}, not {", ".join(paths)}',
        ),
        (
            options.gallery and (len(paths) < 2 or not options.dataset),
            '--gallery needs two tables or more, sound first, and --dataset, which has the frames',
        ),
        (
            options.gallery and not options.gallery.absolute().parent.is_dir(),
            f'the folder of --gallery {options.gallery} does not exist; make it first',
        ),
    ):
        if wrong:
            raise ValueError(sentence)


def _roles(recipe: Recipe) -> str:
    """The tables that a recipe takes, as on the command line."""
    needed = [f'{role}=table' for role in recipe.roles if role not in recipe.optional]
    return ' '.join(needed) + ''.join(f' and perhaps {role}=table' for role in recipe.optional)
