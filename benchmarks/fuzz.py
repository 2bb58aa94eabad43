"""Gives damaged files to every reader: each must be read, or be refused in one sentence.

    pip install -e '.[test]' && python benchmarks/fuzz.py --minutes=10 [--readers=tables,media]

Whole small files of each kind are damaged by edits that hypothesis draws: flipped bits, bytes put
in, taken out, repeated and overwritten, huge numbers, hostile words. Half of the edits of archives
are made to a member, whose checksum is made right again, so that they get behind it. A reader may
return, or raise ValueError or OSError with one line; it may neither take MAX_GROWTH_BYTES more
memory than before nor longer than MAX_SECONDS. What is wrong ends the run, with the smallest
damage that hypothesis finds, and the file is kept in --keep.
"""

import argparse
import collections
import contextlib
import io
import json
import random
import re
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import hypothesis
import numpy as np
import safetensors.numpy
import soundfile
from hypothesis import strategies as st
from PIL import Image

from avsc_jax import tables, weights
from avsc_jax.data import folds, media, windows
from avsc_jax.input_pipeline import feature_cache, kept_features
from avsc_jax.predict.resume import Journal
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import files

ROOT = Path(__file__).resolve().parents[1]
MAX_GROWTH_BYTES, MAX_SECONDS = 1 << 29, 10.0
CLASSES = ('bus', 'tram')
# What stands in place of a word or a number of a text.
WORDS = (
    b'NaN', b'-1', b'1e999', b'null', b'true', b'""', b'[]', b'{}', b'9' * 400, b'"\\ud800"',
    b'\xff\xfe', b'\0', b'../../x', b'=1+1', b'[' * 3000, b'a' * 5000,
)  # fmt: skip

Edit = tuple[str, int, bytes]


