"""benchmarks/real_data.py on made-up folders that are laid out as Scene-15 and ESC-50 are."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax.data.sources import listing

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location('real_data', ROOT / 'benchmarks/real_data.py')
real_data = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(real_data)


def esc50(folder: Path) -> Path:
    """Two recordings in each fold of each of three classes, one of which is not of ESC-10."""
    (folder / 'meta').mkdir(parents=True)
    (folder / 'audio').mkdir()
    with (folder / 'meta/esc50.csv').open('w', newline='') as file:
        out = csv.writer(file)
        out.writerow(['filename', 'fold', 'target', 'category', 'esc10', 'src_file', 'take'])
        for number in range(60):
            fold, target, take = 1 + number % 5, number // 5 % 3, 'AB'[number // 15 % 2]
            source = f'{fold}{target}{number // 30}'
            name = f'{fold}-{source}-{take}-{target}.wav'
            time_s = np.arange(4000) / 8000
            soundfile.write(folder / 'audio' / name, np.sin((300 + 9 * number) * time_s) / 9, 8000)
            scene = ('dog', 'rain', 'clock')[target]
            out.writerow([name, fold, target, scene, target < 2, source, take])
    return folder


def test_each_fold_of_esc10_is_scored_by_the_clips_of_the_other_four(tmp_path: Path) -> None:
    folds = dict(real_data.esc10(esc50(tmp_path / 'ESC-50'), tmp_path))
    assert [*folds] == [f'ESC-10, fold {k}' for k in range(1, 6)]
    for number, table in enumerate(folds.values(), start=1):
        listed = listing.read(table, ('sound',))
        lists = listing.split(listed)
        assert listed.classes == ('dog', 'rain') and listed.has_groups
        names = {part: [Path(c.clip_id).name for c in clips] for part, clips in lists.items()}
        assert {name[0] for name in names['test']} == {str(number)} and len(names['test']) == 8
        assert len(names['train_inner'] + names['validation']) == 32
        assert all(clip.group in clip.clip_id for clip in listed.items)


def test_a_line_for_each_fold_and_the_mean_are_printed(tmp_path, monkeypatch, capsys) -> None:
    asked = []

    def fitted(place: Path, workdir: Path, arguments: list[str]) -> dict:
        asked.append((place.name, workdir.name, arguments[0]))
        of = dict(items=8, log_loss=0.5, cross_validated=0.75, C=0.01, temperature=1.0)
        return of | {'accuracy': 0.1 * len(asked)}

    monkeypatch.setattr(real_data, 'fitted', fitted)
    folder = esc50(tmp_path / 'ESC-50')
    given = [f'--esc10={folder}', '--encoders=yamnet', f'--json={tmp_path / "out.json"}']
    real_data.main([*given, '--weights=random'])
    assert asked[0] == (
        'esc10_fold1.csv',
        'ESC-10-fold1',
        '--config=configs/own_data.py:probe,yamnet',
    )
    out = capsys.readouterr().out
    assert 'ESC-10, fold 3          8   30.00 %     0.500          75.00 %' in out
    assert out.endswith('ESC-10, mean of 5 folds: 30.00 %\n')
    assert json.loads((tmp_path / 'out.json').read_text())['ESC-10, fold 5']['accuracy'] == 0.5


def test_other_folders_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r'has no folder train; it must hold train/CLASS/\*\.jpg'):
        real_data.main([f'--scene15={tmp_path}'])
    with pytest.raises(SystemExit, match=r'esc50\.csv is missing; .* must be ESC-50 as it is publ'):
        real_data.main([f'--esc10={tmp_path}'])


@pytest.mark.slow
def test_photographs_are_scored_by_real_encoders(tmp_path: Path, monkeypatch, capsys) -> None:
    draw = np.random.default_rng(0)
    for part, count in (('train', 6), ('test', 3)):
        for level, scene in enumerate(('coast', 'forest')):
            (tmp_path / 'scenes' / part / scene).mkdir(parents=True)
            for k in range(count):
                image = draw.normal(60 + 120 * level, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(image).save(tmp_path / 'scenes' / part / scene / f'{k}.jpg')
    monkeypatch.chdir(ROOT)
    real_data.main([f'--scene15={tmp_path / "scenes"}', f'--workdir={tmp_path / "runs"}'])
    assert 'Scene-15                6  100.00 %' in capsys.readouterr().out
    environment = json.loads((tmp_path / 'runs/Scene-15/environment.json').read_text())
    assert [*environment['weights']] == ['tf_efficientnet_lite0']
