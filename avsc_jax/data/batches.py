"""The order of rows in an epoch, and batches read ahead of the device."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import grain.python as grain
import numpy as np


def num_batches(num_rows: int, batch_size: int, drop_remainder: bool = False) -> int:
    """How many batches an epoch has; one that is not full counts unless it is dropped."""
    if num_rows < 1 or batch_size < 1:
        raise ValueError(f'cannot make batches of {batch_size} from {num_rows} rows')
    if drop_remainder and num_rows < batch_size:
        raise ValueError(
            f'{num_rows} rows do not fill a batch of {batch_size}, and drop_remainder leaves out '
            'what is not full; lower --config.batch_size'
        )
    return num_rows // batch_size if drop_remainder else -(-num_rows // batch_size)


def epoch_order(
    num_rows: int,
    batch_size: int,
    *,
    multiple: int = 1,
    shuffle_by: tuple[int, ...] | None = None,
    drop_remainder: bool = False,
    one_of: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which rows form which batch: `(order [K, B] int32, mask [K, B] bool)`.

    B is `batch_size` rounded up to a `multiple` (the number of devices). Padded places have mask
    False and point at row 0; no row is doubled, and none left out but as the arguments say.

    Args:
      shuffle_by: the seeds of the permutation, such as (seed, epoch); None keeps the order.
      drop_remainder: leaves out the rows of a last batch that is not full.
      one_of: the group of each row `[N]`; only one row of each takes part, the first in order.
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


def read_ahead(load: Callable, items: Sequence, *, num_threads: int = 16) -> Iterator:
    """`load(item)` for each item, in order, by reader threads that stay a little ahead.

    Decoders (Pillow, soundfile, array_record) leave the interpreter while they work, so threads
    use all cores and share memory; the order does not depend on their number.
    """
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(grain.MapDataset.source(items).map(load).to_iter_dataset(options))


def one_ahead(items: Iterator) -> Iterator:
    """The items; while one is used, a thread makes the next."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


class Stream:
    """Rows that do not fit on the device: each is loaded when its batch is near.

    Args:
      load: row index -> dict of arrays, all rows alike in shape.
    """

    def __init__(self, load: Callable[[int], dict[str, np.ndarray]]):
        self.load = load

    def batches(self, order: np.ndarray, mask: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """A batch `[B, ...]` with its mask for each line of `order [K, B]`."""
        rows = read_ahead(lambda place: self.load(int(order.flat[place])), range(order.size))

        def stacked() -> Iterator[dict[str, np.ndarray]]:
            for line in mask:
                group = [next(rows) for _ in range(len(line))]
                yield {k: np.stack([row[k] for row in group]) for k in group[0]} | {'mask': line}

        return one_ahead(stacked())


@dataclasses.dataclass(frozen=True)
class Rows:
    """The examples of one split.

    Args:
      segment: which frame or second of the clip a row is; -1 for whole clips.
      inputs: arrays `[N, ...]` that fit on the device, or a Stream of such rows.
    """

    clip_id: list[str]
    segment: np.ndarray
    label: np.ndarray
    inputs: Mapping[str, np.ndarray] | Stream

    def __len__(self) -> int:
        return len(self.clip_id)
