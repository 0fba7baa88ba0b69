"""Multi-label stratification of whole groups.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
2011) assigns examples to parts, rarest label first, each to the part that lacks most of the label. Here groups of
examples that must stay together are assigned by their label counts. Since groups differ in size, the greedy result can
be far from the optimum. A local search then moves groups and exchanges pairs until the distance no longer decreases,
from many starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from microg_da.errors import InputError

# Exchanges examine all pairs of groups, and many small groups are divided almost as well by moves: beyond this many,
# only moves are tried (299 groups: 0.8 instead of 0.4 % in the wrong part, 60 times faster).
MAX_GROUPS_FOR_EXCHANGE = 100
# Starts differ less with more groups: the total number of groups over all starts.
GROUPS_IN_ALL_STARTS = 5000
FEWEST_STARTS = 4


def stratify_groups(
    tables: Sequence[np.ndarray], fractions: Sequence[float], *, seed: int = 0, restarts: int = 50
) -> np.ndarray:
    """Assign groups to parts so that all columns are divided as proportionally as possible.

    Args:
        tables: counts ``(G, L_i)`` for ``G`` groups: examples, domains, classes, … Each table has the same weight in
            the distance, independent of its number of columns.
        fractions: the share of each of the ``P`` parts; they sum to 1.
        seed: seed of the random starts.
        restarts: largest number of starts; the best result is kept.

    Returns:
        ``(G,)``: the part of each group. No part is empty.

    Raises:
        InputError: if there are fewer groups than parts.
    """
    shares, weights = _shares(tables)
    target = np.asarray(fractions, dtype=float)
    if len(shares) < len(target):
        raise InputError(f"{len(shares)} groups cannot fill {len(target)} parts")
    rng = np.random.default_rng(seed)
    best, best_distance = None, np.inf
    for attempt in range(min(restarts, max(FEWEST_STARTS, GROUPS_IN_ALL_STARTS // len(shares)))):
        # Greedy starts are similar to each other, so that every second start is random.
        dealt = _deal(shares, target, rng) if attempt % 2 == 0 else _scatter(shares, target, rng)
        parts = _improve(dealt, shares, weights, target)
        distance = _distance(parts, shares, weights, target)
        if distance < best_distance - 1e-12:
            best, best_distance = parts, distance
    assert best is not None
    return best


def split_distance(parts: np.ndarray, tables: Sequence[np.ndarray], fractions: Sequence[float]) -> float:
    """Return the distance of a division from proportionality.

    For every column the total variation between its division into parts and ``fractions`` (0: proportional; the
    share of the column that lies in the wrong part), averaged within each table and then over tables.
    """
    shares, weights = _shares(tables)
    return _distance(np.asarray(parts), shares, weights, np.asarray(fractions, dtype=float))


def _shares(tables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Each group's share of each column ``(G, L)``, and the columns' weights ``(L,)``, which sum to 1."""
    kept = [np.asarray(table, dtype=float)[:, np.asarray(table).sum(axis=0) > 0] for table in tables]
    kept = [table for table in kept if table.shape[1]]
    weights = np.concatenate([np.full(table.shape[1], 1 / table.shape[1] / len(kept)) for table in kept])
    counts = np.concatenate(kept, axis=1)
    return counts / counts.sum(axis=0), weights


def _distance(parts: np.ndarray, shares: np.ndarray, weights: np.ndarray, target: np.ndarray) -> float:
    return float(0.5 * (np.abs(_excess(parts, shares, target)) @ weights).sum())


def _excess(parts: np.ndarray, shares: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the excess ``(P, L)`` of each part in each column, as a fraction of the column."""
    excess = np.repeat(-target[:, None], shares.shape[1], axis=1)
    np.add.at(excess, parts, shares)
    return excess


def _deal(shares: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Assign greedily: the rarest open column first, its largest group to the part that lacks most of it."""
    parts = np.full(len(shares), -1)
    lacking = np.repeat(target[:, None], shares.shape[1], axis=1)
    spread = (shares > 0).sum(axis=0)
    order = rng.permutation(shares.shape[1])
    for column in order[np.argsort(spread[order], kind="stable")]:
        groups = np.flatnonzero((shares[:, column] > 0) & (parts < 0))
        groups = rng.permutation(groups)
        for group in groups[np.argsort(-shares[groups, column], kind="stable")]:
            # Column 0 is the number of examples, which breaks ties.
            part = np.lexsort((rng.random(len(target)), lacking[:, 0], lacking[:, column]))[-1]
            parts[group] = part
            lacking[part] -= shares[group]
    return _fill_empty(parts, shares, len(target))


def _scatter(shares: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    parts = rng.choice(len(target), len(shares), p=target / target.sum())
    return _fill_empty(parts, shares, len(target))


def _fill_empty(parts: np.ndarray, shares: np.ndarray, num_parts: int) -> np.ndarray:
    for part in range(num_parts):
        if not (parts == part).any():
            spare = np.flatnonzero(np.bincount(parts, minlength=num_parts)[parts] > 1)
            parts[spare[np.argmin(shares[spare, 0])]] = part
    return parts


def _improve(parts: np.ndarray, shares: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Apply the best move or exchange until none lowers the distance."""
    parts = parts.copy()
    while True:
        excess = _excess(parts, shares, target)
        steps = [_best_move(parts, shares, weights, excess)]
        if len(parts) <= MAX_GROUPS_FOR_EXCHANGE:
            steps.append(_best_exchange(parts, shares, weights, excess))
        gain, groups, destinations = min(steps, key=lambda step: step[0])
        if gain > -1e-12:
            return parts
        parts[groups] = destinations


def _best_move(
    parts: np.ndarray, shares: np.ndarray, weights: np.ndarray, excess: np.ndarray
) -> tuple[float, list[int], list[int]]:
    cost = np.abs(excess) @ weights
    without = np.abs(excess[parts] - shares) @ weights
    joined = np.abs(excess[None] + shares[:, None]) @ weights
    change = (without - cost[parts])[:, None] + joined - cost[None]
    change[np.arange(len(parts)), parts] = np.inf
    # The last group of a part stays, so that no part is empty.
    change[np.bincount(parts, minlength=len(excess))[parts] == 1] = np.inf
    group, part = np.unravel_index(np.argmin(change), change.shape)
    return float(change[group, part]), [int(group)], [int(part)]


def _best_exchange(
    parts: np.ndarray, shares: np.ndarray, weights: np.ndarray, excess: np.ndarray
) -> tuple[float, list[int], list[int]]:
    cost = np.abs(excess) @ weights
    # after[g, h]: the cost of g's part after h has replaced g.
    after = np.stack(
        [np.abs((excess[part] - share)[None] + shares) @ weights for part, share in zip(parts, shares, strict=True)]
    )
    change = after - cost[parts][:, None]
    change = change + change.T
    change[parts[:, None] == parts[None]] = np.inf
    first, second = np.unravel_index(np.argmin(change), change.shape)
    return float(change[first, second]), [int(first), int(second)], [int(parts[second]), int(parts[first])]
