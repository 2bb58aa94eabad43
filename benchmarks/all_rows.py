"""Runs every row of docs/systems.md on a small demo, and notes what came out.

    pip install -e . && python benchmarks/all_rows.py FOLDER [--few | --row=E02 ...]
    python benchmarks/all_rows.py --compare BEFORE AFTER [--tolerance=1e-6]

Each row is its config's main command for 30 made-up clips of 10 s, small networks and a single
step of training. FOLDER/rows/ROW.json then holds its status, its seconds and SHA-256 sums of its
features, of its parameters and of its predictions; ROW.npz the arrays (of parameters a sample). The
same command goes on where an earlier one was stopped: a row that is noted is not run again.

Two folders, of before and after a change of the code, are compared by the sums, and by the arrays
where these differ.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = 64  # values of each parameter array that are kept
MEDIA = 'data/downloads/tfds_tau_demo-1.0.0'


class Row(NamedTuple):
    """A run of main: the config with its tokens, without `demo`, and what else the command has.

    `before` are other rows, whose runs it is made of.
    """

    config: str
    flags: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


def one_step(batch_size: int) -> tuple[str, ...]:
    """One epoch of one batch, which is padded where there are fewer rows."""
    return ('--config.epochs=1', f'--config.batch_size={batch_size}')


def folds(name: str, row: Row) -> dict[str, Row]:
    """The row once for each of the five folds."""
    return {
        f'{name}, fold {fold}': row._replace(flags=(*row.flags, f'--fold={fold}'))
        for fold in range(5)
    }


def members(**groups: Iterable[str]) -> tuple[str, ...]:
    """All members of an ensemble, where the demo's own settings take one of each kind."""
    return tuple(f'--config.groups.{role}={tuple(names)}' for role, names in groups.items())


A, V = ('A01', 'A02', 'A03'), ('V01', 'V02', 'V03')
STEP = one_step(512)
PICTURES = ('resnet50', 'tf_efficientnet_b5', 'tf_efficientnetv2_s', 'swin_tiny')
FEATURES = dict(logmel='resnet1d', scalogram='resnet1d', bark='dcnn1d')  # of the hybrids
HYBRIDS = {
    str(1 + 3 * i + k): Row(
        f'ioacas_fusion.py:{network},{feature}',
        one_step(64),
        (f'IOA {FEATURES[feature]} {feature}', f'IOA {network}'),
    )
    for i, network in enumerate(PICTURES)
    for k, feature in enumerate(FEATURES)
}
SUBMITTED = tuple(f'{name}, fold {fold}' for name in ('A01', 'V01', 'C04') for fold in range(5))


