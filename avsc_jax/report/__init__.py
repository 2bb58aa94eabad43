"""Reports on a table of predictions: a dictionary of scores, its text, report.json and report.html.

`make` scores a table, `trained` reports on a run that has nothing to score, `line` scores one of
several systems, `text` gives the text for a console, `write` writes the two files. Every number
names its granularity; the headline is that of clips, if clips can be formed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avsc_jax.report import files
from avsc_jax.report.console import text
from avsc_jax.report.scores import line, make, trained

__all__ = ['line', 'make', 'text', 'trained', 'write']


def write(report: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes report.json and report.html into a folder; returns the path of the page."""
    from avsc_jax.report import page  # matplotlib takes a second to load, and only writing needs it

    files.write(
        folder,
        {
            'report.json': json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + '\n',
            'report.html': page.page(report),
        },
    )
    return Path(folder) / 'report.html'