class Reader(NamedTuple):
    """A reader of files.

    Attributes:
      make: writes whole files into a folder.
      read: reads one of them.
      is_named: whether its errors name the file; those of bytes in a record cannot.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    is_named: bool = True


# -- damage


def _put(content: bytearray, place: int, new: bytes) -> None:
    content[place : place + len(new)] = new


def _word(content: bytearray, place: int, extra: bytes) -> None:
    """Puts a hostile word in place of the word that stands at a place, or after it."""
    found = re.compile(rb'[\w.+-]+').search(content, place)
    if found:
        content[found.start() : found.end()] = WORDS[extra[0] % len(WORDS)]


def _flip(content: bytearray, place: int, extra: bytes) -> None:
    if place < len(content):
        content[place] ^= 1 << extra[0] % 8


def _insert(content: bytearray, place: int, extra: bytes) -> None:
    content[place:place] = extra


def _cut(content: bytearray, place: int, extra: bytes) -> None:
    del content[place:]


def _drop(content: bytearray, place: int, extra: bytes) -> None:
    del content[place : place + 1 + extra[0]]


def _repeat(content: bytearray, place: int, extra: bytes) -> None:
    content[place:place] = content[place : place + 1 + extra[0]] * (1 + extra[-1] % 4)


def _zeros(content: bytearray, place: int, extra: bytes) -> None:
    _put(content, place, bytes(min(1 + extra[0], len(content) - place)))


def _huge(content: bytearray, place: int, extra: bytes) -> None:
    numbers = (b'\xff' * 4, b'\xff' * 8, b'\xff\xff\xff\x7f', b'\x7f\xff\xff\xff', bytes(4))
    _put(content, place, numbers[extra[0] % len(numbers)])


EDITS = {
    'flip': _flip, 'write': _put, 'insert': _insert, 'cut': _cut, 'drop': _drop,
    'repeat': _repeat, 'zeros': _zeros, 'huge': _huge, 'word': _word,
}  # fmt: skip


def edits() -> st.SearchStrategy[list[Edit]]:
    """Draws one to four edits: kind, a number that gives the place, and bytes."""
    edit = st.tuples(
        st.sampled_from([*EDITS]), st.integers(0, 2**32), st.binary(min_size=1, max_size=16)
    )
    return st.lists(edit, min_size=1, max_size=4)


def damaged(content: bytes, changes: Sequence[Edit], *, inside: bool) -> bytes:
    """Returns a file's content with edits.

    Args:
      inside: whether a member of an archive is edited, in place of the archive.
    """
    if inside and zipfile.is_zipfile(io.BytesIO(content)):
        return _damaged_member(content, changes)
    data = bytearray(content)
    for kind, number, extra in changes:
        EDITS[kind](data, number % (len(data) + 1), extra)
    return bytes(data)


def _damaged_member(content: bytes, changes: Sequence[Edit]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(out, 'w') as copy:
        names = whole.namelist()
        chosen = names[changes[0][1] % len(names)]
        for name in names:
            member = whole.read(name)
            copy.writestr(
                name, damaged(member, changes, inside=False) if name == chosen else member
            )
    return out.getvalue()


# -- whole files, and what reads them


def _make_weights(folder: Path) -> None:
    state = {'a.weight': np.ones((3, 4), np.float32), 'b': np.arange(5, dtype=np.float16)}
    safetensors.numpy.save_file(state, folder / 'w.safetensors')
    np.savez(folder / 'w.npz', **state)
    for golden in ('zip.pth', 'stream.pth', 'script.pt'):
        whole = ROOT / 'tests/weights/goldens' / golden
        (folder / golden).write_bytes(whole.read_bytes())
    import h5py

    with h5py.File(folder / 'w.h5', 'w') as file:
        file.create_dataset('conv/kernel', data=state['a.weight'])
        file.create_dataset(
            'packed', data=np.zeros((64, 64), np.float32), chunks=(8, 64), compression=1
        )


def _make_tables(folder: Path) -> None:
    table = tables.Predictions(
        clip_id=np.array(['a', 'b', 'c']),
        segment=np.full(3, -1, np.int32),
        label=np.array([0, 1, 1], np.int32),
        probs=np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]),
        meta={'classes': list(CLASSES), 'granularity': 'clip'},
    )
    for suffix in ('npz', 'csv', 'tsv'):
        tables.write(table, folder / f'table.{suffix}')
    (folder / 'list.txt').write_text('path,label,group\na.wav,bus,x\nb.wav,tram,y\n')


def _read_table(path: Path) -> Any:
    return tables.truth_and_groups(path) if path.suffix == '.txt' else tables.read(path)


def _make_run(folder: Path) -> None:
    encoders = [{'name': 'clip_rn101', 'options': {}, 'weights': 'random:0'}]
    reading = {'window_s': 10.0, 'encoders': encoders, 'size': [4, 4], 'pool': None}
    contents = {
        'config.json': {'kind': 'train', 'data': {'name': 'tfds_tau', 'test': 'test'}, 'model': {}},
        'classes.json': [*CLASSES],
        'preprocessing.json': reading,
        'report.json': {'about': {'warnings': []}, 'headline': None, 'scores': {}},
        'members.json': [{'name': 'a', 'fold': None, 'folder': 'runs/a'}],
        'environment.json': {'data': 'x', 'weights': {}},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    files.write_checked_json(folder / 'checked.json', contents['config.json'])
    for name in ('stats.npz', 'means.npz'):
        files.write_arrays(
            folder / name, mean_x=np.zeros((2, 3), np.float32), std_x=np.ones((2, 3))
        )


def _read_run(path: Path) -> Any:
    if path.name == 'checked.json':
        return files.read_checked_json(path)
    run = RunFolder(path.parent)
    if path.suffix == '.json':
        return run.read_json(path.name)
    if path.name == 'stats.npz':
        return run.stats()
    return run.means()


def _make_lists(folder: Path) -> None:
    folds.write(folder / 'folds.csv', ['a', 'b'], [0, 1])
    line = {
        'file': 'a.wav', 'scene': 'bus', 'probs': {'bus': 0.9, 'tram': 0.1}, 'timeline': [],
        'without': [], 'notes': [], 'stamp': [1, 2, 3], 'system': 'x', 'made_with': {},
    }  # fmt: skip
    (folder / 'a.jsonl').write_text(f'{json.dumps(line)}\n' * 2)


def _read_list(path: Path) -> Any:
    return folds.read(path) if path.suffix == '.csv' else Journal(path, {'system': 'x'}).lines


def _make_caches(folder: Path) -> None:
    columns = {
        'clip_id': np.array(['a', 'b']),
        'segment': np.full(2, -1, np.int32),
        'counts': np.array([2, 1], np.int32),
        'features': np.ones((2, 2, 3), np.float32),
        'made_with': np.array('{"numpy": "2"}'),
        'stamps': np.zeros((2, 3), np.int64),
    }
    feature_cache._write_block(folder / 'block.npz', columns)


def _make_records(folder: Path) -> None:
    noise = np.random.default_rng(0)
    picture = noise.integers(0, 256, (24, 32, 3), np.uint8)
    (folder / 'frame').write_bytes(media.encode_jpeg(picture))
    sound = noise.uniform(-0.5, 0.5, (4000, 2)).astype(np.float32)
    (folder / 'audio').write_bytes(media.encode_flac(sound, 16_000, 16))


def _read_record(path: Path) -> Any:
    decode = media.decode_jpeg if path.name == 'frame' else media.decode_flac
    return decode(path.read_bytes())


def _make_media(folder: Path) -> None:
    noise = np.random.default_rng(0)
    sound = noise.uniform(-0.5, 0.5, (8000, 2)).astype(np.float32)
    for suffix in ('wav', 'flac', 'ogg', 'aiff'):
        soundfile.write(folder / f'a.{suffix}', sound, 16_000)
    picture = noise.integers(0, 256, (24, 32, 3), np.uint8)
    for suffix in ('png', 'jpg', 'bmp', 'tif', 'webp'):
        Image.fromarray(picture).save(folder / f'a.{suffix}')
    for suffix in ('mp4', 'mkv', 'avi', 'ts'):
        with av.open(str(folder / f'a.{suffix}'), 'w') as container:
            stream = container.add_stream('mpeg4', 8, width=32, height=24, pix_fmt='yuv420p')
            for _ in range(8):
                frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _read_media(path: Path) -> Any:
    wants = windows.Wants(True, 'clip12', 32, None)
    return sum(1 for _ in windows.read(path, wants, max_duration_s=600.0))


READERS = {
    'weights': Reader(_make_weights, weights.read),
    'tables': Reader(_make_tables, _read_table),
    'runs': Reader(_make_run, _read_run),
    'lists': Reader(_make_lists, _read_list),
    'caches': Reader(_make_caches, kept_features.read_block),
    'records': Reader(_make_records, _read_record, is_named=False),
    'media': Reader(_make_media, _read_media),
}


# -- the tries


def peak_bytes() -> int:
    """Returns the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def attempt(reader: Reader, path: Path) -> str:
    """Reads a file: 'read', or 'refused' with one line; AssertionError for anything else."""
    began, before = time.monotonic(), peak_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            reader.read(path)
        outcome = 'read'
    except (ValueError, OSError) as error:
        text = str(error)
        assert text and '\n' not in text, f'{path} is refused by {text!r}'
        assert not reader.is_named or path.name in text or path.parent.name in text, text
        outcome = 'refused'
    seconds, grown = time.monotonic() - began, peak_bytes() - before
    assert seconds < MAX_SECONDS, f'{path} took {seconds:.1f} s'
    assert grown < MAX_GROWTH_BYTES, f'{path} took {grown:,} bytes of memory'
    return outcome