def rows() -> dict[str, Row]:
    """Name -> row, each after those that it is made of."""
    audio = dict(zip(A, ('regnetx_064', 'resnest50d', 'tf_efficientnet_b1_ns'), strict=True))
    visual = dict(zip(V, ('regnetx_064', 'resnest50d', 'hrnet_w18'), strict=True))
    found = {
        'C01': Row('clip_zero_shot.py:rn101'),
        'C02': Row('clip_zero_shot.py:rn50x4'),
        'C03': Row('clip_zero_shot.py:vit_b32'),
        'C03, spaces': Row('clip_zero_shot.py:vit_b32,spaces'),
        'C03, photo': Row('clip_zero_shot.py:vit_b32,photo'),
        'C04': Row('clip_fusion.py', STEP),
        'C04, strict': Row('clip_fusion.py:strict', STEP),
    }
    found |= {name: Row(f'hitachi_audio.py:{net}', STEP) for name, net in audio.items()}
    found |= {name: Row(f'hitachi_image.py:{net}', STEP) for name, net in visual.items()}
    found['A04'] = Row('hitachi_ensemble.py:A04', members(audio=A), A)
    found['V04'] = Row('hitachi_ensemble.py:V04', members(visual=V), V)
    both = members(audio=A, visual=V)
    for name in ('A04V04', 'A04V04_pp'):
        found[name] = Row(f'hitachi_ensemble.py:{name}', both, (*A, *V))
    for name in ('E01', 'E02', 'S02'):
        found[name] = Row(f'hitachi_ensemble.py:{name}', both, (*A, *V, 'C04'))
    found['S01'] = Row('hitachi_ensemble.py:S01', members(visual=V), (*V, 'C04'))
    for name in ('A01', 'V01', 'C04'):  # one member of each kind stands for the refits
        found |= folds(name, found[name])
    for name in ('S03', 'S04'):
        found[name] = Row(f'hitachi_ensemble.py:{name}', (), SUBMITTED)
    for system in ('audio', 'video', 'early', 'audio_video'):
        row = dict(audio='B01', video='B02', early='EAV', audio_video='B03')[system]
        made_of = ('B01', 'B02') if row == 'B03' else ()
        # incomplete batches are dropped
        found[row] = Row(f'openl3_baseline.py:{system}', one_step(64), made_of)
    for fusion in ('weighted', 'early', 'intermediate', 'late_concat', 'late_mean'):
        found[f'Feng {fusion}'] = Row(f'feng_fusion.py:{fusion}', one_step(64))
    for fusion in ('audio', 'video'):
        found[f'Feng {fusion}'] = Row(f'feng_fusion.py:{fusion}', one_step(64))
    found['Feng weighted, CLIP'] = Row('feng_fusion.py:weighted,clip', one_step(64))
    for network in ('final', 'model_1', 'model_3', 'model_4', 'final,weight_decay'):
        found[f'Hou {network}'] = Row(f'hou_dual_stream.py:{network}', one_step(32))
    for network in ('resnet1d', 'dcnn1d'):
        for feature in FEATURES:
            name = f'IOA {network} {feature}'
            found[name] = Row(f'ioacas_audio.py:{network},{feature}', one_step(2048))
    found['mn10_as'] = Row('efficientat_audio.py:mn10_as', one_step(64))
    found['late fusion'] = Row('late_fusion.py:clip_vit_l14+mn10_as', one_step(64))
    for network in PICTURES:
        found[f'IOA {network}'] = Row(f'ioacas_image.py:{network}', one_step(512))
    found |= {f'IOA {name}': row for name, row in HYBRIDS.items()}
    twelve = tuple(HYBRIDS)
    systems = dict(all=twelve, I=('4', '5', '7', '8', '10', '11'), III=twelve[3:])
    systems |= dict(II=systems['I'], IV=systems['III'])
    for name, hybrids in systems.items():
        # the demo's own lines are of its three hybrids
        flags = (*members(hybrids=hybrids), f'--config.roles={hybrids}', '--config.lines=()')
        made_of = tuple(f'IOA {hybrid}' for hybrid in hybrids)
        found[f'IOA {name}'] = Row(f'ioacas_ensemble.py:{name}', flags, made_of)
    final = {
        f'{name}, final': found[name]._replace(config=f'{found[name].config},final')
        for name in ('IOA resnet1d logmel', 'IOA resnet50', 'IOA 1')
    }
    parts = tuple(f'{name}, final' for name in ('IOA resnet1d logmel', 'IOA resnet50'))
    final['IOA 1, final'] = final['IOA 1, final']._replace(before=parts)
    found |= final
    for system in ('clip_fusion', 'feng_fusion,early', 'hitachi_audio'):
        found[f'own {system}'] = Row(f'own_data.py:{system}', one_step(512))
    return found


ROWS = rows()
# One of each config file and family of networks.
FEW = (
    'C03', 'C04', 'A01', 'A02', 'V01', 'V03', 'E02', 'B01', 'B02', 'B03', 'Feng weighted',
    'Hou final', 'IOA resnet1d logmel', 'IOA dcnn1d bark', 'IOA resnet50', 'IOA swin_tiny', 'IOA 1',
    'own feng_fusion,early',
)  # fmt: skip


