"""The README names things that exist, and its first screen has the two set-up commands."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from avsc_jax import models

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
COMMANDS = [
    line
    for block in re.findall(r'```bash\n(.*?)```', README, re.DOTALL)
    for line in block.splitlines()
]
DOCUMENTS = (
    *('README.md', 'CONTRIBUTING.md', 'THIRD_PARTY.md', 'tfds_tau/README.md'),
    *('docs/model_card.md', 'docs/data_card.md', 'docs/export.md'),
    *('colab/clip_fusion.md', 'colab/ensemble.md', 'colab/tag_your_clip.md'),
)


def said(pattern: str) -> list[str]:
    """Every match in the README's commands, once."""
    return sorted({match for line in COMMANDS for match in re.findall(pattern, line)})


def test_the_first_screen_has_both_set_up_commands() -> None:
    first_screen = README.splitlines()[:24]
    assert 'pip install -e . && python -m avsc_jax.main --config=configs/clip_fusion.py' in (
        first_screen
    )
    assert "pip install -e '.[test]' && pytest" in first_screen


@pytest.mark.parametrize('module', said(r'python -m (\S+)'))
def test_a_command_names_a_module(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize('argument', said(r'--config=(\S+\.py\S*)'))
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
    systems = README.partition('\n## Systems\n')[2]
    rows = re.findall(r'^\| [A-Z]\d\d .*\| (.+?) \|$', systems, re.MULTILINE)
    assert rows and {*rows} <= {'reproduced', 'demo only', 'not run'}


def examples() -> list[str]:
    return re.findall(r'```python\n(.*?)```', README, re.DOTALL)


def test_the_python_example_of_numbers_runs() -> None:
    (example,) = (block for block in examples() if 'predict' not in block)
    variables: dict = {}
    exec(compile(example, 'README.md', 'exec'), variables)
    last = ast.unparse(ast.parse(example).body[-1])
    assert str(eval(last, variables)) == example.rsplit('#', 1)[1].strip()


def test_the_python_example_of_tagging_runs(
    finished_run, film, tmp_path, monkeypatch, capsys
) -> None:
    (example,) = (block for block in examples() if 'Predictor' in block)
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs/clip_fusion').symlink_to(finished_run('clip_fusion'))
    film(tmp_path / 'clip.mp4')
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    exec(compile(example, 'README.md', 'exec'), variables)
    prediction = variables['prediction']
    printed = f'{prediction.scene} {prediction.ranking[:3]}\n'
    assert capsys.readouterr().out == printed and len(prediction.ranking) == 10


@pytest.mark.slow
def test_the_python_example_of_tags_runs(film, tmp_path, monkeypatch, capsys) -> None:
    (example,) = (block for block in examples() if 'tags' in block)
    film(tmp_path / 'clip.mp4')
    monkeypatch.chdir(tmp_path)
    exec(compile(example, 'README.md', 'exec'), {})
    printed = ast.literal_eval(capsys.readouterr().out)
    titles = ['sound, AudioSet tags by YAMNet', 'picture, ImageNet classes by EfficientNet-Lite0']
    assert [*printed] == titles and [len(named) for named in printed.values()] == [521, 1000]
