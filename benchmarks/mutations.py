"""How well the tests guard the package: breaks single lines and counts the breaks that tests catch.

    pip install -e '.[test]' 'coverage>=7.13'
    python benchmarks/mutations.py sample breaks.json            # 50 breaks, from a fixed seed
    python benchmarks/mutations.py cover OUT  # the default tests under coverage
    python benchmarks/mutations.py try OUT breaks.json result.json # each break with its tests

`sample` draws breaks from the syntax trees of `avsc_jax`: a comparison, an operator, a condition, a
constant, a returned value or a called statement is replaced. The list names file, line and text, so
the same list can be tried after the tests have changed.

`cover` runs pytest with every process measured: xdist's workers and the commands that tests start
(coverage's own start-up file does that). Lines are recorded by the test or the fixture that was
running when they ran. Processes that are killed leave no record. It prints coverage by lines and
branches.

`try` runs only the tests that cover the broken line: those that ran it, those that use a fixture
which ran it, and, for lines outside functions, those that ran any function of the file. The fastest
tests run first and the first failure ends a break, which then counts as caught. A break
whose tests outlive the limit is out of time, and no catch. A break that no failure shows by the
end, or that no test covers, survives. Breaks are applied to copies of the tree, one for each of
`--jobs`.
"""

import argparse
import ast
import collections
import concurrent.futures
import contextlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'avsc_jax'
CONTEXT = 'MUTATIONS_CONTEXT'  # the running test or fixture, for the processes that it starts
RECORDS = 'MUTATIONS_RECORDS'  # the folder that receives each process's list of tests
SETTINGS = """[run]
branch = true
parallel = true
source = avsc_jax
data_file = {folder}/coverage
context = ${{MUTATIONS_CONTEXT-}}
sigterm = true
concurrency = thread, multiprocessing
disable_warnings = no-data-collected, module-not-imported, module-not-measured, already-imported
[paths]
source =
    {package}
    */avsc_jax
[report]
ignore_errors = true
"""

# ----------------------------------------------------------------------------- breaks

_OPERATORS = {
    ast.Lt: '>=',
    ast.LtE: '>',
    ast.Gt: '<=',
    ast.GtE: '<',
    ast.Eq: '!=',
    ast.NotEq: '==',
    ast.Is: 'is not',
    ast.IsNot: 'is',
    ast.In: 'not in',
    ast.NotIn: 'in',
    ast.Add: '-',
    ast.Sub: '+',
    ast.Mult: '+',
    ast.Div: '*',
    ast.FloorDiv: '*',
    ast.Mod: '*',
    ast.And: 'or',
    ast.Or: 'and',
}


def breaks_of(source: str) -> list[tuple[int, int, int, str]]:
    """Every break of a module that fits into one line: (line, first column, end column, new text).

    Lines count from 1, columns from 0 and in characters.
    """
    lines = source.splitlines()
    found = []

    def text(node):
        return lines[node.lineno - 1].encode()[node.col_offset : node.end_col_offset].decode()

    def add(node, new):
        if node.lineno == node.end_lineno:
            line = lines[node.lineno - 1].encode()
            start, end = (len(line[:k].decode()) for k in (node.col_offset, node.end_col_offset))
            found.append((node.lineno, start, end, new))

    def joined(left, operator, right):
        return f'({text(left)} {_OPERATORS[type(operator)]} {text(right)})'

    def one_line(*nodes):
        return len({n.lineno for n in nodes} | {n.end_lineno for n in nodes}) == 1

    skipped = set()  # docstrings, annotations and the texts inside f-strings
    for node in ast.walk(ast.parse(source)):
        if node in skipped or isinstance(node, ast.JoinedStr):
            skipped.update(ast.iter_child_nodes(node))
            continue
        for name in ('annotation', 'returns'):
            if getattr(node, name, None) is not None:
                skipped.add(getattr(node, name))
        match node:
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                if type(operator) in _OPERATORS and one_line(left, right):
                    add(node, joined(left, operator, right))
            case ast.BinOp(left=left, op=operator, right=right):
                texts = isinstance(left, ast.Constant | ast.JoinedStr) and not isinstance(
                    getattr(left, 'value', ''), int | float
                )
                if type(operator) in _OPERATORS and one_line(left, right) and not texts:
                    add(node, joined(left, operator, right))
            case ast.BoolOp(op=operator, values=[left, right]) if one_line(left, right):
                add(node, joined(left, operator, right))
            case ast.UnaryOp(op=ast.Not(), operand=operand) if one_line(node):
                add(node, f'bool({text(operand)})')
            case ast.If(test=test) | ast.IfExp(test=test) if one_line(test):
                add(test, f'(not ({text(test)}))')
            case ast.Constant(value=bool(value)):
                add(node, str(not value))
            case ast.Constant(value=int(value) | float(value)):
                add(node, repr(value + 1))
            case ast.Return(value=value) if value is not None and one_line(node):
                if not (isinstance(value, ast.Constant) and value.value is None):
                    add(node, 'return None')
            case ast.Expr(value=ast.Call()) if one_line(node):
                add(node, 'pass')
    return found