def tries(
    name: str, whole: Path, place: Path, *, examples: int, seed: int | None = None
) -> dict[str, int]:
    """Damages files of a reader so many times, and reads them; returns the counts of outcomes.

    Args:
      name: one of READERS.
      whole: a folder with its whole files, see `Reader.make`.
      place: an empty folder for the damaged ones.
      seed: None: the same examples each time.
    """
    reader, counts = READERS[name], collections.Counter()
    originals = sorted(whole.iterdir())

    @hypothesis.settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.sampled_from(originals), edits(), st.booleans())
    def once(original: Path, changes: list[Edit], inside: bool) -> None:
        path = place / original.name
        path.write_bytes(damaged(original.read_bytes(), changes, inside=inside))
        counts[attempt(reader, path)] += 1
        path.unlink()

    (once if seed is None else hypothesis.seed(seed)(once))()
    return dict(counts)


@contextlib.contextmanager
def made(name: str) -> Iterator[tuple[Path, Path]]:
    """Yields a folder with the whole files of a reader, and an empty one."""
    with tempfile.TemporaryDirectory() as folder:
        whole, place = Path(folder, 'whole'), Path(folder, 'damaged')
        whole.mkdir()
        place.mkdir()
        READERS[name].make(whole)
        yield whole, place


def rounds(names: Sequence[str], minutes: float, seed: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yields reader and counts of rounds of 200 tries, until the time is up."""
    end_s, draw = time.monotonic() + 60 * minutes, random.Random(seed)
    while True:
        for name in names:
            if time.monotonic() > end_s:
                return
            with made(name) as (whole, place):
                try:
                    yield name, tries(name, whole, place, examples=200, seed=draw.getrandbits(32))
                except BaseException:
                    for file in place.iterdir():
                        _keep(file)
                    raise


_kept_in: list[Path] = []


def _keep(file: Path) -> None:
    for folder in _kept_in:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
        print(f'kept {folder / file.name}', file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--readers', default=','.join(READERS), help=f'of {", ".join(READERS)}')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', type=Path, default=Path('fuzz_failures'), help='a folder')
    args = parser.parse_args()
    _kept_in.append(args.keep)
    names, total = args.readers.split(','), collections.defaultdict(collections.Counter)
    for name, counts in rounds(names, args.minutes, args.seed):
        total[name].update(counts)
    for name, counts in total.items():
        print(f'{name:8} {counts.total():7,} tries: {dict(counts)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
