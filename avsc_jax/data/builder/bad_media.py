"""What the build says about clips whose files are missing or broken."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles, MediaFiles

MAX_LINES = 50  # on the console; the file has all


def warn_of_missing(files: MediaFiles | FolderFiles, clips: Sequence[Clip]) -> None:
    """Says before the first clip is decoded what the report will say hours later."""
    names = [name for clip in clips for name in (clip.audio, clip.video)]
    if missing := [name for name in names if name not in files]:
        print(
            f'{len(missing):,} of {len(names):,} files are missing, such as {missing[0]}; the '
            'others are read first, and what is encoded is kept should you stop this',
            file=sys.stderr,
        )


@contextlib.contextmanager
def notes_printed(files: MediaFiles | FolderFiles) -> Iterator[None]:
    """Prints what was done to clips, also where the block fails: what is encoded is kept."""
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
    flag: str = '--on_error=skip',
) -> None:
    """Lists bad files in one place; raises ValueError unless they may be left out.

    Args:
      bad: clip ids, and (path, reason) of each one's bad files.
      total: number of clips that were looked at.
      path: of the list, a tab-separated file; removed if nothing is bad.
      skip: the clips may be left out.
      flag: that says so.
    """
    if not bad:
        path.unlink(missing_ok=True)
        return
    problems = [problem for _, found in bad for problem in found]
    rows = ['\t'.join(' '.join(text.split()) for text in problem) for problem in problems]
    path.write_text('path\treason\n' + ''.join(f'{row}\n' for row in rows))
    print('\n'.join(rows[:MAX_LINES]), file=sys.stderr)
    if len(rows) > MAX_LINES:
        print(f'... and {len(rows) - MAX_LINES:,} more, in {path}', file=sys.stderr)
    seen = f'{len(bad):,} of {total:,} clips have missing or broken files'
    seen += f' (the first is {problems[0][0]}; all are listed in {path})'
    if not skip:
        raise ValueError(
            f'{seen}; put whole ones there and give the same command again, which keeps the other '
            f'clips, or build without these by {flag}'
        )
    print(f'left out: {seen}', file=sys.stderr)
