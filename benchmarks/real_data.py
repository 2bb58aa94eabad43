"""Accuracy of a probe on real data: Scene-15's photographs and ESC-10's sounds.

    pip install -e . && python benchmarks/real_data.py [--scene15 FOLDER] [--esc10 FOLDER]

Scene-15 (Lazebnik et al. 2006): FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg, 1,500 and
2,985 photographs of 15 classes; its one split. ESC-10 (Piczak 2015): FOLDER/meta/esc50.csv and
FOLDER/audio/*.wav, as ESC-50 is published; the 400 clips that the table marks, in its five folds,
of which each is scored by a probe of the other four. Clips of one recording are one group.

Each fold is the command of configs/own_data.py:probe in a process of its own, with the encoders'
published weights. C and temperature come from the training clips alone.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDS = '12345'  # as ESC-50's table counts them
COMMAND = (sys.executable, '-m', 'avsc_jax.main')


def scene15(folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of the split and its folder."""
    missing = [part for part in ('train', 'test') if not (folder / part).is_dir()]
    if missing:
        raise SystemExit(
            f'{folder} has no folder {missing[0]}; it must hold train/CLASS/*.jpg and '
            'test/CLASS/*.jpg'
        )
    yield 'Scene-15', folder


def esc10(folder: Path, tables: Path) -> Iterator[tuple[str, Path]]:
    """The name of each fold and the table of its clips, which is written."""
    meta = folder / 'meta/esc50.csv'
    if not meta.is_file():
        raise SystemExit(f'{meta} is missing; {folder} must be ESC-50 as it is published')
    with meta.open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['esc10'] == 'True']
    for fold in FOLDS:
        table = tables / f'esc10_fold{fold}.csv'
        with table.open('w', newline='') as file:
            out = csv.writer(file)
            out.writerow(['path', 'label', 'group', 'split'])
            for row in rows:
                path = (folder / 'audio' / row['filename']).resolve()
                split = 'test' if row['fold'] == fold else 'train'
                out.writerow([path, row['category'], row['src_file'], split])
        yield f'ESC-10, fold {fold}', table


def fitted(place: Path, workdir: Path, arguments: Sequence[str]) -> dict:
    """Trains a probe on a folder or a table; returns its scores, and those of its own folds."""
    named = [f'--config.data.folder={place}', f'--workdir={workdir}']
    done = subprocess.run([*COMMAND, *arguments, *named], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    scores = json.loads((workdir / 'report.json').read_text())['scores']['clip']
    validated = json.loads((workdir / 'probe.json').read_text())
    return {
        'items': scores['items'],
        'accuracy': scores['accuracy_micro'],
        'log_loss': scores['log_loss_micro'],
        'cross_validated': validated['accuracy'],
        'C': validated['C'],
        'temperature': validated['temperature'],
    }


def table(results: dict[str, dict]) -> list[str]:
    """Lines for people: one for each fold, and the mean of the folds of a set."""
    lines = ['set                 items  accuracy  log loss  cross-validated       C      T']
    for name, of in results.items():
        lines.append(
            f'{name:<18}{of["items"]:>7}{100 * of["accuracy"]:>8.2f} %{of["log_loss"]:>10.3f}'
            f'{100 * of["cross_validated"]:>15.2f} %{of["C"]:>8g}{of["temperature"]:>7.3f}'
        )
    folds = [of['accuracy'] for name, of in results.items() if 'fold' in name]
    if folds:
        lines.append(f'ESC-10, mean of {len(folds)} folds: {100 * sum(folds) / len(folds):.2f} %')
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scene15', type=Path, metavar='FOLDER')
    parser.add_argument('--esc10', type=Path, metavar='FOLDER')
    parser.add_argument('--encoders', help='tokens of configs/own_data.py:probe, joined by +')
    parser.add_argument('--workdir', type=Path, help='default: a temporary folder')
    parser.add_argument('--json', type=Path)
    flags, passed_on = parser.parse_known_args(arguments)
    if not (flags.scene15 or flags.esc10):
        parser.error('name --scene15 FOLDER or --esc10 FOLDER')
    tokens = ','.join(filter(None, ['probe', flags.encoders]))
    with tempfile.TemporaryDirectory() as temporary:
        place = flags.workdir or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        shared = [f'--config=configs/own_data.py:{tokens}', f'--data_dir={place / "data"}']
        sets = [*scene15(flags.scene15)] if flags.scene15 else []
        sets += [*esc10(flags.esc10, place)] if flags.esc10 else []
        results = {}
        for name, data in sets:
            run = place / name.replace(', ', '-').replace(' ', '')
            results[name] = fitted(data, run, [*shared, *passed_on])
    print('\n'.join(table(results)))
    if flags.json:
        flags.json.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    main()
