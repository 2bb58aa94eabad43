"""Rules of conversion: which Flax variable each parameter of a source network becomes.

A network file lists its rules as `RULES`; `weights.convert` applies them.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


def as_it_is(value: np.ndarray) -> np.ndarray:
    """Returns the value: vectors, embeddings, and matrices stored as [inputs, outputs]."""
    return value


def outputs_last(value: np.ndarray) -> np.ndarray:
    """Transposes PyTorch's [out, in, *window] to Flax's [*window, in, out]."""
    return value.transpose(*range(2, value.ndim), *reversed(range(value.ndim)[:2]))


@dataclasses.dataclass(frozen=True)
class Rule:
    r"""A rule by which source names that match `pattern` fill the leaf or leaves `paths`.

    Attributes:
      paths: with the collection, `params/...` or `batch_stats/...`; `\1` is the pattern's group 1.
        Several leaves take equal parts of the value.
      layout: changes the source's order of axes to Flax's.
    """

    pattern: str
    paths: str | tuple[str, ...]
    layout: Callable[[np.ndarray], np.ndarray] = as_it_is

    def match(self, name: str) -> tuple[str, ...]:
        """Returns the paths that a source name fills; none if it does not match."""
        match = re.fullmatch(self.pattern, name)
        paths = (self.paths,) if isinstance(self.paths, str) else self.paths
        return tuple(match.expand(path) for path in paths) if match else ()


def same(state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Renames nothing."""
    return state


class Rules(NamedTuple):
    """The rules of a network's conversion, the names to ignore, and a renaming before them.

    Attributes:
      ignore: patterns of names that are passed over.
      renamed: applied first, where a name depends on the other names in the state.
    """

    rules: tuple[Rule, ...]
    ignore: tuple[str, ...] = ()
    renamed: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = same


def convolution(source: str, path: str) -> tuple[Rule, ...]:
    """Returns the rule of a convolution or a matrix without bias."""
    return (Rule(rf'{source}\.weight', f'params/{path}/kernel', outputs_last),)


def linear(source: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a fully connected layer."""
    return (*convolution(source, path), Rule(rf'{source}\.bias', f'params/{path}/bias'))


def layer_norm(source: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a norm without running statistics."""
    return (
        Rule(rf'{source}\.weight', f'params/{path}/scale'),
        Rule(rf'{source}\.bias', f'params/{path}/bias'),
    )


def batch_norm(source: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a norm with running statistics."""
    return (
        *layer_norm(source, path),
        Rule(rf'{source}\.running_mean', f'batch_stats/{path}/mean'),
        Rule(rf'{source}\.running_var', f'batch_stats/{path}/var'),
    )
