"""What chance does to sums over groups of items: draws of whole groups, and flips of their signs.

Items of one group (a recording location) are alike, so single items are never drawn or flipped.
"""

import numpy as np

FLIPS = 10_000  # of signs; all of them are tried where they are no more


def draws(
    terms: np.ndarray,
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    samples: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the terms and counts of each class [samples, C], the groups being drawn anew.

    Args:
      terms: [N], one an item.
      labels: [N], the class of each in [0, C).
      classes: C.
      groups: [N], any values; equal values are one group. With one group the sums are NaN.
      samples: number of draws.
      seed: same seed, same draws, whatever the terms are.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(group) != len(labels):
        raise ValueError(f'there are {len(group)} groups for {len(labels)} rows; give one a row')
    if len(names) < 2:
        return np.full((samples, classes), np.nan), np.ones((samples, classes))
    cell = group * classes + labels
    sums = np.bincount(cell, terms, minlength=len(names) * classes).reshape(-1, classes)
    counts = np.bincount(cell, minlength=len(names) * classes).reshape(-1, classes)
    totals = np.concatenate([sums, counts], axis=1)  # one row a group is all that draws need
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [
            np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) @ totals
            for _ in range(samples)
        ]
    )
    return drawn[:, :classes], drawn[:, classes:]


def percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    """The interval that holds this share of the values, as much being left out at both ends."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flips(sums: np.ndarray, seed: int) -> float:
    """Share of the signs of the groups' sums that leave their total at least as far from 0.

    All 2^G signs are tried where they are FLIPS or fewer, else FLIPS drawn ones and the observed.
    """
    groups, few = len(sums), 2 ** len(sums) <= FLIPS
    if few:
        flipped = (np.arange(2**groups)[:, None] >> np.arange(groups) & 1) @ sums
    else:
        rng = np.random.default_rng(seed)
        flipped = np.array([rng.integers(2, size=groups) @ sums for _ in range(FLIPS)])
    total = sums.sum()
    rounding = 1e-9 * np.abs(sums).sum()  # differences of accuracy tie
    extreme = np.abs(total - 2 * flipped) >= abs(total) - rounding
    return float(extreme.mean() if few else (extreme.sum() + 1) / (FLIPS + 1))
