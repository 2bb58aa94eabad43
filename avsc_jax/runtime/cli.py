"""Runs a command so that an error is one sentence and a non-zero exit code."""

import os
import sys
from collections.abc import Callable

TRUST_EDITED = 'open runs whose files you have edited by hand: checksums are not compared'


def main(function: Callable[[list[str]], int | None]) -> int:
    """Runs `function(arguments)` and returns the process's exit code.

    ValueError, OSError and FloatingPointError carry a sentence for the user, which is printed.
    Other errors are faults of this program and keep their traceback, as do all with
    AVSC_TRACEBACK=1.
    """
    try:
        return function(sys.argv[1:]) or 0
    except KeyboardInterrupt:
        print('stopped; the same command goes on from the last checkpoint', file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get('AVSC_TRACEBACK') == '1':
            raise
        print(f'error: {error}', file=sys.stderr)
        return 1
