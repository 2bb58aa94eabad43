"""The flags of Apache Beam's runners, and what a process opens for its tasks."""

import dataclasses
import importlib.util

import pytest

from avsc_jax.runtime import beam


@pytest.mark.parametrize(
    ('arguments', 'own', 'options'),
    [
        (['a', '--runner=X', '--', '--b', 'c'], ['a', '--runner=X'], ('--b', 'c')),
        (['--runner', 'X', '--', '--b', '--', 'c'], ['--runner', 'X'], ('--b', '--', 'c')),
        (['a', '--runner=X'], ['a', '--runner=X'], ()),
        (['--', '-a.mp4'], ['--', '-a.mp4'], ()),
        (['--', '--runner=X'], ['--', '--runner=X'], ()),
    ],
)
def test_options_of_beam_follow_two_dashes_after_a_runner(arguments, own, options):
    assert beam.split(arguments) == (own, options)


def test_a_runner_without_beam_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r'^--runner needs Apache Beam; run: pip install'):
        beam.Runner('DirectRunner').check()


@pytest.mark.tf
@pytest.mark.parametrize(
    ('runner', 'sentence'),
    [
        (beam.Runner('DirectRuner'), r"--runner is 'DirectRuner'; .*mean DirectRunner\?"),
        (
            beam.Runner('DirectRunner', ('--direct_num_wokers=2',)),
            r'no option --direct_num_wokers \(did you mean --direct_num_workers\?\)',
        ),
        (beam.Runner('FlinkRunner', ('--runner=SparkRunner',)), 'is given twice'),
    ],
)
def test_runners_and_options_that_beam_does_not_know_are_errors(runner, sentence):
    pytest.importorskip('apache_beam')
    with pytest.raises(ValueError, match=sentence):
        runner.check()


@pytest.mark.tf
def test_known_options_pass_and_other_runners_may_have_their_own():
    pytest.importorskip('apache_beam')
    beam.Runner('DirectRunner', ('--direct_num_workers', '2')).check()
    beam.Runner('FlinkRunner', ('--flink_master=host:8081', '--conf_of_its_server=1')).check()


@dataclasses.dataclass(frozen=True)
class Counting:
    """Counts how often it is opened."""

    name: str
    opened: list = dataclasses.field(compare=False)

    def open(self):
        self.opened.append(self.name)
        return lambda task: None


def test_a_process_opens_equal_jobs_once():
    opened: list[str] = []
    for name in ('a', 'a', 'b', 'b'):
        beam.work(Counting(name, opened), 0)
    assert opened == ['a', 'b']
