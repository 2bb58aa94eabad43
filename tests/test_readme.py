"""The README and docs/ name things that exist, and their marked blocks of code run."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from avsc_jax import models

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
FOLDERS = ('docs', 'colab')
DOCUMENTS = (
    *('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'THIRD_PARTY.md', 'tfds_tau/README.md'),
    *('CHANGELOG.md', 'benchmarks/NOTES.md'),
    *sorted(
        path.relative_to(ROOT).as_posix()
        for name in FOLDERS
        for path in (ROOT / name).rglob('*.md')
    ),
)
# Of commands that a user gives; the notebooks run by themselves.
GIVEN = [name for name in DOCUMENTS if name == 'README.md' or name.startswith('docs/')]


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a document in a language."""
    text = (ROOT / document).read_text()
    return re.findall(rf'```{language}(?: run)?\n(.*?)```', text, re.DOTALL)


# Blocks that a test runs: ```bash run, or ```python run, which may begin with the name of its file.
MARKED = re.compile(r'^```(bash|python) run\n(.*?)^```', re.MULTILINE | re.DOTALL)
CLIPS = [f'clips/{name}/{k}' for name in ('park', 'street') for k in range(6)]

COMMANDS = [line for name in GIVEN for block in blocks(name, 'bash') for line in block.splitlines()]


def said(pattern: str) -> list[str]:
    """Every match in the documents' commands, once."""
    return sorted({match for line in COMMANDS for match in re.findall(pattern, line)})


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_first_screen_has_both_set_up_commands() -> None:
    first_screen = README.splitlines()[:24]
    assert 'pip install -e . && python -m avsc_jax.main --config=configs/clip_fusion.py' in (
        first_screen
    )
    assert "pip install -e '.[test]' && pytest" in first_screen


