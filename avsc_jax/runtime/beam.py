"""Runs tasks on the workers of an Apache Beam runner: processes of this machine, or a cluster.

A task leaves files that its worker writes whole, under names that depend on the task alone. So a
task that a runner repeats, or gives to two workers, changes nothing, and a job that was killed goes
on with the tasks whose files are missing. No results travel through the runner.
"""

import functools
import importlib.util
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from avsc_jax.runtime import nearest

DIRECT_NAMES = ('DirectRunner', 'FnApiRunner')
HELP = 'an Apache Beam runner (extra beam), such as FlinkRunner; its options follow after --'
# of workers here, whose errors come back to us; a later option of this name counts
QUIET = '--default_sdk_harness_log_level=CRITICAL'

_one_task = threading.Lock()


class Runner(NamedTuple):
    """A Beam runner and its options.

    Attributes:
      name: such as 'DirectRunner', or the dotted name of a class.
      options: Beam's own, such as '--direct_num_workers=2'.
    """

    name: str
    options: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError if Beam is missing, or does not know the runner or an option of it."""
        if not importlib.util.find_spec('apache_beam'):
            raise ValueError('--runner needs Apache Beam; run: pip install "avsc_jax[beam]"')
        from apache_beam.options import pipeline_options

        known = [n for n in pipeline_options.StandardOptions.KNOWN_RUNNER_NAMES if 'Test' not in n]
        if '.' not in self.name:
            nearest.check('--runner', self.name, known)
        given = [name for option in self.options if (name := option.partition('=')[0])[:2] == '--']
        if '--runner' in given:
            raise ValueError('--runner is given twice; leave it out after --')
        if self.name in DIRECT_NAMES:  # others have options that only their servers know
            of_beam = _Flags()
            for section in pipeline_options.PipelineOptions.__subclasses__():
                section._add_argparse_args(of_beam)  # type: ignore[arg-type]
            for name in given:
                if name not in of_beam.names:
                    meant = nearest.meant(name, of_beam.names)
                    raise ValueError(f'Apache Beam has no option {name}{meant}')


class _Flags:
    """Collects the names of the flags that Beam's sections of options add to a parser."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add_argument(self, *names: str, **_: Any) -> None:
        self.names += names

    def add_argument_group(self, *_: Any, **__: Any) -> '_Flags':
        return self

    add_mutually_exclusive_group = add_argument_group


class Job(Hashable, Protocol):
    """The interface of what workers do; it travels to them by pickle, and equal ones are one."""

    def open(self) -> Callable[[Any], None]:
        """Opens networks and decoders, once in a process; returns what does a task."""
        ...


def split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Splits a command line with --runner at '--': the command's arguments, and Beam's options.

    Without --runner, '--' keeps its own meaning: names of files follow.
    """
    if '--' in arguments:
        place = arguments.index('--')
        if any(each.partition('=')[0] == '--runner' for each in arguments[:place]):
            return [*arguments[:place]], tuple(arguments[place + 1 :])
    return [*arguments], ()


def run(job: Job, tasks: Sequence[Any], runner: Runner) -> None:
    """Does all tasks on the runner's workers, and waits until they are done.

    Raises:
      ValueError: the runner has given up.
    """
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    is_direct = runner.name in DIRECT_NAMES
    options = PipelineOptions([*[QUIET] * is_direct, *runner.options, f'--runner={runner.name}'])
    pipeline = apache_beam.Pipeline(runner=_direct(options) if is_direct else None, options=options)
    _ = (
        pipeline
        | 'tasks' >> apache_beam.Create([*tasks])
        | 'to all workers' >> apache_beam.Reshuffle()
        | 'work' >> apache_beam.Map(functools.partial(work, job))
    )
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:  # runners pass on a worker's error as text, or as one of their own
        raise ValueError(f'{_advice(runner)}: {_last_line(error)}') from error
    if str(state) != 'DONE':
        raise ValueError(f'{_advice(runner)}: its state is {state}')


def work(job: Job, task: Any) -> None:
    """Does a task in a worker's process, one at a time: one network and one decoder are open."""
    with _one_task:
        _opened(job)(task)


def _direct(options: Any) -> Any:
    """Returns the runner inside Beam's DirectRunner, which first downloads another, Prism."""
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(info))


@functools.lru_cache(maxsize=1)
def _opened(job: Job) -> Callable[[Any], None]:
    return job.open()


def _advice(runner: Runner) -> str:
    return (
        f'{runner.name} has given up; the same command goes on with what is missing '
        '(AVSC_TRACEBACK=1 shows where it failed)'
    )


def _last_line(error: Exception) -> str:
    """Returns the sentence of a worker's error, which Beam gives with its traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return repr(error)
    return next((line for line in reversed(lines) if 'Error: ' in line), lines[-1]).strip()