def small_demo(folder: Path) -> None:
    """Builds the demo's data sets of three clips a scene, each of a location of its own."""
    from unittest import mock

    from tfds_tau import demo
    from tfds_tau.tfds_tau_dataset_builder import Builder

    per_scene = demo.CLIPS_PER_LOCATION * (demo.TRAIN_LOCATIONS + demo.TEST_LOCATIONS)
    first_test = demo.CLIPS_PER_LOCATION * demo.TRAIN_LOCATIONS
    chosen = [c for c in demo.clips() if c.number % per_scene in (0, 2, first_test)]
    render = demo.render
    with mock.patch.object(demo, 'render', lambda place, **_: render(place, chosen=chosen)):
        for config in ('demo', 'demo_segments'):
            Builder(config=config, data_dir=folder).download_and_prepare()


def command(name: str, folder: Path) -> tuple[list[str], Path]:
    """The row's command, given in `folder`, and the pattern of the run folder that it makes."""
    row = ROWS[name]
    file, _, tokens = row.config.partition(':')
    tokens = [*filter(None, tokens.split(',')), 'demo']
    flags = [*row.flags, '--data_dir=data', '--weights_dir=none']
    if file == 'own_data.py':
        flags.append(f'--config.data.folder={folder / MEDIA / "meta.csv"}')
    fold = [flag.removeprefix('--').replace('=', '') for flag in flags if '--fold=' in flag]
    run_folder = '-'.join([file.removesuffix('.py'), *tokens, *fold])
    made = f'--config={ROOT}/configs/{file}:{",".join(tokens)}'
    ending = '-*' if file == 'own_data.py' else ''
    return [sys.executable, '-m', 'avsc_jax.main', made, *flags], f'runs/{run_folder}{ending}'


def run(name: str, folder: Path) -> dict:
    """Runs a row whose parts are there; returns what is noted of it, and writes its arrays.

    Its features are made anew and deleted afterwards, so that what is noted depends on no other.
    """
    words, pattern = command(name, folder)
    shutil.rmtree(folder / 'data/features', ignore_errors=True)
    log = folder / f'logs/{name}.txt'
    log.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    with log.open('w') as out:
        code = subprocess.run(words, cwd=folder, env=environment(folder), stdout=out, stderr=out)
    note = {
        'config': ROWS[name].config,
        'seconds': round(time.monotonic() - began, 1),
        'status': 'ran',
    }
    if code.returncode:
        return note | {'status': f'failed: {log.read_text().strip().splitlines()[-1]}'}
    (workdir,) = folder.glob(pattern)
    arrays = dict(sorted(results(workdir, folder / 'data/features')))
    np.savez_compressed(folder / 'rows' / f'{name}.npz', **arrays)
    sums = {key: hashlib.sha256(np.ascontiguousarray(a)).hexdigest() for key, a in arrays.items()}
    return note | {'sums': sums}