def sample(count: int, seed: int) -> list[dict]:
    """Draws breaks: a line of the package at random, then one of its breaks."""
    lines = collections.defaultdict(list)
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        name = path.relative_to(ROOT).as_posix()
        for line, start, end, new in breaks_of(path.read_text('utf-8')):
            lines[name, line].append((start, end, new))
    draw = random.Random(seed)
    chosen = []
    for name, line in draw.sample(sorted(lines), count):
        start, end, new = draw.choice(lines[name, line])
        old = (ROOT / name).read_text('utf-8').splitlines()[line - 1]
        chosen.append(dict(file=name, line=line, old=old, new=old[:start] + new + old[end:]))
    return chosen


def line_now(entry: dict, root: Path = ROOT) -> int:
    """The line of a break in the tree as it is now: the nearest line of the same text."""
    lines = (root / entry['file']).read_text('utf-8').splitlines()
    same = [k + 1 for k, text in enumerate(lines) if text == entry['old']]
    if not same:
        raise SystemExit(f'{entry["file"]} no longer has the line {entry["old"].strip()!r}')
    return min(same, key=lambda k: abs(k - entry['line']))


# ----------------------------------------------------------------------------- pytest's side
# `cover` loads this file into pytest as a plugin, in the main process and in xdist's workers.

_STACK = ['']
_TESTS: dict[str, dict] = {}


@contextlib.contextmanager
def _context(name: str):
    _STACK.append(name)
    _switch(name)
    try:
        yield
    finally:
        _STACK.pop()
        _switch(_STACK[-1])


def _switch(name: str) -> None:
    import coverage

    os.environ[CONTEXT] = name
    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(name)


def _plugin() -> None:
    """Defines pytest's hooks, which need pytest."""
    import pytest

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(item):
        began = time.monotonic()
        with _context(item.nodeid):
            yield
        fixtures = [
            f'fixture {found[-1].argname} {found[-1].baseid}'
            for found in item._fixtureinfo.name2fixturedefs.values()
        ]
        seconds = time.monotonic() - began
        _TESTS[item.nodeid] = dict(seconds=seconds, fixtures=fixtures)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(fixturedef):
        if fixturedef.scope == 'function':
            yield
        else:
            with _context(f'fixture {fixturedef.argname} {fixturedef.baseid}'):
                yield

    def pytest_sessionfinish():
        if _TESTS:
            (Path(os.environ[RECORDS]) / f'tests-{os.getpid()}.json').write_text(
                json.dumps(_TESTS), 'utf-8'
            )

    globals().update(
        pytest_runtest_protocol=pytest_runtest_protocol,
        pytest_fixture_setup=pytest_fixture_setup,
        pytest_sessionfinish=pytest_sessionfinish,
    )


if __name__ != '__main__':
    _plugin()


# ----------------------------------------------------------------------------- commands


def _environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path.rstrip(os.pathsep), **more}


def cover(folder: Path, arguments: list[str]) -> None:
    """Runs the default tests under coverage and leaves records in the folder."""
    folder.mkdir(parents=True)
    settings = folder / 'coveragerc'
    settings.write_text(SETTINGS.format(folder=folder, package=ROOT / PACKAGE), 'utf-8')
    environment = _environment(COVERAGE_PROCESS_START=str(settings))
    environment |= {RECORDS: str(folder), CONTEXT: ''}
    subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', Path(__file__).stem, *arguments],
        cwd=ROOT,
        env=environment,
    )
    command = [sys.executable, '-m', 'coverage']
    rc = [f'--rcfile={settings}']
    subprocess.run([*command, 'combine', '-q', *rc], cwd=ROOT, env=os.environ | {CONTEXT: ''})
    report = subprocess.run(
        [*command, 'report', *rc], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=os.environ | {CONTEXT: ''},
    ).stdout  # fmt: skip
    (folder / 'report.txt').write_text(report, 'utf-8')
    print(report.splitlines()[1], report.splitlines()[-1], sep='\n')


