"""The familiarity of clips to those of the training: its rate of false alarms, its file."""

import numpy as np
import pytest

from avsc_jax.runs import familiarity
from avsc_jax.runs.run_folder import RunFolder

CENTRES = np.eye(3, 8) * 4


def clips(count, seed, centres=CENTRES):
    """Embeddings around the centres of classes, and their labels."""
    labels = np.arange(count) % len(centres)
    return np.random.default_rng(seed).normal(centres[labels]), labels


@pytest.mark.parametrize('held_out', [None, clips(400, 1)[0]])
def test_false_alarms_are_as_rare_as_stated_and_other_clips_are_found(held_out):
    fitted = familiarity.fit(*clips(600, 0), held_out)
    scores = fitted.score(clips(2000, 2)[0])
    assert ((scores > 0) & (scores <= 1)).all()
    assert 0.02 < (scores <= familiarity.FALSE_ALARMS).mean() < 0.08
    others = fitted.score(clips(100, 3, -CENTRES)[0])
    assert (others <= familiarity.FALSE_ALARMS).mean() > 0.9


def test_a_score_is_the_share_of_held_out_clips_that_are_as_far_or_farther():
    angles = np.radians([10, 20, 30])
    held_out = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    fitted = familiarity.fit(np.array([[2.0, 0.0]]), np.zeros(1, int), held_out)
    assert fitted.distances == pytest.approx(1 - np.cos(angles), abs=1e-7)
    asked = np.array([[1.0, 0.0], [1.0, 0.3], [0.0, 1.0], [0.0, 0.0]])
    assert fitted.score(asked).tolist() == [1.0, 0.75, 0.25, 0.25]
    # a few clips cannot show that one is unlike them
    assert familiarity.fit(held_out, np.zeros(3, int)).score(-asked[:2]).tolist() == [1, 1]
    with pytest.raises(ValueError, match='have 3 values, and familiarity was fitted to 2'):
        fitted.score(np.ones((1, 3)))


def test_marks_are_for_unfamiliar_clips_only():
    scores = (None, 1.0, 0.051, 0.05, 0.001)
    assert [familiarity.is_familiar(s) for s in scores] == [None, True, True, False, False]
    assert [len(familiarity.marks(s)) for s in scores] == [0, 0, 0, 1, 1]
    assert familiarity.marks(0.01) == ['unlike the training clips (familiarity 0.010)']


def test_clips_of_several_labels_take_turns_like_those_of_classes():
    embeddings, labels = clips(60, 0)
    several = np.eye(3)[labels]  # rows sort in another order than numbers, which turns allow
    one, other = (familiarity.fit(embeddings, each) for each in (labels, several))
    assert one.distances.shape == other.distances.shape
    turns = familiarity.fit(embeddings, 2 - labels)
    np.testing.assert_array_equal(other.distances, turns.distances)


def test_of_many_clips_a_part_is_kept(monkeypatch):
    monkeypatch.setattr(familiarity, 'MOST_CLIPS', 7)
    assert familiarity.fit(*clips(20, 0)).neighbours.shape == (7, 8)


def test_a_run_keeps_it_and_an_older_one_has_none(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_familiarity() is None
    fitted = familiarity.fit(*clips(40, 0))
    run.write_familiarity(fitted)
    x = clips(9, 1)[0]
    np.testing.assert_array_equal(run.read_familiarity().score(x), fitted.score(x))


@pytest.mark.parametrize(('count', 'is_kept'), [(18, False), (19, True)])
def test_too_few_clips_to_mark_one_are_told_and_give_no_score(tmp_path, capsys, count, is_kept):
    same = np.array([[1.0, 0.0]])
    fitted = familiarity.fit(same.repeat(9, 0), np.zeros(9, int), same.repeat(count, 0))
    RunFolder(tmp_path).write_familiarity(fitted)
    assert (RunFolder(tmp_path).read_familiarity() is not None) == is_kept
    is_marked = fitted.score(-same)[0] <= familiarity.FALSE_ALARMS
    assert is_marked == is_kept == fitted.can_mark
    assert ('note: predict will mark no clip as unlike' in capsys.readouterr().err) != is_kept


NEAR = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    'arrays',
    [
        {'neighbours': NEAR},
        {'neighbours': NEAR, 'distances': np.zeros(2), 'more': np.zeros(1)},
        {'neighbours': NEAR[0], 'distances': np.zeros(2)},
        {'neighbours': NEAR[:0], 'distances': np.zeros(2)},
        {'neighbours': NEAR[:, :0], 'distances': np.zeros(2)},
        {'neighbours': NEAR, 'distances': np.zeros((2, 1))},
        {'neighbours': NEAR, 'distances': np.array([1.0, 0.0])},
        {'neighbours': NEAR, 'distances': np.array([0.0, np.nan])},
        {'neighbours': NEAR, 'distances': np.array(['far'])},
        {'neighbours': NEAR.astype(int), 'distances': np.zeros(2)},
        {'neighbours': NEAR + 1, 'distances': np.zeros(2)},
        {'neighbours': NEAR, 'distances': np.array([-1.0, 0.0])},
        {'neighbours': NEAR, 'distances': np.array([0.0, 2.1])},
    ],
)
def test_a_hostile_file_is_one_sentence_that_names_it(tmp_path, arrays):
    np.savez(tmp_path / familiarity.FILE, **arrays)
    with pytest.raises(ValueError, match=r'familiarity\.npz is corrupt \(.*train the run again'):
        RunFolder(tmp_path).read_familiarity()


def test_a_folder_or_a_dead_link_in_its_place_is_one_sentence(tmp_path):
    (tmp_path / familiarity.FILE).mkdir()
    with pytest.raises(ValueError, match=r'familiarity\.npz is no file; train the run again'):
        RunFolder(tmp_path).read_familiarity()
    (tmp_path / familiarity.FILE).rmdir()
    (tmp_path / familiarity.FILE).symlink_to('nowhere')
    with pytest.raises(ValueError, match=r'familiarity\.npz is no file; train the run again'):
        RunFolder(tmp_path).read_familiarity()