@pytest.mark.parametrize('module', said(r'python -m (\S+)'))
def test_a_command_names_a_module(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize('argument', said(r'--config=(configs/\S+\.py\S*)'))
def test_a_config_loads_with_its_tokens(argument: str) -> None:
    path, _, tokens = argument.partition(':')
    spec = importlib.util.spec_from_file_location('config_of_the_readme', ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(tokens)
    assert config.kind == 'ensemble' or config.model.name in models.list_models()


@pytest.mark.parametrize('name', said(r'tfds_tau\S* --config=([a-z]\w*)'))
def test_a_data_config_is_one_of_the_builders(name: str) -> None:
    from tfds_tau import tfds_tau_dataset_builder

    assert name in tfds_tau_dataset_builder.Builder.builder_configs


@pytest.mark.parametrize('name', said(r"pip install -e '\.\[(\w+)\]'"))
def test_an_extra_is_declared(name: str) -> None:
    extras = (ROOT / 'setup.cfg').read_text().partition('[options.extras_require]')[2]
    assert f'\n{name} =\n' in extras


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links_into_the_tree_lead_somewhere(document: str) -> None:
    path = ROOT / document
    lost = []
    for link, anchor in re.findall(
        r'\]\(([^)#:\s]*)(?:#([^)]*))?\)', without_code(path.read_text())
    ):
        target = path.parent / link if link else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(f'{link}#{anchor}')
    assert lost == []


def without_code(text: str) -> str:
    """A document without its blocks and pieces of code."""
    return re.sub(r'^```.*?^```|`[^`\n]*`', '', text, flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site name them."""
    headings = re.findall(r'^#+ (.+)$', document.read_text(), re.MULTILINE)
    plain = (re.sub(r'[^\w\- ]', '', heading.lower()) for heading in headings)
    return {heading.strip().replace(' ', '-') for heading in plain}


def test_the_index_of_the_site_names_every_page() -> None:
    listed = set()
    for index in (ROOT / 'docs/index.md', ROOT / 'docs/api/index.md'):
        for block in re.findall(r'^```\{toctree\}\n(.*?)```', index.read_text(), re.S | re.M):
            lines = [line for line in block.splitlines() if line and not line.startswith(':')]
            names = [line.partition('<')[2].removesuffix('>') or line for line in lines]
            listed |= {(index.parent / f'{name}.md').resolve() for name in names}
    pages = {*(ROOT / 'docs').rglob('*.md')} - {ROOT / 'docs/index.md'}
    assert pages - listed == set()


def test_a_system_is_reproduced_demo_only_or_not_run() -> None:
    systems = (ROOT / 'docs/systems.md').read_text()
    rows = re.findall(r'^\| [A-Z]\d\d .*\| (.+?) \|$', systems, re.MULTILINE)
    assert rows and {*rows} <= {'reproduced', 'demo only', 'not run'}


def test_the_python_example_of_numbers_runs() -> None:
    (example,) = blocks('docs/commands.md', 'python')
    variables: dict = {}
    exec(compile(example, 'commands.md', 'exec'), variables)
    last = ast.unparse(ast.parse(example).body[-1])
    assert str(eval(last, variables)) == example.rsplit('#', 1)[1].strip()


def test_the_python_example_of_tagging_runs(
    finished_run, film, tmp_path, monkeypatch, capsys
) -> None:
    (example,) = (block for block in blocks('README.md', 'python') if 'Predictor' in block)
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs/mine').symlink_to(finished_run('clip_fusion'))
    film(tmp_path / 'clip.mp4')
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    exec(compile(example, 'README.md', 'exec'), variables)
    prediction = variables['prediction']
    printed = f'{prediction.scene} {prediction.ranking[:3]}\n'
    assert capsys.readouterr().out == printed and len(prediction.ranking) == 10


@pytest.mark.slow
def test_the_python_example_of_tags_runs(film, tmp_path, monkeypatch, capsys) -> None:
    (example,) = (block for block in blocks('README.md', 'python') if 'tags' in block)
    film(tmp_path / 'clip.mp4')
    monkeypatch.chdir(tmp_path)
    exec(compile(example, 'README.md', 'exec'), {})
    printed = ast.literal_eval(capsys.readouterr().out)
    titles = ['sound, AudioSet tags by YAMNet', 'picture, ImageNet classes by EfficientNet-Lite0']
    assert [*printed] == titles and [len(named) for named in printed.values()] == [521, 1000]


@pytest.mark.slow
def test_the_commands_of_the_readme_run_one_after_the_other(film, tmp_path) -> None:
    """The commands that neither install nor fetch, in order; CLIP's weights are random here."""
    given = [line for block in blocks('README.md', 'bash') for line in block.splitlines()]
    given += ['python -m avsc_jax.predict holiday.mp4']
    commands = [c for c in given if 'pip install' not in c and 'tau' not in c]
    assert len(commands) == 4
    for name in ('holiday.mp4', 'new_clip.mp4'):
        film(tmp_path / name)
    for level, name in enumerate(('dark', 'light')):
        (tmp_path / 'clips' / name).mkdir(parents=True)
        for k in range(6):
            picture = Image.new('RGB', (64, 48), (120 * level + 10 * k,) * 3)
            picture.save(tmp_path / 'clips' / name / f'{k}.png')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    for command in commands:
        words = shlex.split(command.replace('--download_weights', '--weights=random:0'))
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f'{command}\n{done.stdout}{done.stderr}'
        assert done.stdout.strip(), command


def marked_pages() -> list[str]:
    """Pages with blocks that run, in the order in which the index of the site names them."""
    names = re.findall(r'^\w\S*$', (ROOT / 'docs/index.md').read_text(), re.MULTILINE)
    pages = [f'docs/{name}.md' for name in names if (ROOT / f'docs/{name}.md').exists()]
    return [page for page in pages if MARKED.search((ROOT / page).read_text())]


@pytest.mark.slow
def test_marked_blocks_run_page_after_page(film, data_dir, tmp_path) -> None:
    """As a reader gives them, in a folder outside the tree: what one page made, the next finds."""
    for key, name in enumerate(('clip', 'recordings/evening', 'recordings/morning', *CLIPS)):
        film(tmp_path / f'{name}.mp4', key=key)
    environment = os.environ | {
        'TFDS_DATA_DIR': str(data_dir),
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
    }
    pages = marked_pages()
    assert len(pages) >= 5
    for page in pages:
        for language, block in MARKED.findall((ROOT / page).read_text()):
            file = re.match(r'# (\w+\.py)\n', block)
            if file:
                (tmp_path / file[1]).write_text(block)
                continue
            command = ['bash', '-ec'] if language == 'bash' else [sys.executable, '-c']
            done = subprocess.run(
                [*command, block], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f'{page}\n{block}\n{done.stdout}{done.stderr}'
            assert done.stdout.strip(), f'{page}\n{block}'
