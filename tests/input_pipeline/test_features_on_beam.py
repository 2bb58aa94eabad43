"""Features made by the workers of an Apache Beam runner are those of this process, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avsc_jax.data import records, sources
from avsc_jax.input_pipeline import encoders, feature_cache
from avsc_jax.runtime import beam, files

TWO = ('--direct_num_workers=2', '--direct_running_mode=multi_processing')
SPLITS = ('train', 'test', 'train_inner', 'validation')  # of a block each
SPECS = (
    encoders.EncoderSpec(
        'clip_vit_b32',
        {'width': 16, 'layers': 1, 'patch_size': 16, 'image_size': 32, 'output_dim': 8},
        'random:0',
    ),
    encoders.EncoderSpec(
        'openl3_image',
        {
            'widths': (2, 2, 2, 8),
            'embedding_size': 8,
            'input_shape': (64, 64, 3),
            'frames': 'second_centres',
        },
        'random:0',
    ),
)


def extract(data_dir, folder, runner=None, **options):
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    videos = sources.media_files(dataset, data_dir, None)
    with feature_cache.extracting_on(runner):
        return feature_cache.extract(
            dataset, SPLITS, SPECS, cache_dir=folder, weights_dir=folder / 'none', media=videos,
            **options,
        )  # fmt: skip


def blocks(folder):
    """The arrays of every file below a folder."""
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    return {
        path.relative_to(folder): {
            name: (array.tobytes(), array.shape) for name, array in files.read_arrays(path).items()
        }
        for path in paths
    }


@pytest.fixture(scope='module')
def alone(data_dir, tmp_path_factory):
    """The blocks that this process makes."""
    pytest.importorskip('apache_beam')
    folder = tmp_path_factory.mktemp('alone')
    extract(data_dir, folder)
    made = blocks(folder)
    assert len(made) == len(SPLITS) * len(SPECS)
    return made


@pytest.mark.tf
def test_two_workers_make_the_same_blocks_and_later_runs_read_them(
    data_dir, tmp_path, alone, monkeypatch, capfd
):
    features = extract(data_dir, tmp_path, beam.Runner('DirectRunner', TWO))
    assert '4 blocks of features go to DirectRunner' in capfd.readouterr().err
    assert blocks(tmp_path) == alone
    monkeypatch.delattr(encoders.EncoderSpec, 'make')  # nothing is left to be encoded
    for again in (None, beam.Runner('DirectRunner', TWO)):
        for split, of in extract(data_dir, tmp_path, again).items():
            for name, array in of.arrays.items():
                np.testing.assert_array_equal(array, features[split].arrays[name])


CODE = """
import sys
from pathlib import Path
import test_features_on_beam as test
if __name__ == '__main__':
    runner = test.beam.Runner('DirectRunner', test.TWO)
    test.extract(Path(sys.argv[1]), Path(sys.argv[2]), runner)
"""


@pytest.mark.tf
@pytest.mark.slow
def test_a_job_killed_at_any_moment_goes_on_with_the_blocks_that_are_missing(
    data_dir, tmp_path, alone
):
    here = str(Path(__file__).parent)
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': here}
    command = [sys.executable, '-c', CODE, str(data_dir), str(tmp_path)]
    with subprocess.Popen(command, env=environment, process_group=0) as job:
        while not [*tmp_path.rglob('*.npz')]:
            assert job.poll() is None
            time.sleep(0.01)
        time.sleep(random.random())
        os.killpg(job.pid, signal.SIGKILL)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')}
    extract(data_dir, tmp_path, beam.Runner('DirectRunner'))
    for half in tmp_path.rglob('*.tmp'):
        half.unlink()
    assert blocks(tmp_path) == alone
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in written.items())


@pytest.mark.tf
def test_files_of_ones_own_are_read_by_workers_too(tmp_path, film):
    pytest.importorskip('apache_beam')
    for key in range(6):
        film(tmp_path / f'media/{("park", "tram")[key % 2]}/{key}.mp4', key=key)
    data = dict(
        name='own_media', config='', source='own', folder=str(tmp_path / 'media'),
        needs=('picture', 'sound'), window_s=1.0, frames='second_centres', short_side=64,
        on_error='fail', sample_rate_hz=48000,
    )  # fmt: skip
    dataset = sources.find('own_media').open(data, tmp_path)
    made = {}
    for runner in (None, beam.Runner('DirectRunner')):
        given = dict(cache_dir=tmp_path / str(runner), weights_dir=tmp_path / 'none')
        with feature_cache.extracting_on(runner):
            feature_cache.extract(dataset, ['train', 'test'], SPECS[:1], **given)
        made[runner] = blocks(given['cache_dir'])
    here, there = made.values()
    assert here and here == there


@pytest.mark.tf
def test_workers_that_do_not_share_the_folder_are_an_error(data_dir, tmp_path, monkeypatch):
    pytest.importorskip('apache_beam')
    monkeypatch.setattr(feature_cache, '_write_block', lambda path, columns: None)
    with pytest.raises(ValueError, match=r'^8 of 8 blocks of features were made, but are not'):
        extract(data_dir, tmp_path, beam.Runner('DirectRunner'))
    assert not blocks(tmp_path)


@pytest.mark.tf
def test_fresh_features_replace_those_that_are_there(data_dir, tmp_path, alone):
    extract(data_dir, tmp_path)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')}
    extract(data_dir, tmp_path, beam.Runner('DirectRunner'), fresh=True)
    assert all(path.stat().st_mtime_ns > time_ns for path, time_ns in first.items())
    assert blocks(tmp_path) == alone
