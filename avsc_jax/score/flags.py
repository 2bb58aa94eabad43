"""The command line of avsc_jax.score: its help, its options, and which go together."""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from avsc_jax.ensemble.recipes import CALIBRATIONS, RECIPES, Recipe
from avsc_jax.report.published import TABLES

DESCRIPTION = """\
Scores tables of predictions against the true scenes: log loss, accuracy, every class, every city,
calibration, with intervals over recording locations. Several tables are mixed, and the members and
their mix are shown side by side.

A table is a run folder, whose predictions/test.npz is meant, such a file itself, or a tab-separated
DCASE file (filename, scene_label, airport ... tram). A prefix names its role in the output:
audio=a.npz visual=v.npz.

Run folders that are named without roles and without a way to mix them are compared instead.

Commands in the place of the first table, each with a --help of its own:
  check FILE            may this challenge output be submitted?
  compare TABLE TABLE   how does the first system differ from the others?
  runs RUN RUN          the same of run folders, with the settings that differ
  modalities fusion=TABLE audio=TABLE video=TABLE
                        which clips do a fusion and each of its senses get right?
  paper TABLE           this table of a paper, ours beside it
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

  is one system better than another? what tells two runs apart? the second also writes a page
    python -m avsc_jax.score compare ours=E02.npz theirs=E01.npz
    python -m avsc_jax.score runs runs/clip_fusion runs/hitachi_image --out compared/

  may a file be submitted?
    python -m avsc_jax.score check Okazaki_LDSLVision_task1b_1.output.csv --items test.csv

  what does the paper say, and what do the runs here?
    python -m avsc_jax.score paper table2

  where does a fusion beat sound and picture alone? a run folder stands for its test table
    python -m avsc_jax.score modalities fusion=runs/feng_fusion-weighted-demo \\
      audio=runs/feng_fusion-audio-demo video=runs/feng_fusion-video-demo --out conflicts/

  find weights and a temperature on one split and report on another
    python -m avsc_jax.score --recipe=weights --calibrate=temperature \\
      --fit-on a=a/valid.npz b=b/valid.npz --report-on a=a/test.npz b=b/test.npz
"""


COMMANDS = {
    'check': 'Tells whether a DCASE 2021 task 1B output file may be submitted; exit code 1 if not.',
    'compare': 'Compares the first system with each other on the clips that all have: an interval '
    'and a paired test over locations, class by class, and the clips that they answer most '
    'differently.',
    'runs': 'Compares run folders like `compare`, and tells the settings that differ.',
    'modalities': 'Tells which clips fusion=, audio= and video= get right, class by class.',
    'paper': 'Prints a table of a paper with the scores of the runs here beside it.',
}


TRUTH = 'true scenes (columns filename_audio ... scene_label), in place of any in the tables'
OUT = 'write report.html, report.json and predictions.npz there; without it only print'

# A mode in place of scoring -> the other options that it takes.
TAKES = {
    'check': ('items', 'truth'),
    'compare': ('truth', 'clamped', 'out'),
    'modalities': ('truth', 'clamped', 'out'),
    'paper': ('runs', 'out'),
}


def parse(arguments: list[str]) -> tuple[str | None, argparse.Namespace]:
    """What to do, a name of TAKES or None for scoring tables, and its options."""
    if arguments and arguments[0] in COMMANDS and not _is_table(Path(arguments[0])):
        mode = 'compare' if arguments[0] == 'runs' else arguments[0]
        return mode, commands()[arguments[0]].parse_args(arguments[1:])
    options = parser().parse_args(arguments)
    mode = _mode(options)
    options.recipe = options.recipe or 'mean'
    late = [name for name in options.table if name in COMMANDS and not _is_table(Path(name))]
    if late and not mode:
        raise ValueError(f'there is no table {late[0]}; the command {late[0]} stands first')
    return mode, options


def _is_table(path: Path) -> bool:
    """Whether there is a table of this name, or a run folder."""
    return path.is_file() or (path / 'config.json').is_file()


def _mode(options: argparse.Namespace) -> str | None:
    """What is done in place of scoring tables, if any; an error for options that it ignores."""
    plain = vars(parser().parse_args([]))
    given = {name for name, value in vars(options).items() if value != plain[name]}
    mode = next((name for name in TAKES if name in given), None)
    if mode:
        print(f'note: --{mode} is an old name of `score {mode}` and will go', file=sys.stderr)
    if not mode and given <= {'table', *TAKES['compare']} and _are_runs(options.table):
        mode, options.compare = 'compare', options.table
        given.remove('table')
    taken = {mode, *TAKES[mode]} if mode else {*plain} - {'items', 'runs'}
    if strange := sorted(given - taken):
        what = f'--{mode}' if mode else 'scoring tables'
        raise ValueError(f'{what} does not go with {", ".join(strange)}; leave that out')
    return mode


def _are_runs(names: Sequence[str]) -> bool:
    """Whether several are named and none has a role in a mix, some being run folders."""
    paths = list(map(Path, names))
    return len(paths) > 1 and all(p.exists() for p in paths) and any(p.is_dir() for p in paths)


