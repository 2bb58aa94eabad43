"""Options that configs and run folders give by name."""

import pytest

from avsc_jax.runtime import options


@pytest.mark.parametrize(
    'value', [1, -3, 0.5, True, 'text' * 99, None, [200_000], [[1, 2], {'a': 3}], 200_000.0, ()]
)
def test_numbers_of_sizes_are_taken(value):
    options.check_numbers('net', {'width': value})


@pytest.mark.parametrize(
    'value', [200_001, -(10**9), 1e12, float('inf'), float('nan'), [1, [10**9]], {'a': (1, 10**30)}]
)
def test_an_absurd_number_is_one_sentence(value):
    with pytest.raises(ValueError, match=r'^net has the option width with the number .*200,000$'):
        options.check_numbers('net', {'width': value})
