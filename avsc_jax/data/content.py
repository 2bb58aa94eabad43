"""A digest of the records in each file of a prepared data set, and facts of each record.

It is made when the data set is built and lies beside it; for sets of earlier versions it is made
once. A file of another size or time is read again.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tqdm import tqdm

from avsc_jax.data import label_kinds, media
from avsc_jax.data.batches import read_ahead
from avsc_jax.runtime import files

FILE = 'content.json'
RECORDS_PER_READ = 16
READERS = 8


def read(builder: tfds.core.DatasetBuilder) -> dict[str, dict]:
    """Returns file name -> `stamp` (size, time), `sha256` of its records, and their `outlines`.

    Files that are links of others have no entries of their own. Outlines are None for records that
    are not those of `data.builder.record_features`, such as ImageNet's.

    Raises:
      ValueError: a record is damaged, or a file has another number of records than the data set's
        description says.
    """
    folder = Path(builder.data_path)
    lengths = {}
    for split in builder.info.splits.values():
        for path, length in zip(split.filepaths, split.shard_lengths, strict=True):
            lengths[Path(path).resolve().name] = length
    known: dict[str, dict] = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        known = files.read_checked_json(folder / FILE)
    stamps = {name: files.stamp(folder / name, inode=False) for name in sorted(lengths)}
    stale = [name for name in stamps if known.get(name, {}).get('stamp') != stamps[name]]
    content = {name: known[name] for name in stamps if name not in stale}
    for name, made in zip(stale, _made(builder, folder, stale), strict=True):
        content[name] = {'stamp': stamps[name], **made}
        if (seen := made['count']) != lengths[name]:
            raise ValueError(
                f'{folder / name} holds {seen} records, and dataset_info.json says '
                f'{lengths[name]}; remove {folder} and build it again'
            )
    if stale:
        with contextlib.suppress(OSError):  # a shared folder may be read-only
            files.write_checked_json(folder / FILE, content)
    return content


def names(builder: tfds.core.DatasetBuilder, split: str) -> list[str]:
    """Returns the file names of a split, in order, as `read` has them."""
    return [Path(path).resolve().name for path in builder.info.splits[split].filepaths]


def facts(stored: Mapping) -> dict:
    """Returns the plain fields of a stored record."""
    plain = {name: int(stored[name]) for name in ('sample_rate', 'segment')}
    plain['label'] = label_kinds.plain(stored['label'])
    return plain | {name: _text(stored[name]) for name in ('clip_id', 'city', 'location')}


def outline(stored: Mapping) -> dict:
    """Returns a stored record's plain fields, `num_frames` and `num_samples`; decodes nothing."""
    return facts(stored) | {
        'num_frames': len(stored['frames']),
        'num_samples': media.flac_length(stored['audio']) if stored['audio'] else 0,
    }


def _made(builder: tfds.core.DatasetBuilder, folder: Path, names: Iterable[str]) -> Iterable[dict]:
    """Reads all records of some files; shows progress."""
    features = builder.info.features
    is_ours = {'clip_id', 'frames', 'audio', 'segment', 'location'} <= {*features}
    names = list(names)

    def load(name: str) -> dict:
        try:
            return _of_file(folder / name, features.deserialize_example_np if is_ours else None)
        except Exception as error:  # array_record raises many kinds
            raise ValueError(
                f'{folder / name} is corrupt ({error}); remove {folder} and build it again'
            ) from error

    loaded = read_ahead(load, names, num_threads=READERS)
    desc = f'reading {builder.info.full_name} once'
    return tqdm(
        loaded, desc, len(names), unit='file', leave=False, disable=len(names) < 2 * READERS
    )


def _of_file(path: Path, decode: Callable | None) -> dict:
    """Returns the number of records of a file, the SHA-256 of them, and their outlines."""
    digest, outlines = hashlib.sha256(), []
    with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
        count = reader.num_records()
        for first in range(0, count, RECORDS_PER_READ):
            for record in reader.read([*range(first, min(first + RECORDS_PER_READ, count))]):
                digest.update(len(record).to_bytes(8, 'little'))
                digest.update(record)
                if decode:
                    outlines.append(outline(decode(record)))
    made = {'count': count, 'sha256': digest.hexdigest()}
    return made | {'outlines': outlines if decode else None}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
