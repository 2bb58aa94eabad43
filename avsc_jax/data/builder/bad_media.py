"""Reports clips whose files are missing or broken to the user of a build."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles, MediaFiles
from avsc_jax.runtime.files import printable

MAX_LINES = 50  # on the console; the file has all


def warn_of_missing(files: MediaFiles | FolderFiles, clips: Sequence[Clip]) -> None:
    """Warns of missing files before the build starts, rather than hours later in its report."""
    names = [name for clip in clips for name in (clip.audio, clip.video)]
    if missing := [name for name in names if name not in files]:
        print(
            f'{len(missing):,} of {len(names):,} files are missing, such as {missing[0]}; the '
            'others are read first, and what is encoded is kept should you stop this',
            file=sys.stderr,
        )


@contextlib.contextmanager
def notes_printed(files: MediaFiles | FolderFiles) -> Iterator[None]:
    """Prints what was changed in clips after the block, also after an error."""
    try:
        yield
    finally:
        for note, clips in sorted(files.notes.items()):
            more = f' and {len(clips) - 1:,} more' if clips[1:] else ''
            print(f'note: {note}: {min(clips)}{more}', file=sys.stderr)


def report(
    bad: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    total: int,
    path: Path,
    *,
    skip: bool,
    flag: str,
) -> None:
    """Lists bad files on the console and in a file; raises ValueError unless they may be skipped.

    Args:
      bad: clip id, and (path, reason) of each of its bad files.
      total: number of clips, good and bad.
      path: tab-separated list of bad files to write; removed if there are none.
      skip: leaves the clips out instead of raising.
      flag: how the user asks for `skip`, for the error.
    """
    if not bad:
        path.unlink(missing_ok=True)
        return
    problems = [problem for _, files in bad for problem in files]
    rows = [
        '\t'.join(printable(' '.join(text.split())) for text in problem) for problem in problems
    ]
    path.write_text('path\treason\n' + ''.join(f'{row}\n' for row in rows), 'utf-8')
    print('\n'.join(rows[:MAX_LINES]), file=sys.stderr)
    if len(rows) > MAX_LINES:
        print(f'... and {len(rows) - MAX_LINES:,} more, in {path}', file=sys.stderr)
    seen = f'{len(bad):,} of {total:,} clips have missing or broken files'
    seen += f' (the first is {problems[0][0]}; all are listed in {path})'
    if not skip:
        raise ValueError(
            f'{seen}; replace them and give the same command again, which keeps the other '
            f'clips, or leave these out with {flag}'
        )
    print(f'left out: {seen}', file=sys.stderr)