class Covering:
    """Which tests cover a line, from the records of `cover`."""

    def __init__(self, folder: Path):
        import coverage

        self._data = coverage.CoverageData(str(folder / 'coverage'))
        self._data.read()
        self._tests = {}
        for path in folder.glob('tests-*.json'):
            self._tests |= json.loads(path.read_text('utf-8'))
        self._of_fixture = collections.defaultdict(set)
        for test, facts in self._tests.items():
            for fixture in facts['fixtures']:
                self._of_fixture[fixture].add(test)

    def tests(self, entry: dict) -> list[str]:
        """Tests that cover the line of a break, the fastest first."""
        file = str(ROOT / entry['file'])
        line = line_now(entry)
        by_line = self._data.contexts_by_lineno(file)
        tree = ast.parse(Path(file).read_text('utf-8'))
        inside = [
            range(node.body[0].lineno, node.end_lineno + 1)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        if any(line in lines for lines in inside):
            # A statement of several lines is recorded by its first.
            statements = [
                node.lineno
                for node in ast.walk(tree)
                if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno
            ]
            lines = {line, max(statements)}
        else:
            lines = {k for k in by_line if any(k in body for body in inside)}
        contexts = {c for k in lines for c in by_line.get(k, ())}
        # A process's own context and the one that it switched to are joined by a bar.
        contexts = {part for c in contexts for part in c.split('|')}
        tests = {c for c in contexts if c in self._tests}
        for context in contexts:
            tests |= self._of_fixture.get(context, set())
        return sorted(tests, key=lambda test: self._tests[test]['seconds'])


def _try_one(entry: dict, tests: list[str], tree: Path, limit_s: float) -> dict:
    if not tests:
        return entry | dict(outcome='survived', why='no test covers it', tests=0, seconds=0.0)
    file = tree / entry['file']
    whole = file.read_text('utf-8')
    lines = whole.splitlines(keepends=True)
    lines[line_now(entry, tree) - 1] = entry['new'] + '\n'
    file.write_text(''.join(lines), 'utf-8')
    began = time.monotonic()
    listed = tree / 'tests-of-break.txt'
    listed.write_text('\n'.join(tests), 'utf-8')
    command = [sys.executable, '-m', 'pytest', '-x', '-q', '-n0', '-p', 'no:cacheprovider']
    process = subprocess.Popen(
        [*command, f'@{listed}'],
        cwd=tree,
        env=_environment() | {'PYTHONPATH': str(tree), 'PYTHONDONTWRITEBYTECODE': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit_s)
        code = process.returncode
        outcome = 'survived' if code == 0 else 'caught'
        failed = [k for k in printed.splitlines() if k.startswith(('FAILED', 'ERROR'))]
        why = failed[0] if failed else (printed.splitlines() or [''])[-1]
        if code not in (0, 1, 2):
            outcome = 'not tried' if code in (4, 5) else 'caught'
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        outcome, why = 'out of time', f'no failure within {limit_s:g} s'
    finally:
        file.write_text(whole, 'utf-8')
    seconds = round(time.monotonic() - began, 1)
    return entry | dict(outcome=outcome, why=why[:300], tests=len(tests), seconds=seconds)


def try_all(folder: Path, entries: list[dict], result: Path, jobs: int, limit_s: float) -> None:
    """Tries each break and writes the outcomes, those of an earlier call kept."""
    covering = Covering(folder)
    done = json.loads(result.read_text('utf-8')) if result.exists() else []
    left = entries[len(done) :]
    with tempfile.TemporaryDirectory() as place:
        trees = queue.SimpleQueue()
        for k in range(jobs):
            kept = shutil.ignore_patterns('.git', '__pycache__', 'build', 'runs', '.*_cache')
            trees.put(Path(shutil.copytree(ROOT, Path(place) / str(k), ignore=kept)))

        def one(entry):
            tree = trees.get()
            try:
                return _try_one(entry, covering.tests(entry), tree, limit_s)
            finally:
                trees.put(tree)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for made in pool.map(one, left):
                done.append(made)
                result.write_text(json.dumps(done, indent=1), 'utf-8')
                where = f'{made["file"]}:{made["line"]}'
                print(f'{len(done):3d} {made["outcome"]:11s} {made["seconds"]:6.1f} s  {where}')
                print(f'      {made["new"].strip()[:70]}  {made["why"][:80]}', flush=True)
    counted = collections.Counter(made['outcome'] for made in done)
    print(', '.join(f'{number} {outcome}' for outcome, number in counted.most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    made = commands.add_parser('sample', help='draw breaks')
    made.add_argument('breaks', type=Path)
    made.add_argument('--count', type=int, default=50)
    made.add_argument('--seed', type=int, default=0)
    made = commands.add_parser('cover', help='run the tests under coverage')
    made.add_argument('folder', type=Path)
    made.add_argument('pytest', nargs='*', help='more arguments of pytest, behind --')
    made = commands.add_parser('try', help='try each break')
    made.add_argument('folder', type=Path)
    made.add_argument('breaks', type=Path)
    made.add_argument('result', type=Path)
    made.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument('--limit_s', type=float, default=120)
    args = parser.parse_args()
    if args.command == 'sample':
        args.breaks.write_text(json.dumps(sample(args.count, args.seed), indent=1), 'utf-8')
    elif args.command == 'cover':
        cover(args.folder.absolute(), args.pytest)
    else:
        entries = json.loads(args.breaks.read_text('utf-8'))
        try_all(args.folder.absolute(), entries, args.result, args.jobs, args.limit_s)


if __name__ == '__main__':
    main()
