"""Cuts groups of clips with several labels into parts, each with about its share of every label.

Source: Sechidis et al. 2011, On the Stratification of Multi-Label Data, made deterministic and of
whole groups.
"""

import collections
import hashlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

Part = TypeVar('Part', bound=Hashable)
ORDER = ('train_inner', 'test', 'validation')  # who gets a label that has too few groups


def cut(
    groups: Sequence[str], labels: Sequence[Collection[str]], shares: Mapping[Part, float]
) -> list[Part]:
    """Returns the part of each clip; no group is in two.

    The rarest label comes first: its groups, the largest first, each go to the part that lacks the
    most of it, then to the one that lacks the most clips. Groups without labels come last.

    Args:
      groups: the group of each clip.
      labels: the labels of each clip, which may be none.
      shares: of the parts; they need not sum to one.

    Example:
      >>> cut(['a', 'b', 'c', 'd'], [['x'], ['x', 'y'], ['y'], []], {'train': 1, 'test': 1})
      ['test', 'train', 'test', 'train']
    """
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for group, names in zip(groups, labels, strict=True):
        counts[group].update({*names})
        counts[group][None] += 1
    total: collections.Counter = collections.Counter()
    for of_group in counts.values():
        total.update(of_group)
    order = {part: ORDER.index(part) if part in ORDER else k for k, part in enumerate(shares)}
    whole = sum(shares.values())
    lacks = {
        part: {name: share / whole * count for name, count in total.items()}
        for part, share in shares.items()
    }

    def size(group: str) -> tuple[int, str]:
        digest = hashlib.sha256(group.encode('utf-8', 'replace')).hexdigest()
        return -counts[group][None], digest

    left, part_of, todo = sorted(counts, key=size), {}, total.copy()
    while left:
        names = [name for name, count in todo.items() if count and name is not None]
        rarest = min(names, key=lambda name: (todo[name], name)) if names else None
        for group in [group for group in left if counts[group][rarest]]:
            part = max(lacks, key=lambda p: (lacks[p][rarest], lacks[p][None], -order[p]))
            part_of[group] = part
            for name, count in counts[group].items():
                lacks[part][name] -= count
                todo[name] -= count
        left = [group for group in left if group not in part_of]
    return [part_of[group] for group in groups]
