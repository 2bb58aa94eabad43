"""A flipped bit in any file that we write is harmless, or one sentence that names the file."""

import hashlib
import json
import os
import shutil

import jax
import numpy as np
import optax
import pytest

from avsc_jax import models, tables
from avsc_jax.data import content, records
from avsc_jax.input_pipeline import encoders, feature_cache
from avsc_jax.runs.checkpoint import Checkpoints, digest
from avsc_jax.runs.run_folder import RunFolder, best_variables
from avsc_jax.runs.state import TrainState

SPEC = encoders.EncoderSpec('ioacas_bark', {'piece_s': 1.0}, encoders.NO_WEIGHTS)


def flip(file, bit):
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(data))


def of_json(folder):
    run = RunFolder(folder)
    return [run.read_json(file.name) for file in sorted(folder.glob('*.json'))
            if file.name != 'checksums.json']  # fmt: skip


def of_run(folder):
    """All that commands read of a finished run."""
    run = RunFolder(folder)
    arrays = [run.stats(), run.means()]
    table = tables.read(run.predictions_file('test'))
    columns = [table.clip_id, table.segment, table.label, table.probs, table.meta]
    return [of_json(folder), digest(best_variables(run)[1]), digest(arrays), repr(columns)]


def of_features(folder, dataset):
    made = feature_cache.extract(
        dataset, ['test'], [SPEC], cache_dir=folder, weights_dir=folder / 'none'
    )['test']
    return [made.clip_id, made.label.tolist(), digest(made.arrays)]


def of_records(folder):
    dataset = records.open_dataset('tfds_tau', 'demo', folder)
    seen = hashlib.sha256()
    for record in dataset.records('train+test', fields=('frames', 'audio')):
        seen.update(record['audio'].tobytes() + b''.join(f.tobytes() for f in record['frames']))
        seen.update(repr([record[k] for k in ('clip_id', 'label', 'segment')]).encode())
    return [seen.hexdigest(), dataset.fingerprint, dataset.outlines('train+test')]


def tried(read, files, place, times, seed):
    """Flips bits of files one after the other; returns how many were harmless, and were told.

    A file is drawn by its size's logarithm, so that small ones have their share.
    """
    rng = np.random.default_rng(seed)
    expected = json.dumps(read(place), sort_keys=True)
    weights = np.log2([2 + file.stat().st_size for file in files])
    counts = {'harmless': 0, 'told': 0}
    for _ in range(times):
        file = files[rng.choice(len(files), p=weights / weights.sum())]
        whole, bit = file.read_bytes(), int(rng.integers(8 * file.stat().st_size))
        stat = file.stat()
        flip(file, bit)
        try:
            told = json.dumps(read(place), sort_keys=True)
        except (ValueError, OSError) as error:
            named = {file.name, file.parent.name, *(p.name for p in file.parents)}
            assert '\n' not in str(error) and any(n in str(error) for n in named), (file, error)
            counts['told'] += 1
        else:
            assert told == expected, f'bit {bit} of {file} changes the answer without a word'
            counts['harmless'] += 1
        file.write_bytes(whole)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return counts


def below(folder, *left_out):
    files = (file for file in sorted(folder.rglob('*')) if file.is_file() and not file.is_symlink())
    return [f for f in files if f.stat().st_size and not any(part in left_out for part in f.parts)]


# Text for people, and what no command reads.
UNREAD = ('tensorboard', 'report.html', 'metrics.jsonl', 'DONE', 'last')


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run('ioacas_audio'), tmp_path / 'run')


def test_twenty_bits_of_a_run_s_small_files(run):
    counts = tried(of_json, sorted(run.glob('*.json')), run, 20, seed=0)
    assert counts == {'harmless': 0, 'told': 20}


@pytest.mark.slow
def test_fifty_bits_of_a_run(run):
    counts = tried(of_run, below(run, *UNREAD), run, 50, seed=1)
    assert counts['told'] >= 45


@pytest.mark.slow
def test_sixty_bits_of_a_feature_cache(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, 'CLIPS_PER_BLOCK', 4)
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    of_features(tmp_path, dataset)
    files = below(tmp_path)
    assert len(files) == 3
    counts = tried(lambda place: of_features(place, dataset), files, tmp_path, 60, seed=2)
    assert counts['told'] >= 50


@pytest.mark.slow
def test_forty_bits_of_records(data_dir, tmp_path):
    shutil.copytree(data_dir / 'tfds_tau/demo', tmp_path / 'tfds_tau/demo', symlinks=True)
    files = [f for f in below(tmp_path) if 'array_record' in f.name or f.name == content.FILE]
    counts = tried(of_records, files, tmp_path, 40, seed=3)
    assert counts['told'] >= 10


@pytest.mark.slow
def test_sixty_bits_of_the_checkpoints_of_an_unfinished_run(tmp_path):
    model = models.create_model(
        'clip_late_fusion', num_classes=3, encoders={'clip_rn101': 8}, widths=(4, 4, 4)
    )
    state = TrainState.create(model, optax.adam(0.1), seed=0)
    Checkpoints(tmp_path / 'checkpoints').save(state, [{'epoch': 0}], [1.5], is_best=True)

    def resumed(place):
        again = Checkpoints(place / 'checkpoints')
        restored, history, losses = again.restore_last(state)
        variables, step = again.restore_best(state.variables)
        plain = restored.replace(key=jax.random.key_data(restored.key))
        return [digest(plain), history, losses, digest(variables), step]

    counts = tried(resumed, below(tmp_path), tmp_path, 60, seed=4)
    assert sum(counts.values()) == 60
