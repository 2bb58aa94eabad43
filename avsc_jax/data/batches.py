"""The order of rows in an epoch, and batches read ahead of the device."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from avsc_jax.types import Kind


def num_batches(num_rows: int, batch_size: int, drop_remainder: bool = False) -> int:
    """Returns the number of batches in an epoch; a last one that is not full may be dropped."""
    if num_rows < 1 or batch_size < 1:
        raise ValueError(f'cannot make batches of {batch_size} from {num_rows} rows')
    if drop_remainder and num_rows < batch_size:
        raise ValueError(
            f'{num_rows} rows do not fill a batch of {batch_size}, and drop_remainder leaves out '
            'batches that are not full; lower --config.batch_size'
        )
    return num_rows // batch_size if drop_remainder else -(-num_rows // batch_size)


def call_sizes(
    count: int, most: int, *, sizes: Sequence[int] = (4,), per_call: int = 1
) -> list[int]:
    """Returns the sizes of the calls that take a count of rows, the largest first.

    Few shapes compile, and few rows are padding: as many calls of the largest size as are full, and
    for the rest calls of the size that costs least. With a single size, a row's bits never depend
    on how many other rows there are: XLA rounds calls of 1, 4 and 8 rows unlike.

    Args:
      count: of rows.
      most: no call is larger.
      sizes: that calls may have, see `compiler.call_sizes`.
      per_call: what a call costs besides its rows, in rows.

    >>> call_sizes(12, 64), call_sizes(1, 64), call_sizes(96, 64, sizes=(16, 64), per_call=16)
    ([4, 4, 4], [4], [64, 16, 16])
    """
    sizes = sorted(size for size in sizes if size <= most) or [most]
    full, rest = divmod(count, sizes[-1])
    size = min(reversed(sizes), key=lambda size: -(-rest // size) * (size + per_call))
    return full * [sizes[-1]] + -(-rest // size) * [size]


def epoch_order(
    num_rows: int,
    batch_size: int,
    *,
    multiple: int = 1,
    shuffle_by: tuple[int, ...] | None = None,
    drop_remainder: bool = False,
    one_of: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of each batch of an epoch: `(order [K, B] int32, mask [K, B] bool)`.

    B is `batch_size` rounded up to a `multiple`. Padded places have mask False and point at row 0;
    every row is in one batch, unless the arguments leave it out.

    Args:
      multiple: number of devices that share a batch.
      shuffle_by: seeds of the permutation, such as (seed, epoch); None keeps the order.
      drop_remainder: leaves out the rows of a last batch that is not full.
      one_of: group of each row `[N]`; only the first row of each group, once shuffled, takes part.
    """
    rows = np.arange(num_rows)
    if shuffle_by is not None:
        rows = np.random.default_rng(shuffle_by).permutation(num_rows)
    if one_of is not None:
        _, first = np.unique(one_of[rows], return_index=True)
        rows = rows[np.sort(first)]
    count = num_batches(len(rows), batch_size, drop_remainder)
    width = -(-batch_size // multiple) * multiple
    order = np.zeros((count, width), np.int32)
    mask = np.zeros((count, width), bool)
    for k in range(count):
        batch = rows[k * batch_size : (k + 1) * batch_size]
        order[k, : len(batch)] = batch
        mask[k, : len(batch)] = True
    return order, mask


def read_ahead(load: Callable, items: Sequence, *, num_threads: int = 16) -> Any:
    """Yields `load(item)` for each item, in order, by reader threads that stay a little ahead.

    The iterator has a method `close`, which ends the threads.

    Decoders (Pillow, soundfile, array_record) release the interpreter lock, so threads use all
    cores and share memory; the order does not depend on their number.
    """
    import grain.python as grain  # takes a quarter of a second, and predict has no need of it

    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(grain.MapDataset.source(items).map(load).to_iter_dataset(options))


def one_ahead(items: Generator) -> Generator:
    """Yields the items; a thread makes the next one while one is in use.

    Closing it ends the thread and closes `items`.
    """
    with contextlib.closing(items), ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


class Stream:
    """Rows that do not fit on the device, each of which is loaded shortly before its batch.

    Args:
      load: row index -> dict of arrays, whose shapes are the same for all rows.
    """

    def __init__(self, load: Callable[[int], dict[str, np.ndarray]]):
        self.load = load

    def batches(
        self, order: np.ndarray, mask: np.ndarray, put: Callable[[dict], Any] = lambda batch: batch
    ) -> Generator:
        """Yields a batch `[B, ...]` with its mask for each line of `order [K, B]`.

        Args:
          put: takes each batch one ahead of its use, such as `Steps.put`, which copies it to the
            devices.
        """
        rows = read_ahead(lambda place: self.load(int(order.flat[place])), range(order.size))

        def stacked() -> Generator:
            with contextlib.closing(rows):
                for line in mask:
                    group = [next(rows) for _ in range(len(line))]
                    arrays = {k: np.stack([row[k] for row in group]) for k in group[0]}
                    yield put(arrays | {'mask': line})

        return one_ahead(stacked())


@dataclasses.dataclass(frozen=True)
class Rows:
    """The examples of one split.

    Args:
      segment: frame or second of the clip that each row is; -1 for whole clips.
      label: class of each row, int32 `[N]`, or float32 `[N, C]`, 1 where each of several is true.
      inputs: arrays `[N, ...]` that fit on the device, or a Stream of rows.
    """

    clip_id: list[str]
    segment: np.ndarray
    label: np.ndarray
    inputs: Mapping[str, np.ndarray] | Stream

    @property
    def kind(self) -> Kind:
        """Whether a row has one of the classes, or each is true of it or not by itself."""
        return 'independent' if self.label.ndim == 2 else 'exclusive'

    def __len__(self) -> int:
        return len(self.clip_id)
