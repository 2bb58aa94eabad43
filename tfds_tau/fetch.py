"""Downloads the TAU archives from Zenodo; keeps complete ones and resumes partial ones."""

import csv
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from avsc_jax.runtime import download

BASE_URL = 'https://zenodo.org'
TABLE = Path(__file__).with_name('zenodo_files.tsv')
DEVELOPMENT, EVALUATION = '4477542', '4767103'
RECORDS = {
    'clips': DEVELOPMENT,
    'segments': DEVELOPMENT,
    'frames10': DEVELOPMENT,
    'evaluation': EVALUATION,
    'evaluation_hou': EVALUATION,
}


def archives(configs: Iterable[str], folder: Path) -> list[download.File]:
    """Returns the archives that builder configs need, and their paths in the folder."""
    records = {RECORDS[config] for config in configs if config in RECORDS}
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith('#')]
    return [
        download.File(
            f'{BASE_URL}/record/{row["record"]}/files/{row["filename"]}',
            folder / row['filename'],
            num_bytes=int(row['bytes']),
            md5=row['md5'],
        )
        for row in csv.DictReader(lines, delimiter='\t')
        if row['record'] in records
    ]


def fetch(configs: Iterable[str], folder: Path, *, at_once: int = 4) -> None:
    """Downloads the archives of builder configs, after printing how much that is.

    Args:
      configs: names of builder configs; `demo` needs no archives.
      folder: made if missing.
      at_once: number of connections.
    """
    files = archives(configs, folder)
    if not files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(file.num_bytes for file in files)
    print(
        f'{len(files)} archives of TAU Urban Audio-Visual Scenes 2021, {total / 1e9:.1f} GB, are '
        f'fetched into {folder}, where {shutil.disk_usage(folder).free / 1e9:.1f} GB are free.\n'
        'They are free for non-commercial use only; the archives hold the licence. Complete '
        'archives are checked and kept, and partial downloads are resumed.',
        file=sys.stderr,
    )
    download.fetch_all(files, at_once=at_once)
