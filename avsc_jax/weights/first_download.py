"""Records the first download of a file whose publisher states no hash, beside the file."""

from pathlib import Path

from avsc_jax.runtime.files import read_checked_json, write_checked_json


def record_of(path: Path) -> Path:
    """Returns where the first download of a file is recorded."""
    return path.with_name(f'{path.name}.download.json')


def write(path: Path, *, url: str, revision: str | None, sha256: str) -> None:
    """Records where a file came from, and its SHA-256.

    Args:
      revision: the commit of its repository; None where the server names none.
    """
    record = {'url': url, 'revision': revision, 'sha256': sha256}
    write_checked_json(record_of(path), record)


def address(path: Path, sha256: str) -> str | None:
    """Returns where a file with this SHA-256 was first downloaded from; None if not recorded.

    Raises:
      ValueError: the record is damaged.
    """
    if not record_of(path).exists():
        return None
    first = read_checked_json(record_of(path))
    return first['url'] if first['sha256'] == sha256 else None


def difference(path: Path, sha256: str) -> str | None:
    """Returns how a SHA-256 differs from that of the first download, and what to do; or None.

    Raises:
      ValueError: the record is damaged.
    """
    record = record_of(path)
    if not record.exists():
        return None
    try:
        first = read_checked_json(record)
    except ValueError as error:
        raise ValueError(f'{error}; delete it to trust the file that comes next') from error
    if sha256 == first['sha256']:
        return None
    revision = f' at revision {first["revision"]}' if first['revision'] else ''
    return (
        f'{path} has SHA-256 {sha256}, but the first download from {first["url"]}{revision} '
        f'had {first["sha256"]}; put back the first file, or delete {record} and the file to take '
        'what is there now'
    )
