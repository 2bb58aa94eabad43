import shutil

import numpy as np
import pytest

from avsc_jax.data import sources
from avsc_jax.input_pipeline import examples, kept_statistics, media_inputs
from avsc_jax.runtime import files

MEASURED = {'mean': np.float32([1, 2]), 'std': np.float32([3, 4])}


class Run:
    """A run folder without statistics yet."""

    def stats(self, measure):
        self.measured = measure()
        return self.measured

    means = stats


@pytest.fixture
def load(demo_config, data_dir, tmp_path, monkeypatch):
    """Loads the rows of a tiny hitachi_audio; its statistics, and whether they were measured."""
    measure, calls = media_inputs.measure, []
    monkeypatch.setattr(
        media_inputs, 'measure', lambda *args, **named: calls.append(1) or measure(*args, **named)
    )
    shutil.copytree(data_dir / 'tfds_tau', tmp_path / 'tfds_tau')

    def load(fold=None, fresh=False, **changes):
        config, run = demo_config('hitachi_audio', **changes).copy_and_resolve_references(), Run()
        if fold is not None:
            with config.unlocked():
                config.data.fold = fold
        dataset = sources.open_dataset(config.data, tmp_path)
        calls.clear()
        folders = {'data_dir': tmp_path, 'weights_dir': tmp_path, 'fresh': fresh}
        examples.load(config, run, dataset, [], **folders)
        return run.measured, len(calls)

    return load


def test_a_second_run_on_the_same_data_measures_nothing(load, tmp_path):
    first, count = load()
    again, count_again = load()
    assert (count, count_again) == (1, 0)
    for name in ('mean', 'std'):
        np.testing.assert_array_equal(again[name], first[name])
    assert load(fresh=True)[1] == 1
    # other rows, other pieces and other batches, whose sums end in other digits
    assert [load(fold=0)[1], load(fold=1)[1], load(fold=0)[1]] == [1, 1, 0]
    assert load(piece_s=0.5)[1] == load(batch_size=7)[1] == 1
    assert load(learning_rate=1.0)[1] == load(epochs=7)[1] == 0
    assert len([*(tmp_path / 'features').rglob('statistics-*.npz')]) == 5


@pytest.mark.parametrize(
    'content',
    [
        None,
        {'mean': np.float32([np.nan, 0]), 'std': np.float32([1, 1])},
        {'mean': np.float32([0, 0]), 'std': np.float32([0, 1])},
        {'mean': np.array([1, 2]), 'std': np.float32([1, 1])},
    ],
)
def test_a_damaged_file_is_measured_again_with_a_line(tmp_path, content, capsys):
    def kept():
        return kept_statistics.kept(tmp_path, {'data': 'a'}, lambda: MEASURED)

    kept()
    (path,) = tmp_path.iterdir()
    if content is None:
        path.write_bytes(path.read_bytes()[:-30])
    else:
        files.write_arrays(path, **content)
    assert kept() is MEASURED
    assert 'measured again' in capsys.readouterr().err
    found = kept()
    np.testing.assert_array_equal(found['std'], MEASURED['std'])
    assert not capsys.readouterr().err


def test_a_folder_that_cannot_be_written_costs_only_the_next_measurement(tmp_path):
    (tmp_path / 'file').write_text('')
    found = kept_statistics.kept(tmp_path / 'file' / 'folder', {}, lambda: MEASURED)
    assert found is MEASURED