def environment(folder: Path) -> dict[str, str]:
    """As the caller's, for this checkout; what is compiled is kept."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    compiled = os.environ.get('JAX_COMPILATION_CACHE_DIR', str(folder / 'compiled'))
    return os.environ | {'PYTHONPATH': path, 'JAX_COMPILATION_CACHE_DIR': compiled}


def results(workdir: Path, features: Path) -> Iterable[tuple[str, np.ndarray]]:
    """All that a run has written and that a change of the code should leave as it is."""
    from avsc_jax.runs import run_folder

    for file in (workdir / 'predictions').glob('*.npz'):
        with np.load(file) as table:
            for column in ('clip_id', 'segment', 'label', 'probs'):
                yield f'predictions {file.stem} {column}', table[column]
    for file in features.glob('*/*/*/block_*.npz'):
        encoder, split = file.parts[-3].rpartition('-')[0], file.parts[-2]
        with np.load(file) as block:
            yield f'features {encoder} {split} {file.stem}', block['features']
    for name in ('stats', 'means'):
        if (workdir / f'{name}.npz').exists():
            with np.load(workdir / f'{name}.npz') as stats:
                for key in stats.files:
                    yield f'{name} {key}', stats[key]
    if (workdir / 'checkpoints').exists():
        _, variables = run_folder.best_variables(run_folder.RunFolder(workdir))
        for path, leaf in leaves(variables):
            values = np.asarray(leaf).ravel()
            some = values[:: max(1, len(values) // SAMPLE)][:SAMPLE]
            norm = np.linalg.norm(values.astype(np.float64))
            yield f'parameters {path}', np.concatenate([some.astype(np.float64), [norm]])


def leaves(tree: Mapping, path: str = '') -> Iterable[tuple[str, np.ndarray]]:
    """Each array of a nested dict, with its names joined."""
    for name, part in tree.items():
        if isinstance(part, Mapping):
            yield from leaves(part, f'{path}{name}/')
        else:
            yield f'{path}{name}', part


def with_parts(names: Iterable[str]) -> list[str]:
    """These rows after those that they are made of, in the order of ROWS."""
    wanted = set()

    def add(name: str) -> None:
        wanted.add(name)
        for part in ROWS[name].before:
            add(part)

    for name in names:
        add(name)
    return [name for name in ROWS if name in wanted]


def compare(before: Path, after: Path, tolerance: float) -> list[str]:
    """A line for each row of `before` that is missing, failed or other in `after`."""
    lines = []
    for file in sorted((before / 'rows').glob('*.json')):
        one = json.loads(file.read_text())
        other = after / 'rows' / file.name
        if not other.exists():
            lines.append(f'{file.stem}: not run')
            continue
        two = json.loads(other.read_text())
        if two['status'] != one['status']:
            lines.append(f'{file.stem}: {two["status"]}')
        elif one.get('sums') != two.get('sums'):
            arrays = [np.load(place / 'rows' / f'{file.stem}.npz') for place in (before, after)]
            lines += [f'{file.stem}: {line}' for line in differences(*arrays, tolerance)]
    return lines


def differences(
    one: Mapping[str, np.ndarray], two: Mapping[str, np.ndarray], tolerance: float
) -> Iterable[str]:
    """What two rows' arrays differ in by more than the tolerance, relative to values over 1."""
    for key in sorted({*one} ^ {*two}):
        yield f'{key} is only in {"before" if key in one else "after"}'
    for key in sorted({*one} & {*two}):
        a, b = one[key], two[key]
        if a.shape != b.shape:
            yield f'{key}: {a.shape} was, {b.shape} is'
        elif a.dtype.kind not in 'fiu':
            if (a != b).any():
                yield f'{key}: other names'
        elif a.size:
            apart = np.abs(a.astype(np.float64) - b) / np.maximum(1, np.abs(a))
            if not apart.max() <= tolerance:
                yield f'{key}: differs by {apart.max():.2g}'


def main() -> int:
    """Runs rows, or compares two folders of them; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('folder', type=Path, nargs='?', help='where runs and notes are kept')
    parser.add_argument('--few', action='store_true', help='one of each config and family only')
    parser.add_argument('--row', action='append', choices=[*ROWS], help='this row, once or more')
    parser.add_argument('--compare', type=Path, nargs=2, metavar=('BEFORE', 'AFTER'))
    parser.add_argument('--tolerance', type=float, default=0.0, help='default: bit for bit')
    given = parser.parse_args()
    if given.compare:
        lines = compare(*given.compare, given.tolerance)
        print('\n'.join(lines) or 'nothing differs')
        return bool(lines)
    if given.folder is None:
        parser.error('name a FOLDER, or --compare two')
    folder = given.folder.resolve()
    (folder / 'rows').mkdir(parents=True, exist_ok=True)
    small_demo(folder / 'data')
    names = with_parts(given.row or (FEW if given.few else ROWS))
    failed = 0
    for number, name in enumerate(names, start=1):
        file = folder / 'rows' / f'{name}.json'
        note = json.loads(file.read_text()) if file.exists() else {}
        if note.get('status') != 'ran':
            note = run(name, folder)
            file.write_text(json.dumps(note, indent=2) + '\n')
        failed += note['status'] != 'ran'
        print(
            f'{number:3} of {len(names)}  {note["seconds"]:6.1f} s  {name}: {note["status"]}',
            flush=True,
        )
    print(f'{len(names) - failed} of {len(names)} ran')
    return bool(failed)


if __name__ == '__main__':
    sys.exit(main())
