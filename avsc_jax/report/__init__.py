"""A table of predictions, scored: as a dictionary, as text, as report.json and report.html.

`make` scores, `trained` tells of a run that has nothing to score, `line` gives one of several
systems its line, `text` prints, `write` leaves the two files. Every number names its granularity;
the headline is the clip where clips can be formed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avsc_jax.report.console import text
from avsc_jax.report.scores import line, make, trained
from avsc_jax.runtime.files import write_texts

__all__ = ['line', 'make', 'text', 'trained', 'write']


def write(report: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes report.json and report.html into a folder, each beside and then renamed."""
    from avsc_jax.report import page  # matplotlib takes a second to load, and only writing needs it

    write_texts(
        folder,
        {
            'report.json': json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + '\n',
            'report.html': page.page(report),
        },
    )
    return Path(folder) / 'report.html'
