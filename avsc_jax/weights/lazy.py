"""Arrays of a weights file that are read one by one, so that few are in memory at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

ALIGNED_BYTES = 64  # as JAX wants memory that it uses on a CPU without a copy


class LazyArrays(Mapping[str, np.ndarray]):
    """Arrays by name, each of which is read whenever it is asked for.

    Args:
      names: in the file's order.
      load: name -> array.
    """

    def __init__(self, names: Iterable[str], load: Callable[[str], np.ndarray]):
        self._names, self._load = dict.fromkeys(names), load

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # nothing is read

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def without(
    state: Mapping[str, np.ndarray], is_left_out: Callable[[str], bool]
) -> Mapping[str, np.ndarray]:
    """Returns a state without some names, of which nothing is read."""
    return LazyArrays([name for name in state if not is_left_out(name)], state.__getitem__)


def float32_copy(value: np.ndarray) -> np.ndarray:
    """Copies an array to float32, in memory that JAX takes over on a CPU."""
    count = value.size * 4
    memory = np.empty(count + ALIGNED_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNED_BYTES
    copy = memory[start : start + count].view(np.float32).reshape(value.shape)
    with np.errstate(over='ignore'):
        copy[...] = value
    return copy
