"""The README and docs/ name things that exist, and the first screen has the two set-up commands."""

import ast
import importlib.util
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
    *sorted(
        path.relative_to(ROOT).as_posix() for name in FOLDERS for path in (ROOT / name).glob('*.md')
    ),
)
# Of commands that a user gives; the notebooks run by themselves.
GIVEN = [name for name in DOCUMENTS if name == 'README.md' or name.startswith('docs/')]


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a document in a language."""
    text = (ROOT / document).read_text()
    return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


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
    links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


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
