import threading

import numpy as np
import pytest

from avsc_jax.data.batches import (
    Stream,
    call_sizes,
    epoch_order,
    num_batches,
    one_ahead,
    read_ahead,
)
from avsc_jax.runtime import compiler


def test_every_row_comes_once_and_the_last_batch_is_padded():
    order, mask = epoch_order(10, 4, shuffle_by=(0, 0))
    assert order.shape == mask.shape == (3, 4)
    assert sorted(order[mask]) == list(range(10))
    assert mask.sum(1).tolist() == [4, 4, 2]


def test_batches_are_widened_to_a_multiple_of_the_devices():
    order, mask = epoch_order(10, 5, multiple=4)
    assert order.shape == (2, 8)
    assert mask.sum(1).tolist() == [5, 5]
    assert order[mask].tolist() == list(range(10))


def test_each_epoch_has_an_order_of_its_own_and_the_same_seed_the_same_one():
    first, again, second = (epoch_order(100, 8, shuffle_by=(3, e))[0] for e in (0, 0, 1))
    assert (first == again).all()
    assert (first != second).any()


def test_the_order_does_not_depend_on_the_number_of_devices():
    one, mask_one = epoch_order(50, 6, multiple=1, shuffle_by=(0, 0))
    four, mask_four = epoch_order(50, 6, multiple=4, shuffle_by=(0, 0))
    assert (one[mask_one] == four[mask_four]).all()


def test_only_whole_batches_are_left_where_the_remainder_is_dropped():
    options = {'multiple': 2, 'drop_remainder': True}
    order, mask = epoch_order(11, 3, shuffle_by=(0, 0), **options)
    assert order.shape == (3, 4) and mask.sum(1).tolist() == [3, 3, 3]
    assert len({*order[mask]}) == 9
    kept, real = epoch_order(11, 3, shuffle_by=(0, 0), multiple=2)
    assert (kept[:3] == order).all() and real[3].sum() == 2
    other, _ = epoch_order(11, 3, shuffle_by=(0, 1), **options)
    assert {*other[mask]} != {*order[mask]}  # every epoch leaves out others
    assert epoch_order(12, 3, drop_remainder=True)[0].shape == (4, 3)


def test_an_epoch_takes_one_row_of_each_group_and_other_epochs_others():
    group = np.repeat(np.arange(30), 10)
    taken = []
    for epoch in range(200):
        order, mask = epoch_order(300, 8, shuffle_by=(0, epoch), one_of=group)
        assert mask.sum(1).tolist() == [8, 8, 8, 6]
        rows = order[mask]
        assert sorted(group[rows]) == list(range(30)) and [*group[rows]] != list(range(30))
        taken.append(rows)
    counts = np.bincount(np.concatenate(taken), minlength=300)
    assert counts.sum() == 6000 and counts.min() > 5 and counts.max() < 45  # of 20 expected


def test_batches_are_counted_as_they_are_made():
    for rows, size in ((10, 4), (8, 4), (3, 4)):
        assert num_batches(rows, size) == len(epoch_order(rows, size)[0])
    assert num_batches(10, 4, drop_remainder=True) == 2
    with pytest.raises(ValueError, match='3 rows do not fill a batch of 4, and drop_remainder'):
        num_batches(3, 4, drop_remainder=True)


@pytest.mark.parametrize(('rows', 'size'), [(0, 4), (4, 0)])
def test_nothing_to_batch_is_an_error(rows, size):
    with pytest.raises(ValueError, match='cannot make batches'):
        epoch_order(rows, size)


def test_reading_ahead_keeps_the_order_whatever_the_threads():
    for threads in (1, 7):
        assert list(read_ahead(lambda x: x * x, range(50), num_threads=threads)) == [
            x * x for x in range(50)
        ]


def test_an_error_while_reading_ahead_reaches_the_reader():
    def load(x):
        if x == 3:
            raise ValueError('bad row 3')
        return x

    with pytest.raises(ValueError, match='bad row 3'):
        list(read_ahead(load, range(6)))


def test_a_stream_gives_the_rows_of_each_line():
    order, mask = epoch_order(5, 2, shuffle_by=(1, 1))
    stream = Stream(lambda i: {'x': np.float32([i, -i])})
    batches = list(stream.batches(order, mask))
    assert [b['x'][:, 0].astype(int).tolist() for b in batches] == order.tolist()
    assert (batches[-1]['mask'] == mask[-1]).all()


def test_the_next_batch_is_made_while_one_is_used():
    made = threading.Event()

    def items():
        yield 1
        made.set()
        yield 2

    found = one_ahead(items())
    assert next(found) == 1 and made.wait(timeout=20)
    assert list(found) == [2]


@pytest.mark.parametrize('sizes', [(4,), (16, 64), (4, 16, 64)])
@pytest.mark.parametrize('per_call', [1, 16])
def test_calls_have_few_sizes_and_little_padding(sizes, per_call):
    for count in range(1, 300):
        found = call_sizes(count, 64, sizes=sizes, per_call=per_call)
        assert found == sorted(found, reverse=True) and {*found} <= {*sizes}
        assert sum(found) - found[-1] < count <= sum(found)  # no call is all padding
        whole = -(-count // max(sizes)) * (max(sizes) + per_call)  # as calls of one size cost
        assert sum(size + per_call for size in found) <= whole


def test_on_cpu_calls_have_one_size_so_that_a_row_s_bits_depend_on_no_others():
    sizes = compiler.call_sizes()
    assert {*call_sizes(1, 64, **sizes), *call_sizes(200, 64, **sizes)} == {4}
    assert call_sizes(12, 64, **sizes) == [4, 4, 4]


def test_no_thread_reads_on_after_a_stream_was_left_early():
    before = {*threading.enumerate()}
    order, mask = epoch_order(400, 2)
    stream = Stream(lambda i: {'x': np.float32([i])}).batches(order, mask)
    assert next(stream)['x'].tolist() == [[0], [1]]
    own = {*threading.enumerate()} - before
    stream.close()
    for thread in own:
        thread.join(timeout=2)
    assert own and not any(thread.is_alive() for thread in own)


def test_batches_are_put_in_their_order_and_one_ahead_of_their_use():
    order, mask = epoch_order(40, 4, shuffle_by=(0, 0))
    put = []
    stream = Stream(lambda i: {'x': np.float32([i])})
    found = stream.batches(order, mask, lambda batch: put.append(batch) or len(put) - 1)
    for number, place in enumerate(found):
        assert place == number and len(put) <= number + 2
    assert [batch['x'][:, 0].astype(int).tolist() for batch in put] == order.tolist()


def test_an_error_while_a_batch_is_put_reaches_the_reader():
    def put(batch):
        raise MemoryError('the device is full')

    order, mask = epoch_order(40, 4)
    with pytest.raises(MemoryError, match='the device is full'):
        next(Stream(lambda i: {'x': np.float32([i])}).batches(order, mask, put))