def parser() -> argparse.ArgumentParser:
    """The parser of a line that scores tables."""
    made = argparse.ArgumentParser(
        prog='python -m avsc_jax.score',
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument('table', nargs='*', metavar='[role=]table', help='.npz, .csv, .tsv or .txt')
    made.add_argument('--truth', metavar='FOLD.csv', help=TRUTH)
    made.add_argument('--out', metavar='FOLDER', help=OUT)
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
        '(tables audio=, visual= and perhaps clip=); or the mean with weights in steps of 0.05 '
        'that are best on the tables of --fit-on',
    )
    add('--weights', metavar='W,W,...', help='of the mean, one a table; made to sum to one')
    add(
        '--clamp',
        choices=['fused', 'per_model'],
        help='pool to clips, then clamp (Okazaki 2021, Eq. 1) the mean, or each table before it',
    )
    clamped = 'the tables are clamped already: their rows need not sum to one'
    add('--clamped', action='store_true', help=clamped)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('what is fitted on one split and reported on another')
    add = functools.partial(group.add_argument, nargs='+', default=[], metavar='[role=]table')
    add(
        '--fit-on',
        help="the members' tables of the split on which --recipe=weights and --calibrate are "
        'fitted, in the order or with the roles of those reported on',
    )
    add('--report-on', help='the tables to score; the same as naming them first')
    group.add_argument(
        '--calibrate',
        choices=list(CALIBRATIONS),
        help='change the mix as is best on --fit-on: one temperature, a scale and a bias for each '
        'class, or the edges and values of a clamp like Okazaki 2021, Eq. 1',
    )


def _add_gallery(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        'clips that one table gets right and another wrong'
    ).add_argument
    gallery = 'write the clips that --sound gets right and --picture wrong there, darkest first'
    add('--gallery', type=Path, metavar='OUT.html', help=gallery)
    add('--sound', metavar='ROLE', help='which table (default: the first)')
    add('--picture', metavar='ROLE', help='which table (default: the second)')
    dataset = 'of tfds_tau, such as demo, or NAME/CONFIG: has the frames'
    add('--dataset', metavar='CONFIG', help=dataset)
    add('--split', default='test', help='of the dataset (default test)')
    add('--data_dir', type=Path, help='where the dataset is prepared')


def _add_old(parser: argparse.ArgumentParser) -> None:
    """As in earlier versions, for one more release: commands do the same."""
    add = functools.partial(parser.add_argument, help=argparse.SUPPRESS)
    add('--compare', nargs='+')
    add('--modalities', nargs=3)
    add('--check', type=Path)
    add('--items', type=Path)
    add('--paper', choices=tuple(TABLES))
    add('--runs', type=Path)


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command that stands in the place of the first table."""
    made = {
        name: argparse.ArgumentParser(prog=f'python -m avsc_jax.score {name}', description=text)
        for name, text in COMMANDS.items()
    }
    for name in ('compare', 'runs', 'modalities'):
        where = 'compare' if name == 'runs' else name
        kind, metavar = ('run folders', 'RUN') if name == 'runs' else ('tables', '[role=]table')
        many = {'nargs': 3} if name == 'modalities' else {'nargs': '+'}
        made[name].add_argument(where, metavar=metavar, help=f'{kind}; see score --help', **many)
        made[name].add_argument('--truth', metavar='FOLD.csv', help='true scenes of the clips')
        made[name].add_argument(
            '--clamped', action='store_true', help='rows of the tables need not sum to one'
        )
        made[name].add_argument(
            '--out', metavar='FOLDER', help='write a page and its numbers there'
        )
        made[name].set_defaults(clamp=None)
    check = made['check']
    check.add_argument('check', type=Path, metavar='FILE', help='a DCASE 2021 task 1B output file')
    check.add_argument(
        '--items', type=Path, metavar='LIST', help='what FILE must name: one a line, or a DCASE csv'
    )
    check.add_argument(
        '--truth', metavar='FOLD.csv', help='true scenes: also the ten items that cost most'
    )
    paper = made['paper']
    paper.add_argument(
        'paper',
        choices=tuple(TABLES),
        metavar='TABLE',
        help=f'{", ".join(TABLES)} (the first four are of Okazaki et al. 2021)',
    )
    paper.add_argument('--runs', type=Path, help='where the run folders are (default runs)')
    paper.add_argument('--out', metavar='FOLDER', help='write it there as Markdown')
    return made


def check(
    options: argparse.Namespace, paths: Mapping[str, Path], fit_paths: Mapping[str, Path]
) -> None:
    """Raises ValueError for options that need or exclude each other."""
    recipe = RECIPES[options.recipe]
    found = recipe.fits is not None
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
            options.weights and (found or not recipe.weighs),
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
            recipe.roles
            and not {*recipe.roles} - {*recipe.optional} <= {*paths} <= {*recipe.roles},
            f'--recipe={options.recipe} takes {_roles(recipe)}, not {", ".join(paths)}',
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


def _roles(recipe: Recipe) -> str:
    """The tables that a recipe takes, as they are given."""
    needed = [f'{role}=table' for role in recipe.roles if role not in recipe.optional]
    return ' '.join(needed) + ''.join(f' and perhaps {role}=table' for role in recipe.optional)
