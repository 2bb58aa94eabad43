"""The builder that writes records, without a data set of its own."""

from avsc_jax.data.builder import base


def test_ordered_map_keeps_order_and_looks_ahead_only_a_little():
    taken = []
    items = (taken.append(i) or i for i in range(100))
    results = base._ordered_map(lambda i: i, items, 2)
    assert next(results) == 0
    assert len(taken) == 4
    assert list(results) == list(range(1, 100))
