"""The command: TFDS's build on this folder, with one line for what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfds_tau

FOLDER = Path(tfds_tau.__file__).parent


def run(*command):
    environment = os.environ | {'PYTHONPATH': str(FOLDER.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def build(*flags):
    return run(sys.executable, '-m', 'tfds_tau.build', *flags)


def errors(result):
    return [line for line in result.stderr.splitlines() if line.startswith('error:')]


def test_a_named_config_is_built_from_the_manual_folder(tmp_path):
    done = build(
        '--config=clips',
        f'--manual_dir={FOLDER}/dummy_data',
        f'--data_dir={tmp_path}',
        '--workers=1',
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'tfds_tau/clips/1.0.0/dataset_info.json').exists()
    assert not done.stdout and 'Unknown size' not in done.stderr  # TFDS's own words
    assert ' clips of ' in done.stderr and 'train_inner' not in done.stderr
    assert 'tfds_tau/clips/1.0.0 is prepared: ' in done.stderr


@pytest.mark.slow
def test_without_a_config_all_that_is_there_is_built_and_the_rest_named(tmp_path, whole_demo):
    media = tmp_path / 'downloads' / whole_demo.name
    for name in ('audio', 'video'):  # what is there is not rendered again
        shutil.copytree(whole_demo / name, media / name, copy_function=os.link)
    done = build(f'--data_dir={tmp_path}')
    assert done.returncode == 1
    assert (tmp_path / 'tfds_tau/demo/1.0.0/dataset_info.json').exists()
    assert (media / 'meta.csv').exists()
    named = [line.split(': ')[1] for line in errors(done)]
    assert named == ['clips', 'segments', 'frames10', 'evaluation', 'evaluation_hou']


@pytest.mark.parametrize(
    ('config', 'sentence'),
    [
        ('clips', 'zenodo.org/records/4477542'),
        ('clops', "--config is 'clops'; it must be one of demo, clips"),
    ],
)
def test_what_is_missing_is_one_sentence(tmp_path, config, sentence):
    done = build(f'--config={config}', f'--data_dir={tmp_path}')
    assert done.returncode == 1
    assert len(errors(done)) == 1
    assert sentence in errors(done)[0]
    assert 'Traceback' not in done.stderr


@pytest.mark.tf
def test_tfds_own_command_builds_the_folder(tmp_path):
    tool = Path(sys.executable).with_name('tfds')
    done = run(
        str(tool),
        'build',
        str(FOLDER),
        '--config=clips',
        f'--manual_dir={FOLDER}/dummy_data',
        f'--data_dir={tmp_path}',
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'tfds_tau/clips/1.0.0/dataset_info.json').exists()
