"""An exact dynamic programme: of several things one option each, worth the most together within a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Option = tuple[float, float]
"""What an option costs, and what it is worth."""


def allocate(options: Sequence[Sequence[Option]], budget: float, *, most_states: int = 200_000) -> list[int] | None:
    """For each thing the number of its option, so that together they cost at most the budget and are worth the most.

    Thing by thing, all sums of costs are kept that no other sum beats in cost and worth, and no more are needed: the
    answer is exact. Only where these are more than `most_states` are some between left out.

    Args:
        options: For each thing its options.
        budget: The most that all may cost together.
        most_states: How many sums are kept at most.

    Returns:
        The numbers of the options; None if nothing is within the budget.

    Example:
        >>> allocate([[(1, 1), (4, 9)], [(1, 2), (3, 5)]], budget=5)
        [1, 0]
    """
    least_after = [0.0, *np.cumsum([min(cost for cost, _ in each) for each in reversed(options)])][-2::-1]
    costs, worths = np.zeros(1), np.zeros(1)
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    slack = 1e-9 * abs(budget)  # sums of the same costs in another order differ by rounding
    for each, later in zip(options, least_after, strict=True):
        own_costs, own_worths = np.array(each, dtype=float).T
        all_costs, all_worths = (costs[:, None] + own_costs).ravel(), (worths[:, None] + own_worths).ravel()
        fitting = np.flatnonzero(all_costs + later <= budget + slack)
        if not len(fitting):
            return None
        order = fitting[np.lexsort((-all_worths[fitting], all_costs[fitting]))]
        best_before = np.maximum.accumulate(np.concatenate([[-np.inf], all_worths[order][:-1]]))
        kept = order[all_worths[order] > best_before]
        if len(kept) > most_states:
            kept = kept[np.linspace(0, len(kept) - 1, most_states).round().astype(int)]
        steps.append((kept // len(each), kept % len(each)))
        costs, worths = all_costs[kept], all_worths[kept]
    state, chosen = int(np.argmax(worths)), []
    for before, option in reversed(steps):
        chosen.append(int(option[state]))
        state = int(before[state])
    return chosen[::-1]
