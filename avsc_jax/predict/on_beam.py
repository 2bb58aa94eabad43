"""Tags media files on the workers of an Apache Beam runner, into the journal of a local command.

The files are cut into tasks. A worker tags the files of a task as the local command does, and
writes their lines into a file of its own beside the journal; the command that has started the job
moves them into the journal, and writes the outputs of it. So all that comes after the answers is
the same as without Beam, and a killed job goes on, with Beam or without.
"""

import argparse
import dataclasses
import hashlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avsc_jax.data import decode_workers
from avsc_jax.data.decode_workers import Limits
from avsc_jax.predict import media_files
from avsc_jax.predict.opened import opened
from avsc_jax.predict.resume import Journal
from avsc_jax.runs import checksums
from avsc_jax.runtime import beam, made_with
from avsc_jax.runtime.files import some, write_text

FILES_PER_TASK = 2 * media_files.WINDOWS_PER_BATCH  # clips of one window fill whole batches
BYTES_PER_TASK = 1 << 28  # long files are spread


@dataclasses.dataclass(frozen=True)
class Tagging:
    """A job that tags files: the system, its flags, and the folder of the lines.

    Attributes:
      about: facts of the system, as the journal has them.
      folder: of the files of lines, which all workers and the command share.
      limits: on decoding a file.
      args: the flags of the command, which name the system.
    """

    about: tuple[tuple[str, Any], ...]
    folder: Path
    limits: Limits
    args: argparse.Namespace = dataclasses.field(compare=False)

    def open(self) -> Callable[[Sequence[Path]], None]:
        """Opens the system; returns what tags the files of a task and writes their lines."""
        args, about = self.args, dict(self.about)
        with checksums.trusting(args.trust_edited):
            predictor = opened(args)
            model = f'{predictor.title} {predictor.content_hash}'
        if model != about['model']:
            raise ValueError(
                f'a worker has opened {model}, not {about["model"]}; the workers need the same '
                'run, weights and version of the program as the command'
            )
        idle, libraries = decode_workers.IdleWorkers(), made_with.facts()

        def tag(files: Sequence[Path]) -> None:
            journal = Journal(None, about, made_with=libraries)
            for one in media_files.tag(
                predictor,
                files,
                window_s=args.window,
                fallback=not args.whole,
                workers=1,
                limits=self.limits,
                idle=idle,
                pause_s=math.inf,
            ):
                journal.add(one, predictor.classes, embedding=bool(args.embeddings))
            text = ''.join(journal.lines.text(str(file)) for file in files)
            write_text(self.folder / f'{_digest(files)}.jsonl', text)

        return tag


def tag(
    files: Sequence[Path],
    todo: Sequence[Path],
    journal: Journal,
    args: argparse.Namespace,
    about: Mapping[str, Any],
    limits: Limits,
) -> None:
    """Tags files on the workers of the runner in the flags, and moves their lines into the journal.

    Args:
      files: all files of the command. Tasks are cut from them, so that a job that goes on puts
        windows into the batches of an unbroken one, and gives the same bits.
      todo: those that are to be tagged.
      journal: gets their lines; it has a path.
      args, about, limits: see Tagging.

    Raises:
      ValueError: the job has failed, or its workers do not share the folder of the lines.
    """
    assert journal.path  # beside which the workers write
    folder = folder_of(journal.path)
    folder.mkdir(exist_ok=True)
    job = Tagging(tuple(sorted(about.items())), folder.absolute(), limits, _for_workers(args))
    asked = {*todo}
    rest = [left for task in tasks(files) if (left := [file for file in task if file in asked])]
    print(f'{len(todo):,} files in {len(rest):,} tasks go to {args.runner.name}', file=sys.stderr)
    beam.run(job, rest, args.runner)
    gather(journal, about)
    if lost := [file for file in todo if str(file) not in journal.lines]:
        raise ValueError(
            f'{len(lost)} of {len(todo)} files were tagged, but their answers are not in '
            f'{folder}: {some(lost)}; the workers have to share the folders of the files, the run '
            'and the outputs under the same paths'
        )


def gather(journal: Journal, about: Mapping[str, Any]) -> None:
    """Moves the lines that workers have written, also those of a killed job, into the journal."""
    if journal.path and (folder := folder_of(journal.path)).is_dir():
        for path in sorted(folder.glob('*.jsonl')):
            journal.lines.update(Journal(path, about).lines)
        journal.write([])
        shutil.rmtree(folder)


def folder_of(path: Path) -> Path:
    """Returns the folder beside a journal where the workers of a job write."""
    return path.with_name(f'{path.name}.parts')


def num_written(path: Path) -> int:
    """Returns how many lines workers have written that are not in the journal at `path` yet."""
    return sum(part.read_bytes().count(b'\n') for part in folder_of(path).glob('*.jsonl'))


def tasks(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Cuts a list of files into tasks, by number and size alone."""
    task: list[Path] = []
    num_bytes = 0
    for file in files:
        size = file.stat().st_size if file.is_file() else 0
        if task and (len(task) == FILES_PER_TASK or num_bytes + size > BYTES_PER_TASK):
            yield task
            task, num_bytes = [], 0
        task.append(file)
        num_bytes += size
    if task:
        yield task


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b'\0'.join(map(os.fsencode, files))).hexdigest()[:32]


def _for_workers(args: argparse.Namespace) -> argparse.Namespace:
    """Returns the flags with whole paths, and with weights that are there by now."""
    changed: dict[str, Any] = {'download_weights': False}
    for name in ('model', 'weights_dir'):
        path = getattr(args, name)
        changed[name] = path and path.absolute()
    if (args.classes or '').startswith('@'):
        changed['classes'] = f'@{Path(args.classes[1:]).expanduser().absolute()}'
    return argparse.Namespace(**{**vars(args), **changed})
